"""How accumulators become activations: rescaled in one of four rounding modes, or counted by thresholds."""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Rounding",
    "check_thresholds",
    "count_thresholds",
    "quantize_multiplier",
    "requantize",
    "rescale",
]

_INT32_MIN, _INT32_MAX = -(1 << 31), (1 << 31) - 1


class Rounding(IntEnum):
    """How x · multiplier / 2^(31 + shift) becomes an integer; the codes stand in programs."""

    TFLITE_DOUBLE = 0
    """Half up to Q0 by 2^31, then half away from zero by 2^shift (gemmlowp, TFLite)."""
    TFLITE_SINGLE = 1
    """Half up, once."""
    HALF_EVEN = 2
    """Ties to even (QONNX, numpy.round)."""
    SHIFT = 3
    """Downwards: an arithmetic shift."""


def _integers(what: str, values: ArrayLike, low: int, high: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise ValueError(f"{what} must be an integer, not {array.dtype}")
    if array.size:
        least, most = int(array.min()), int(array.max())
        if least < low or most > high:
            raise ValueError(f"{what} must be from {low} to {high}, not {least if least < low else most}")
    return array.astype(np.int64)


def rescale(x: ArrayLike, multiplier: ArrayLike, shift: ArrayLike, rounding: Rounding) -> NDArray[np.int64]:
    """The integers x · multiplier / 2^(31 + shift), rounded as `rounding` says; the shapes broadcast.

    Every step fits int64: |x · multiplier| ≤ 2^62, and the largest constant added is 2^61.

    Args:
        x: within int32.
        multiplier: Q0.31, 0..2^31 − 1.
        shift: right shift in bits, 0..31.
        rounding: the mode.

    Raises:
        ValueError: an argument out of its range or not an integer.
    Source: Jacob et al. 2018, eq. 5–6 and gemmlowp's fixed-point arithmetic for code 0.
    """
    p = _integers("x", x, _INT32_MIN, _INT32_MAX) * _integers("a multiplier", multiplier, 0, _INT32_MAX)
    s = _integers("a shift", shift, 0, 31)
    one = np.int64(1)
    shape = np.broadcast_shapes(p.shape, s.shape)
    if p.shape != shape:  # the steps below work in place
        p = np.broadcast_to(p, shape).copy()
    if rounding == Rounding.TFLITE_DOUBLE:
        p += 1 << 30
        p >>= 31
        # Half up, but what is negative one less, so that a tie goes away from zero; nothing where s is 0.
        p += ((one << s) >> 1) + (p >> 63) * (s > 0)
        p >>= s
        return np.asarray(p)
    if rounding == Rounding.TFLITE_SINGLE:
        p += one << (30 + s)
        p >>= 31 + s
        return np.asarray(p)
    if rounding == Rounding.HALF_EVEN:
        below = p >> (31 + s)
        rest, half = p - (below << (31 + s)), one << (30 + s)
        result = below + ((rest > half) | ((rest == half) & (below & 1 == 1)))
    elif rounding == Rounding.SHIFT:
        result = p >> (31 + s)
    else:
        raise ValueError(f"rounding must be one of {[r.name for r in Rounding]}, not {rounding!r}")
    return np.asarray(result, np.int64)


def requantize(
    acc: ArrayLike,
    *,
    multiplier: ArrayLike,
    shift: ArrayLike,
    rounding: Rounding,
    zero_point: int,
    low: int,
    high: int,
    bias: ArrayLike | None = None,
    channel_axis: int = 0,
) -> NDArray[np.int32]:
    """Accumulators as activations: rescaled, moved by `zero_point`, clamped to low..high.

    Args:
        acc: within int32, any shape with K channels on `channel_axis`.
        multiplier: Q0.31, 0..2^31 − 1, shape (K,) or ().
        shift: right shift in bits, 0..31, shape (K,) or ().
        rounding: the mode.
        zero_point: added after rounding.
        low: least result.
        high: greatest result.
        bias: int32 added before, shape (K,) or (); None adds nothing.
        channel_axis: the axis of K in `acc`.

    Returns:
        int32, shape of `acc`.

    Raises:
        ValueError: acc + bias leaves int32, or an argument is out of its range.
    Source: docs/architecture.md, POST.
    """
    if low > high:
        raise ValueError(f"low must not be above high, not {low} and {high}")
    x = _integers("an accumulator", acc, _INT32_MIN, _INT32_MAX)
    along = [1] * x.ndim
    if x.ndim:
        along[channel_axis] = -1

    def channels(values: ArrayLike) -> NDArray[np.int64]:
        array = np.asarray(values)
        return array.reshape(along) if array.ndim else array

    if bias is not None:
        x = x + channels(_integers("a bias", bias, _INT32_MIN, _INT32_MAX))
    scaled = rescale(x, channels(multiplier), channels(shift), rounding)
    return np.clip(scaled + zero_point, low, high).astype(np.int32)


def check_thresholds(values: ArrayLike) -> NDArray[np.int32]:
    """A read-only int32 copy of thresholds, shape (K, T), of which no channel's decrease.

    Raises:
        ValueError: another shape or type, values outside int32, T outside 1..255, or a channel whose
            thresholds decrease.
    """
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind not in "iu" or not array.size:
        raise ValueError(f"thresholds must be integers of shape (K, T), not {array.dtype} of {array.shape}")
    if array.shape[1] > 255:
        raise ValueError(f"thresholds must be 1 to 255 a channel, not {array.shape[1]}")
    array = _integers("a threshold", array, _INT32_MIN, _INT32_MAX)
    falls = np.argwhere(array[:, 1:] < array[:, :-1])
    if falls.size:
        channel, place = (int(n) for n in falls[0])
        raise ValueError(
            f"thresholds of channel {channel} must not decrease: {int(array[channel, place])} stands "
            f"before {int(array[channel, place + 1])}"
        )
    copy = array.astype(np.int32)
    copy.flags.writeable = False
    return copy


def count_thresholds(
    acc: ArrayLike, *, values: ArrayLike, low: int, step: int, channel_axis: int = 0
) -> NDArray[np.int32]:
    """The activations low + step · (how many of the channel's thresholds t have acc ≥ t), int32.

    Args:
        acc: within int32, any shape with K channels on `channel_axis`; the result has it too.
        values: the thresholds, shape (K, T), no row decreasing.
        low: the result below all thresholds.
        step: what each threshold adds.
        channel_axis: the axis of K in `acc`.

    Raises:
        ValueError: an argument out of its range, or thresholds of another number of channels.
    Source: Umuroglu et al. 2017, FINN, section 4.2.2; docs/architecture.md, POST.
    """
    thresholds = check_thresholds(values).astype(np.int64)
    x = _integers("an accumulator", acc, _INT32_MIN, _INT32_MAX)
    channels, count = thresholds.shape
    if x.ndim == 0 or x.shape[channel_axis] != channels:
        raise ValueError(f"thresholds are given for {channels} channels, not for accumulators of {x.shape}")
    x = np.moveaxis(x, channel_axis, 0)
    flat = x.reshape(channels, -1)
    # Channel k's numbers are moved by k · 2^33, which keeps all of them in one ascending row.
    moved = (np.arange(channels, dtype=np.int64) << 33)[:, None]
    counts = np.searchsorted((thresholds + moved).ravel(), (flat + moved).ravel(), side="right")
    counts = counts.reshape(flat.shape) - np.arange(channels)[:, None] * count
    result = (low + step * counts).astype(np.int32)
    return np.moveaxis(result.reshape(x.shape), 0, channel_axis)


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, shift) with multiplier / 2^(31 + shift) nearest to `real`.

    The multiplier is normalised to 2^30..2^31 − 1 where the shift allows: below 2^−32 the shift stays
    31 and precision is lost, down to multiplier 0. Values that round to 1 become 1 − 2^−31.

    Args:
        real: from 0 up to, and without, 1.

    Raises:
        ValueError: `real` is outside 0..1, or not a number.
    """
    if not 0.0 <= real < 1.0:
        raise ValueError(
            f"a requantisation factor must be at least 0 and below 1, not {real}: enlarge the output's scale"
        )
    if real == 0.0:
        return 0, 0
    _, exponent = math.frexp(real)
    shift = min(-exponent, 31)
    multiplier = round(math.ldexp(real, 31 + shift))
    if multiplier == 1 << 31:
        if shift == 0:
            return (1 << 31) - 1, 0
        return 1 << 30, shift - 1
    return multiplier, shift
