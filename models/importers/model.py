"""What an importer hands on: the graph, and the steps in which it runs, on a core or on its host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node
from ..network import Network

__all__ = ["Code", "CoreStep", "HostStep", "Model"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HostStep:
    """Operators that the host runs, in float or on integers; no cost of theirs is counted anywhere."""

    nodes: tuple[Node, ...]
    """Of the graph, in order."""
    reason: str
    """Why they are not the core's, for people: 'Softmax has no hardware', 'the input is float'."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Code:
    """How a graph's value is stored: it is (stored − zero) · unit + offset, in float or integers."""

    unit: NDArray[np.float64]
    """Shape (), or (K,) by channel; below 0 where a channel is stored with its sign changed."""
    zero: int = 0
    offset: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))
    """Shape () or (K,)."""

    def values(self, stored: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The graph's values of stored ones, shape (B, K, …)."""
        by = (-1, *[1] * (stored.ndim - 2))
        unit, offset = (a.reshape(by) if a.ndim else a for a in (self.unit, self.offset))
        return ((stored.astype(np.int64) - self.zero) * unit + offset).astype(dtype)

    def stored(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """The stored integers of a graph's values, shape (B, K, …)."""
        by = (-1, *[1] * (values.ndim - 2))
        unit, offset = (a.reshape(by) if a.ndim else a for a in (self.unit, self.offset))
        return np.rint((values.astype(np.float64) - offset) / unit).astype(np.int64) + self.zero


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoreStep:
    """A part of the graph that is integer and runs bit for bit on reference, cycle model and RTL."""

    network: Network
    """Without a batch axis; pictures are (C, H, W)."""
    takes: str
    """The graph's value that goes in, whose stored integers are the network's input."""
    makes: str
    """The graph's value that comes out, as stored integers; float where a HostStep scales it."""
    nodes: tuple[str, ...]
    """Names of the graph's nodes that the network stands for."""
    tensors: dict[str, str]
    """The network's tensor by name of the graph's value that it holds, so that both can be compared."""
    codes: Mapping[str, Code] = field(default_factory=dict)
    """By name of a graph's value; one that isn't named is stored as it is."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A network as it came in, and how it runs here."""

    graph: Graph
    steps: tuple[HostStep | CoreStep, ...]
    """In order; a float graph has one HostStep."""

    @property
    def cores(self) -> tuple[CoreStep, ...]:
        """The steps that run on a core."""
        return tuple(step for step in self.steps if isinstance(step, CoreStep))
