"""What the weight of a lane does to an int8 activation: a factor, or a sign and a zero."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from ..mapper.machine import ArraySpec
from ..mapper.pe import PeKind

__all__ = ["LaneWeights", "multiplying_lanes"]

MULTIPLYING = (PeKind.INT8, PeKind.VECTOR)


def multiplying_lanes(array: ArraySpec) -> int:
    """Lanes, from 0 on, that have a multiplier."""
    return max((array.lanes(kind) for kind in array.kinds if kind in MULTIPLYING), default=0)


class LaneWeights:
    """A weight word, read in whichever way the PE kind asks for.

    Not a component: its statements are added where its values are asked for.

    Args:
        m: takes the statements.
        array: whose kinds may be asked for.
        pe: PeKind.
        weight: a weight word, lane 0 in the low bits.
    """

    def __init__(self, m: Module, array: ArraySpec, pe: Value, weight: Value) -> None:
        self.m = m
        self.array = array
        self.kinds = tuple(kind for kind in array.kinds if kind.act_format == "int8")
        self.pe = pe
        self.weight = weight

    def sign(self, lane: int) -> tuple[Value, Value]:
        """Whether a ternary or binary weight keeps the activation, and whether it negates it."""
        if self.kinds == (PeKind.TERNARY_INT8,):
            return self.weight[2 * lane], self.weight[2 * lane + 1]
        if self.kinds == (PeKind.BINARY_INT8,):
            return Const(1, 1), ~self.weight[lane]
        m = self.m
        keep, negate = Signal(name=f"keep_{lane}"), Signal(name=f"negate_{lane}")
        with m.Switch(self.pe):
            if self._serves(PeKind.TERNARY_INT8, lane):
                with m.Case(PeKind.TERNARY_INT8.value):
                    m.d.comb += [keep.eq(self.weight[2 * lane]), negate.eq(self.weight[2 * lane + 1])]
            if self._serves(PeKind.BINARY_INT8, lane):
                with m.Case(PeKind.BINARY_INT8.value):
                    m.d.comb += [keep.eq(1), negate.eq(~self.weight[lane])]
        return keep, negate

    def factor(self, lane: int) -> Value:
        """What a multiplying lane multiplies by: an int8 weight, or −1, 0, 1 for the others."""
        factor = self.weight[8 * lane : 8 * lane + 8]
        multiplying = [kind for kind in MULTIPLYING if kind in self.kinds]
        if len(multiplying) == len(self.kinds):
            return factor
        keep, negate = self.sign(lane)
        whole = self.pe.matches(*(kind.value for kind in multiplying))
        return Mux(whole, factor, Cat(keep, (keep & negate).replicate(7)))

    def _serves(self, kind: PeKind, lane: int) -> bool:
        return kind in self.kinds and lane < self.array.lanes(kind)
