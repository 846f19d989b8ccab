"""The loop nest of a layer on an abstract machine: tiles, orders, unrolled loops; whether it is legal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass

from .hierarchy import AbstractMachine
from .mapping import MappingError
from .problem import DIMS, IRRELEVANT, Problem
from .window_values import window_values

__all__ = ["LoopNest", "parse_nest", "stored_bits", "tile_values"]

_TERM = re.compile(r"(B|G|K|C|OY|OX|FY|FX)(\d+)")

Row = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopNest:
    """A mapping: per level what its tile spans and the order of its loops, per axis what it unrolls.

    Extents stand in the order of `DIMS`. A level's loops step from the tile below (times what the axes
    below it unroll) to its own tile; where that does not divide, the last step is smaller.
    """

    tiles: tuple[Row, ...]
    """By level, innermost first: extents of its tile; the last is the whole layer."""
    spatial: tuple[Row, ...]
    """By axis, in the machine's order: instances along each loop."""
    orders: tuple[tuple[str, ...], ...]
    """By level: its loops, outer to inner, all eight (those without steps don't matter)."""

    def verify(self, machine: AbstractMachine, problem: Problem) -> None:
        """Nothing, if the nest is legal.

        Raises:
            MappingError: extents, axes or capacities that don't fit; names the layer, the level and by how
                much a buffer is short.
        """
        where = f"layer {problem.name}"
        if len(self.tiles) != len(machine.levels) or len(self.orders) != len(machine.levels):
            raise MappingError(
                f"{where}: a nest on {machine.name} has tiles and orders for {len(machine.levels)} levels, "
                f"not {len(self.tiles)} and {len(self.orders)}"
            )
        if len(self.spatial) != len(machine.axes):
            raise MappingError(
                f"{where}: machine {machine.name} has {len(machine.axes)} axes, not {len(self.spatial)}"
            )
        if any(len(row) != len(DIMS) for row in (*self.tiles, *self.spatial)):
            raise MappingError(f"{where}: tiles and axes have an extent for each of {', '.join(DIMS)}")
        for level, order in zip(machine.levels, self.orders, strict=True):
            if sorted(order) != sorted(DIMS):
                raise MappingError(
                    f"{where}: the order of {level.name} must have each of {', '.join(DIMS)} once"
                )
        if self.tiles[-1] != problem.sizes:
            raise MappingError(
                f"{where}: the tile of {machine.levels[-1].name} must be the layer, {problem.sizes}, not "
                f"{self.tiles[-1]}"
            )
        inner: Row = (1,) * len(DIMS)
        for i, level in enumerate(machine.levels):
            for axis, counts in zip(machine.axes, self.spatial, strict=True):
                if axis.below != level.name:
                    continue
                if math.prod(counts) > axis.size or min(counts) < 1:
                    raise MappingError(
                        f"{where}: axis {axis.name} has {axis.size} places, the nest unrolls {counts} on it"
                    )
                for name, count in zip(DIMS, counts, strict=True):
                    if count > 1 and name not in axis.loops:
                        raise MappingError(
                            f"{where}: axis {axis.name} unrolls {', '.join(axis.loops)}, not {name}"
                        )
                unrolled = [a * b for a, b in zip(inner, counts, strict=True)]
                # More instances than tiles are no instances: the last ones would have nothing to do.
                for a, b, c, name in zip(unrolled, self.tiles[i], inner, DIMS, strict=True):
                    if a - c >= b and a > c:
                        raise MappingError(
                            f"{where}: axis {axis.name} unrolls {name} {a // c} times, but level "
                            f"{level.name} holds {b}, tiles of {c}"
                        )
                inner = tuple(min(a, b) for a, b in zip(unrolled, self.tiles[i], strict=True))
            for name, a, b in zip(DIMS, inner, self.tiles[i], strict=True):
                if a > b:
                    raise MappingError(
                        f"{where}: the tile of level {level.name} has {b} of {name}, "
                        f"less than the {a} below it"
                    )
            inner = self.tiles[i]
            self._verify_capacity(machine, problem, i)

    def _verify_capacity(self, machine: AbstractMachine, problem: Problem, i: int) -> None:
        level = machine.levels[i]
        taken = {name: stored_bits(machine, problem, i, name, self.tiles[i]) for name in machine.held(i)}
        if level.shared:
            parts = [("", sum(taken.values()), level.capacity(level.operands[0]))]
        else:
            parts = [(f" for {name}", taken[name], level.capacity(name)) for name in taken]
        for what, bits, room in parts:
            if room is not None and bits > room:
                half = " (half of it, as it is double-buffered)" if level.buffering == "double" else ""
                raise MappingError(
                    f"layer {problem.name}: level {level.name} has {room} bits{what}{half}, its tile takes "
                    f"{bits}: {bits - room} too many"
                )

    def loops(self, machine: AbstractMachine, i: int) -> tuple[tuple[str, int], ...]:
        """The loops of level i with their steps, outer to inner; those of one step are left out."""
        inner = self.tiles_below(machine, i)
        steps = {d: -(-self.tiles[i][j] // inner[j]) for j, d in enumerate(DIMS)}
        return tuple((d, steps[d]) for d in self.orders[i] if steps[d] > 1)

    def tiles_below(self, machine: AbstractMachine, i: int) -> Row:
        """Extents of what one step of level i's loops covers: the tile below times the axes' instances."""
        inner = list(self.tiles[i - 1]) if i else [1] * len(DIMS)
        for axis, counts in zip(machine.axes, self.spatial, strict=True):
            if axis.below == machine.levels[i].name:
                inner = [min(a * b, c) for a, b, c in zip(inner, counts, self.tiles[i], strict=True)]
        return tuple(inner)


def tile_values(problem: Problem, operand: str, tile: Row) -> int:
    """Values of an operand that a tile of these extents has; inputs count once, whatever windows share."""
    size = dict(zip(DIMS, tile, strict=True))
    if operand != "I":
        return math.prod(n for d, n in size.items() if d not in IRRELEVANT[operand])
    rows = window_values(size["OY"], size["FY"], problem.stride_y, problem.dilation_y)
    columns = window_values(size["OX"], size["FX"], problem.stride_x, problem.dilation_x)
    return size["B"] * size["G"] * size["C"] * rows * columns


def stored_bits(machine: AbstractMachine, problem: Problem, i: int, operand: str, tile: Row) -> int:
    """Bits that an operand's tile takes in level i, rounded up; outputs as partial sums but in the last."""
    values = tile_values(problem, operand, tile)
    if operand == "O":
        last = i == len(machine.levels) - 1
        return values * (problem.output_bits if last else problem.partial_bits)
    ratio = problem.weight_ratio if operand == "W" else problem.input_ratio
    dense = values * problem.bits(operand)
    return math.ceil(dense * ratio) if operand in machine.levels[i].compressed else dense


def parse_nest(
    machine: AbstractMachine,
    problem: Problem,
    temporal: MappingOf[str, str],
    spatial: MappingOf[str, str] | None = None,
) -> LoopNest:
    """The nest of loops as people write them: `{"dram": "OY7 K2 C32"}`, outer to inner; steps, not tiles.

    Args:
        machine: whose levels and axes the keys name; those left out have no loops.
        problem: the layer; the outermost tile is cut to it where the steps overshoot.
        temporal: by level.
        spatial: by axis, as `{"columns": "K2 OY8"}`.

    Raises:
        MappingError: a name or a loop that there isn't, or a nest that is not legal.
    """
    spatial = spatial or {}
    levels = [level.name for level in machine.levels]
    axes = [axis.name for axis in machine.axes]
    for given, known, what in ((temporal, levels, "level"), (spatial, axes, "axis")):
        for key in given:
            if key not in known:
                raise MappingError(f"layer {problem.name}: no {what} {key!r}; there are {', '.join(known)}")
    rows = [_terms(problem, spatial.get(name, "")) for name in axes]
    counts = [tuple(dict(terms).get(d, 1) for d in DIMS) for terms in rows]
    inner: Row = (1,) * len(DIMS)
    tiles, orders = [], []
    for name in levels:
        for axis, row in zip(machine.axes, counts, strict=True):
            if axis.below == name:
                inner = tuple(a * b for a, b in zip(inner, row, strict=True))
        terms = _terms(problem, temporal.get(name, ""))
        steps = dict(terms)
        inner = tuple(
            min(a * steps.get(d, 1), size) for a, d, size in zip(inner, DIMS, problem.sizes, strict=True)
        )
        tiles.append(inner)
        used = tuple(d for d, _ in terms)
        orders.append((*(d for d in DIMS if d not in used), *used))
    nest = LoopNest(tiles=tuple(tiles), spatial=tuple(counts), orders=tuple(orders))
    nest.verify(machine, problem)
    return nest


def _terms(problem: Problem, text: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for word in text.split():
        match = _TERM.fullmatch(word)
        if match is None or int(match[2]) < 1 or match[1] in dict(found):
            raise MappingError(
                f"layer {problem.name}: a loop is one of {', '.join(DIMS)} and its steps, each once, as in "
                f"'OY7 K2', not {word!r}"
            )
        found.append((match[1], int(match[2])))
    return found
