"""What shape rules see of a node: its operands' shapes and types, and the small ones' values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import MAX_ELEMENTS, Node, Value

__all__ = [
    "KNOWN_LIMIT",
    "Known",
    "Made",
    "Operands",
    "Rule",
    "Shape",
    "broadcast",
    "known_operand",
    "operand",
    "sizes",
    "without",
]

Shape = tuple[int, ...]
Operands = Sequence[Value | None]
Known = Sequence[NDArray[Any] | None]
Made = tuple[Shape, np.dtype[Any]]
Rule = Callable[[Node, Operands, Known], list[Made]]
"""Shapes and types of a node's results, from its operands and those of their values that are known."""

KNOWN_LIMIT = 4096
"""Values of more elements are never computed while shapes are inferred."""


def operand(x: Operands, i: int = 0) -> Value:
    """A node's operand, which must not be left out."""
    value = x[i] if i < len(x) else None
    if value is None:
        raise ValueError(f"its operand {i} is missing")
    return value


def known_operand(known: Known, i: int, what: str) -> NDArray[Any]:
    """A small operand that must be known for the result's shape to be."""
    array = known[i] if i < len(known) else None
    if array is None:
        raise ValueError(f"its {what} depend on the input's values, so the result's shape is dynamic")
    return array


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape that tensors of `shapes` broadcast to, as in NumPy."""
    out: list[int] = []
    for i in range(1, max((len(s) for s in shapes), default=0) + 1):
        wide = {s[-i] for s in shapes if len(s) >= i} - {1}
        if len(wide) > 1:
            raise ValueError(f"the shapes {', '.join(map(str, shapes))} don't broadcast")
        out.insert(0, wide.pop() if wide else 1)
    return tuple(out)


def without(shape: Shape, axes: Sequence[int], keep: bool) -> Shape:
    """The shape with `axes` reduced: 1 where `keep`, else gone."""
    if len(set(axes)) != len(axes):
        raise ValueError("an axis stands twice")
    if any(shape[a] == 0 for a in axes):
        raise ValueError("an axis without values can't be reduced")
    return tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes)


def sizes(array: NDArray[Any], what: str) -> Shape:
    """An operand that gives sizes, as integers from 0 whose product is bounded."""
    counts = tuple(int(n) for n in array.ravel())
    if len(counts) > 16 or any(n < 0 for n in counts) or math.prod(counts) > MAX_ELEMENTS:
        raise ValueError(f"{what} must be counts with at most 2^28 values in all, not {counts!s:.80}")
    return counts
