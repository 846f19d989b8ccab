"""Dot products of binary and of ternary operands: no multiplier, one population count."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import Component, In, Out

from ..mapper.pe import PeKind
from .popcount import PopCount

__all__ = ["BitLanes"]


class BitLanes(Component):
    """Dot product of binary or ternary lanes, combinational from registers of 3 cycles ago, one a cycle.

    Binary: of n valid lanes those that differ count −1, the others 1: dot = n − 2·ones(weight ^ act).
    Ternary: a lane's product p is −1, 0 or 1; the two bits `p < 0` and `p <= 0` hold 1 − p ones, so
    dot = lanes − ones. Either way one count over all operand bits, which both kinds therefore share.

    Args:
        lanes: PeKind.BINARY or TERNARY, or both → lanes; where both, binary has twice as many.

    Ports:
        binary: which of both; constant while values are in flight.
        act, weight: lane 0 in the low bits, zero bits beyond a run.
        valid: lanes within the run.
        dot: after 3 cycles.
    """

    LATENCY = PopCount.LATENCY

    def __init__(self, *, lanes: dict[PeKind, int]) -> None:
        bits = {lanes[kind] * kind.weight_bits for kind in lanes}
        if not lanes or not set(lanes) <= {PeKind.BINARY, PeKind.TERNARY} or len(bits) != 1:
            raise ValueError(f"lanes must be of binary, ternary or both, of equally many bits, not {lanes}")
        self.lanes = lanes
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
        m.submodules.ones = ones = PopCount(lanes=self.bits)
        base = Signal(range(self.bits + 1))
        if PeKind.TERNARY not in self.lanes:
            m.d.comb += [ones.a.eq(self.act), ones.b.eq(self.weight)]
            m.d.comb += base.eq(self._delayed(m))
        else:
            below: list[Value] = []
            for lane in range(self.bits // 2):
                below += _not_positive(self.act.word_select(lane, 2), self.weight.word_select(lane, 2))
            m.d.comb += [ones.a.eq(Cat(below)), base.eq(self.bits // 2)]
            if PeKind.BINARY in self.lanes:
                with m.If(self.binary):
                    m.d.comb += [ones.a.eq(self.act ^ self.weight), base.eq(self._delayed(m))]
        twice = PeKind.BINARY in self.lanes
        both = twice and PeKind.TERNARY in self.lanes
        count = ones.count << 1 if twice else ones.count
        m.d.comb += self.dot.eq(base - (Mux(self.binary, count, ones.count) if both else count))
        return m

    def _delayed(self, m: Module) -> Signal:
        """`valid` of 3 cycles ago."""
        value = self.valid
        for number in range(self.LATENCY):
            stage = Signal.like(value, name=f"valid_{number + 1}")
            m.d.sync += stage.eq(value)
            value = stage
        return value


def _not_positive(a: Value, b: Value) -> tuple[Value, Value]:
    """Of a ternary product p: `p < 0` and `p <= 0`."""
    nonzero, signs_differ = a[0] & b[0], a[1] ^ b[1]
    return nonzero & signs_differ, ~nonzero | signs_differ
