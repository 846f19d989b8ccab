"""Single weights pruned by a saliency, in rounds with retraining: magnitude, Optimal Brain Damage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..graph import Graph
from .curvature import KINDS, diagonal_hessian
from .layer_samples import check_images, nodes_of, sample
from .layer_shares import by_layer
from .masks import greatest, greatest_of_all, kept_count, quality_mask
from .passes import Pass
from .subject import Subject
from .trainable import WeightedLayer

__all__ = [
    "ElementPruning",
    "PruneByDamage",
    "PruneByMagnitude",
    "scaled_dropout",
]


@contextmanager
def scaled_dropout(subject: Subject, layers: tuple[WeightedLayer, ...], rate: float) -> Iterator[None]:
    """Drops inputs of linear layers while training, the less the fewer connections are left.

    A layer with C_r of C_o connections drops with the rate D_r = D_o · √(C_r / C_o). What the network's
    input feeds isn't dropped.

    Source: Han et al. 2015, Learning both Weights and Connections, eq. 2.
    """
    model = subject.model
    added: list[tuple[str, Any]] = []
    for layer in layers:
        if not rate or layer.op != "Gemm":
            continue
        mask = subject.masks.get(layer.name)
        left = rate * math.sqrt(1.0 if mask is None else mask.density)

        def tap(value: Tensor, left: float = left) -> Tensor:
            return functional.dropout(value, left, model.training)

        for name in {node.inputs[0] for node in nodes_of(model, layer)}:
            if _is_input(model.graph, name):
                continue
            model.taps.setdefault(name, []).append(tap)
            added.append((name, tap))
    try:
        yield
    finally:
        for name, tap in added:
            model.taps[name].remove(tap)


def _is_input(graph: Graph, name: str) -> bool:
    node = graph.producer(name)
    while node is not None and node.op in ("Flatten", "Reshape", "Identity"):
        name = node.inputs[0]
        node = graph.producer(name)
    return name in graph.inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementPruning(Pass):
    """Keeps the weights of the greatest saliency, in rounds that each end in training.

    Round r of R keeps the share density^(r / R), so that every round cuts the same part of what is left.

    Raises:
        ValueError: a number out of its range.
    """

    density: float | None = None
    """Share of weights that stay, of each layer or with scope = "global" of all together."""
    densities: Mapping[str, float] = field(default_factory=dict)
    """By selector, instead of `density`."""
    scope: str = "layer"
    """layer or global."""
    rounds: int = 1
    dropout: float = 0.0
    """Rate at which inputs of dense linear layers are dropped in training, see `scaled_dropout`."""

    def __post_init__(self) -> None:
        shares = {"density": self.density, **{f"densities.{k}": v for k, v in self.densities.items()}}
        for key, value in shares.items():
            if value is not None and not 0.0 < value <= 1.0:
                raise ValueError(f"{key} must be above 0 and at most 1, not {value}")
        if self.scope not in ("layer", "global"):
            raise ValueError(f"scope must be layer or global, not {self.scope!r}")
        if self.scope == "global" and (self.densities or self.density is None):
            raise ValueError("scope global needs a density of all layers together, and no densities")
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, not {self.rounds}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be from 0 to below 1, not {self.dropout}")

    def check(self, subject: Subject) -> None:
        """Nothing; refuses layers that nothing is said of.

        Raises:
            ValueError: see `Pass.check`; a layer without a density; a budget of no weight.
        """
        layers = self.selected(subject)
        shares = self._shares(subject, layers)
        for layer in layers:
            size = subject.model.weight(layer.name).numel()
            if layer.name not in shares:
                raise ValueError(f"{self.name}: layer {layer.name} has no density: give density")
            if round(size * shares[layer.name]) < 1 and self.scope == "layer":
                raise ValueError(
                    f"{self.name}: layer {layer.name}: a density of {shares[layer.name]:g} keeps none of "
                    f"{size} weights: give at least {1 / size:.2g}"
                )

    def apply(self, subject: Subject) -> None:
        """Nothing; prunes and trains, round by round."""
        layers = self.selected(subject)
        shares = self._shares(subject, layers)
        for number in range(1, self.rounds + 1):
            subject.progress(f"{self.name}: round {number} of {self.rounds}", (number - 1) / self.rounds)
            alive = {layer.name: self._alive(subject, layer.name) for layer in layers}
            scores = self.scores(subject, layers)
            if self.scope == "global":
                total = sum(mask.size for mask in alive.values())
                count = kept_count(total, float(self.density or 1.0) ** (number / self.rounds))
                masks = greatest_of_all(scores, count, alive)
            else:
                masks = {
                    name: greatest(scores[name], self._count(mask, shares[name], number), mask)
                    for name, mask in alive.items()
                }
            for name, mask in masks.items():
                subject.prune(name, mask)
            self.retrain(subject, layers, number)

    def scores(self, subject: Subject, layers: tuple[WeightedLayer, ...]) -> dict[str, NDArray[Any]]:
        """By layer what each weight is worth, of the weights' shape."""
        raise NotImplementedError

    def retrain(self, subject: Subject, layers: tuple[WeightedLayer, ...], number: int) -> None:
        """Nothing; trains after a round."""
        with scaled_dropout(subject, layers, self.dropout):
            subject.train(self.training, what=f"{self.name}: round {number} of {self.rounds}")

    def _count(self, mask: NDArray[np.bool_], share: float, number: int) -> int:
        return kept_count(mask.size, float(share ** (number / self.rounds)))

    def _shares(self, subject: Subject, layers: tuple[WeightedLayer, ...]) -> dict[str, float]:
        told = by_layer(subject, layers, self.densities, f"{self.name}.densities")
        if self.density is None:
            return told
        return {layer.name: self.density for layer in layers} | told

    @staticmethod
    def _alive(subject: Subject, name: str) -> NDArray[np.bool_]:
        mask = subject.masks.get(name)
        return np.ones(tuple(subject.model.weight(name).shape), np.bool_) if mask is None else mask.kept


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneByMagnitude(ElementPruning):
    """Cuts the smallest weights, by a density or by a threshold of `quality` standard deviations of a layer.

    Source: Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks, section 3.
    """

    name: ClassVar[str] = "prune.magnitude"
    quality: Mapping[str, float] = field(default_factory=dict)
    """By selector: weights below so many standard deviations go, in each round anew; instead of densities."""

    def __post_init__(self) -> None:
        ElementPruning.__post_init__(self)
        for key, value in self.quality.items():
            if not math.isfinite(value) or value <= 0:
                raise ValueError(f"quality.{key} must be finite and above 0, not {value}")
        if self.quality and (self.densities or self.density is not None):
            raise ValueError("quality stands instead of density and densities: leave one of them out")

    def check(self, subject: Subject) -> None:
        """Nothing; see `ElementPruning.check`.

        Raises:
            ValueError: also a threshold above every weight of a layer.
        """
        if not self.quality:
            ElementPruning.check(self, subject)
            return
        layers = self.selected(subject)
        told = by_layer(subject, layers, self.quality, f"{self.name}.quality")
        for layer in layers:
            if layer.name not in told:
                raise ValueError(f"{self.name}: layer {layer.name} has no quality: add it or all")

    def apply(self, subject: Subject) -> None:
        """Nothing; prunes and trains, round by round.

        Raises:
            ValueError: a threshold above every weight of a layer.
        """
        if not self.quality:
            ElementPruning.apply(self, subject)
            return
        layers = self.selected(subject)
        told = by_layer(subject, layers, self.quality, f"{self.name}.quality")
        for number in range(1, self.rounds + 1):
            for name, quality in told.items():
                kept = quality_mask(subject.weight(name), quality)
                if not kept.any():
                    raise ValueError(
                        f"{self.name}: layer {name}: no weight reaches {quality:g} standard deviations: "
                        f"lower quality.{name}"
                    )
                subject.prune(name, kept)
            self.retrain(subject, layers, number)

    def scores(self, subject: Subject, layers: tuple[WeightedLayer, ...]) -> dict[str, NDArray[Any]]:
        """The weights' sizes."""
        return {layer.name: np.abs(subject.weight(layer.name)) for layer in layers}


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneByDamage(ElementPruning):
    """Cuts the weights whose loss to second order, h w² / 2, is least: Optimal Brain Damage.

    h is the loss's second derivative by the weight, see `curvature`. Recurrent layers have one h for all time
    steps.

    Source: LeCun, Denker and Solla 1989, Optimal Brain Damage, eq. 5.
    """

    name: ClassVar[str] = "prune.obd"
    curvature: str = "gauss-newton"
    """gauss-newton, fisher or hutchinson."""
    images: int = 500
    """Training images that the curvature is the mean of."""

    def __post_init__(self) -> None:
        ElementPruning.__post_init__(self)
        if self.curvature not in KINDS:
            raise ValueError(f"curvature must be one of {', '.join(KINDS)}, not {self.curvature!r}")

    def check(self, subject: Subject) -> None:
        """Nothing; see `ElementPruning.check`; enough images."""
        ElementPruning.check(self, subject)
        check_images(subject, self.images, self.name)

    def scores(self, subject: Subject, layers: tuple[WeightedLayer, ...]) -> dict[str, NDArray[Any]]:
        """Each weight's h w² / 2."""
        x, y = sample(subject, self.images)
        found = diagonal_hessian(subject.model, layers, x, y, kind=self.curvature, seed=subject.seed)
        return {name: 0.5 * h * subject.weight(name).astype(np.float64) ** 2 for name, h in found.items()}
