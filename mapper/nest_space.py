"""The space of a layer's nests on an abstract machine: tiles, what axes unroll, and bounds on their costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import lattice_kernel as lattice
from .cost_kernel import BITS, PARTIAL, PLACE
from .evaluation import machine_arrays
from .hierarchy import AbstractMachine
from .mapping import MappingError
from .problem import DIMS, IRRELEVANT, OPERANDS, Problem
from .tile_space import axis_options, tile_extents

__all__ = ["Array", "NestSpace"]

CELLS = 1 << 25
"""Tiles of the lattice at most; a layer that has more is searched over divisors alone, uncertified."""
SPLITS = 1 << 10
"""Combinations of what axes unroll that are told apart where cycles are bounded."""
PORTS = 0.25
"""Share of the PEs' cycles from which on the outermost ports' least cycles are sought, too."""

Array = NDArray[Any]


class Pairs:
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


class NestSpace:
    """Every nest of a layer on a machine: its lattice of tiles, what axes unroll, and least costs over both.

    `tables` fills `inner` and `ready`: for each level, what the levels below a tile cost at the least.
    """

    def __init__(self, machine: AbstractMachine, problem: Problem, full: bool = True) -> None:
        self.machine, self.problem = machine, problem
        self.a = machine_arrays(machine, problem)
        self.n = len(machine.levels)
        self.partial = 0
        self._lattice()
        self._prices()
        self._axes(full)

    # -- the lattice of tiles ------------------------------------------------------------------

    def _lattice(self) -> None:
        extents = [tile_extents(size) for size in self.problem.sizes]
        self.whole_space = math.prod(map(len, extents)) <= CELLS
        if not self.whole_space:
            extents = [[e for e in row if row[-1] % e == 0] for row in extents]
            if math.prod(map(len, extents)) > CELLS:
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
            many = len(rows) * len(options) > SPLITS
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

    def tables(self, span: tuple[float, float] = (-math.inf, math.inf)) -> float:
        """The least cost of any nest whose first PE takes more than span[0], up to span[1] steps."""
        a, n, total = self.a, self.n, self.coords.shape[0]
        self.inner: list[Array] = []
        self.ready: list[Pairs] = []
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
            self.ready.append(Pairs(bases.ravel()))
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

    def busiest_port(self, soonest: float) -> float:
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
        if once < PORTS * soonest or not np.any(prices):
            return math.ceil(once - 1e-6)
        kept = self.coef, self.base, self.extra, self.partial
        self.coef, self.base, self.extra = (
            prices,
            0.0,
            [np.zeros_like(row) for row in self.extra],
        )
        least = self.tables()
        self.coef, self.base, self.extra, self.partial = kept
        return max(once, math.ceil(least * (1 - 1e-9) - 1e-6)) if least < math.inf else once
