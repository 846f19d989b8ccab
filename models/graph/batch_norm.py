"""Batch normalisation, and other factors and terms a channel, moved into the weights before them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .attributes import flag, number
from .fold import pruned
from .graph import Graph, Node, Value

__all__ = ["fold_batch_norm"]

_LAYERS = ("Conv", "Gemm", "MatMul")


@dataclass(slots=True)
class _Affine:
    """y = factor · x + term, one pair a channel, in float64."""

    factor: NDArray[np.float64]
    term: NDArray[np.float64]


def fold_batch_norm(graph: Graph) -> Graph:
    """The graph with BatchNormalization, Mul, Div, Add and Sub a channel moved into the layer before.

    That layer is a Conv, Gemm or MatMul with constant weights whose result nothing else takes; a MatMul
    of matrices becomes a Gemm where it needs a bias. Computed in float64 and rounded once to the weights'
    type. What can't be moved stays.
    """
    nodes = list(graph.nodes)
    constants = dict(graph.constants)
    values = dict(graph.values)
    takers: dict[str, list[int]] = {}
    for i, node in enumerate(nodes):
        for name in set(node.inputs):
            takers.setdefault(name, []).append(i)
    gone: set[int] = set()
    for i, node in enumerate(graph.nodes):
        if not _has_weights(node, graph):
            continue
        channels = values[node.outputs[0]].shape[1]
        total = _Affine(np.ones(channels), np.zeros(channels))
        last, chain = node.outputs[0], []
        while last not in graph.outputs and len(takers.get(last, ())) == 1:
            step = nodes[takers[last][0]]
            affine = _affine(step, last, channels, graph)
            if affine is None:
                break
            total = _Affine(total.factor * affine.factor, total.term * affine.factor + affine.term)
            chain.append(takers[last][0])
            last = step.outputs[0]
        if chain:
            nodes[i] = _merged(node, total, last, constants, values)
            gone.update(chain)
    kept = tuple(node for i, node in enumerate(nodes) if i not in gone)
    return pruned(replace(graph, nodes=kept, constants=constants, values=values))


def _has_weights(node: Node, graph: Graph) -> bool:
    """Whether the node is a layer of float weights, and bias, that are constants."""
    if node.op not in _LAYERS or any(name and name not in graph.constants for name in node.inputs[1:]):
        return False
    if graph.constants[node.inputs[1]].dtype.kind != "f":
        return False
    result, weights = graph.values[node.outputs[0]], graph.constants[node.inputs[1]]
    return node.op == "Conv" or (len(result.shape) == 2 and weights.ndim == 2)


def _affine(node: Node, operand: str, channels: int, graph: Graph) -> _Affine | None:
    """What the node does to each channel of `operand`; None where it is nothing of the kind."""
    if node.op == "BatchNormalization" and node.inputs[0] == operand:
        if any(name not in graph.constants for name in node.inputs[1:]):
            return None
        scale, shift, mean, variance = (graph.constants[n].astype(np.float64) for n in node.inputs[1:])
        factor = scale / np.sqrt(variance + number(node, "epsilon", 1e-5))
        return _Affine(factor, shift - mean * factor)
    if node.op not in ("Mul", "Div", "Add", "Sub") or len(set(node.inputs)) != 2:
        return None
    first = node.inputs[0] == operand
    other = graph.constants.get(node.inputs[1] if first else node.inputs[0])
    vector = None if other is None else _a_channel(other, graph.values[operand], channels)
    if vector is None or graph.values[node.outputs[0]].shape != graph.values[operand].shape:
        return None
    ones, zeros = np.ones(channels), np.zeros(channels)
    if node.op == "Mul":
        return _Affine(vector, zeros)
    if node.op == "Add":
        return _Affine(ones, vector)
    if node.op == "Sub":
        return _Affine(ones, -vector) if first else _Affine(-ones, vector)
    return _Affine(1 / vector, zeros) if first and vector.all() else None


def _a_channel(array: NDArray[Any], value: Value, channels: int) -> NDArray[np.float64] | None:
    """A constant as one number a channel; None where it differs along another axis."""
    rank = len(value.shape)
    if array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(n != 1 for i, n in enumerate(shape) if i != 1):
        return None
    return np.broadcast_to(array.astype(np.float64).ravel(), (channels,))


def _merged(
    node: Node,
    affine: _Affine,
    output: str,
    constants: dict[str, NDArray[Any]],
    values: dict[str, Value],
) -> Node:
    """The layer with `affine` in its weights and bias, making `output`; adds the new constants."""
    weights = constants[node.inputs[1]]
    alpha, beta = number(node, "alpha", 1.0), number(node, "beta", 1.0)
    axis = 0 if node.op == "Conv" or (node.op == "Gemm" and flag(node, "transB")) else 1
    spread = [-1 if i == axis else 1 for i in range(weights.ndim)]
    scaled = weights.astype(np.float64) * affine.factor.reshape(spread) * alpha
    bias = constants[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1)
    moved = bias.astype(np.float64) * beta * affine.factor + affine.term
    inputs = [node.inputs[0]]
    for role, array in (("weights", scaled), ("bias", moved)):
        if role == "bias" and node.op == "MatMul" and not array.any():
            continue
        name = f"{node.name}/{role}"
        while name in values:
            name += "_"
        constants[name] = array.astype(weights.dtype)
        values[name] = Value(name=name, shape=array.shape, dtype=weights.dtype)
        inputs.append(name)
    attributes = dict(node.attributes)
    if node.op == "Gemm":
        attributes |= {"alpha": 1.0, "beta": 1.0}
    if node.op == "MatMul" and len(inputs) == 3:
        return Node(op="Gemm", name=node.name, inputs=tuple(inputs), outputs=(output,))
    return replace(node, inputs=tuple(inputs), outputs=(output,), attributes=attributes)
