"""Shift-based batch norm: every factor a power of two, so that a shifter stands for each multiplier.

Source: Courbariaux et al. 2016, Binarized Neural Networks, Algorithm 3. Imports torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..graph import Node
from ..graph.attributes import number
from .latent import straight_through
from .trainable import Operands, TrainableGraph

__all__ = ["fix_shifts", "power_of_two", "shift_norm"]

_MOMENTUM = 0.1
"""Of the running statistics, as the exact norm's."""


def power_of_two(x: Tensor) -> Tensor:
    """AP2(x) = sign(x) · 2^round(log2 |x|), 0 for 0; gradients pass as they are."""
    value = x.detach()
    size = torch.exp2(torch.round(torch.log2(value.abs())))
    return straight_through(x, torch.where(value == 0, value, torch.sign(value) * size))


def shift_norm(node: Node, x: Operands, training: bool) -> Tensor:
    """What a batch norm with shifts makes of values of shape (B, C, …).

    The variance is the mean of c · AP2(c), c the distance from the mean; the factors are AP2(1 / √(variance +
    ε)) and AP2(γ). In training mean and variance are the batch's, and the running ones follow.

    Args:
        node: its `epsilon`, 1e-5 if it says none.
        x: values, γ, β, running mean, running variance.
        training: see above.
    """
    values, gain, shift, mean, variance = x
    by = (1, -1, *([1] * (values.dim() - 2)))
    if training:
        axes = [axis for axis in range(values.dim()) if axis != 1]
        batch_mean = values.mean(dim=axes)
        centred = values - batch_mean.reshape(by)
        batch_variance = (centred * power_of_two(centred)).mean(dim=axes)
        with torch.no_grad():
            mean.lerp_(batch_mean, _MOMENTUM)
            variance.lerp_(batch_variance, _MOMENTUM)
    else:
        centred, batch_variance = values - mean.reshape(by), variance
    normed: Tensor = centred * _factor(node, gain, batch_variance).reshape(by) + shift.reshape(by)
    return normed


def fix_shifts(model: TrainableGraph) -> None:
    """Nothing; exact norms compute from here on what those with shifts did: their γ takes it up.

    A norm's γ becomes AP2(γ) · AP2(1 / σ) · σ of its running σ = √(variance + ε).
    """
    with torch.no_grad():
        for node in model.graph.nodes:
            if node.op != "BatchNormalization":
                continue
            gain, variance = model.parameter(node.inputs[1]), model.value(node.inputs[4])
            gain.copy_(_factor(node, gain, variance) * torch.sqrt(variance + _epsilon(node)))
    model.norm = None


def _factor(node: Node, gain: Tensor, variance: Tensor) -> Tensor:
    """AP2(γ) · AP2(1 / √(variance + ε)), by channel."""
    return power_of_two(gain) * power_of_two(torch.rsqrt(variance + _epsilon(node)))


def _epsilon(node: Node) -> float:
    return number(node, "epsilon", 1e-5)
