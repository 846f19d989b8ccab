"""The space of nests that the search covers: extents of tiles, what axes unroll, orders of loops.

- A tile's extent along a loop of n is ⌈n / m⌉ for some m: the divisors of n, and of each number of pieces
  the most even cut, whose last piece is smaller.
- An axis is filled: no count of its loops can be raised to the next extent of that kind. Axes below one
  level are filled one after the other, each with what the ones before leave of a loop. Only where no such
  nest is legal, because what a filled array takes does not fit the level above it, counts may be less.
- Of the orders of a level's loops those stand for all that keep one operand's loops innermost (no other
  order moves less), with the loop along which windows slide inside, where a level keeps what they share.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .hierarchy import AbstractMachine, Axis
from .problem import DIMS, Problem

__all__ = ["axis_options", "loop_orders", "tile_extents"]

Row = tuple[int, ...]


def tile_extents(n: int) -> list[int]:
    """The extents that a tile may have along a loop of n, rising: ⌈n / m⌉ for all m."""
    found, m = [], 1
    while m <= n:
        size = -(-n // m)
        found.append(size)
        if size == 1:
            break
        m = -(-n // (size - 1))  # the fewest pieces that make them smaller
    return found[::-1]


def _fill_axis(axis: Axis, left: Row, full: bool) -> list[Row]:
    """Counts of an axis' loops, where `left` is what there is of each; with `full` those that fill it."""
    choices = [
        [s for s in tile_extents(left[j]) if s <= axis.size] if d in axis.loops else [1]
        for j, d in enumerate(DIMS)
    ]

    def filled(row: Row) -> bool:
        used = int(np.prod(row, dtype=np.int64))
        for j, n in enumerate(row):
            more = [s for s in choices[j] if s > n]
            if more and used // n * more[0] <= axis.size:
                return False
        return True

    rows: list[Row] = []

    def every(d: int, row: Row, used: int) -> None:
        if d == len(DIMS):
            rows.append(row)
            return
        for n in choices[d]:
            if used * n <= axis.size:
                every(d + 1, (*row, n), used * n)

    every(0, (), 1)
    return [row for row in rows if not full or filled(row)]


def axis_options(
    machine: AbstractMachine, problem: Problem, level: int, *, full: bool = True
) -> NDArray[Any]:
    """What the axes below a level may unroll together: int64, shape (options, axes of the machine, 8).

    Axes elsewhere have ones. At least one option. With `full` axes are filled.
    """
    here = [a for a, axis in enumerate(machine.axes) if axis.below == machine.levels[level].name]
    partial: list[tuple[list[Row], Row]] = [([], problem.sizes)]
    for a in here:
        grown = []
        for rows, left in partial:
            for row in _fill_axis(machine.axes[a], left, full):
                rest = tuple(-(-n // s) for n, s in zip(left, row, strict=True))
                grown.append(([*rows, row], rest))
        partial = grown
    options = np.ones((len(partial), len(machine.axes), len(DIMS)), np.int64)
    for o, (rows, _) in enumerate(partial):
        for a, row in zip(here, rows, strict=True):
            options[o, a] = row
    return options


_GROUPS = {"W": ("B", "OX", "OY"), "I": ("K",), "O": ("C", "FX", "FY")}


def loop_orders(windows: bool) -> list[tuple[int, tuple[str, ...]]]:
    """(operand that stays, loops outer to inner): 3 orders, or 8 where sliding windows matter."""
    found = []
    for x, (name, group) in enumerate(_GROUPS.items()):
        slides: tuple[str, ...] = {"W": ("OX", "OY"), "I": ("OX", "OY", "FX", "FY"), "O": ("FX", "FY")}[name]
        for slide in slides if windows else slides[:1]:
            inner = (slide, *group) if name == "I" else (*(d for d in group if d != slide), slide)
            outer = tuple(d for d in DIMS if d not in inner)
            found.append((x, (*outer, *inner)))
    return found
