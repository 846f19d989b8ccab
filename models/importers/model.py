"""What an importer hands on: the graph, and the steps in which it runs, on a core or on its host."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Graph, Node
from ..network import Network

__all__ = ["CoreStep", "HostStep", "Model"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HostStep:
    """Operators that the host runs, in float or on integers; no cost of theirs is counted anywhere."""

    nodes: tuple[Node, ...]
    """Of the graph, in order."""
    reason: str
    """Why they are not the core's, for people: 'Softmax has no hardware', 'the input is float'."""


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
