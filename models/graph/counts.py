"""Products and parameters of a graph, layer by layer, from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .attributes import flag
from .graph import Graph, Node, Value

__all__ = ["LayerCount", "layer_counts", "node_macs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCount:
    """What one node of a graph costs."""

    name: str
    kind: str
    """conv, fc (Gemm and MatMul), or the operator's name."""
    macs: int
    """Multiplications of a weight or another operand with an activation, each added to a sum."""
    parameters: int
    """Weights, biases, γ, β and slopes that no layer before has counted; running statistics don't count."""
    shape: tuple[int, ...]
    """Of the first result, with the batch axis."""


_PARAMETERS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), (1, 2)),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization", "LayerNormalization"), (1, 2)),
    **dict.fromkeys(("MatMul", "MatMulInteger", "Add", "Mul"), (0, 1)),
    "ConvInteger": (1,),
    "PRelu": (1,),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
}
"""By operator: the operands that are parameters where they are constants."""
_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger", "QLinearConv"), "conv"),
    **dict.fromkeys(("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"), "fc"),
}


def layer_counts(graph: Graph) -> list[LayerCount]:
    """One row for each node that works on the graph's inputs, in order; the graph need not be folded.

    A constant of one value in an Add or Mul is a scale, not a parameter. Weights that pass quantisers,
    transpositions and the like count where they arrive, and shared ones once.
    """
    fixed = set(graph.constants)
    counted: set[str] = set()
    rows = []
    for node in graph.nodes:
        operands = {name for name in node.inputs if name}
        if operands <= fixed or node.op in ("Shape", "Size"):
            fixed.update(node.outputs)
            continue
        parameters = 0
        for i in _PARAMETERS.get(node.op, ()):
            name = node.inputs[i] if i < len(node.inputs) else ""
            if name not in fixed or name in counted or not name:
                continue
            size = math.prod(graph.values[name].shape)
            if size > 1 or node.op not in ("Add", "Mul"):
                parameters += size
                counted.add(name)
        rows.append(
            LayerCount(
                name=node.name,
                kind=_KINDS.get(node.op, node.op),
                macs=node_macs(node, graph.values),
                parameters=parameters,
                shape=graph.values[next(name for name in node.outputs if name)].shape,
            )
        )
    return rows


def node_macs(node: Node, values: Mapping[str, Value]) -> int:
    """What `LayerCount.macs` says of one node, from its operands' and results' shapes."""
    shapes = [values[name].shape if name else () for name in node.inputs]
    out = math.prod(values[node.outputs[0]].shape) if node.outputs[0] else 0
    if node.op in ("Conv", "ConvInteger"):
        return out * math.prod(shapes[1][1:])
    if node.op == "QLinearConv":
        return out * math.prod(shapes[3][1:])
    if node.op == "ConvTranspose":
        return math.prod(shapes[0]) * math.prod(shapes[1][1:])
    if node.op == "Gemm":
        return out * shapes[0][0 if flag(node, "transA") else 1]
    if node.op in ("MatMul", "MatMulInteger", "QLinearMatMul"):
        return out * shapes[0][-1]
    return 0
