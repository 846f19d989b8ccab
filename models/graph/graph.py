"""A checked graph of operators, as files from elsewhere hold it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_ELEMENTS", "Graph", "Node", "Value"]

MAX_ELEMENTS = 1 << 28
"""The most values that one tensor may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A tensor of a graph: its name, shape and type.

    Raises:
        ValueError: a shape that isn't whole, or too large; names the value.
    """

    name: str
    shape: tuple[int, ...]
    """With the batch axis first, which is 1 in a graph; () is a scalar."""
    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        if any(n < 0 for n in self.shape) or math.prod(self.shape) > MAX_ELEMENTS:
            raise ValueError(
                f"value {self.name!r:.80}: its shape must be known and have at most 2^28 values, "
                f"not {self.shape}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """An operator, its operands by name, and its attributes.

    Names and meanings of `op`, operands and attributes are ONNX's of its current opset, layout NCHW,
    whatever the file was; QONNX's stand beside them. Readers bring older forms to it (axes as an operand
    of Squeeze, min and max as operands of Clip, …), give windows explicit kernel_shape, strides, dilations
    and pads instead of auto_pad, Transpose its perm, and Cast a NumPy name for `to`.
    """

    op: str
    name: str
    """Never empty, and no two nodes' are the same."""
    inputs: tuple[str, ...]
    """'' stands for an operand that is left out."""
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Plain values: int, float, str, tuple of these, or an array."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Graph:
    """A graph whose nodes stand in an order in which they can run.

    Raises:
        ValueError: a name that is made twice or never, or a cycle; names the node.
    """

    name: str
    source: str
    """The kind of file it was: onnx, qonnx, tflite, torch, topology, zoo."""
    inputs: tuple[str, ...]
    """Without those that constants give."""
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[Any]]
    values: Mapping[str, Value]
    """Of every name that is an input, a constant or made by a node."""

    def __post_init__(self) -> None:
        known = {*self.inputs, *self.constants}
        names: set[str] = set()
        for node in self.nodes:
            if not node.name or node.name in names:
                raise ValueError(f"node {node.name!r:.80}: node names must differ and not be empty")
            names.add(node.name)
            for name in node.inputs:
                if name and name not in known:
                    raise ValueError(
                        f"node {node.name!r:.80}: its operand {name!r:.80} is made by no node before it"
                    )
            for name in node.outputs:
                if name in known:
                    raise ValueError(f"node {node.name!r:.80}: its result {name!r:.80} is already made")
            known.update(name for name in node.outputs if name)
        for name in self.outputs:
            if name not in known:
                raise ValueError(f"graph {self.name!r:.80}: its output {name!r:.80} is made by no node")
        if unknown := sorted(known - set(self.values)):
            raise ValueError(f"graph {self.name!r:.80}: the shape of {unknown[0]!r:.80} is not known")

    def producer(self, name: str) -> Node | None:
        """The node that makes a value; None for inputs and constants."""
        return next((node for node in self.nodes if name in node.outputs), None)

    def consumers(self, name: str) -> list[Node]:
        """The nodes that take a value, in order."""
        return [node for node in self.nodes if name in node.inputs]
