"""The processing element: lanes for every kind that the machine serves, and accumulators."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..mapper.machine import Machine
from ..mapper.pe import PeKind
from .bit_lanes import BitLanes
from .integer_lanes import IntegerLanes

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
    """Dot product of a lane set into an accumulator file, latency 5, one dot product a cycle.

    Operands at t, their sum at t + 4 beside its `acc_*` controls, the accumulator at t + 5. Two accumulator
    banks: the array adds to `acc_bank` while POST reads the other. Only the lanes that the machine's kinds
    need are built: `IntegerLanes` for int8 activations, `BitLanes` for ternary and binary ones.

    Args:
        leaf: vendor form of the cells that it uses, see `popcount.LEAVES`.

    Ports:
        pe: PeKind, constant while values are in flight.
        act: values of the kind's activation format, lane 0 in the low bits; zero bits beyond a run.
        weight: values of the kind's weight format, lane 0 in the low bits; zero bits beyond a run, and for
            VECTOR beyond lane 0.
        valid: lanes within the run.
        acc_en, acc_fresh, acc_bank, acc_index: for the operands of four cycles ago; fresh starts at zero.
        drain_en, drain_load, drain_bank, drain_index: take an accumulator into `chain_out`, else `chain_in`;
            nothing while `drain_en` is low.
    """

    CELL = "bw_pe"
    """Name of the module that `rtl/verilog.py` emits once and the array instantiates."""
    SUM_LATENCY = 4
    """Cycles from the operands to the sum that is added next."""

    def __init__(self, *, machine: Machine, leaf: str = "behavioural") -> None:
        array = machine.array
        self.machine = machine
        self.leaf = leaf
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
        dot = self._dot(m)
        total = Signal(dot.shape())
        m.d.sync += total.eq(dot)

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

    def _dot(self, m: Module) -> Value:
        """The dot product of the operands of three cycles ago."""
        array = self.machine.array
        bit_kinds = {kind: array.lanes(kind) for kind in array.kinds if kind.act_bits < 8}
        dots: list[Value] = []
        if len(bit_kinds) < len(array.kinds):
            m.submodules.integer = integer = IntegerLanes(array=array, pe_bits=PE_BITS)
            m.d.comb += [
                integer.pe.eq(self.pe),
                integer.act.eq(self.act),
                integer.weight.eq(self.weight),
            ]
            dots.append(integer.dot)
        if bit_kinds:
            m.submodules.bits = bits = BitLanes(lanes=bit_kinds, leaf=self.leaf)
            m.d.comb += [
                bits.binary.eq(self.pe == PeKind.BINARY),
                bits.act.eq(self.act),
                bits.weight.eq(self.weight),
                bits.valid.eq(self.valid),
            ]
            dots.append(bits.dot)
        if len(dots) == 1:
            return dots[0]
        integer_dot, bits_dot = dots
        return Mux(self.pe.matches(*(kind.value for kind in bit_kinds)), bits_dot, integer_dot)
