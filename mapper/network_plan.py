"""A network on an abstract machine: which tensors stay on chip, which layers are fused, at what cost."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .fusion import Strip, fusible, row_problem, strips_of
from .hierarchy import AbstractMachine
from .layer_graph import LayerGraph, Step
from .liveness import MemoryMap, place_tensors
from .mapping import MappingError
from .plan_costs import LayerCosts, Moved, Run, Search, keeping_level, moved_cost
from .problem import Problem

if TYPE_CHECKING:
    from .optimum import Found
    from .search_cache import SearchCache

__all__ = ["MOST_ALIVE", "FusedPair", "NetworkPlan", "PlannedRun", "PlannedStep", "Totals", "plan_network_on"]

MOST_ALIVE = 8
"""Tensors between layers that may live at once for each to be chosen; of more, the shortest-lived are."""


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
class NetworkPlan:
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


_Layer = tuple[int, tuple[tuple[int, Run], ...]]
"""A step with products, and (times, run) of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edge:
    """One way to run a step or a fused pair, from one set of kept tensors to the next."""

    first: int
    after: int
    """The step that follows."""
    source: frozenset[str]
    target: frozenset[str]
    layers: tuple[_Layer, ...]
    moves: tuple[tuple[int, Moved], ...]
    resident_bits: int
    strip: Strip | None = None


@dataclass(slots=True)
class _Space:
    """All ways to run a network: edges between (step, kept tensors), grown as they are reached."""

    machine: AbstractMachine
    graph: LayerGraph
    fuses: bool
    room: int = 0
    lives: dict[str, tuple[int, int]] = field(default_factory=dict)
    choosable: set[str] = field(default_factory=set)
    left_out: bool = False
    grown: dict[tuple[int, frozenset[str]], list[_Edge]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        level = keeping_level(self.machine)
        self.lives = self.graph.lives()
        if level is None:
            return
        self.room = self.machine.levels[level].size_bits or 0
        steps = self.graph.steps
        weights = {name for step in steps for name in step.weights}
        free = [
            name
            for name, (first, last) in self.lives.items()
            if 0 <= first < last < len(steps)
            and name not in weights
            and self.graph.tensors[name].size_bits <= self.room
        ]
        alive = [0] * len(steps)
        for name in sorted(free, key=lambda x: (self.lives[x][1] - self.lives[x][0], x)):
            first, last = self.lives[name]
            if max(alive[first : last + 1]) >= MOST_ALIVE:
                self.left_out = True
                continue
            for i in range(first, last + 1):
                alive[i] += 1
            self.choosable.add(name)

    def bits(self, names: frozenset[str]) -> int:
        """Bits of tensors."""
        return sum(self.graph.tensors[name].size_bits for name in names)

    def edges(self, i: int, kept: frozenset[str]) -> list[_Edge]:
        """Ways from step i on, with these tensors on chip."""
        key = (i, kept)
        if key not in self.grown:
            self.grown[key] = [*self._single(i, kept), *(self._fused(i, kept) if self.fuses else ())]
        return self.grown[key]

    def _choices(self, i: int, kept: frozenset[str]) -> Iterator[frozenset[str]]:
        """Kept tensors while step i runs, for each choice among those that it begins."""
        new = [x for x in self.graph.steps[i].outputs if x in self.choosable and self.lives[x][0] == i]
        for n in range(len(new) + 1):
            for chosen in itertools.combinations(new, n):
                grown = kept | set(chosen)
                if self.bits(grown) <= self.room:
                    yield grown

    def _after(self, i: int, kept: frozenset[str]) -> frozenset[str]:
        return frozenset(x for x in kept if self.lives[x][1] > i)

    def _single(self, i: int, kept: frozenset[str]) -> Iterator[_Edge]:
        step = self.graph.steps[i]
        for grown in self._choices(i, kept):
            target, bits = self._after(i, grown), self.bits(grown)
            if step.problem is None:
                move = self._move(step, grown)
                yield _Edge(
                    first=i, after=i + 1, source=kept, target=target, layers=(), moves=((i, move),),
                    resident_bits=bits,
                )  # fmt: skip
                continue
            for run, taken in self._runs(step, step.problem, grown, bits):
                yield _Edge(
                    first=i, after=i + 1, source=kept, target=target, layers=((i, ((1, run),)),), moves=(),
                    resident_bits=taken,
                )  # fmt: skip

    def _move(self, step: Step, kept: frozenset[str], between: str = "") -> Moved:
        reads, writes = {False: 0, True: 0}, {False: 0, True: 0}
        for names, way in ((step.inputs, reads), (step.outputs, writes)):
            for name in names:
                way[name in kept or name == between] += self.graph.tensors[name].size_bits
        return moved_cost(self.machine, reads, writes)

    def _runs(
        self, step: Step, problem: Problem, kept: frozenset[str], bits: int, *, inside: bool = False
    ) -> Iterator[tuple[Run, int]]:
        """(run, resident bits) of a layer: its operands on chip where kept, results in place or by a tile.

        `inside`: the input is a strip on chip, counted in `bits`.
        """
        held = ("I",) if inside or step.inputs[0] in kept else ()
        if step.outputs[0] not in kept:
            yield Run(problem=problem, in_place=held, resident_bits=bits), bits
            return
        yield from self._results_inside(problem, held, bits, problem)

    def _results_inside(
        self, problem: Problem, held: tuple[str, ...], bits: int, widest: Problem
    ) -> Iterator[tuple[Run, int]]:
        """Runs whose results stay, in `bits` when complete; `widest` has the most of them at once."""
        values = widest.B * widest.G * widest.K * widest.OY * widest.OX
        wide = bits + values * max(0, problem.partial_bits - problem.output_bits)
        if wide <= self.room:
            yield Run(problem=problem, in_place=(*held, "O"), resident_bits=wide), wide
        yield Run(problem=problem, in_place=held, through_tile=True, resident_bits=bits), bits

    def _fused(self, i: int, kept: frozenset[str]) -> Iterator[_Edge]:
        kind = fusible(self.graph, i) if self.room else None
        if kind is None:
            return
        a = self.graph.steps[i]
        assert a.problem is not None  # `fusible` says so
        between = self.graph.tensors[a.outputs[0]]
        row_bits = math.ceil(between.size_bits / between.rows)
        for grown in self._choices(i + 1, kept):
            for strip in strips_of(self.graph, i, self.room - self.bits(grown)):
                bits = self.bits(grown) + strip.held_rows * row_bits
                held = ("I",) if a.inputs[0] in grown else ()
                widest = row_problem(a.problem, strip.new_rows)
                for first, most in self._results_inside(a.problem, held, bits, widest):
                    strips = tuple(
                        (times, replace(first, problem=row_problem(a.problem, rows)))
                        for rows, times in strip.first
                    )
                    for layers, moves, taken in self._seconds(i + 1, grown, strip, bits, between.name):
                        yield _Edge(
                            first=i,
                            after=i + 2,
                            source=kept,
                            target=self._after(i + 1, grown),
                            layers=((i, strips), *layers),
                            moves=moves,
                            resident_bits=max(most, taken),
                            strip=strip,
                        )

    def _seconds(
        self, i: int, kept: frozenset[str], strip: Strip, bits: int, between: str
    ) -> Iterator[tuple[tuple[_Layer, ...], tuple[tuple[int, Moved], ...], int]]:
        """(layers, moves, resident bits) of a pair's second step, whose input is strips on chip."""
        step = self.graph.steps[i]
        if step.problem is None:
            yield (), ((i, self._move(step, kept, between)),), bits
            return
        part = row_problem(step.problem, strip.rows)
        for run, taken in self._runs(step, part, kept, bits, inside=True):
            yield ((i, ((strip.count, run),)),), (), taken


class _Planner:
    """The cheapest way through the space, by what is known of costs so far."""

    def __init__(self, space: _Space, costs: LayerCosts) -> None:
        self.space, self.costs = space, costs

    def value(self, edge: _Edge, *, bound: bool) -> tuple[float, bool]:
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
                weight = math.sqrt(least or 0.0) if self.costs.objective == "edp" else (least or 0.0)
                root += times * weight
            exact &= sure
            if sure and not bound:
                total += _value(self.costs.objective, energy, latency)
            else:
                total += root**2 if self.costs.objective == "edp" else root
        for _, move in edge.moves:
            total += _value(self.costs.objective, move.energy_pj, move.latency_cycles)
        return total, exact

    def shortest(self, *, bound: bool = False, exact: bool = False) -> tuple[float, list[_Edge]]:
        """(cost, edges) of the cheapest way; `bound`: by bounds; `exact`: by edges that are known."""
        steps = len(self.space.graph.steps)
        empty: frozenset[str] = frozenset()
        best: list[dict[frozenset[str], tuple[float, _Edge | None]]] = [{} for _ in range(steps + 1)]
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

    def plain(self) -> list[_Edge]:
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

    def refine(self, edge: _Edge) -> None:
        """Nothing; searches runs with all the room that they could have, then with what they do have."""
        for _, runs in edge.layers:
            for _, run in runs:
                if self.costs.known(run) is not None or self.costs.impossible(run):
                    continue
                own = self._alone(run)
                self.costs.search(own if self.costs.least(own) is None else run)
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
) -> NetworkPlan:
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
    planner = _Planner(_Space(machine=machine, graph=graph, fuses=fuses), costs)
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


def _planned(planner: _Planner, edge: _Edge) -> list[PlannedStep]:
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
    plain: list[_Edge],
    way: list[_Edge],
    value: float,
    bound: float,
    sure: bool,
    seconds: float,
) -> NetworkPlan:
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
    return NetworkPlan(
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
