"""Requantiser: accumulator to result, in nine pipeline stages."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import Component, Flow, In, Out

__all__ = ["Requantizer"]

DOUBLE, SINGLE, HALF_EVEN, SHIFT = range(4)
"""Codes of `models.numerics.Rounding`."""
NEAR_BITS = 11
"""Of a value before zero point and clamp: what needs more clamps as the nearest that fits."""


class Requantizer(Component):
    """acc → bias, left shift, multiply, round, zero point, clamp; latency 9, one value a cycle.

    Bit-exact with `models/numerics.py`. Parameters of the channel come with the accumulator; rounding, zero
    point and clamp are constant while values are in flight.

    Args:
        acc_bits: width of an accumulator.
        scales_up: takes `left` and gives `wide`; without it there is no left shift.

    Ports:
        acc: int of `acc_bits`; bias int32, multiplier int32, shift 0…31, left 0…31.
        rounding, zero_point, clamp_low, clamp_high: of the OUTPUT command.
        result: int9 within the clamp, 9 cycles later.
        wide: low 32 bits of the rounded value before zero point and clamp, 9 cycles later.
    """

    LATENCY = 9
    PRODUCT_LATENCY = 4
    """Of which up to the register of the 64-bit product."""

    def __init__(self, *, acc_bits: int, scales_up: bool = False) -> None:
        if not 16 <= acc_bits <= 32:
            raise ValueError(f"acc_bits must be from 16 to 32, not {acc_bits}")
        self.scales_up = scales_up
        ports: dict[str, Flow] = {
            "acc": In(signed(acc_bits)),
            "bias": In(signed(32)),
            "multiplier": In(signed(32)),
            "shift": In(5),
            "rounding": In(2),
            "zero_point": In(signed(9)),
            "clamp_low": In(signed(9)),
            "clamp_high": In(signed(9)),
            "result": Out(signed(9)),
        }
        if scales_up:
            ports |= {"left": In(5), "wide": Out(signed(32))}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # 1: bias; 2: left shift (the mapper has proved that both results fit 32 bits).
        biased, x = Signal(signed(32)), Signal(signed(32))
        multiplier_0, multiplier_1 = Signal(signed(32)), Signal(signed(32))
        shift_0, shift_1 = Signal(5), Signal(5)
        m.d.sync += [
            biased.eq(self.acc + self.bias),
            multiplier_0.eq(self.multiplier),
            shift_0.eq(self.shift),
            x.eq(biased),
            multiplier_1.eq(multiplier_0),
            shift_1.eq(shift_0),
        ]
        if self.scales_up:
            left = Signal(5)
            m.d.sync += [left.eq(self.left), x.eq(biased << left)]

        # 3: four 16-bit partial products, each a hardware multiplier's size.
        low_low = Signal(32)
        low_high = Signal(signed(33))
        high_low = Signal(signed(33))
        high_high = Signal(signed(32))
        shift_2 = Signal(5)
        x_low, x_high = x[:16], x[16:].as_signed()
        c_low, c_high = multiplier_1[:16], multiplier_1[16:].as_signed()
        m.d.sync += [
            low_low.eq(x_low * c_low),
            low_high.eq(x_low * c_high),
            high_low.eq(x_high * c_low),
            high_high.eq(x_high * c_high),
            shift_2.eq(shift_1),
        ]

        # 4: the 64-bit product.
        product = Signal(signed(64))
        shift_3 = Signal(5)
        cross = low_high + high_low
        m.d.sync += [
            product.eq(Cat(low_low, high_high).as_signed() + (cross << 16)),
            shift_3.eq(shift_2),
        ]

        # 5: TFLite's first rounding; the others shift by 31 more afterwards.
        value = Signal(signed(64))
        amount = Signal(6)
        nudged = Signal(signed(64))
        m.d.comb += nudged.eq(product + (1 << 30))
        double = self.rounding == DOUBLE
        m.d.sync += [
            value.eq(Mux(double, nudged >> 31, product)),
            amount.eq(Mux(double, shift_3, shift_3 + 31)),
        ]

        # 6: shift by bytes, keeping the highest bit shifted out and whether any below it was set. Above the
        # bits that are wanted, it is enough to know whether all are the sign.
        wanted = 32 if self.scales_up else NEAR_BITS
        width = wanted + 7
        coarse = Signal(signed(width))
        coarse_dropped = Signal(8)
        coarse_sticky, coarse_sign, coarse_beyond = Signal(), Signal(), Signal()
        fine = Signal(3)
        bytes_out = amount[3:]
        extended = Signal(signed(width + 8))
        sign = value[-1]
        below = [Const(0, 1), Const(0, 1)]
        below += [value[: 8 * (count - 1)].any() for count in range(2, 8)]
        above = [_differs(value[width + 8 * count :], sign) for count in range(8)]
        sticky, beyond = Signal(), Signal()
        with m.Switch(bytes_out):
            for count in range(8):
                with m.Case(count):
                    m.d.comb += [
                        extended.eq(Cat(Const(0, 8), value).as_signed() >> (8 * count)),
                        sticky.eq(below[count]),
                        beyond.eq(above[count]),
                    ]
        m.d.sync += [
            coarse.eq(extended[8:].as_signed()),
            coarse_dropped.eq(extended[:8]),
            coarse_sticky.eq(sticky),
            coarse_sign.eq(sign),
            coarse_beyond.eq(beyond),
            fine.eq(amount[:3]),
        ]

        # 7: shift by bits, then round.
        with_dropped = Cat(coarse_dropped, coarse).as_signed()
        shifted = Signal(signed(wanted + 8))
        m.d.comb += shifted.eq(with_dropped >> fine)
        lost_fine = Signal(8)
        m.d.comb += lost_fine.eq(coarse_dropped & ~(Const(0xFF, 8) << fine))
        quotient = Signal(signed(wanted))
        negative, beyond_wanted = Signal(), Signal()
        half = Signal()
        rest = Signal()
        # Bits that leave the wanted ones at the top, from the highest wanted on.
        upper = [
            (coarse[place] ^ coarse_sign) & (fine <= place - (wanted - 1))
            for place in range(wanted - 1, width)
        ]
        m.d.sync += [
            quotient.eq(shifted[8:].as_signed()),
            negative.eq(coarse_sign),
            beyond_wanted.eq(coarse_beyond | Cat(upper).any()),
            half.eq(shifted[7]),
            rest.eq(coarse_sticky | shifted[:7].any() | lost_fine.any()),
        ]

        # 8: whether to increment; saturate, as anything beyond 10 bits clamps alike.
        up = Signal()
        with m.Switch(self.rounding):
            with m.Case(DOUBLE):  # half away from zero
                m.d.comb += up.eq(half & (rest | ~negative))
            with m.Case(SINGLE):  # half up
                m.d.comb += up.eq(half)
            with m.Case(HALF_EVEN):
                m.d.comb += up.eq(half & (rest | quotient[0]))
            with m.Case(SHIFT):
                m.d.comb += up.eq(0)
        near = Signal(signed(NEAR_BITS))
        increment = Signal()
        overflow = beyond_wanted | _differs(quotient[NEAR_BITS - 1 : wanted - 1], negative)
        lowest = -1 << (NEAR_BITS - 1)
        m.d.sync += [
            near.eq(Mux(overflow, Mux(negative, lowest, ~lowest), quotient[:NEAR_BITS].as_signed())),
            increment.eq(up),
        ]

        # 9: increment, zero point and clamp.
        if self.scales_up:
            low = Signal(32)
            m.d.sync += [low.eq(quotient), self.wide.eq(low + increment)]
        moved = Signal(signed(13))
        m.d.comb += moved.eq(near + increment + self.zero_point)
        with m.If(moved < self.clamp_low):
            m.d.sync += self.result.eq(self.clamp_low)
        with m.Elif(moved > self.clamp_high):
            m.d.sync += self.result.eq(self.clamp_high)
        with m.Else():
            m.d.sync += self.result.eq(moved)
        return m


def _differs(bits: Value, sign: Value) -> Value:
    """Whether any of the bits is not the sign."""
    return (bits ^ sign.replicate(len(bits))).any() if len(bits) else Const(0, 1)
