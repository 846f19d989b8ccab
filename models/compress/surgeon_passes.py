"""Optimal Brain Surgeon as a pass: which Hessian a layer is cut by, and what it may cost. Imports torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from .brain_surgeon import inverse_hessian, surgeon_cut
from .curvature import loss_columns
from .layer_samples import captured_values, check_images, node_of, patches, sample, sampled_rows
from .layer_shares import LayerShares
from .masks import kept_count
from .subject import Subject
from .trainable import WeightedLayer

__all__ = ["PruneBySurgeon"]

_MOST_WORK = 3e10
"""Multiplications a layer: about half a minute."""
_MOST_ROWS = 20_000
_PIXELS = 10
_OBJECTIVES = ("responses", "loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneBySurgeon(LayerShares):
    """Cuts weights by Optimal Brain Surgeon and moves the others, then trains if `training` has epochs.

    Raises:
        ValueError: a number out of its range.
    """

    name: ClassVar[str] = "prune.obs"
    objective: str = "responses"
    """responses: the layer's own sums are kept, one Hessian for all its rows; loss: the network's loss is,
    by the Gauss-Newton Hessian over all weights of the layer."""
    images: int = 500
    damping: float = 1e-4
    """What is added to the Hessian's diagonal, in parts of its mean."""

    def __post_init__(self) -> None:
        LayerShares.__post_init__(self)
        if self.objective not in _OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(_OBJECTIVES)}, not {self.objective!r}")
        if not math.isfinite(self.damping) or self.damping <= 0:
            raise ValueError(f"damping must be finite and above 0, not {self.damping}")

    def check(self, subject: Subject) -> None:
        """Nothing; refuses layers whose Hessian is too large, and too few images."""
        LayerShares.check(self, subject)
        check_images(subject, self.images, self.name)
        for layer in self.selected(subject):
            shape = tuple(subject.model.weight(layer.name).shape)
            rows, size = shape[0], math.prod(shape[1:]) + 1
            if layer.groups > 1:
                raise ValueError(
                    f"{self.name}: layer {layer.name} has {layer.groups} groups: leave it out, or prune it "
                    "by prune.obd"
                )
            if self.objective == "loss":
                rows, size = 1, rows * size
            work = rows * float(size) ** 3
            if work > _MOST_WORK:
                raise ValueError(
                    f"{self.name}: layer {layer.name} needs {work:.0e} multiplications for cutting weight "
                    f"after weight, {_MOST_WORK:.0e} at most: leave it out, or prune it by prune.obd"
                )

    def apply(self, subject: Subject) -> None:
        """Nothing; cuts layer after layer in the network's order, and trains."""
        x, _ = sample(subject, self.images)
        for layer, share in self.in_turn(subject):
            weights = subject.weight(layer.name)
            bias = subject.model.bias(layer.name)
            matrix = weights.reshape(len(weights), -1).astype(np.float64)
            free = np.ones(matrix.shape[1], np.bool_)
            if bias is not None:
                matrix = np.column_stack([matrix, bias.detach().double().numpy()])
                free = np.append(free, False)
            keep = kept_count(weights.size, share)
            with_bias = bias is not None
            if self.objective == "responses":
                rows = _responses(subject, layer, x, with_bias)
                moved, kept = surgeon_cut(matrix, self._inverse(rows), free, keep)
            else:
                rows = _slopes(subject, layer, x, with_bias)
                flat, flat_kept = surgeon_cut(
                    matrix.reshape(1, -1), self._inverse(rows), np.tile(free, len(matrix)), keep
                )
                moved, kept = flat.reshape(matrix.shape), flat_kept.reshape(matrix.shape)
            if bias is not None:
                with torch.no_grad():
                    bias.copy_(torch.from_numpy(moved[:, -1].astype(np.float32)))
                moved, kept = moved[:, :-1], kept[:, :-1]
            subject.set_weight(layer.name, moved.reshape(weights.shape))
            subject.prune(layer.name, kept.reshape(weights.shape))
        self.tune(subject)

    def _inverse(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        scale = float((rows**2).mean())
        return inverse_hessian(rows, self.damping * scale if scale else self.damping)


def _responses(subject: Subject, layer: WeightedLayer, x: torch.Tensor, bias: bool) -> NDArray[np.float64]:
    """What the layer reads, a row a sample and pixel, with a 1 for the bias."""
    node = node_of(subject.model, layer)
    values = captured_values(subject, [node.inputs[0]], x)[node.inputs[0]]
    shape = tuple(subject.model.weight(layer.name).shape)
    rng = np.random.default_rng([subject.seed, 15])
    rows, _ = sampled_rows(node, shape, values, _PIXELS, rng)
    rows = rows[rng.permutation(len(rows))[:_MOST_ROWS]]
    return np.column_stack([rows, np.ones(len(rows))]) if bias else rows


def _slopes(subject: Subject, layer: WeightedLayer, x: torch.Tensor, bias: bool) -> NDArray[np.float64]:
    """Rows g, scaled so that their mean square is the loss's Gauss-Newton Hessian over (K, N + bias)."""
    model, node = subject.model, node_of(subject.model, layer)
    shape = tuple(model.weight(layer.name).shape)
    model.eval()
    with model.captured([node.inputs[0], node.outputs[0]]) as found:
        logits = model(x).flatten(1)
        reads, made = patches(node, shape, found[node.inputs[0]].detach())[:, 0], found[node.outputs[0]]
    if bias:
        reads = torch.cat([reads, torch.ones_like(reads[:, :1])], 1)
    parts = []
    for column in loss_columns(logits, "cross-entropy"):
        (slope,) = torch.autograd.grad(logits, made, column, retain_graph=True)
        product = slope.reshape(len(x), shape[0], -1) @ reads.transpose(1, 2)
        parts.append(product.reshape(len(x), -1).double().numpy())
    # Σ over classes, mean over samples: inverse_hessian takes the mean over all rows
    rows = np.concatenate(parts) * math.sqrt(len(parts))
    return rows
