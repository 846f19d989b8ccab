"""Ternary weights by a threshold: −α, 0 and α, as Li and Liu set them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .latent import Latent
from .latent_pass import LatentPass, check_word
from .subject import Subject
from .trainable import WeightedLayer
from .weight_codes import FixedCode

__all__ = ["ThresholdTernary", "ThresholdTernaryPass", "threshold_ternary", "zero_share"]


def threshold_ternary(weights: NDArray[np.float32], per: str = "filter", threshold: float = 0.7) -> FixedCode:
    """sign(w) where |w| > Δ = threshold · mean |w|, else 0, with α the mean |w| of those above Δ.

    Weights that are 0 already, as pruned ones, aren't counted in the mean. A filter without any is all 0.

    Args:
        weights: shape (K, …).
        per: filter or layer, what has a Δ and an α of its own.
        threshold: 0.7 is near the best for normal and uniform weights.

    Source: Li, Zhang and Liu 2016, Ternary Weight Networks, eq. 5 and 6.
    """
    size = np.abs(weights.reshape(1 if per == "layer" else len(weights), -1)).astype(np.float64)
    count = (size > 0).sum(axis=1, keepdims=True)
    limit = threshold * size.sum(axis=1, keepdims=True) / np.maximum(count, 1)
    above = size > limit
    kept = above.sum(axis=1)
    scales = np.where(kept > 0, (size * above).sum(axis=1) / np.maximum(kept, 1), 1.0)
    integers = (np.sign(weights) * above.reshape(weights.shape)).astype(np.int8)
    return FixedCode(integers=integers, scales=np.broadcast_to(scales, len(weights)).copy(), fmt="ternary")


def zero_share(values: NDArray[Any]) -> float:
    """The share of values that are 0."""
    return float((values == 0).mean())


class ThresholdTernary(Latent):
    """Latent weights that compute as their threshold code."""

    def __init__(self, per: str, threshold: float) -> None:
        super().__init__()
        self._per, self._threshold = per, threshold

    def code(self, weights: NDArray[np.float32]) -> FixedCode:
        """See `threshold_ternary`."""
        return threshold_ternary(weights, self._per, self._threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdTernaryPass(LatentPass):
    """Ternary weight networks; notes the share of zeros by layer."""

    name: ClassVar[str] = "ternary.threshold"
    per: str = "filter"
    """filter or layer (the paper's), what has a Δ and an α of its own."""
    threshold: float = 0.7
    """Of the mean |w|."""

    def __post_init__(self) -> None:
        check_word("per", self.per, ("filter", "layer"))
        if not (math.isfinite(self.threshold) and self.threshold >= 0):
            raise ValueError(f"threshold must be 0 or more, not {self.threshold}")

    def transform(self, subject: Subject, layer: WeightedLayer) -> ThresholdTernary:
        """The latent weights of a layer."""
        return ThresholdTernary(self.per, self.threshold)

    def found(self, subject: Subject, transforms: dict[str, Latent]) -> dict[str, Any]:
        """The share of zeros by layer."""
        return {"zeros": {name: zero_share(subject.weight(name)) for name in transforms}}
