import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from bitwright.models.numerics import Rounding, quantize_multiplier, requantize, rescale

TOP = 2**31 - 1
CORNERS_X = [-(2**31), -(2**31) + 1, -(2**30), -3, -2, -1, 0, 1, 2, 3, 2**30 - 1, 2**30, TOP - 1, TOP]
CORNERS_M = [0, 1, 2, 3, 2**29, 2**30 - 1, 2**30, 2**30 + 1, 3 * 2**29, TOP - 1, TOP]


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def half_away(value: Fraction) -> int:
    return half_up(value) if value >= 0 else -half_up(-value)


def oracle(x: int, multiplier: int, shift: int, rounding: Rounding) -> int:
    """The POST table of docs/architecture.md in exact fractions."""
    product = Fraction(x * multiplier)
    exact = product / 2 ** (31 + shift)
    if rounding == Rounding.TFLITE_DOUBLE:
        return half_away(Fraction(half_up(product / 2**31), 2**shift))
    if rounding == Rounding.TFLITE_SINGLE:
        return half_up(exact)
    if rounding == Rounding.HALF_EVEN:
        return round(exact)  # Fraction rounds half to even
    return math.floor(exact)


def gemmlowp(x: int, multiplier: int, shift: int) -> int:
    """SaturatingRoundingDoublingHighMul and RoundingDivideByPOT as gemmlowp writes them."""
    product = x * multiplier
    nudge = 2**30 if product >= 0 else 1 - 2**30
    high = abs(product + nudge) // 2**31 * (1 if product + nudge >= 0 else -1)  # C truncates
    mask = 2**shift - 1
    return (high >> shift) + ((high & mask) > (mask >> 1) + (high < 0))


@pytest.mark.parametrize("rounding", list(Rounding))
def test_rescale_equals_exact_fractions_in_the_corners(rounding: Rounding) -> None:
    cases = list(itertools.product(CORNERS_X, CORNERS_M, [0, 1, 2, 15, 30, 31]))
    x, m, s = (np.array(column) for column in zip(*cases, strict=True))
    assert rescale(x, m, s, rounding).tolist() == [oracle(*case, rounding) for case in cases]


@pytest.mark.parametrize("rounding", list(Rounding))
def test_rescale_equals_exact_fractions_at_random(rounding: Rounding) -> None:
    rng = np.random.default_rng(int(rounding))
    n = 4000
    x = (rng.integers(-(2**31), 2**31, n) >> rng.integers(0, 31, n)).astype(np.int64)
    m, s = rng.integers(0, 2**31, n) >> rng.integers(0, 4, n), rng.integers(0, 32, n)
    expected = [oracle(*case, rounding) for case in zip(x.tolist(), m.tolist(), s.tolist(), strict=True)]
    assert rescale(x, m, s, rounding).tolist() == expected


@pytest.mark.parametrize("rounding", list(Rounding))
def test_rescale_breaks_ties_as_its_name_says(rounding: Rounding) -> None:
    # multiplier 2^30 and shift 2 divide by 8: x = 4 + 8·n is a tie, between n and n + 1.
    x = 4 + 8 * np.arange(-6, 6)
    expected = [oracle(int(value), 2**30, 2, rounding) for value in x]
    assert rescale(x, 2**30, 2, rounding).tolist() == expected
    by_hand = {
        Rounding.TFLITE_DOUBLE: [-2, -1, 1, 2],
        Rounding.TFLITE_SINGLE: [-1, 0, 1, 2],
        Rounding.HALF_EVEN: [-2, 0, 0, 2],
        Rounding.SHIFT: [-2, -1, 0, 1],
    }
    assert rescale([-12, -4, 4, 12], 2**30, 2, rounding).tolist() == by_hand[rounding]


def test_double_rounding_equals_gemmlowp() -> None:
    rng = np.random.default_rng(5)
    cases = list(itertools.product(CORNERS_X, CORNERS_M, range(32)))
    cases += [
        (int(x), int(m), int(s))
        for x, m, s in zip(
            rng.integers(-(2**31), 2**31, 2000),
            rng.integers(0, 2**31, 2000),
            rng.integers(0, 32, 2000),
            strict=True,
        )
    ]
    x, m, s = (np.array(column) for column in zip(*cases, strict=True))
    assert rescale(x, m, s, Rounding.TFLITE_DOUBLE).tolist() == [gemmlowp(*case) for case in cases]


def test_requantize_adds_bias_and_zero_point_by_channel_and_clamps() -> None:
    rng = np.random.default_rng(3)
    acc = rng.integers(-5000, 5000, (2, 3, 4))
    bias, m, s = np.array([10, -20, 3000]), np.array([2**30, TOP, 2**29]), np.array([4, 5, 2])
    got = requantize(
        acc, multiplier=m, shift=s, rounding=Rounding.TFLITE_SINGLE, zero_point=-7, low=-100, high=90,
        bias=bias, channel_axis=1,
    )  # fmt: skip
    expected = np.empty_like(acc)
    for b, k, i in np.ndindex(*acc.shape):
        y = oracle(int(acc[b, k, i] + bias[k]), int(m[k]), int(s[k]), Rounding.TFLITE_SINGLE) - 7
        expected[b, k, i] = min(max(y, -100), 90)
    assert np.array_equal(got, expected)
    assert {-100, 90} <= set(got.ravel().tolist())


@pytest.mark.parametrize(
    ("x", "m", "s", "text"),
    [
        (2**31, 1, 0, "x must be from -2147483648"),
        (0, -1, 0, "a multiplier must be from 0 to 2147483647, not -1"),
        (0, 1, 32, "a shift must be from 0 to 31, not 32"),
        (0.5, 1, 0, "x must be an integer"),
    ],
)
def test_rescale_refuses_what_the_hardware_cannot_hold(x: float, m: int, s: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        rescale(x, m, s, Rounding.SHIFT)


def test_quantized_multipliers_are_the_nearest() -> None:
    rng = np.random.default_rng(11)
    reals = [float(r) for r in np.concatenate([rng.random(300), 2.0 ** -rng.uniform(0, 70, 300)])]
    for real in [*reals, 0.5, 0.25, 2.0**-32, 2.0**-33, 2.0**-62, 2.0**-64, 1e-300, 0.0, 0.5 - 2.0**-34]:
        multiplier, shift = quantize_multiplier(real)
        assert 0 <= multiplier <= TOP and 0 <= shift <= 31
        assert real == 0.0 or shift == 31 or multiplier >= 2**30
        step = Fraction(1, 2 ** (31 + shift))
        assert abs(multiplier * step - Fraction(real)) <= step / 2


def test_a_multiplier_that_rounds_to_one_stays_below_it() -> None:
    assert quantize_multiplier(math.nextafter(1.0, 0.0)) == (TOP, 0)
    assert quantize_multiplier(math.nextafter(0.5, 0.0)) == (2**30, 0)


@pytest.mark.parametrize("real", [1.0, 2.0, -0.1, math.nan, math.inf])
def test_a_factor_outside_0_to_1_is_refused(real: float) -> None:
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        quantize_multiplier(real)
