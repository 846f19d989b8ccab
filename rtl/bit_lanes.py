"""Dot products of binary and of ternary operands: no multiplier, one population count."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib.wiring import Component, In, Out

from ..mapper.pe import PeKind
from .popcount import PopCount

__all__ = ["BitLanes"]


class BitLanes(Component):
    """Dot product of binary or ternary lanes, combinational from registers, of 5 cycles ago, one a cycle.

    Binary: of n valid lanes those that differ count −1, the others 1: dot = n − 2·ones(weight ^ act).
    Ternary: a lane counts 1 + its product, so dot = count − lanes. Where both are served, one count over all
    operand bits is shared: a ternary product p gives the two bits `p < 0` and `p <= 0`, dot = lanes − ones.

    Args:
        lanes: PeKind.BINARY or TERNARY, or both → lanes; where both, binary has twice as many.
        leaf: vendor form of the count.

    Ports:
        binary: which of both; constant while values are in flight.
        act, weight: lane 0 in the low bits, zero bits beyond a run.
        valid: lanes within the run.
        dot: after 5 cycles.
    """

    LATENCY = PopCount.LATENCY

    def __init__(self, *, lanes: dict[PeKind, int], leaf: str = "behavioural") -> None:
        bits = {lanes[kind] * kind.weight_bits for kind in lanes}
        if not lanes or not set(lanes) <= {PeKind.BINARY, PeKind.TERNARY} or len(bits) != 1:
            raise ValueError(f"lanes must be of binary, ternary or both, of equally many bits, not {lanes}")
        if lanes.get(PeKind.TERNARY, 1).bit_count() != 1:
            raise ValueError(f"ternary lanes must be a power of two, not {lanes[PeKind.TERNARY]}")
        self.lanes = lanes
        self.leaf = leaf
        self.bits = bits.pop()
        super().__init__(
            {
                "binary": In(1),
                "act": In(self.bits),
                "weight": In(self.bits),
                "valid": In(range(self.bits + 1)),
                "dot": Out(signed(self.bits.bit_length() + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ternary = set(self.lanes) == {PeKind.TERNARY}
        count = PopCount(lanes=self.bits // 2 if ternary else self.bits, ternary=ternary, leaf=self.leaf)
        m.submodules.count = count
        m.d.comb += [count.a.eq(self.act), count.b.eq(self.weight)]
        if ternary:
            m.d.comb += self.dot.eq(_less_half(count.count, count.lanes))
        elif PeKind.TERNARY not in self.lanes:
            m.d.comb += self.dot.eq(self._valid(m) - (count.count << 1))
        else:
            below = [_not_positive(a, b) for a, b in zip(_pairs(self.act), _pairs(self.weight), strict=True)]
            with m.If(self.binary):
                m.d.comb += self.dot.eq(self._valid(m) - (count.count << 1))
            with m.Else():
                m.d.comb += [
                    count.a.eq(Cat(*below)),
                    count.b.eq(0),
                    self.dot.eq(self.bits // 2 - count.count),
                ]
        return m

    def _valid(self, m: Module) -> Signal:
        """`valid` of 5 cycles ago."""
        value = self.valid
        for number in range(self.LATENCY):
            stage = Signal.like(value, name=f"valid_{number + 1}")
            m.d.sync += stage.eq(value)
            value = stage
        return value


def _less_half(count: Value, half: int) -> Value:
    """`count` − `half`, for a count up to twice `half`, a power of two: without a carry chain."""
    low, high = count[: half.bit_length() - 1], count[half.bit_length() - 1 :]
    return Cat(low, ~high[0], ~(high[0] | high[1])).as_signed()


def _pairs(word: Value) -> list[Value]:
    return [word.word_select(lane, 2) for lane in range(len(word) // 2)]


def _not_positive(a: Value, b: Value) -> Value:
    """Of a ternary product p: `p < 0` and `p <= 0`."""
    nonzero, signs_differ = a[0] & b[0], a[1] ^ b[1]
    return Cat(nonzero & signs_differ, ~nonzero | signs_differ)
