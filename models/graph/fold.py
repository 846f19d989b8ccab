"""Graphs made smaller without a change of what they compute: constants computed, idle nodes dropped."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .attributes import integers
from .counts import node_macs
from .evaluate import run_node
from .graph import Graph, Node, Value

__all__ = ["QUANTISERS", "fold_constants", "pruned"]

QUANTISERS = frozenset(
    (
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
        *("Quant", "BipolarQuant", "Trunc", "MultiThreshold"),
    )
)
"""Operators that say what integers a float stands for; what they say of weights is kept."""
_BYTES = 1 << 31
"""The most bytes that computed constants may have in all."""
_WORK = 1 << 33
"""The most products, or values under windows, that computing them may take: some seconds."""


def fold_constants(graph: Graph, *, quantisers: bool = False) -> Graph:
    """The graph with all that depends on constants and shapes alone computed, and what nobody needs dropped.

    Dropout, Identity and Casts to the same type go, too.

    Args:
        graph: any graph.
        quantisers: whether quantisers of constants are computed like the rest; else they stay nodes, and
            so does what takes their results.

    Raises:
        ValueError: the computed constants would take more than 2^31 bytes or 2^33 products, or one can't be
            computed.
    """
    constants: dict[str, NDArray[Any]] = dict(graph.constants)
    same: dict[str, str] = {}
    nodes: list[Node] = []
    _check_room(graph, quantisers)
    taken = {*graph.outputs, *(name for node in graph.nodes for name in node.inputs)}
    for original in graph.nodes:
        names = tuple(same.get(name, name) for name in original.inputs)
        node = original if names == original.inputs else replace(original, inputs=names)
        if _idle(node, graph.values, taken) and node.outputs[0] not in graph.outputs:
            same[node.outputs[0]] = names[0]
            continue
        if not _computable(node, constants, quantisers):
            nodes.append(node)
            continue
        operands = _operands(node, constants, graph.values)
        for name, result in zip(node.outputs, run_node(node, operands), strict=False):
            if name:
                constants[name] = result
    return pruned(replace(graph, nodes=tuple(nodes), constants=constants))


def _check_room(graph: Graph, quantisers: bool) -> None:
    """Nothing; raises before any memory is taken where the constants to compute would take too much."""
    fixed = set(graph.constants)
    room, work = _BYTES, _WORK
    for node in graph.nodes:
        if _computable(node, fixed, quantisers):
            made = [graph.values[name] for name in node.outputs if name]
            fixed.update(value.name for value in made)
            room -= sum(math.prod(value.shape) * value.dtype.itemsize for value in made)
            if room < 0:
                raise ValueError(f"node {node.name!r:.80}: the graph's constants take more than 2^31 bytes")
            work -= node_macs(node, graph.values)
            if node.op in ("MaxPool", "AveragePool"):
                work -= math.prod(made[0].shape) * math.prod(integers(node, "kernel_shape"))
            if work < 0:
                raise ValueError(f"node {node.name!r:.80}: its constants take more than 2^33 products")


def _computable(node: Node, fixed: Collection[str], quantisers: bool) -> bool:
    """Whether the node's results depend on constants and shapes alone."""
    if node.op in QUANTISERS and not quantisers:
        return False
    return node.op in ("Shape", "Size") or all(not name or name in fixed for name in node.inputs)


def _idle(node: Node, values: Mapping[str, Value], taken: set[str]) -> bool:
    """Whether the node's one result that anyone takes is its operand."""
    if node.op == "Cast":
        return values[node.inputs[0]].dtype == values[node.outputs[0]].dtype
    return node.op == "Identity" or (node.op == "Dropout" and not taken.intersection(node.outputs[1:]))


def _operands(
    node: Node, constants: Mapping[str, NDArray[Any]], values: Mapping[str, Value]
) -> list[NDArray[Any] | None]:
    if node.op in ("Shape", "Size"):
        value = values[node.inputs[0]]
        # a view of one value has the shape, which is all that is asked
        return [np.broadcast_to(np.zeros((), value.dtype), value.shape)]
    return [constants[name] if name else None for name in node.inputs]


def pruned(graph: Graph) -> Graph:
    """The graph without the nodes, constants and values that no output needs; its inputs stay."""
    needed = set(graph.outputs)
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            nodes.append(node)
            needed.update(name for name in node.inputs if name)
    nodes.reverse()
    made: Iterable[str] = (name for node in nodes for name in node.outputs if name)
    kept = {*graph.inputs, *made, *(name for name in graph.constants if name in needed)}
    return replace(
        graph,
        nodes=tuple(nodes),
        constants={name: array for name, array in graph.constants.items() if name in needed},
        values={name: value for name, value in graph.values.items() if name in kept},
    )
