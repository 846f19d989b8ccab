"""Binary weights with a scale: W ≈ α · sign(W) with the α that is best in least squares (BWN, XNOR-Net)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .binary_connect import signs
from .latent import Latent, filter_scales
from .latent_pass import LatentPass, check_word
from .subject import Subject
from .trainable import WeightedLayer
from .weight_codes import FixedCode, WeightCode

__all__ = ["BinaryWeightsPass", "ScaledBinary", "scaled_signs", "xnor_speedup"]

_TINY = float(np.finfo(np.float32).tiny)


def scaled_signs(weights: NDArray[np.float32], per: str = "filter") -> FixedCode:
    """sign(W) with α = mean |W|, which minimises ‖W − α·B‖² over α and B in {−1, 1}.

    Args:
        weights: shape (K, …).
        per: filter or layer, what has an α of its own.

    Source: Rastegari et al. 2016, XNOR-Net, eq. 3–6.
    """
    scales = np.maximum(filter_scales(np.abs(weights), per), _TINY)
    return FixedCode(integers=signs(weights), scales=scales, fmt="binary")


def xnor_speedup(channels: int, taps: int, outputs: int) -> float:
    """How many times fewer operations a binary convolution takes when a word holds 64 of them.

    64·c·Nw·Ni / (c·Nw·Ni + 64·Ni): each output's c·Nw products become words of 64, and one
    multiplication by α and K stays.

    Args:
        channels: c, of the input.
        taps: Nw, the kernel's height times width.
        outputs: Ni, the pixels.

    Source: Rastegari et al. 2016, section 4.1; 62.27 for c = 256, Nw = 3·3, Ni = 14·14.
    """
    products = channels * taps * outputs
    return 64 * products / (products + 64 * outputs)


class ScaledBinary(Latent):
    """Latent weights that compute as α · sign(W).

    Gradients of latent weights are multiplied by 1/n + α · [|W| ≤ 1], n the weights of an α.
    """

    def __init__(self, per: str = "filter") -> None:
        super().__init__()
        self._per = per

    def code(self, weights: NDArray[np.float32]) -> FixedCode:
        """See `scaled_signs`."""
        return scaled_signs(weights, self._per)

    def factor(self, latent: Tensor, code: WeightCode) -> Tensor:
        """Source: Rastegari et al. 2016, section 3.1, under Algorithm 1."""
        assert isinstance(code, FixedCode)
        count = latent.numel() / (1 if self._per == "layer" else len(latent))
        scales = torch.from_numpy(code.scales.astype(np.float32)).reshape(-1, *[1] * (latent.dim() - 1))
        return 1.0 / count + scales * (latent.abs() <= 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryWeightsPass(LatentPass):
    """Binary-Weight-Networks: α · sign(W), activations as they were."""

    name: ClassVar[str] = "binary.weights"
    has_zero: ClassVar[bool] = False
    per: str = "filter"
    """filter or layer, what has an α of its own."""

    def __post_init__(self) -> None:
        check_word("per", self.per, ("filter", "layer"))

    def transform(self, subject: Subject, layer: WeightedLayer) -> ScaledBinary:
        """The latent weights of a layer."""
        return ScaledBinary(self.per)
