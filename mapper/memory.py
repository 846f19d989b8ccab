"""Where everything lies in memory: constants and tensors in regions, activations by their lives in one."""

from __future__ import annotations

from collections.abc import Mapping as AbstractMapping

import numpy as np
from numpy.typing import NDArray

from .graph import Graph
from .program import Region

__all__ = ["ALIGNMENT", "align", "allocate", "place_regions"]

ALIGNMENT = 64
"""Bytes; every region and tensor starts at a multiple: two beats of the widest bus."""


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
