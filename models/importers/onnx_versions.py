"""Operators of older ONNX opsets in the form that the current one gives them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph.attributes import integer, integers
from ..graph.graph import Node, Value
from ..graph.window import window_of

__all__ = ["OLDEST_OPSET", "Modern", "modernise"]

OLDEST_OPSET = 9


class Modern:
    """What came of one node: nodes in its stead, and constants that they need."""

    def __init__(self, values: Mapping[str, Value], known: Mapping[str, NDArray[Any]]) -> None:
        self.values = values
        self.known = known
        self.nodes: list[Node] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def constant(self, node: Node, role: str, array: NDArray[Any]) -> str:
        """The name of a new constant, which stands for what was an attribute of `node`."""
        name = f"{node.name}/{role}"
        while name in self.values or name in self.constants or name in node.outputs:
            name += "_"
        self.constants[name] = array
        return name

    def shape(self, node: Node, i: int = 0) -> tuple[int, ...]:
        """The shape of a node's operand."""
        if i >= len(node.inputs) or not node.inputs[i]:
            raise ValueError(f"its operand {i} is missing")
        return self.values[node.inputs[i]].shape


def modernise(
    node: Node, opset: int, values: Mapping[str, Value], known: Mapping[str, NDArray[Any]]
) -> Modern:
    """`node` of `opset` as current nodes; windows get explicit pads, transpositions explicit axes.

    Args:
        node: as the file has it, with its opset's defaults.
        opset: the file's.
        values: shapes and types of the node's operands, by name.
        known: the small operands whose values are known.

    Raises:
        ValueError: attributes that its opset doesn't allow, or a form that isn't supported.
    """
    modern = Modern(values, known)
    change = _CHANGES.get(node.op)
    if change is None:
        modern.nodes.append(node)
    else:
        change(node, opset, modern)
    return modern


def _with(node: Node, inputs: tuple[str, ...], *without: str, **attributes: Any) -> Node:
    kept = {k: v for k, v in node.attributes.items() if k not in without}
    return replace(node, inputs=inputs, attributes={**kept, **attributes})


def _to_operand(key: str, since: int, after: int = 1) -> Callable[[Node, int, Modern], None]:
    """An attribute of integers became operand number `after` in opset `since`."""

    def change(node: Node, opset: int, modern: Modern) -> None:
        if opset < since and key in node.attributes:
            array = np.array(integers(node, key), np.int64)
            name = modern.constant(node, key, array)
            node = _with(node, (*node.inputs[:after], name), key)
        modern.nodes.append(node)

    return change


def _clip(node: Node, opset: int, modern: Modern) -> None:
    if opset < 11:
        dtype = modern.values[node.inputs[0]].dtype
        names = []
        for key in ("min", "max"):
            limit = node.attributes.get(key)
            # the defaults, the ends of float32, stand for no limit
            ends = limit is None or abs(float(limit)) >= float(np.finfo(np.float32).max)
            names.append("" if ends else modern.constant(node, key, np.array(limit, dtype)))
        node = _with(node, (node.inputs[0], *names), "min", "max")
    modern.nodes.append(node)


def _softmax(node: Node, opset: int, modern: Modern) -> None:
    if opset >= 13:
        modern.nodes.append(node)
        return
    shape = modern.shape(node)
    axis = integer(node, "axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise ValueError(f"axis {axis} lies outside a tensor of {len(shape)} axes")
    axis += len(shape) if axis < 0 else 0
    wide = [i for i in range(axis, len(shape)) if shape[i] != 1]
    if len(wide) <= 1 and axis < len(shape):
        # the older form flattens [axis:] into one, which changes nothing where one of them is not 1
        modern.nodes.append(_with(node, node.inputs, axis=wide[0] if wide else axis))
        return
    flat, soft = f"{node.outputs[0]}/flat", f"{node.outputs[0]}/soft"
    down = modern.constant(node, "flat", np.array([math.prod(shape[:axis]), -1], np.int64))
    back = modern.constant(node, "back", np.array(shape, np.int64))
    modern.nodes += [
        Node(op="Reshape", name=f"{node.name}/flat", inputs=(node.inputs[0], down), outputs=(flat,)),
        Node(op=node.op, name=node.name, inputs=(flat,), outputs=(soft,), attributes={"axis": -1}),
        Node(op="Reshape", name=f"{node.name}/back", inputs=(soft, back), outputs=node.outputs),
    ]


def _pad(node: Node, opset: int, modern: Modern) -> None:
    if opset < 11:
        pads = modern.constant(node, "pads", np.array(integers(node, "pads"), np.int64))
        dtype = modern.values[node.inputs[0]].dtype
        fill = modern.constant(node, "value", np.array(node.attributes.get("value", 0.0), dtype))
        node = _with(node, (node.inputs[0], pads, fill), "pads", "value")
    modern.nodes.append(node)


def _slice(node: Node, opset: int, modern: Modern) -> None:
    if opset < 10:
        starts, ends = integers(node, "starts"), integers(node, "ends")
        axes = integers(node, "axes", tuple(range(len(starts))))
        names = [
            modern.constant(node, role, np.array(values, np.int64))
            for role, values in (("starts", starts), ("ends", ends), ("axes", axes))
        ]
        node = _with(node, (node.inputs[0], *names), "starts", "ends", "axes")
    modern.nodes.append(node)


def _resize(node: Node, opset: int, modern: Modern) -> None:
    if opset < 11:
        # coordinates are divided by the scale and rounded down, or up where the picture shrinks: so
        # ONNX Runtime reads Upsample and the first Resize, whose texts leave it open
        scales = modern.known.get(node.inputs[1], np.ones(1))
        if (scales < 1).any() and (scales > 1).any():
            raise ValueError("a Resize of opset 10 that both shrinks and grows is not supported")
        node = replace(
            node,
            op="Resize",
            inputs=(node.inputs[0], "", node.inputs[1]),
            attributes={
                "mode": node.attributes.get("mode", "nearest"),
                "coordinate_transformation_mode": "asymmetric",
                "nearest_mode": "ceil" if (scales < 1).any() else "floor",
            },
        )
    elif node.op == "Upsample":
        raise ValueError(f"Upsample is no operator of opset {opset}")
    modern.nodes.append(node)


def _window(node: Node, opset: int, modern: Modern) -> None:
    at = 3 if node.op == "QLinearConv" else 1
    weights = None if node.op in ("MaxPool", "AveragePool") else modern.shape(node, at)[2:]
    spatial = modern.shape(node)[2:]
    if not 1 <= len(spatial) <= 3:
        raise ValueError(f"it takes (N, C, …) with one to three more axes, not {modern.shape(node)}")
    if weights is None and "kernel_shape" not in node.attributes:
        raise ValueError("its attribute kernel_shape is missing")
    window = window_of(node, spatial, weights)
    explicit = {
        "kernel_shape": window.kernel,
        "strides": window.strides,
        "dilations": window.dilations,
        "pads": (*window.begins, *window.ends),
    }
    modern.nodes.append(_with(node, node.inputs, "auto_pad", **explicit))


def _transpose(node: Node, opset: int, modern: Modern) -> None:
    rank = len(modern.shape(node))
    modern.nodes.append(_with(node, node.inputs, perm=integers(node, "perm", tuple(reversed(range(rank))))))


def _batch_norm(node: Node, opset: int, modern: Modern) -> None:
    if any(node.outputs[1:]):
        raise ValueError("it is in training mode: export the network for inference")
    modern.nodes.append(_with(replace(node, outputs=node.outputs[:1]), node.inputs, "momentum"))


def _dropout(node: Node, opset: int, modern: Modern) -> None:
    # ratio and seed mean nothing at inference
    inputs = node.inputs[:1] if len(node.inputs) < 3 else (node.inputs[0], "", node.inputs[2])
    modern.nodes.append(_with(node, inputs, "ratio", "seed"))


_CHANGES: Mapping[str, Callable[[Node, int, Modern], None]] = {
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool"), _window),
    **{op: _to_operand("axes", 18) for op in ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")},
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Dropout": _dropout,
    "LogSoftmax": _softmax,
    "Pad": _pad,
    "ReduceSum": _to_operand("axes", 13),
    "Resize": _resize,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _to_operand("split", 13),
    "Squeeze": _to_operand("axes", 13),
    "Transpose": _transpose,
    "Unsqueeze": _to_operand("axes", 13),
    "Upsample": _resize,
}
