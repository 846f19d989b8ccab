"""The processing element: lanes for every kind that the machine serves, one adder tree, accumulators."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..mapper.machine import Machine
from ..mapper.pe import PeKind
from .multiply import Multiply8

__all__ = ["PE_BITS", "ProcessingElement", "act_bits", "weight_bits"]

PE_BITS = max(PeKind).bit_length()


def act_bits(machine: Machine) -> int:
    """Bits of a PE's activation operand: the widest lane set of its kinds."""
    return 8 * max(machine.array.lane_bytes(kind) for kind in machine.array.kinds)


def weight_bits(machine: Machine) -> int:
    """Bits of a PE's weight operand: the widest lane set of its kinds."""
    array = machine.array
    return max(array.lanes(kind) * kind.weight_bits for kind in array.kinds)


class ProcessingElement(Component):
    """Dot product of a lane set into an accumulator file, latency 3, one dot product a cycle.

    Operands at t, products at t + 1, their sum at t + 2 beside its `acc_*` controls, the accumulator at
    t + 3. Two accumulator banks: the array adds to `acc_bank` while POST reads the other.

    The first lanes multiply where the machine serves int8 weights; for ternary and binary weights they take
    −1, 0 or 1 instead. All further lanes keep, negate or drop the activation.

    Ports:
        pe: PeKind, constant while values are in flight.
        act: int8 values, lane 0 in the low byte; 0 in lanes beyond a run.
        weight: values of the kind's weight format, lane 0 in the low bits.
        valid: lanes within the run.
        acc_en, acc_fresh, acc_bank, acc_index: for the sum of two cycles ago; fresh starts at zero.
        drain_en, drain_load, drain_bank, drain_index: take an accumulator into `chain_out`, else `chain_in`;
            nothing while `drain_en` is low.
    """

    CELL = "bw_pe"
    """Name of the module that `rtl/verilog.py` emits once and the array instantiates."""

    def __init__(self, *, machine: Machine) -> None:
        array = machine.array
        self.machine = machine
        self.lanes = max(array.lanes(kind) for kind in array.kinds)
        index = range(array.acc_depth)
        super().__init__(
            {
                "pe": In(PE_BITS),
                "act": In(act_bits(machine)),
                "weight": In(weight_bits(machine)),
                "valid": In(range(self.lanes + 1)),
                "acc_en": In(1),
                "acc_fresh": In(1),
                "acc_bank": In(1),
                "acc_index": In(index),
                "drain_en": In(1),
                "drain_load": In(1),
                "drain_bank": In(1),
                "drain_index": In(index),
                "chain_in": In(signed(array.acc_bits)),
                "chain_out": Out(signed(array.acc_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        array = self.machine.array
        products = [self._product(m, lane) for lane in range(self.lanes)]
        total = Signal(signed(max(len(p) for p in products) + (self.lanes - 1).bit_length()))
        m.d.sync += total.eq(_tree(products))

        drained = Signal(signed(array.acc_bits))
        for number in range(2):
            bank = Memory(shape=signed(array.acc_bits), depth=array.acc_depth, init=[])
            m.submodules[f"bank_{number}"] = bank
            write = bank.write_port()
            read = bank.read_port(domain="comb")
            adding = self.acc_en & (self.acc_bank == number)
            m.d.comb += [
                read.addr.eq(Mux(adding, self.acc_index, self.drain_index)),
                write.addr.eq(self.acc_index),
                write.en.eq(adding),
                write.data.eq(Mux(self.acc_fresh, 0, read.data) + total),
            ]
            with m.If(self.drain_bank == number):
                m.d.comb += drained.eq(read.data)
        with m.If(self.drain_en):
            m.d.sync += self.chain_out.eq(Mux(self.drain_load, drained, self.chain_in))
        return m

    def _product(self, m: Module, lane: int) -> Value:
        """The registered product of one lane."""
        array = self.machine.array
        act = self.act[8 * lane : 8 * lane + 8].as_signed()
        multiplies = PeKind.INT8 in array.kinds and lane < array.lanes(PeKind.INT8)
        keep, negate = Signal(name=f"keep_{lane}"), Signal(name=f"negate_{lane}")
        with m.Switch(self.pe):
            if PeKind.TERNARY_INT8 in array.kinds and lane < array.lanes(PeKind.TERNARY_INT8):
                with m.Case(PeKind.TERNARY_INT8.value):
                    m.d.comb += [
                        keep.eq(self.weight[2 * lane]),
                        negate.eq(self.weight[2 * lane + 1]),
                    ]
            if PeKind.BINARY_INT8 in array.kinds and lane < array.lanes(PeKind.BINARY_INT8):
                with m.Case(PeKind.BINARY_INT8.value):
                    m.d.comb += [keep.eq(1), negate.eq(~self.weight[lane])]
        if not multiplies:
            product = Signal(signed(9), name=f"product_{lane}")
            m.d.sync += product.eq(Mux(keep, Mux(negate, -act, act), 0))
            return product
        m.submodules[f"lane_{lane}"] = multiply = Multiply8(leaf=array.multiplier)
        unit = Cat(keep, (keep & negate).replicate(7))  # −1, 0 or 1
        factor = self.weight[8 * lane : 8 * lane + 8]
        if len(array.kinds) > 1:
            factor = Mux(self.pe == PeKind.INT8, factor, unit)
        m.d.comb += [multiply.a.eq(act), multiply.b.eq(factor)]
        return multiply.p


def _tree(values: Sequence[Value]) -> Value:
    """Sum of `values` as a balanced tree."""
    values = list(values)
    while len(values) > 1:
        pairs = [values[i] + values[i + 1] for i in range(0, len(values) - 1, 2)]
        values = pairs + values[len(values) - len(values) % 2 :]
    return values[0]
