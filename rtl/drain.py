"""DRAIN: the walk over an accumulator tile that POST reads: windows, pixels, columns, lane sets."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ..mapper.isa import TOKENS, Opcode, PostMode
from ..mapper.machine import Machine
from .axi import clog2_shape
from .commands import command_layout
from .countdown import Countup
from .execute import job_layout

__all__ = ["Drain", "tag_layout"]


def tag_layout(machine: Machine) -> data.StructLayout:
    """What travels beside the values of a slot: a lane set of one column and one pixel."""
    return data.StructLayout(
        {
            "valid": 1,  # the slot's last cycle
            "first": 1,  # pixel of the pool window
            "write": 1,
            "slot": clog2_shape(machine.array.cols * machine.row_groups),
            "address": (machine.buffers.output_bytes - 1).bit_length(),
            "mask": machine.post.lanes,
            "finished": 1,
            "post": TOKENS,  # of the tile's EXEC, once `finished`
        }
    )


class Drain(Component):
    """Walks a tile, a slot each 1 or 2·levels cycles (thresholds of several levels), without gaps.

    Takes a tile at t; its first slot begins at t + 1. The chains move at a slot's beginning and are held for
    the rest of it. Of a long slot's cycles every second reads parameters, the second cycle the tree's root.

    Ports:
        job: tiles whose accumulators are complete.
        output: fields of the last OUTPUT command; constant while a tile is drained.
        drain_en, drain_load, drain_bank, drain_index: to the array's chains; heads two cycles later.
        reading: a tile is being drained.
        line: first parameter line of the slot.
        search, root: this cycle reads parameters; they are the slot's first.
        tag: of the slot; valid in its last cycle.
        drained: a tile's last cycle.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.machine = machine
        super().__init__(
            {
                "job": In(stream.Signature(job_layout(machine))),
                "output": In(command_layout(Opcode.OUTPUT, machine)),
                "drain_en": Out(1),
                "drain_load": Out(1),
                "drain_bank": Out(1),
                "drain_index": Out(range(machine.array.acc_depth)),
                "reading": Out(1),
                "line": Out(clog2_shape(machine.param_lines)),
                "search": Out(1),
                "root": Out(1),
                "tag": Out(tag_layout(machine)),
                "drained": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine, output = self.machine, self.output
        lanes, groups = machine.post.lanes, machine.row_groups
        job = Signal(job_layout(machine))

        # Cycles of a slot.
        long = Signal()
        final = Signal(3)
        phase = Signal(3)
        opening = Signal(init=1)
        slot_done = Signal()
        m.d.sync += [
            long.eq((output.mode == PostMode.THRESHOLDS) & (output.levels > 1)),
            final.eq((output.levels << 1) - 1),
        ]
        m.d.comb += [
            slot_done.eq(self.reading & (~long | (phase == final))),
            self.search.eq(self.reading & (~long | phase[0])),
            self.root.eq(~long | (phase == 1)),
        ]
        with m.If(self.reading):
            m.d.sync += [phase.eq(Mux(slot_done, 0, phase + 1)), opening.eq(slot_done)]

        # Where the slot lies in the tile.
        q_loop, col_loop = (
            Countup(clog2_shape(groups), name="q"),
            Countup(clog2_shape(machine.array.cols), name="col"),
        )
        x_loop, y_loop = Countup(4, name="ix"), Countup(4, name="iy")
        q, ix, iy = q_loop.turn, x_loop.turn, y_loop.turn
        left_x, left_y = Signal.like(job.tile_x), Signal.like(job.tile_y)  # pixels from the window's first on
        index, window_row, window, pixel_row = (
            Signal(range(machine.array.acc_depth), name=name)
            for name in ("index", "window_row", "window", "pixel_row")
        )
        out_row, out_pixel, out_col = (
            Signal.like(job.out, name=f"out_{name}") for name in ("row", "pixel", "col")
        )
        pixel_line, next_line = Signal.like(self.line), Signal.like(self.line)
        slot = Signal(clog2_shape(machine.array.cols * groups))
        last_q, last_col, last_ix, last_iy = q_loop.last, col_loop.last, x_loop.last, y_loop.last
        last_window_x, last_window_y = Signal(), Signal()
        # The lane set that a result is of, and whether this slot is the first and the last that it sums up.
        place, first_plane, last_plane = Signal.like(q), Signal(init=1), Signal(init=1)
        pixel_done = last_q & last_col
        window_done = pixel_done & last_ix & last_iy
        tile_done = window_done & last_window_x & last_window_y

        tag = self.tag
        m.d.comb += [
            self.job.ready.eq(~self.reading),
            self.drained.eq(slot_done & tile_done),
            self.drain_en.eq(opening),
            self.drain_load.eq((q == 0) & (col_loop.turn == 0)),
            self.drain_bank.eq(job.bank),
            self.drain_index.eq(index),
            tag.valid.eq(slot_done),
            tag.first.eq((ix == 0) & (iy == 0) & first_plane),
            tag.write.eq(slot_done & last_ix & last_iy & last_plane),
            tag.slot.eq(slot),
            tag.address.eq(out_col + place * lanes),
            tag.finished.eq(self.drained),
            tag.post.eq(job.post),
            *(tag.mask[lane].eq(place * lanes + lane < job.rows) for lane in range(lanes)),
        ]
        self._planes(m, slot_done, last_q, q, place, first_plane, last_plane)

        # Adding reads a line for each pixel of its window.
        m.d.comb += next_line.eq(pixel_line)
        if machine.adds:
            with m.If(pixel_done & last_ix & (output.mode == PostMode.ADD)):
                m.d.comb += next_line.eq(Mux(last_iy, job.param, pixel_line + 1))

        with m.If(~self.reading), m.If(self.job.valid):
            start = self.job.payload
            m.d.sync += [
                job.eq(start),
                self.reading.eq(1),
                *(signal.eq(0) for signal in (slot, index, window_row, window, pixel_row)),
                *(signal.eq(start.out) for signal in (out_row, out_pixel, out_col)),
                *(signal.eq(start.param) for signal in (self.line, pixel_line)),
                left_x.eq(start.tile_x),
                left_y.eq(start.tile_y),
                last_window_x.eq(start.tile_x == output.pool_x),
                last_window_y.eq(start.tile_y == output.pool_y),
            ]
            q_loop.load(m, groups)
            col_loop.load(m, start.cols)
            x_loop.load(m, output.pool_x)
            y_loop.load(m, output.pool_y)
        with m.Elif(slot_done):
            m.d.sync += [
                slot.eq(Mux(pixel_done, 0, slot + 1)),
                self.line.eq(Mux(last_q, next_line, self.line + output.param_set)),
                pixel_line.eq(next_line),
            ]
            with m.If(~pixel_done):
                with m.If(last_q):
                    q_loop.load(m, groups)
                    col_loop.step(m, job.cols)
                    if machine.array.cols > 1:
                        m.d.sync += out_col.eq(out_col + output.col)
                with m.Else():
                    q_loop.step(m, groups)
            with m.Else():
                q_loop.load(m, groups)
                col_loop.load(m, job.cols)
                m.d.sync += out_col.eq(out_pixel)
                with m.If(~last_ix):
                    x_loop.step(m, output.pool_x)
                    m.d.sync += index.eq(index + 1)
                with m.Elif(~last_iy):
                    below = pixel_row + job.tile_x
                    x_loop.load(m, output.pool_x)
                    y_loop.step(m, output.pool_y)
                    m.d.sync += [index.eq(below), pixel_row.eq(below)]
                with m.Else():
                    x_loop.load(m, output.pool_x)
                    y_loop.load(m, output.pool_y)
                    with m.If(~last_window_x):
                        right = window + output.pool_x
                        m.d.sync += [
                            left_x.eq(left_x - output.pool_x),
                            last_window_x.eq(left_x == output.pool_x << 1),
                            *(signal.eq(right) for signal in (index, window, pixel_row)),
                            out_pixel.eq(out_pixel + output.pixel_x),
                            out_col.eq(out_pixel + output.pixel_x),
                        ]
                    with m.Else():
                        m.d.sync += [
                            left_x.eq(job.tile_x),
                            last_window_x.eq(job.tile_x == output.pool_x),
                            left_y.eq(left_y - output.pool_y),
                            last_window_y.eq(left_y == output.pool_y << 1),
                            *(signal.eq(index + 1) for signal in (index, window_row, window, pixel_row)),
                            *(
                                signal.eq(out_row + output.pixel_y)
                                for signal in (out_row, out_pixel, out_col)
                            ),
                        ]
                        with m.If(last_window_y):
                            m.d.sync += self.reading.eq(0)
        return m

    def _planes(
        self,
        m: Module,
        slot_done: Signal,
        last_q: Signal,
        q: Signal,
        place: Signal,
        first_plane: Signal,
        last_plane: Signal,
    ) -> None:
        """Where lane sets are planes of one result: its own lane set, and its first and last plane."""
        if not self.machine.adds:
            m.d.comb += [place.eq(q), first_plane.eq(1), last_plane.eq(1)]
            return
        output = self.output
        planes, plane, ended = Signal(), Signal.like(output.planes), Signal.like(place)
        m.d.sync += planes.eq(output.mode == PostMode.PLANES)
        m.d.comb += [
            place.eq(Mux(planes, ended, q)),
            first_plane.eq(~planes | (plane == 0)),
            last_plane.eq(~planes | (plane + 1 == output.planes)),
        ]
        with m.If(slot_done):
            m.d.sync += plane.eq(plane + 1)
            with m.If(last_plane):
                m.d.sync += [plane.eq(0), ended.eq(ended + 1)]
            with m.If(last_q):
                m.d.sync += [plane.eq(0), ended.eq(0)]
