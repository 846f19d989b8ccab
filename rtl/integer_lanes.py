"""Dot products on int8 activations: multipliers for int8 weights, sign and zero for ternary and binary."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import Component, In, Out

from ..mapper.machine import ArraySpec
from ..mapper.pe import PeKind
from .adder_tree import add_levels, sum_pipelined
from .multiply import Multiply8

__all__ = ["IntegerLanes"]

MULTIPLYING = (PeKind.INT8, PeKind.VECTOR)


class IntegerLanes(Component):
    """Dot product of int8 activations with int8, ternary or binary weights, latency 5, one a cycle.

    The first lanes multiply where the machine serves int8 weights; for ternary and binary weights they take
    −1, 0 or 1 instead. All further lanes keep, invert or drop the activation; that −x = ~x + 1, the tree's
    adders make good as carries. VECTOR is int8 on lane 0; the weights of all other lanes are zero bits.

    Ports:
        pe: PeKind, constant while values are in flight; any other kind than these gives no sum of use.
        act, weight: lane 0 in the low bits, zero bits beyond a run.
        dot: 5 cycles later.
    """

    LATENCY = 5

    def __init__(self, *, array: ArraySpec, pe_bits: int) -> None:
        self.kinds = tuple(kind for kind in array.kinds if kind.act_format == "int8")
        if not self.kinds:
            raise ValueError("the array serves no PE kind with int8 activations")
        self.array = array
        self.lanes = max(array.lanes(kind) for kind in self.kinds)
        self.multiplying = max((array.lanes(kind) for kind in self.kinds if kind in MULTIPLYING), default=0)
        self.weight_bits = max(array.lanes(kind) * kind.weight_bits for kind in self.kinds)
        width = 16 if self.multiplying else 9
        super().__init__(
            {
                "pe": In(pe_bits),
                "act": In(8 * self.lanes),
                "weight": In(self.weight_bits),
                "dot": Out(signed(width + (self.lanes - 1).bit_length())),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        values: list[Value] = []
        plain: list[Value] = []
        negated: list[Value] = []
        for lane in range(self.lanes):
            act = self.act[8 * lane : 8 * lane + 8]
            keep, negate = self._sign(m, lane)
            if lane < self.multiplying:
                m.submodules[f"lane_{lane}"] = multiply = Multiply8(leaf=self.array.multiplier)
                m.d.comb += [multiply.a.eq(act), multiply.b.eq(self._factor(lane, keep, negate))]
                values.append(multiply.p)
            else:
                plain.append(((act & keep.replicate(8)) ^ negate.replicate(8)).as_signed())
                negated.append(negate)
        # The other lanes' first sums take the multipliers' two cycles, of a deep tree more than a level each.
        deep = max(2, (len(plain) - 1).bit_length() - 2)
        # A pair's first adder takes the carry of its first lane.
        carries = negated[::2] + negated[1::2]
        parts, left = add_levels(m, plain, carries, levels=(deep // 2, deep - deep // 2), name="part")
        total = sum_pipelined(m, values + parts, carries=left, stages=self.LATENCY - 2, name="dot")
        m.d.comb += self.dot.eq(total)
        return m

    def _serves(self, kind: PeKind, lane: int) -> bool:
        return kind in self.kinds and lane < self.array.lanes(kind)

    def _sign(self, m: Module, lane: int) -> tuple[Value, Value]:
        """Whether a ternary or binary weight keeps the activation, and whether it negates it."""
        if self.kinds == (PeKind.TERNARY_INT8,):
            return self.weight[2 * lane], self.weight[2 * lane + 1]
        if self.kinds == (PeKind.BINARY_INT8,):
            return Const(1, 1), ~self.weight[lane]
        keep, negate = Signal(name=f"keep_{lane}"), Signal(name=f"negate_{lane}")
        with m.Switch(self.pe):
            if self._serves(PeKind.TERNARY_INT8, lane):
                with m.Case(PeKind.TERNARY_INT8.value):
                    m.d.comb += [keep.eq(self.weight[2 * lane]), negate.eq(self.weight[2 * lane + 1])]
            if self._serves(PeKind.BINARY_INT8, lane):
                with m.Case(PeKind.BINARY_INT8.value):
                    m.d.comb += [keep.eq(1), negate.eq(~self.weight[lane])]
        return keep, negate

    def _factor(self, lane: int, keep: Value, negate: Value) -> Value:
        """The multiplier's second operand."""
        factor = self.weight[8 * lane : 8 * lane + 8]
        multiplying = [kind for kind in MULTIPLYING if kind in self.kinds]
        if len(multiplying) == len(self.kinds):
            return factor
        whole = self.pe.matches(*(kind.value for kind in multiplying))
        return Mux(whole, factor, Cat(keep, (keep & negate).replicate(7)))
