"""Inbound pruning: kernels whose part in a filter's sums hardly varies between images go. Imports torch.

Source: Polyak and Wolf 2015, Channel-level Acceleration of Deep Face Representations, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .layer_samples import captured_values, check_images, node_of, patches, sample
from .layer_shares import LayerShares
from .masks import greatest, kept_count
from .subject import Subject

__all__ = ["PruneInbound", "contribution_variances"]


def contribution_variances(reads: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance over images of the size |W_kc ∗ x_c| of what channel c adds to output k, (K, C).

    Args:
        reads: an image's patches, (B, C, positions of a kernel, output pixels).
        weights: (K, C, positions).
    """
    first = np.zeros(weights.shape[:2])
    second = np.zeros(weights.shape[:2])
    for image in reads.astype(np.float64):
        # |w · X|² = wᵀ X Xᵀ w: the pixels are summed once for all filters
        products = image @ image.transpose(0, 2, 1)
        squares = np.einsum("kcp,cpq,kcq->kc", weights, products, weights, optimize=True)
        first += np.sqrt(np.maximum(squares, 0.0))
        second += squares
    mean = first / len(reads)
    return np.asarray(np.maximum(second / len(reads) - mean**2, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneInbound(LayerShares):
    """Cuts, for each filter, the input channels whose part varies least, layer by layer, with training.

    Raises:
        ValueError: a number out of its range.
    """

    name: ClassVar[str] = "prune.inbound"
    layers: tuple[str, ...] = ("conv",)
    images: int = 100

    def check(self, subject: Subject) -> None:
        """Nothing; refuses linear layers and grouped convolutions, and too few images."""
        LayerShares.check(self, subject)
        check_images(subject, self.images, self.name)
        for layer in self.selected(subject):
            if layer.op != "Conv" or layer.groups > 1:
                raise ValueError(
                    f"{self.name}: layer {layer.name} must be a convolution without groups: "
                    "leave it out, with "
                    f"!{layer.name}"
                )

    def apply(self, subject: Subject) -> None:
        """Nothing; prunes and trains."""
        x, _ = sample(subject, self.images)
        for layer, share in self.in_turn(subject):
            node = node_of(subject.model, layer)
            weights = subject.weight(layer.name)
            k, c, *window = weights.shape
            value = captured_values(subject, [node.inputs[0]], x)[node.inputs[0]]
            reads = patches(node, weights.shape, value)[:, 0]
            scores = contribution_variances(
                reads.reshape(len(x), c, int(np.prod(window)), -1).numpy(),
                weights.reshape(k, c, -1).astype(np.float64),
            )
            keep = kept_count(c, share)
            kept = np.stack([greatest(row, keep) for row in scores])
            whole = np.broadcast_to(kept[:, :, None, None], weights.shape)
            subject.prune(layer.name, np.ascontiguousarray(whole), "kernel")
            self.tune(subject, layer.name)
