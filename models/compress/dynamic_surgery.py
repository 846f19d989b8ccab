"""Dynamic network surgery: weights are cut and spliced back in while the network trains. Imports torch.

Source: Guo, Yao and Chen 2016, Dynamic Network Surgery for Efficient DNNs, eq. 2–5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .element_pruning import by_layer
from .passes import Pass
from .subject import Subject
from .training import Hooks

__all__ = ["DynamicSurgery", "SplicedMask", "hysteresis"]

_UPPER = 1.1
"""b / a. The paper only says that b is a little above a."""


def hysteresis(weights: NDArray[Any], kept: NDArray[np.bool_], low: float, high: float) -> NDArray[np.bool_]:
    """The mask after an update: off where |w| < low, on where |w| ≥ high, as before in between (eq. 3)."""
    size = np.abs(weights)
    found: NDArray[np.bool_] = np.where(size < low, False, np.where(size >= high, True, kept))
    return found


class _MaskedThrough(torch.autograd.Function):
    """Masked weights forward; backward the gradient goes to all weights, cut ones too."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, kept: Tensor) -> Tensor:
        return weight * kept

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class SplicedMask(nn.Module):
    """Weights under a mask that training may change: cut weights go on learning.

    Args:
        kept: what is on at first; what is off there and in `frozen` stays off.
        frozen: weights that an earlier pass has cut; None for none.
        thresholds: (low, high).
    """

    kept: Tensor

    def __init__(
        self, kept: NDArray[np.bool_], frozen: NDArray[np.bool_] | None, thresholds: tuple[float, float]
    ) -> None:
        super().__init__()
        self.register_buffer("kept", torch.from_numpy(kept.astype(np.float32)))
        self._free = None if frozen is None else ~frozen
        self._low, self._high = thresholds

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weights."""
        through: Tensor = _MaskedThrough.apply(weight, self.kept)  # type: ignore[no-untyped-call]
        return through

    def update(self, weight: Tensor) -> tuple[int, int]:
        """How many weights were cut and spliced; brings the mask up to date with the weights."""
        before = self.kept.numpy().astype(np.bool_)
        after = hysteresis(weight.detach().numpy(), before, self._low, self._high)
        if self._free is not None:
            after &= self._free
        self.kept.copy_(torch.from_numpy(after.astype(np.float32)))
        return int((before & ~after).sum()), int((after & ~before).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicSurgery(Pass):
    """Trains with masks that follow the weights, then with the masks as they came out.

    A layer's thresholds are a = μ + c σ, of the sizes of its weights as they come in, and b = 1.1 a. Masks
    are looked at in step t with probability (1 + γ t)^−p, and no more in the last part `settle`.

    Raises:
        ValueError: a number out of its range.
    """

    name: ClassVar[str] = "prune.surgery"
    strength: Mapping[str, float] = field(default_factory=dict)
    """c, by selector; a higher one cuts more."""
    gamma: float = 1e-4
    power: float = 1.0
    settle: float = 0.3
    """Part of the training in which the masks stand."""

    def __post_init__(self) -> None:
        if not self.strength:
            raise ValueError("strength must say c for the layers, as in strength = { all = 1.0 }")
        for key, value in self.strength.items():
            if not math.isfinite(value):
                raise ValueError(f"strength.{key} must be finite, not {value}")
        if not (
            math.isfinite(self.gamma) and self.gamma >= 0 and math.isfinite(self.power) and self.power >= 0
        ):
            raise ValueError(f"gamma and power must be finite, 0 or more, not {self.gamma} and {self.power}")
        if not 0.0 <= self.settle < 1.0:
            raise ValueError(f"settle must be from 0 to below 1, not {self.settle}")

    def check(self, subject: Subject) -> None:
        """Nothing; refuses layers without a strength, and a training of no step."""
        layers = self.selected(subject)
        told = by_layer(subject, layers, self.strength, f"{self.name}.strength")
        for layer in layers:
            if layer.name not in told:
                raise ValueError(f"{self.name}: layer {layer.name} has no strength: add it or all")
        if not (self.training or subject.training).epochs:
            raise ValueError(f"{self.name}: it works while the network trains: give training.epochs above 0")

    def apply(self, subject: Subject) -> None:
        """Nothing; trains, and leaves each layer with the mask that it came to.

        Raises:
            ValueError: a layer whose every weight is cut.
        """
        layers = self.selected(subject)
        told = by_layer(subject, layers, self.strength, f"{self.name}.strength")
        masks: dict[str, SplicedMask] = {}
        for layer in layers:
            weights = np.abs(subject.weight(layer.name).astype(np.float64))
            mask = subject.masks.get(layer.name)
            alive = weights if mask is None else weights[mask.kept]
            low = float(alive.mean() + told[layer.name] * alive.std())
            frozen = None if mask is None else ~mask.kept
            kept = np.ones(weights.shape, np.bool_) if mask is None else mask.kept
            masks[layer.name] = SplicedMask(kept, frozen, (low, _UPPER * low))
            subject.model.set_transform(layer.name, masks[layer.name])
        options = self.training or subject.training
        steps = math.ceil(options.epochs * len(subject.data.train_x) / options.batch)
        last = int(steps * (1.0 - self.settle))
        rng = np.random.default_rng([subject.seed, 19])
        cut = dict.fromkeys(masks, 0)
        spliced = dict.fromkeys(masks, 0)

        def update(step: int) -> None:
            if step > last or rng.random() >= (1.0 + self.gamma * step) ** -self.power:
                return
            for name, mask in masks.items():
                gone, back = mask.update(subject.model.weight(name))
                cut[name] += gone
                spliced[name] += back

        subject.train(options, Hooks(before_step=update), self.name)
        for name, spliced_mask in masks.items():
            kept = spliced_mask.kept.numpy().astype(np.bool_)
            if not kept.any():
                raise ValueError(
                    f"{self.name}: layer {name}: every weight is cut: lower its strength, {told[name]:g}"
                )
            subject.prune(name, kept)
        subject.notes["surgery.cut"] = cut
        subject.notes["surgery.spliced"] = spliced
