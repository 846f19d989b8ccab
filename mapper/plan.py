"""The mapping of every layer of a network, chosen layer by layer for one objective."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..models.layers import Flatten, MaxPool, Relu, Shuffle
from ..models.network import Network
from .graph import Graph, lower_graph
from .judge import Judge, choose_among
from .layers import CoreLayer, check_accumulators, check_served
from .machine import STEP_ENTRIES, Machine
from .mapping import Capacity, Mapping, MappingError, capacity_of
from .objective import EventPrices, Objective
from .pe import PeKind
from .search import LayerSearch
from .shape import LayerShape
from .steps import WeightBlocks, entries_worth, weight_blocks

__all__ = ["NetworkPlan", "Ranking", "plan_layers", "plan_network", "steps_to_leave_out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """For each layer its best mappings, best first, and what their tiles may take of the buffers."""

    ranked: tuple[tuple[Mapping, ...], ...]
    capacity: Capacity

    @property
    def score(self) -> float:
        """The sum over all layers."""
        return sum(ranked[0].score for ranked in self.ranked)

    @property
    def mappings(self) -> tuple[Mapping, ...]:
        """The best of each layer."""
        return tuple(ranked[0] for ranked in self.ranked)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """The mapping of every core layer, and what their tiles may take of the buffers."""

    graph: Graph
    mappings: tuple[Mapping, ...]
    capacity: Capacity
    objective: Objective
    apart: frozenset[str] = frozenset()
    """Max pools that have a pass of their own, since that lets the layer before use more columns."""
    judged: int = 0
    """Programs that a judge compared before it chose among each layer's best few."""

    @property
    def layers(self) -> tuple[CoreLayer, ...]:
        """The core layers in order."""
        return self.graph.layers


_SLACK = 1.05
"""Of the best score: a judge sees candidates whose estimate is so much worse at most."""
_BUFFERS = ("activations", "weights", "outputs")
_SLOTS = tuple(
    dict(zip(_BUFFERS, counts, strict=True))
    for counts in sorted(itertools.product((2, 1), repeat=3), key=lambda counts: -sum(counts))
)
"""Double or single buffering of each kind, double first."""


def plan_layers(
    shapes: Sequence[LayerShape],
    machine: Machine,
    objective: Objective = Objective.LATENCY,
    prices: EventPrices | None = None,
    slack: float = 1.0,
) -> Ranking:
    """The best mappings of layers that run one after the other, with one split of the buffers for all.

    Each buffer holds two tiles of a layer, so that the next one loads meanwhile, or one: all eight ways are
    tried. Of those in which the fewest layers have their reduction split, the least sum over layers wins,
    double buffering among equals. Identical layers are searched once.

    Raises:
        MappingError: a layer can't run in any of the ways; the message is that of whole buffers.
        ValueError: an objective with energy, and no prices.
    """
    keys = [dataclasses.replace(shape, name="") for shape in shapes]
    times = Counter(keys)
    searches = {}
    for key, shape in zip(keys, shapes, strict=True):
        if key not in searches:
            searches[key] = LayerSearch(shape, machine, objective, prices, slack)
    ways = [capacity_of(machine, slots) for slots in _SLOTS]
    held = [sum(times[key] for key, search in searches.items() if search.fits(way)) for way in ways]
    found: dict[LayerShape, list[Mapping]] = {}
    capacity, least = ways[0], math.inf
    fault: MappingError | None = None
    for fitting in sorted(set(held), reverse=True):
        for way in (way for way, fits in zip(ways, held, strict=True) if fits == fitting):
            ranked: dict[LayerShape, list[Mapping]] = {}
            fit = [key for key, search in searches.items() if search.fits(way)]
            total = sum(times[key] * searches[key].bound for key in fit)
            # Layers without a bound, then small ones: they tell for little when a way can't win.
            order = sorted(searches, key=lambda key: (key in fit, key.OY * key.OX))
            try:
                for key in order:
                    if total >= least:
                        break
                    search = searches[key]
                    ranked[key] = search.whole(way) or search.split(way)
                    total += times[key] * (ranked[key][0].score - (search.bound if key in fit else 0))
            except MappingError as error:
                fault = error
                continue
            if total < least:
                found, capacity, least = ranked, way, total
        if found:
            break
    if not found:
        assert fault is not None
        raise fault
    if slack > 1:
        for key, search in searches.items():
            found[key] = [*found[key], *_least_bytes(search, capacity)]
    rows, seen = [], set()
    for key, shape in zip(keys, shapes, strict=True):
        again = key in seen
        seen.add(key)
        rows.append(
            tuple(
                dataclasses.replace(
                    mapping,
                    # A reduction that had to be split runs all its steps.
                    shape=dataclasses.replace(shape, blocks=mapping.shape.blocks),
                    evaluated=0 if again else mapping.evaluated,
                    seconds=0.0 if again else searches[key].seconds,
                )
                for mapping in found[key]
            )
        )
    return Ranking(ranked=tuple(rows), capacity=capacity)


def _least_bytes(search: LayerSearch, capacity: Capacity) -> list[Mapping]:
    """The mapping that reads least, as one more finalist: of little work it may be the fastest, too."""
    objective = search.objective
    other = LayerSearch(search.shape, search.machine, Objective.BYTES, search.prices)
    return [
        dataclasses.replace(
            mapping,
            score={
                Objective.LATENCY: float(mapping.cycles),
                Objective.ENERGY: mapping.energy_pj,
                Objective.EDP: mapping.energy_pj * mapping.cycles,
                Objective.BYTES: mapping.score,
            }[objective],
            optimal=False,
        )
        for mapping in other.whole(capacity)[:1]
    ]


def plan_network(
    network: Network,
    machine: Machine,
    objective: Objective = Objective.LATENCY,
    prices: EventPrices | None = None,
    judge: Judge | None = None,
) -> NetworkPlan:
    """The core layers of `network` with the mapping chosen for each; `plan_layers` says how.

    Args:
        network: what to run.
        machine: where.
        objective: what to make small.
        prices: of events, for an objective with energy.
        judge: a program's score by a better measure than the estimate, such as the cycle model's; it
            chooses among the best few mappings of each layer, between its neighbours.

    Raises:
        MappingError: the network or a layer can't run on this machine; names the layer.
        ValueError: an objective with energy, and no prices.
    """
    slack = 1.0 if judge is None else _SLACK
    graph, ranking = _plan(network, machine, frozenset(), objective, prices, slack)
    apart: frozenset[str] = frozenset()
    for pool in _pools_in_the_way(network, graph, machine):
        other_graph, other = _plan(network, machine, apart | {pool}, objective, prices, slack)
        if other.score < ranking.score:
            apart, graph, ranking = apart | {pool}, other_graph, other
    mappings, judged = ranking.mappings, 0
    if judge is not None:
        mappings, judged = choose_among(ranking.ranked, graph, machine, ranking.capacity, judge)
    return NetworkPlan(
        graph=graph,
        mappings=mappings,
        capacity=ranking.capacity,
        objective=objective,
        apart=apart,
        judged=judged,
    )


def _plan(
    network: Network,
    machine: Machine,
    apart: frozenset[str],
    objective: Objective,
    prices: EventPrices | None,
    slack: float,
) -> tuple[Graph, Ranking]:
    """The core layers with these pools apart, and their mappings."""
    graph = lower_graph(network, apart)
    for layer in graph.layers:
        check_served(layer, machine)
        check_accumulators(layer, machine)
    shapes = [_with_blocks(layer, machine) for layer in graph.layers]
    return graph, plan_layers(shapes, machine, objective, prices, slack)


def steps_to_leave_out(network: Network, machine: Machine) -> tuple[tuple[str, ...], int]:
    """Layers with weight steps that are all zero, and the `buffers.step_entries` that leave those out.

    Of a layer counts what pays on the machine's rows and lanes, whatever step lists it holds now; () and 0
    where nothing does.

    Raises:
        MappingError: a layer can't run on this machine; names the layer.
    """
    least, most = STEP_ENTRIES
    taken = {}
    for layer in lower_graph(network, frozenset()).layers:
        check_served(layer, machine)
        if 0 < (entries := _zero_blocks(layer, machine)[1]) <= most:
            taken[layer.shape.name] = entries
    if not taken:
        return (), 0
    return tuple(taken), max(least, 1 << (max(taken.values()) - 1).bit_length())


def _zero_blocks(layer: CoreLayer, machine: Machine) -> tuple[WeightBlocks | None, int]:
    """Which weights of a layer are all zero, and the step entries that leave them out; 0: it doesn't pay."""
    shape, array = layer.shape, machine.array
    if shape.ones or shape.pe.lane_wise:
        return None, 0
    # A group runs all planes of its channels, so what it leaves out is zero in each.
    planes = layer.weights.reshape(shape.planes, shape.K, *layer.weights.shape[1:])
    blocks = weight_blocks(np.any(planes != 0, axis=0, keepdims=True)[0], array.rows // shape.summed)
    line = machine.weight_line_bits // 8 // array.sets_per_word(shape.pe)
    return blocks, 0 if blocks is None else entries_worth(blocks, array.lanes(shape.pe), line)


def _with_blocks(layer: CoreLayer, machine: Machine) -> LayerShape:
    """The layer's loops, with what of its weights is zero if leaving that out pays on this machine."""
    if not machine.step_lines:
        return layer.shape
    blocks, entries = _zero_blocks(layer, machine)
    if not 0 < entries <= machine.buffers.step_entries:
        return layer.shape
    return dataclasses.replace(layer.shape, blocks=blocks)


def _pools_in_the_way(network: Network, graph: Graph, machine: Machine) -> list[str]:
    """Max pools that could run apart, and whose windows leave array columns idle where they don't.

    A window lies within a column, so a layer with few rows of windows uses few columns.
    """
    if PeKind.VECTOR not in machine.array.kinds:
        return []
    few = {
        number
        for layer in graph.layers
        for shape in (layer.shape,)
        if shape.pool_y > 1 and not shape.pe.lane_wise
        and shape.OY // shape.pool_y < min(machine.array.cols, shape.OY)
        for number in (layer.result,)
    }  # fmt: skip
    names = {graph.storages[number].name for number in few}
    ends = {layer.output: layer for layer in network.layers}
    found = []
    for name in sorted(names):
        layer = ends.get(name)
        while layer is not None and not isinstance(layer, MaxPool):
            # What runs after the pool in the same pass, or only gives the result another name.
            layer = ends.get(layer.inputs[0]) if isinstance(layer, Relu | Flatten | Shuffle) else None
        if layer is not None and network.tensors[layer.inputs[0]].fmt.name == "int8":
            found.append(layer.name)
    return found
