"""Token counters: all that the units know of each other."""

from __future__ import annotations

import functools
import operator

from amaranth.hdl import Module, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ..mapper.isa import TOKENS

__all__ = ["TokenCounters"]

COUNT_BITS = 6
"""Of what a counter holds; until a take is counted down, it may stand at one more."""


class TokenCounters(Component):
    """Eight counters; a post in cycle t is counted from t + 2 (`token_latency`), a take from t + 1.

    Posts and takes are registered first: they come late in their cycle, at the end of the longest paths of
    the units. `present` takes off what is not yet counted down, and is a single gate behind registers.

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
        counts = [Signal(COUNT_BITS + 1, name=f"count_{i}") for i in range(TOKENS)]
        posts = [Signal(TOKENS, name=f"posted_{j}") for j in range(self.posters)]
        taken = Signal(TOKENS)
        takes = [getattr(self, f"take_{j}") for j in range(self.takers)]
        some, one = Signal(TOKENS), Signal(TOKENS)  # counts above 0, counts of 1
        for j, posted in enumerate(posts):
            m.d.sync += posted.eq(getattr(self, f"post_{j}"))
        m.d.sync += taken.eq(functools.reduce(operator.or_, takes))
        for i, count in enumerate(counts):
            # Up to `posters` up and one down, as one small number: one adder as wide as the counter.
            change = Signal(signed(1 + self.posters.bit_length()), name=f"change_{i}")
            following = Signal.like(count, name=f"following_{i}")
            m.d.comb += [
                change.eq(sum(posted[i] for posted in posts) - taken[i]),
                following.eq(count + change),
            ]
            m.d.sync += [
                count.eq(following),
                some[i].eq(following != 0),
                one[i].eq(following == 1),
            ]
        with m.If(self.clear):
            m.d.sync += [signal.eq(0) for signal in (*counts, *posts, taken, some, one)]
        m.d.comb += self.present.eq(some & ~(one & taken))
        return m
