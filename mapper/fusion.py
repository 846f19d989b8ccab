"""Two layers run strip by strip of output rows, so that what is between them never leaves the chip."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .layer_graph import LayerGraph, Rows, Step
from .problem import Problem

__all__ = ["MOST_STRIPS", "Strip", "fusible", "row_problem", "strips_of"]

MOST_STRIPS = 3
"""Heights of strips that are tried for a pair: the largest that fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """How a pair is cut: the second layer makes `rows` at a time, the first what these need anew."""

    rows: int
    """Output rows of the second layer in a strip; divides all of them."""
    count: int
    first: tuple[tuple[int, int], ...]
    """(rows, how often) that the first layer makes; together all of its rows, each once."""
    held_rows: int
    """Of the tensor between, at the most at once: those that a strip reads, halo included."""
    new_rows: int
    """Of these, at the most made by one run of the first layer."""


def fusible(graph: LayerGraph, i: int) -> str | None:
    """The kind of the pair of steps i and i + 1, if they may be fused, else None.

    Depthwise before pointwise, pointwise before pointwise (a factor pair) or before depthwise, convolution
    before pool. Only the second may read what the first makes, and nobody may want it afterwards.
    """
    if i + 1 >= len(graph.steps):
        return None
    a, b = graph.steps[i], graph.steps[i + 1]
    if a.problem is None or a.rows is None or b.rows is None or len(a.outputs) != 1 or len(b.outputs) != 1:
        return None
    between = a.outputs[0]
    touched = [j for j, step in enumerate(graph.steps) if between in (*step.inputs, *step.outputs)]
    if touched != [i, i + 1] or b.inputs != (between,) or between in (*graph.inputs, *graph.outputs):
        return None
    if graph.tensors[between].rows != a.rows.outputs or a.rows.outputs != a.problem.OY:
        return None
    if b.problem is None:
        return "conv + pool"
    if b.rows.outputs != b.problem.OY:
        return None
    first, second = _form(a), _form(b)
    if first in ("depthwise", "pointwise") and second in ("depthwise", "pointwise") and first != second:
        return f"{first} + {second}"
    return "factor pair" if first == second == "pointwise" else None


def _form(step: Step) -> str:
    problem = step.problem
    assert problem is not None  # the callers ask of layers only
    if problem.G > 1 and problem.K == problem.C == 1:
        return "depthwise"
    return "pointwise" if problem.FY == problem.FX == problem.G == 1 else "other"


def strips_of(graph: LayerGraph, i: int, room_bits: int) -> list[Strip]:
    """Cuts of the fusible steps i and i + 1: the `MOST_STRIPS` highest whose window fits `room_bits`."""
    a, b = graph.steps[i], graph.steps[i + 1]
    assert b.rows is not None  # of a fusible pair
    between = graph.tensors[a.outputs[0]]
    found = []
    for rows in range(b.rows.outputs - 1, 0, -1):
        if b.rows.outputs % rows:
            continue
        strip = _strip(b.rows, between.rows, rows)
        if strip.held_rows * math.ceil(between.size_bits / between.rows) <= room_bits:
            found.append(strip)
        if len(found) == MOST_STRIPS:
            break
    return found


def _strip(window: Rows, height: int, rows: int) -> Strip:
    count = window.outputs // rows
    ends = [
        max(0, min(height, window.needed((s + 1) * rows) - window.pad_top)) if s < count - 1 else height
        for s in range(count)
    ]
    made = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    sizes = {size: made.count(size) for size in dict.fromkeys(made) if size}
    starts = [max(0, s * rows * window.stride - window.pad_top) for s in range(count)]
    return Strip(
        rows=rows,
        count=count,
        first=tuple(sizes.items()),
        held_rows=max(end - min(start, end) for start, end in zip(starts, ends, strict=True)),
        new_rows=max(made),
    )


def row_problem(problem: Problem, rows: int) -> Problem:
    """The layer for so many of its output rows."""
    return replace(problem, OY=rows)
