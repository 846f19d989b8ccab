"""The memory image: weights and parameters packed as the buffers take them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..models.formats import Format, FormatKind
from .isa import PostMode
from .layers import CoreLayer, tree_of
from .machine import Machine
from .mapping import Mapping
from .pe import PeKind
from .shape import Chunk, LayerShape
from .steps import KeptSteps, pack_entries
from .traffic import line_bytes

__all__ = ["pack_params", "pack_weights"]


def _array_rows(shape: LayerShape, machine: Machine) -> NDArray[np.int64]:
    """The row of weights and parameters that each row of the array takes, group after group; -1: none.

    A channel's planes are lane sets that follow each other. Shape (groups, rows).
    """
    lanes, summed = machine.post.lanes, shape.summed
    channels = machine.array.rows // summed
    groups = -(-shape.K // channels)
    row = np.arange(machine.array.rows)
    channel = row // lanes // summed * lanes + row % lanes
    plane = row // lanes % summed
    of = np.arange(groups)[:, None] * channels + channel
    return np.where((of < shape.K) & (plane < shape.planes), plane * shape.K + of, -1)


def _steps(layer: CoreLayer, mapping: Mapping, machine: Machine, chunk: Chunk) -> NDArray[np.int8]:
    """The weights of each step of a chunk, int8 (rows of weights, steps, lanes)."""
    kind = layer.shape.pe
    lanes, walk = machine.array.lanes(kind), mapping.geometry(chunk, machine)
    channels = slice(None) if kind.lane_wise else slice(chunk.c0, chunk.c0 + chunk.c)
    values = layer.weights[
        :,
        channels,
        chunk.fy0 : chunk.fy0 + chunk.fy,
        chunk.fx0 : chunk.fx0 + chunk.fx,
    ].transpose(0, 2, 3, 1)
    count = len(values)
    runs = values.reshape(count, walk.fy * walk.fx, -1)
    padded = np.full((count, walk.fy * walk.fx, walk.sets * lanes), _pad(kind), np.int8)
    padded[:, :, : runs.shape[2]] = runs
    return padded.reshape(count, -1, lanes)


def _pad(kind: PeKind) -> int:
    """The weight of lanes and rows that there are not: binary has no zero, its zero bits are -1."""
    return -1 if Format.parse(kind.weight_format).kind == FormatKind.BINARY else 0


def _packed(steps: NDArray[np.int8], kind: PeKind, machine: Machine) -> NDArray[np.uint8]:
    """Weight words of rows of steps (rows, steps, lanes), uint8 (rows, lines, bytes of a weight word)."""
    sets = machine.array.sets_per_word(kind)
    rows, count, lanes = steps.shape
    lines = -(-count // sets)
    filled = np.full((rows, lines * sets, lanes), _pad(kind), np.int8)
    filled[:, :count] = steps
    packed = Format.parse(kind.weight_format).pack(filled.reshape(rows, -1))
    return packed.reshape(rows, lines, machine.array.weight_word_bits // 8)


def pack_weights(layer: CoreLayer, mapping: Mapping, machine: Machine) -> NDArray[np.uint8]:
    """The bytes of a layer's weights: group, line, row; the last group has its valid rows only.

    A group's lines run over chunks, then over steps, of which those that it leaves out have none. Where
    groups leave steps out, the step lists of the K tiles follow. Source: docs/architecture.md.
    """
    shape, kind = layer.shape, layer.shape.pe
    rows = _array_rows(shape, machine)[: 1 if shape.ones else None]
    kept = mapping.kept(machine)
    chunks = [_steps(layer, mapping, machine, chunk) for chunk in mapping.chunks]
    parts = []
    for group, sources in enumerate(rows):
        words = []
        for steps in chunks:
            taken = np.where(sources[:, None, None] >= 0, steps[sources], np.int8(_pad(kind)))
            if kept is not None:
                taken = taken[:, kept.mask[group]]
            words.append(_packed(taken, kind, machine))
        # (rows, lines, bytes) to (lines, rows side by side), of which the valid ones lie in memory.
        block = np.concatenate(words, axis=1).transpose(1, 0, 2)
        parts.append(block.reshape(len(block), -1)[:, : line_bytes(mapping, machine, group)].ravel())
    if kept is not None:
        parts += _step_lists(mapping, machine, kept)
    return np.concatenate(parts)


def _step_lists(mapping: Mapping, machine: Machine, kept: KeptSteps) -> list[NDArray[np.uint8]]:
    """The step lists of each K tile, filled up to a whole bus beat."""
    walk = mapping.geometry(mapping.chunks[0], machine)
    fy, fx, sets = np.arange(walk.fy), np.arange(walk.fx), np.arange(walk.sets)
    runs = fy[:, None, None] * walk.tap_y + fx[:, None] * walk.tap_x
    offsets = runs + sets * machine.array.lane_bytes(mapping.shape.pe)
    tails = np.broadcast_to(sets == walk.sets - 1, offsets.shape).ravel()
    offsets = offsets.ravel()
    parts = []
    for first, groups in mapping.k_tiles:
        lists = [pack_entries(offsets[mask], tails[mask]) for mask in kept.mask[first : first + groups]]
        size = sum(part.size for part in lists)
        parts += [*lists, np.zeros(-size % machine.bus_bytes, np.uint8)]
    return parts


def _little(values: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The bytes of int32 values, little-endian, along a new last axis."""
    return np.ascontiguousarray(values.astype("<i4")).view(np.uint8).reshape(*values.shape, 4)


def pack_params(layer: CoreLayer, machine: Machine) -> NDArray[np.uint8]:
    """The bytes of a layer's parameters: lines of 16 bytes for each POST lane, lane set after lane set.

    Channels are padded to a multiple of the array's rows. An add has one line for each operand, other
    layers whose channels are alike have a single one. Source: docs/architecture.md.
    """
    post, shape, lanes = layer.post, layer.shape, machine.post.lanes
    if shape.mode is PostMode.THRESHOLDS:
        keys = tree_of(layer)
        K, nodes, _ = keys.shape
        sets = -(-K // machine.array.rows) * machine.row_groups
        table = np.zeros((sets * lanes, nodes, 16), np.uint8)
        table[:K, :, :12] = _little(keys).reshape(K, nodes, 12)
        return table.reshape(sets, lanes, nodes, 16).transpose(0, 2, 1, 3).ravel()
    assert post.multiplier is not None and post.shift is not None
    count = 1 if shape.alike and shape.mode is not PostMode.ADD else post.bias.size
    records = np.zeros((count, 16), np.uint8)
    records[:, 0:4] = _little(post.bias[:count])
    records[:, 4:8] = _little(post.multiplier[:count])
    records[:, 8] = post.shift[:count]
    records[:, 9] = post.left
    if shape.alike:
        return np.repeat(records, lanes, axis=0).ravel()
    rows = _array_rows(shape, machine).ravel()
    return np.where(rows[:, None] >= 0, records[rows], np.uint8(0)).ravel()
