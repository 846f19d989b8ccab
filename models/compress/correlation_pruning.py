"""Connections kept between neurons that fire together: pruning by correlation. Imports torch.

Source: Sun, Wang and Tang 2016, Sparsifying Neural Network Connections for Face Recognition, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .layer_samples import captured_values, check_images, node_of, patches, sample
from .layer_shares import LayerShares
from .subject import Subject
from .trainable import WeightedLayer

__all__ = ["PruneByCorrelation", "correlations", "sampled_by_rank"]


def correlations(reads: Tensor, made: Tensor) -> NDArray[np.float64]:
    """How what a weight joins goes together over samples, shape (K, N).

    A linear layer's is the correlation of an input with an output, −1 … 1. A weight of a convolution joins
    many pairs; its is their mean of sizes, 0 … 1. What never changes has correlation 0.

    Args:
        reads: (B, N, P), what each output pixel is a product of.
        made: (B, K, P), the layer's sums after its activation.
    """

    def standard(x: Tensor) -> Tensor:
        centred = x.double() - x.double().mean(0, keepdim=True)
        size = centred.square().mean(0, keepdim=True).sqrt()
        return torch.where(size > 1e-9, centred / size.clamp_min(1e-9), torch.zeros_like(centred))

    a, b = standard(made), standard(reads)
    pixels = a.shape[2]
    if pixels == 1:
        return (a[:, :, 0].T @ b[:, :, 0] / len(a)).numpy()
    total = torch.zeros(a.shape[1], b.shape[1], dtype=torch.float64)
    for pixel in range(pixels):
        total += (a[:, :, pixel].T @ b[:, :, pixel] / len(a)).abs()
    return (total / pixels).numpy()


def sampled_by_rank(
    scores: NDArray[Any], among: NDArray[np.bool_], count: int, share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """A mask of `count` scores drawn at random, `share` of them from the greater half.

    The rest comes from the other half. Fewer stay where `among` has fewer; what one half can't give the
    other gives.
    """
    places = np.flatnonzero(among)
    count = min(count, len(places))
    order = places[np.argsort(-scores[places], kind="stable")]
    middle = (len(order) + 1) // 2
    upper, lower = order[:middle], order[middle:]
    from_upper = min(len(upper), max(round(count * share), count - len(lower)))
    kept = np.zeros(len(scores), np.bool_)
    kept[rng.permutation(upper)[:from_upper]] = True
    kept[rng.permutation(lower)[: count - from_upper]] = True
    return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneByCorrelation(LayerShares):
    """Prunes layer by layer from the last to the first, and trains after each.

    Of each output's connections, those of positive and those of negative correlation are drawn apart, most of
    them from the half of the greater sizes, so that weak evidence keeps a part as well.
    What never changes, as the border of an image, goes first: it is a bias.

    Raises:
        ValueError: a number out of its range.
    """

    name: ClassVar[str] = "prune.correlation"
    density: float = 0.25
    """Share of each layer's weights that stay."""
    share: float = 0.75
    """Part of what stays that is drawn from the better half."""
    images: int = 500

    def __post_init__(self) -> None:
        LayerShares.__post_init__(self)
        if not 0.5 <= self.share <= 1.0:
            raise ValueError(f"share must be from 0.5 to 1, not {self.share}")

    def check(self, subject: Subject) -> None:
        """Nothing; refuses grouped convolutions and too few images."""
        LayerShares.check(self, subject)
        check_images(subject, self.images, self.name)
        for layer in self.selected(subject):
            if layer.groups > 1:
                raise ValueError(f"{self.name}: layer {layer.name} has {layer.groups} groups: leave it out")

    def apply(self, subject: Subject) -> None:
        """Nothing; prunes and trains."""
        layers = self.selected(subject)
        told = self.shares(subject)
        rng = np.random.default_rng([subject.seed, 20])
        x, _ = sample(subject, self.images)
        for number, layer in enumerate(reversed(layers)):
            subject.progress(f"{self.name}: {layer.name}", number / len(layers))
            scores = self._scores(subject, layer, x)
            weights = subject.weight(layer.name)
            before = subject.masks.get(layer.name)
            alive = np.ones(weights.shape, np.bool_) if before is None else before.kept
            among = alive.reshape(scores.shape) & (scores != 0)
            density = round(told[layer.name] * scores.size) / max(1, int(among.sum()))
            kept = np.zeros(scores.shape, np.bool_)
            for k, row in enumerate(scores):
                for sign in (row > 0, row < 0):
                    part = among[k] & sign
                    count = round(density * int(part.sum()))
                    kept[k] |= sampled_by_rank(np.abs(row), part, count, self.share, rng)
            subject.prune(layer.name, kept.reshape(weights.shape))
            subject.train(self.training, what=f"{self.name}: {layer.name}")

    def _scores(self, subject: Subject, layer: WeightedLayer, x: Tensor) -> NDArray[np.float64]:
        node = node_of(subject.model, layer)
        made = layer.value
        graph = subject.model.graph
        while True:  # the neuron is what comes after norm and activation
            after = [n for n in graph.consumers(made) if n.op in ("BatchNormalization", "Relu", "Tanh")]
            if len(after) != 1 or len(graph.consumers(made)) != 1:
                break
            made = after[0].outputs[0]
        values = captured_values(subject, [node.inputs[0], made], x)
        shape = tuple(subject.model.weight(layer.name).shape)
        reads = patches(node, shape, values[node.inputs[0]])[:, 0]
        return correlations(reads, values[made].reshape(len(x), shape[0], -1))
