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

from .layer_shares import by_layer, check_densities
from .masks import kept_count
from .passes import Pass
from .subject import Subject
from .trainable import WeightedLayer
from .training import Hooks

__all__ = ["DynamicSurgery", "SplicedMask", "hysteresis", "hysteresis_of"]

_UPPER = 1.1
"""b / a. The paper only says that b is a little above a."""


def hysteresis(weights: NDArray[Any], kept: NDArray[np.bool_], low: float, high: float) -> NDArray[np.bool_]:
    """The mask after an update: off where |w| < low, on where |w| ≥ high, as before in between (eq. 3)."""
    size = np.abs(weights)
    found: NDArray[np.bool_] = np.where(size < low, False, np.where(size >= high, True, kept))
    return found


def hysteresis_of(weights: NDArray[Any], kept: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """The mask after an update whose a is such that `count` are on, b = 1.1 a; of equal ones all are on."""
    worth = np.abs(weights.astype(np.float64))
    worth = np.where(kept, worth, worth / _UPPER)
    last = worth.size - count
    found: NDArray[np.bool_] = worth >= np.partition(worth.ravel(), last)[last]
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
        thresholds: (low, high); None where each update is told how many weights stay.
    """

    kept: Tensor

    def __init__(
        self,
        kept: NDArray[np.bool_],
        frozen: NDArray[np.bool_] | None,
        thresholds: tuple[float, float] | None,
    ) -> None:
        super().__init__()
        self.register_buffer("kept", torch.from_numpy(kept.astype(np.float32)))
        self._free = None if frozen is None else ~frozen
        self._thresholds = thresholds

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weights."""
        through: Tensor = _MaskedThrough.apply(weight, self.kept)  # type: ignore[no-untyped-call]
        return through

    def update(self, weight: Tensor, count: int = 1) -> tuple[int, int]:
        """How many weights were cut and spliced; brings the mask up to date with the weights.

        `count` weights stay where there are no thresholds.
        """
        before = self.kept.numpy().astype(np.bool_)
        size = np.abs(weight.detach().numpy())
        if self._free is not None:
            size = size * self._free
        after = (
            hysteresis_of(size, before, count)
            if self._thresholds is None
            else hysteresis(size, before, *self._thresholds)
        )
        if self._free is not None:
            after &= self._free
        self.kept.copy_(torch.from_numpy(after.astype(np.float32)))
        return int((before & ~after).sum()), int((after & ~before).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicSurgery(Pass):
    """Trains with masks that follow the weights, then with the masks as they came out.

    A layer's thresholds are a = μ + c σ, of the sizes of its weights as they come in, and b = 1.1 a. Where a
    density is given instead, each update sets a so that as many weights stay as the step's density says; it
    falls by the same factor a step over the part `ramp` of the training. Masks are looked at in step t with
    probability (1 + γ t)^−p, and no more in the last part `settle`.

    Raises:
        ValueError: a number out of its range.
    """

    name: ClassVar[str] = "prune.surgery"
    strength: Mapping[str, float] = field(default_factory=dict)
    """c, by selector; a higher one cuts more."""
    density: float | None = None
    """Share of each layer's weights that stay, instead of `strength`."""
    densities: Mapping[str, float] = field(default_factory=dict)
    """By selector, instead of `density`."""
    gamma: float = 1e-4
    power: float = 1.0
    ramp: float = 0.4
    """Part of the training in which the density falls."""
    settle: float = 0.3
    """Part of the training in which the masks stand."""

    def __post_init__(self) -> None:
        dense = self.density is not None or bool(self.densities)
        if bool(self.strength) == dense:
            raise ValueError(
                "either strength must say c for the layers, as in strength = { all = 1.0 }, or density what "
                "stays"
            )
        for key, value in self.strength.items():
            if not math.isfinite(value):
                raise ValueError(f"strength.{key} must be finite, not {value}")
        check_densities(1.0 if self.density is None else self.density, self.densities)
        if not (
            math.isfinite(self.gamma) and self.gamma >= 0 and math.isfinite(self.power) and self.power >= 0
        ):
            raise ValueError(f"gamma and power must be finite, 0 or more, not {self.gamma} and {self.power}")
        if not (0.0 <= self.settle < 1.0 and 0.0 <= self.ramp <= 1.0 - self.settle):
            raise ValueError(
                f"settle must be from 0 to below 1 and ramp at most what it leaves, not {self.settle} and "
                f"{self.ramp}"
            )

    def check(self, subject: Subject) -> None:
        """Nothing; refuses layers that nothing is said of, and a training of no step."""
        layers = self.selected(subject)
        told = self._told(subject, layers)
        for layer in layers:
            if layer.name not in told:
                key = "strength" if self.strength else "density"
                raise ValueError(f"{self.name}: layer {layer.name} has no {key}: add it or all")
        if not (self.training or subject.training).epochs:
            raise ValueError(f"{self.name}: it works while the network trains: give training.epochs above 0")

    def apply(self, subject: Subject) -> None:
        """Nothing; trains, and leaves each layer with the mask that it came to.

        Raises:
            ValueError: a layer whose every weight is cut.
        """
        layers = self.selected(subject)
        told = self._told(subject, layers)
        masks: dict[str, SplicedMask] = {}
        alive: dict[str, int] = {}
        for layer in layers:
            weights = np.abs(subject.weight(layer.name).astype(np.float64))
            mask = subject.masks.get(layer.name)
            kept = np.ones(weights.shape, np.bool_) if mask is None else mask.kept
            alive[layer.name] = int(kept.sum())
            thresholds = None
            if self.strength:
                low = float(weights[kept].mean() + told[layer.name] * weights[kept].std())
                thresholds = (low, _UPPER * low)
            frozen = None if mask is None else ~kept
            masks[layer.name] = SplicedMask(kept, frozen, thresholds)
            subject.model.set_transform(layer.name, masks[layer.name])
        options = self.training or subject.training
        steps = math.ceil(options.epochs * len(subject.data.train_x) / options.batch)
        last, full = int(steps * (1.0 - self.settle)), int(steps * self.ramp)
        rng = np.random.default_rng([subject.seed, 19])
        cut = dict.fromkeys(masks, 0)
        spliced = dict.fromkeys(masks, 0)

        def update(step: int) -> None:
            chance = (1.0 + self.gamma * step) ** -self.power
            # The step of the last look is a look: only it is sure to leave the density that was asked for.
            if step > last or (rng.random() >= chance and step < last):
                return
            for name, mask in masks.items():
                goal = min(alive[name], kept_count(mask.kept.numel(), told[name]))
                part = min(1.0, step / full) if full else 1.0
                count = kept_count(alive[name], (goal / alive[name]) ** part)
                gone, back = mask.update(subject.model.weight(name), count)
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

    def _told(self, subject: Subject, layers: tuple[WeightedLayer, ...]) -> dict[str, float]:
        """By layer its strength, or its density."""
        if self.strength:
            return by_layer(subject, layers, self.strength, f"{self.name}.strength")
        told = {} if self.density is None else {layer.name: self.density for layer in layers}
        return told | by_layer(subject, layers, self.densities, f"{self.name}.densities")
