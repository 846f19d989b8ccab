"""POST's kernels: what an accumulator tile becomes, by requantising, thresholds or addition.

Pure functions over typed arrays; the output buffer wraps modulo its size. docs/architecture.md,
"What the commands do", is the text that they follow.
"""

from __future__ import annotations

from typing import Any

from ..models.jit import njit

__all__ = ["count_thresholds_one", "drain_tile", "requantize_one", "rescale_one"]

_THRESHOLDS, _ADD, _PLANES = 1, 2, 3  # isa.PostMode, of which a kernel takes plain numbers
_ENTRY = 16  # bytes of a channel in a parameter line


@njit
def rescale_one(x: int, multiplier: int, shift: int, rounding: int) -> int:
    """The integer x · multiplier / 2^(31 + shift), rounded by POST's table in docs/architecture.md.

    It needs x within int32 and a multiplier from 0 to 2^31 - 1; then nothing passes int64.
    """
    product = x * multiplier
    if rounding == 0:
        high_part = (product + (1 << 30)) >> 31
        mask = (1 << shift) - 1
        threshold = (mask >> 1) + (1 if high_part < 0 else 0)
        return (high_part >> shift) + (1 if (high_part & mask) > threshold else 0)
    if rounding == 1:
        return (product + (1 << (30 + shift))) >> (31 + shift)
    scaled = product >> (31 + shift)
    if rounding == 2:
        rest = product - (scaled << (31 + shift))
        middle = 1 << (30 + shift)
        if rest > middle or (rest == middle and scaled & 1):
            scaled += 1
    return scaled


@njit
def requantize_one(
    acc: int,
    bias: int,
    left: int,
    multiplier: int,
    shift: int,
    rounding: int,
    zero: int,
    low: int,
    high: int,
) -> int:
    """The int8 result of one accumulator; (acc + bias) · 2^left must fit int32."""
    scaled = rescale_one((acc + bias) << left, multiplier, shift, rounding)
    return int(min(max(scaled + zero, low), high))


@njit
def _word(data: Any, row: int, start: int) -> int:
    """The signed 32-bit little-endian number at `data[row, start]`."""
    number = 0
    for i in range(4):
        number |= int(data[row, start + i]) << (8 * i)
    if number >= 1 << 31:
        number -= 1 << 32
    return number


@njit
def count_thresholds_one(acc: int, params: Any, line: int, start: int, levels: int) -> int:
    """How many of a channel's thresholds are not above `acc`, found as the core's search does.

    The tree's nodes lie in level order from `line` of `params` on, each with three keys at byte
    `start`; a node's digit, how many of its keys are not above `acc`, is one of the count in base 4.
    """
    node = count = 0
    for _ in range(levels):
        digit = 0
        for key in range(3):
            if _word(params, (line + node) % params.shape[0], start + 4 * key) <= acc:
                digit += 1
        count = 4 * count + digit
        node = 4 * node + 1 + digit
    return count


@njit
def _rescale_entry(acc: int, params: Any, line: int, start: int, rounding: int) -> int:
    """The accumulator rescaled with bias, left shift, multiplier and shift of one parameter entry."""
    row = line % params.shape[0]
    moved = (acc + _word(params, row, start)) << (int(params[row, start + 9]) & 31)
    multiplier, shift = _word(params, row, start + 4), int(params[row, start + 8]) & 31
    return int(rescale_one(moved, multiplier, shift, rounding))


@njit
def drain_tile(
    accumulators: Any,
    params: Any,
    output: Any,
    cols: int,
    post_lanes: int,
    param_line: int,
    param_set: int,
    valid_rows: int,
    out: int,
    out_col: int,
    pixels_y: int,
    pixels_x: int,
    pool_y: int,
    pool_x: int,
    pixel_y: int,
    pixel_x: int,
    mode: int,
    rounding: int,
    zero: int,
    low: int,
    high: int,
    levels: int,
    step: int,
    sum_multiplier: int,
    sum_shift: int,
    planes: int,
) -> None:
    """Nothing; makes one tile's results, pools or adds them and writes them to `output` (uint8).

    `params` is uint8, (lines, 16 × post lanes), and wraps like `output`; the first lane set's
    parameters are at `param_line`, the next ones each `param_set` lines on. `valid_rows` is how
    many results of a pixel are written: one a row, or one for `planes` lane sets where these are summed.
    """
    terms = planes if mode == _PLANES else 1
    for wy in range(pixels_y // pool_y):
        for wx in range(pixels_x // pool_x):
            for c in range(cols):
                for r in range(valid_rows):
                    row = r // post_lanes * terms * post_lanes + r % post_lanes
                    line = param_line + row // post_lanes * param_set
                    start = _ENTRY * (r % post_lanes)
                    best = -(1 << 31)
                    total = 0
                    for iy in range(pool_y):
                        for ix in range(pool_x):
                            index = (wy * pool_y + iy) * pixels_x + wx * pool_x + ix
                            acc = accumulators[c, row, index]
                            if mode == _PLANES:
                                for plane in range(terms):
                                    acc = accumulators[c, row + plane * post_lanes, index]
                                    place = line + plane * param_set
                                    total += _rescale_entry(acc, params, place, start, rounding)
                            elif mode == _ADD:
                                total += _rescale_entry(acc, params, line + iy, start, rounding)
                            elif mode == _THRESHOLDS:
                                count = count_thresholds_one(acc, params, line, start, levels)
                                best = max(best, low + step * count)
                            else:
                                value = _rescale_entry(acc, params, line, start, rounding) + zero
                                best = max(best, min(max(value, low), high))
                    if mode in (_ADD, _PLANES):
                        best = requantize_one(
                            total, 0, 0, sum_multiplier, sum_shift, rounding, zero, low, high
                        )
                    address = out + c * out_col + wy * pixel_y + wx * pixel_x + r
                    output[address % output.shape[0]] = best & 0xFF
