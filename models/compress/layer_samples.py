"""What layers read and make for some training images, as matrices of patches. Imports torch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..graph import Node
from ..graph.attributes import integer, integers
from .subject import Subject
from .trainable import TrainableGraph, WeightedLayer

__all__ = ["captured_values", "check_images", "node_of", "nodes_of", "patches", "sample", "sampled_rows"]

_BATCH = 250


def check_images(subject: Subject, count: int, where: str) -> None:
    """Nothing if the training part has `count` images.

    Raises:
        ValueError: it has fewer, or `count` is below 2.
    """
    have = len(subject.data.train_x)
    if not 2 <= count <= have:
        raise ValueError(
            f"{where}: images must be from 2 to the {have} training images of data {subject.data.name}, "
            f"not {count}"
        )


def sample(subject: Subject, count: int) -> tuple[Tensor, Tensor]:
    """`count` training images as the network takes them, and their labels; the same for the same seed."""
    rng = np.random.default_rng([subject.seed, 71])
    chosen = rng.permutation(len(subject.data.train_x))[:count]
    graph = subject.model.graph
    shape = graph.values[graph.inputs[0]].shape[1:]
    x = subject.data.real(subject.data.train_x[chosen]).reshape(len(chosen), *shape)
    return torch.from_numpy(x), torch.from_numpy(subject.data.train_y[chosen])


def nodes_of(model: TrainableGraph, layer: WeightedLayer) -> tuple[Node, ...]:
    """The nodes that compute with a layer's weights: one, or one a time step."""
    return tuple(
        node
        for node in model.graph.nodes
        if node.op in ("Conv", "Gemm") and len(node.inputs) > 1 and node.inputs[1] == layer.weight
    )


def node_of(model: TrainableGraph, layer: WeightedLayer) -> Node:
    """The first node that computes with a layer's weights."""
    return nodes_of(model, layer)[0]


def captured_values(subject: Subject, names: Iterable[str], x: Tensor) -> dict[str, Tensor]:
    """Values by name, (B, …), for inputs `x`, in evaluation mode, without gradients."""
    wanted = tuple(dict.fromkeys(names))
    parts: dict[str, list[Tensor]] = {name: [] for name in wanted}
    subject.model.eval()
    with torch.no_grad(), subject.model.captured(wanted) as found:
        for first in range(0, len(x), _BATCH):
            subject.model(x[first : first + _BATCH])
            for name in wanted:
                parts[name].append(found[name])
    return {name: torch.cat(part) for name, part in parts.items()}


def patches(node: Node, weight_shape: tuple[int, ...], x: Tensor) -> Tensor:
    """What each output of a Conv or Gemm is a product of, shape (B, groups, N, P).

    N counts the weights of a filter in the order (C / groups, FY, FX), P the output pixels, 1 for a Gemm.
    """
    if node.op == "Gemm":
        return x.reshape(len(x), 1, -1, 1)
    pads = integers(node, "pads", (0, 0, 0, 0))
    padded = functional.pad(x, (pads[1], pads[3], pads[0], pads[2]))
    columns = functional.unfold(
        padded,
        (weight_shape[2], weight_shape[3]),
        dilation=integers(node, "dilations", (1, 1)),
        stride=integers(node, "strides", (1, 1)),
    )
    groups = integer(node, "group", 1)
    return columns.reshape(len(x), groups, -1, columns.shape[-1])


def sampled_rows(
    node: Node, weight_shape: tuple[int, ...], x: Tensor, pixels: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows (samples, N) of what a layer of one group reads, `pixels` a picture, and their places (B, pixels).

    A layer with fewer output pixels gives each of them.
    """
    parts: list[NDArray[np.float64]] = []
    places: list[NDArray[np.int64]] = []
    for first in range(0, len(x), _BATCH):
        columns = patches(node, weight_shape, x[first : first + _BATCH])[:, 0]
        count = columns.shape[2]
        order = rng.random((len(columns), count)).argsort(axis=1)[:, : min(pixels, count)]
        chosen = torch.gather(
            columns, 2, torch.from_numpy(order)[:, None].expand(-1, columns.shape[1], -1)
        ).transpose(1, 2)
        parts.append(chosen.reshape(-1, columns.shape[1]).double().numpy())
        places.append(order.astype(np.int64))
    return np.concatenate(parts), np.concatenate(places)
