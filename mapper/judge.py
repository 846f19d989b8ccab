"""The choice among a layer's best few mappings by a better measure, between the layer's neighbours."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from .emit import Emitter
from .graph import Graph
from .isa import COMMAND_BYTES
from .machine import Machine
from .mapping import Capacity, Mapping
from .memory import place_regions
from .program import Program, encode_commands
from .transfer import LayerPlan

__all__ = ["Judge", "choose_among", "plans_of"]

Judge = Callable[[Program], float]
"""A program's score, less is better; the program's constants are void."""

_MOST_STEPS = 400
"""EXECs of a layer and its neighbours; larger programs are not made for a comparison."""


def plans_of(
    graph: Graph, mappings: Sequence[Mapping], where: Sequence[tuple[int, int]], first: int = 0
) -> list[LayerPlan]:
    """For each mapping of consecutive layers from `first` on, where its layer's operands lie."""
    return [
        LayerPlan(
            layer=graph.layers[index],
            mapping=mapping,
            weights=1 + 2 * index,
            params=2 + 2 * index,
            sources=tuple(where[number] for number in graph.layers[index].sources),
            result=where[graph.layers[index].result],
        )
        for index, mapping in enumerate(mappings, first)
    ]


def _steps(mapping: Mapping) -> int:
    tiles = len(mapping.tiles) * len(mapping.k_tiles)
    return tiles if len(mapping.chunks) == 1 else tiles * mapping.groups * len(mapping.chunks)


def choose_among(
    ranked: Sequence[Sequence[Mapping]], graph: Graph, machine: Machine, capacity: Capacity, judge: Judge
) -> tuple[tuple[Mapping, ...], int]:
    """For each layer the mapping that the judge likes best, and how many programs it compared.

    Layers are gone through in order; each candidate is judged between the layer before and the one after,
    as they stand. Where a program would be long the estimate's choice stays.
    """
    empty = np.zeros(0, np.uint8)
    constants = {
        f"{layer.shape.name}.{kind}": (kind, empty)
        for layer in graph.layers
        for kind in ("weights", "params")
    }
    regions, where = place_regions(COMMAND_BYTES << 16, constants, graph)
    source, result = where[0][0], where[graph.output][0]
    chosen = [candidates[0] for candidates in ranked]
    judged = 0
    for index, candidates in enumerate(ranked):
        first, last = max(0, index - 1), min(len(ranked), index + 2)
        if len(candidates) < 2 or sum(_steps(mapping) for mapping in chosen[first:last]) > _MOST_STEPS:
            continue
        best: float | None = None
        for candidate in candidates:
            window = [*chosen[first:index], candidate, *chosen[index + 1 : last]]
            if sum(_steps(mapping) for mapping in window) > _MOST_STEPS:
                continue
            drafts = Emitter(machine, capacity, plans_of(graph, window, where, first)).emit()
            commands = tuple(draft.place(regions) for draft in drafts)
            score = judge(
                Program(
                    machine=machine,
                    network="candidate",
                    commands=commands,
                    layer_of=tuple(draft.layer for draft in drafts),
                    layers=tuple(mapping.shape.name for mapping in window),
                    macs=tuple(mapping.shape.macs for mapping in window),
                    regions=tuple(regions),
                    input=regions[source],
                    output=regions[result],
                    input_shape=(),
                    output_shape=(),
                    image=np.frombuffer(encode_commands(commands), np.uint8),
                )
            )
            judged += 1
            if best is None or score < best:
                best, chosen[index] = score, candidate
        searched = candidates[0]
        chosen[index] = dataclasses.replace(
            chosen[index], evaluated=searched.evaluated, seconds=searched.seconds
        )
    return tuple(chosen), judged
