"""What a mapping costs: DRAM bytes counted in whole beats, and an estimate of its cycles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .machine import Machine
from .mapping import Capacity, ChunkGeometry, ColumnMode, LoopOrder, Mapping
from .window import Axis

__all__ = ["activation_beats", "estimate_cycles", "group_bytes", "passes", "weight_bytes"]


def _positions(axis: Axis) -> NDArray[np.int64]:
    return axis.start + axis.step * np.arange(axis.valid, dtype=np.int64)


def _beats(start: NDArray[np.int64], run: int, beat: int) -> int:
    return int(((start + run - 1) // beat - start // beat + 1).sum())


def activation_beats(mapping: Mapping, beat: int) -> int:
    """Beats that reading every activation tile once takes, all chunks if tiles hold one chunk.

    Args:
        mapping: any mapping of the layer with these tiles and column mode.
        beat: bytes of a bus beat; the tensor starts at a multiple of it.
    """
    shape = mapping.shape
    row_bytes = shape.W * shape.C
    step = mapping.columns * mapping.column_rows
    total = 0
    for part in {mapping.held_chunk(chunk) for chunk in mapping.chunks}:
        spans: list[Axis] = []
        for y0 in range(0, shape.OY, step):
            height = min(step, shape.OY - y0)
            inner = height if mapping.mode is ColumnMode.SHARED else mapping.column_rows
            spans += [
                mapping.y_axis(part, y0 + top, min(inner, height - top))
                for top in range(0, height, inner)
            ]
        columns = [
            mapping.x_axis(part, x0, min(mapping.tile_x, shape.OX - x0))
            for x0 in range(0, shape.OX, mapping.tile_x)
        ]
        rows = np.concatenate([_positions(axis) for axis in spans]) * row_bytes
        for x in columns:
            if not x.valid:
                continue
            if part.c == shape.C and x.step == 1:
                run = x.valid * part.c
                if x.count == x.valid and run == row_bytes:
                    for y in spans:
                        if y.valid and y.step == 1:
                            start = np.array([y.start * row_bytes])
                            total += _beats(start, run * y.valid, beat)
                        elif y.valid:
                            total += _beats(_positions(y) * row_bytes, run, beat)
                else:
                    total += _beats(rows + x.start * shape.C, run, beat)
            else:
                pixels = _positions(x) * shape.C + part.c0
                total += _beats((rows[:, None] + pixels[None, :]).ravel(), part.c, beat)
    return total


def group_bytes(mapping: Mapping, machine: Machine, group: int) -> tuple[int, int]:
    """(bytes of a weight line in memory, bytes of the group's whole reduction)."""
    valid = min(mapping.rows, mapping.shape.K - group * mapping.rows)
    bits = valid * machine.array.weight_word_bits
    line = -(-bits // machine.bus.data_bits) * machine.bus_bytes
    return line, line * mapping.group_lines(machine)


def weight_bytes(mapping: Mapping, machine: Machine) -> int:
    """Bytes of the layer's weights in memory, which is what reading them once takes."""
    last = mapping.all_groups - 1
    return last * group_bytes(mapping, machine, 0)[1] + group_bytes(mapping, machine, last)[1]


def passes(mapping: Mapping, capacity: Capacity, pixel_tiles: int) -> tuple[int, int, int]:
    """How often activations, weights and parameters are read from memory as a whole.

    A tile that is still in one of its buffer's slots is not read again; the oldest gives way.
    """
    k_tiles, chunks = len(mapping.k_tiles), len(mapping.chunks)
    outer_weights = mapping.order is LoopOrder.WEIGHTS
    act = k_tiles if outer_weights and pixel_tiles > capacity.act_slots else 1
    weight = 1 if outer_weights or k_tiles <= capacity.weight_slots else pixel_tiles
    param = weight
    if mapping.act_chunked:
        if chunks > capacity.act_slots:
            act = mapping.all_groups
        elif outer_weights:
            act = 1 if pixel_tiles * chunks <= capacity.act_slots else k_tiles
    if mapping.weight_chunked:
        per_tile = mapping.groups * chunks
        subtiles = _subtiles(mapping)
        if per_tile > capacity.weight_slots:
            weight = subtiles
        elif not outer_weights:
            weight = 1 if mapping.all_groups * chunks <= capacity.weight_slots else pixel_tiles
    return act, weight, param


def _accumulator_tiles(mapping: Mapping) -> list[tuple[int, int]]:
    """(region rows × columns of a column, accumulator tiles in it) of each pixel tile."""
    shape, result = mapping.shape, []
    step = mapping.columns * mapping.column_rows
    for y0 in range(0, shape.OY, step):
        rows = min(mapping.column_rows, shape.OY - y0)
        for x0 in range(0, shape.OX, mapping.tile_x):
            width = min(mapping.tile_x, shape.OX - x0)
            count = -(-rows // mapping.acc_y) * -(-width // mapping.acc_x)
            result.append((rows * width, count))
    return result


def _subtiles(mapping: Mapping) -> int:
    return sum(count for _, count in _accumulator_tiles(mapping))


def estimate_cycles(
    mapping: Mapping, machine: Machine, geometries: list[ChunkGeometry], read_bytes: int
) -> int:
    """Cycles of the busiest unit, plus the first tile's load and the last tile's store.

    The mapper compares mappings of equal traffic with it; the cycle model tells the truth.
    """
    shape, groups = mapping.shape, mapping.all_groups
    regions = _accumulator_tiles(mapping)
    pixels, tiles = sum(p for p, _ in regions), sum(n for _, n in regions)
    steps = sum(g.steps for g in geometries)
    array = groups * (pixels * steps + tiles * len(geometries))
    post = groups * (pixels * mapping.tile_columns * machine.row_groups + tiles)
    k_tiles = len(mapping.k_tiles)
    executions = len(regions) * k_tiles
    if len(geometries) > 1:
        executions = groups * tiles * len(geometries)
    # Command words share the read channel; a tile takes about four of them.
    read = (read_bytes + 32 * 4 * executions) // machine.bus_bytes
    out_row = min(mapping.tile_x, shape.OX) // shape.pool_x
    whole = mapping.k_tile == shape.K
    runs = -(-shape.OY // shape.pool_y) * (1 if whole else out_row) * len(mapping.k_tiles)
    written = shape.K * (shape.OY // shape.pool_y) * (shape.OX // shape.pool_x)
    write = written // machine.bus_bytes + 4 * runs + 10 * executions
    first = mapping.bank_bytes() // machine.bus_bytes
    last = mapping.output_bytes() // machine.bus_bytes + post // max(1, executions)
    return max(array, post, read, write) + first + last
