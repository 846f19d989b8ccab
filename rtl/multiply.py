"""Products of a PE's lanes: left to synthesis, a vendor's multiplier, LUTs alone, or two in one DSP block."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, ResetSignal, Signal, Value, signed
from amaranth.lib.wiring import Component, In, Out

__all__ = ["FORMS", "Multiply8", "MultiplyPair8"]

FORMS = ("inferred", "dsp", "lut")
"""Of a product: `inferred` (synthesis chooses), `dsp` (the leaf cell `bw_multiply8` of `rtl/vendor/`), `lut`
(adders, of which synthesis makes no multiplier block)."""


class Multiply8(Component):
    """Signed 8 × 8 → 16 bit product, latency 2 (operands and product are registered), one a cycle.

    The LUT form holds partial sums instead of operands in its first registers.

    Args:
        leaf: one of `FORMS`.
    """

    def __init__(self, *, leaf: str = "inferred") -> None:
        if leaf not in FORMS:
            raise ValueError(f"leaf must be one of {', '.join(FORMS)}, not {leaf!r}")
        self.leaf = leaf
        super().__init__({"a": In(signed(8)), "b": In(signed(8)), "p": Out(signed(16))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.leaf == "inferred":
            a, b = Signal(signed(8)), Signal(signed(8))
            m.d.sync += [a.eq(self.a), b.eq(self.b), self.p.eq(a * b)]
        elif self.leaf == "lut":
            # Booth's digits of b, of base 4 and from −2 to 2: four rows instead of eight.
            rows = [self._booth_row(digit) << (2 * digit) for digit in range(4)]
            low, high = Signal(signed(12)), Signal(signed(12))
            m.d.sync += [
                low.eq(rows[0] + rows[1]),
                high.eq((rows[2] + rows[3]) >> 4),
                self.p.eq(low + (high << 4)),
            ]
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

    def _booth_row(self, digit: int) -> Value:
        """Of the product, the row of a digit of b: bits 2·digit + 1, 2·digit and the one below."""
        below = self.b[2 * digit - 1] if digit else Const(0, 1)
        low, high = self.b[2 * digit], self.b[2 * digit + 1]
        one, two = low ^ below, Mux(high, ~low & ~below, low & below)
        magnitude = Mux(two, self.a << 1, Mux(one, self.a, 0))
        inverted = magnitude ^ high.replicate(len(magnitude)).as_signed()
        return inverted + Cat(high, Const(0, 1)).as_signed()


class MultiplyPair8(Component):
    """Two signed 8 × 8 → 16 bit products that share an operand, latency 2, one pair a cycle, one multiplier.

    (a_high · 2¹⁶ + a_low) · b in one 25 × 18 bit DSP48: a_low · b has its low 16 bits exact and, where it is
    negative, takes one from the upper product, which is added again. Source: Xilinx WP486, "Deep learning
    with INT8 optimization on Xilinx devices", 2017, with 16 bits between the operands: a product's width.

    Ports:
        a_low, a_high, b: operands.
        p_low, p_high: a_low · b and a_high · b, 2 cycles later.
    """

    def __init__(self) -> None:
        operands = {name: In(signed(8)) for name in ("a_low", "a_high", "b")}
        super().__init__({**operands, "p_low": Out(signed(16)), "p_high": Out(signed(16))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        packed, b, product = Signal(signed(25)), Signal(signed(8)), Signal(signed(33))
        m.d.sync += [
            packed.eq((self.a_high << 16) + self.a_low),
            b.eq(self.b),
            product.eq(packed * b),
        ]
        m.d.comb += [
            self.p_low.eq(product[:16]),
            self.p_high.eq(product[16:].as_signed() + product[15]),
        ]
        return m
