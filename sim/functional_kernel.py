"""Byte-level kernels of the functional run: 3-D copies and the array's loop nest.

Pure functions over typed arrays; buffers wrap modulo their size. docs/architecture.md, "What the
commands do", is the text that they follow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.jit import njit

__all__ = ["accumulate_tile", "copy_rows", "decode_value", "fill_rows", "load_lines", "pack_rows"]


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
def pack_rows(
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
    bits: int,
) -> None:
    """Nothing; as `copy_rows`, of values of 4, 2 or 1 bits that lie densely in `target`.

    A value is the low `bits` of its byte, a single bit the inverted sign: −1 is 0, 1 is 1. A row's
    last byte is filled up with zero bits.
    """
    source_size = source.shape[0]
    for p in range(planes):
        for r in range(rows):
            src = source_base + p * source_plane + r * source_row
            dst = target_base + p * target_plane + r * target_row
            for at in range(0, run * bits, 8):
                target[dst + at // 8] = 0
            for i in range(run):
                byte = int(source[(src + i) % source_size])
                value = 1 - (byte >> 7) if bits == 1 else byte & ((1 << bits) - 1)
                target[dst + i * bits // 8] |= np.uint8(value << (i * bits % 8))


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
def decode_value(raw: int, bits: int) -> int:
    """The value in the low `bits` of `raw`: two's complement of 8 or 2 bits, or a bipolar bit."""
    if bits == 1:
        return 1 if raw & 1 else -1
    half = 1 << (bits - 1)
    return ((int(raw) & ((1 << bits) - 1)) ^ half) - half


@njit
def accumulate_tile(
    banks: Any,
    lines: Any,
    accumulators: Any,
    lane_wise: bool,
    lanes: int,
    weight_bits: int,
    act_bits: int,
    tail: int,
    act: int,
    act_col: int,
    line: int,
    pixels_y: int,
    pixels_x: int,
    pixel_y: int,
    pixel_x: int,
    offsets: Any,
    cut: Any,
    acc_bits: int,
) -> None:
    """Nothing; adds one tile's dot products to `accumulators`, (cols, rows, acc_depth) int64.

    `banks` is uint8, (cols, bank bytes); `lines` uint8, (lines, line bytes); values in the
    accumulators wrap to `acc_bits` bits. Step i's operands begin `offsets[i]` bytes after the tile's; it has
    `tail` lanes where `cut[i]`, else all. `lane_wise` (then one lane of 8 bits): row r takes byte r from the
    step's address on.
    """
    cols, size = banks.shape
    rows = accumulators.shape[1]
    word_bytes = lines.shape[1] // rows
    per_word = word_bytes * 8 // (lanes * weight_bits)
    half = 1 << (acc_bits - 1)
    mask = (1 << acc_bits) - 1
    # Operands are unpacked once a step and once a pixel, so that the products are a plain loop over
    # numbers.
    weights = np.zeros((rows, lanes), np.int32)
    acts = np.zeros(rows if lane_wise else lanes, np.int32)
    for step in range(len(offsets)):
        held = (line + step // per_word) % lines.shape[0]
        part = (step % per_word) * lanes
        valid = tail if cut[step] and not lane_wise else lanes
        for r in range(rows):
            for k in range(valid):
                bit = (part + k) * weight_bits
                raw = lines[held, r * word_bytes + bit // 8] >> (bit % 8)
                weights[r, k] = decode_value(raw, weight_bits)
        operands = rows if lane_wise else valid
        for py in range(pixels_y):
            for px in range(pixels_x):
                pixel = py * pixels_x + px
                offset = act + py * pixel_y + px * pixel_x + offsets[step]
                for c in range(cols):
                    start = offset + c * act_col
                    for k in range(operands):
                        bit = k * act_bits
                        raw = banks[c, (start + bit // 8) % size] >> (bit % 8)
                        acts[k] = decode_value(raw, act_bits)
                    for r in range(rows):
                        total = 0
                        if lane_wise:
                            total = acts[r] * weights[r, 0]
                        else:
                            for k in range(valid):
                                total += acts[k] * weights[r, k]
                        moved = accumulators[c, r, pixel] + total
                        accumulators[c, r, pixel] = ((moved + half) & mask) - half
