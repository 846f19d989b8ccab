"""The memory image: weights and parameters packed as the buffers take them, and where all lies."""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping

import numpy as np
from numpy.typing import NDArray

from ..models.formats import Format, FormatKind
from .layers import CoreLayer
from .machine import Machine
from .mapping import Mapping
from .program import Region
from .traffic import line_bytes

__all__ = ["ALIGNMENT", "align", "pack_params", "pack_weights", "place_regions"]

ALIGNMENT = 64
"""Bytes; every region starts at a multiple: two beats of the widest bus."""


def align(size: int) -> int:
    """`size` rounded up to the alignment of regions."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _words(layer: CoreLayer, mapping: Mapping, machine: Machine) -> NDArray[np.uint8]:
    """Weight words in line order, uint8 (K, lines, bytes of a weight word)."""
    kind, word = layer.shape.pe, machine.array.weight_word_bits // 8
    lanes, sets = machine.array.lanes(kind), machine.array.sets_per_word(kind)
    fmt = Format.parse(kind.weight_format)
    K = layer.shape.K
    parts = []
    for chunk in mapping.chunks:
        walk = mapping.geometry(chunk, machine)
        values = layer.weights[
            :,
            chunk.c0 : chunk.c0 + chunk.c,
            chunk.fy0 : chunk.fy0 + chunk.fy,
            chunk.fx0 : chunk.fx0 + chunk.fx,
        ].transpose(0, 2, 3, 1)
        runs = values.reshape(K, walk.fy * walk.fx, -1)
        # Lanes beyond a run meet activations masked to zero; binary has no zero to pad with.
        pad = 1 if fmt.kind == FormatKind.BINARY else 0
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
    for group in range(mapping.all_groups):
        block = words[group * rows : (group + 1) * rows].transpose(1, 0, 2).reshape(lines, -1)
        line = line_bytes(mapping, machine, group)
        padded = np.zeros((lines, line), np.uint8)
        padded[:, : block.shape[1]] = block
        parts.append(padded.ravel())
    assert word * rows * 8 == machine.weight_line_bits
    return np.concatenate(parts)


def pack_params(layer: CoreLayer, rows: int) -> NDArray[np.uint8]:
    """The bytes of a layer's parameters, 16 a channel, channels padded to a multiple of `rows`."""
    K = layer.shape.K
    table = np.zeros((-(-K // rows) * rows, 16), np.uint8)
    table[:K, 0:4] = layer.bias.astype("<i4").reshape(K, 1).view(np.uint8)
    table[:K, 4:8] = layer.multiplier.astype("<i4").reshape(K, 1).view(np.uint8)
    table[:K, 8] = layer.shift.astype(np.uint8)
    return table.ravel()


def place_regions(
    commands: int,
    constants: AbstractMapping[str, tuple[str, NDArray[np.uint8]]],
    tensors: list[tuple[str, int]],
) -> tuple[list[Region], list[int]]:
    """(all regions, for each tensor the index of its region), laid out from address 0 up.

    Activations take turns in two regions: when a layer stores, the tensor before its input is dead.

    Args:
        commands: bytes of commands.
        constants: name -> (kind, bytes) of weights and parameters.
        tensors: (name, bytes) of the network's input, each core layer's output, in order.
    """
    regions = [Region(name="commands", kind="commands", address=0, size=commands)]
    end = align(commands)

    def place(name: str, kind: str, size: int) -> int:
        nonlocal end
        regions.append(Region(name=name, kind=kind, address=end, size=size))
        end += align(size)
        return len(regions) - 1

    for name, (kind, data) in constants.items():
        place(name, kind, data.size)
    where = [place(tensors[0][0], "input", tensors[0][1])]
    inner = tensors[1:-1]
    shared = [
        place(f"activations.{turn}", "activations", max(size for _, size in inner[turn::2]))
        for turn in range(min(2, len(inner)))
    ]
    where += [shared[index % 2] for index in range(len(inner))]
    where.append(place(tensors[-1][0], "output", tensors[-1][1]))
    return regions, where
