"""Threshold search: how many of a channel's thresholds an accumulator reaches."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from ..mapper.machine import Machine
from .axi import clog2_shape
from .delay_line import DelayLine

__all__ = ["THRESHOLDS_A_NODE", "ThresholdSearch"]

THRESHOLDS_A_NODE = 3
THRESHOLD_BITS = 32


class ThresholdSearch(Component):
    """low + step · (thresholds not above the accumulator), 9 cycles after the tree's last line; a line a
    cycle where the tree is its root alone, else one each two cycles.

    A node's line holds three thresholds, so a comparison gives a digit of base 4; the digits of all levels
    are the count. Node i's children are 4i + 1 … 4i + 4, so the digit chooses the next line.

    Ports:
        search, root, base: a line is read at t; it is the tree's root; the root's line, held while searched.
        line: that is read at t.
        node: the line's content at t + 2: thresholds in the low 96 bits, lowest first.
        acc: from t + 2 until the last line's content is there.
        low, step: constant while values are in flight; step is 1 or 2.
        result: int9, 9 cycles after the last line's content.
    """

    LATENCY = 9

    def __init__(self, *, machine: Machine) -> None:
        lines = clog2_shape(machine.param_lines)
        super().__init__(
            {
                "search": In(1),
                "root": In(1),
                "base": In(lines),
                "line": Out(lines),
                "node": In(128),
                "acc": In(signed(machine.array.acc_bits)),
                "low": In(signed(9)),
                "step": In(2),
                "result": Out(signed(9)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # t + 2: three comparisons, each the sign of a difference, and the digit.
        reached = Signal(THRESHOLDS_A_NODE)
        for i in range(THRESHOLDS_A_NODE):
            threshold = self.node.word_select(i, THRESHOLD_BITS).as_signed()
            m.d.comb += reached[i].eq(~(self.acc - threshold)[-1])
        digit = Signal(2)
        m.d.comb += digit.eq(Cat(reached[0] & (~reached[1] | reached[2]), reached[1]))

        # The next line: the digit only chooses among all that it may be.
        number, above = Signal(7), Signal(7)  # of the node last read, and the one after it
        children = [Signal.like(self.line, name=f"child_{i}") for i in range(4)]
        below = Signal.like(self.line)
        m.d.comb += below.eq(self.base + (number << 2))
        searched = Signal()
        m.d.sync += searched.eq(self.search)
        low = Mux(reached[0], children[1], children[0])
        high = Mux(reached[0] & reached[2], children[3], children[2])
        m.d.comb += self.line.eq(Mux(self.root, self.base, Mux(reached[1], high, low)))
        with m.If(self.search):
            following = Mux(digit == 3, above << 2, Cat((digit + 1)[:2], number))
            m.d.sync += number.eq(Mux(self.root, 0, following))
        with m.If(searched):
            m.d.sync += above.eq(number + 1)
            m.d.sync += [child.eq(below + 1 + i) for i, child in enumerate(children)]

        # t + 3: the count, delayed until the requantiser beside it is as far.
        compared, root, root_compared = Signal(), Signal(), Signal()
        m.d.sync += [compared.eq(searched), root.eq(self.root), root_compared.eq(root)]
        count = Signal(8)
        with m.If(compared):
            m.d.sync += count.eq(Cat(digit, Mux(root_compared, 0, count[:6])))
        m.submodules.counts = counts = DelayLine(width=len(count), cycles=self.LATENCY - 2)
        m.d.comb += counts.given.eq(count)
        count = counts.delayed
        m.d.sync += self.result.eq(self.low + Mux(self.step[1], count << 1, count))
        return m
