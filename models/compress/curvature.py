"""Second derivatives of the loss by each single weight: the diagonal of its Hessian. Imports torch.

- gauss-newton: E[Jᵀ H J], J the logits' derivatives, H the loss's Hessian by them. For networks of piecewise
  linear activations (ReLU, max pools, batch norms at rest) this is the Hessian's diagonal, since no logit is
  curved in a single weight.
- fisher: E[g²], g a sample's gradient: the empirical Fisher information, cheapest.
- hutchinson: E[v ⊙ Hv] over random signs v (Hutchinson 1990): unbiased for any network, and noisy.

Weights that several nodes share (time steps of a recurrent layer) have one derivative: the steps' sum.
Source: LeCun, Denker and Solla 1989, Optimal Brain Damage, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .layer_samples import nodes_of, patches
from .trainable import TrainableGraph, WeightedLayer

__all__ = ["KINDS", "LOSSES", "diagonal_hessian", "loss_columns"]

KINDS = ("gauss-newton", "fisher", "hutchinson")
LOSSES = ("cross-entropy", "squares")
_BATCH = 100


def _squares(logits: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * ((logits - targets) ** 2).flatten(1).sum(1).mean()


_LOSS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": functional.cross_entropy,
    "squares": _squares,
}


def loss_columns(logits: Tensor, loss: str) -> Iterator[Tensor]:
    """Columns s, (B, outputs) each, with Σ s sᵀ a sample's Hessian of the loss by its logits.

    Cross-entropy: H = diag(p) − p pᵀ = Σ_c p_c (e_c − p)(e_c − p)ᵀ. Half the squared error: H = 1.
    """
    identity = torch.eye(logits.shape[1], dtype=logits.dtype)
    chances = torch.softmax(logits.detach(), 1)
    for column in identity:
        if loss == "squares":
            yield column.expand_as(logits)
        else:
            yield (chances @ column)[:, None].sqrt() * (column - chances)


def diagonal_hessian(
    model: TrainableGraph,
    layers: Sequence[WeightedLayer],
    x: Tensor,
    y: Tensor,
    *,
    kind: str = "gauss-newton",
    loss: str = "cross-entropy",
    probes: int = 16,
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """By layer, the mean second derivative of the loss by each of its weights; shape of the weights.

    Args:
        model: in any mode; looked at in evaluation mode.
        layers: of the model; at most one for shared weights.
        x: inputs, (B, …).
        y: labels (B,), or for squares targets of the output's shape.
        kind: see the module.
        loss: cross-entropy, or squares: half the squared error.
        probes: random vectors of hutchinson.
        seed: of these.

    Raises:
        ValueError: an unknown kind or loss.
    """
    if kind not in KINDS or loss not in LOSSES:
        raise ValueError(
            f"curvature must be one of {', '.join(KINDS)} of {' or '.join(LOSSES)}, not {kind} of {loss}"
        )
    model.eval()
    if kind == "hutchinson":
        return _hutchinson(model, layers, x, y, loss, probes, seed)
    nodes = {layer.name: nodes_of(model, layer) for layer in layers}
    sums = {
        layer.name: torch.zeros(tuple(model.weight(layer.name).shape), dtype=torch.float64)
        for layer in layers
    }
    reads = {node.inputs[0] for steps in nodes.values() for node in steps}
    makes = [node.outputs[0] for steps in nodes.values() for node in steps]
    for first in range(0, len(x), _BATCH):
        part, labels = x[first : first + _BATCH], y[first : first + _BATCH]
        with model.captured([*reads, *makes]) as found:
            logits = model(part).flatten(1)
            values = dict(found)
        columns: Iterator[Tensor]
        if kind == "fisher":
            each = _LOSS[loss](logits, labels) * len(part)
            (column,) = torch.autograd.grad(each, logits, retain_graph=True)
            columns = iter([column.detach()])
        else:
            columns = loss_columns(logits, loss)
        for column in columns:
            slopes = torch.autograd.grad(
                logits, [values[name] for name in makes], column, retain_graph=True, allow_unused=True
            )
            by_value = dict(zip(makes, slopes, strict=True))
            for layer in layers:
                shape = tuple(model.weight(layer.name).shape)
                if (
                    len(nodes[layer.name]) == 1 and len(shape) == 2
                ):  # (δ a)² = δ² a², without a matrix a sample
                    slope = by_value[nodes[layer.name][0].outputs[0]]
                    if slope is not None:
                        read = values[nodes[layer.name][0].inputs[0]].detach()
                        sums[layer.name] += (slope.double() ** 2).T @ read.double() ** 2
                    continue
                product: Tensor | None = None
                for node in nodes[layer.name]:
                    slope = by_value[node.outputs[0]]
                    if slope is None:  # what the output doesn't depend on
                        continue
                    read = patches(node, shape, values[node.inputs[0]].detach())
                    made = slope.reshape(len(part), layer.groups, -1, read.shape[3])
                    step = made @ read.transpose(2, 3)
                    product = step if product is None else product + step
                if product is not None:
                    sums[layer.name] += (product.double() ** 2).sum(0).reshape(shape)
    return {name: total.numpy() / len(x) for name, total in sums.items()}


def _hutchinson(
    model: TrainableGraph,
    layers: Sequence[WeightedLayer],
    x: Tensor,
    y: Tensor,
    loss: str,
    probes: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    weights = [model.weight(layer.name) for layer in layers]
    sums = [torch.zeros(weight.shape, dtype=torch.float64) for weight in weights]
    generator = torch.Generator().manual_seed(seed)
    for first in range(0, len(x), _BATCH):
        part = x[first : first + _BATCH]
        value = _LOSS[loss](model(part).flatten(1), y[first : first + _BATCH]) * len(part)
        slopes = torch.autograd.grad(value, weights, create_graph=True)
        for probe in range(probes):
            signs = [
                torch.randint(0, 2, weight.shape, generator=generator).to(weight.dtype) * 2 - 1
                for weight in weights
            ]
            products = torch.autograd.grad(
                slopes, weights, signs, retain_graph=probe + 1 < probes, allow_unused=True
            )
            for total, sign, product in zip(sums, signs, products, strict=True):
                if product is not None:
                    total.add_((sign * product).double())
    return {layer.name: total.numpy() / (len(x) * probes) for layer, total in zip(layers, sums, strict=True)}
