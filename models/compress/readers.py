"""The layer that reads what another makes, as a matrix whose columns know their channel. Imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Node
from .channels import ChannelMap
from .group_pruning import check_channels
from .layer_samples import node_of
from .trainable import TrainableGraph, WeightedLayer

__all__ = ["Reader", "reader_of"]

_ELEMENTWISE = frozenset(
    ("Relu", "LeakyRelu", "Flatten", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity")
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reader:
    """A layer's only reader.

    Its weights as a matrix (K, N) have as column n what comes from channel `owner[n]` of the layer before;
    the columns of each channel stand in the same order of positions.
    """

    layer: WeightedLayer
    node: Node
    owner: NDArray[np.int64]
    """Shape (N,)."""
    plain: bool
    """Whether nothing but pools and activations without parameters stands between."""

    def by_channel(self, matrix: NDArray[Any], count: int) -> NDArray[Any]:
        """Columns of (…, N) by channel: (…, count, positions)."""
        order = np.argsort(self.owner, kind="stable")
        return matrix[..., order].reshape(*matrix.shape[:-1], count, -1)

    def from_channels(self, parts: NDArray[Any]) -> NDArray[Any]:
        """What `by_channel` took apart: (…, N)."""
        order = np.argsort(self.owner, kind="stable")
        matrix = np.empty((*parts.shape[:-2], len(order)), parts.dtype)
        matrix[..., order] = parts.reshape(*parts.shape[:-2], -1)
        return matrix


def reader_of(model: TrainableGraph, layer: WeightedLayer, where: str) -> Reader:
    """The only layer that reads what `layer` makes.

    Raises:
        ValueError: its channels can't be cut, or have several readers or a depthwise one; names the layer.
    """
    graph = model.graph
    check_channels(graph, (layer,), where)
    channels = ChannelMap(graph)
    roots = channels.roots(channels.rows[layer.weight])
    readers = {
        weight: found
        for weight, ids in channels.columns.items()
        if np.isin(found := channels.roots(ids), roots).any()
    }
    names = [other.name for other in model.layers if other.weight in readers]
    if len(readers) != 1 or len(names) != 1 or channels.coupled(layer.weight):
        told = ", ".join(names) if len(names) > 1 else "a depthwise layer, or none with weights of its own"
        raise ValueError(
            f"{where}: layer {layer.name} must be read by one layer, not by {told}: leave it out, with "
            f"!{layer.name}"
        )
    (found,) = readers.values()
    reader = model.layer(names[0])
    places = {int(root): k for k, root in enumerate(roots)}
    if any(int(root) not in places for root in found):
        raise ValueError(
            f"{where}: layer {layer.name} must be all that {reader.name} reads: leave it out, "
            f"with !{layer.name}"
        )
    shape = tuple(model.weight(reader.name).shape)
    owner = np.repeat([places[int(root)] for root in found], int(np.prod(shape[2:], initial=1)))
    node = node_of(model, reader)
    plain, name = True, node.inputs[0]
    while name != layer.value:
        made = graph.producer(name)
        if made is None or made.op not in _ELEMENTWISE:
            plain = False
            break
        name = made.inputs[0]
    return Reader(layer=reader, node=node, owner=owner.astype(np.int64), plain=plain)
