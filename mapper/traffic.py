"""What a mapping costs: DRAM bytes counted in whole beats, and an estimate of its cycles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .machine import STEP_BITS, Machine
from .mapping import Capacity, ChunkGeometry, ColumnMode, LoopOrder, Mapping
from .shape import Chunk
from .window import Axis

__all__ = [
    "PixelWork",
    "activation_beats",
    "estimate_cycles",
    "line_bytes",
    "passes",
    "pixel_work",
    "weight_bytes",
]


def _positions(axis: Axis) -> NDArray[np.int64]:
    return axis.start + axis.step * np.arange(axis.valid, dtype=np.int64)


def _beats(start: NDArray[np.int64], run: int, beat: int) -> int:
    return int(((start + run - 1) // beat - start // beat + 1).sum())


def _part_beats(mapping: Mapping, part: Chunk, k_tile: int, beat: int) -> int:
    """Beats of reading what every pixel tile holds for this part of the reduction, or this K tile."""
    shape = mapping.shape
    step = mapping.columns * mapping.column_rows
    spans: list[Axis] = []
    for y0 in range(0, shape.OY, step):
        height = min(step, shape.OY - y0)
        inner = height if mapping.mode is ColumnMode.SHARED else mapping.column_rows
        spans += [mapping.y_axis(part, y0 + top, min(inner, height - top)) for top in range(0, height, inner)]
    columns = [
        mapping.x_axis(part, x0, min(mapping.tile_x, shape.OX - x0))
        for x0 in range(0, shape.OX, mapping.tile_x)
    ]
    positions = np.concatenate([_positions(axis) for axis in spans])
    first, size = mapping.first_byte(part, k_tile), mapping.held_bytes(part, k_tile)
    turns = len(shape.places)
    total = 0
    for operand, place in enumerate(shape.places):
        base, row_bytes = place.offset + first, shape.W * place.pitch
        rows = base + positions[positions % turns == operand] // turns * row_bytes
        for x in columns:
            if not x.valid:
                continue
            if size == place.pitch and x.step == 1:
                run = x.valid * size
                if turns == 1 and x.count == x.valid and run == row_bytes:
                    for y in spans:
                        if y.valid and y.step == 1:
                            start = np.array([base + y.start * row_bytes])
                            total += _beats(start, run * y.valid, beat)
                        elif y.valid:
                            total += _beats(base + _positions(y) * row_bytes, run, beat)
                else:
                    total += _beats(rows + x.start * place.pitch, run, beat)
            else:
                pixels = _positions(x) * place.pitch
                total += _beats((rows[:, None] + pixels[None, :]).ravel(), size, beat)
    return total


def activation_beats(mapping: Mapping, beat: int, act_slots: int) -> int:
    """Beats that reading every activation tile once takes, all chunks if tiles hold one chunk.

    Args:
        mapping: any mapping of the layer with these tiles and column mode; for lane-wise work with this K
            tile too.
        beat: bytes of a bus beat; the tensor starts at a multiple of it.
        act_slots: tiles that a bank holds; lane-wise chunks beyond are read again for each group.
    """
    parts = {mapping.held_chunk(chunk) for chunk in mapping.chunks}
    if not mapping.shape.pe.lane_wise:
        return sum(_part_beats(mapping, part, 0, beat) for part in parts)
    again = mapping.act_chunked and len(mapping.chunks) > act_slots
    return sum(
        _part_beats(mapping, part, k_tile, beat) * (groups if again else 1)
        for part in parts
        for k_tile, (_, groups) in enumerate(mapping.k_tiles)
    )


def line_bytes(mapping: Mapping, machine: Machine, group: int) -> int:
    """Bytes of one of the group's weight lines in memory: its valid rows in whole beats."""
    valid = min(mapping.rows, mapping.shape.K - group * mapping.rows)
    if mapping.shape.summed > 1:  # each plane has lane sets of its own
        valid = -(-valid // machine.post.lanes) * machine.post.lanes * mapping.shape.summed
    return -(-valid * machine.array.weight_word_bits // machine.bus.data_bits) * machine.bus_bytes


def weight_bytes(mapping: Mapping, machine: Machine) -> int:
    """Bytes of the layer's weights and step lists in memory, which is what reading them once takes."""
    last = 0 if mapping.shape.ones else mapping.all_groups - 1
    lines = mapping.lines_by_group(machine)
    size = sum(lines[:last]) * line_bytes(mapping, machine, 0)
    size += lines[last] * line_bytes(mapping, machine, last)
    return size + sum(mapping.list_entries(machine)) * STEP_BITS // 8


def passes(mapping: Mapping, capacity: Capacity, work: PixelWork) -> tuple[int, int, int]:
    """How often activations, weights and parameters are read from memory as a whole.

    A tile that is still in one of its buffer's slots is not read again; the oldest gives way.
    """
    k_tiles, chunks = len(mapping.k_tiles), len(mapping.chunks)
    pixel_tiles = work.tiles
    if mapping.shape.pe.lane_wise:
        return _lane_wise_passes(mapping, capacity, work)
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
        if per_tile > capacity.weight_slots:
            weight = work.accumulator_tiles
        elif not outer_weights:
            weight = 1 if mapping.all_groups * chunks <= capacity.weight_slots else pixel_tiles
    return act, weight, param


def _lane_wise_passes(mapping: Mapping, capacity: Capacity, work: PixelWork) -> tuple[int, int, int]:
    """The same where every K tile has activation tiles of its own."""
    shape, k_tiles, chunks = mapping.shape, len(mapping.k_tiles), len(mapping.chunks)
    outer_weights = mapping.order is LoopOrder.WEIGHTS
    again = 1 if outer_weights or k_tiles <= capacity.weight_slots else work.tiles
    weight, param = again, 1 if shape.alike else again
    if mapping.weight_chunked:
        if mapping.groups * chunks > capacity.weight_slots:
            weight = work.accumulator_tiles
        elif not outer_weights:
            weight = 1 if mapping.all_groups * chunks <= capacity.weight_slots else work.tiles
        if shape.ones:
            weight *= mapping.all_groups
    elif shape.ones:  # the weights of one group come with each tile of parameters
        weight = 1 if shape.alike else again * k_tiles
    return 1, weight, param


@dataclass(frozen=True, slots=True)
class PixelWork:
    """What the pixel tiles of a mapping add up to; it doesn't depend on channels or loop order."""

    tiles: int
    pixels: int
    """Of a column, those computed for nobody included."""
    accumulator_tiles: int


def pixel_work(mapping: Mapping) -> PixelWork:
    """The sums over all pixel tiles."""
    shape, step = mapping.shape, mapping.columns * mapping.column_rows
    rows = [min(mapping.column_rows, shape.OY - y) for y in range(0, shape.OY, step)]
    widths = [min(mapping.tile_x, shape.OX - x) for x in range(0, shape.OX, mapping.tile_x)]
    return PixelWork(
        tiles=len(rows) * len(widths),
        pixels=sum(rows) * sum(widths),
        accumulator_tiles=sum(-(-row // mapping.acc_y) for row in rows)
        * sum(-(-width // mapping.acc_x) for width in widths),
    )


def estimate_cycles(
    mapping: Mapping,
    machine: Machine,
    work: PixelWork,
    geometries: list[ChunkGeometry],
    read_bytes: int,
    bank_bytes: int,
) -> int:
    """Cycles of the busiest unit, plus the first tile's load and the last tile's store.

    The mapper compares mappings of equal traffic with it; the cycle model tells the truth.
    """
    shape, groups = mapping.shape, mapping.all_groups
    pixels, tiles = work.pixels, work.accumulator_tiles
    steps = sum(g.steps for g in geometries)
    array = groups * (pixels * steps + tiles * len(geometries))
    # A search tree of several levels takes two reads of the parameters a level.
    reads = 2 * shape.levels if shape.levels > 1 else 1
    post = groups * (pixels * mapping.tile_columns * machine.row_groups * reads + tiles)
    k_tiles = len(mapping.k_tiles)
    executions = work.tiles * k_tiles
    if len(geometries) > 1:
        executions = groups * tiles * len(geometries)
    # Command words share the read channel; a tile takes about four of them.
    read = (read_bytes + 32 * 4 * executions) // machine.bus_bytes
    height, width = shape.OY // shape.pool_y, shape.OX // shape.pool_x
    across = -(-shape.OX // mapping.tile_x)
    # STORE takes about four cycles more for each run: a pixel, a row or a whole tile.
    size = shape.out_bytes(shape.K)
    if shape.target.step > 1:
        runs = shape.K * height * width
    elif mapping.k_tile < shape.K or shape.target.pitch > size or shape.K % shape.out_align:
        runs = height * width * k_tiles
    else:
        runs = height * across if across > 1 else work.tiles
    write = size * height * width // machine.bus_bytes + 4 * runs + 10 * executions
    first = bank_bytes // machine.bus_bytes
    last = write // (work.tiles * k_tiles) + post // executions
    return max(array, post, read, write) + first + last
