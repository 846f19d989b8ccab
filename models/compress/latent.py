"""Latent weights: real weights that train while layers compute with the code made of them. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .subject import Subject
from .training import Hooks, TrainingOptions, reproducible
from .weight_codes import WeightCode

__all__ = ["Latent", "filter_scales", "refresh_norms", "straight_through", "train_latent"]


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, latent: Tensor, hard: Tensor, factor: Tensor | None) -> Tensor:
        ctx.factor = factor
        return hard.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0]
        return gradient if ctx.factor is None else gradient * ctx.factor, None, None


def straight_through(latent: Tensor, hard: Tensor, factor: Tensor | None = None) -> Tensor:
    """`hard`, exactly; its gradient goes to `latent`, times `factor` where one is given.

    Source: Bengio, Léonard and Courville 2013, Estimating or Propagating Gradients Through Stochastic
    Neurons for Conditional Computation.
    """
    through: Tensor = _StraightThrough.apply(latent, hard, factor)  # type: ignore[no-untyped-call]
    return through


class Latent(nn.Module):
    """A transform of a layer's weights: the values of their code, with straight-through gradients.

    What trains is what is deployed, since the forward pass goes through the same `code`. Methods that draw
    at random or learn scales change `drawn` or `forward`.
    """

    bound: float | None = None
    """Latent weights are kept within ± this after every step; None leaves them free."""
    kept: Tensor | None = None
    """The layer's mask."""

    def code(self, weights: NDArray[np.float32]) -> WeightCode:
        """What makes up the layer when its latent weights are `weights`, of their shape."""
        raise NotImplementedError

    def drawn(self, weights: NDArray[np.float32]) -> WeightCode:
        """What a forward pass of training computes with; the code, unless it is drawn at random."""
        return self.code(weights)

    def factor(self, latent: Tensor, code: WeightCode) -> Tensor | None:
        """By what the gradient of each latent weight is multiplied; None is 1."""
        return None

    def forward(self, latent: Tensor) -> Tensor:
        """The values of the code, shape of `latent`."""
        masked = latent if self.kept is None else latent * self.kept
        array = masked.detach().numpy()
        code = self.drawn(array) if self.training else self.code(array)
        return straight_through(masked, torch.from_numpy(code.weights()), self.factor(masked.detach(), code))

    def after_backward(self, latent: nn.Parameter) -> None:
        """Nothing; called with the latent weights and their gradient before each step."""

    def after_step(self, latent: nn.Parameter) -> None:
        """Nothing; keeps the latent weights within the bound."""
        if self.bound is not None:
            with torch.no_grad():
                latent.clamp_(-self.bound, self.bound)


def train_latent(
    subject: Subject,
    transforms: Mapping[str, Latent],
    options: TrainingOptions | None,
    what: str,
) -> None:
    """Nothing; trains with the layers' transforms in place, then encodes each layer with its code.

    Args:
        subject: whose other layers train as usual; codes of the layers at hand are given up.
        transforms: by layer.
        options: the pass's, or None for the recipe's.
        what: for progress.

    Raises:
        DivergedError: see `training.fit`.
    """
    model = subject.model
    for name, transform in transforms.items():
        subject.codes.pop(name, None)
        mask = subject.masks.get(name)
        transform.kept = None if mask is None else torch.from_numpy(mask.kept.astype(np.float32))
        model.set_transform(name, transform)
        transform.after_step(model.weight(name))
    trained = [(transform, model.weight(name)) for name, transform in transforms.items()]

    def after_backward(step: int) -> None:
        for transform, latent in trained:
            transform.after_backward(latent)

    def after_step(step: int) -> None:
        for transform, latent in trained:
            transform.after_step(latent)

    def before_step(step: int) -> None:
        for transform, _ in trained:
            transform.train()  # frozen norms put the whole model into evaluation mode

    # A transform's own parameters are the model's as well while it is set: they train with the rest.
    hooks = Hooks(before_step=before_step, after_backward=after_backward, after_step=after_step)
    subject.train(options, hooks, what)
    for name, transform in transforms.items():
        weights = subject.model.weight(name).detach().numpy()
        mask = subject.masks.get(name)
        subject.encode(name, transform.code(weights if mask is None else weights * mask.kept))


def refresh_norms(subject: Subject, images: int = 2000) -> None:
    """Nothing; batch norms take their statistics anew, where weights have changed since they were gathered.

    Args:
        subject: whose training images are used.
        images: how many of them, in batches of 100.
    """
    data, model = subject.data, subject.model
    norms = any(node.op == "BatchNormalization" for node in model.graph.nodes)
    if not norms:
        return
    shape = model.graph.values[model.graph.inputs[0]].shape[1:]
    with reproducible(subject.seed), torch.no_grad():
        model.train()
        for first in range(0, max(2, min(images, len(data.train_x))), 100):
            raw = data.train_x[first : first + 100]
            if len(raw) > 1:  # batch norm needs two
                model(torch.from_numpy(data.real(raw).reshape(len(raw), *shape)))
        model.eval()


def filter_scales(values: NDArray[Any], per: str) -> NDArray[np.float64]:
    """The means of `values`, (K, …), by filter, shape (K,); K times that of all if `per` is layer."""
    if per == "layer":
        return np.full(len(values), values.mean(dtype=np.float64))
    means: NDArray[np.float64] = values.reshape(len(values), -1).mean(axis=1, dtype=np.float64)
    return means
