"""LOAD: memory to buffers, and padding."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Component, In, Out

from ..mapper.isa import COMMAND_BITS, TOKENS, LoadTarget, Opcode
from ..mapper.machine import Machine
from .axi import ADDRESS_BITS, clog2_shape
from .bursts import BurstCutter
from .commands import command_layout, command_view
from .row_walk import RowWalk

__all__ = ["Load"]


def row_layout(machine: Machine) -> data.StructLayout:
    """A row for the data side: where its bytes go and how many they are."""
    widths = {name: field.width for name, field in command_layout(Opcode.LOAD, machine)}
    return data.StructLayout(
        {
            "fill": 1,
            "value": 8,
            "target": 2,
            "cols": widths["cols"],
            "cursor": widths["dst"],  # where the first beat's low end goes: byte or line
            "offset": clog2_shape(machine.bus_bytes),  # of the first byte in the first beat
            "left": widths["run"] + 1,  # bytes from the first beat's low end to the row's end
            "single": 1,  # the row is one beat
            "last_unit": widths["wrap"],  # of a line
            "last": 1,  # row of its command
            "post": TOKENS,
        }
    )


class Load(Component):
    """Runs LOAD and FILL: bursts one a cycle ahead of the data, one beat a cycle into the buffers.

    Address side: IDLE takes a command when its tokens are there; ROW (one cycle a row) hands the row to the
    data side; BURST asks for the row's bursts, at most `read_outstanding` granted and not ended. Data side:
    one beat a cycle from memory or, for FILL, from the value. The last beat of a command posts its tokens.

    Ports:
        command, present, take, post: command stream; tokens there, taken, posted.
        ar_request, ar_address, ar_beats, ar_grant: to the read arbiter.
        r_valid, r_last, r_data, r_ready: its beats.
        act_*: byte writes for the activation banks whose bit in `act_cols` is set.
        weight_*, param_*: unit writes for the line buffers.
        step_*: writes of whole lines for the step lists.
        idle: no command, row or beat is pending.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.machine = machine
        bus = machine.bus
        act_address_bits = (machine.buffers.activation_bytes - 1).bit_length()
        weight_units = machine.weight_line_bits // bus.data_bits
        param_units = machine.param_line_bits // bus.data_bits
        super().__init__(
            {
                "base": In(ADDRESS_BITS),
                "command": In(stream.Signature(COMMAND_BITS)),
                "present": In(TOKENS),
                "take": Out(TOKENS),
                "post": Out(TOKENS),
                "ar_request": Out(1),
                "ar_address": Out(ADDRESS_BITS),
                "ar_beats": Out(range(bus.max_burst + 1)),
                "ar_grant": In(1),
                "r_valid": In(1),
                "r_last": In(1),
                "r_data": In(bus.data_bits),
                "r_ready": Out(1),
                "act_en": Out(1),
                "act_cols": Out(machine.array.cols),
                "act_addr": Out(act_address_bits),
                "act_mask": Out(machine.bus_bytes),
                "data": Out(bus.data_bits),
                "weight_en": Out(1),
                "weight_line": Out(clog2_shape(machine.weight_lines)),
                "weight_unit": Out(clog2_shape(weight_units)),
                "param_en": Out(1),
                "param_line": Out(clog2_shape(machine.param_lines)),
                "param_unit": Out(clog2_shape(param_units)),
                "step_en": Out(1),
                "step_line": Out(clog2_shape(max(1, machine.step_lines))),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout = row_layout(self.machine)
        m.submodules.rows = rows = SyncFIFO(
            width=layout.as_shape().width, depth=self.machine.queues.row_descriptors
        )
        address_idle = self._address_side(m, rows, layout)
        data_idle = ~rows.r_rdy
        self._data_side(m, rows, layout)
        m.d.comb += self.idle.eq(address_idle & data_idle)
        return m

    def _address_side(self, m: Module, rows: SyncFIFO, layout: data.StructLayout) -> Signal:
        machine = self.machine
        bus_bytes = machine.bus_bytes
        shift = bus_bytes.bit_length() - 1
        offered = command_view(self.command.payload, Opcode.LOAD, machine)
        current = Signal(command_layout(Opcode.LOAD, machine))
        is_fill = Signal()
        short = Signal()  # rows of few bytes: the low bits tell them
        walk = RowWalk(buffer_bits=len(current.dst))

        row = Signal(layout)
        m.d.comb += [
            row.fill.eq(is_fill),
            row.value.eq(current.address[:8]),
            row.target.eq(current.target),
            row.cols.eq(current.cols),
            row.offset.eq(Mux(is_fill, 0, walk.memory[:shift])),
            row.cursor.eq(walk.buffer - Mux(current.target == LoadTarget.ACTIVATION, row.offset, 0)),
            row.left.eq(current.run + row.offset),
            row.single.eq(short & (current.run[: shift + 1] + row.offset <= bus_bytes)),
            row.last_unit.eq(current.wrap - 1),
            row.last.eq(walk.last),
            row.post.eq(current.post),
            rows.w_data.eq(row),
        ]

        # Bursts of the row.
        bursts = BurstCutter(max_burst=machine.bus.max_burst, bus_bytes=bus_bytes, run_bits=len(current.run))
        outstanding = Signal(range(machine.bus.read_outstanding + 1))
        ended = self.r_valid & self.r_ready & self.r_last
        m.d.comb += [self.ar_address.eq(bursts.address), self.ar_beats.eq(bursts.beats)]
        m.d.sync += outstanding.eq(outstanding + (self.ar_request & self.ar_grant) - ended)

        def next_row() -> None:
            walk.step(
                m,
                rows=current.rows,
                memory=(current.src_row, current.src_plane),
                buffer=(current.dst_row, current.dst_plane),
            )

        idle = Signal()
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += idle.eq(~self.command.valid)
                with m.If(self.command.valid & ((self.present & offered.wait) == offered.wait)):
                    m.d.comb += [self.command.ready.eq(1), self.take.eq(offered.wait)]
                    m.d.sync += [
                        current.eq(offered),
                        is_fill.eq(offered.opcode == Opcode.FILL),
                        short.eq(offered.run[shift + 1 :] == 0),
                    ]
                    walk.load(
                        m,
                        memory=self.base + offered.address,
                        buffer=offered.dst,
                        rows=offered.rows,
                        planes=offered.planes,
                    )
                    m.next = "ROW"
            with m.State("ROW"):
                m.d.comb += rows.w_en.eq(1)
                bursts.load(m, walk.memory, current.run)
                with m.If(rows.w_rdy):
                    with m.If(~is_fill):
                        m.next = "BURST"
                    with m.Else():
                        next_row()
                        with m.If(row.last):
                            m.next = "IDLE"
            with m.State("BURST"):
                m.d.comb += self.ar_request.eq(outstanding != machine.bus.read_outstanding)
                with m.If(self.ar_request & self.ar_grant):
                    bursts.step(m)
                    with m.If(bursts.last):
                        next_row()
                        m.next = "ROW"
                        with m.If(row.last):
                            m.next = "IDLE"
        return idle

    def _data_side(self, m: Module, rows: SyncFIFO, layout: data.StructLayout) -> None:
        bus_bytes = self.machine.bus_bytes
        head = data.View(layout, rows.r_data)
        started = Signal()
        left, left_kept = (Signal(len(head.left), name=name) for name in ("left", "left_kept"))
        cursor, cursor_kept = (Signal(len(head.cursor), name=name) for name in ("cursor", "cursor_kept"))
        unit, unit_kept = (Signal(len(head.last_unit), name=name) for name in ("unit", "unit_kept"))
        last_kept = Signal()
        line_done = Signal()
        beat = Signal()
        last_beat = Signal()
        to_bytes = head.target == LoadTarget.ACTIVATION
        m.d.comb += [
            left.eq(Mux(started, left_kept, head.left)),
            last_beat.eq(Mux(started, last_kept, head.single)),
            cursor.eq(Mux(started, cursor_kept, head.cursor)),
            unit.eq(Mux(started, unit_kept, 0)),
            self.r_ready.eq(rows.r_rdy & ~head.fill),
            self.data.eq(Mux(head.fill, head.value.replicate(bus_bytes), self.r_data)),
        ]

        m.d.comb += line_done.eq(unit == head.last_unit)

        mask = Signal(bus_bytes)
        for i in range(bus_bytes):
            after_start = started | (head.offset <= i)
            m.d.comb += mask[i].eq(after_start & (~last_beat | (left[: len(head.offset) + 1] > i)))

        m.d.comb += [
            beat.eq(rows.r_rdy & (head.fill | self.r_valid)),
            self.act_addr.eq(cursor),
            self.act_cols.eq(head.cols),
            self.act_mask.eq(mask),
            self.weight_line.eq(cursor),
            self.weight_unit.eq(unit),
            self.param_line.eq(cursor),
            self.param_unit.eq(unit),
            self.act_en.eq(beat & to_bytes),
            self.weight_en.eq(beat & (head.target == LoadTarget.WEIGHT)),
            self.param_en.eq(beat & (head.target == LoadTarget.PARAM)),
            self.step_line.eq(cursor),
            self.step_en.eq(beat & (head.target == LoadTarget.STEPS)),
        ]
        shift = bus_bytes.bit_length() - 1
        with m.If(beat):
            m.d.sync += [
                started.eq(~last_beat),
                left_kept.eq(left - bus_bytes),
                # No more than two beats: this one and the next.
                last_kept.eq(~left[shift + 1 :].any() | (left == 2 * bus_bytes)),
            ]
            # One adder: a beat's bytes on, or a line on, or none.
            onward = Cat(line_done & ~to_bytes, Const(0, shift - 1), to_bytes)
            m.d.sync += [
                cursor_kept.eq(cursor + onward),
                unit_kept.eq(Mux(line_done, 0, unit + 1)),
            ]
            with m.If(last_beat):
                m.d.comb += rows.r_en.eq(1)
                with m.If(head.last):
                    m.d.comb += self.post.eq(head.post)
