"""ARRAY: rows × cols PEs, the operands' gearbox, and the chains that results leave by."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Instance, Module, Mux, ResetSignal, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ..mapper.machine import Machine
from .axi import clog2_shape
from .pe import PE_BITS, ProcessingElement, weight_bits

__all__ = ["ProcessingArray"]


class ProcessingArray(Component):
    """All PEs in step: `array_latency` (5) cycles from an issue to its accumulators, one issue a cycle.

    An issue at t puts addresses on the buffers; activations come back at t + 2, the weight line at t + 1 of
    which the set `weight_set` is registered; `acc_*` and `weight_set` are given at t and delayed here.

    Results leave by one chain a POST lane: a load at u brings every PE's accumulator into its chain register,
    column 0 and row group 0 at the head; each cycle without load shifts by one. Heads at u + 1.

    Ports:
        act_<c>: activation word of column c, at t + 2.
        weight_line: at t + 1.
        pe, tail: of GEOMETRY: the PE kind, and the valid lanes of a run's last lane set.
        last_set, weight_set, acc_en, acc_fresh, acc_bank, acc_index: of the issue, at t.
        drain_load, drain_bank, drain_index: at u.
        heads: `post.lanes` accumulators at u + 1, lane 0 low.
    """

    def __init__(self, *, machine: Machine) -> None:
        self.machine = machine
        array = machine.array
        self.lanes = max(array.lanes(kind) for kind in array.kinds)
        self.sets = max(array.sets_per_word(kind) for kind in array.kinds)
        index = range(array.acc_depth)
        super().__init__(
            {
                **{f"act_{c}": In(array.act_word_bits) for c in range(array.cols)},
                "weight_line": In(machine.weight_line_bits),
                "pe": In(4),
                "tail": In(9),
                "last_set": In(1),
                "weight_set": In(clog2_shape(self.sets)),
                "acc_en": In(1),
                "acc_fresh": In(1),
                "acc_bank": In(1),
                "acc_index": In(index),
                "drain_load": In(1),
                "drain_bank": In(1),
                "drain_index": In(index),
                "heads": Out(machine.post.lanes * array.acc_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        machine, array = self.machine, self.machine.array

        def delayed(signal: Signal, cycles: int, name: str) -> Signal:
            for number in range(cycles):
                stage = Signal(signal.shape(), name=f"{name}_{number + 1}")
                m.d.sync += stage.eq(signal)
                signal = stage
            return signal

        # The gearbox: lane sets of a weight word one after another.
        weight_set = delayed(self.weight_set, 1, "weight_set")
        weights = []
        for row in range(array.rows):
            word = self.weight_line.word_select(row, array.weight_word_bits)
            held = Signal(weight_bits(machine), name=f"weight_{row}")
            with m.Switch(self.pe):
                for kind in array.kinds:
                    width = array.lanes(kind) * kind.weight_bits
                    several = array.sets_per_word(kind) > 1
                    with m.Case(kind.value):
                        m.d.sync += held.eq(word.word_select(weight_set, width) if several else word)
            weights.append(held)

        # Lanes beyond a run read as zero.
        last_set = delayed(self.last_set, machine.timing.buffer_read_latency, "last_set")
        within = Signal(self.lanes)
        m.d.sync += within.eq(Cat(self.tail > lane for lane in range(self.lanes)))
        valid = Signal(self.lanes)
        m.d.comb += valid.eq(Mux(last_set, within, ~0))
        mask = Cat(valid[lane].replicate(8) for lane in range(self.lanes))

        # Buffers take 2 cycles, the PEs' products and sum 2 more.
        to_sum = machine.timing.array_latency - 1
        controls = {
            name: delayed(getattr(self, name), to_sum, name)
            for name in ("acc_en", "acc_fresh", "acc_bank", "acc_index")
        }
        # One PE is one module of the Verilog, instantiated: elaborating each would take minutes at 32 × 32.
        count = array.cols * array.rows
        chain = [Signal(signed(array.acc_bits), name=f"chain_{n}") for n in range(count)]
        lanes = machine.post.lanes
        for col in range(array.cols):
            for row in range(array.rows):
                number = col * array.rows + row
                behind = number + lanes
                m.submodules[f"pe_{col}_{row}"] = Instance(
                    ProcessingElement.CELL,
                    i_clk=ClockSignal(),
                    i_rst=ResetSignal(),
                    i_pe=self.pe[:PE_BITS],
                    i_act=getattr(self, f"act_{col}")[: 8 * self.lanes] & mask,
                    i_weight=weights[row],
                    i_drain_load=self.drain_load,
                    i_drain_bank=self.drain_bank,
                    i_drain_index=self.drain_index,
                    i_chain_in=chain[behind] if behind < count else 0,
                    o_chain_out=chain[number],
                    **{f"i_{name}": signal for name, signal in controls.items()},
                )
        for lane in range(lanes):
            m.d.comb += self.heads.word_select(lane, array.acc_bits).eq(chain[lane])
        return m
