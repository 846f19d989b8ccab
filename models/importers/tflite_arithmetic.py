"""TFLite's int8 arithmetic in the core's terms: multipliers, clamps, and the rounding of an average pool."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..numerics import Rounding, rescale

__all__ = [
    "AVERAGE_PIXELS",
    "IDENTITY",
    "activation_range",
    "average_multiplier",
    "linear_multiplier",
    "multipliers",
    "tflite_multiplier",
]

IDENTITY = (1 << 31) - 1
"""The multiplier that, with shift 0, gives back |x| < 2^30: (x · (2^31 − 1) + 2^30) >> 31 is x."""

AVERAGE_PIXELS = 2896
"""The most pixels of an average pool for which `average_multiplier` is exact."""


def _quantize_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, left shift) as TFLite's QuantizeMultiplier; the factor is multiplier · 2^(left − 31).

    Raises:
        ValueError: the factor is no finite number above 0.
    Source: tensorflow/lite/kernels/internal/quantization_util.cc, without TFLITE_SINGLE_ROUNDING.
    """
    if not (math.isfinite(real) and real > 0):
        raise ValueError(f"a rescaling factor must be finite and above 0, not {real}")
    mantissa, exponent = math.frexp(real)
    multiplier = math.floor(math.ldexp(mantissa, 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, exponent = 1 << 30, exponent + 1
    return (multiplier, exponent) if exponent >= -31 else (0, 0)


def tflite_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, right shift) of TFLite's kernels for a factor up to 1, which gives `IDENTITY`.

    Raises:
        ValueError: the factor is above 1, or no finite number above 0.
    """
    multiplier, left = _quantize_multiplier(real)
    if (multiplier, left) == (1 << 30, 1):
        return IDENTITY, 0
    return _core_shift(real, multiplier, left)


def mean_multiplier(real: float, pixels: int) -> tuple[int, int]:
    """(multiplier, right shift) of a mean: one for rescaling by `real` and division, cut as the kernel does.

    Raises:
        ValueError: the factor of both is above 1, or `real` is no finite number above 0.
    Source: tensorflow/lite/kernels/internal/reference/reduce.h, QuantizedMeanOrSum.
    """
    multiplier, left = _quantize_multiplier(real)
    more = min(pixels.bit_length() - 1, 32, 31 + left)
    multiplier, left = (multiplier << more) // pixels, left - more
    if (multiplier, left) == (1 << 30, 1):
        return IDENTITY, 0
    return _core_shift(real / pixels, multiplier, left)


def linear_multiplier(real: float, sums: tuple[int, int], results: tuple[int, int]) -> tuple[int, int]:
    """(multiplier, right shift) with which TFLITE_SINGLE rounds as the kernel of linear layers does.

    LiteRT's reference kernel of FULLY_CONNECTED, unlike all its others, multiplies in float64 and rounds half
    away from zero (measured with LiteRT 2.3, see tests/models/test_tflite_operators.py). Both ways never
    decrease from one sum to the next, so they are equal for every sum if they are equal on both sides of
    each of the steps between results: that is checked here, so the multiplier is proved.

    Args:
        real: the factor.
        sums: the least and greatest sum that the layer can reach.
        results: the clamp, without the zero point.

    Raises:
        ValueError: the factor is above 1, or no multiplier gives all sums their result.
    """
    multiplier, shift = tflite_multiplier(real)
    steps = np.arange(results[0], results[1]) + 0.5
    around = np.clip(np.floor(steps / real), *sums)[:, None] + np.arange(-2, 4)
    points = np.clip(np.append(around.ravel(), sums), *sums)
    exact = points * real
    wanted = np.clip(np.copysign(np.floor(np.abs(exact) + 0.5), exact), *results)
    for candidate in (multiplier, multiplier + 1, multiplier - 1):
        if not 0 <= candidate < 1 << 31:
            continue
        found = rescale(points.astype(np.int64), candidate, shift, Rounding.TFLITE_SINGLE)
        if np.array_equal(np.clip(found, *results), wanted):
            return candidate, shift
    raise ValueError(f"no multiplier of 31 bits rounds its sums by {real:.6g} as its kernel does")


def _core_shift(real: float, multiplier: int, left: int) -> tuple[int, int]:
    """(multiplier, right shift), where the factor `real` leaves nothing to shift left."""
    if left > 0:
        raise ValueError(f"its results would be rescaled by {real:.6g}, and the core rescales by 1 at most")
    return multiplier, -left


def average_multiplier(pixels: int) -> int:
    """The multiplier that, with shift 0, divides a sum of int8 by `pixels`, half away from zero, as TFLite.

    It is a little more than 2^31 / pixels. So a tie of acc / pixels lies on its far side from zero by
    |acc| / 2^31 at most, and no other sum is that near to a tie: they are 1 / (2 · pixels) away. With
    |acc| ≤ 128 · pixels this holds up to `AVERAGE_PIXELS`, in every rounding to nearest.

    Raises:
        ValueError: `pixels` isn't 1 to AVERAGE_PIXELS.
    """
    if not 1 <= pixels <= AVERAGE_PIXELS:
        raise ValueError(
            f"the mean of {pixels} pixels can't be rounded exactly; at most {AVERAGE_PIXELS} can"
        )
    return IDENTITY if pixels == 1 else (1 << 31) // pixels + 1


def activation_range(
    activation: tuple[float, float] | None, scale: np.float32, zero_point: int
) -> tuple[int, int]:
    """(least, greatest) int8 that a fused activation lets through.

    Raises:
        ValueError: none is let through.
    Source: CalculateActivationRangeQuantized, which divides in float32 and rounds half away from zero.
    """
    low, high = -128, 127
    if activation is not None:
        low = max(low, _quantise(activation[0], scale, zero_point))
        if math.isfinite(activation[1]):
            high = min(high, _quantise(activation[1], scale, zero_point))
    if low > high:
        raise ValueError(f"its activation lets no int8 through, only {low} to {high}")
    return low, high


def _quantise(real: float, scale: np.float32, zero_point: int) -> int:
    steps = float(np.float32(real) / scale)
    return zero_point + int(math.copysign(math.floor(abs(steps) + 0.5), steps))


def multipliers(reals: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(multipliers, shifts) of the factors of all channels, as `tflite_multiplier`."""
    pairs = np.array([tflite_multiplier(float(real)) for real in reals], np.int64).reshape(-1, 2)
    return pairs[:, 0].astype(np.int32), pairs[:, 1].astype(np.int32)
