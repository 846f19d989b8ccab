"""Network sketching: weights as a sum of planes of signs, each with a scale by filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .associative_sharing import sharing_tree
from .binary_connect import signs
from .latent import Latent
from .latent_pass import LatentPass, check_word
from .subject import Subject
from .trainable import WeightedLayer
from .weight_codes import PlanesCode

__all__ = ["Sketch", "SketchPass", "direct_sketch", "refined_sketch", "sketch_additions", "sketch_error"]


def direct_sketch(weights: NDArray[np.float32], planes: int) -> PlanesCode:
    """Greedy planes: B is the sign of what is left, its scale the mean of |what is left|.

    Each plane takes α²·t of the t weights' squared error away, so that with ‖r‖₁² ≥ ‖r‖₂² the error after m
    planes is at most (1 − 1/t)^m of the weights' square sum.

    Args:
        weights: shape (K, …); each filter is sketched by itself.
        planes: m, at least 1.

    Source: Guo, Yao, Zhao and Chen 2017, Network Sketching, Algorithm 1 and theorem 1.
    """
    return _sketch(weights, planes, refit=False)


def refined_sketch(weights: NDArray[np.float32], planes: int) -> PlanesCode:
    """As `direct_sketch`, but after each plane all scales are fitted anew in least squares.

    Source: Guo et al. 2017, Algorithm 2 and theorem 2.
    """
    return _sketch(weights, planes, refit=True)


def sketch_error(weights: NDArray[np.float32], code: PlanesCode) -> float:
    """Σ (W − sketch)² / Σ W², in float64."""
    scales = code.scales.reshape(*code.scales.shape, *[1] * (weights.ndim - 1))
    left = weights.astype(np.float64) - (code.planes * scales).sum(axis=0)
    return float((left**2).sum() / max(float((weights.astype(np.float64) ** 2).sum()), 1e-300))


def sketch_additions(code: PlanesCode, groups: int = 1) -> tuple[int, int]:
    """Additions an output position takes: each plane of each filter by itself, and shared along trees.

    Filters of a group and all their planes see the same inputs, so a group has one tree. The core computes
    planes by themselves: what sharing saves is counted, not run.
    """
    count, filters = code.planes.shape[:2]
    flat = code.planes.reshape(count, groups, filters // groups, -1)
    trees = [sharing_tree(flat[:, g].reshape(-1, flat.shape[-1])) for g in range(groups)]
    return sum(tree.plain for tree in trees), sum(tree.additions for tree in trees)


def _sketch(weights: NDArray[np.float32], planes: int, *, refit: bool) -> PlanesCode:
    if planes < 1:
        raise ValueError(f"a sketch has at least 1 plane, not {planes}")
    flat = weights.reshape(len(weights), -1).astype(np.float64)
    left = flat.copy()
    made = np.empty((planes, *flat.shape), np.int8)
    scales = np.zeros((planes, len(flat)))
    for plane in range(planes):
        made[plane] = signs(left)
        scales[plane] = np.abs(left).mean(axis=1)
        if refit:
            # Normal equations of each filter; planes may repeat, then the least norm is taken.
            basis = made[: plane + 1].transpose(1, 0, 2).astype(np.float64)
            gram = basis @ basis.transpose(0, 2, 1)
            right = (basis @ flat[:, :, None])[:, :, 0]
            fitted = np.einsum("kij,kj->ki", np.linalg.pinv(gram, hermitian=True), right)
            scales[: plane + 1] = fitted.T
            left = flat - np.einsum("kp,kpn->kn", fitted, basis)
        else:
            left = left - scales[plane][:, None] * made[plane]
    return PlanesCode(planes=made.reshape(planes, *weights.shape), scales=scales)


class Sketch(Latent):
    """Latent weights that compute as their sketch."""

    def __init__(self, planes: int, method: str) -> None:
        super().__init__()
        self._planes, self._refit = planes, method == "refined"

    def code(self, weights: NDArray[np.float32]) -> PlanesCode:
        """The sketch."""
        return _sketch(weights, self._planes, refit=self._refit)


@dataclass(frozen=True, slots=True, kw_only=True)
class SketchPass(LatentPass):
    """Sketches the layers, then trains what the sketch is made of; `training.epochs = 0` only sketches.

    Notes of each layer's sketch before any training its error, as a share of its square sum, and its
    additions an output position, plain and shared (`sketch_additions`).
    """

    name: ClassVar[str] = "binary.sketch"
    has_zero: ClassVar[bool] = False
    planes: int = 3
    method: str = "refined"
    """direct or refined."""

    def __post_init__(self) -> None:
        check_word("method", self.method, ("direct", "refined"))
        if not 1 <= self.planes <= 8:
            raise ValueError(f"planes must be from 1 to 8, not {self.planes}")

    def transform(self, subject: Subject, layer: WeightedLayer) -> Sketch:
        """The latent weights of a layer; notes the error of the first sketch."""
        found: dict[str, Any] = subject.notes.setdefault(self.name, {})
        weights = subject.weight(layer.name)
        code = _sketch(weights, self.planes, refit=self.method == "refined")
        plain, shared = sketch_additions(code, layer.groups)
        found[layer.name] = {
            "planes": self.planes,
            "error": sketch_error(weights, code),
            "additions": plain,
            "shared_additions": shared,
        }
        return Sketch(self.planes, self.method)
