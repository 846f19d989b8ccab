"""Expectation backpropagation: probabilities of binary weights, updated by Bayes' rule in mean field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from .binary_connect import signs
from .dense_chain import dense_chain, sign_chain
from .passes import Pass
from .subject import Subject
from .weight_codes import FixedCode

__all__ = ["ExpectationPass", "MeanField", "mean_field", "posterior_gradients"]

_Array = NDArray[np.floating[Any]]
_FLOOR = 1e-6
"""Of a variance: a sum of nothing but certain weights has none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeanField:
    """What a forward pass of means knows of a layer for a batch."""

    inputs: _Array
    """Means of what it takes, (B, N)."""
    means: _Array
    """Of its sums over √N, (B, K)."""
    deviations: _Array
    """Their standard deviations, (B, K)."""


def _cumulative(x: _Array) -> _Array:
    found: _Array = torch.special.ndtr(torch.from_numpy(x)).numpy()
    return found


def _density(x: _Array) -> _Array:
    found: _Array = np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi)
    return found


def mean_field(weights: Sequence[_Array], x: _Array) -> list[MeanField]:
    """Means and deviations of all layers' sums, taken as normal by the central limit theorem.

    Weights are −1 or 1, and so are hidden values, the signs of sums; the mean of a sign is 2·Φ(μ / σ) − 1.

    Args:
        weights: means of the weights by layer, (K, N), within −1 … 1.
        x: inputs, (B, N), certain.

    Source: Soudry, Hubara and Meir 2014, Expectation Backpropagation, section 4, eq. 6 to 9.
    """
    made, value, square = [], x, x**2
    for mean in weights:
        count = mean.shape[1]
        sums = value @ mean.T / math.sqrt(count)
        variance = (square.sum(axis=1, keepdims=True) - value**2 @ (mean**2).T) / count
        layer = MeanField(inputs=value, means=sums, deviations=np.sqrt(np.maximum(variance, _FLOOR)))
        made.append(layer)
        value = 2.0 * _cumulative(layer.means / layer.deviations) - 1.0
        square = np.ones_like(value)
    return made


def posterior_gradients(weights: Sequence[_Array], x: _Array, targets: _Array) -> tuple[list[_Array], float]:
    """By layer ∂ ln P(targets | x) / ∂⟨W⟩, summed over the batch, and ln P by image.

    What Bayes' rule adds to each weight's h = artanh⟨W⟩, to first order; variances count as fixed.

    Args:
        weights: as `mean_field` takes them.
        x: (B, N).
        targets: −1 or 1, (B, K): what the last layer's signs ought to be.

    Source: Soudry, Hubara and Meir 2014, section 4, eq. 10 to 13.
    """
    layers = mean_field(weights, x)
    last = layers[-1]
    certainty = targets * last.means / last.deviations
    # Far out, φ(t) / Φ(t) tends to −t; ln Φ keeps it from 0 / 0.
    log = torch.special.log_ndtr(torch.from_numpy(certainty)).numpy()
    ratio = np.exp(-0.5 * certainty**2 - 0.5 * math.log(2.0 * math.pi) - log)
    delta = targets * ratio / last.deviations
    gradients: list[_Array] = []
    for number in reversed(range(len(layers))):
        layer, mean = layers[number], weights[number]
        root = math.sqrt(mean.shape[1])
        gradients.insert(0, delta.T @ layer.inputs / root)
        if number:
            below = layers[number - 1]
            slope = 2.0 * _density(below.means / below.deviations) / below.deviations
            delta = (delta @ mean / root) * slope
    return gradients, float(log.sum() / len(x))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectationPass(Pass):
    """Binary weights of a chain of linear layers with signs between, by their posterior's mode.

    Starts anew: no gradient of the float network is used. Inputs are centred by their means over the training
    part and scaled by one factor, so that the centring becomes the first layer's bias; the others have none.
    All layers of the network take part. `training.epochs` says for how long.

    Notes the mean |⟨W⟩| by layer, how certain the weights are, and ln P over the epochs.
    """

    name: ClassVar[str] = "binary.expectation"
    group: int = 10
    """Images that are updated with at once; the paper has 1."""

    def __post_init__(self) -> None:
        if self.group < 1:
            raise ValueError(f"group must be at least 1, not {self.group}")
        if self.layers != ("all",):
            raise ValueError(f"layers must be all, not {', '.join(self.layers)}: signs run through the chain")

    def check(self, subject: Subject) -> None:
        """Nothing.

        Raises:
            ValueError: a network that isn't a chain of linear layers; names the node.
        """
        dense_chain(subject.model, self.name)

    def apply(self, subject: Subject) -> None:
        """Nothing; finds the weights' probabilities, and encodes each layer with the likelier signs.

        Raises:
            ValueError: pruned layers, or another network.
        """
        layers = dense_chain(subject.model, self.name)
        if subject.masks:
            raise ValueError(
                f"layer {next(iter(subject.masks))}: {self.name} has no 0 for its pruned weights; take a "
                "ternary method"
            )
        sizes = [tuple(subject.model.weight(layer.name).shape) for layer in layers]
        data = subject.data
        # Single precision: the update is bound by memory, and signs don't hang on more digits.
        x = data.real(data.train_x).reshape(len(data.train_x), -1)
        centre, spread = x.mean(axis=0), float(x.std()) or 1.0
        x = (x - centre) / spread
        targets = np.where(data.train_y[:, None] == np.arange(sizes[-1][0]), 1.0, -1.0).astype(np.float32)
        rng = np.random.default_rng([subject.seed, 35])
        fields = [np.float32(0.1) * rng.standard_normal(size, np.float32) for size in sizes]
        epochs = (self.training or subject.training).epochs
        steps = math.ceil(epochs * len(x) / self.group)
        order, found, likelihood = np.arange(0), [], 0.0
        for step in range(steps):
            if len(order) < self.group:
                order = rng.permutation(len(x))
                found.append(likelihood)
            chosen, order = order[: self.group], order[self.group :]
            gradients, now = posterior_gradients([np.tanh(h) for h in fields], x[chosen], targets[chosen])
            likelihood = now if step == 0 else 0.99 * likelihood + 0.01 * now
            for field, gradient in zip(fields, gradients, strict=True):
                field += gradient  # noqa: PLW2901 - in place
            if step % max(1, steps // 50) == 0:
                subject.progress(f"{self.name}, ln P {likelihood:.4f}", step / steps)
        self._deploy(subject, [layer.name for layer in layers], fields, centre)
        certain: dict[str, Any] = {
            layer.name: float(np.abs(np.tanh(h)).mean()) for layer, h in zip(layers, fields, strict=True)
        }
        subject.notes[self.name] = {"certainty": certain, "log_likelihood": [*found[1:], likelihood]}

    def _deploy(self, subject: Subject, names: list[str], fields: list[_Array], centre: _Array) -> None:
        values = {name: signs(h.astype(np.float32)) for name, h in zip(names, fields, strict=True)}
        biases = {name: np.zeros(len(values[name])) for name in names}
        biases[names[0]] = -(values[names[0]] @ centre)
        subject.regraph(
            sign_chain(subject.model.to_graph(), {name: b.astype(np.float32) for name, b in biases.items()})
        )
        for name in names:
            scales = np.ones(len(values[name]))
            subject.encode(name, FixedCode(integers=values[name], scales=scales, fmt="binary"))
