"""Shapes and types of a graph's values, inferred node by node, and the few values that shapes depend on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .attributes import axis_of, flag, integer
from .elementwise import ELEMENTWISE
from .evaluate import run_node
from .graph import Node, Value
from .movement import MOVEMENT
from .operands import KNOWN_LIMIT, Known, Made, Operands, Rule, broadcast, known_operand, operand, without
from .shape_layers import LAYER_RULES
from .shape_moves import MOVE_RULES

__all__ = ["RULES", "ShapeTracker", "infer_values"]

_INT64, _BOOL = np.dtype(np.int64), np.dtype(np.bool_)


class ShapeTracker:
    """Values of a graph that grows node by node, with the small ones that are known without running it.

    Weights that nodes make (ConstantOfShape) get their shapes without any memory being taken.
    """

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.known: dict[str, NDArray[Any]] = {}

    def add_value(self, value: Value, array: NDArray[Any] | None = None) -> None:
        """Takes an input of the graph, or with `array` a constant."""
        self.values[value.name] = value
        if array is not None and array.size <= KNOWN_LIMIT:
            self.known[value.name] = array

    def add_node(self, node: Node) -> None:
        """Takes a node whose operands are known, and infers what it makes.

        Raises:
            ValueError: an unknown operator, or operands or attributes that it can't have; names the node.
        """
        if node.op not in RULES:
            raise ValueError(f"node {node.name!r:.80}: the operator {node.op!r:.40} is not known")
        operands = [self.values[name] if name else None for name in node.inputs]
        arrays = [self.known.get(name) for name in node.inputs]
        try:
            made = RULES[node.op](node, operands, arrays)
            if len(node.outputs) > len(made):
                raise ValueError(f"it makes {len(made)} values here, not {len(node.outputs)}")
            values = [
                Value(name=name, shape=tuple(int(n) for n in shape), dtype=np.dtype(dtype))
                for name, (shape, dtype) in zip(node.outputs, made, strict=False)
            ]
        except (ValueError, TypeError, IndexError, AttributeError, OverflowError) as fault:
            raise ValueError(f"node {node.name!r:.80} ({node.op}): {_line(fault)}") from None
        for value in values:
            if value.name:
                self.values[value.name] = value
        self._know(node, arrays, values)

    def _know(self, node: Node, arrays: list[NDArray[Any] | None], values: list[Value]) -> None:
        if node.op in ("Shape", "Size"):
            operand = self.values[node.inputs[0]]
            # a view of one value stands for the tensor, whose shape is all that is asked
            arrays = [np.broadcast_to(np.zeros((), operand.dtype), operand.shape)]
        elif node.op not in ELEMENTWISE and node.op not in MOVEMENT:
            return
        missing = any(array is None for name, array in zip(node.inputs, arrays, strict=True) if name)
        if missing or any(math.prod(value.shape) > KNOWN_LIMIT for value in values):
            return
        for value, result in zip(values, run_node(node, arrays), strict=False):
            if value.name:
                self.known[value.name] = result


def _line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:300]


def infer_values(
    inputs: Iterable[Value], constants: Mapping[str, NDArray[Any]], nodes: Iterable[Node]
) -> dict[str, Value]:
    """Every value of a graph by name: what `Graph.values` wants.

    Raises:
        ValueError: as `ShapeTracker.add_node` says.
    """
    tracker = ShapeTracker()
    for value in inputs:
        tracker.add_value(value)
    for name, array in constants.items():
        tracker.add_value(Value(name=name, shape=array.shape, dtype=array.dtype), array)
    for node in nodes:
        tracker.add_node(node)
    return tracker.values


def _same(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    return [(value.shape, value.dtype)]


def _together(node: Node, x: Operands, known: Known) -> list[Made]:
    return [(broadcast([operand(x, i).shape for i in range(len(x))]), operand(x).dtype)]


def _compare(node: Node, x: Operands, known: Known) -> list[Made]:
    return [(_together(node, x, known)[0][0], _BOOL)]


def _onto_first(node: Node, x: Operands, known: Known) -> list[Made]:
    """The first operand's shape, onto which the others must broadcast."""
    value = operand(x)
    for i in range(1, len(x)):
        if x[i] is not None and broadcast([value.shape, operand(x, i).shape]) != value.shape:
            raise ValueError(f"operand {i}, {operand(x, i).shape}, doesn't broadcast to {value.shape}")
    return [(value.shape, value.dtype)]


def _where(node: Node, x: Operands, known: Known) -> list[Made]:
    return [(_together(node, x, known)[0][0], operand(x, 1).dtype)]


def _along_axis(default: int) -> Rule:
    def rule(node: Node, x: Operands, known: Known) -> list[Made]:
        value = operand(x)
        axis_of(integer(node, "axis", default), len(value.shape))
        return [(value.shape, value.dtype)]

    return rule


def _layer_norm(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    part = value.shape[axis_of(integer(node, "axis", -1), len(value.shape)) :]
    for i in range(1, len(x)):
        if x[i] is not None and broadcast([part, operand(x, i).shape]) != part:
            raise ValueError(f"operand {i}, {operand(x, i).shape}, doesn't broadcast to {part}")
    return [(value.shape, value.dtype)]


def _reduce(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    rank = len(value.shape)
    given = x[1] if len(x) > 1 else None
    axes = [] if given is None else [axis_of(int(a), rank) for a in known_operand(known, 1, "axes").ravel()]
    if not axes:
        if flag(node, "noop_with_empty_axes"):
            return [(value.shape, value.dtype)]
        axes = list(range(rank))
    return [(without(value.shape, axes, flag(node, "keepdims", True)), value.dtype)]


def _arg(node: Node, x: Operands, known: Known) -> list[Made]:
    shape = operand(x).shape
    axis = axis_of(integer(node, "axis", 0), len(shape))
    return [(without(shape, [axis], flag(node, "keepdims", True)), _INT64)]


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _same),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Sum", "Max", "Min", "Mean"), _together),
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or"), _compare),
    **dict.fromkeys(("PRelu", "Clip", "Quant", "BipolarQuant", "Trunc"), _onto_first),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _along_axis(-1)),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"), _reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    "LayerNormalization": _layer_norm,
    "Where": _where,
    **LAYER_RULES,
    **MOVE_RULES,
}
"""By operator: how its results' shapes come about."""
