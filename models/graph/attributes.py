"""Attributes of a node, checked as they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .graph import Node

__all__ = ["axis_of", "choice", "flag", "integer", "integers", "number"]

_LIMIT = 1 << 40


def integer(node: Node, key: str, default: int | None = None) -> int:
    """A whole attribute; `default` where it is left out.

    Raises:
        ValueError: it is missing without a default, no integer, or beyond 2^40.
    """
    value = node.attributes.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"attribute {key} must be an integer, not {value!r:.40}")
    if abs(value) > _LIMIT:
        raise ValueError(f"attribute {key} must be within 2^40, not {value}")
    return value


def flag(node: Node, key: str, default: bool = False) -> bool:
    """An attribute that is 0 or 1."""
    value = integer(node, key, int(default))
    if value not in (0, 1):
        raise ValueError(f"attribute {key} must be 0 or 1, not {value}")
    return bool(value)


def number(node: Node, key: str, default: float) -> float:
    """A finite number; `default` where it is left out."""
    value = node.attributes.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"attribute {key} must be a finite number, not {value!r:.40}")
    return float(value)


def choice(node: Node, key: str, default: str, allowed: Sequence[str]) -> str:
    """An attribute that names one of `allowed`."""
    value = node.attributes.get(key, default)
    if value not in allowed:
        raise ValueError(f"attribute {key} must be one of {', '.join(allowed)}, not {value!r:.40}")
    return str(value)


def integers(node: Node, key: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
    """A list of integers; `default` where it is left out."""
    value: Any = node.attributes.get(key, default)
    if not isinstance(value, tuple | list) or any(
        isinstance(n, bool) or not isinstance(n, int) or abs(n) > _LIMIT for n in value
    ):
        raise ValueError(f"attribute {key} must be integers within 2^40, not {value!r:.40}")
    return tuple(value)


def axis_of(value: int, rank: int, what: str = "axis") -> int:
    """`value` counted from the front: −1 is the last of `rank` axes.

    Raises:
        ValueError: there is no such axis.
    """
    if not -rank <= value < rank:
        raise ValueError(f"{what} {value} lies outside a tensor of {rank} axes")
    return value % rank
