"""A network on an abstract machine: which tensors stay on chip, which layers are fused, at what cost."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .fusion import fusible
from .hierarchy import AbstractMachine
from .layer_graph import LayerGraph
from .liveness import MemoryMap, place_tensors
from .mapping import MappingError
from .plan_costs import LayerCosts, Run, Search, keeping_level
from .plan_space import PlanEdge, PlanSpace
from .problem import Problem

if TYPE_CHECKING:
    from .optimum import Found
    from .search_cache import SearchCache

__all__ = ["AbstractPlan", "FusedPair", "PlannedRun", "PlannedStep", "Totals", "plan_network_on"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A nest and how often it runs; more than once where a layer is cut into strips."""

    found: Found
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What steps cost one after the other."""

    latency_cycles: int = 0
    """Of the steady states, as a search counts."""
    fill_cycles: int = 0
    energy_pj: float = 0.0
    dram_read_bytes: float = 0.0
    dram_write_bytes: float = 0.0

    @property
    def cycles(self) -> int:
        """Steady states, fills and drains."""
        return self.latency_cycles + self.fill_cycles

    def plus(self, other: Totals) -> Totals:
        """Both, one after the other."""
        return Totals(
            latency_cycles=self.latency_cycles + other.latency_cycles,
            fill_cycles=self.fill_cycles + other.fill_cycles,
            energy_pj=self.energy_pj + other.energy_pj,
            dram_read_bytes=self.dram_read_bytes + other.dram_read_bytes,
            dram_write_bytes=self.dram_write_bytes + other.dram_write_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step as it was chosen."""

    name: str
    runs: tuple[PlannedRun, ...]
    """Empty where values move only."""
    totals: Totals
    resident_bits: int
    """What tensors take of the keeping level while it runs; the nests have the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedPair:
    """Two layers that run strip by strip; the tensor between them is never whole."""

    kind: str
    first: str
    second: str
    tensor: str
    rows: int
    """Output rows of the second layer in a strip."""
    strips: int
    held_bits: int
    """Of the tensor between, on chip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbstractPlan:
    """A network's steps on a machine, and what it gains that tensors stay on chip; modelled, not run."""

    network: str
    machine: str
    objective: str
    steps: tuple[PlannedStep, ...]
    level: str
    """Where tensors stay; '' if the machine has no such level."""
    kept: tuple[str, ...]
    fused: tuple[FusedPair, ...]
    memory: MemoryMap
    """Of all tensors that lie in the outermost level; weights apart."""
    peak_resident_bits: int
    total: Totals
    before: Totals
    """With every tensor written to and read from the outermost level."""
    objective_value: float
    """Sum over layers: picojoules, cycles or the products of both."""
    before_value: float
    optimal: bool
    """Whether no choice of tensors and pairs is better, by layers' best nests."""
    bound: float
    searches: int
    seconds: float
    fidelity: str = "modelled"


class _Planner:
    """The cheapest way through the space, by what is known of costs so far."""

    def __init__(self, space: PlanSpace, costs: LayerCosts) -> None:
        self.space, self.costs = space, costs

    def value(self, edge: PlanEdge, *, bound: bool) -> tuple[float, bool]:
        """(what an edge costs, whether all its nests are known); else, or with `bound`, at least."""
        total, exact = 0.0, True
        for _, runs in edge.layers:
            energy = latency = root = 0.0
            sure = True
            for times, run in runs:
                if self.costs.impossible(run):
                    return math.inf, True
                found = self.costs.known(run)
                least = self.costs.least(run)
                sure &= found is not None
                if found is not None:
                    energy += times * found.evaluation.energy_pj
                    latency += times * found.evaluation.latency_cycles
                # With Cauchy and Schwarz (Σ nE)(Σ nL) ≥ (Σ n √(E·L))².
                weight = math.sqrt(least) if self.costs.objective == "edp" else least
                root += times * weight
            exact &= sure
            if sure and not bound:
                total += _value(self.costs.objective, energy, latency)
            else:
                total += root**2 if self.costs.objective == "edp" else root
        for _, move in edge.moves:
            total += _value(self.costs.objective, move.energy_pj, move.latency_cycles)
        return total, exact

    def shortest(self, *, bound: bool = False, exact: bool = False) -> tuple[float, list[PlanEdge]]:
        """(cost, edges) of the cheapest way; `bound`: by bounds; `exact`: by edges that are known."""
        steps = len(self.space.graph.steps)
        empty: frozenset[str] = frozenset()
        best: list[dict[frozenset[str], tuple[float, PlanEdge | None]]] = [{} for _ in range(steps + 1)]
        best[0][empty] = (0.0, None)
        for i in range(steps):
            for kept, (so_far, _) in best[i].items():
                for edge in self.space.edges(i, kept):
                    value, known = self.value(edge, bound=bound)
                    if value == math.inf or (exact and not known):
                        continue
                    row = best[edge.after]
                    if edge.target not in row or so_far + value < row[edge.target][0]:
                        row[edge.target] = (so_far + value, edge)
        if empty not in best[steps]:
            return math.inf, []
        total, way = best[steps][empty][0], []
        at, kept = steps, empty
        while at:
            last = best[at][kept][1]
            assert last is not None  # only the start has none
            way.append(last)
            at, kept = last.first, last.source
        return total, way[::-1]

    def plain(self) -> list[PlanEdge]:
        """The way on which nothing is kept or fused; its nests are searched.

        Raises:
            MappingError: a layer has no legal nest.
        """
        way = []
        for i in range(len(self.space.graph.steps)):
            edge = next(
                e for e in self.space.edges(i, frozenset()) if e.after == i + 1 and not e.target
                and e.strip is None and e.resident_bits == 0
            )  # fmt: skip
            for _, runs in edge.layers:
                for _, run in runs:
                    self.costs.require(run)
            way.append(edge)
        return way

    def refine(self, edge: PlanEdge) -> None:
        """Nothing; searches runs with all the room that they could have, then with what they do have."""
        for _, runs in edge.layers:
            for _, run in runs:
                if self.costs.known(run) is not None or self.costs.impossible(run):
                    continue
                own = self._alone(run)
                self.costs.search(run if self.costs.seen(own) else own)
                if self.costs.late:
                    return

    def _alone(self, run: Run) -> Run:
        """The run with nothing else on chip, not even its own operands' room: never dearer."""
        return Run(problem=run.problem, in_place=run.in_place, through_tile=run.through_tile)


def _value(objective: str, energy: float, latency: float) -> float:
    return {"energy": energy, "latency": latency, "edp": energy * latency}[objective]


def plan_network_on(
    machine: AbstractMachine,
    graph: LayerGraph,
    *,
    objective: str = "energy",
    time_limit_s: float = math.inf,
    layer_limit_s: float = math.inf,
    fuses: bool = True,
    cache: SearchCache | None = None,
    search: Search | None = None,
) -> AbstractPlan:
    """The plan of the least energy, latency or sum of layers' energy-delay products.

    Whether each tensor between layers stays on chip, and which pairs of layers run strip by strip, is chosen
    exactly by the layers' searched costs: the way of least bounds is made sure of edge by edge, until one
    whose every nest is known is the cheapest.

    Args:
        machine: abstract; if it has no keeping level, every tensor lies in the outermost one.
        graph: the network.
        objective: energy, latency or edp.
        time_limit_s: seconds for all searches beyond those of layers by themselves.
        layer_limit_s: seconds for one search.
        fuses: whether pairs may be fused.
        cache: where certified nests are kept and looked for.
        search: a layer's best nest on a machine, if it is not to be `optimum.search`.

    Raises:
        MappingError: a layer has no legal nest; names the buffer that is short.
        ValueError: an unknown objective, or a network without steps.
    """
    if not graph.steps:
        raise ValueError(f"network {graph.name!r:.80} has no steps")
    if objective not in ("energy", "latency", "edp"):
        raise ValueError(f"objective must be one of energy, latency, edp, not {objective!r}")
    started = time.perf_counter()
    costs = LayerCosts(
        machine, objective, search or _search(objective, layer_limit_s, cache), started + time_limit_s
    )
    planner = _Planner(PlanSpace(machine=machine, graph=graph, fuses=fuses), costs)
    plain = planner.plain()
    while True:
        _, way = planner.shortest()
        unknown = [edge for edge in way if not planner.value(edge, bound=False)[1]]
        if not unknown or costs.late:
            break
        for edge in unknown:
            if not costs.late:
                planner.refine(edge)
    value, way = planner.shortest(exact=True)
    bound = planner.shortest(bound=True)[0]
    sure = not (costs.uncertain or planner.space.left_out)
    return _result(planner, plain, way, value, min(bound, value), sure, time.perf_counter() - started)


def _search(objective: str, limit: float, cache: SearchCache | None) -> Search:
    from .search_cache import search_layers

    def best(machine: AbstractMachine, problem: Problem) -> Found:
        return search_layers(machine, [problem], objective=objective, time_limit_s=limit, cache=cache)[0]

    return best


def _planned(planner: _Planner, edge: PlanEdge) -> list[PlannedStep]:
    """The steps of an edge, in order."""
    graph, costs = planner.space.graph, planner.costs
    steps = {}
    for i, move in edge.moves:
        totals = Totals(
            latency_cycles=move.latency_cycles,
            energy_pj=move.energy_pj,
            dram_read_bytes=move.dram_read_bits / 8,
            dram_write_bytes=move.dram_write_bits / 8,
        )
        steps[i] = PlannedStep(
            name=graph.steps[i].name, runs=(), totals=totals, resident_bits=edge.resident_bits
        )
    for i, runs in edge.layers:
        rows, totals = [], Totals()
        for times, run in runs:
            found = costs.known(run)
            if found is None:
                raise MappingError(f"layer {graph.steps[i].name}: its nest is not known")
            rows.append(PlannedRun(found=found, times=times))
            totals = totals.plus(_run_totals(planner.space.machine, found, times))
        steps[i] = PlannedStep(
            name=graph.steps[i].name, runs=tuple(rows), totals=totals, resident_bits=edge.resident_bits
        )
    return [steps[i] for i in sorted(steps)]


def _run_totals(machine: AbstractMachine, found: Found, times: int) -> Totals:
    value = found.evaluation
    moved = [row for row in value.traffic if row.level == machine.levels[-1].name]
    return Totals(
        latency_cycles=times * value.latency_cycles,
        fill_cycles=times * value.fill_cycles,
        energy_pj=times * value.energy_pj,
        dram_read_bytes=times * sum(row.read_bytes + row.drain_bytes for row in moved),
        dram_write_bytes=times * sum(row.update_bytes + row.fill_bytes for row in moved),
    )


def _sum(steps: list[PlannedStep]) -> Totals:
    total = Totals()
    for step in steps:
        total = total.plus(step.totals)
    return total


def _result(
    planner: _Planner,
    plain: list[PlanEdge],
    way: list[PlanEdge],
    value: float,
    bound: float,
    sure: bool,
    seconds: float,
) -> AbstractPlan:
    space, graph = planner.space, planner.space.graph
    steps = [step for edge in way for step in _planned(planner, edge)]
    kept = {x for edge in way for x in edge.source | edge.target}
    fused = []
    for edge in way:
        if edge.strip is None:
            continue
        a, b = graph.steps[edge.first], graph.steps[edge.first + 1]
        between = graph.tensors[a.outputs[0]]
        fused.append(
            FusedPair(
                kind=fusible(graph, edge.first) or "",
                first=a.name,
                second=b.name,
                tensor=between.name,
                rows=edge.strip.rows,
                strips=edge.strip.count,
                held_bits=edge.strip.held_rows * math.ceil(between.size_bits / between.rows),
            )
        )
    inside = kept | {pair.tensor for pair in fused}
    level = keeping_level(space.machine)
    outside = {
        name: -(-tensor.size_bits // 8) for name, tensor in graph.tensors.items()
        if name not in inside and name in space.lives
    }  # fmt: skip
    return AbstractPlan(
        network=graph.name,
        machine=space.machine.name,
        objective=planner.costs.objective,
        steps=tuple(steps),
        level="" if level is None else space.machine.levels[level].name,
        kept=tuple(sorted(kept, key=lambda x: (space.lives[x], x))),
        fused=tuple(fused),
        memory=place_tensors(outside, space.lives),
        peak_resident_bits=max((edge.resident_bits for edge in way), default=0),
        total=_sum(steps),
        before=_sum([step for edge in plain for step in _planned(planner, edge)]),
        objective_value=value,
        before_value=sum(planner.value(edge, bound=False)[0] for edge in plain),
        optimal=sure and value <= bound * (1 + 1e-9),
        bound=bound if sure else 0.0,
        searches=planner.costs.searches,
        seconds=seconds,
    )
