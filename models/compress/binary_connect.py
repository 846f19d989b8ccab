"""BinaryConnect: weights of ±H in forward and backward passes, real latent weights in the update."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .latent import Latent, refresh_norms
from .latent_pass import LatentPass, check_word
from .subject import Subject
from .trainable import WeightedLayer
from .weight_codes import FixedCode

__all__ = ["BinaryConnect", "BinaryConnectPass", "glorot_bound", "signs", "stochastic_signs"]


def signs(weights: NDArray[Any]) -> NDArray[np.int8]:
    """1 where a weight is at least 0, else −1 (Courbariaux, Bengio and David 2015, eq. 1)."""
    return np.where(weights >= 0, 1, -1).astype(np.int8)


def stochastic_signs(
    weights: NDArray[np.float32], bound: float, rng: np.random.Generator
) -> NDArray[np.int8]:
    """1 with the probability clip((w / bound + 1) / 2, 0, 1), else −1.

    Source: Courbariaux, Bengio and David 2015, eq. 2 and 3, the hard sigmoid.
    """
    probability = np.clip((weights / bound + 1.0) / 2.0, 0.0, 1.0)
    return np.where(rng.random(weights.shape) < probability, 1, -1).astype(np.int8)


def glorot_bound(shape: tuple[int, ...]) -> float:
    """H = √(1.5 / (fan-in + fan-out)) of weights of this shape.

    Source: the authors' code, `binary_connect.py`, which scales ±1 and clips latent weights by it; after
    Glorot and Bengio 2010.
    """
    window = math.prod(shape[2:])
    return math.sqrt(1.5 / ((shape[0] + shape[1]) * window))


class BinaryConnect(Latent):
    """Latent weights within ±H that compute as their signs times H, drawn at random in training if asked to.

    Args:
        shape: of the weights.
        rng: draws the signs in training; None takes the sign itself.
    """

    def __init__(self, shape: tuple[int, ...], rng: np.random.Generator | None = None) -> None:
        super().__init__()
        self.bound = glorot_bound(shape)
        self._height = self.bound
        self._rng = rng

    def code(self, weights: NDArray[np.float32]) -> FixedCode:
        """The signs, times H."""
        return self._coded(signs(weights))

    def drawn(self, weights: NDArray[np.float32]) -> FixedCode:
        """The signs, or where they are stochastic, signs drawn anew."""
        return (
            self.code(weights)
            if self._rng is None
            else self._coded(stochastic_signs(weights, self._height, self._rng))
        )

    def _coded(self, values: NDArray[np.int8]) -> FixedCode:
        return FixedCode(integers=values, scales=np.full(len(values), self._height), fmt="binary")


@dataclass(frozen=True, slots=True, kw_only=True)
class BinaryConnectPass(LatentPass):
    """Binary weights by BinaryConnect; a stochastic one deploys the signs of its latent weights."""

    name: ClassVar[str] = "binary.connect"
    has_zero: ClassVar[bool] = False
    rounding: str = "deterministic"
    """deterministic or stochastic: how training takes the signs."""

    def __post_init__(self) -> None:
        check_word("rounding", self.rounding, ("deterministic", "stochastic"))

    def transform(self, subject: Subject, layer: WeightedLayer) -> BinaryConnect:
        """BinaryConnect of its shape, with draws of its own."""
        shape = tuple(subject.model.weight(layer.name).shape)
        rng = np.random.default_rng([subject.seed, *layer.name.encode()])
        return BinaryConnect(shape, rng if self.rounding == "stochastic" else None)

    def apply(self, subject: Subject) -> None:
        """Nothing; trains, encodes each layer, and gathers the norms of the signs that are deployed.

        Raises:
            ValueError: a pruned layer; DivergedError: training fails.
        """
        LatentPass.apply(self, subject)
        if self.rounding == "stochastic":
            refresh_norms(subject)
