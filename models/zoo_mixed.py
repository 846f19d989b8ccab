"""Random graphs: residual adds, pools, depthwise and grouped convolutions, concatenations and shuffles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from .bounds import accumulator_range
from .formats import Format
from .layer_parts import window_count
from .layers import Add, AvgPool, Concat, Conv, Linear, MaxPool, PlaneSum, Requantize, Shuffle
from .network import Network, Tensor
from .numerics import Rounding, quantize_multiplier
from .stack import INT8, INT32, Stack
from .zoo_builder import Builder, whole
from .zoo_plain import POOL_PIXELS, random_conv, random_values, random_weights

__all__ = ["mixed_network"]

_CALIBRATION_IMAGES = 16


def mixed_network(
    rng: np.random.Generator,
    seed: int,
    *,
    max_layers: int,
    max_channels: int,
    max_image: int,
    max_kernel: int,
    groups: bool,
    formats: list[tuple[str, str]],
    counted: bool,
    vector: bool,
    planes: int = 1,
) -> Network:
    """A network as `zoo.random_network` describes it; `counted`: int8 may come from thresholds too."""
    count = int(rng.integers(1, max_layers, endpoint=True))
    pairs = [formats[int(rng.integers(len(formats)))] for _ in range(count)]
    last = sorted({"int8", *(act for _, act in formats)})
    acts = [act for _, act in pairs] + [last[int(rng.integers(len(last)))]]
    fmt = Format.parse(acts[0])
    shape: tuple[int, ...]
    if rng.random() < 0.15:
        shape = (int(rng.integers(1, max_channels * 4, endpoint=True)),)
    else:
        channels, height, width = rng.integers(1, [max_channels, max_image, max_image], endpoint=True)
        shape = (int(channels), int(height), int(width))
    zero_point = int(rng.integers(-128, 128)) if fmt == INT8 else 0
    source = Tensor(name="input", shape=shape, fmt=fmt, scale=1.0 / 128, zero_point=zero_point)
    batch = random_values(rng, fmt, (_CALIBRATION_IMAGES, *shape))
    stack = Stack(f"random_{seed}", rng, source, batch)
    builder = _Blocks(stack, max_channels, max_kernel, formats, counted)
    for number in range(1, count + 1):
        if planes > 1 and stack.last.fmt == INT8 and rng.random() < 0.6:
            builder.planes(f"planes{number}", int(rng.integers(2, planes, endpoint=True)))
        if vector and rng.random() < 0.8:
            builder.block(f"block{number}")
            if rng.random() < 0.3:
                builder.block(f"second{number}")
        if number == count > 1 and rng.random() < 0.3:
            stack.flatten(f"flatten{number}")
        target = Format.parse(acts[number])
        result = builder.core(f"layer{number}", Format.parse(pairs[number - 1][0]), target, groups)
        if len(result.shape) == 3 and rng.random() < 0.4:
            _, height, width = result.shape
            ky = builder.draw(1, min(4, height))
            kx = builder.draw(1, min(POOL_PIXELS // ky, 4, width))
            if ky * kx > 1:
                stack.pool(f"pool{number}", (ky, kx))
    return stack.network()


class _Blocks(Builder):
    """Draws blocks, which leave the format of the last tensor as it was."""

    def block(self, name: str) -> None:
        """Adds one of the blocks that the last tensor can take, if there is one."""
        source = self.stack.last
        image, int8 = len(source.shape) == 3, source.fmt == INT8
        makers: list[Callable[[str, Tensor], None]] = []
        if int8:
            makers.append(self._residual)
            if any(source.shape[0] % groups == 0 for groups in range(2, source.shape[0])):
                makers.append(self._shuffle)
        if int8 and image:
            makers += [self._average, self._maximum, self._depthwise]
        if image and self._grouped_divisions(source):
            makers.append(self._grouped)
        if whole(1, source.fmt, 1) <= self.max_channels // 2 and (int8 or self.chance(0.5)):
            makers.append(self._concat)
        if makers:
            makers[self.draw(0, len(makers) - 1)](name, source)

    def planes(self, name: str, count: int) -> None:
        """A convolution or linear layer of `count` weight planes, which keeps a picture's size."""
        source, channels = self.stack.last, self.channels(self.max_channels)
        weights = self.weight_format(source.fmt)
        layer: Conv | Linear
        shape: tuple[int, ...]
        if len(source.shape) == 1:
            layer = Linear(name=name, input=source.name, output=f"{name}.acc")
            shape = (count * channels, source.shape[0])
        else:
            side = 3 if self.max_kernel >= 3 and self.chance(0.6) else 1
            layer = Conv(name=name, input=source.name, output=f"{name}.acc", padding=(side // 2,) * 4)
            shape = (count * channels, source.shape[0], side, side)
        bias = self.rng.integers(-30, 31, shape[0]) if self.chance(0.5) else None
        acc = self.stack.sums(layer, random_weights(self.rng, weights, shape), weights, bias)
        least, most = accumulator_range(layer, [source], self.stack.weights[name])
        room = 31 - max(int(-least.min()), int(most.max())).bit_length()
        rounding = Rounding(self.draw(0, 3))
        pairs = [quantize_multiplier(float(real)) for real in self.rng.uniform(0.01, 0.999 / count, shape[0])]
        summed = PlaneSum(
            name=f"{name}.sum",
            input=acc.name,
            output=f"{name}.summed",
            planes=count,
            multiplier=np.array([pair[0] for pair in pairs]),
            shift=np.array([pair[1] for pair in pairs]),
            left_shift=min(20, room),
            rounding=rounding,
        )
        total = self.stack.append(
            summed, Tensor(name=summed.output, shape=summed.output_shape(acc.shape), fmt=INT32)
        )
        low, high = self.draw(-128, -10), self.draw(10, 127)
        self.stack.rescale_sum(
            name,
            total,
            rounding=rounding,
            low=low,
            high=high,
            spread=(high - low) * float(self.rng.uniform(0.2, 0.6)),
            centre=(low + high) / 2,
        )

    def _branch(self, name: str, source: Tensor, channels: int, like: Tensor | None = None) -> Tensor:
        """A linear layer, or a convolution that keeps the picture's size, from `source`."""
        weights = self.weight_format(source.fmt)
        if len(source.shape) == 1:
            return self.linear(name, source, channels, weights, source.fmt, like)
        side = 3 if self.max_kernel >= 3 and self.chance(0.6) else 1
        layer = Conv(name=name, input=source.name, output=f"{name}.acc", padding=(side // 2,) * 4)
        return self.conv(layer, channels, (side, side), weights, source.fmt, like)

    def _residual(self, name: str, source: Tensor) -> None:
        """A branch, and another one or the source itself, added."""
        channels = source.shape[0]
        parts = [self._branch(f"{name}.a", source, channels), source]
        if self.chance(0.4):
            parts[1] = self._branch(f"{name}.b", source, channels)
        if self.chance(0.5):
            parts.reverse()
        rounding = Rounding(self.draw(0, 3))
        tflite = rounding == Rounding.TFLITE_DOUBLE and self.chance(0.7)
        pairs = [quantize_multiplier(float(real)) for real in self.rng.uniform(0.25, 0.999, 2)]
        layer = Add(
            name=name,
            inputs=(parts[0].name, parts[1].name),
            output=f"{name}.acc",
            multiplier=np.array([pair[0] for pair in pairs]),
            shift=np.array([pair[1] for pair in pairs]),
            left_shift=20 if tflite else self.draw(0, 20),
            rounding=rounding,
        )
        acc = self.stack.append(layer, Tensor(name=layer.output, shape=source.shape, fmt=INT32))
        low, high = self.draw(-128, -10), self.draw(10, 127)
        self.stack.rescale_sum(
            name,
            acc,
            rounding=rounding,
            low=low,
            high=high,
            spread=(high - low) * float(self.rng.uniform(0.2, 0.6)),
            centre=low + (high - low) * float(self.rng.uniform(0.35, 0.65)),
        )

    def _window(self, source: Tensor) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
        """Kernel, stride and padding of a pool that fits `source`."""
        _, height, width = source.shape
        ky = self.draw(1, min(4, height))
        kx = self.draw(2 if ky == 1 else 1, min(POOL_PIXELS // ky, 4))
        padding = []
        for size, kernel in ((height, ky), (width, kx)):
            before = after = 0
            if self.chance(0.5) or size < kernel:
                before, after = self.draw(0, kernel - 1), self.draw(0, kernel - 1)
            while window_count(size, kernel, 1, before, after, 1) < 1:
                before += 1
            padding.append((before, after))
        (top, bottom), (left, right) = padding
        return (ky, kx), (self.draw(1, 3), self.draw(1, 3)), (top, left, bottom, right)

    def _maximum(self, name: str, source: Tensor) -> None:
        """A max pool whose windows may overlap and be padded."""
        kernel, stride, padding = self._window(source)
        layer = MaxPool(
            name=name,
            input=source.name,
            output=f"{name}.out",
            kernel=kernel,
            stride=stride,
            padding=padding,
        )
        self.stack.step(layer, layer.output_shape(source.shape))

    def _average(self, name: str, source: Tensor) -> None:
        """An average pool, at times of the whole picture, with the plain mean or a scale for each channel."""
        _, height, width = source.shape
        whole_picture = ((height, width), (1, 1), (0, 0, 0, 0))
        kernel, stride, padding = whole_picture if self.chance(0.4) else self._window(source)
        layer = AvgPool(
            name=name,
            input=source.name,
            output=f"{name}.acc",
            kernel=kernel,
            stride=stride,
            padding=padding,
        )
        shape = layer.output_shape(source.shape)
        acc = self.stack.append(layer, Tensor(name=layer.output, shape=shape, fmt=INT32))
        pixels = layer.kernel[0] * layer.kernel[1]
        if pixels == 1 or self.chance(0.7):
            self.post(name, acc, INT8, self.requantized(INT8), None)
            return
        multiplier, shift = quantize_multiplier(1 / pixels)
        mean = Requantize(
            name=f"{name}.requantize",
            input=acc.name,
            output=f"{name}.out",
            multiplier=np.full(shape[0], multiplier),
            shift=np.full(shape[0], shift),
            rounding=Rounding(self.draw(0, 3)),
            low=-128,
            high=127,
            bias=np.full(shape[0], -pixels * source.zero_point),
        )
        self.stack.append(mean, dataclasses.replace(source, name=mean.output, shape=shape))

    def _depthwise(self, name: str, source: Tensor) -> None:
        """A convolution of each channel alone, with int8 weights."""
        channels = source.shape[0]
        layer, shape = random_conv(self.rng, source, name, channels, self.max_kernel, False)
        layer = dataclasses.replace(layer, groups=channels)
        self.conv(layer, channels, shape[2:], INT8, INT8)

    def _grouped_divisions(self, source: Tensor) -> list[int]:
        return [groups for groups in self.divisions(source, source.fmt) if groups < source.shape[0]]

    def _grouped(self, name: str, source: Tensor) -> None:
        """A convolution in groups of more than one channel, at times with a shuffle after it."""
        parts = self._grouped_divisions(source)
        groups = parts[self.draw(0, len(parts) - 1)]
        channels = whole(self.channels(self.max_channels), source.fmt, groups)
        layer, shape = random_conv(self.rng, source, name, channels, self.max_kernel, False)
        layer = dataclasses.replace(layer, groups=groups)
        result = self.conv(layer, channels, shape[2:], self.weight_format(source.fmt), source.fmt)
        if result.fmt == INT8 and self.chance(0.4):
            self._mix(f"{name}.shuffle", result, groups)

    def _shuffle(self, name: str, source: Tensor) -> None:
        """The channels in another order."""
        count = source.shape[0]
        divisors = [groups for groups in range(2, count) if count % groups == 0]
        self._mix(name, source, divisors[self.draw(0, len(divisors) - 1)])

    def _mix(self, name: str, source: Tensor, groups: int) -> None:
        layer = Shuffle(name=name, input=source.name, output=f"{name}.out", groups=groups)
        self.stack.step(layer, source.shape)

    def _concat(self, name: str, source: Tensor) -> None:
        """Two branches side by side, or a branch and the source itself."""
        limit = self.max_channels // 2
        parts: list[Tensor] = []
        if source.shape[0] <= self.max_channels and source.shape[0] * source.fmt.bits % 8 == 0:
            parts = [source] if self.chance(0.5) else []
        while len(parts) < 2:
            channels = whole(self.channels(limit), source.fmt, 1)
            like = parts[0] if parts else None
            parts.append(self._branch(f"{name}.{len(parts)}", source, channels, like))
        if self.chance(0.3):
            parts.reverse()
        layer = Concat(name=name, inputs=tuple(part.name for part in parts), output=f"{name}.out")
        shape = layer.output_shape([part.shape for part in parts])
        self.stack.step(layer, shape)
