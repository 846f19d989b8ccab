"""Seeded networks that need no training: a ResNet-8-shaped convolution stack, and random small networks.

Weights are random; requantisation is calibrated on a seeded random batch, so that activations spread over
the range instead of sticking to its ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formats import Format, FormatKind
from .layer_parts import window_count
from .layers import Conv, Flatten, Layer, Linear, MaxPool, Requantize
from .network import Network, Tensor
from .numerics import Rounding, quantize_multiplier
from .reference import run_layer, run_reference
from .weights import WeightRecord

__all__ = ["random_input", "random_network", "resnet8_stack"]

_INT8, _INT32 = Format.parse("int8"), Format.parse("int32")
_CALIBRATION_IMAGES = 4
_POOL_PIXELS = 16
"""The most pixels in a random pool window: what the smallest core accumulates at once."""


class _Stack:
    """A network under construction, with a calibration batch that has run as far as it reaches."""

    def __init__(self, name: str, rng: np.random.Generator, shape: tuple[int, ...], zero_point: int) -> None:
        self.name = name
        self.rng = rng
        self.last = Tensor(name="input", shape=shape, fmt=_INT8, scale=1.0 / 128, zero_point=zero_point)
        self.tensors = {"input": self.last}
        self.layers: list[Layer] = []
        self.weights: dict[str, WeightRecord] = {}
        self.batch: NDArray[Any] = rng.integers(-128, 128, (_CALIBRATION_IMAGES, *shape), dtype=np.int8)

    def network(self) -> Network:
        """The network so far."""
        return Network(
            name=self.name,
            input="input",
            output=self.last.name,
            tensors=self.tensors,
            layers=tuple(self.layers),
            weights=self.weights,
        )

    def _append(self, layer: Layer, tensor: Tensor) -> None:
        self.tensors[tensor.name] = tensor
        self.layers.append(layer)
        self.last = tensor

    def _step(self, layer: Layer, shape: tuple[int, ...]) -> None:
        """Adds a layer that keeps format, scale and zero point."""
        tensor = Tensor(
            name=layer.output,
            shape=shape,
            fmt=self.last.fmt,
            scale=self.last.scale,
            zero_point=self.last.zero_point,
        )
        self._append(layer, tensor)
        self.batch = run_layer(self.network(), layer, self.batch)

    def core(
        self,
        layer: Conv | Linear,
        values: NDArray[np.integer[Any]],
        *,
        fmt: Format = _INT8,
        rounding: Rounding,
        zero_point: int,
        low: int,
        high: int,
        spread: NDArray[np.float64],
        centre: NDArray[np.float64],
    ) -> None:
        """Adds `layer` and its requantisation, calibrated so that channel k's results have about the
        standard deviation spread[k] and the mean centre[k], before the clamp.
        """
        count = values.shape[0]
        record = WeightRecord.dense(layer=layer.name, values=values, fmt=fmt, scales=np.full(count, 2.0**-9))
        source = self.last
        acc = Tensor(name=layer.output, shape=layer.output_shape(source.shape, values.shape), fmt=_INT32)
        self.weights[layer.name] = record
        self._append(layer, acc)
        sums = run_layer(self.network(), layer, self.batch).astype(np.float64)
        axes = (0, *range(2, sums.ndim))
        mean, deviation = sums.mean(axis=axes), sums.std(axis=axes)
        wanted = np.minimum(spread / np.maximum(deviation, 1.0), 1 - 2.0**-31)
        pairs = [quantize_multiplier(float(real)) for real in wanted]
        multiplier = np.array([pair[0] for pair in pairs], np.int32)
        shift = np.array([pair[1] for pair in pairs], np.int32)
        # Some multipliers give up leading zeros for a smaller shift, as importers' may.
        spare = np.minimum(self.rng.integers(0, 12, count) * self.rng.integers(0, 2, count), shift)
        multiplier, shift = multiplier >> spare.astype(np.int32), shift - spare.astype(np.int32)
        bias = np.rint((centre - zero_point) / wanted - mean).astype(np.int64)
        self.weights[layer.name] = WeightRecord.dense(
            layer=layer.name,
            values=values,
            fmt=fmt,
            scales=record.scales,
            bias=np.clip(bias, -(1 << 30), 1 << 30),
        )
        self.batch = run_layer(self.network(), layer, self.batch)
        out = Tensor(name=f"{layer.name}.out", shape=acc.shape, fmt=_INT8, scale=1.0, zero_point=zero_point)
        post = Requantize(
            name=f"{layer.name}.requantize",
            input=acc.name,
            output=out.name,
            multiplier=multiplier,
            shift=shift,
            rounding=rounding,
            low=low,
            high=high,
        )
        self._append(post, out)
        self.batch = run_layer(self.network(), post, self.batch)

    def pool(self, name: str, kernel: tuple[int, int]) -> None:
        """Adds a max pool whose windows neither overlap nor are padded."""
        layer = MaxPool(name=name, input=self.last.name, output=f"{name}.out", kernel=kernel, stride=kernel)
        self._step(layer, layer.output_shape(self.last.shape))

    def flatten(self, name: str) -> None:
        """Adds a flatten if the last tensor is an image."""
        if len(self.last.shape) == 3:
            layer = Flatten(name=name, input=self.last.name, output=f"{name}.out")
            self._step(layer, (math.prod(self.last.shape),))


def resnet8_stack(seed: int = 0) -> Network:
    """An int8 stack with the convolution shapes of MLPerf Tiny's ResNet-8 for 32×32×3 images.

    Seven 3×3 convolutions (3 × 16 channels at 32×32, 2 × 32 at 16×16, 2 × 64 at 8×8; stride 2 where the
    picture shrinks, padded as Keras' "same"), each with ReLU; a 4×4 max pool; a linear layer of 10.
    A plain stack: ResNet-8's residual adds and their 1×1 convolutions are left out, and its global
    average pool is a max pool. Weights are random, not trained, from `seed`.

    Source of the shapes: Banbury et al. 2021, MLPerf Tiny Benchmark, image classification.
    """
    rng = np.random.default_rng([seed, 8])
    stack = _Stack("resnet8_stack", rng, (3, 32, 32), 0)
    plan = [(16, 1), (16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)]
    for number, (channels, stride) in enumerate(plan, 1):
        depth = stack.last.shape[0]
        name = f"conv{number}"
        layer = Conv(
            name=name,
            input=stack.last.name,
            output=f"{name}.acc",
            stride=(stride, stride),
            padding=(1, 1, 1, 1) if stride == 1 else (0, 0, 1, 1),
        )
        stack.core(
            layer,
            _gaussian(rng, (channels, depth, 3, 3)),
            rounding=Rounding.TFLITE_DOUBLE,
            zero_point=-128,
            low=-128,
            high=127,
            spread=np.full(channels, 64.0),
            centre=np.full(channels, -100.0),
        )
    stack.pool("pool", (4, 4))
    stack.flatten("flatten")
    stack.core(
        Linear(name="fc", input=stack.last.name, output="fc.acc"),
        _gaussian(rng, (10, stack.last.shape[0])),
        rounding=Rounding.TFLITE_DOUBLE,
        zero_point=0,
        low=-128,
        high=127,
        spread=np.full(10, 40.0),
        centre=np.zeros(10),
    )
    return stack.network()


def _gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Bell-shaped weights that reach ±127, as symmetric quantisation by channel makes them."""
    real = rng.standard_normal(shape).reshape(shape[0], -1)
    scaled = np.rint(real / np.abs(real).max(axis=1, keepdims=True) * 127)
    return np.asarray(scaled.reshape(shape), np.int8)


def random_input(network: Network, seed: int, batch: int = 1) -> NDArray[Any]:
    """Seeded random stored inputs that use the format's whole range, shape (B, *input shape)."""
    tensor = network.tensors[network.input]
    rng = np.random.default_rng([seed, 77])
    values = rng.integers(
        tensor.fmt.min, tensor.fmt.max, (batch, *tensor.shape), endpoint=True, dtype=np.int64
    )
    return values.astype(tensor.fmt.dtype)


def random_network(
    seed: int,
    *,
    max_layers: int = 3,
    max_channels: int = 40,
    max_image: int = 20,
    max_kernel: int = 5,
    groups: bool = False,
    weights: Sequence[str] = ("int8",),
) -> Network:
    """A small random int8 network for agreement tests; always valid, the same for the same arguments.

    Convolutions (kernel 1..max_kernel, stride 1..3, asymmetric padding, dilation 1..2), at times followed by
    a max pool whose windows neither overlap nor are padded and hold at most 16 pixels, at times by
    linear layers; every convolution and linear layer is requantised with a random rounding, zero point
    and clamp range. Weights use the whole of their format.

    Args:
        seed: at least 0.
        max_layers: convolutions and linear layers at most, at least 1.
        max_channels: of input and layers.
        max_image: pixels along an input's side at most.
        max_kernel: along a side.
        groups: whether convolutions may have groups.
        weights: formats, of which each layer draws one: int8, ternary, binary.

    Raises:
        ValueError: a limit below 1, or a format that weights can't have here.
    """
    for name, limit in (
        ("max_layers", max_layers),
        ("max_channels", max_channels),
        ("max_image", max_image),
        ("max_kernel", max_kernel),
    ):
        if limit < 1:
            raise ValueError(f"{name} must be at least 1, not {limit}")
    for fmt in weights:
        if fmt not in ("int8", "ternary", "binary"):
            raise ValueError(f"weights must be of int8, ternary or binary, not {fmt}")
    network: Network | None = None
    for attempt in range(16):
        rng = np.random.default_rng([seed, attempt])
        network = _random(rng, seed, max_layers, max_channels, max_image, max_kernel, groups, weights)
        results = run_reference(network, random_input(network, seed, 4))
        _, counts = np.unique(results, return_counts=True)
        if counts.max() <= results.size / 2:  # no value is half of all
            break
    assert network is not None
    return network


def _random(
    rng: np.random.Generator,
    seed: int,
    max_layers: int,
    max_channels: int,
    max_image: int,
    max_kernel: int,
    groups: bool,
    formats: Sequence[str],
) -> Network:
    def draw(low: int, high: int) -> int:
        return int(rng.integers(low, high, endpoint=True))

    shape: tuple[int, ...]
    if rng.random() < 0.15:
        shape = (draw(1, max_channels * 4),)
    else:
        shape = (draw(1, max_channels), draw(1, max_image), draw(1, max_image))
    stack = _Stack(f"random_{seed}", rng, shape, draw(-128, 127))
    count = draw(1, max_layers)
    for number in range(1, count + 1):
        channels = draw(1, max_channels)
        name = f"layer{number}"
        core: Conv | Linear
        flat = len(stack.last.shape) == 1 or (number == count > 1 and rng.random() < 0.3)
        if flat:
            stack.flatten(f"flatten{number}")
            core = Linear(name=name, input=stack.last.name, output=f"{name}.acc")
            weights: tuple[int, ...] = (channels, stack.last.shape[0])
        else:
            core, weights = _random_conv(rng, stack.last, name, channels, max_kernel, groups)
        # One format draws nothing, so that int8 networks stay what they were.
        fmt = Format.parse(formats[0] if len(formats) == 1 else str(rng.choice(list(formats))))
        if fmt.kind == FormatKind.BINARY:
            values = rng.integers(0, 2, weights, dtype=np.int8) * 2 - 1
        else:
            values = rng.integers(max(fmt.min, -128), fmt.max + 1, weights, dtype=np.int8)
        values.reshape(weights[0], -1)[:, 0] |= 1  # no channel without weights
        low, high = draw(-128, -10), draw(10, 127)
        outputs = weights[0]
        stack.core(
            core,
            values,
            fmt=fmt,
            rounding=Rounding(draw(0, 3)),
            zero_point=draw(-128, 127),
            low=low,
            high=high,
            spread=(high - low) * rng.uniform(0.15, 0.6, outputs),
            centre=low + (high - low) * rng.uniform(0.3, 0.7, outputs),
        )
        if not flat and rng.random() < 0.4:
            _, height, width = stack.last.shape
            ky = draw(1, min(4, height))
            kx = draw(1, min(_POOL_PIXELS // ky, 4, width))
            if ky * kx > 1:
                stack.pool(f"pool{number}", (ky, kx))
    return stack.network()


def _random_conv(
    rng: np.random.Generator,
    source: Tensor,
    name: str,
    channels: int,
    max_kernel: int,
    groups: bool,
) -> tuple[Conv, tuple[int, ...]]:
    """A convolution that fits `source`, and the shape of its weights."""

    def axis(size: int) -> tuple[int, int, int, int, int]:
        """(kernel, stride, before, after, dilation) with at least one window."""
        while True:
            kernel, stride = int(rng.integers(1, max_kernel + 1)), int(rng.integers(1, 4))
            dilation = 2 if rng.random() < 0.25 else 1
            reach = dilation * (kernel - 1)
            before, after = (int(n) for n in rng.integers(0, min(reach, 3) + 1, 2))
            if window_count(size, kernel, stride, before, after, dilation) >= 1:
                return kernel, stride, before, after, dilation

    fy, sy, top, bottom, dy = axis(source.shape[1])
    fx, sx, left, right, dx = axis(source.shape[2])
    depth, parts = source.shape[0], 1
    if groups and rng.random() < 0.5:
        parts = int(rng.choice([n for n in range(1, depth + 1) if depth % n == 0]))
        channels = parts * max(1, channels // parts)
    layer = Conv(
        name=name,
        input=source.name,
        output=f"{name}.acc",
        stride=(sy, sx),
        padding=(top, left, bottom, right),
        dilation=(dy, dx),
        groups=parts,
    )
    return layer, (channels, depth // parts, fy, fx)
