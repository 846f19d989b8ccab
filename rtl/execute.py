"""EXECUTE: the loop nest that drives the array, tile by tile, and hands tiles to POST."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Component, In, Out

from ..mapper.isa import COMMAND_BITS, TOKENS, Opcode
from ..mapper.machine import STEP_BITS, Machine
from ..mapper.steps import OFFSET_BITS
from .axi import clog2_shape
from .commands import command_layout, command_view
from .countdown import Countdown

__all__ = ["Execute", "job_layout"]


def job_layout(machine: Machine) -> data.StructLayout:
    """An accumulator tile that POST is to drain."""
    walk, run = (command_layout(opcode, machine) for opcode in (Opcode.GEOMETRY, Opcode.EXEC))
    return data.StructLayout(
        {
            "bank": 1,
            "tile_x": walk["tile_x"].width,  # pixels, as clipped
            "tile_y": walk["tile_y"].width,
            "out": run["out"].width,  # of column 0's first written pixel
            "param": run["param"].width,  # line of the group's first parameters
            "cols": run["cols"].width,
            "rows": run["rows_last"].width,  # valid rows
            "post": TOKENS,  # when its last result is written
        }
    )


class Execute(Component):
    """Runs GEOMETRY, OUTPUT and EXEC: one issue a cycle; TILE takes one cycle before each tile.

    IDLE takes a command; TILE clips the next accumulator tile and waits for a free bank (of two); ISSUE runs
    fy, fx, sets and the tile's pixels, or the group's step list and the pixels. Where there is a list, LIST
    comes after TILE, finds the first step's operands and waits in its place. GEOMETRY and OUTPUT wait until
    no drain is pending.

    Ports:
        command, present, take, post: command stream; tokens there, taken, posted (operands all read).
        act_addr, last_set, weight_en, weight_line, weight_set, acc_*: the issue of this cycle.
        pe, tail: of the last GEOMETRY, for the array.
        job, job_ready: tiles for POST; `job_ready` counts those whose accumulators are complete.
        drained: POST has read a tile's last accumulator; finished: has written its last result.
        output: the fields of the last OUTPUT command, for POST.
        act_col: bytes between the columns' operands, of the last GEOMETRY.
        step_en, step_entry, step_data: the step lists' read port (latency 1).
        idle: no command or tile is pending.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.machine = machine
        array = machine.array
        self.sets = max(array.sets_per_word(kind) for kind in array.kinds)
        act = clog2_shape(machine.buffers.activation_bytes)
        super().__init__(
            {
                "command": In(stream.Signature(COMMAND_BITS)),
                "present": In(TOKENS),
                "take": Out(TOKENS),
                "post": Out(TOKENS),
                "act_addr": Out(act),
                "act_col": Out(act),
                "weight_en": Out(1),
                "weight_line": Out(clog2_shape(machine.weight_lines)),
                "pe": Out(4),
                "tail": Out(9),
                "last_set": Out(1),
                "weight_set": Out(clog2_shape(self.sets)),
                "acc_en": Out(1),
                "acc_fresh": Out(1),
                "acc_bank": Out(1),
                "acc_index": Out(range(array.acc_depth)),
                "job": Out(stream.Signature(job_layout(machine))),
                "drained": In(1),
                "finished": In(1),
                "output": Out(command_layout(Opcode.OUTPUT, machine)),
                "step_en": Out(1),
                "step_entry": Out(clog2_shape(max(1, machine.buffers.step_entries))),
                "step_data": In(STEP_BITS),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine = self.machine
        payload = self.command.payload
        mine = (Opcode.EXEC, Opcode.GEOMETRY, Opcode.OUTPUT)
        offered = {op: command_view(payload, op, machine) for op in mine}
        geometry = Signal(offered[Opcode.GEOMETRY].shape())
        run = Signal(offered[Opcode.EXEC].shape())
        start = offered[Opcode.EXEC]
        opcode = offered[Opcode.EXEC].opcode

        # Banks and drains in flight.
        banks_in_use = Signal(2)
        pending = Signal(4)
        opened = Signal()
        handed = Signal()
        bank_free = ~run.first | (banks_in_use != 2)
        m.d.sync += [
            banks_in_use.eq(banks_in_use + opened - self.drained),
            pending.eq(pending + handed - self.finished),
        ]

        # Where the current group and tile begin.
        groups = Countdown(12, name="groups")
        left_x, left_y = Signal(12), Signal(12)
        act_group, act_row, act_tile = (
            Signal.like(start.act, name=f"act_{name}") for name in ("group", "row", "tile")
        )
        out_group, out_row, out_tile = (
            Signal.like(start.out, name=f"out_{name}") for name in ("group", "row", "tile")
        )
        weight_group = Signal.like(start.weight)
        param_group = Signal.like(start.param)
        last_x, last_y = left_x <= geometry.tile_x, left_y <= geometry.tile_y
        tile_w = Mux(last_x, left_x, geometry.tile_x)
        tile_h = Mux(last_y, left_y, geometry.tile_y)
        last_tile_x, last_tile_y, last_of_group, last_of_command = (
            Signal(name=name) for name in ("last_tile_x", "last_tile_y", "last_of_group", "last_of_command")
        )

        # The issue.
        size = len(geometry.tile_x)
        width, height = Signal(size), Signal(size)
        pixel_x, pixel_y = Countdown(size, name="pixel_x"), Countdown(size, name="pixel_y")
        tap_s = Countdown(14, name="tap_s")
        tap_x, tap_y = Countdown(8, name="tap_x"), Countdown(8, name="tap_y")
        step_starts = Signal()
        address = Signal.like(start.act)
        row_start, set_start, run_start, filter_row = (
            Signal.like(start.act, name=name)
            for name in ("row_start", "set_start", "run_start", "filter_row")
        )
        line = Signal.like(start.weight)
        weight_set = Signal(clog2_shape(self.sets))
        fresh = Signal()
        bank = Signal()
        index = Signal(range(machine.array.acc_depth))
        issuing = Signal()
        # The ends of all loops together, known a cycle before: much waits for them.
        last_pixel, last_step = Signal(), Signal()
        tile_done = last_pixel & last_step
        one_set, one_tap = geometry.sets == 1, geometry.fx == 1

        # Step lists: the entry after the one at work is held, the one after that is at the port. Between the
        # memory and the adders stands a register: it is the slower half of the way.
        with_lists = machine.step_lines > 0
        listed: Value = geometry.listed if with_lists else Const(0)
        next_entry, first_entry = (
            Signal.like(self.step_entry, name=f"{name}_entry") for name in ("next", "first")
        )
        offset, entry_tail, entry_last = Signal.like(address), Signal(), Signal()
        tail_step = Signal()
        hold = [
            offset.eq(self.step_data[:OFFSET_BITS]),
            entry_tail.eq(self.step_data[OFFSET_BITS]),
            entry_last.eq(self.step_data[OFFSET_BITS + 1]),
        ]

        def ask(entry: Value) -> None:
            """The port shows `entry` from the next cycle on."""
            if with_lists:
                m.d.comb += [self.step_en.eq(1), self.step_entry.eq(entry)]
                m.d.sync += next_entry.eq(entry + 1)

        m.d.comb += [
            self.act_addr.eq(address),
            self.act_col.eq(geometry.act_col if machine.array.cols > 1 else 0),
            self.pe.eq(geometry.pe),
            self.tail.eq(geometry.tail),
            self.last_set.eq(Mux(listed, tail_step, tap_s.last)),
            self.weight_line.eq(line),
            self.weight_set.eq(weight_set),
            self.weight_en.eq(issuing & step_starts & (weight_set == 0)),
            self.acc_en.eq(issuing),
            self.acc_fresh.eq(fresh),
            self.acc_bank.eq(bank),
            self.acc_index.eq(index),
        ]

        # What the PE kind sets: bytes from a lane set to the next, lane sets in a weight word.
        lane_bytes = Signal(range(machine.act_word_bytes + 1))
        last_weight_set = Signal.like(weight_set)
        with m.Switch(geometry.pe):
            for kind in machine.array.kinds:
                with m.Case(kind.value):
                    m.d.sync += [
                        lane_bytes.eq(machine.array.lane_bytes(kind)),
                        last_weight_set.eq(machine.array.sets_per_word(kind) - 1),
                    ]

        # Jobs: handed over with a tile's last issue, ready once the accumulators are written.
        layout = job_layout(machine)
        m.submodules.jobs = jobs = SyncFIFO(width=layout.size, depth=2)
        job = Signal(layout)
        delay = Signal(machine.timing.array_latency - 1)
        complete = Signal(2)
        job_taken = self.job.valid & self.job.ready
        m.d.comb += [
            job.bank.eq(bank),
            job.tile_x.eq(width),
            job.tile_y.eq(height),
            job.out.eq(out_tile),
            job.param.eq(param_group),
            job.cols.eq(run.cols),
            job.rows.eq(Mux(groups.last, run.rows_last, machine.array.rows)),
            job.post.eq(Mux(last_of_command, run.post_drain, 0)),
            handed.eq(issuing & tile_done & run.last),
            jobs.w_data.eq(job),
            jobs.w_en.eq(handed),
            self.job.payload.eq(jobs.r_data),
            self.job.valid.eq(jobs.r_rdy & (complete != 0)),
            jobs.r_en.eq(job_taken),
        ]
        m.d.sync += [
            delay.eq((delay << 1) | handed),
            complete.eq(complete + delay[-1] - job_taken),
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(~self.command.valid & (pending == 0))
                wait = offered[Opcode.EXEC].wait
                allowed = ((self.present & wait) == wait) & ((opcode == Opcode.EXEC) | (pending == 0))
                with m.If(self.command.valid & allowed):
                    m.d.comb += [self.command.ready.eq(1), self.take.eq(wait)]
                    with m.Switch(opcode):
                        with m.Case(Opcode.GEOMETRY):
                            m.d.sync += geometry.eq(offered[Opcode.GEOMETRY])
                        with m.Case(Opcode.OUTPUT):
                            m.d.sync += self.output.eq(offered[Opcode.OUTPUT])
                        with m.Case(Opcode.EXEC):
                            m.d.sync += [
                                run.eq(start),
                                left_x.eq(start.region_x),
                                left_y.eq(start.region_y),
                                act_group.eq(start.act),
                                act_row.eq(start.act),
                                act_tile.eq(start.act),
                                out_group.eq(start.out),
                                out_row.eq(start.out),
                                out_tile.eq(start.out),
                                weight_group.eq(start.weight),
                                param_group.eq(start.param),
                            ]
                            if with_lists:
                                m.d.sync += first_entry.eq(start.list)
                                ask(start.list)
                            groups.load(m, start.groups)
                            m.next = "TILE"
            with m.State("TILE"):
                m.d.sync += [
                    width.eq(tile_w),
                    height.eq(tile_h),
                    last_tile_x.eq(last_x),
                    last_tile_y.eq(last_y),
                    last_of_group.eq(last_x & last_y),
                    last_of_command.eq(last_x & last_y & groups.last),
                    step_starts.eq(1),
                    *(start.eq(act_tile) for start in (address, row_start, set_start, run_start)),
                    filter_row.eq(act_tile),
                    line.eq(weight_group),
                    weight_set.eq(0),
                    fresh.eq(run.first),
                    index.eq(0),
                ]
                m.d.sync += [
                    last_pixel.eq((tile_w == 1) & (tile_h == 1)),
                    last_step.eq(one_set & one_tap & (geometry.fy == 1)),
                ]
                pixel_x.load(m, tile_w)
                pixel_y.load(m, tile_h)
                tap_s.load(m, geometry.sets)
                tap_x.load(m, geometry.fx)
                tap_y.load(m, geometry.fy)
                with m.If(bank_free & ~listed):
                    m.d.comb += opened.eq(run.first)
                    m.next = "ISSUE"
                if with_lists:
                    with m.If(listed):
                        m.d.sync += hold
                        ask(next_entry)
                        m.next = "LIST"
            if with_lists:
                with m.State("LIST"):
                    m.d.sync += [begin.eq(act_tile + offset) for begin in (address, row_start)]
                    m.d.sync += [last_step.eq(entry_last), tail_step.eq(entry_tail)]
                    with m.If(bank_free):
                        m.d.comb += opened.eq(run.first)
                        m.d.sync += hold
                        ask(next_entry)
                        m.next = "ISSUE"
            with m.State("ISSUE"):
                m.d.comb += issuing.eq(1)
                m.d.sync += [index.eq(index + 1), step_starts.eq(0)]
                base, stride = Signal.like(address), Signal.like(address)
                onward = base + stride

                def step(source: Value, by: Value, *starts: Signal) -> None:
                    """The next address is `source` + `by`, where all `starts` begin anew."""
                    m.d.comb += [base.eq(source), stride.eq(by)]
                    m.d.sync += [start.eq(onward) for start in (address, *starts)]

                with m.If(~pixel_x.last):
                    pixel_x.step(m)
                    m.d.sync += last_pixel.eq(pixel_x.before_last & pixel_y.last)
                    step(address, geometry.pixel_x)
                with m.Elif(~pixel_y.last):
                    pixel_x.load(m, width)
                    pixel_y.step(m)
                    m.d.sync += last_pixel.eq((width == 1) & pixel_y.before_last)
                    step(row_start, geometry.pixel_y, row_start)
                with m.Else():
                    pixel_x.load(m, width)
                    pixel_y.load(m, height)
                    m.d.sync += last_pixel.eq((width == 1) & (height == 1))
                    m.d.sync += [step_starts.eq(1), index.eq(0), fresh.eq(0)]
                    m.d.sync += weight_set.eq(weight_set + 1)
                    with m.If(weight_set == last_weight_set):
                        m.d.sync += [weight_set.eq(0), line.eq(line + 1)]
                    with m.If(listed):
                        m.d.sync += [last_step.eq(entry_last), tail_step.eq(entry_tail)]
                        step(act_tile, offset, row_start)
                        with m.If(~last_step):
                            m.d.sync += hold
                            ask(next_entry)
                        with m.Else():  # of the next group the first is held, the second at the port
                            begins = Signal.like(first_entry)
                            m.d.comb += begins.eq(Mux(last_of_group, next_entry - 2, first_entry))
                            ask(begins)
                            m.d.sync += first_entry.eq(begins)
                    with m.Elif(~tap_s.last):
                        tap_s.step(m)
                        m.d.sync += last_step.eq(tap_s.before_last & tap_x.last & tap_y.last)
                        step(set_start, lane_bytes, set_start, row_start)
                    with m.Elif(~tap_x.last):
                        tap_s.load(m, geometry.sets)
                        tap_x.step(m)
                        m.d.sync += last_step.eq(one_set & tap_x.before_last & tap_y.last)
                        step(run_start, geometry.tap_x, run_start, set_start, row_start)
                    with m.Elif(~tap_y.last):
                        tap_s.load(m, geometry.sets)
                        tap_x.load(m, geometry.fx)
                        tap_y.step(m)
                        m.d.sync += last_step.eq(one_set & one_tap & tap_y.before_last)
                        step(filter_row, geometry.tap_y, filter_row, run_start, set_start, row_start)
                with m.If(tile_done):
                    m.next = "TILE"
                    self._next_tile(
                        m,
                        geometry=geometry,
                        run=run,
                        last_x=last_tile_x,
                        last_y=last_tile_y,
                        left=(left_x, left_y),
                        act=(act_group, act_row, act_tile),
                        out=(out_group, out_row, out_tile),
                    )
                    with m.If(run.last):
                        m.d.sync += bank.eq(~bank)
                    with m.If(last_of_group):
                        groups.step(m)
                        m.d.sync += [
                            weight_group.eq(Mux(listed, line + 1, weight_group + geometry.weight_group)),
                            param_group.eq(param_group + self.output.param_group),
                        ]
                        with m.If(last_of_command):
                            m.d.comb += self.post.eq(run.post)
                            m.next = "IDLE"
        return m

    def _next_tile(
        self,
        m: Module,
        *,
        geometry: data.View,
        run: data.View,
        last_x: Value,
        last_y: Value,
        left: tuple[Signal, Signal],
        act: tuple[Signal, Signal, Signal],
        out: tuple[Signal, Signal, Signal],
    ) -> None:
        """Step to the next tile of the region, or to the next group's first."""
        left_x, left_y = left
        act_group, act_row, act_tile = act
        out_group, out_row, out_tile = out
        with m.If(~last_x):
            m.d.sync += [
                left_x.eq(left_x - geometry.tile_x),
                act_tile.eq(act_tile + geometry.act_tile_x),
                out_tile.eq(out_tile + self.output.tile_x),
            ]
        with m.Else():
            m.d.sync += left_x.eq(run.region_x)
            with m.If(~last_y):
                m.d.sync += [
                    left_y.eq(left_y - geometry.tile_y),
                    act_row.eq(act_row + geometry.act_tile_y),
                    act_tile.eq(act_row + geometry.act_tile_y),
                    out_row.eq(out_row + self.output.tile_y),
                    out_tile.eq(out_row + self.output.tile_y),
                ]
            with m.Else():
                m.d.sync += [
                    left_y.eq(run.region_y),
                    act_group.eq(act_group + geometry.act_group),
                    act_row.eq(act_group + geometry.act_group),
                    act_tile.eq(act_group + geometry.act_group),
                    out_group.eq(out_group + self.output.group),
                    out_row.eq(out_group + self.output.group),
                    out_tile.eq(out_group + self.output.group),
                ]
