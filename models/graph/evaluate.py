"""Graphs run in floats and integers, as ONNX defines their operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .elementwise import ELEMENTWISE
from .graph import Graph, Node
from .movement import MOVEMENT
from .quantised import QUANTISED
from .weighted import WEIGHTED

__all__ = ["ARITHMETIC", "OPERATORS", "run_graph", "run_node", "trace_graph"]

OPERATORS: Mapping[str, Callable[[Node, Sequence[Any]], Any]] = {
    **ELEMENTWISE,
    **MOVEMENT,
    **WEIGHTED,
    **QUANTISED,
}
"""Every operator that graphs may hold, and what computes it."""

ARITHMETIC: Mapping[str, str] = {
    **dict.fromkeys(ELEMENTWISE, "in the operands' type"),
    **dict.fromkeys(("Pow", "Sigmoid", "Erf", "Gelu"), "float64, rounded once to the operands' type"),
    **dict.fromkeys(MOVEMENT, "exact: values are moved"),
    "Cast": "to integers towards zero",
    "Resize": "nearest: exact; linear: float32",
    **dict.fromkeys(WEIGHTED, "sums in the operands' type, in no fixed order"),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool"), "exact"),
    "Round": "half to even",
    "BipolarQuant": "float32: +scale from 0 on, else -scale",
    "ConvInteger": "exact, modulo 2^32",
    "DequantizeLinear": "(x - zero point) to float32, times the scale",
    "DynamicQuantizeLinear": "scale and zero point from the operand; as QuantizeLinear",
    "MatMulInteger": "exact, modulo 2^32",
    "MultiThreshold": "thresholds that x reaches, counted; times out_scale, plus out_bias",
    "QLinearConv": "int32 sums in float32 times x_scale * w_scale / y_scale, half to even, saturated",
    "QLinearMatMul": "as QLinearConv",
    "Quant": "x / scale + zero point in float32, clamped, then rounded as rounding_mode says; HALF_UP and "
    "HALF_DOWN go away from and towards zero",
    "QuantizeLinear": "x / scale in float32, half to even, plus zero point, saturated",
    "Trunc": "to integers half to even, then divided and rounded as rounding_mode says",
}
"""By operator: how its results are rounded here; integers, where nothing is said, are exact."""


def run_node(node: Node, operands: Sequence[NDArray[Any] | None]) -> tuple[NDArray[Any], ...]:
    """The results of one node, from its operands in order; None stands for one that is left out.

    Raises:
        ValueError: an operator that isn't known, or operands that it can't take; names the node.
    """
    if node.op not in OPERATORS:
        raise ValueError(f"node {node.name!r:.80}: the operator {node.op!r:.40} is not known")
    try:
        with np.errstate(all="ignore"):
            results = OPERATORS[node.op](node, operands)
    except (ValueError, TypeError, IndexError, RuntimeError) as fault:
        reason = " ".join(str(fault).split())
        raise ValueError(f"node {node.name!r:.80} ({node.op}): {reason:.200}") from None
    return tuple(np.asarray(r) for r in results) if isinstance(results, tuple) else (np.asarray(results),)


def run_graph(graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The graph's outputs by name, from its inputs by name.

    Inputs may carry more examples than the graph's batch axis of 1; they run one after the other.

    Raises:
        ValueError: an input is missing, unknown, or of another shape; a node can't run.
    """
    return trace_graph(graph, inputs, graph.outputs)


def trace_graph(
    graph: Graph, inputs: Mapping[str, NDArray[Any]], names: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """The graph's values `names`, from its inputs; else as `run_graph`."""
    if set(inputs) != set(graph.inputs):
        raise ValueError(
            f"graph {graph.name!r:.80} takes the inputs {', '.join(graph.inputs)}, not {', '.join(inputs)}"
        )
    if missing := [name for name in names if name not in graph.values]:
        raise ValueError(f"graph {graph.name!r:.80} has no value {missing[0]!r:.80}")
    examples = 1
    feeds = {}
    for name, given in inputs.items():
        value = graph.values[name]
        array = np.asarray(given)
        if array.shape[1:] != value.shape[1:] or array.ndim != len(value.shape):
            raise ValueError(f"input {name!r:.80} must have the shape {value.shape}, not {array.shape}")
        feeds[name] = array.astype(value.dtype, copy=False)
        if array.shape != value.shape:
            if value.shape[0] != 1:
                raise ValueError(f"input {name!r:.80} must have the shape {value.shape}, not {array.shape}")
            examples = len(array)
    if examples == 1:
        return _run(graph, feeds, names)
    if any(len(array) != examples for array in feeds.values()):
        raise ValueError(f"every input must have {examples} examples")
    rows = [_run(graph, {k: v[i : i + 1] for k, v in feeds.items()}, names) for i in range(examples)]
    return {name: np.concatenate([row[name] for row in rows]) for name in names}


def _run(graph: Graph, feeds: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    wanted = set(names)
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    known: dict[str, NDArray[Any]] = {**graph.constants, **feeds}
    for i, node in enumerate(graph.nodes):
        results = run_node(node, [known[name] if name else None for name in node.inputs])
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                known[name] = result
        for name in {*node.inputs, *node.outputs}:
            # what no later node takes makes room
            if name in known and last.get(name, -1) <= i and name not in wanted:
                del known[name]
    return {name: known[name] for name in names}
