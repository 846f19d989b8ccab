"""Neurons merged without data: of two that compute nearly the same one goes, the other takes its weights.

Source: Srinivas and Babu 2015, Data-free Parameter Pruning for Deep Neural Networks, eq. 5 and section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .layer_shares import LayerShares
from .masks import kept_count
from .readers import reader_of
from .shrinking import cut_channels
from .subject import Subject

__all__ = ["MergeNeurons", "merge_neurons"]


def merge_neurons(
    rows: NDArray[Any], reads: NDArray[Any], keep: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What reads the neurons after merging, and which of them are left, (K,).

    Pair after pair of least saliency s_ij = ⟨a_j²⟩ · |W_i − W_j|² neuron j goes and a_i takes a_j: exact
    where W_i = W_j.

    Args:
        rows: W, a neuron's weights and bias each, (K, N).
        reads: a, what reads them, (outputs, K, positions).
        keep: how many neurons stay.
    """
    weights, reads = rows.astype(np.float64), reads.astype(np.float64).copy()
    squares = (weights**2).sum(1)
    distance = np.maximum(squares[:, None] + squares[None] - 2.0 * weights @ weights.T, 0.0)
    np.fill_diagonal(distance, np.inf)
    kept = np.ones(len(weights), np.bool_)
    strength = (reads**2).mean(axis=(0, 2))
    for _ in range(max(0, len(weights) - keep)):
        saliency = np.where(kept[:, None] & kept[None], distance, np.inf) * np.maximum(strength[None], 1e-300)
        i, j = np.unravel_index(int(saliency.argmin()), saliency.shape)
        reads[:, i] += reads[:, j]
        strength[i] = (reads[:, i] ** 2).mean()
        kept[j] = False
    return reads, kept


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeNeurons(LayerShares):
    """Merges neurons (or filters) of hidden layers, which shrink; only training after looks at data.

    Raises:
        ValueError: a number out of its range.
    """

    name: ClassVar[str] = "merge.neurons"

    def check(self, subject: Subject) -> None:
        """Nothing; refuses layers with a norm between them and their reader, or without one reader."""
        LayerShares.check(self, subject)
        for layer in self.selected(subject):
            if not reader_of(subject.model, layer, self.name).plain:
                raise ValueError(
                    f"{self.name}: layer {layer.name}: only activations without parameters and "
                    "pools may stand "
                    f"between it and its reader: leave it out, with !{layer.name}"
                )

    def apply(self, subject: Subject) -> None:
        """Nothing; merges layer after layer, and trains if `training` has epochs."""
        for layer, share in self.in_turn(subject):
            reader = reader_of(subject.model, layer, self.name)
            weights = subject.weight(layer.name)
            rows = weights.reshape(len(weights), -1)
            bias = subject.model.bias(layer.name)
            if bias is not None:
                rows = np.column_stack([rows, bias.detach().numpy()])
            shape = tuple(subject.model.weight(reader.layer.name).shape)
            reads = reader.by_channel(subject.weight(reader.layer.name).reshape(shape[0], -1), len(rows))
            merged, kept = merge_neurons(rows, reads, kept_count(len(rows), share))
            subject.set_weight(reader.layer.name, reader.from_channels(merged).reshape(shape))
            cut_channels(subject, {layer.name: ~kept})
        self.tune(subject)
