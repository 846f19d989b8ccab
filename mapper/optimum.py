"""The best nest of a layer on an abstract machine: branch and bound from the outermost level inwards."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import lattice_kernel as lattice
from . import optimum_kernel as kernel
from .cost_kernel import BITS, PARTIAL, PLACE
from .evaluation import Evaluation, evaluate, machine_arrays
from .hierarchy import AbstractMachine
from .loop_nest import LoopNest
from .mapping import MappingError
from .problem import DIMS, IRRELEVANT, OPERANDS, Problem
from .tile_space import axis_options, loop_orders, tile_extents

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
_SPLITS = 1 << 10
"""Combinations of what axes unroll that are told apart where cycles are bounded."""
_PORTS = 0.25
"""Share of the PEs' cycles from which on the outermost ports' least cycles are sought, too."""
_CELLS = 1 << 25
"""Tiles of the lattice at most; a layer that has more is searched over divisors alone, uncertified."""

Array = NDArray[Any]


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


class _Pairs:
    """What axes may unroll times the tiles of a level, by rising least cost; sorted as far as asked for."""

    def __init__(self, bases: Array) -> None:
        self.bases, self.limit = bases, -math.inf
        self.order, self.sorted = np.empty(0, np.int64), np.empty(0)

    def below(self, limit: float) -> tuple[Array, Array]:
        """Numbers and costs of at least all pairs below `limit`, rising."""
        if limit > self.limit:
            self.limit = limit + 0.02 * abs(limit)
            picked = np.flatnonzero(self.bases < self.limit)
            by_cost = np.argsort(self.bases[picked], kind="stable")
            self.order, self.sorted = picked[by_cost], self.bases[picked][by_cost]
        return self.order, self.sorted


class _Search:
    """One search: the lattice, the tables of bounds, and the branch and bound over them."""

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
        self.a = machine_arrays(machine, problem)
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
        self.windows = bool(self.a.sliding[:-1].any()) and (problem.FY > 1 or problem.FX > 1)
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
        self._lattice()
        self._prices()
        self._axes(full)

    # -- the lattice of tiles ------------------------------------------------------------------

    def _lattice(self) -> None:
        extents = [tile_extents(size) for size in self.problem.sizes]
        self.whole_space = math.prod(map(len, extents)) <= _CELLS
        if not self.whole_space:
            extents = [[e for e in row if row[-1] % e == 0] for row in extents]
            if math.prod(map(len, extents)) > _CELLS:
                raise MappingError(
                    f"layer {self.problem.name}: its loops have more than 2^25 tiles of divisors: split it"
                )
        self.count = np.array([len(row) for row in extents], np.int64)
        self.sizes = np.zeros((8, int(self.count.max())), np.int64)
        for d, row in enumerate(extents):
            self.sizes[d, : len(row)] = row
        self.strides = np.array([math.prod(self.count[d + 1 :].tolist()) for d in range(8)], np.int64)
        total = math.prod(self.count.tolist())
        grid = np.indices(tuple(self.count), np.int16).reshape(8, total)
        self.coords = np.ascontiguousarray(grid.T)
        self.cells = [self._legal(i) for i in range(self.n)]

    def _legal(self, i: int) -> Array:
        """The cells whose tiles fit level i."""
        total = self.coords.shape[0]
        held = self.machine.held(i)
        if i == self.n - 1 or not held:  # a level without tiles has no loops of its own
            return np.array([total - 1], np.int64)
        level, problem = self.machine.levels[i], self.problem
        axes = [
            self.sizes[d, : self.count[d]].reshape([-1 if j == d else 1 for j in range(8)]) for d in range(8)
        ]
        taken: dict[str, Array] = {}
        shape = tuple(self.count)
        for x in held:
            if x == "I":
                rows = self._window(axes[4], axes[6], 8, 10)
                columns = self._window(axes[5], axes[7], 9, 11)
                values = axes[0] * axes[1] * axes[3] * rows * columns
            else:
                values = np.ones((1,) * 8, np.int64)
                for j, d in enumerate(DIMS):
                    if d not in IRRELEVANT[x]:
                        values = values * axes[j]
            bits = problem.partial_bits if x == "O" else problem.bits(x)
            ratio = 1.0
            if x in level.compressed:
                ratio = problem.weight_ratio if x == "W" else problem.input_ratio
            taken[x] = values * bits if ratio == 1.0 else np.ceil(values * bits * ratio)
        fits = np.ones(shape, bool)
        short: tuple[float, str] = (0, "")
        parts = [(taken, level.capacity(level.operands[0]))] if level.shared else [
            ({x: bits}, level.capacity(x)) for x, bits in taken.items()
        ]  # fmt: skip
        for part, room in parts:
            assert room is not None  # the machine checks that inner levels are bounded
            needed = sum(part.values())
            fits &= needed <= room
            least = float(np.min(needed))
            if least > room:
                short = (least - room, ", ".join(part))
        if short[0]:
            raise MappingError(
                f"layer {problem.name}: level {level.name} is {short[0]:.0f} bits short of one value of "
                f"{short[1]}: raise its size_bits"
            )
        return np.flatnonzero(fits.ravel()).astype(np.int64)

    def _window(self, out: Array, tap: Array, stride: int, dilation: int) -> Array:
        s, d = int(self.a.shape[stride]), int(self.a.shape[dilation])
        values: Array = out * tap - np.maximum(0, out - d) * np.maximum(0, tap - s)
        return values

    # -- prices of moves -----------------------------------------------------------------------

    def _prices(self) -> None:
        a, n = self.a, self.n
        self.parent = np.full((n, 3), -1, np.int64)
        self.coef = np.zeros((n, 3, 4))
        for c in range(n - 1):
            for x in range(3):
                if not a.keep[c, x]:
                    continue
                p = next(level for level in range(c + 1, n) if a.keep[level, x])
                self.parent[c, x] = p
                near, far = a.prices[c, x], a.prices[p, x]
                if x < 2:
                    self.coef[c, x, :2] = (near[0] * near[3], far[0] * far[2])
                    continue
                drain = near[2] if a.drains else 0.0
                self.coef[c, x] = (
                    near[1] * (near[3] + drain), far[1] * (far[2] + far[3]), far[0] * drain, far[0] * far[3]
                )  # fmt: skip
        layer = self.problem
        inputs = self._window(np.array(layer.OY), np.array(layer.FY), 8, 10) * self._window(
            np.array(layer.OX), np.array(layer.FX), 9, 11
        )
        self.whole = np.array(
            [
                float(layer.G * layer.K * layer.C * layer.FY * layer.FX),
                float(layer.B * layer.G * layer.C * int(inputs)),
                float(layer.B * layer.G * layer.K * layer.OY * layer.OX),
            ]
        )

    # -- what axes unroll ----------------------------------------------------------------------

    def _axes(self, full: bool) -> None:
        a, n, machine, problem = self.a, self.n, self.machine, self.problem
        self.details = [axis_options(machine, problem, level, full=full) for level in range(n)]
        self.options = [
            details.prod(axis=1) if details.shape[1] else np.ones((1, 8), np.int64)
            for details in self.details
        ]
        sizes = np.array(problem.sizes, np.int64)
        most = [options.max(axis=0) for options in self.options]
        share = float(a.pe[0])
        self.steps, self.others = [], []
        for b in range(n):
            others = np.ones(8, np.int64)
            for other in range(n):
                if other != b:
                    others = others * most[other]
            steps = np.prod(-(-sizes // np.minimum(sizes, self.options[b] * others)), axis=1).astype(float)
            self.steps.append(np.ceil(steps * share - 1e-9))
            self.others.append(others)
        # Instances that take the same value (near: each has it; far: each reads it), by option and operand.
        self.shared = []
        irrelevant = np.array([[d in IRRELEVANT[x] for d in DIMS] for x in OPERANDS])
        for b in range(n):
            rows = np.ones((len(self.options[b]), 3, 2))
            for x in range(3):
                for axis in range(len(self.machine.axes)):
                    same = np.where(irrelevant[x], self.details[b][:, axis], 1).prod(axis=1)
                    rows[:, x, 0] *= same
                    if x != 2 and not a.multicast[axis]:
                        rows[:, x, 1] *= same
            self.shared.append(rows)
        # What one read may serve beyond the axes next to a level.
        self.wide = np.ones((n, 3, 8), np.int64)
        for c in range(n - 1):
            for x in range(3):
                p = n if x == 2 else self.parent[c, x]
                for b in range(c + 2, min(p, n - 1) + 1):
                    served = np.ones(8, np.int64)
                    for axis in range(len(self.machine.axes)):
                        if x == 2 or a.multicast[axis]:
                            served = served * self.details[b][:, axis].max(axis=0)
                    self.wide[c, x] *= np.where(irrelevant[x], served, 1)
        self.splits = [self._split(c) for c in range(n - 1)]
        self._pe_moves(irrelevant)
        wide = [b for b in range(1, n) if len(self.options[b]) > 1]
        self.main = wide[0] if len(wide) == 1 else -1
        if self.main > 0 and len(self.options[0]) > 1:
            self.main = -1

    def _split(self, c: int) -> tuple[Array, Array]:
        """What axes below levels up to c may unroll together: counts by loop, and rows of their numbers."""
        rows = np.ones((1, 8), np.int64)
        for options in self.options[: c + 1]:
            many = len(rows) * len(options) > _SPLITS
            rows = np.unique(
                (rows[:, None] * (options.max(axis=0) if many else options)).reshape(-1, 8), axis=0
            )
            rows = rows[[not np.any((rows >= row).all(1) & (rows > row).any(1)) for row in rows]]
        values = [np.unique(column) for column in rows.T]
        ways = np.zeros((8, max(map(len, values))), np.int64)
        for d, found in enumerate(values):
            ways[d, : len(found)] = found
        return ways, np.stack([np.searchsorted(v, rows[:, d]) for d, v in enumerate(values)], axis=1)

    def _pe_moves(self, irrelevant: Array) -> None:
        """What the PEs take and give, at the least: a constant, and a part that an axis' option decides."""
        a, n = self.a, self.n
        macs = float(self.problem.macs)
        self.base = macs * float(a.pe[1])
        self.extra = [np.zeros(len(options)) for options in self.options]
        for x in range(3):
            k = next(level for level in range(n) if a.keep[level, x])
            price = a.prices[k, x]
            most = np.ones(n)
            serving = []
            for b in range(n):
                rows = np.ones(len(self.options[b]))
                for axis in range(len(self.machine.axes)):
                    if x == 2 or a.multicast[axis]:
                        rows *= np.where(irrelevant[x], self.details[b][:, axis], 1).prod(axis=1)
                serving.append(rows)
                most[b] = rows.max()
            below = [b for b in range(k + 1) if len(self.options[b]) > 1 or most[b] > 1]
            above = math.prod(most[k + 1 :].tolist())
            decides = below[-1] if below and below[-1] > 0 else -1
            others = math.prod(float(most[b]) for b in below if b != decides)
            rows = serving[decides] if decides > 0 else np.ones(1)
            visits = macs / (rows * others)
            if x < 2:
                cost = visits * price[0] * price[2]
            else:
                first = np.minimum(visits, self.whole[2] * above)
                cost = visits * price[1] * (price[2] + price[3]) - first * price[1] * price[2]
            if decides > 0:
                self.extra[decides] += cost
            else:
                self.base += float(cost[0])

    # -- bounds --------------------------------------------------------------------------------

    def build(self, span: tuple[float, float] = (-math.inf, math.inf)) -> float:
        """The least cost of any nest whose first PE takes more than span[0], up to span[1] steps."""
        a, n, total = self.a, self.n, self.coords.shape[0]
        self.inner: list[Array] = []
        self.ready: list[_Pairs] = []
        self.floor = np.zeros((n, 3))
        inner = np.full((total, lattice.STATES), np.inf)
        inner[self.cells[0], 0] = self.base
        pending, wide_inner, slides_inner = np.zeros((3, 2)), np.ones((3, 8), np.int64), False
        for c in range(n - 1):
            self.inner.append(inner)
            b = c + 1
            coef, kept, wide = self.coef[c], a.keep[c], self.wide[c]
            slides = bool(a.sliding[c])
            lattice.least_visits(
                self.cells[b],
                self.coords,
                self.sizes,
                self.count,
                a.shape,
                wide,
                slides,
                self.whole,
                self.floor[c],
            )
            table = np.full((total, lattice.CLASSES), np.inf)
            bases = np.full((len(self.options[b]), len(self.cells[c])), np.inf)
            self.ready.append(_Pairs(bases.ravel()))
            lattice.build_stage(
                self.cells[c], self.coords, self.sizes, self.strides, self.count, a.shape,
                self.options[b], self.shared[b], wide, coef, kept, slides, inner, self.whole,
                self.floor[c], self.extra[b], pending, wide_inner, slides_inner,
                np.array(span if b == self.main else (-math.inf, math.inf)), self.others[b], table, bases,
            )  # fmt: skip
            lattice.running_minimum(table, self.coords, self.strides)
            inner = np.full((total, lattice.STATES), np.inf)
            lattice.resolve_stage(
                self.coords, self.sizes, self.count, a.shape, wide, coef, kept, slides, self.cells[b],
                self.whole, table, inner,
            )  # fmt: skip
            pending = coef[:, :2] * kept[:, None]
            wide_inner, slides_inner = wide, slides
            self.partial += bases.size
        top = inner[total - 1].copy()
        for s in range(1, lattice.STATES):
            for x in range(3):
                if s == x + 1:
                    end = self.whole[2] if x == 2 else 0.0
                    top[s] += float(pending[x].sum()) * (self.whole[x] - end)
        return float(top.min())

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
        optimal = proven and self.whole_space and self.n <= CERTIFIED_LEVELS
        return Found(
            mapping=nest,
            evaluation=evaluation,
            objective=self.objective,
            evaluated=int(self.best[4]),
            partial=self.partial,
            optimal=optimal,
            bound=value if complete else min(bound, value),
            seconds=time.perf_counter() - self.started,
        )

    def _bands(self) -> float:
        """The bound of a search that ends; where latency counts, tiles on axes come by rising steps."""
        share = float(self.a.pe[0])
        soonest = max(float(steps.min()) for steps in self.steps)
        if self.objective != "energy":
            soonest = max(soonest, self._busiest_port(soonest))
        least = self.build()
        self.open = self._objective(least, soonest)
        if self.objective == "energy" or self.main < 0:
            self._descend(least if self.objective != "edp" else least * soonest, soonest)
            return self.open
        self.first = True  # bands begin with a nest to beat: the first below the tables of all
        with contextlib.suppress(_EnoughError):
            self._descend(self._objective(least, soonest) if self.objective == "edp" else least, soonest)
        self.first = False
        ratio = 1.02 if self.objective == "latency" else 1.1
        low, high = -math.inf, soonest
        while not kernel.prune(least, max(soonest, low), self.best):
            part = self.build((low / share, (high + 0.5) / share))
            slow = max(soonest, math.floor(low) + 1.0) if low > 0 else soonest
            self.open = self._objective(least, slow)
            if part < math.inf and not kernel.prune(part, slow, self.best):
                self._descend(self._objective(part, slow) if self.objective == "edp" else part, slow)
            if high > self.problem.macs * share + 1:
                break
            low, high = high + 0.5, float(math.floor(max(high * ratio, high + 1)))  # cycles are whole
            ratio = ratio * ratio if part == math.inf else ratio
        return self.open

    def _busiest_port(self, soonest: float) -> float:
        """Cycles that the outermost ports take at the least, as long as that may be above `soonest`.

        The tables of least cost count cycles there instead of energy everywhere.
        """
        a, n = self.a, self.n
        read, write, shared = a.ports[n - 1, :3]
        each = np.zeros(2)  # each value once
        prices = np.zeros_like(self.coef)
        for c in range(n - 1):
            for x in range(3):
                p = self.parent[c, x]
                if p < 0 or int(a.prices[p, x, PLACE]) != n - 1:
                    continue
                bits, partial = a.prices[p, x, BITS], a.prices[p, x, PARTIAL]
                if x < 2:
                    prices[c, x, 1] = bits * read
                else:
                    # With two ports it is the reads that repeat; all writes are at least one an output.
                    prices[c, x, 1] = partial * (read + (write if shared else 0.0))
                    prices[c, x, 3] = bits * (write if shared else 0.0)
                if p == n - 1:
                    each[int(x == 2)] += self.whole[x] * bits * (read if x < 2 else write)
        once = float(each.sum() if shared else each.max())
        if once < _PORTS * soonest or not np.any(prices):
            return math.ceil(once - 1e-6)
        kept = self.coef, self.base, self.extra, self.partial
        self.coef, self.base, self.extra = prices, 0.0, [np.zeros_like(row) for row in self.extra]
        least = self.build()
        self.coef, self.base, self.extra, self.partial = kept
        return max(once, math.ceil(least * (1 - 1e-9) - 1e-6)) if least < math.inf else once

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
        b = c + 1
        steps = self.steps[b]
        inner = np.ones(8, np.int64)
        for level in range(b):
            inner = inner * self.options[level].max(axis=0)
        ranks, out = np.empty(_ROOM), np.empty((_ROOM, 3), np.int64)
        low, high = -math.inf, least * (1 + 1e-3) if least > 0 else math.inf
        while True:
            self._clock()
            pairs, bases = self.ready[c].below(self._limit(spent, max(latency, float(steps.min())), high))
            found = kernel.bound_candidates(
                pairs, bases, self.cells[c], self.coords, self.sizes, self.a.shape, self.options[b],
                steps, self.shared[b], self.extra[b], self.wide[c], self.coef[c],
                self.a.keep[c], bool(self.a.sliding[c]), self.inner[c], self.whole, tiles[b], full, inner,
                float(self.a.pe[0]), spent, latency,
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
        a, b = self.a, c + 1
        bounds, costs = np.empty((len(picked), 2)), np.empty(len(picked))
        times = np.empty((len(picked), 2, self.n + 1))
        fulls = np.empty((len(picked), 8, 2, 6), np.int64)
        pending = self.coef[c - 1, :, :2] * a.keep[c - 1][:, None]
        kernel.settle_candidates(
            c, picked, self.coords, self.sizes, self.details[b], self.at_level[b], self.classes,
            tiles.copy(), counts.copy(), orders.copy(), a.keep, a.axis_level, a.multicast, a.sliding, a.shape,
            a.shares, self.coef[c], self.inner[c], pending, self.whole, self.steps[b], self.extra[b],
            *self.splits[c], float(a.pe[0]), spent, latency, a.prices, a.ports, busy, self.best, bounds,
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
            below[c] = self.sizes[np.arange(8), self.coords[cell]]
            unrolled[self.at_level[b] > 0] = self.details[b][o][self.at_level[b] > 0]
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
        a = self.a
        steps = self.steps[1]
        soonest = float(steps.min())
        ranks, out, looked = np.empty(_ROOM), np.empty((_ROOM, 3), np.int64), np.zeros(1, np.int64)
        others = self.options[0].max(axis=0)
        while len(turn) and self.best[5] and not self.first:
            self._clock()
            part = turn[:_TOGETHER]
            part = part[[not kernel.prune(*bounds[i], self.best) for i in part]]
            if not len(part):
                return turn[:0]
            if self.n == 3 and self.objective == "energy":
                self.open = max(self.open, min(float(key[part[0]]), high))
            limit = max(self._limit(costs[i], max(bounds[i, 1], soonest), math.inf) for i in part)
            pairs, bases = self.ready[0].below(float(limit))
            done = kernel.finish_below(
                part, picked, bounds, costs, fulls, self.details[2], self.at_level[2],
                pairs, bases, self.cells[0], self.coords, self.sizes, self.options[1], steps, self.shared[1],
                self.extra[1], self.wide[0], self.coef[0], self.inner[0], self.whole, others,
                self.details[1], self.at_level[1], self.classes, self.orders_of, self.options[0],
                self.details[0], self.at_level[0], tiles.copy(), counts.copy(), orders.copy(), a.keep,
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
        a = self.a
        kernel.finish_candidates(
            rank, picked, self.coords, self.sizes, self.details[1], self.at_level[1], self.classes,
            self.options[0], self.details[0], self.at_level[0],
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
            self.proven = self.proven or self.partial
            if self.partial > self.proven + _TIES:
                raise _TimeOutError

    def _any_nest(self) -> None:
        """Nothing; takes the nest whose every inner tile is one value."""
        self.best_nest[0][:] = 1
        self.best_nest[0][-1] = self.problem.sizes
