"""The choice among a layer's best few mappings by a better measure, between the layer's neighbours."""

from __future__ import annotations

import dataclasses
import math
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
    as they stand. Where a program would be long the estimate's choice stays. The last candidate of a layer
    is the one that reads least.
    """
    empty = np.zeros(0, np.uint8)
    constants = {
        f"{layer.shape.name}.{kind}": (kind, empty)
        for layer in graph.layers
        for kind in ("weights", "params")
    }
    regions, where = place_regions(COMMAND_BYTES << 16, constants, graph)
    judged = 0

    def score(mappings: Sequence[Mapping], first: int) -> float:
        """The judge's score of consecutive layers from `first` on; infinity where their program is long,
        or runs step lists, which a program without an image lacks: the estimate's choice stays then.
        """
        nonlocal judged
        if any(mapping.list_entries(machine) for mapping in mappings):
            return math.inf
        if sum(_steps(mapping) for mapping in mappings) > _MOST_STEPS:
            return math.inf
        judged += 1
        drafts = Emitter(machine, capacity, plans_of(graph, mappings, where, first)).emit()
        commands = tuple(draft.place(regions) for draft in drafts)
        return judge(
            Program(
                machine=machine,
                network="candidate",
                commands=commands,
                layer_of=tuple(draft.layer for draft in drafts),
                layers=tuple(mapping.shape.name for mapping in mappings),
                macs=tuple(mapping.shape.macs for mapping in mappings),
                regions=tuple(regions),
                input=regions[where[0][0]],
                output=regions[where[graph.output][0]],
                input_shape=(),
                output_shape=(),
                image=np.frombuffer(encode_commands(commands), np.uint8),
            )
        )

    def improved(start: Sequence[Mapping], offered: Sequence[Sequence[Mapping]]) -> list[Mapping]:
        """The start with each layer's mapping replaced by the one that suits its neighbours best."""
        chosen = list(start)
        for index, candidates in enumerate(offered):
            first, last = max(0, index - 1), min(len(chosen), index + 2)
            before, after = chosen[first:index], chosen[index + 1 : last]
            best = score([*before, chosen[index], *after], first) if len(candidates) > 1 else math.inf
            for candidate in candidates:
                if best < math.inf and candidate is not chosen[index]:
                    found = score([*before, candidate, *after], first)
                    if found < best:
                        best, chosen[index] = found, candidate
        return chosen

    estimated = [candidates[0] for candidates in ranked]
    frugal = [candidates[-1] for candidates in ranked]
    chosen = improved(estimated, [candidates[:-1] or candidates for candidates in ranked])
    if (least := score(chosen, 0)) < math.inf:
        # What suits neighbours may not suit all, so a short network is judged as a whole, too.
        for start in (frugal, chosen):
            other = improved(start, ranked)
            if (found := score(other, 0)) < least:
                chosen, least = other, found
    told = [
        dataclasses.replace(mapping, evaluated=candidates[0].evaluated, seconds=candidates[0].seconds)
        for mapping, candidates in zip(chosen, ranked, strict=True)
    ]
    return tuple(told), judged
