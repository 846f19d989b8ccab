"""Where everything lies in memory: constants and tensors in regions, activations by their lives in one."""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .graph import Graph
from .program import Region

__all__ = ["ALIGNMENT", "TensorLife", "align", "allocate", "peak_bytes", "place_regions", "tensor_lives"]

ALIGNMENT = 64
"""Bytes; every region and tensor starts at a multiple: two beats of the widest bus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorLife:
    """Where a tensor lies in memory and while which layers it must."""

    name: str
    kind: str
    """`input`, `activations` or `output`."""
    address: int
    size: int
    first: int
    """The layer that begins to write it; −1: it is there before the run."""
    last: int
    """The last layer that touches it; the number of layers: it is there after the run."""


def align(size: int) -> int:
    """`size` rounded up to the alignment of regions."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _lives(graph: Graph) -> dict[int, tuple[int, int]]:
    """For each inner tensor the first layer that writes it and the last that touches it."""
    lives: dict[int, tuple[int, int]] = {}
    for index, layer in enumerate(graph.layers):
        for number in (*layer.sources, layer.result):
            if graph.storages[number].kind == "activations":
                lives[number] = (lives.get(number, (index, index))[0], index)
    return lives


def allocate(graph: Graph) -> tuple[dict[int, int], int]:
    """(byte of each inner tensor in the activations' region, bytes of that region).

    Largest tensors first, each into the smallest gap between those whose lives meet its own. A layer's
    input and output both live while it runs; a tensor is dead when the last layer that reads it stores,
    since that layer's reads come before the next layer's first result.
    """
    lives = _lives(graph)
    placed: dict[int, int] = {}
    total = 0
    for number in sorted(lives, key=lambda n: (-graph.storages[n].size, n)):
        size = align(graph.storages[number].size)
        born, dead = lives[number]
        taken = sorted(
            (placed[other], placed[other] + align(graph.storages[other].size))
            for other in placed
            if lives[other][0] <= dead and born <= lives[other][1]
        )
        best: tuple[int, int] | None = None
        end = 0
        for start, stop in taken:
            if start - end >= size and (best is None or start - end < best[0]):
                best = (start - end, end)
            end = max(end, stop)
        placed[number] = end if best is None else best[1]
        total = max(total, placed[number] + size)
    return placed, total


def place_regions(
    commands: int, constants: AbstractMapping[str, tuple[str, NDArray[np.uint8]]], graph: Graph
) -> tuple[list[Region], list[tuple[int, int]]]:
    """(all regions, for each tensor its region's index and its byte there), laid out from address 0 up.

    Args:
        commands: bytes of commands.
        constants: name -> (kind, bytes) of weights and parameters.
        graph: its tensors; the network's input and output have regions of their own.
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
    inner, total = allocate(graph)
    source = place(graph.storages[0].name, "input", graph.storages[0].size)
    shared = place("activations", "activations", total) if total else -1
    result = place(graph.storages[graph.output].name, "output", graph.storages[graph.output].size)
    own = {0: source, graph.output: result}
    where = [(own[n], 0) if n in own else (shared, inner[n]) for n in range(len(graph.storages))]
    return regions, where


def tensor_lives(graph: Graph, regions: Sequence[Region]) -> list[TensorLife]:
    """The tensors of a network by address: the DRAM map without constants.

    Args:
        graph: the core layers and their tensors.
        regions: of the program that was made from it.
    """
    lives, (placed, _) = _lives(graph), allocate(graph)
    start = {region.kind: region.address for region in regions}
    count = len(graph.layers)
    rows = []
    for number, storage in enumerate(graph.storages):
        if storage.kind == "activations":
            if number not in lives:
                continue
            first, last = lives[number]
        elif number == 0:
            readers = [i for i, layer in enumerate(graph.layers) if 0 in layer.sources]
            first, last = -1, max(readers, default=0)
        else:
            writers = [i for i, layer in enumerate(graph.layers) if layer.result == number]
            first, last = min(writers, default=0), count
        rows.append(
            TensorLife(
                name=storage.name,
                kind=storage.kind,
                address=start[storage.kind] + placed.get(number, 0),
                size=storage.size,
                first=first,
                last=last,
            )
        )
    return sorted(rows, key=lambda row: (row.address, row.first))


def peak_bytes(lives: Sequence[TensorLife]) -> int:
    """Bytes of the tensors that live at once at most, each rounded up to the alignment."""
    moments = {life.first for life in lives}
    return max(
        sum(align(life.size) for life in lives if life.first <= moment <= life.last) for moment in moments
    )
