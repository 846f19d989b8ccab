"""Fake quantisers: what training sees of stored weights and activations in each format. Imports torch.

Forward, a value stands at the level that the integer network will hold; backward, the rounding is passed
over (the straight-through estimator: Bengio et al. 2013; Courbariaux et al. 2016, BinaryNet).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .formats import Format, FormatKind

__all__ = ["ActivationQuantizer", "LowBitQuantizer", "fake_quantized", "weight_levels", "weight_scale"]

_TERNARY_CUT = 0.7
"""Times the mean |w|: a weight below is 0 as ternary (Li and Liu 2016, eq. 6)."""
_LEAST_SCALE = 1e-8


def _along(values: Tensor, weight: Tensor) -> Tensor:
    """Values by output channel, shape (K,), to stand against `weight`."""
    return values.view(-1, *([1] * (weight.dim() - 1)))


def _kept(weight: Tensor) -> Tensor:
    """Which weights aren't 0 as ternary, as 0.0 or 1.0."""
    size = weight.abs()
    return (size > _TERNARY_CUT * _along(size.flatten(1).mean(1), weight)).to(weight.dtype)


def weight_scale(weight: Tensor, fmt: Format) -> Tensor:
    """What a step of each output channel's weights is worth, shape (K,).

    int8: max |w| / 127. Binary: mean |w|, the least-squares fit (Rastegari et al. 2016, XNOR-Net, eq. 6).
    Ternary: mean |w| of the weights that aren't 0 (Li and Liu 2016, Ternary Weight Networks, eq. 5).
    """
    size = weight.detach().abs()
    if fmt.kind == FormatKind.BINARY:
        return size.flatten(1).mean(1).clamp_min(_LEAST_SCALE)
    if fmt.kind == FormatKind.TERNARY:
        kept = _kept(weight.detach()).flatten(1)
        return ((size.flatten(1) * kept).sum(1) / kept.sum(1).clamp_min(1)).clamp_min(_LEAST_SCALE)
    return size.flatten(1).amax(1).clamp_min(_LEAST_SCALE) / fmt.max


def weight_levels(weight: Tensor, fmt: Format, scale: Tensor | None = None) -> Tensor:
    """The stored integers of float weights as floats, symmetric about 0, by output channel.

    int8: −127..127. Binary: the sign, +1 for 0. Ternary: the sign of what exceeds 0.7 · mean |w|, else 0.

    Args:
        weight: output channels first.
        fmt: int8, ternary or binary.
        scale: their `weight_scale`, where it is known already.
    """
    values = weight.detach()
    if fmt.kind == FormatKind.BINARY:
        return torch.where(values >= 0, 1.0, -1.0).to(values.dtype)
    if fmt.kind == FormatKind.TERNARY:
        return torch.sign(values) * _kept(values)
    scale = weight_scale(values, fmt) if scale is None else scale
    return torch.round(values / _along(scale, values)).clamp_(-fmt.max, fmt.max)


def fake_quantized(weight: Tensor, fmt: Format) -> Tensor:
    """The weights at their levels; gradients reach the float weights unchanged."""
    scale = weight_scale(weight, fmt)
    levels = weight_levels(weight, fmt, scale)
    return weight + (levels * _along(scale, levels) - weight.detach())


class ActivationQuantizer(nn.Module):
    """Rounds activations to int8 levels, asymmetric for the whole tensor; gradients pass straight on.

    While `observing`, the range follows the batches' least and greatest values by an exponential
    moving average.
    """

    low: Tensor
    high: Tensor

    def __init__(self, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.observing = False
        self.seen = False
        self.least_scale = 1e-6 / 255.0
        """A step is worth at least this: an accumulator's step, since rescaling can only shrink."""
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.ones(()))

    def parameters_of_range(self) -> tuple[float, int]:
        """(scale, zero point) of the range, widened to hold 0 exactly."""
        low, high = min(float(self.low), 0.0), max(float(self.high), 0.0)
        scale = max((high - low) / 255.0, self.least_scale)
        return scale, max(-128, min(127, round(-128 - low / scale)))

    def levels(self, x: Tensor) -> Tensor:
        """The stored integers of activations, as floats."""
        scale, zero_point = self.parameters_of_range()
        return (torch.round(x / scale) + zero_point).clamp(-128, 127)

    def forward(self, x: Tensor) -> Tensor:
        """`x` at the nearest levels."""
        if self.observing:
            with torch.no_grad():
                rate = self.momentum if self.seen else 1.0
                self.low += rate * (x.amin() - self.low)
                self.high += rate * (x.amax() - self.high)
                self.seen = True
        scale, zero_point = self.parameters_of_range()
        clipped = x.clamp((-128 - zero_point) * scale, (127 - zero_point) * scale)
        exact = clipped.detach()
        return clipped + (torch.round(exact / scale).mul_(scale).sub_(exact))


class LowBitQuantizer(nn.Module):
    """Activations as −1 and 1, or −1, 0 and 1: cut at 0, or at −1/2 and 1/2; what a step is worth is 1.

    Gradients pass where |x| ≤ 1 (Courbariaux et al. 2016, eq. 4). The cuts are fixed, since the batch
    norm before moves and stretches what comes. Not for activations without a norm.
    """

    def __init__(self, fmt: Format) -> None:
        super().__init__()
        self.observing = False
        binary = fmt.kind == FormatKind.BINARY
        self.fmt = fmt
        self.cuts = (0.0,) if binary else (-0.5, 0.5)
        self.step = 2 if binary else 1

    def parameters_of_range(self) -> tuple[float, int]:
        """(scale, zero point): (1, 0)."""
        return 1.0, 0

    def levels(self, x: Tensor) -> Tensor:
        """The stored integers of activations, as floats."""
        levels = torch.full_like(x, self.fmt.min)
        for cut in self.cuts:
            levels += self.step * (x >= cut)
        return levels

    def forward(self, x: Tensor) -> Tensor:
        """`x` at its levels."""
        clipped = x.clamp(-1.0, 1.0)
        return clipped + self.levels(x.detach()).sub_(clipped.detach())
