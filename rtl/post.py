"""POST: drains accumulator tiles through requantisers, thresholds, pool or sum into the output buffer."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from ..mapper.isa import TOKENS, Opcode, PostMode
from ..mapper.machine import Machine
from .axi import clog2_shape
from .commands import command_layout
from .delay_line import DelayLine
from .drain import Drain, tag_layout
from .execute import job_layout
from .param_buffer import PARAM_BITS
from .requantize import Requantizer
from .thresholds import ThresholdSearch

__all__ = ["Post"]


class Post(Component):
    """Takes a tile at t, reads `lanes` accumulators a slot from t + 1 on; results at the output buffer's port
    `post_latency` (12) cycles after their slot, sums `add_latency` (22) cycles.

    A slot is one cycle, with L > 1 levels of thresholds 2·L. Pixels × columns × rows / lanes slots a tile.

    Ports:
        job: tiles whose accumulators are complete.
        output: fields of the last OUTPUT command; constant while a drain is pending.
        drain_en, drain_load, drain_bank, drain_index: to the array's chains; heads two cycles later.
        param_en, param_line_<lane>, param_data: the parameter buffer's read ports (latency 2).
        w_en, w_addr, w_data, w_mask: the output buffer's write port.
        drained, finished: last accumulator read; last result written.
        post: tokens of a finished EXEC.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.machine = machine
        lanes = machine.post.lanes
        line = clog2_shape(machine.param_lines)
        super().__init__(
            {
                "job": In(stream.Signature(job_layout(machine))),
                "output": In(command_layout(Opcode.OUTPUT, machine)),
                "drain_en": Out(1),
                "drain_load": Out(1),
                "drain_bank": Out(1),
                "drain_index": Out(range(machine.array.acc_depth)),
                "heads": In(lanes * machine.array.acc_bits),
                "param_en": Out(1),
                **{f"param_line_{lane}": Out(line) for lane in range(lanes)},
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
        output, timing = self.output, self.machine.timing
        m.submodules.drain = drain = Drain(machine=self.machine)
        connect(m, flipped(self.job), drain.job)
        m.d.comb += [
            drain.output.eq(output),
            self.drained.eq(drain.drained),
            self.param_en.eq(drain.reading),
            *(
                getattr(self, name).eq(getattr(drain, name))
                for name in ("drain_en", "drain_load", "drain_bank", "drain_index")
            ),
        ]

        # Accumulators are at the heads and parameters at the port two cycles after the read.
        results, wides = self._results(m, drain)
        tag = self._delayed(m, drain.tag, 2 + Requantizer.LATENCY, "tag")
        written = Signal.like(tag)
        values = Signal(8 * self.machine.post.lanes)
        m.d.sync += [written.eq(tag), values.eq(self._pooled(m, tag, results))]
        assert timing.post_latency == 2 + Requantizer.LATENCY + 1
        if self.machine.adds:
            adding = Signal()
            m.d.comb += adding.eq((output.mode == PostMode.ADD) | (output.mode == PostMode.PLANES))
            # Each way lets pass only what is its own: the mode may change before the longer one is empty.
            sum_tag = Signal.like(tag)
            m.d.sync += sum_tag.eq(tag)
            for name in ("write", "finished"):
                m.d.sync += [
                    written[name].eq(tag[name] & ~adding),
                    sum_tag[name].eq(tag[name] & adding),
                ]
            sums = self._sums(m, tag, wides)
            late = self._delayed(m, sum_tag, Requantizer.LATENCY + 1, "sum_tag")
            assert timing.add_latency == timing.post_latency + Requantizer.LATENCY + 1
            chosen = data.View(tag_layout(self.machine), Mux(adding, late.as_value(), written.as_value()))
            chosen_values = Mux(adding, sums, values)
        else:
            chosen, chosen_values = written, values
        m.d.comb += [
            self.w_en.eq(chosen.write),
            self.w_addr.eq(chosen.address),
            self.w_data.eq(chosen_values),
            self.w_mask.eq(chosen.mask),
            self.finished.eq(chosen.finished),
            self.post.eq(Mux(chosen.finished, chosen.post, 0)),
        ]
        return m

    def _results(self, m: Module, drain: Drain) -> tuple[list[Value], list[Value]]:
        """Each lane's result by mode and, where POST adds, rescaled value, 9 cycles after the operands."""
        machine, output = self.machine, self.output
        results: list[Value] = []
        wides: list[Value] = []
        by_thresholds = Signal()
        m.d.sync += by_thresholds.eq(output.mode == PostMode.THRESHOLDS)
        for lane in range(machine.post.lanes):
            head = self.heads.word_select(lane, machine.array.acc_bits)
            param = self.param_data.word_select(lane, PARAM_BITS)
            search = ThresholdSearch(machine=machine)
            m.submodules[f"thresholds_{lane}"] = search
            m.d.comb += [
                search.search.eq(drain.search),
                search.root.eq(drain.root),
                search.base.eq(drain.line),
                getattr(self, f"param_line_{lane}").eq(search.line),
                search.node.eq(param),
                search.acc.eq(head),
                search.low.eq(output.clamp_low),
                search.step.eq(output.step),
            ]
            requantizer = Requantizer(acc_bits=machine.array.acc_bits, scales_up=machine.adds)
            m.submodules[f"requantizer_{lane}"] = requantizer
            m.d.comb += [
                requantizer.acc.eq(head),
                requantizer.bias.eq(param[:32]),
                requantizer.multiplier.eq(param[32:64]),
                requantizer.shift.eq(param[64:69]),
                requantizer.rounding.eq(output.rounding),
                requantizer.zero_point.eq(output.zero_point),
                requantizer.clamp_low.eq(output.clamp_low),
                requantizer.clamp_high.eq(output.clamp_high),
            ]
            if machine.adds:
                m.d.comb += requantizer.left.eq(param[72:77])
                wides.append(requantizer.wide)
            results.append(Mux(by_thresholds, search.result, requantizer.result))
        return results, wides

    def _pooled(self, m: Module, tag: data.View, results: Sequence[Value]) -> Value:
        """The running maximum of each column and lane set over its pool window, the low 8 bits a lane."""
        before = self._slots(m, tag, 9, "maxima")
        best = []
        for value, (last, following) in zip(results, before, strict=True):
            largest = Signal(signed(9))
            m.d.comb += [
                largest.eq(Mux(tag.first | (value > last.as_signed()), value, last)),
                following.eq(largest),
            ]
            best.append(largest[:8])
        return Cat(best)

    def _sums(self, m: Module, tag: data.View, wides: Sequence[Value]) -> Value:
        """The window's rescaled pixels, or a pixel's planes, summed and rescaled, 10 cycles after the last.

        A pixel waits for the window's other one in a memory; planes come in consecutive cycles.
        """
        output = self.output
        values = []
        planes = Signal()
        m.d.sync += planes.eq(output.mode == PostMode.PLANES)
        for lane, (wide, (last, following)) in enumerate(
            zip(wides, self._slots(m, tag, 32, "terms"), strict=True)
        ):
            rescale = Requantizer(acc_bits=32)
            m.submodules[f"sum_{lane}"] = rescale
            value = Signal(8, name=f"sum_value_{lane}")
            total = Signal(signed(32), name=f"sum_{lane}")
            m.d.comb += [
                following.eq(wide),
                rescale.acc.eq(total),
                rescale.bias.eq(0),
                rescale.multiplier.eq(output.sum_multiplier),
                rescale.shift.eq(output.sum_shift),
                rescale.rounding.eq(output.rounding),
                rescale.zero_point.eq(output.zero_point),
                rescale.clamp_low.eq(output.clamp_low),
                rescale.clamp_high.eq(output.clamp_high),
            ]
            before = Mux(planes, Mux(tag.first, 0, total), last.as_signed())
            m.d.sync += [total.eq(before + wide), value.eq(rescale.result)]
            values.append(value)
        return Cat(values)

    def _slots(self, m: Module, tag: data.View, bits: int, name: str) -> list[tuple[Value, Value]]:
        """(held, next) values of each lane in a memory of the window's slots, at the slot of `tag`."""
        machine = self.machine
        lanes = machine.post.lanes
        depth = max(2, machine.array.cols * machine.row_groups)
        m.submodules[name] = memory = Memory(shape=bits * lanes, depth=depth, init=[])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += [read.addr.eq(tag.slot), write.addr.eq(tag.slot), write.en.eq(tag.valid)]
        return [
            (read.data.word_select(lane, bits), write.data.word_select(lane, bits)) for lane in range(lanes)
        ]

    def _delayed(self, m: Module, tag: data.View, cycles: int, name: str) -> data.View:
        """The tag `cycles` later: what acts by itself in registers, what goes with it in a delay line."""
        later = Signal(tag_layout(self.machine), name=f"{name}_{cycles}")
        for part in ("valid", "write", "finished"):
            bit = tag[part]
            for number in range(1, cycles):
                stage = Signal(name=f"{name}_{part}_{number}")
                m.d.sync += stage.eq(bit)
                bit = stage
            m.d.sync += later[part].eq(bit)
        beside = ("first", "slot", "address", "mask", "post")
        given = Cat(tag[part] for part in beside)
        m.submodules[f"{name}_line"] = line = DelayLine(width=len(given), cycles=cycles)
        m.d.comb += [line.given.eq(given), Cat(later[part] for part in beside).eq(line.delayed)]
        return later
