"""Real shrinking: channels that nothing reads, or that never change, leave the graph; exactly. Imports torch.

A channel goes where every weight that reads it is 0, or where what makes it is cut whole and what is left of
it, a constant, can go into the biases of its readers. Branches that are 0 everywhere leave the sums that they
go into.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node, infer_values
from ..graph.attributes import integer, integers, number
from .channels import ChannelMap, Shrunk, without_channels
from .passes import Pass
from .subject import Subject

__all__ = ["Shrink", "constant_channels", "cut_channels", "dead_channels", "shrunk", "without_branches"]

_Array = NDArray[np.float64]


def constant_channels(graph: Graph) -> dict[str, _Array]:
    """By value, the number that each channel always is, whatever the input; NaN where it isn't one number."""
    found: dict[str, _Array] = {}
    for name in graph.inputs:
        shape = graph.values[name].shape
        found[name] = np.full(shape[1] if len(shape) > 1 else 1, np.nan)
    for node in graph.nodes:
        shape = graph.values[node.outputs[0]].shape
        count = shape[1] if len(shape) > 1 else 1
        rule = _CONSTANT.get(node.op)
        made = None if rule is None or len(shape) < 2 else rule(graph, node, found)
        found[node.outputs[0]] = np.full(count, np.nan) if made is None or len(made) != count else made
    return found


def dead_channels(graph: Graph) -> tuple[dict[str, NDArray[np.bool_]], Graph]:
    """Channels that may go, (K,) by constant with weights; and the graph with what they say in biases.

    Without the channels the second graph computes what `graph` does. Each layer keeps at least one channel.
    """
    channels, always = ChannelMap(graph), constant_channels(graph)
    made = list(channels.rows.values())
    count = int(max((int(channels.roots(ids).max()) for ids in channels.values.values()), default=-1)) + 1
    live = np.ones(count, np.bool_)
    for ids in made:
        live[channels.roots(ids)] = False
        live[channels.roots(ids)[sorted(channels.fixed(ids))]] = True
    readers = [
        node for node in graph.nodes if node.op in ("Conv", "Gemm") and node.inputs[1] in channels.columns
    ]
    uses = Counter(name for node in readers for name in node.inputs[1:])
    for node in readers:
        weight = graph.constants[node.inputs[1]]
        roots = channels.roots(channels.values[node.inputs[0]])
        reads = np.abs(weight).sum(axis=(0, *range(2, weight.ndim))) > 0
        value = always[node.inputs[0]]
        padded = node.op == "Conv" and any(integers(node, "pads", (0, 0, 0, 0)))
        into_bias = not padded and all(uses[name] == 1 for name in node.inputs[1:])
        gone = (value == 0) | (~np.isnan(value) & into_bias)
        live[roots[reads & ~gone]] = True
    for ids in made:  # a layer of no channel is no layer
        roots = channels.roots(ids)
        if not live[roots].any():
            live[roots[0]] = True
    constants, nodes = dict(graph.constants), list(graph.nodes)
    for at, node in enumerate(graph.nodes):
        if node in readers:
            dead = ~live[channels.roots(channels.values[node.inputs[0]])]
            nodes[at] = _with_constants(node, constants, np.where(dead, always[node.inputs[0]], 0.0))
    cut = {weight: ~live[channels.roots(ids)] for weight, ids in channels.rows.items()}
    values = infer_values([graph.values[name] for name in graph.inputs], constants, nodes)
    told = replace(graph, nodes=tuple(nodes), constants=constants, values=values)
    return {weight: mask for weight, mask in cut.items() if mask.any()}, told


def _with_constants(node: Node, constants: dict[str, NDArray[Any]], value: _Array) -> Node:
    """The node with a bias that also holds what inputs of `value` give; these are 0 from now on."""
    value = np.nan_to_num(value)
    if not value.any():
        return node
    weight = constants[node.inputs[1]].astype(np.float64)
    rise = np.tensordot(weight, value, axes=(1, 0)).reshape(len(weight), -1).sum(axis=1)
    if len(node.inputs) > 2 and node.inputs[2]:
        constants[node.inputs[2]] = (constants[node.inputs[2]] + rise).astype(np.float32)
        return node
    name = f"{node.name}.constant_inputs"
    constants[name] = rise.astype(np.float32)
    return replace(node, inputs=(*node.inputs[:2], name))


def without_branches(graph: Graph) -> Graph:
    """The graph without sums of which one part is always 0, and without what only made that part."""
    always = constant_channels(graph)
    instead: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(instead.get(name, name) for name in node.inputs)
        if node.op == "Add" and node.outputs[0] not in graph.outputs:
            for name, other in (inputs, inputs[::-1]):
                same = name in always and other in always
                if same and not always[name].any() and graph.values[name].shape == graph.values[other].shape:
                    instead[node.outputs[0]] = other
                    break
        if node.outputs[0] not in instead:
            nodes.append(replace(node, inputs=inputs))
    if not instead:
        return graph
    needed, kept = set(graph.outputs), []
    for node in reversed(nodes):
        if needed & set(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    constants = {name: array for name, array in graph.constants.items() if name in needed}
    kept.reverse()
    values = infer_values([graph.values[name] for name in graph.inputs], constants, kept)
    return replace(graph, nodes=tuple(kept), constants=constants, values=values)


def shrunk(graph: Graph) -> tuple[Graph, list[Shrunk]]:
    """The same function without dead branches and channels, and the steps by which channels went."""
    graph = without_branches(graph)
    steps: list[Shrunk] = []
    while True:
        cut, told = dead_channels(graph)
        if not cut:
            return graph, steps
        steps.append(without_channels(told, cut))
        graph = steps[-1].graph


def cut_channels(subject: Subject, cut: Mapping[str, NDArray[np.bool_]]) -> None:
    """Nothing; the subject goes on without the channels that `cut` marks, by layer, (K,); masks go with them.

    Raises:
        ValueError: see `without_channels`; a layer whose weights are coded.
    """
    model = subject.model
    by_weight = {model.layer(name).weight: mask for name, mask in cut.items()}
    step = without_channels(model.to_graph(), by_weight)
    _go_on(subject, step.graph, _followed(subject, [step]))


def _followed(subject: Subject, steps: list[Shrunk]) -> dict[str, NDArray[np.bool_]]:
    """The masks as they come through all steps, by layer."""
    masks: dict[str, NDArray[np.bool_]] = {}
    for layer in subject.model.layers:
        if layer.name in subject.masks:
            masks[layer.name] = subject.masks[layer.name].kept
            for step in steps:
                masks[layer.name] = step.part(layer.weight, masks[layer.name])
    return masks


def _go_on(subject: Subject, graph: Graph, masks: Mapping[str, NDArray[np.bool_]]) -> None:
    names = {node.name for node in graph.nodes}
    for name in subject.codes:
        shape = tuple(subject.model.weight(name).shape)
        weight = subject.model.layer(name).weight
        if name in names and graph.constants[weight].shape != shape:
            raise ValueError(f"layer {name}: its weights are coded and can't shrink: shrink before coding")
    granularity = {name: mask.granularity for name, mask in subject.masks.items()}
    before = {layer.name: tuple(subject.model.weight(layer.name).shape) for layer in subject.model.layers}
    subject.regraph(graph)
    for layer in subject.model.layers:
        name = layer.name
        if name in masks and name not in subject.masks and not masks[name].all():
            subject.prune(name, masks[name], granularity[name])
    after = {layer.name: tuple(subject.model.weight(layer.name).shape) for layer in subject.model.layers}
    changes = subject.notes.setdefault("shrunk", {})
    for name, shape in before.items():
        if after.get(name) != shape:
            first = changes[name][0] if name in changes else list(shape)
            changes[name] = [first, list(after[name]) if name in after else []]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrink(Pass):
    """Takes dead channels and branches out of the graph; what it computes stays the same."""

    name: ClassVar[str] = "shrink"

    def apply(self, subject: Subject) -> None:
        """Nothing; the subject goes on with the smaller graph, masks included.

        Raises:
            ValueError: a coded layer would shrink.
        """
        graph, steps = shrunk(subject.model.to_graph())
        masks = _followed(subject, steps)
        _go_on(subject, graph, masks)


# What nodes make of channels that never change


def _weighted(graph: Graph, node: Node, known: Mapping[str, _Array]) -> _Array | None:
    weight = graph.constants.get(node.inputs[1])
    if weight is None or (node.op == "Gemm" and not integer(node, "transB", 0)):
        return None
    flat = np.abs(weight).reshape(len(weight), weight.shape[1], -1).sum(axis=2)
    groups = integer(node, "group", 1) if node.op == "Conv" else 1
    silent = flat.sum(axis=1) == 0
    source = known[node.inputs[0]]
    if groups == 1 and len(source) == flat.shape[1]:  # what only reads channels of 0 is silent as well
        silent |= (flat * (np.nan_to_num(source, nan=1.0) != 0)).sum(axis=1) == 0
    elif groups == len(source):
        silent |= np.repeat(source == 0, len(weight) // groups)
    bias = np.zeros(len(weight))
    if len(node.inputs) > 2 and node.inputs[2]:
        if node.inputs[2] not in graph.constants:
            return None
        bias = graph.constants[node.inputs[2]].astype(np.float64)
    return np.where(silent, bias, np.nan)


def _norm(graph: Graph, node: Node, known: Mapping[str, _Array]) -> _Array | None:
    if any(name not in graph.constants for name in node.inputs[1:]):
        return None
    gain, shift, mean, variance = (graph.constants[name].astype(np.float64) for name in node.inputs[1:5])
    scale = gain / np.sqrt(variance + number(node, "epsilon", 1e-5))
    # A gain of 0 makes a constant of anything.
    moved = np.where(gain == 0, 0.0, (known[node.inputs[0]] - mean) * scale)
    return np.asarray(moved + shift)


def _pooled(graph: Graph, node: Node, known: Mapping[str, _Array]) -> _Array | None:
    value = known[node.inputs[0]]
    if node.op == "AveragePool" and (
        any(integers(node, "pads", (0, 0, 0, 0))) or integer(node, "ceil_mode", 0)
    ):
        return np.where(value == 0, 0.0, np.nan)
    return value


def _summed(graph: Graph, node: Node, known: Mapping[str, _Array]) -> _Array | None:
    if (
        any(name not in known for name in node.inputs)
        or len({graph.values[name].shape for name in node.inputs}) != 1
    ):
        return None
    return known[node.inputs[0]] + known[node.inputs[1]]


def _flat(graph: Graph, node: Node, known: Mapping[str, _Array]) -> _Array | None:
    shape = graph.values[node.inputs[0]].shape
    made = graph.values[node.outputs[0]].shape[1]
    return np.repeat(known[node.inputs[0]], made // shape[1]) if integer(node, "axis", 1) == 1 else None


def _joined(graph: Graph, node: Node, known: Mapping[str, _Array]) -> _Array | None:
    if integer(node, "axis", 1) != 1 or any(name not in known for name in node.inputs):
        return None
    return np.concatenate([known[name] for name in node.inputs])


def _same(graph: Graph, node: Node, known: Mapping[str, _Array]) -> _Array | None:
    return known[node.inputs[0]]


def _relu(graph: Graph, node: Node, known: Mapping[str, _Array]) -> _Array | None:
    return np.maximum(known[node.inputs[0]], 0.0)


def _leaky(graph: Graph, node: Node, known: Mapping[str, _Array]) -> _Array | None:
    value = known[node.inputs[0]]
    return np.where(value < 0, value * number(node, "alpha", 0.01), value)


def _tanh(graph: Graph, node: Node, known: Mapping[str, _Array]) -> _Array | None:
    return np.tanh(known[node.inputs[0]])


_CONSTANT = {
    "Add": _summed,
    "AveragePool": _pooled,
    "BatchNormalization": _norm,
    "Concat": _joined,
    "Conv": _weighted,
    "Dropout": _same,
    "Flatten": _flat,
    "Gemm": _weighted,
    "GlobalAveragePool": _pooled,
    "Identity": _same,
    "LeakyRelu": _leaky,
    "MaxPool": _pooled,
    "Relu": _relu,
    "Tanh": _tanh,
}
"""By operator; what isn't here makes no constants."""
