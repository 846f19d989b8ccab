"""Activations of one bit: where signs go into a graph, in the order of BNN or of XNOR-Net's blocks."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ..graph import Graph, Node
from ..graph.attributes import integers
from .rewriting import Rewriting, norm_constants

__all__ = ["binarise_inputs"]

_SHAPES = ("Flatten", "Reshape", "Dropout", "Identity")
_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool")
_NO_NORM = (
    "a K map takes the layer's bias away, and no batch norm makes up for it; leave the layer out, or take "
    "k_map = false"
)
_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "Tanh")


def binarise_inputs(
    graph: Graph, layers: Collection[str], *, blocks: bool = False, k_map: bool = False
) -> tuple[Graph, list[str]]:
    """The graph in which the layers compute on signs, and the layers whose inputs are signs.

    A layer that takes the network's input goes on taking it as it is. Without `blocks` the activation in
    front of a layer becomes a norm and a sign where it stands: convolution, norm, sign, pool (BNN). With
    `blocks` norm and sign move right in front of the layer, behind a pool: norm, sign, convolution, pool
    (XNOR-Net: pooling signs loses what made them).

    Args:
        graph: float.
        layers: names of its convolutions and linear layers.
        blocks: XNOR-Net's order.
        k_map: whether convolutions' results are multiplied by K, at each output the mean over channels and
            the window of |input| before the sign; their biases go, a norm after them must make up for it.

    Raises:
        ValueError: a K map without blocks, for a layer that no norm follows or that has a pool between its
            sign and itself, or whose window is dilated or unevenly padded; names it.

    Source: Courbariaux et al. 2016, Algorithm 1; Rastegari et al. 2016, section 3.2 and figure 3.
    """
    if k_map and not blocks:
        raise ValueError("a K map needs the order of blocks, in which signs stand right in front of layers")
    draft = Rewriting(graph)
    signed = []
    for name in (node.name for node in graph.nodes if node.name in layers):
        before = _sign_before(draft, graph, draft.node(name), blocks)
        if before is None:
            continue
        signed.append(name)
        if k_map and draft.node(name).op == "Conv":
            _add_k_map(draft, draft.node(name), before)
    if k_map:
        for name in signed:
            _check_norm(draft, draft.node(name))
    return draft.graph(), signed


def _walk(draft: Rewriting, value: str, ops: tuple[str, ...]) -> tuple[str, Node | None]:
    """The value that `value` is made from by nodes of `ops` alone, and who makes it."""
    maker = draft.producer(value)
    while maker is not None and maker.op in ops:
        value, maker = maker.inputs[0], draft.producer(maker.inputs[0])
    return value, maker


def _sign_before(draft: Rewriting, graph: Graph, layer: Node, blocks: bool) -> str | None:
    """What the sign in front of a layer takes, made where there was none; None: the network's input."""
    point, maker = _walk(draft, layer.inputs[0], _SHAPES)
    behind, source = _walk(draft, point, (*_SHAPES, *_POOLS) if blocks else (*_SHAPES, "MaxPool"))
    if maker is None:
        return None
    if source is not None and source.op == "BipolarQuant":
        return source.inputs[0]
    alone = source is not None and source.op in _ACTIVATIONS and _alone(draft, behind, layer)
    if alone and source is not None and not blocks:
        return _sign_for(draft, source)
    constants = {}
    if alone and source is not None:
        draft.bypass(source)
        point = source.inputs[0] if point == source.outputs[0] else point
        norm = draft.producer(source.inputs[0])
        if norm is not None and norm.op == "BatchNormalization" and _alone(draft, norm.outputs[0], layer):
            draft.bypass(norm)
            point = norm.inputs[0] if point == norm.outputs[0] else point
            constants = {old: draft.constants[old] for old in norm.inputs[1:]}
    # The norm goes in front of a Flatten, so that it is one of channels.
    takers = [node for node in draft.consumers(point) if _leads(draft, node, layer)]
    name = draft.free(f"{layer.name}.norm")
    channels = graph.values[point].shape[1]
    constants = constants or norm_constants(name, channels)
    normed = draft.insert(
        takers[0].name, "BatchNormalization", name, [point, *constants], {"epsilon": 1e-5}, constants
    )
    _sign(draft, takers, point, normed, f"{layer.name}.sign")
    return normed


def _alone(draft: Rewriting, value: str, layer: Node) -> bool:
    """Whether a value leads, through single takers, to the layer and nowhere else."""
    while True:
        takers = draft.consumers(value)
        if len(takers) != 1:
            return False
        if takers[0].name == layer.name:
            return True
        if takers[0].op not in (*_SHAPES, *_POOLS, *_ACTIVATIONS):
            return False
        value = takers[0].outputs[0]


def _leads(draft: Rewriting, node: Node, layer: Node) -> bool:
    """Whether a node is the layer, or changes only the shape of what the layer takes."""
    while node.name != layer.name:
        if node.op not in _SHAPES:
            return False
        takers = draft.consumers(node.outputs[0])
        if not takers:
            return False
        node = takers[0]
    return True


def _sign_for(draft: Rewriting, activation: Node) -> str:
    """What the sign takes that stands for an activation; with a norm, where none was before it."""
    before = activation.inputs[0]
    maker = draft.producer(before)
    if maker is None or maker.op != "BatchNormalization":
        name = draft.free(f"{activation.name}.norm")
        constants = norm_constants(name, _channels(draft, before))
        before = draft.insert(
            activation.name, "BatchNormalization", name, [before, *constants], {"epsilon": 1e-5}, constants
        )
    one = draft.free(f"{activation.name}.scale")
    draft.constants[one] = np.ones((), np.float32)
    draft.replace(activation, op="BipolarQuant", inputs=(before, one), attributes={})
    return before


def _channels(draft: Rewriting, value: str) -> int:
    return draft.graph().values[value].shape[1]


def _sign(draft: Rewriting, takers: list[Node], old: str, value: str, wanted: str) -> None:
    name = draft.free(wanted)
    one = {f"{name}.scale": np.ones((), np.float32)}
    signs = draft.insert(takers[0].name, "BipolarQuant", name, [value, *one], {}, one)
    for taker in takers:
        draft.feed(taker.name, old, signs)


def _add_k_map(draft: Rewriting, layer: Node, before: str) -> None:
    pads = tuple(integers(layer, "pads", (0, 0, 0, 0)))
    dilated = any(n != 1 for n in integers(layer, "dilations", (1, 1)))
    if dilated or pads[0] != pads[2] or pads[1] != pads[3]:
        raise ValueError(f"layer {layer.name}: a K map needs a window that isn't dilated and is padded alike")
    name = layer.name
    _, maker = _walk(draft, layer.inputs[0], _SHAPES)
    if maker is None or maker.op != "BipolarQuant":
        raise ValueError(
            f"layer {name}: a K map needs the layer's sign right in front of it, not behind a pool"
        )
    # The name's sums move aside, so that what comes after takes the product under the old name.
    sums, product = draft.free(f"{name}.sums"), layer.outputs[0]
    at = draft.nodes.index(layer)
    if at + 1 == len(draft.nodes):
        raise ValueError(f"layer {name}: {_NO_NORM}")
    draft.replace(layer, outputs=(sums,), inputs=layer.inputs[:2])
    size = draft.constants[layer.inputs[1]].shape[2:]
    after = draft.nodes[at + 1].name
    axes = draft.free(f"{name}.k.axes")
    draft.constants[axes] = np.array([1], np.int64)
    absolute = draft.insert(after, "Abs", draft.free(f"{name}.k.abs"), [before])
    mean = draft.insert(after, "ReduceMean", draft.free(f"{name}.k.mean"), [absolute, axes], {"keepdims": 1})
    window = {
        "kernel_shape": tuple(size),
        "strides": tuple(integers(layer, "strides", (1, 1))),
        "pads": pads,
        "dilations": (1, 1),
        "ceil_mode": 0,
        "count_include_pad": 1,
    }
    scale = draft.insert(after, "AveragePool", draft.free(f"{name}.k"), [mean], window)
    times = draft.insert(after, "Mul", draft.free(f"{name}.scaled"), [sums, scale])
    draft.replace(draft.node(times), outputs=(product,))


def _check_norm(draft: Rewriting, layer: Node) -> None:
    if layer.op != "Conv":
        return
    value = layer.outputs[0]
    passed = ("Mul", *_POOLS, *_SHAPES, *_ACTIVATIONS)
    while True:
        takers = draft.consumers(value)
        if len(takers) == 1 and takers[0].op == "BatchNormalization":
            return
        if len(takers) != 1 or takers[0].op not in passed:
            raise ValueError(f"layer {layer.name}: {_NO_NORM}")
        value = takers[0].outputs[0]
