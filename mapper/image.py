"""The memory image: weights and parameters packed as the buffers take them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..models.formats import Format, FormatKind
from .isa import PostMode
from .layers import CoreLayer, tree_of
from .machine import Machine
from .mapping import Mapping
from .traffic import line_bytes

__all__ = ["pack_params", "pack_weights"]


def _words(layer: CoreLayer, mapping: Mapping, machine: Machine) -> NDArray[np.uint8]:
    """Weight words in line order, uint8 (K, lines, bytes of a weight word)."""
    kind, word = layer.shape.pe, machine.array.weight_word_bits // 8
    lanes, sets = machine.array.lanes(kind), machine.array.sets_per_word(kind)
    fmt = Format.parse(kind.weight_format)
    weights = layer.weights
    if layer.shape.ones:  # one group of channels for all
        weights = weights[: mapping.rows]
    K = weights.shape[0]
    parts = []
    for chunk in mapping.chunks:
        walk = mapping.geometry(chunk, machine)
        channels = slice(None) if kind.lane_wise else slice(chunk.c0, chunk.c0 + chunk.c)
        values = weights[
            :,
            channels,
            chunk.fy0 : chunk.fy0 + chunk.fy,
            chunk.fx0 : chunk.fx0 + chunk.fx,
        ].transpose(0, 2, 3, 1)
        runs = values.reshape(K, walk.fy * walk.fx, -1)
        # Lanes beyond a run count for nothing; binary has no zero, so it pads with zero bits, which are -1.
        pad = -1 if fmt.kind == FormatKind.BINARY else 0
        padded = np.full((K, walk.fy * walk.fx, walk.sets * lanes), pad, np.int8)
        padded[:, :, : runs.shape[2]] = runs
        lines = np.full((K, walk.lines * sets * lanes), pad, np.int8)
        lines[:, : walk.steps * lanes] = padded.reshape(K, -1)
        parts.append(fmt.pack(lines).reshape(K, walk.lines, word))
    return np.concatenate(parts, axis=1)


def pack_weights(layer: CoreLayer, mapping: Mapping, machine: Machine) -> NDArray[np.uint8]:
    """The bytes of a layer's weights: group, line, row; the last group has its valid rows only.

    A group's lines run over chunks, then over steps. Source: docs/architecture.md.
    """
    words, rows = _words(layer, mapping, machine), mapping.rows
    _, lines, word = words.shape
    parts = []
    for group in range(1 if layer.shape.ones else mapping.all_groups):
        block = words[group * rows : (group + 1) * rows].transpose(1, 0, 2).reshape(lines, -1)
        line = line_bytes(mapping, machine, group)
        padded = np.zeros((lines, line), np.uint8)
        padded[:, : block.shape[1]] = block
        parts.append(padded.ravel())
    assert word * rows * 8 == machine.weight_line_bits
    return np.concatenate(parts)


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
    table = np.zeros((-(-count // machine.array.rows) * machine.array.rows, 16), np.uint8)
    table[:count] = records
    return table.ravel()
