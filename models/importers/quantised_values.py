"""What is known of a graph's value while its quantised part becomes integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..graph import Node

__all__ = ["Fixed", "NotLowered", "Parts", "Pending", "Quantiser", "State", "Stored", "Sums"]


class NotLowered(Exception):  # noqa: N818 - a reason that the user reads, no error
    """Why a node is the host's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fixed:
    """A quantised constant: its real values are integers · unit."""

    integers: NDArray[np.int64]
    """The zero point already taken out."""
    unit: NDArray[np.float64]
    """Of the same rank, axes of 1 where all are alike; or of shape ()."""
    bits: int
    """What the quantiser allows: 1 bipolar, 2 and narrow ternary."""

    @property
    def real(self) -> NDArray[np.float32]:
        """The values as the float graph has them."""
        return (self.integers * self.unit).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Activations in a tensor of the network: the graph's value is unit · (stored − zero)."""

    tensor: str
    unit: float
    """1 where the graph's value is an integer too."""
    zero: int
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Zeros around a picture that only its consumer adds: (top, left, bottom, right)."""
    groups: int = 0
    """Above 0: channels split into so many groups, on the way to a channel shuffle."""
    swapped: bool = False

    @property
    def whole(self) -> bool:
        """Whether the tensor is all there is to it: neither padded nor on the way to a shuffle."""
        return not (self.groups or any(self.pad))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sums:
    """Accumulators of a layer: the graph's value is (acc + bias) · unit + offset, by channel."""

    layer: str
    tensor: str
    unit: NDArray[np.float64]
    offset: NDArray[np.float64]
    bias: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pending:
    """What elementwise nodes, and one MaxPool, make of sums or stored values before a quantiser."""

    base: Stored | Sums
    start: str
    """The graph's value that `base` is."""
    nodes: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A concatenation of tensors with different steps, until a quantiser gives them one."""

    parts: tuple[Stored, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiser:
    """What a node stores: the graph's value afterwards is unit · (stored − zero)."""

    unit: float
    zero: int
    low: int
    """Least stored value; within int8, since unsigned values are moved there."""
    high: int
    step: int
    scale: float
    """What a step is really worth, where the graph's value is an integer as well."""
    zero_point: int
    """The stored value of a real 0."""
    ties_even: bool
    """Whether it is round(x / scale), half to even, and a clamp."""
    exact: bool
    """Whether only equal results will do; else one rounding in integers stands for those in float."""


State = Stored | Pending | Parts
