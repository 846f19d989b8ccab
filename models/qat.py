"""The digits network in torch: float or with int8 fake quantisation, one module for both.

Imports torch, so nothing else in this room imports it at the top.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ActivationQuantizer", "Block", "DigitsNet", "weight_levels", "weight_scale"]


def weight_scale(weight: Tensor) -> Tensor:
    """What a step of each output channel's weights is worth, shape (K,): max |w| / 127."""
    return weight.detach().flatten(1).abs().amax(1).clamp_min(1e-8) / 127.0


def weight_levels(weight: Tensor) -> Tensor:
    """The stored integers of float weights, −127..127, symmetric by output channel, as floats."""
    scale = weight_scale(weight).view(-1, *([1] * (weight.dim() - 1)))
    return torch.round(weight / scale).clamp(-127, 127)


def _fake_quantized(weight: Tensor) -> Tensor:
    scale = weight_scale(weight).view(-1, *([1] * (weight.dim() - 1)))
    return weight + (weight_levels(weight) * scale - weight).detach()


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
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.ones(()))

    def parameters_of_range(self) -> tuple[float, int]:
        """(scale, zero point) of the range, widened to hold 0 exactly."""
        low, high = min(float(self.low), 0.0), max(float(self.high), 0.0)
        scale = max(high - low, 1e-6) / 255.0
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
                self.low += rate * (x.min() - self.low)
                self.high += rate * (x.max() - self.high)
                self.seen = True
        scale, zero_point = self.parameters_of_range()
        clipped = x.clamp((-128 - zero_point) * scale, (127 - zero_point) * scale)
        levels = torch.round(clipped.detach() / scale)
        return clipped + (levels * scale - clipped).detach()


class Block(nn.Module):
    """Convolution or linear, batch norm where there is one, ReLU, quantiser, max pool where asked."""

    def __init__(self, core: nn.Conv2d | nn.Linear, *, norm: bool, relu: bool, pool: int) -> None:
        super().__init__()
        self.core = core
        self.norm = nn.BatchNorm2d(core.weight.shape[0]) if norm else None
        self.relu = relu
        self.pool = pool
        self.quantizer = ActivationQuantizer()
        self.quantized = False

    def unquantized(self, x: Tensor) -> Tensor:
        """What the quantiser would get: after norm and ReLU, before the pool."""
        weight = _fake_quantized(self.core.weight) if self.quantized else self.core.weight
        if isinstance(self.core, nn.Conv2d):
            y = functional.conv2d(
                x,
                weight,
                self.core.bias,
                self.core.stride,
                self.core.padding,
            )
        else:
            y = functional.linear(x, weight, self.core.bias)
        if self.norm is not None:
            y = self.norm(y)
        return functional.relu(y) if self.relu else y

    def forward(self, x: Tensor) -> Tensor:
        """The block's activations, at the levels if the block is quantised."""
        y = self.unquantized(x)
        if self.quantized:
            y = self.quantizer(y)
        return functional.max_pool2d(y, self.pool) if self.pool > 1 else y


class DigitsNet(nn.Module):
    """Three convolutions and a linear layer for 8×8 images: (B, 1, 8, 8) in 0..1 → logits (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [("conv1", 1, 8, 1), ("conv2", 8, 16, 2), ("conv3", 16, 32, 2)]
        self.blocks = nn.ModuleDict(
            {
                name: Block(nn.Conv2d(c, k, 3, padding=1, bias=False), norm=True, relu=True, pool=pool)
                for name, c, k, pool in sizes
            }
        )
        self.blocks["fc"] = Block(nn.Linear(128, 10), norm=False, relu=False, pool=1)

    def named_blocks(self) -> list[tuple[str, Block]]:
        """The blocks in the order in which they run, with their names."""
        return [(name, block) for name, block in self.blocks.items() if isinstance(block, Block)]

    def set_quantized(self, on: bool) -> None:
        """Nothing; turns fake quantisation of weights and activations on or off."""
        for _, block in self.named_blocks():
            block.quantized = on

    def set_observing(self, on: bool) -> None:
        """Nothing; lets the activation ranges follow the batches, or freezes them."""
        for _, block in self.named_blocks():
            block.quantizer.observing = on

    def freeze_norms(self) -> None:
        """Nothing; batch norms use and keep their running statistics from here on."""
        for _, block in self.named_blocks():
            if block.norm is not None:
                block.norm.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (B, 10)."""
        for name, block in self.named_blocks():
            x = block(x.flatten(1) if name == "fc" else x)
        return x
