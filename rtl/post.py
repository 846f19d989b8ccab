"""POST: drains accumulator tiles through requantisers and max pool into the output buffer."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..mapper.isa import TOKENS, Opcode
from ..mapper.machine import Machine
from .axi import clog2_shape
from .commands import command_layout
from .execute import job_layout
from .requantize import Requantizer

__all__ = ["Post"]

PARAM_BITS = 128


class Post(Component):
    """Takes a tile at t, reads `lanes` accumulators a cycle in t + 1 … t + m; results at the output buffer's
    port `post_latency` (10) cycles after their read; m = pixels × columns × rows / lanes.

    Ports:
        job: tiles whose accumulators are complete.
        output: fields of the last OUTPUT command.
        drain_en, drain_load, drain_bank, drain_index: to the array's chains; heads come back a cycle later.
        param_en, param_line, param_data: the parameter buffer's read port (latency 1).
        w_en, w_addr, w_data, w_mask: the output buffer's write port.
        drained, finished: last accumulator read; last result written.
        post: tokens of a finished EXEC.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.machine = machine
        lanes = machine.post.lanes
        super().__init__(
            {
                "job": In(stream.Signature(job_layout())),
                "output": In(command_layout(Opcode.OUTPUT)),
                "drain_en": Out(1),
                "drain_load": Out(1),
                "drain_bank": Out(1),
                "drain_index": Out(range(machine.array.acc_depth)),
                "heads": In(lanes * machine.array.acc_bits),
                "param_en": Out(1),
                "param_line": Out(clog2_shape(machine.param_lines)),
                "param_data": In(machine.param_line_bits),
                "w_en": Out(1),
                "w_addr": Out((machine.buffers.output_bytes - 1).bit_length()),
                "w_data": Out(8 * lanes),
                "w_mask": Out(lanes),
                "drained": Out(1),
                "finished": Out(1),
                "post": Out(TOKENS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine, output = self.machine, self.output
        lanes = machine.post.lanes
        groups = machine.row_groups

        # The walk over a tile: windows, pixels of a window, columns, row groups.
        job = Signal(job_layout())
        reading = Signal()
        q = Signal(clog2_shape(groups))
        col = Signal(5)
        ix, iy = Signal(4), Signal(4)
        window_x, window_y = Signal(9), Signal(9)  # first pixel of the window
        index, window_row, window, pixel_row = (
            Signal(range(machine.array.acc_depth), name=name)
            for name in ("index", "window_row", "window", "pixel_row")
        )
        out_row, out_pixel, out_col = Signal(20), Signal(20), Signal(20)
        last_q = q == groups - 1
        last_col = col == job.cols - 1
        last_ix = ix == output.pool_x - 1
        last_iy = iy == output.pool_y - 1
        last_window_x = window_x + output.pool_x == job.tile_x
        last_window_y = window_y + output.pool_y == job.tile_y
        pixel_done = last_q & last_col
        window_done = pixel_done & last_ix & last_iy
        tile_done = window_done & last_window_x & last_window_y

        m.d.comb += [
            self.drain_en.eq(1),
            self.drain_load.eq((q == 0) & (col == 0)),
            self.drain_bank.eq(job.bank),
            self.drain_index.eq(index),
            self.param_en.eq(reading),
            self.param_line.eq(job.param + q),
            self.job.ready.eq(~reading),
            self.drained.eq(reading & tile_done),
        ]
        with m.If(~reading), m.If(self.job.valid):
            start = self.job.payload
            m.d.sync += [
                job.eq(start),
                reading.eq(1),
                q.eq(0),
                col.eq(0),
                ix.eq(0),
                iy.eq(0),
                window_x.eq(0),
                window_y.eq(0),
                *(signal.eq(0) for signal in (index, window_row, window, pixel_row)),
                *(signal.eq(start.out) for signal in (out_row, out_pixel, out_col)),
            ]
        with m.Elif(~pixel_done):
            m.d.sync += q.eq(Mux(last_q, 0, q + 1))
            with m.If(last_q):
                m.d.sync += [col.eq(col + 1), out_col.eq(out_col + output.col)]
        with m.Else():
            m.d.sync += [q.eq(0), col.eq(0), out_col.eq(out_pixel)]
            with m.If(~last_ix):
                m.d.sync += [ix.eq(ix + 1), index.eq(index + 1)]
            with m.Elif(~last_iy):
                below = pixel_row + job.tile_x
                m.d.sync += [ix.eq(0), iy.eq(iy + 1), index.eq(below), pixel_row.eq(below)]
            with m.Else():
                m.d.sync += [ix.eq(0), iy.eq(0)]
                with m.If(~last_window_x):
                    right = window + output.pool_x
                    m.d.sync += [
                        window_x.eq(window_x + output.pool_x),
                        *(signal.eq(right) for signal in (index, window, pixel_row)),
                        out_pixel.eq(out_pixel + output.pixel_x),
                        out_col.eq(out_pixel + output.pixel_x),
                    ]
                with m.Else():
                    m.d.sync += [
                        window_x.eq(0),
                        window_y.eq(window_y + output.pool_y),
                        *(signal.eq(index + 1) for signal in (index, window_row, window, pixel_row)),
                        *(signal.eq(out_row + output.pixel_y) for signal in (out_row, out_pixel, out_col)),
                    ]
                    with m.If(last_window_y):
                        m.d.sync += reading.eq(0)

        # What travels beside the values.
        tag_layout = data.StructLayout(
            {
                "first": 1,  # of the pool window
                "write": 1,
                "slot": clog2_shape(machine.array.cols * groups),
                "address": 20,
                "mask": lanes,
                "finished": 1,
                "post": TOKENS,
            }
        )
        tag = Signal(tag_layout)
        slot = Signal(clog2_shape(machine.array.cols * groups))
        with m.If(reading):
            m.d.sync += slot.eq(Mux(pixel_done, 0, slot + 1))
        m.d.comb += [
            tag.first.eq((ix == 0) & (iy == 0)),
            tag.write.eq(reading & last_ix & last_iy),
            tag.slot.eq(slot),
            tag.address.eq(out_col + q * lanes),
            tag.finished.eq(reading & tile_done),
            tag.post.eq(Mux(tag.finished, job.post, 0)),
        ]
        for lane in range(lanes):
            m.d.comb += tag.mask[lane].eq(q * lanes + lane < job.rows)

        # Accumulators are at the heads and parameters at the port a cycle after the read.
        results = []
        for lane in range(lanes):
            requantizer = Requantizer(acc_bits=machine.array.acc_bits)
            m.submodules[f"requantizer_{lane}"] = requantizer
            param = self.param_data.word_select(lane, PARAM_BITS)
            m.d.comb += [
                requantizer.acc.eq(self.heads.word_select(lane, machine.array.acc_bits)),
                requantizer.bias.eq(param[:32]),
                requantizer.multiplier.eq(param[32:64]),
                requantizer.shift.eq(param[64:69]),
                requantizer.rounding.eq(output.rounding),
                requantizer.zero_point.eq(output.zero_point),
                requantizer.clamp_low.eq(output.clamp_low),
                requantizer.clamp_high.eq(output.clamp_high),
            ]
            results.append(requantizer.result)
        to_pool = 1 + Requantizer.LATENCY
        for number in range(to_pool):
            stage = Signal(tag_layout, name=f"tag_{number + 1}")
            m.d.sync += stage.eq(tag)
            tag = stage

        # Max pool: the running maximum of each column and row group, then the write.
        m.submodules.maxima = maxima = Memory(
            shape=9 * lanes, depth=max(2, machine.array.cols * groups), init=[]
        )
        maxima_read = maxima.read_port(domain="comb")
        maxima_write = maxima.write_port()
        largest = []
        for lane, value in enumerate(results):
            before = maxima_read.data.word_select(lane, 9).as_signed()
            best = Signal(signed(9), name=f"best_{lane}")
            m.d.comb += best.eq(Mux(tag.first | (value > before), value, before))
            largest.append(best)
            m.d.comb += maxima_write.data.word_select(lane, 9).eq(best)
        m.d.comb += [
            maxima_read.addr.eq(tag.slot),
            maxima_write.addr.eq(tag.slot),
            maxima_write.en.eq(1),
        ]
        waiting = machine.timing.post_latency - to_pool - 1
        stages = [Signal(tag_layout, name=f"out_tag_{n}") for n in range(waiting + 1)]
        values = [Signal(8 * lanes, name=f"out_value_{n}") for n in range(waiting + 1)]
        for lane, best in enumerate(largest):
            m.d.sync += values[0].word_select(lane, 8).eq(best[:8])
        m.d.sync += stages[0].eq(tag)
        for n in range(waiting):
            m.d.sync += [stages[n + 1].eq(stages[n]), values[n + 1].eq(values[n])]
        done = stages[-1]
        m.d.comb += [
            self.w_en.eq(done.write),
            self.w_addr.eq(done.address),
            self.w_data.eq(values[-1]),
            self.w_mask.eq(done.mask),
            self.finished.eq(done.finished),
            self.post.eq(done.post),
        ]
        return m
