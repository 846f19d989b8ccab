"""Spaces of even nests under constraints, walked to their end: which level or axis may split which loop."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import cost_kernel as kernel
from .evaluation import evaluate, machine_arrays
from .hierarchy import AbstractMachine
from .loop_nest import LoopNest
from .mapping import MappingError
from .optimum import OBJECTIVES, Found
from .problem import DIMS, IRRELEVANT, Problem

__all__ = ["FactorSpace", "factor_chains", "walk_space"]

Array = NDArray[Any]
_CHUNK = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorSpace:
    """All ways to split each loop evenly among the places that may have a part of it; orders are given.

    Raises:
        ValueError: a loop that there isn't.
    """

    places: Mapping[str, Sequence[str]]
    """By loop: levels and axes that may have a factor of it. A loop with one place is wholly there."""
    orders: Mapping[str, Sequence[str]]
    """By level: its loops, outer to inner; those left out stand outside them."""

    def __post_init__(self) -> None:
        for name in (*self.places, *(d for row in self.orders.values() for d in row)):
            if name not in DIMS:
                raise ValueError(f"a loop is one of {', '.join(DIMS)}, not {name!r}")


def factor_chains(n: int, places: int) -> list[tuple[int, ...]]:
    """Every way to write n as an ordered product of so many factors; none for n > 1 without a place."""
    if places == 0:
        return [()] if n == 1 else []
    if places == 1:
        return [(n,)]
    return [(f, *rest) for f in range(1, n + 1) if n % f == 0 for rest in factor_chains(n // f, places - 1)]


def walk_space(
    machine: AbstractMachine, problem: Problem, space: FactorSpace, *, objective: str = "energy"
) -> Found:
    """The best nest of a space, every one of which is looked at; `evaluated` of them were legal.

    `partial` counts those that axes or capacities rule out.

    Raises:
        MappingError: none is legal, or a place is no level or axis.
        ValueError: an unknown objective.
    """
    started = time.perf_counter()
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not {objective!r}")
    levels = [level.name for level in machine.levels]
    axes = [axis.name for axis in machine.axes]
    for places in space.places.values():
        for name in places:
            if name not in levels and name not in axes:
                raise MappingError(f"layer {problem.name}: {name!r} is no level or axis of {machine.name}")
    chains = []
    for d, n in zip(DIMS, problem.sizes, strict=True):
        rows = factor_chains(n, len(space.places.get(d, ())))
        if not rows:
            raise MappingError(f"layer {problem.name}: loop {d} has {n} steps and no place")
        chains.append(np.array(rows, np.int64).reshape(len(rows), -1))
    shape = tuple(len(rows) for rows in chains)
    total = int(np.prod(shape))
    # Factors by place and loop, one of each combination: index arrays that broadcast.
    index = np.unravel_index(np.arange(total), shape)

    def factor(place: str, j: int) -> Array:
        places = list(space.places.get(DIMS[j], ()))
        if place not in places:
            return np.ones(1, np.int64)
        column: Array = chains[j][:, places.index(place)][index[j]]
        return column

    ext = [np.ones(1, np.int64)] * len(DIMS)
    fits = np.ones(total, bool)
    tiles: list[list[Array]] = []
    counts: list[list[Array]] = [[] for _ in axes]
    for level in machine.levels:
        for a, axis in enumerate(machine.axes):
            if axis.below != level.name:
                continue
            row = [factor(axis.name, j) for j in range(len(DIMS))]
            used = np.ones(1, np.int64)
            for j, column in enumerate(row):
                used = used * column
                ext[j] = ext[j] * column
                if DIMS[j] not in axis.loops:
                    fits &= column == 1
            fits &= used <= axis.size
            counts[a] = row
        ext = [e * factor(level.name, j) for j, e in enumerate(ext)]
        tiles.append(list(ext))
        if level is not machine.levels[-1]:
            fits &= _room(machine, problem, levels.index(level.name), ext)
    legal = np.flatnonzero(fits)
    if not len(legal):
        raise MappingError(f"layer {problem.name}: none of the space's {total} nests fits {machine.name}")

    def picked(rows: list[list[Array]]) -> Array:
        out = np.ones((len(legal), len(rows), len(DIMS)), np.int64)
        for i, row in enumerate(rows):
            for j, column in enumerate(row):
                out[:, i, j] = column[legal] if len(column) > 1 else column
        return out

    order_rows = [
        (*(d for d in DIMS if d not in space.orders.get(name, ())), *space.orders.get(name, ()))
        for name in levels
    ]
    orders = np.array([[DIMS.index(d) for d in row] for row in order_rows], np.int64)
    all_tiles, all_counts = picked(tiles), picked(counts)
    energy, latency = _evaluate(machine, problem, all_tiles, all_counts, orders)
    rank = {"energy": energy, "latency": latency, "edp": energy * latency}[objective]
    best = int(np.lexsort((energy, rank))[0])
    nest = LoopNest(
        tiles=tuple(tuple(row) for row in all_tiles[best].tolist()),
        spatial=tuple(tuple(row) for row in all_counts[best].tolist()),
        orders=tuple(order_rows),
    )
    found = evaluate(machine, problem, nest)
    return Found(
        mapping=nest,
        evaluation=found,
        objective=objective,
        evaluated=len(legal),
        partial=total - len(legal),
        optimal=True,
        bound=float(rank[best]),
        seconds=time.perf_counter() - started,
    )


def _room(machine: AbstractMachine, problem: Problem, i: int, ext: list[Array]) -> Array:
    """Whether tiles fit a level, all at once."""
    level = machine.levels[i]
    taken: dict[str, Array] = {}
    for x in level.operands:
        if x == "I":
            values = ext[0] * ext[1] * ext[3]
            for out, tap, s, d in (
                (ext[4], ext[6], problem.stride_y, problem.dilation_y),
                (ext[5], ext[7], problem.stride_x, problem.dilation_x),
            ):
                common = int(np.gcd(s, d))
                again = np.maximum(0, out - d // common) * np.maximum(0, tap - s // common)
                values = values * (out * tap - again)
        else:
            values = np.ones(1, np.int64)
            for j, name in enumerate(DIMS):
                if name not in IRRELEVANT[x]:
                    values = values * ext[j]
        ratio = 1.0
        if x in level.compressed:
            ratio = problem.weight_ratio if x == "W" else problem.input_ratio
        bits = problem.partial_bits if x == "O" else problem.bits(x)
        taken[x] = values * bits if ratio == 1.0 else np.ceil(values * bits * ratio)
    fits = np.ones(1, bool)
    if level.shared:
        taken = {level.operands[0]: sum(taken.values(), np.zeros(1))}
    for x, bits_taken in taken.items():
        room = level.capacity(x)
        fits = fits & (room is None or bits_taken <= room)
    return fits


def _evaluate(
    machine: AbstractMachine, problem: Problem, tiles: Array, counts: Array, orders: Array
) -> tuple[Array, Array]:
    """(energies, latencies) of nests."""
    a, n, many = machine_arrays(machine, problem), len(machine.levels), len(tiles)
    energy, latency = np.empty(many), np.empty(many)
    for low in range(0, many, _CHUNK):
        part = slice(low, min(many, low + _CHUNK))
        size = part.stop - low
        cycles, spent = np.zeros((size, 2 * n + 2)), np.zeros((size, n + 2))
        kernel.evaluate_batch(
            tiles[part], counts[part], np.broadcast_to(orders, (size, n, 8)).copy(), a.keep, a.axis_level,
            a.multicast, a.sliding, a.shape, a.shares, a.prices, a.ports, a.pe, a.drains,
            np.zeros((size, n, 3, 4)), cycles, spent,
        )  # fmt: skip
        energy[part], latency[part] = spent[:, 0], np.ceil(cycles[:, 0] - 1e-9)
    return energy, latency
