"""Chains of linear layers with signs between them: what the methods for small perceptrons work on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph
from .rewriting import Rewriting
from .trainable import TrainableGraph, WeightedLayer

__all__ = ["dense_chain", "sign_chain"]

_IDLE = ("Flatten", "Reshape", "Dropout", "Identity", "Softmax")


def dense_chain(model: TrainableGraph, where: str) -> tuple[WeightedLayer, ...]:
    """The linear layers of a network that is nothing but them with ReLUs (or signs) between.

    Args:
        model: the network.
        where: the pass, for messages.

    Raises:
        ValueError: any other network; names the node.
    """
    graph = model.graph
    value, layers, ready = graph.inputs[0], [], True
    for node in graph.nodes:
        if node.inputs[0] != value or node.op not in (*_IDLE, "Gemm", "Relu", "BipolarQuant"):
            raise ValueError(
                f"layer {node.name}: {where} serves chains of linear layers with ReLUs between them, without "
                f"norms, not {node.op}; take zoo:digits-mlp or zoo:lenet300, or another method"
            )
        if node.op == "Gemm":
            if not ready:
                raise ValueError(f"layer {node.name}: {where} needs a ReLU between this layer and the last")
            layers.append(model.layer(node.name))
            ready = False
        elif node.op in ("Relu", "BipolarQuant"):
            ready = True
        value = node.outputs[0]
    if len(layers) < 2 or ready:
        raise ValueError(
            f"network {graph.name}: {where} needs at least two layers and no ReLU after the last"
        )
    return tuple(layers)


def sign_chain(graph: Graph, biases: Mapping[str, NDArray[np.float32]]) -> Graph:
    """The chain with signs for ReLUs, and each layer with a bias.

    Args:
        graph: as `dense_chain` takes it.
        biases: by layer, shape (K,); all layers have one.
    """
    draft = Rewriting(graph)
    for node in graph.nodes:
        if node.op == "Relu":
            one = draft.free(f"{node.name}.scale")
            draft.constants[one] = np.ones((), np.float32)
            draft.replace(node, op="BipolarQuant", inputs=(node.inputs[0], one))
        elif node.op == "Gemm":
            bias = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2] else ""
            bias = bias or draft.free(f"{node.name}.bias")
            draft.constants[bias] = biases[node.name].astype(np.float32)
            draft.replace(node, inputs=(*node.inputs[:2], bias))
    return draft.graph()
