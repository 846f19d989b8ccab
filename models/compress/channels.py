"""Which channels of a graph hang together, and the graph without some of them.

A channel that a layer makes goes through norms, activations and pools to the layers that read it, and is cut
with all of them. Sums make channels one: those of two layers whose results are added go together or not at
all. Channels of the network's input and output, and what goes through grouped convolutions, reshapes and
the like, stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node, infer_values
from ..graph.attributes import integer

__all__ = ["ChannelMap", "Shrunk", "without_channels"]

_Ids = NDArray[np.int64]

_SAME = frozenset(
    (
        "AveragePool",
        "BatchNormalization",
        "BipolarQuant",
        "Clip",
        "Dropout",
        "GlobalAveragePool",
        "Identity",
        "LeakyRelu",
        "MaxPool",
        "PRelu",
        "Relu",
        "Sigmoid",
        "Tanh",
    )
)
"""Operators whose channels are their first operand's, one for one."""
_TOGETHER = frozenset(("Add", "Mul", "Sub"))


class ChannelMap:
    """The channels of each value of a float graph, as numbers that are equal where channels are one.

    Attributes:
        rows: by constant with weights, the channels that it makes, (K,).
        columns: by constant with weights, the channels that it reads, (C,) or (N,).
        vectors: by constant, (axis, channels) of what holds a number a channel: biases, norms, slopes.
        values: by value, the channels along axis 1.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.rows: dict[str, _Ids] = {}
        self.columns: dict[str, _Ids] = {}
        self.vectors: dict[str, tuple[int, _Ids]] = {}
        self.values: dict[str, _Ids] = {}
        self._parents: list[int] = []
        self._fixed: dict[int, str] = {}
        for name in graph.inputs:
            shape = graph.values[name].shape
            self.values[name] = self._fresh(shape[1] if len(shape) > 1 else 1, "the network's input")
        for node in graph.nodes:
            self._take(node)
        for name in graph.outputs:
            self._fix(self.values[name], "the network's output")

    def roots(self, ids: _Ids) -> _Ids:
        """The number that stands for all channels that are one with each of `ids`."""
        return np.array([self._root(int(i)) for i in ids], np.int64)

    def fixed(self, ids: _Ids) -> dict[int, str]:
        """By position in `ids`, what keeps a channel from being cut; empty where all may go."""
        reasons = {self._root(i): why for i, why in self._fixed.items()}
        return {at: reasons[root] for at, root in enumerate(self.roots(ids).tolist()) if root in reasons}

    def coupled(self, weight: str) -> tuple[str, ...]:
        """The other constants with weights whose channels are one with some that `weight` makes."""
        own = set(self.roots(self.rows[weight]).tolist())
        return tuple(
            name for name, ids in self.rows.items() if name != weight and own & set(self.roots(ids).tolist())
        )

    # How channels go through nodes

    def _take(self, node: Node) -> None:
        graph = self.graph
        made = graph.values[node.outputs[0]].shape
        known = [name for name in node.inputs if name in self.values]
        if node.op == "Conv" and node.inputs[1] in graph.constants:
            ids = self._conv(node)
        elif node.op == "Gemm" and node.inputs[1] in graph.constants and integer(node, "transB", 0):
            ids = self._weighted(node, graph.constants[node.inputs[1]].shape[0])
        elif node.op in _SAME and len(known) == 1:
            ids = self.values[known[0]]
            self._take_vectors(node, known[0], ids)
        elif node.op in _TOGETHER:
            ids = self._together(node, known)
        elif node.op == "Flatten" and integer(node, "axis", 1) == 1:
            ids = np.repeat(self.values[known[0]], math.prod(graph.values[known[0]].shape[2:]))
        elif (
            node.op == "Concat"
            and integer(node, "axis", 1) in (1, 1 - len(made))
            and len(known) == len(node.inputs)
        ):
            ids = np.concatenate([self.values[name] for name in known])
        elif node.op == "Pad" and node.inputs[1] in graph.constants and len(made) > 1:
            pads = graph.constants[node.inputs[1]]
            before, after = (int(pads[at]) for at in (1, 1 + len(made)))
            why = f"channels of zeros of {node.name}"
            ids = np.concatenate([self._fresh(before, why), self.values[known[0]], self._fresh(after, why)])
        else:
            ids = self._opaque(node, known)
        self.values[node.outputs[0]] = ids

    def _opaque(self, node: Node, known: list[str]) -> _Ids:
        why = f"{node.op} {node.name}"
        for name in known:
            self._fix(self.values[name], why)
        shape = self.graph.values[node.outputs[0]].shape
        return self._fresh(shape[1] if len(shape) > 1 else 1, why)

    def _conv(self, node: Node) -> _Ids:
        source, weight = self.values[node.inputs[0]], self.graph.constants[node.inputs[1]]
        groups = integer(node, "group", 1)
        if groups == 1:
            return self._weighted(node, weight.shape[0])
        if groups == len(source):
            ids = np.repeat(source, weight.shape[0] // groups)
            self._unite(self.rows.setdefault(node.inputs[1], ids), ids)
            self._bias(node, ids)
            return ids
        ids = self._opaque(node, [node.inputs[0]])
        self.rows.setdefault(node.inputs[1], ids)
        return ids

    def _weighted(self, node: Node, count: int) -> _Ids:
        weight, source = node.inputs[1], self.values[node.inputs[0]]
        if weight in self.rows:  # another time step of a recurrent layer
            self._unite(self.columns[weight], source)
        else:
            self.rows[weight] = self._fresh(count)
            self.columns[weight] = source
        self._bias(node, self.rows[weight])
        return self.rows[weight]

    def _bias(self, node: Node, ids: _Ids) -> None:
        if len(node.inputs) > 2 and node.inputs[2]:
            if node.inputs[2] in self.graph.constants:
                self._vector(node.inputs[2], 0, ids)
            else:
                self._fix(ids, f"the computed bias of {node.name}")

    def _together(self, node: Node, known: list[str]) -> _Ids:
        shapes = {self.graph.values[name].shape for name in known}
        if len(shapes) != 1 or len(next(iter(shapes))) < 2:
            return self._opaque(node, known)
        ids = self.values[known[0]]
        for name in known[1:]:
            self._unite(ids, self.values[name])
        self._take_vectors(node, known[0], ids)
        return ids

    def _take_vectors(self, node: Node, value: str, ids: _Ids) -> None:
        rank = len(self.graph.values[value].shape)
        for name in node.inputs:
            array = self.graph.constants.get(name)
            if array is None or array.ndim == 0 or array.size == 1:
                continue
            axis = 0 if node.op == "BatchNormalization" else array.ndim - rank + 1
            if 0 <= axis < array.ndim and array.shape[axis] == len(ids):
                self._vector(name, axis, ids)

    def _vector(self, name: str, axis: int, ids: _Ids) -> None:
        if name in self.vectors:
            self._unite(self.vectors[name][1], ids)
        else:
            self.vectors[name] = (axis, ids)

    # Numbers that are one

    def _fresh(self, count: int, why: str | None = None) -> _Ids:
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        ids = np.arange(first, first + count, dtype=np.int64)
        if why is not None:
            self._fix(ids, why)
        return ids

    def _fix(self, ids: _Ids, why: str) -> None:
        for i in ids.tolist():
            self._fixed.setdefault(i, why)

    def _unite(self, a: _Ids, b: _Ids) -> None:
        for i, j in zip(a.tolist(), b.tolist(), strict=True):
            self._parents[self._root(j)] = self._root(i)

    def _root(self, i: int) -> int:
        while self._parents[i] != i:
            self._parents[i] = self._parents[self._parents[i]]
            i = self._parents[i]
        return i


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shrunk:
    """A graph without some channels, and which rows and columns of each layer's weights are left."""

    graph: Graph
    rows: Mapping[str, NDArray[np.bool_]]
    """By constant with weights: (K,)."""
    columns: Mapping[str, NDArray[np.bool_]]
    """By constant with weights: (C,) or (N,); none for depthwise layers."""

    def part(self, weight: str, array: NDArray[Any]) -> NDArray[Any]:
        """What is left of an array of the shape of the weights `weight`."""
        found = array[self.rows[weight]] if weight in self.rows else array
        return found[:, self.columns[weight]] if weight in self.columns else found


def without_channels(graph: Graph, cut: Mapping[str, NDArray[np.bool_]]) -> Shrunk:
    """The graph without the channels that `cut` marks, in all that makes, scales or reads them.

    It computes what `graph` does where the cut channels are 0 wherever a layer reads them.

    Args:
        graph: float.
        cut: by constant with weights, (K,): True for the channels that go.

    Raises:
        ValueError: a channel that can't go, one that goes only together with others, or every channel of a
            layer; names the layer.
    """
    channels = ChannelMap(graph)
    names = {node.inputs[1]: node.name for node in graph.nodes if node.op in ("Conv", "Gemm")}
    gone: set[int] = set()
    for weight, mask in cut.items():
        fixed = channels.fixed(channels.rows[weight])
        for place in np.flatnonzero(mask):
            if int(place) in fixed:
                raise ValueError(
                    f"layer {names[weight]}: channel {int(place)} can't be cut: it goes into "
                    f"{fixed[int(place)]}"
                )
        gone.update(channels.roots(channels.rows[weight][mask]).tolist())
    lost = np.array(sorted(gone), np.int64)

    def left(ids: _Ids) -> NDArray[np.bool_]:
        return ~np.isin(channels.roots(ids), lost)

    rows = {weight: left(ids) for weight, ids in channels.rows.items()}
    for weight in cut:
        others = [
            names[name]
            for name in channels.coupled(weight)
            if name not in cut and name in channels.columns and not rows[name].all()
        ]
        if others:
            raise ValueError(
                f"layer {names[weight]}: its channels are added to those of {', '.join(others)}: cut them "
                "together, or leave it out"
            )
    for weight, mask in rows.items():
        if not mask.any():
            raise ValueError(f"layer {names[weight]}: every channel would be cut: keep at least one")
    columns = {weight: left(ids) for weight, ids in channels.columns.items()}
    constants = dict(graph.constants)
    for weight, mask in rows.items():
        constants[weight] = np.ascontiguousarray(constants[weight][mask])
    for weight, mask in columns.items():
        constants[weight] = np.ascontiguousarray(constants[weight][:, mask])
    for name, (axis, ids) in channels.vectors.items():
        constants[name] = np.ascontiguousarray(np.compress(left(ids), constants[name], axis=axis))
    nodes = tuple(_regrouped(node, rows, columns) for node in graph.nodes)
    values = infer_values([graph.values[name] for name in graph.inputs], constants, nodes)
    shrunk = replace(graph, nodes=nodes, constants=constants, values=values)
    return Shrunk(graph=shrunk, rows=rows, columns=columns)


def _regrouped(
    node: Node, rows: Mapping[str, NDArray[np.bool_]], columns: Mapping[str, NDArray[np.bool_]]
) -> Node:
    """A depthwise convolution with as many groups as channels are left."""
    groups = integer(node, "group", 1) if node.op == "Conv" else 1
    if groups == 1 or node.inputs[1] not in rows or rows[node.inputs[1]].all():
        return node
    each = len(rows[node.inputs[1]]) // groups
    count = int(rows[node.inputs[1]].sum()) // each
    return replace(node, attributes={**node.attributes, "group": count})
