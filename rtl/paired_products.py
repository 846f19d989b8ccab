"""Int8 products of two rows: one wide multiplier for both, since their activation is the same."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out

from ..mapper.machine import ArraySpec
from ..mapper.pe import PeKind
from .lane_weights import LaneWeights, multiplying_lanes
from .multiply import Multiply8, MultiplyPair8

__all__ = ["PairedProducts"]


class PairedProducts(Component):
    """All multiplying lanes' products of two rows of a column, latency 2, a set of lanes a cycle.

    VECTOR gives each row a lane 0 of its own, so that where the array serves it lane 0 has two multipliers.

    Ports:
        pe: PeKind, constant while values are in flight.
        act_low, act_high: the rows' operands, alike but for lane 0 of VECTOR.
        weight_low, weight_high: the rows' weight words.
        products_low, products_high: 16 bits a lane.
    """

    CELL = "bw_paired_products"
    """Name of the module that `rtl/verilog.py` emits once and the array instantiates."""

    def __init__(self, *, array: ArraySpec, pe_bits: int, act_bits: int, weight_bits: int) -> None:
        self.array = array
        self.lanes = multiplying_lanes(array)
        if not self.lanes:
            raise ValueError("the array serves no PE kind that multiplies")
        super().__init__(
            {
                "pe": In(pe_bits),
                **{f"act_{row}": In(act_bits) for row in ("low", "high")},
                **{f"weight_{row}": In(weight_bits) for row in ("low", "high")},
                **{f"products_{row}": Out(16 * self.lanes) for row in ("low", "high")},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        low = m.submodules.low = Module()
        high = m.submodules.high = Module()
        weights_low = LaneWeights(low, self.array, self.pe, self.weight_low)
        weights_high = LaneWeights(high, self.array, self.pe, self.weight_high)
        apart = 1 if PeKind.VECTOR in self.array.kinds else 0
        for lane in range(self.lanes):
            byte = slice(8 * lane, 8 * lane + 8)
            p_low, p_high = (
                products.word_select(lane, 16) for products in (self.products_low, self.products_high)
            )
            factors = (weights_low.factor(lane), weights_high.factor(lane))
            if lane < apart:
                rows = zip((self.act_low, self.act_high), factors, (p_low, p_high), strict=True)
                for row, (act, factor, product) in zip(("low", "high"), rows, strict=True):
                    m.submodules[f"lane_{lane}_{row}"] = single = Multiply8()
                    m.d.comb += [single.a.eq(act[byte]), single.b.eq(factor), product.eq(single.p)]
            else:
                m.submodules[f"lane_{lane}"] = pair = MultiplyPair8()
                m.d.comb += [
                    pair.b.eq(self.act_low[byte]),
                    pair.a_low.eq(factors[0]),
                    pair.a_high.eq(factors[1]),
                    p_low.eq(pair.p_low),
                    p_high.eq(pair.p_high),
                ]
        return m
