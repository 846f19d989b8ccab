"""Random stacks of convolutions, linear layers and max pools on int8 activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formats import Format, FormatKind
from .layer_parts import window_count
from .layers import Conv, Linear
from .network import Network, Tensor
from .numerics import Rounding
from .stack import INT8, Stack

__all__ = [
    "CALIBRATION_IMAGES",
    "POOL_PIXELS",
    "plain_network",
    "random_conv",
    "random_values",
    "random_weights",
]

CALIBRATION_IMAGES = 4
POOL_PIXELS = 16
"""The most pixels in a random pool window: what the smallest core accumulates at once."""


def random_values(rng: np.random.Generator, fmt: Format, shape: tuple[int, ...]) -> NDArray[Any]:
    """Stored values that use the format's whole range."""
    if fmt.kind == FormatKind.BINARY:
        return rng.integers(0, 2, shape, dtype=np.int8) * 2 - 1
    values = rng.integers(fmt.min, fmt.max, shape, endpoint=True, dtype=np.int64)
    return values.astype(fmt.dtype)


def random_weights(rng: np.random.Generator, fmt: Format, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Weights of int8, ternary or binary that use the whole range; no channel is all 0."""
    if fmt.kind == FormatKind.BINARY:
        values = random_values(rng, fmt, shape)
    else:
        values = rng.integers(fmt.min, fmt.max + 1, shape, dtype=np.int8)
    values.reshape(shape[0], -1)[:, 0] |= 1
    return values


def plain_network(
    rng: np.random.Generator,
    seed: int,
    max_layers: int,
    max_channels: int,
    max_image: int,
    max_kernel: int,
    groups: bool,
    formats: Sequence[str],
) -> Network:
    """A network as `zoo.random_network` describes it, of the formats of weights alone."""

    def draw(low: int, high: int) -> int:
        return int(rng.integers(low, high, endpoint=True))

    shape: tuple[int, ...]
    if rng.random() < 0.15:
        shape = (draw(1, max_channels * 4),)
    else:
        shape = (draw(1, max_channels), draw(1, max_image), draw(1, max_image))
    source = Tensor(name="input", shape=shape, fmt=INT8, scale=1.0 / 128, zero_point=draw(-128, 127))
    batch = rng.integers(-128, 128, (CALIBRATION_IMAGES, *shape), dtype=np.int8)
    stack = Stack(f"random_{seed}", rng, source, batch)
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
            core, weights = random_conv(rng, stack.last, name, channels, max_kernel, groups)
        # One format draws nothing, so that int8 networks stay what they were.
        fmt = Format.parse(formats[0] if len(formats) == 1 else str(rng.choice(list(formats))))
        values = random_weights(rng, fmt, weights)
        low, high = draw(-128, -10), draw(10, 127)
        outputs = weights[0]
        stack.requantize(
            name,
            stack.sums(core, values, fmt),
            bias_of=name,
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
            kx = draw(1, min(POOL_PIXELS // ky, 4, width))
            if ky * kx > 1:
                stack.pool(f"pool{number}", (ky, kx))
    return stack.network()


def random_conv(
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
