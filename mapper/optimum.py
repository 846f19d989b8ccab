"""The best nest of a layer on an abstract machine: branch and bound from the outermost level inwards."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass

import numpy as np

from . import optimum_kernel as kernel
from .evaluation import Evaluation, evaluate
from .hierarchy import AbstractMachine
from .loop_nest import LoopNest
from .mapping import MappingError
from .nest_space import Array, NestSpace
from .problem import DIMS, Problem
from .tile_space import loop_orders

__all__ = ["CERTIFIED_LEVELS", "OBJECTIVES", "Found", "search", "search_pareto"]

OBJECTIVES = ("energy", "latency", "edp")
CERTIFIED_LEVELS = 4
"""Levels of a machine up to which a search that ends is certified."""

_ROOM = 1 << 12
"""Candidates that are looked at together."""
_TOGETHER = 64
"""Tiles of level 1 that are gone below before the time is looked at."""
_TIES = 1 << 21
"""Candidates that are looked at for less energy once the least cycles are certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The best nest that a search found, and how sure it is."""

    mapping: LoopNest
    evaluation: Evaluation
    objective: str
    evaluated: int
    """Nests that were evaluated whole: exact latency, energy, and bytes a level and operand."""
    partial: int
    """Parts of nests whose exact or least cost was computed."""
    optimal: bool
    """Whether no nest of the space is better; the space is that of docs/mapping.md."""
    bound: float
    """What no nest of the space goes below: picojoules, cycles, or their product."""
    seconds: float

    @property
    def objective_value(self) -> float:
        """Picojoules, cycles, or their product."""
        return _value(self.objective, self.evaluation)

    @property
    def gap(self) -> float:
        """By how much the nest may be worse than the best, as a share of the bound; 0 if certified.

        Infinite where the time ended before anything was bounded.
        """
        if self.optimal:
            return 0.0
        return self.objective_value / self.bound - 1 if self.bound else math.inf


def _value(objective: str, found: Evaluation) -> float:
    if objective == "energy":
        return found.energy_pj
    return float(found.latency_cycles) if objective == "latency" else found.edp


def search(
    machine: AbstractMachine,
    problem: Problem,
    *,
    objective: str = "energy",
    time_limit_s: float = math.inf,
    latency_cap: float = math.inf,
) -> Found:
    """The nest of the least energy, latency or energy-delay product.

    Of nests of the least latency it is that of the least energy, unless they are too many to be told apart;
    `optimal` speaks of the objective alone.

    Args:
        machine: 2 to 6 levels; certified up to 4.
        problem: the layer.
        objective: one of `OBJECTIVES`.
        time_limit_s: seconds after which the best nest so far is returned, with its bound.
        latency_cap: cycles that a nest may take at the most.

    Raises:
        MappingError: no nest is legal; names the layer and the buffer that is short, and by how much.
        ValueError: an unknown objective, or formats that no PE takes.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not {objective!r}")
    if not time_limit_s > 0:
        raise ValueError(f"time_limit_s must be above 0 (seconds), not {time_limit_s!r}")
    try:
        return _Search(machine, problem, objective, time_limit_s, latency_cap).run()
    except _NoNestError:
        return _Search(machine, problem, objective, time_limit_s, latency_cap, full=False).run()


def search_pareto(
    machine: AbstractMachine, problem: Problem, *, time_limit_s: float = math.inf, points: int = 32
) -> list[Found]:
    """The nests of which none is better in both energy and latency: least energy first, least latency last.

    Each point is the least energy within the cycles below the point before it. At most `points` of them, and
    `time_limit_s` for all; a point is certified as those of `search`.
    """
    started = time.perf_counter()
    fastest = search(machine, problem, objective="latency", time_limit_s=time_limit_s)
    least = fastest.evaluation.latency_cycles
    found: list[Found] = []
    cap = math.inf
    while len(found) < points - 1:
        left = time_limit_s - (time.perf_counter() - started)
        if left <= 0:
            break
        try:
            point = search(machine, problem, objective="energy", time_limit_s=left, latency_cap=cap)
        except MappingError:
            break
        # Of the same energy the one of least latency counts.
        found.append(point)
        cap = point.evaluation.latency_cycles - 1
        if cap < least:
            break
    kept = [p for i, p in enumerate(found) if all(_beats(p, q) for q in (*found[:i], *found[i + 1 :]))]
    if not kept or kept[-1].evaluation.latency_cycles > least:
        kept.append(fastest)
    return kept


def _beats(a: Found, b: Found) -> bool:
    """Whether b does not dominate a."""
    return not (
        b.evaluation.energy_pj <= a.evaluation.energy_pj * (1 + 1e-9)
        and b.evaluation.latency_cycles < a.evaluation.latency_cycles
    )


class _TimeOutError(Exception):
    """The time limit has passed."""


class _EnoughError(Exception):
    """What a part of the search was for is found."""


class _NoNestError(MappingError):
    """No nest of the space is legal."""


class _Search:
    """One search: branch and bound over a space of nests."""

    def __init__(
        self,
        machine: AbstractMachine,
        problem: Problem,
        objective: str,
        limit: float,
        cap: float,
        full: bool = True,
    ) -> None:
        self.started = time.perf_counter()
        self.deadline = self.started + limit
        self.machine, self.problem, self.objective = machine, problem, objective
        self.space = NestSpace(machine, problem, full)
        self.n = len(machine.levels)
        self.partial = self.proven = 0
        self.first = False
        self.open = 0.0
        self.best = np.zeros(len(kernel.BEST))
        self.best[:4] = (math.inf, math.inf, OBJECTIVES.index(objective), cap)
        self.best_nest = (
            np.zeros((self.n, 8), np.int64),
            np.ones((len(machine.axes), 8), np.int64),
            np.tile(np.arange(8), (self.n, 1)),
        )
        self.windows = bool(self.space.a.sliding[:-1].any()) and (problem.FY > 1 or problem.FX > 1)
        orders = loop_orders(self.windows)
        self.classes = np.array([[DIMS.index(d) for d in order] for _, order in orders], np.int64)
        self.of_class = [np.array([i for i, (x, _) in enumerate(orders) if x == k]) for k in range(3)]
        self.orders_of = np.full((3, max(map(len, self.of_class))), -1, np.int64)
        for k, row in enumerate(self.of_class):
            self.orders_of[k, : len(row)] = row
        self.per_class = np.array([len(row) for row in self.of_class])
        self.at_level = [
            np.array([axis.below == level.name for axis in machine.axes], np.int64)
            for level in machine.levels
        ]

    # -- branch and bound ----------------------------------------------------------------------

    def run(self) -> Found:
        machine, problem = self.machine, self.problem
        bound, complete = 0.0, True
        try:
            bound = self._bands()
        except _TimeOutError:
            complete, bound = False, self.open
        if not self.best[5]:
            if not complete:
                bound = 0.0
                self._any_nest()
            else:
                raise _NoNestError(self._why())
        tiles, counts, orders = self.best_nest
        nest = LoopNest(
            tiles=tuple(tuple(row) for row in tiles.tolist()),
            spatial=tuple(tuple(row) for row in counts.tolist()),
            orders=tuple(tuple(DIMS[d] for d in row) for row in orders.tolist()),
        )
        evaluation = evaluate(machine, problem, nest)
        value = _value(self.objective, evaluation)
        proven = complete or (self.objective == "latency" and value <= bound)
        optimal = proven and self.space.whole_space and self.n <= CERTIFIED_LEVELS
        return Found(
            mapping=nest,
            evaluation=evaluation,
            objective=self.objective,
            evaluated=int(self.best[4]),
            partial=self.partial + self.space.partial,
            optimal=optimal,
            bound=value if complete else min(bound, value),
            seconds=time.perf_counter() - self.started,
        )

    def _bands(self) -> float:
        """The bound of a search that ends; where latency counts, tiles on axes come by rising steps."""
        space = self.space
        share = float(space.a.pe[0])
        soonest = max(float(steps.min()) for steps in space.steps)
        if self.objective != "energy":
            soonest = max(soonest, space.busiest_port(soonest))
        least = space.tables()
        self.open = self._objective(least, soonest)
        if self.objective == "energy" or space.main < 0:
            self._descend(least if self.objective != "edp" else least * soonest, soonest)
            return self.open
        self.first = True  # bands begin with a nest to beat: the first below the tables of all
        with contextlib.suppress(_EnoughError):
            self._descend(self._objective(least, soonest) if self.objective == "edp" else least, soonest)
        self.first = False
        ratio = 1.02 if self.objective == "latency" else 1.1
        low, high = -math.inf, soonest
        while not kernel.prune(least, max(soonest, low), self.best):
            part = space.tables((low / share, (high + 0.5) / share))
            slow = max(soonest, math.floor(low) + 1.0) if low > 0 else soonest
            self.open = self._objective(least, slow)
            if part < math.inf and not kernel.prune(part, slow, self.best):
                self._descend(self._objective(part, slow) if self.objective == "edp" else part, slow)
            if high > self.problem.macs * share + 1:
                break
            low, high = high + 0.5, float(math.floor(max(high * ratio, high + 1)))  # cycles are whole
            ratio = ratio * ratio if part == math.inf else ratio
        return self.open

    def _objective(self, energy: float, latency: float) -> float:
        return {"energy": energy, "latency": latency, "edp": energy * latency}[self.objective]

    def _descend(self, least: float, soonest: float) -> None:
        tiles = np.ones((self.n, 8), np.int64)
        tiles[-1] = self.problem.sizes
        counts = np.ones((len(self.machine.axes), 8), np.int64)
        orders = np.tile(np.arange(8), (self.n, 1))
        busy = np.zeros((2, self.n + 1))
        full = np.zeros((8, 2, 6), np.int64)
        full[:, 0, 0], full[:, 1, 0] = self.problem.sizes, 1
        self._branch(self.n - 2, tiles, counts, orders, 0.0, soonest, busy, least, full)

    def _branch(
        self, c: int, tiles: Array, counts: Array, orders: Array,
        spent: float, latency: float, busy: Array, least: float, full: Array,
    ) -> None:  # fmt: skip
        """Nothing; tries the tiles of level c below what is decided, by rising bounds."""
        space = self.space
        b = c + 1
        steps = space.steps[b]
        inner = np.ones(8, np.int64)
        for level in range(b):
            inner = inner * space.options[level].max(axis=0)
        ranks, out = np.empty(_ROOM), np.empty((_ROOM, 3), np.int64)
        low, high = -math.inf, least * (1 + 1e-3) if least > 0 else math.inf
        while True:
            self._clock()
            pairs, bases = space.ready[c].below(self._limit(spent, max(latency, float(steps.min())), high))
            found = kernel.bound_candidates(
                pairs, bases, space.cells[c], space.coords, space.sizes, space.a.shape, space.options[b],
                steps, space.shared[b], space.extra[b], space.wide[c], space.coef[c],
                space.a.keep[c], bool(space.a.sliding[c]), space.inner[c], space.whole, tiles[b], full, inner,
                float(space.a.pe[0]), spent, latency,
                self.best, low, high, ranks, out,
            )  # fmt: skip
            self.partial += found
            if found > len(ranks):  # look at fewer: those below a rank that half the room has
                middle = float(np.quantile(ranks, 0.5 * len(ranks) / found))
                if low < middle < high and np.any(ranks < middle):
                    high = middle
                else:
                    ranks, out = np.empty(2 * len(ranks)), np.empty((2 * len(ranks), 3), np.int64)
                continue
            by_rank = np.argsort(ranks[:found], kind="stable")
            picked = np.repeat(out[by_rank], self.per_class[out[by_rank, 2]], axis=0)
            rank = np.repeat(ranks[by_rank], self.per_class[out[by_rank, 2]])
            picked[:, 2] = np.concatenate([self.of_class[k] for k in out[by_rank, 2]] or [picked[:, 2]])
            if c == 0:
                self._finish(rank, picked, tiles, counts, orders)
            elif len(picked):
                self._settle(c, picked, high, tiles, counts, orders, spent, latency, busy)
            if high == math.inf:
                return
            low = high
            high = math.inf if self.best[5] else high + (high - least) * 4

    def _limit(self, spent: float, latency: float, high: float) -> float:
        """The cost inside a tile from which on no candidate is better, or ranks below `high`."""
        energy, best_latency = float(self.best[0]), float(self.best[1])
        if self.objective == "edp":
            return min(energy * best_latency, high) / max(latency, 1.0) - spent
        if self.objective == "latency" and best_latency > latency:
            energy = math.inf
        return min(energy, high) - spent

    def _settle(
        self, c: int, picked: Array, high: float, tiles: Array, counts: Array,
        orders: Array, spent: float, latency: float, busy: Array,
    ) -> None:  # fmt: skip
        """Nothing; goes below each candidate of level c, by rising bounds."""
        space = self.space
        a, b = space.a, c + 1
        bounds, costs = np.empty((len(picked), 2)), np.empty(len(picked))
        times = np.empty((len(picked), 2, self.n + 1))
        fulls = np.empty((len(picked), 8, 2, 6), np.int64)
        pending = space.coef[c - 1, :, :2] * a.keep[c - 1][:, None]
        kernel.settle_candidates(
            c, picked, space.coords, space.sizes, space.details[b], self.at_level[b], self.classes,
            tiles.copy(), counts.copy(), orders.copy(), a.keep, a.axis_level, a.multicast, a.sliding, a.shape,
            a.shares, space.coef[c], space.inner[c], pending, space.whole, space.steps[b], space.extra[b],
            *space.splits[c], float(a.pe[0]), spent, latency, a.prices, a.ports, busy, self.best, bounds,
            costs, times, fulls,
        )  # fmt: skip
        self.partial += len(picked)
        key = bounds[:, 0] * bounds[:, 1] if self.objective == "edp" else bounds[:, 0]
        if self.objective == "latency":
            order = np.lexsort((bounds[:, 0], bounds[:, 1]))
        else:
            order = np.argsort(key, kind="stable")
            if c == 1:
                order = self._settle_last(
                    order, picked, high, key, bounds, costs, fulls, tiles, counts, orders
                )
        for i in order:
            if kernel.prune(bounds[i, 0], bounds[i, 1], self.best):
                continue
            if c == self.n - 2 and self.objective == "energy":
                self.open = max(self.open, min(float(key[i]), high))
            o, cell, k = picked[i]
            below, unrolled, loops = tiles.copy(), counts.copy(), orders.copy()
            below[c] = space.sizes[np.arange(8), space.coords[cell]]
            unrolled[self.at_level[b] > 0] = space.details[b][o][self.at_level[b] > 0]
            loops[b] = self.classes[k]
            self._branch(
                c - 1, below, unrolled, loops, float(costs[i]), float(bounds[i, 1]), times[i],
                float(key[i]), fulls[i],
            )  # fmt: skip

    def _settle_last(
        self, turn: Array, picked: Array, high: float, key: Array, bounds: Array, costs: Array,
        fulls: Array, tiles: Array, counts: Array, orders: Array,
    ) -> Array:  # fmt: skip
        """Candidates of level 1 that are still to be gone below; all others are done, many at a call."""
        space = self.space
        a = space.a
        steps = space.steps[1]
        soonest = float(steps.min())
        ranks, out, looked = np.empty(_ROOM), np.empty((_ROOM, 3), np.int64), np.zeros(1, np.int64)
        others = space.options[0].max(axis=0)
        while len(turn) and self.best[5] and not self.first:
            self._clock()
            part = turn[:_TOGETHER]
            part = part[[not kernel.prune(*bounds[i], self.best) for i in part]]
            if not len(part):
                return turn[:0]
            if self.n == 3 and self.objective == "energy":
                self.open = max(self.open, min(float(key[part[0]]), high))
            limit = max(self._limit(costs[i], max(bounds[i, 1], soonest), math.inf) for i in part)
            pairs, bases = space.ready[0].below(float(limit))
            done = kernel.finish_below(
                part, picked, bounds, costs, fulls, space.details[2], self.at_level[2],
                pairs, bases, space.cells[0], space.coords, space.sizes, space.options[1], steps,
                space.shared[1], space.extra[1], space.wide[0], space.coef[0], space.inner[0], space.whole,
                others, space.details[1], self.at_level[1], self.classes, self.orders_of, space.options[0],
                space.details[0], self.at_level[0], tiles.copy(), counts.copy(), orders.copy(), a.keep,
                a.axis_level, a.multicast, a.sliding, a.shape, a.shares, a.prices, a.ports, a.pe, a.drains,
                self.best, *self.best_nest, ranks, out, looked,
            )  # fmt: skip
            self.partial += int(looked[0])
            looked[0] = 0
            if done < len(part):
                return np.concatenate([part[done:], turn[_TOGETHER:]])
            turn = turn[_TOGETHER:]
        return turn

    def _finish(self, rank: Array, picked: Array, tiles: Array, counts: Array, orders: Array) -> None:
        """Nothing; evaluates the nests that the candidates complete."""
        space = self.space
        a = space.a
        kernel.finish_candidates(
            rank, picked, space.coords, space.sizes, space.details[1], self.at_level[1], self.classes,
            space.options[0], space.details[0], self.at_level[0],
            tiles.copy(), counts.copy(), orders.copy(), a.keep, a.axis_level, a.multicast, a.sliding, a.shape,
            a.shares, a.prices, a.ports, a.pe, a.drains, self.best, *self.best_nest,
        )  # fmt: skip
        if self.first and self.best[5]:
            raise _EnoughError

    def _why(self) -> str:
        """Why no nest is legal."""
        where = f"layer {self.problem.name}"
        if self.best[3] < math.inf:
            return f"{where}: no nest takes at most {self.best[3]:g} cycles on {self.machine.name}"
        return (
            f"{where}: no tiles of {self.machine.name}'s levels fit into each other: raise the size_bits of "
            f"the levels around {', '.join(axis.below for axis in self.machine.axes)}"
        )

    def _clock(self) -> None:
        if time.perf_counter() > self.deadline:
            raise _TimeOutError
        if self.objective == "latency" and float(self.best[1]) <= self.open:
            # The least cycles are certain; what is left is the least energy among them.
            looked = self.partial + self.space.partial
            self.proven = self.proven or looked
            if looked > self.proven + _TIES:
                raise _TimeOutError

    def _any_nest(self) -> None:
        """Nothing; takes the nest whose every inner tile is one value."""
        self.best_nest[0][:] = 1
        self.best_nest[0][-1] = self.problem.sizes
