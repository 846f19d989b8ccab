"""Dot products on int8 activations: multipliers for int8 weights, sign and zero for ternary and binary."""

from __future__ import annotations

from amaranth.hdl import Module, Value, signed
from amaranth.lib.wiring import Component, In, Out

from ..mapper.machine import ArraySpec
from .adder_tree import add_levels, sum_pipelined
from .lane_weights import LaneWeights, multiplying_lanes
from .multiply import Multiply8

__all__ = ["IntegerLanes"]


class IntegerLanes(Component):
    """Dot product of int8 activations with int8, ternary or binary weights, latency 5, one a cycle.

    The first lanes multiply where the machine serves int8 weights; for ternary and binary weights they take
    −1, 0 or 1 instead. All further lanes keep, invert or drop the activation; that −x = ~x + 1, the tree's
    adders make good as carries. VECTOR is int8 on lane 0; the weights of all other lanes are zero bits.
    Where two rows share multipliers, the products come from `PairedProducts`.

    Ports:
        pe: PeKind, constant while values are in flight; any other kind than these gives no sum of use.
        act, weight: lane 0 in the low bits, zero bits beyond a run.
        products: of the multiplying lanes, of the operands of two cycles ago; only of `pair` multipliers.
        dot: 5 cycles later.
    """

    LATENCY = 5

    def __init__(self, *, array: ArraySpec, pe_bits: int) -> None:
        self.kinds = tuple(kind for kind in array.kinds if kind.act_format == "int8")
        if not self.kinds:
            raise ValueError("the array serves no PE kind with int8 activations")
        self.array = array
        self.lanes = max(array.lanes(kind) for kind in self.kinds)
        self.multiplying = multiplying_lanes(array)
        self.paired = array.multiplier == "pair" and self.multiplying > 0
        self.weight_bits = max(array.lanes(kind) * kind.weight_bits for kind in self.kinds)
        width = 16 if self.multiplying else 9
        super().__init__(
            {
                "pe": In(pe_bits),
                "act": In(8 * self.lanes),
                "weight": In(self.weight_bits),
                **({"products": In(16 * self.multiplying)} if self.paired else {}),
                "dot": Out(signed(width + (self.lanes - 1).bit_length())),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        weights = LaneWeights(m, self.array, self.pe, self.weight)
        values: list[Value] = []
        plain: list[Value] = []
        negated: list[Value] = []
        for lane in range(self.lanes):
            act = self.act[8 * lane : 8 * lane + 8]
            if lane < self.multiplying and self.paired:
                values.append(self.products.word_select(lane, 16).as_signed())
            elif lane < self.multiplying:
                m.submodules[f"lane_{lane}"] = multiply = Multiply8(leaf=self.array.multiplier)
                m.d.comb += [multiply.a.eq(act), multiply.b.eq(weights.factor(lane))]
                values.append(multiply.p)
            else:
                keep, negate = weights.sign(lane)
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
