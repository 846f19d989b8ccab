"""Loss-aware binarisation: the signs and scale that lose least by the curvature that Adam estimates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .binary_connect import signs
from .latent import Latent, filter_scales
from .latent_pass import LatentPass, check_word
from .subject import Subject
from .trainable import WeightedLayer
from .weight_codes import FixedCode

__all__ = ["LossAware", "LossAwarePass", "curved_signs"]

_BETA = 0.999
_EPSILON = 1e-8
_TINY = float(np.finfo(np.float32).tiny)


def curved_signs(
    weights: NDArray[np.float32], curvature: NDArray[np.float32], per: str = "layer"
) -> FixedCode:
    """α·b with b = sign(W) and α = ‖d∘W‖₁ / ‖d‖₁, which minimises Σ d·(α·b − W)².

    Args:
        weights: shape (K, …).
        curvature: d, above 0, the same shape: the diagonal of the loss's Hessian, or what stands for it.
        per: layer, as in the paper, or filter.

    Source: Hou, Yao and Kwok 2017, Loss-aware Binarization of Deep Networks, proposition 3.1.
    """
    top = filter_scales(curvature * np.abs(weights), per)
    scales = np.maximum(top / filter_scales(curvature, per), _TINY)
    return FixedCode(integers=signs(weights), scales=scales, fmt="binary")


class LossAware(Latent):
    """Latent weights that compute as α·b, d being the root of Adam's second moment of their gradients.

    The moment is counted here from the gradients that the optimiser sees, with its β₂ and bias correction,
    so that any optimiser may train; before the first step d is 1.
    """

    moment: Tensor

    def __init__(self, shape: tuple[int, ...], per: str = "layer") -> None:
        super().__init__()
        self._per = per
        self._steps = 0
        self.register_buffer("moment", torch.zeros(shape))

    @property
    def curvature(self) -> Tensor:
        """d, shape of the weights."""
        if not self._steps:
            return torch.ones_like(self.moment)
        return (self.moment / (1.0 - math.pow(_BETA, self._steps))).sqrt() + _EPSILON

    def code(self, weights: NDArray[np.float32]) -> FixedCode:
        """See `curved_signs`."""
        return curved_signs(weights, self.curvature.numpy(), self._per)

    def after_backward(self, latent: nn.Parameter) -> None:
        """Nothing; counts the gradient."""
        assert latent.grad is not None
        self._steps += 1
        self.moment.mul_(_BETA).addcmul_(latent.grad, latent.grad, value=1.0 - _BETA)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossAwarePass(LatentPass):
    """Binary weights whose α looks at the loss: the proximal Newton step with Adam's curvature."""

    name: ClassVar[str] = "binary.loss-aware"
    has_zero: ClassVar[bool] = False
    per: str = "layer"
    """layer, as in the paper, or filter."""

    def __post_init__(self) -> None:
        check_word("per", self.per, ("layer", "filter"))

    def transform(self, subject: Subject, layer: WeightedLayer) -> LossAware:
        """The latent weights of a layer with the moment of their gradients."""
        return LossAware(tuple(subject.model.weight(layer.name).shape), self.per)
