"""Population counts of XNOR lanes, of ternary lanes and of plain bits."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Value
from amaranth.lib.wiring import Component, In, Out

from .adder_tree import sum_pipelined
from .compressor import Lane, compress

__all__ = ["LEAVES", "PopCount"]

LEAVES = ("behavioural", "ecp5", "xilinx")
"""Vendor forms: adders that synthesis maps, or the carry chains of `rtl/vendor/`."""


class PopCount(Component):
    """Sum over lanes from operands of 5 cycles ago, one a cycle: bits that differ, or 1 + a ternary product.

    In the vendors' forms a register follows each level of adders up to 32 bits; a level more, that ternary
    lanes need, is combinational after the last one. Of more bits the first stages take two levels each.

    Args:
        lanes: of either operand.
        ternary: lanes are of 2 bits, two's complement −1, 0 or 1, and a lane counts 1 + a · b;
            else of 1 bit, and a lane counts a ^ b (a plain count has b = 0).
        leaf: vendor form.

    Ports:
        a, b: operands.
        count: 5 cycles later.
    """

    LATENCY = 5

    def __init__(self, *, lanes: int, ternary: bool = False, leaf: str = "behavioural") -> None:
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes}")
        if leaf not in LEAVES:
            raise ValueError(f"leaf must be one of {', '.join(LEAVES)}, not {leaf!r}")
        self.lanes = lanes
        self.ternary = ternary
        self.leaf = leaf
        self.total = 2 * lanes if ternary else lanes
        bits = 2 * lanes if ternary else lanes
        super().__init__({"a": In(bits), "b": In(bits), "count": Out(range(self.total + 1))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.leaf == "behavioural":
            count = sum_pipelined(m, self._bits(), stages=self.LATENCY, name="ones")
        else:
            width = 2 if self.ternary else 1
            lanes = [
                Lane(self.a.word_select(n, width), self.b.word_select(n, width)) for n in range(self.lanes)
            ]
            twice = max(0, (len(self.a) - 1).bit_length() - 5)
            cuts = [stage + min(stage, twice) for stage in range(1, self.LATENCY + 1)]
            count = Cat(compress(m, [lanes], total=self.total, leaf=self.leaf, cuts=cuts))
        m.d.comb += self.count.eq(count)
        return m

    def _bits(self) -> list[Value]:
        """Bits that hold a one for each that is counted."""
        if not self.ternary:
            return [*(self.a ^ self.b)]
        bits = []
        for lane in range(self.lanes):
            a, b = self.a.word_select(lane, 2), self.b.word_select(lane, 2)
            nonzero, signs_differ = a[0] & b[0], a[1] ^ b[1]
            bits += [nonzero & ~signs_differ, ~nonzero | ~signs_differ]
        return bits
