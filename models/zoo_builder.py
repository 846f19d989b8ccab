"""Draws layers with weights and what follows their accumulators, on activations of every format."""

from __future__ import annotations

import dataclasses

import numpy as np

from .formats import Format, FormatKind
from .layers import Conv, Linear
from .network import Tensor
from .numerics import Rounding
from .stack import INT8, Stack
from .zoo_plain import random_conv, random_values, random_weights

__all__ = ["Builder", "whole"]

_THRESHOLDS = (1, 2, 3, 7, 15, 255)


class Builder:
    """Draws layers and puts them onto a stack."""

    def __init__(
        self,
        stack: Stack,
        max_channels: int,
        max_kernel: int,
        formats: list[tuple[str, str]],
        counted: bool,
    ) -> None:
        self.stack = stack
        self.rng = stack.rng
        self.max_channels = max_channels
        self.max_kernel = max_kernel
        self.formats = formats
        self.counted = counted

    def draw(self, low: int, high: int) -> int:
        """An integer from low to high."""
        return int(self.rng.integers(low, high, endpoint=True))

    def chance(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return bool(self.rng.random() < probability)

    def channels(self, limit: int) -> int:
        """1..limit, more often than not a multiple of 4 or 8."""
        count = self.draw(1, limit)
        step = self.draw(1, 2) * 4
        return count if self.chance(0.4) or count < step else count // step * step

    def weight_format(self, act: Format) -> Format:
        """A format that weights on these activations may have."""
        names = [weight for weight, name in self.formats if name == act.name] or ["int8"]
        return Format.parse(names[self.draw(0, len(names) - 1)])

    # Layers with weights, and what follows their accumulators.

    def core(self, name: str, weights: Format, target: Format, groups: bool) -> Tensor:
        """A linear layer or convolution on the last tensor; returns activations of the format `target`."""
        source, channels = self.stack.last, self.channels(self.max_channels)
        if len(source.shape) == 1:
            return self.linear(name, source, channels, weights, target)
        layer, shape = random_conv(self.rng, source, name, channels, self.max_kernel, False)
        parts = self.divisions(source, target)
        if groups and parts and self.chance(0.5):
            layer = dataclasses.replace(layer, groups=parts[self.draw(0, len(parts) - 1)])
            channels = whole(channels, target, layer.groups)
        return self.conv(layer, channels, shape[2:], weights, target)

    def divisions(self, source: Tensor, target: Format) -> list[int]:
        """How many groups, from 2 on, a convolution may have: a group's channels fill whole bytes of a pixel
        in the input, and can in an output of the format `target`.
        """
        count = source.shape[0]
        return [
            groups
            for groups in range(2, count + 1)
            if count % groups == 0
            and count // groups * source.fmt.bits % 8 == 0
            and whole(1, target, groups) <= self.max_channels
        ]

    def linear(
        self,
        name: str,
        source: Tensor,
        channels: int,
        weights: Format,
        target: Format,
        like: Tensor | None = None,
    ) -> Tensor:
        """A linear layer from `source`; returns its activations."""
        layer = Linear(name=name, input=source.name, output=f"{name}.acc")
        return self.weighted(layer, (channels, source.shape[0]), weights, target, like)

    def conv(
        self,
        layer: Conv,
        channels: int,
        kernel: tuple[int, ...],
        weights: Format,
        target: Format,
        like: Tensor | None = None,
    ) -> Tensor:
        """Adds `layer` with `channels` outputs; padding inserts the zero point or any other value."""
        source = self.stack.tensors[layer.input]
        if any(layer.padding) and (source.fmt.kind == FormatKind.BINARY or self.chance(0.2)):
            value = int(random_values(self.rng, source.fmt, (1,))[0])
            layer = dataclasses.replace(layer, pad_value=value)
        if layer.groups == source.shape[0] > 1:
            weights = INT8  # the lane-wise kind's only weights
        shape = (channels, source.shape[0] // layer.groups, *kernel)
        return self.weighted(layer, shape, weights, target, like)

    def weighted(
        self,
        layer: Conv | Linear,
        shape: tuple[int, ...],
        weights: Format,
        target: Format,
        like: Tensor | None = None,
    ) -> Tensor:
        """Adds `layer` with random weights of this shape; returns its activations."""
        values = random_weights(self.rng, weights, shape)
        requantized = self.requantized(target)
        bias = None
        if not requantized and self.chance(0.2):
            bias = self.rng.integers(-30, 31, shape[0])
        acc = self.stack.sums(layer, values, weights, bias)
        return self.post(layer.name, acc, target, requantized, layer.name, like)

    def requantized(self, target: Format) -> bool:
        """Whether activations of the format come from a Requantize, not from Thresholds."""
        if target.kind == FormatKind.BINARY:
            return False
        return self.chance(0.3) if target.kind == FormatKind.TERNARY else not self.counted or self.chance(0.7)

    def post(
        self,
        name: str,
        acc: Tensor,
        target: Format,
        requantized: bool,
        bias_of: str | None,
        like: Tensor | None = None,
    ) -> Tensor:
        """Activations of accumulators; with the scale and zero point of `like`, where that is given."""
        rng, count = self.rng, acc.shape[0]
        scale = like.scale if like is not None and like.scale is not None else 1.0
        zero_point = self.draw(-128, 127) if target == INT8 else 0
        zero_point = zero_point if like is None else like.zero_point
        if requantized:
            low, high = (self.draw(-128, -10), self.draw(10, 127)) if target == INT8 else (-1, 1)
            spread = rng.uniform(0.15, 0.6, count) if target == INT8 else rng.uniform(0.3, 0.6, count)
            return self.stack.requantize(
                name,
                acc,
                rounding=Rounding(self.draw(0, 3)),
                zero_point=zero_point,
                low=low,
                high=high,
                spread=(high - low) * spread,
                centre=low + (high - low) * rng.uniform(0.35, 0.65, count),
                fmt=target,
                scale=scale,
                bias_of=bias_of,
            )
        if target.kind == FormatKind.BINARY:
            number, low, step = 1, -1, 2
        elif target.kind == FormatKind.TERNARY:
            number, low, step = (1, -1, 2) if self.chance(0.1) else (2, -1, 1)
        else:
            odds = (0.2, 0.15, 0.15, 0.25, 0.2, 0.05)
            number = int(rng.choice(_THRESHOLDS, p=odds)) if self.chance(0.9) else self.draw(1, 255)
            step = 2 if number < 128 and self.chance(0.3) else 1
            low = self.draw(-128, 127 - step * number)
        places = (np.arange(1, number + 1) + rng.uniform(-0.3, 0.3, number)) / (number + 1)
        lacking = rng.random(count) < (0.1 if number > 1 and self.chance(0.2) else 0.0)
        return self.stack.thresholds(
            name,
            acc,
            quantiles=places,
            lacking=lacking,
            low=low,
            step=step,
            fmt=target,
            scale=scale,
            zero_point=zero_point,
        )


def whole(channels: int, fmt: Format, groups: int) -> int:
    """About `channels`, in so many groups that fill whole bytes of a pixel each, at least one byte."""
    step = groups * (8 // fmt.bits)
    return max(1, channels // step) * step
