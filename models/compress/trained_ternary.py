"""Trained ternary quantisation: −W_n, 0 and W_p, where both scales are learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .latent import Latent
from .latent_pass import LatentPass
from .subject import Subject
from .ternary import zero_share
from .trainable import WeightedLayer
from .weight_codes import TwoScaleCode

__all__ = ["TrainedTernary", "TrainedTernaryPass"]

_LEAST = 1e-6
"""Scales stay above this: a scale of 0 would leave nothing to tell the signs apart."""


class _TwoScales(torch.autograd.Function):
    """W_p, 0 or −W_n; gradients by Zhu et al. 2017, eq. 7 and 8."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor, positive: Tensor, negative: Tensor, limit: Tensor) -> Tensor:
        up, down = latent > limit, latent < -limit
        ctx.save_for_backward(up, down, positive, negative)
        return up * positive - down * negative

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (gradient,) = gradients
        up, down, positive, negative = ctx.saved_tensors
        factor = torch.where(up, positive, torch.where(down, negative, torch.ones_like(positive)))
        # The paper's eq. 7 sums the plain gradient over both sets; a −1 is worth −W_n, so its sum turns sign.
        return gradient * factor, (gradient * up).sum(), -(gradient * down).sum(), None


class TrainedTernary(Latent):
    """Latent weights that compute as W_p where they are above Δ, −W_n where below −Δ; Δ = t · max |w|.

    Args:
        weights: what the layer starts from; W_p and W_n start as the means of what they stand for.
        threshold: t.

    Source: Zhu, Han, Mao and Dally 2017, Trained Ternary Quantization, section 3.
    """

    def __init__(self, weights: NDArray[np.float32], threshold: float = 0.05) -> None:
        super().__init__()
        self._threshold = threshold
        signs = self._signs(weights)
        started = [
            float(np.abs(weights[signs == sign]).mean()) if (signs == sign).any() else 1.0 for sign in (1, -1)
        ]
        self.positive = nn.Parameter(torch.tensor(max(started[0], _LEAST)))
        self.negative = nn.Parameter(torch.tensor(max(started[1], _LEAST)))

    def _signs(self, weights: NDArray[np.float32]) -> NDArray[np.int8]:
        limit = np.float32(self._threshold) * np.abs(weights).max(initial=0)
        signs: NDArray[np.int8] = (weights > limit).astype(np.int8) - (weights < -limit).astype(np.int8)
        return signs

    def code(self, weights: NDArray[np.float32]) -> TwoScaleCode:
        """The signs, and the layer's two scales for each of its filters."""
        up, down = (np.full(len(weights), float(p.detach())) for p in (self.positive, self.negative))
        return TwoScaleCode(signs=self._signs(weights), positive=up, negative=down)

    def forward(self, latent: Tensor) -> Tensor:
        """The values of the code, shape of `latent`."""
        masked = latent if self.kept is None else latent * self.kept
        limit = self._threshold * masked.detach().abs().max()
        made: Tensor = _TwoScales.apply(  # type: ignore[no-untyped-call]
            masked, self.positive, self.negative, limit
        )
        return made

    def after_step(self, latent: nn.Parameter) -> None:
        """Nothing; keeps both scales above 0."""
        with torch.no_grad():
            self.positive.clamp_(min=_LEAST)
            self.negative.clamp_(min=_LEAST)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedTernaryPass(LatentPass):
    """TTQ; notes both scales and the share of zeros by layer.

    The paper leaves the first and the last layer real: `layers = ["hidden"]`, as it is by default.
    """

    name: ClassVar[str] = "ternary.trained"
    layers: tuple[str, ...] = ("hidden",)
    threshold: float = 0.05
    """t: what is below t · max |w| is 0."""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold must be at least 0 and below 1, not {self.threshold}")

    def transform(self, subject: Subject, layer: WeightedLayer) -> TrainedTernary:
        """The latent weights of a layer with its scales."""
        return TrainedTernary(subject.weight(layer.name), self.threshold)

    def found(self, subject: Subject, transforms: dict[str, Latent]) -> dict[str, Any]:
        """By layer: W_p, W_n and the share of zeros."""
        parts = {name: part for name, part in transforms.items() if isinstance(part, TrainedTernary)}
        return {
            name: {
                "positive": float(part.positive.detach()),
                "negative": float(part.negative.detach()),
                "zeros": zero_share(subject.weight(name)),
            }
            for name, part in parts.items()
        }
