"""Small changes of a graph: nodes put in, taken out, replaced; shapes follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node, infer_values

__all__ = ["Rewriting", "norm_constants"]


class Rewriting:
    """A graph under change; nodes stay in an order in which they can run. `graph` gives the result."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.nodes = list(graph.nodes)
        self.constants: dict[str, NDArray[Any]] = dict(graph.constants)

    def producer(self, value: str) -> Node | None:
        """The node that makes a value; None for inputs and constants."""
        return next((node for node in self.nodes if value in node.outputs), None)

    def consumers(self, value: str) -> list[Node]:
        """The nodes that take a value, in order."""
        return [node for node in self.nodes if value in node.inputs]

    def node(self, name: str) -> Node:
        """The node of this name, which is there."""
        return next(node for node in self.nodes if node.name == name)

    def free(self, name: str) -> str:
        """`name`, or `name` with a number where a node or a value has it already."""
        taken = {n for node in self.nodes for n in (node.name, *node.inputs, *node.outputs)} | set(
            self.constants
        )
        found, number = name, 2
        while found in taken:
            found, number = f"{name}{number}", number + 1
        return found

    def insert(
        self,
        before: str,
        op: str,
        name: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
        constants: Mapping[str, NDArray[Any]] | None = None,
    ) -> str:
        """The value, called like the node, that a new node makes; it stands in front of the node `before`."""
        at = self.nodes.index(self.node(before))
        made = Node(op=op, name=name, inputs=tuple(inputs), outputs=(name,), attributes=attributes or {})
        self.nodes.insert(at, made)
        self.constants.update(constants or {})
        return name

    def feed(self, node: str, old: str, new: str) -> None:
        """Nothing; the node takes `new` where it took `old`."""
        at = self.nodes.index(self.node(node))
        names = tuple(new if name == old else name for name in self.nodes[at].inputs)
        self.nodes[at] = replace(self.nodes[at], inputs=names)

    def replace(self, node: Node, **changes: Any) -> None:
        """Nothing; changes fields of a node in place."""
        self.nodes[self.nodes.index(node)] = replace(node, **changes)

    def bypass(self, node: Node) -> None:
        """Nothing; takes a node out: who took its result takes its first operand."""
        self.nodes.remove(node)
        for other in self.consumers(node.outputs[0]):
            self.feed(other.name, node.outputs[0], node.inputs[0])

    def graph(self) -> Graph:
        """The changed graph; constants that nobody takes are gone.

        Raises:
            ValueError: what `Graph` and shapes refuse; names the node.
        """
        taken = {name for node in self.nodes for name in node.inputs} | set(self._graph.outputs)
        constants = {name: array for name, array in self.constants.items() if name in taken}
        values = infer_values(
            [self._graph.values[name] for name in self._graph.inputs], constants, self.nodes
        )
        return replace(self._graph, nodes=tuple(self.nodes), constants=constants, values=values)


def norm_constants(name: str, channels: int) -> dict[str, NDArray[np.float32]]:
    """Scale, offset, mean and variance of a batch norm that changes nothing, in a node's order."""
    words = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    return {f"{name}.{word}": np.full(channels, value, np.float32) for word, value in words.items()}
