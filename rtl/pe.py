"""The int8 processing element."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..mapper.machine import Machine
from .multiply import Multiply8

__all__ = ["PeInt8"]


class PeInt8(Component):
    """Dot product of int8 lanes into an accumulator file, latency 3, one dot product a cycle.

    Operands at t, products at t + 1, their sum at t + 2 beside its `acc_*` controls, the accumulator at
    t + 3. Two accumulator banks: the array adds to `acc_bank` while POST reads the other.

    Ports:
        act, weight: `lanes` int8 values, lane 0 in the low byte.
        acc_en, acc_fresh, acc_bank, acc_index: for the sum of two cycles ago; fresh starts at zero.
        drain_load, drain_bank, drain_index: take an accumulator into `chain_out`, else take `chain_in`.
    """

    CELL = "bw_pe_int8"
    """Name of the module that `rtl/verilog.py` emits once and the array instantiates."""

    def __init__(self, *, machine: Machine) -> None:
        array = machine.array
        self.machine = machine
        self.lanes = array.lanes(8, 8)
        index = range(array.acc_depth)
        super().__init__(
            {
                "act": In(8 * self.lanes),
                "weight": In(8 * self.lanes),
                "acc_en": In(1),
                "acc_fresh": In(1),
                "acc_bank": In(1),
                "acc_index": In(index),
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
        products = []
        for lane in range(self.lanes):
            multiply = Multiply8(leaf=array.multiplier)
            m.submodules[f"lane_{lane}"] = multiply
            m.d.comb += [
                multiply.a.eq(self.act[8 * lane : 8 * lane + 8].as_signed()),
                multiply.b.eq(self.weight[8 * lane : 8 * lane + 8].as_signed()),
            ]
            products.append(multiply.p)
        total = Signal(signed(16 + (self.lanes - 1).bit_length()))
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
        m.d.sync += self.chain_out.eq(Mux(self.drain_load, drained, self.chain_in))
        return m


def _tree(values: Sequence[Value]) -> Value:
    """Sum of `values` as a balanced tree."""
    values = list(values)
    while len(values) > 1:
        pairs = [values[i] + values[i + 1] for i in range(0, len(values) - 1, 2)]
        values = pairs + values[len(values) - len(values) % 2 :]
    return values[0]
