"""All ways to run a network: steps and fused pairs as edges between sets of tensors on chip."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .fusion import Strip, fusible, row_problem, strips_of
from .hierarchy import AbstractMachine
from .layer_graph import LayerGraph, Step
from .plan_costs import Moved, Run, keeping_level, moved_cost
from .problem import Problem

__all__ = ["MOST_ALIVE", "PlanEdge", "PlanLayer", "PlanSpace"]

MOST_ALIVE = 8
"""Tensors between layers that may live at once for each to be chosen; of more, the shortest-lived are."""

PlanLayer = tuple[int, tuple[tuple[int, Run], ...]]
"""A step with products, and (times, run) of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanEdge:
    """One way to run a step or a fused pair, from one set of kept tensors to the next."""

    first: int
    after: int
    """The step that follows."""
    source: frozenset[str]
    target: frozenset[str]
    layers: tuple[PlanLayer, ...]
    moves: tuple[tuple[int, Moved], ...]
    resident_bits: int
    strip: Strip | None = None


@dataclass(slots=True)
class PlanSpace:
    """All ways to run a network: edges between (step, kept tensors), grown as they are reached."""

    machine: AbstractMachine
    graph: LayerGraph
    fuses: bool
    room: int = 0
    lives: dict[str, tuple[int, int]] = field(default_factory=dict)
    choosable: set[str] = field(default_factory=set)
    left_out: bool = False
    grown: dict[tuple[int, frozenset[str]], list[PlanEdge]] = field(default_factory=dict)

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

    def edges(self, i: int, kept: frozenset[str]) -> list[PlanEdge]:
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

    def _single(self, i: int, kept: frozenset[str]) -> Iterator[PlanEdge]:
        step = self.graph.steps[i]
        for grown in self._choices(i, kept):
            target, bits = self._after(i, grown), self.bits(grown)
            if step.problem is None:
                move = self._move(step, grown)
                yield PlanEdge(
                    first=i, after=i + 1, source=kept, target=target, layers=(), moves=((i, move),),
                    resident_bits=bits,
                )  # fmt: skip
                continue
            for run, taken in self._runs(step, step.problem, grown, bits):
                yield PlanEdge(
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

    def _fused(self, i: int, kept: frozenset[str]) -> Iterator[PlanEdge]:
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
                        yield PlanEdge(
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
    ) -> Iterator[tuple[tuple[PlanLayer, ...], tuple[tuple[int, Moved], ...], int]]:
        """(layers, moves, resident bits) of a pair's second step, whose input is strips on chip."""
        step = self.graph.steps[i]
        if step.problem is None:
            yield (), ((i, self._move(step, kept, between)),), bits
            return
        part = row_problem(step.problem, strip.rows)
        for run, taken in self._runs(step, part, kept, bits, inside=True):
            yield ((i, ((strip.count, run),)),), (), taken
