"""A network's graph as core layers: what one pass computes, which tensors lie in memory, and where in them.

A core layer is a convolution, linear layer, pool or add with its Requantize or Thresholds, and with the Relu,
MaxPool and Shuffle after it where they fit. Flatten, Concat and Shuffle are a matter of addresses: a part of
a concatenation is written into the whole, and a shuffled tensor stays as it is until somebody needs its
channels in order. What can't lie where it is needed is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..models.layers import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Relu,
    Shuffle,
)
from ..models.network import Network
from .dense import lower_conv, lower_linear
from .lanewise import copy_tensor, lower_add, lower_avg_pool, lower_max_pool, lower_relu
from .layers import CoreLayer
from .lowering import Lowering, Storage, refuse, shuffle_order

__all__ = ["Graph", "lower_graph"]


@dataclass(frozen=True, slots=True)
class Graph:
    """The core layers in order, and the tensors in memory that they name by number."""

    layers: tuple[CoreLayer, ...]
    storages: tuple[Storage, ...]
    output: int
    """Number of the network's output; its input is number 0."""


def lower_graph(network: Network, apart: frozenset[str] = frozenset()) -> Graph:
    """The core layers of `network`, in an order in which they can run, and its tensors in memory.

    Args:
        network: what to run.
        apart: max pools that get a pass of their own, though they could run with the layer before them.

    Raises:
        MappingError: a layer that the core doesn't run; the message names it and the way out.
    """
    state = Lowering(network, apart)
    for layer in network.layers:
        if not state.consumers[layer.output] and layer.output != network.output:
            raise refuse(layer, f"nobody takes its output {layer.output}", "leave it out")
    for layer in network.layers:
        if layer.name not in state.folded:
            _lower_layer(state, layer)
    last = next(layer for layer in network.layers if layer.output == network.output)
    out = state.placed[network.output]
    if out.flat:
        raise refuse(last, "it would reorder the output", "end with the layer before it")
    storage, offset = state.home(network.output)
    if (out.storage, out.place.offset) != (storage, offset) or out.order is not None:
        copy_tensor(state, last, network.output, storage, offset)
    return Graph(tuple(state.layers), tuple(state.storages), storage)


def _lower_layer(state: Lowering, layer: Layer) -> None:
    """Nothing; adds the passes of a layer and of those after it that run with it."""
    match layer:
        case Conv():
            lower_conv(state, layer)
        case Linear():
            lower_linear(state, layer)
        case AvgPool():
            lower_avg_pool(state, layer)
        case MaxPool():
            lower_max_pool(state, layer)
        case Relu():
            lower_relu(state, layer)
        case Add():
            lower_add(state, layer)
        case Flatten():
            _flatten(state, layer)
        case Shuffle():
            _shuffle(state, layer)
        case Concat():
            _concat(state, layer)
        case _:
            raise refuse(
                layer,
                f"a {layer.kind} can't stand here",
                "put it after a Conv, Linear, AvgPool or Add, one after each",
            )


def _flatten(state: Lowering, layer: Flatten) -> None:
    """Nothing; the same bytes under another name."""
    placed = state.placed[layer.input]
    _, height, width = placed.shape
    flat = placed.flat or height * width > 1
    state.placed[layer.output] = replace(placed, flat=flat)


def _shuffle(state: Lowering, layer: Shuffle) -> None:
    """Nothing; the same bytes, their channels called otherwise."""
    placed = state.image(layer, layer.input)
    moved = np.argsort(shuffle_order(state, layer))
    order = moved if placed.order is None else moved[placed.order]
    in_order = np.array_equal(order, np.arange(order.size))
    state.placed[layer.output] = replace(placed, order=None if in_order else order)


def _concat(state: Lowering, layer: Concat) -> None:
    """Nothing; copies the parts that couldn't be made in their place."""
    state.check_format(layer, f"its output {layer.output}", state.tensor(layer.output))
    storage, start = state.home(layer.output)
    for index, name in enumerate(layer.inputs):
        placed, offset = state.image(layer, name), start + state.part_offset(layer, index)
        if (placed.storage, placed.place.offset) != (storage, offset) or placed.order is not None:
            copy_tensor(state, layer, name, storage, offset)
    state.placed[layer.output] = state.at_home(layer.output)
