"""Products of a PE's lanes: left to synthesis, or one vendor multiplier a lane."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal, signed
from amaranth.lib.wiring import Component, In, Out

__all__ = ["Multiply8"]


class Multiply8(Component):
    """Signed 8 × 8 → 16 bit product, latency 2 (operands and product are registered), one a cycle.

    Args:
        leaf: `inferred`, or `dsp` for the cell `bw_multiply8`, whose vendor forms and behavioural twin lie
            in `rtl/vendor/`.
    """

    def __init__(self, *, leaf: str = "inferred") -> None:
        if leaf not in ("inferred", "dsp"):
            raise ValueError(f"leaf must be 'inferred' or 'dsp', not {leaf!r}")
        self.leaf = leaf
        super().__init__({"a": In(signed(8)), "b": In(signed(8)), "p": Out(signed(16))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.leaf == "inferred":
            a, b = Signal(signed(8)), Signal(signed(8))
            m.d.sync += [a.eq(self.a), b.eq(self.b), self.p.eq(a * b)]
        else:
            m.submodules.leaf = Instance(
                "bw_multiply8",
                i_clk=ClockSignal(),
                i_rst=ResetSignal(),
                i_a=self.a,
                i_b=self.b,
                o_p=self.p,
            )
        return m
