"""Token counters: all that the units know of each other."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from ..mapper.isa import TOKENS

__all__ = ["TokenCounters"]

COUNT_BITS = 6


class TokenCounters(Component):
    """Eight counters; a post in cycle t is counted from t + 2 (`token_latency`), a take from t + 1.

    Posts are registered first: they come late in their cycle, at the end of the longest paths of the units.

    Args:
        takers: units that wait on tokens; each counter is waited on by one of them only.
        posters: sources of tokens.

    Ports:
        clear: all counters to zero, and no post under way.
        present: a bit a counter, set while it is above zero.
        take_<i>: mask of counters that taker i takes down by one.
        post_<i>: mask of counters that poster i takes up by one.
    """

    def __init__(self, *, takers: int, posters: int) -> None:
        self.takers = takers
        self.posters = posters
        super().__init__(
            {
                "clear": In(1),
                "present": Out(TOKENS),
                **{f"take_{i}": In(TOKENS) for i in range(takers)},
                **{f"post_{i}": In(TOKENS) for i in range(posters)},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        counts = Array(Signal(COUNT_BITS, name=f"count_{i}") for i in range(TOKENS))
        posts = [Signal(TOKENS, name=f"posted_{j}") for j in range(self.posters)]
        for j, posted in enumerate(posts):
            m.d.sync += posted.eq(Mux(self.clear, 0, getattr(self, f"post_{j}")))
        for i, count in enumerate(counts):
            up = sum(posted[i] for posted in posts)
            down = sum(getattr(self, f"take_{j}")[i] for j in range(self.takers))
            m.d.sync += count.eq(count + up - down)
            with m.If(self.clear):
                m.d.sync += count.eq(0)
            m.d.comb += self.present[i].eq(count != 0)
        return m
