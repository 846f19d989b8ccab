"""Population counts of XNOR lanes and of plain bits."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out

from .adder_tree import sum_pipelined

__all__ = ["PopCount"]


class PopCount(Component):
    """How many bits of `a` and `b` differ, latency 3, one count a cycle.

    Args:
        lanes: bits of either operand.

    Ports:
        a, b: operands; a plain count has b = 0.
        count: 0…lanes.
    """

    LATENCY = 3

    def __init__(self, *, lanes: int) -> None:
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes}")
        self.lanes = lanes
        super().__init__({"a": In(lanes), "b": In(lanes), "count": Out(range(lanes + 1))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        differ = self.a ^ self.b
        (count,) = sum_pipelined(m, [*differ], stages=self.LATENCY, name="ones")
        m.d.comb += self.count.eq(count)
        return m
