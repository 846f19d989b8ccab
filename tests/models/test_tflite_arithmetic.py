"""TFLite's rounding in the core's terms, against the kernels' formulas in plain integers."""

from fractions import Fraction

import numpy as np
import pytest
from bitwright.models.importers.tflite_arithmetic import (
    AVERAGE_PIXELS,
    activation_range,
    average_multiplier,
    linear_multiplier,
    mean_multiplier,
    tflite_multiplier,
)
from bitwright.models.numerics import Rounding, rescale


def half_away(numerator: np.ndarray, denominator: int) -> np.ndarray:
    """As the average pool's kernel: half a divisor away from zero, then cut towards it."""
    moved = np.where(numerator > 0, numerator + denominator // 2, numerator - denominator // 2)
    return np.sign(moved) * (np.abs(moved) // denominator)


@pytest.mark.parametrize("rounding", [Rounding.TFLITE_DOUBLE, Rounding.TFLITE_SINGLE, Rounding.HALF_EVEN])
@pytest.mark.parametrize("pixels", [1, 2, 4, 6, 9, 16, 49, 64, 125, 1024, AVERAGE_PIXELS])
def test_an_average_divides_every_sum_as_the_kernel_does(pixels: int, rounding: Rounding) -> None:
    sums = np.arange(-128 * pixels, 127 * pixels + 1)
    found = rescale(sums, average_multiplier(pixels), 0, rounding)
    assert np.array_equal(found, half_away(sums, pixels))


def test_an_average_of_more_pixels_is_refused() -> None:
    with pytest.raises(
        ValueError, match="the mean of 2897 pixels can't be rounded exactly; at most 2896 can"
    ):
        average_multiplier(AVERAGE_PIXELS + 1)


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.5, (1 << 30, 0)),  # 0.5 = 2^30 / 2^31
        (0.75, (3 << 29, 0)),
        (0.25, (1 << 30, 1)),
        (2.0**-32, (1 << 30, 31)),
        (2.0**-33, (0, 0)),  # the shift would pass 31: QuantizeMultiplier gives 0
        (1.0, ((1 << 31) - 1, 0)),
        (1 - 2.0**-40, ((1 << 31) - 1, 0)),  # rounds to 1
    ],
)
def test_a_factor_becomes_the_kernels_multiplier(real: float, expected: tuple[int, int]) -> None:
    assert tflite_multiplier(real) == expected


def test_the_multiplier_for_1_gives_every_sum_back() -> None:
    sums = np.array([-(1 << 30) + 1, -12345, -1, 0, 1, 6, 1 << 29, (1 << 30) - 1])
    for rounding in (Rounding.TFLITE_DOUBLE, Rounding.TFLITE_SINGLE, Rounding.HALF_EVEN):
        assert np.array_equal(rescale(sums, *tflite_multiplier(1.0), rounding), sums)


@pytest.mark.parametrize("real", [1.001, 0.0, -0.5, float("nan"), float("inf")])
def test_a_factor_that_the_core_lacks_is_refused(real: float) -> None:
    with pytest.raises(ValueError, match=r"rescal"):
        tflite_multiplier(real)


def test_a_mean_divides_and_rescales_in_one_step() -> None:
    # 1.5 / 30 = 0.05: the multiplier of 1.5, 0.75 · 2^31 with one bit to the left, times 16, over 30.
    multiplier, shift = mean_multiplier(1.5, 30)
    assert (multiplier, shift) == ((3 << 29) * 16 // 30, 3)
    assert abs(Fraction(multiplier, 1 << (31 + shift)) - Fraction(1, 20)) < Fraction(1, 1 << 31)


@pytest.mark.parametrize("real", [0.25, 0.5, 0.125, 0.0016666667, 0.0103, 0.37, 0.999, 1.0, 1e-9])
def test_a_linear_layers_multiplier_holds_for_every_sum(real: float) -> None:
    least, most, low, high = -60_000, 61_000, -108, 147
    multiplier, shift = linear_multiplier(real, (least, most), (low, high))
    sums = np.arange(least, most + 1)
    exact = sums * real
    wanted = np.clip(np.where(exact >= 0, np.floor(exact + 0.5), np.ceil(exact - 0.5)), low, high)
    found = np.clip(rescale(sums, multiplier, shift, Rounding.TFLITE_SINGLE), low, high)
    assert np.array_equal(found, wanted)


def test_a_linear_layer_that_no_multiplier_serves_is_refused() -> None:
    # 0.53 · 2^31 is 1138166333.44. By ...333, ties stay below a half; by ...334, sums near 2.14e9 come out
    # 2.14e9 · 0.56 / 2^31 = 0.56 too high, and what should be rounded down is rounded up.
    with pytest.raises(
        ValueError, match=r"no multiplier of 31 bits rounds its sums by 0\.53 as its kernel does"
    ):
        linear_multiplier(0.53, (-(1 << 31), (1 << 31) - 1), (1_134_200_000, 1_134_200_300))


def test_an_activation_clamps_as_the_kernel_does() -> None:
    scale = np.float32(0.047)
    # 6 / 0.047 = 127.66 steps above the zero point.
    assert activation_range((0.0, 6.0), scale, -128) == (-128, 0)
    assert activation_range((0.0, 6.0), scale, -10) == (-10, 118)
    assert activation_range((-1.0, 1.0), scale, 3) == (3 - 21, 3 + 21)
    assert activation_range((0.0, float("inf")), scale, 5) == (5, 127)
    assert activation_range(None, scale, 5) == (-128, 127)
