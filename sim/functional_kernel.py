"""Byte-level kernels of the functional run: 3-D copies, the array's loop nest, POST.

Pure functions over typed arrays; buffers wrap modulo their size. docs/architecture.md, "What the
commands do", is the text that they follow.
"""

from __future__ import annotations

from typing import Any

from ..models.jit import njit

__all__ = [
    "accumulate_tile",
    "copy_rows",
    "drain_tile",
    "fill_rows",
    "load_lines",
    "requantize_one",
    "weight_value",
]


@njit
def copy_rows(
    source: Any,
    source_base: int,
    source_row: int,
    source_plane: int,
    target: Any,
    target_base: int,
    target_row: int,
    target_plane: int,
    run: int,
    rows: int,
    planes: int,
) -> None:
    """Nothing; copies planes × rows × run bytes from `source` to `target`, both wrap at their end."""
    source_size = source.shape[0]
    target_size = target.shape[0]
    for p in range(planes):
        for r in range(rows):
            src = source_base + p * source_plane + r * source_row
            dst = target_base + p * target_plane + r * target_row
            for i in range(run):
                target[(dst + i) % target_size] = source[(src + i) % source_size]


@njit
def fill_rows(
    target: Any, base: int, row: int, plane: int, run: int, rows: int, planes: int, value: int
) -> None:
    """Nothing; writes `value` to planes × rows × run bytes of `target`, which wraps at its end."""
    size = target.shape[0]
    for p in range(planes):
        for r in range(rows):
            dst = base + p * plane + r * row
            for i in range(run):
                target[(dst + i) % size] = value


@njit
def load_lines(memory: Any, address: int, lines: Any, first: int, run: int, unit: int, wrap: int) -> None:
    """Nothing; writes `run` bytes into `lines`, each line taking `wrap` units from its low end.

    `lines` is uint8, (lines, line bytes); `unit` is the bus width in bytes.
    """
    valid = wrap * unit
    for i in range(run):
        lines[(first + i // valid) % lines.shape[0], i % valid] = memory[address + i]


@njit
def weight_value(raw: int, bits: int) -> int:
    """The weight in the low `bits` of `raw`: two's complement of 8 or 2 bits, or a bipolar bit."""
    if bits == 1:
        return 1 if raw & 1 else -1
    half = 1 << (bits - 1)
    return ((int(raw) & ((1 << bits) - 1)) ^ half) - half


@njit
def accumulate_tile(
    banks: Any,
    lines: Any,
    accumulators: Any,
    lanes: int,
    word_bytes: int,
    weight_bits: int,
    tail: int,
    act: int,
    act_col: int,
    line: int,
    pixels_y: int,
    pixels_x: int,
    pixel_y: int,
    pixel_x: int,
    taps_y: int,
    taps_x: int,
    tap_y: int,
    tap_x: int,
    sets: int,
    acc_bits: int,
) -> None:
    """Nothing; adds one tile's dot products to `accumulators`, (cols, rows, acc_depth) int64.

    `banks` is int8, (cols, bank bytes); `lines` uint8, (lines, line bytes); values in the
    accumulators wrap to `acc_bits` bits. The last set of a run has `tail` lanes, the others all.
    """
    cols, size = banks.shape
    rows = accumulators.shape[1]
    per_word = word_bytes * 8 // (lanes * weight_bits)
    half = 1 << (acc_bits - 1)
    mask = (1 << acc_bits) - 1
    step = 0
    for fy in range(taps_y):
        for fx in range(taps_x):
            for s in range(sets):
                held = (line + step // per_word) % lines.shape[0]
                part = (step % per_word) * lanes
                step += 1
                valid = tail if s == sets - 1 else lanes
                for py in range(pixels_y):
                    for px in range(pixels_x):
                        offset = act + py * pixel_y + px * pixel_x + fy * tap_y + fx * tap_x
                        offset += s * lanes
                        for c in range(cols):
                            start = offset + c * act_col
                            for r in range(rows):
                                total = accumulators[c, r, py * pixels_x + px]
                                for k in range(valid):
                                    bit = (part + k) * weight_bits
                                    raw = lines[held, r * word_bytes + bit // 8] >> (bit % 8)
                                    weight = weight_value(raw, weight_bits)
                                    value = banks[c, (start + k) % size]
                                    total += int(value) * int(weight)
                                total = ((total + half) & mask) - half
                                accumulators[c, r, py * pixels_x + px] = total


@njit
def requantize_one(
    acc: int, bias: int, multiplier: int, shift: int, rounding: int, zero: int, low: int, high: int
) -> int:
    """The int8 result of one accumulator, by POST's table in docs/architecture.md.

    acc + bias must fit int32 and the multiplier be from 0 to 2^31 - 1, then nothing passes int64.
    """
    product = (acc + bias) * multiplier
    if rounding == 0:
        high_part = (product + (1 << 30)) >> 31
        mask = (1 << shift) - 1
        threshold = (mask >> 1) + (1 if high_part < 0 else 0)
        scaled = (high_part >> shift) + (1 if (high_part & mask) > threshold else 0)
    elif rounding == 1:
        scaled = (product + (1 << (30 + shift))) >> (31 + shift)
    elif rounding == 2:
        width = 31 + shift
        scaled = product >> width
        rest = product - (scaled << width)
        middle = 1 << (width - 1)
        if rest > middle or (rest == middle and scaled & 1):
            scaled += 1
    else:
        scaled = product >> (31 + shift)
    return min(max(scaled + zero, low), high)


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
def drain_tile(
    accumulators: Any,
    params: Any,
    output: Any,
    cols: int,
    post_lanes: int,
    param_line: int,
    valid_rows: int,
    out: int,
    out_col: int,
    pixels_y: int,
    pixels_x: int,
    pool_y: int,
    pool_x: int,
    pixel_y: int,
    pixel_x: int,
    rounding: int,
    zero: int,
    low: int,
    high: int,
) -> None:
    """Nothing; requantises, pools and writes one tile's results to `output` (uint8, wraps).

    `params` is uint8, (lines, 16 × post lanes); `valid_rows` is how many rows are written.
    """
    size = output.shape[0]
    lines = params.shape[0]
    for wy in range(pixels_y // pool_y):
        for wx in range(pixels_x // pool_x):
            for c in range(cols):
                for r in range(valid_rows):
                    line = (param_line + r // post_lanes) % lines
                    start = 16 * (r % post_lanes)
                    bias = _word(params, line, start)
                    multiplier = _word(params, line, start + 4)
                    shift = int(params[line, start + 8]) & 31
                    best = -(1 << 31)
                    for iy in range(pool_y):
                        for ix in range(pool_x):
                            index = (wy * pool_y + iy) * pixels_x + wx * pool_x + ix
                            acc = accumulators[c, r, index]
                            value = requantize_one(acc, bias, multiplier, shift, rounding, zero, low, high)
                            best = max(best, value)
                    address = out + c * out_col + wy * pixel_y + wx * pixel_x + r
                    output[address % size] = best & 0xFF
