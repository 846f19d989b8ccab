"""Seeded networks that need no training: a ResNet-8-shaped convolution stack, and random small networks.

Weights are random; requantisation is calibrated on a seeded random batch, so that activations spread over
the range instead of sticking to its ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formats import Format, FormatKind
from .layers import Conv, Linear, Thresholds
from .network import Network, Tensor
from .numerics import Rounding
from .reference import run_reference
from .stack import INT8, Stack
from .zoo_mixed import mixed_network
from .zoo_plain import plain_network, random_values

__all__ = ["FORMATS", "random_input", "random_network", "resnet8_stack"]

FORMATS = (
    ("int8", "int8"),
    ("ternary", "int8"),
    ("binary", "int8"),
    ("ternary", "ternary"),
    ("binary", "binary"),
)
"""Formats of (weights, activations) that a layer of a random network may have."""


def resnet8_stack(seed: int = 0, *, weights: str = "int8") -> Network:
    """An int8 stack with the convolution shapes of MLPerf Tiny's ResNet-8 for 32×32×3 images.

    Seven 3×3 convolutions (3 × 16 channels at 32×32, 2 × 32 at 16×16, 2 × 64 at 8×8; stride 2 where the
    picture shrinks, padded as Keras' "same"), each with ReLU; a 4×4 max pool; a linear layer of 10.
    A plain stack: ResNet-8's residual adds and their 1×1 convolutions are left out, and its global
    average pool is a max pool. Weights are random, not trained, from `seed`.

    Args:
        seed: of the weights.
        weights: int8, ternary or binary, of all convolutions but the first; the linear layer keeps int8, too.

    Raises:
        ValueError: another format of weights.
    Source of the shapes: Banbury et al. 2021, MLPerf Tiny Benchmark, image classification.
    """
    if weights not in _OF_GAUSSIAN:
        raise ValueError(f"weights must be one of {', '.join(_OF_GAUSSIAN)}, not {weights!r}")
    rng = np.random.default_rng([seed, 8])
    batch = rng.integers(-128, 128, (4, 3, 32, 32), dtype=np.int8)
    source = Tensor(name="input", shape=(3, 32, 32), fmt=INT8, scale=1.0 / 128)
    stack = Stack("resnet8_stack" if weights == "int8" else f"resnet8_stack_{weights}", rng, source, batch)
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
        fmt = "int8" if number == 1 else weights
        values = _OF_GAUSSIAN[fmt](_gaussian(rng, (channels, depth, 3, 3)))
        stack.requantize(
            name,
            stack.sums(layer, values, Format.parse(fmt)),
            bias_of=name,
            rounding=Rounding.TFLITE_DOUBLE,
            zero_point=-128,
            low=-128,
            high=127,
            spread=np.full(channels, 64.0),
            centre=np.full(channels, -100.0),
        )
    stack.pool("pool", (4, 4))
    stack.flatten("flatten")
    linear = Linear(name="fc", input=stack.last.name, output="fc.acc")
    stack.requantize(
        "fc",
        stack.sums(linear, _gaussian(rng, (10, stack.last.shape[0]))),
        bias_of="fc",
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


def _signs(weights: NDArray[np.int8]) -> NDArray[np.int8]:
    return np.where(weights < 0, -1, 1).astype(np.int8)


def _trits(weights: NDArray[np.int8]) -> NDArray[np.int8]:
    """−1, 0 and 1, zero below 0.7 of the mean magnitude (Li and Liu 2016, ternary weight networks)."""
    magnitude = np.abs(weights.astype(np.int16))
    return np.where(magnitude > 0.7 * magnitude.mean(), _signs(weights), 0).astype(np.int8)


_OF_GAUSSIAN: Mapping[str, Callable[[NDArray[np.int8]], NDArray[np.int8]]] = {
    "int8": lambda weights: weights,
    "ternary": _trits,
    "binary": _signs,
}
"""Weights of each format from bell-shaped ones."""


def random_input(network: Network, seed: int, batch: int = 1) -> NDArray[Any]:
    """Seeded random stored inputs that use the format's whole range, shape (B, *input shape)."""
    tensor = network.tensors[network.input]
    return random_values(np.random.default_rng([seed, 77]), tensor.fmt, (batch, *tensor.shape))


def random_network(
    seed: int,
    *,
    max_layers: int = 3,
    max_channels: int = 40,
    max_image: int = 20,
    max_kernel: int = 5,
    groups: bool = False,
    weights: Sequence[str] = ("int8",),
    formats: Sequence[tuple[str, str]] = (),
    vector: bool = False,
    planes: int = 1,
) -> Network:
    """A small random network for agreement tests; always valid, the same for the same arguments.

    Convolutions (kernel 1..max_kernel, stride 1..3, asymmetric padding, dilation 1..2), at times followed by
    a max pool whose windows neither overlap nor are padded and hold at most 16 pixels, at times by
    linear layers; every convolution and linear layer is requantised with a random rounding, zero point
    and clamp range. Weights use the whole of their format.

    With `formats`, activations that the next layer takes as ternary or binary come from thresholds, or, if
    ternary, from a requantisation clamped to −1..1; int8 ones from either. Input and output may be of any
    of the formats. Padding of a binary convolution inserts −1 or 1. With `vector`, blocks stand before the
    layers: residual adds, average, global and overlapping max pools (of at most 16 pixels), depthwise and
    grouped convolutions, concatenations and shuffles. A part of the channels of a ternary or binary tensor
    takes whole bytes of a pixel.

    Args:
        seed: at least 0.
        max_layers: convolutions and linear layers at most, at least 1; a block may add one before each.
        max_channels: of input and layers; concatenations may have twice as many.
        max_image: pixels along an input's side at most.
        max_kernel: along a side.
        groups: whether convolutions may have groups.
        weights: formats, of which each layer draws one: int8, ternary, binary. Activations are int8.
        formats: pairs of `FORMATS`, (weights, activations), of which each layer draws one, instead of
            `weights`.
        vector: whether there are blocks.
        planes: weight planes that a layer sums at most; above 1 layers on int8 may have 2 or more.

    Raises:
        ValueError: a limit below 1, a format that there isn't, or both `weights` and `formats` given.
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
    if formats and tuple(weights) != ("int8",):
        raise ValueError("give either weights or formats, not both")
    for pair in formats:
        if tuple(pair) not in FORMATS:
            raise ValueError(f"formats must be of {', '.join('/'.join(p) for p in FORMATS)}, not {pair!r}")
    network: Network | None = None
    for attempt in range(16):
        rng = np.random.default_rng([seed, attempt])
        if formats or vector or planes > 1:
            pairs = [(str(w), str(a)) for w, a in formats or [(fmt, "int8") for fmt in weights]]
            network = mixed_network(
                rng,
                seed,
                max_layers=max_layers,
                max_channels=max_channels,
                max_image=max_image,
                max_kernel=max_kernel,
                groups=groups,
                formats=pairs,
                counted=bool(formats),
                vector=vector,
                planes=planes,
            )
        else:
            network = plain_network(
                rng, seed, max_layers, max_channels, max_image, max_kernel, groups, weights
            )
        if _varied(network, run_reference(network, random_input(network, seed, 4))):
            break
    assert network is not None
    return network


def _varied(network: Network, results: NDArray[Any]) -> bool:
    """Whether no value is more than half of all results, or, where few values can be, nearly all."""
    _, counts = np.unique(results, return_counts=True)
    few = network.tensors[network.output].fmt.kind in (FormatKind.BINARY, FormatKind.TERNARY) or any(
        isinstance(layer, Thresholds) and layer.values.shape[1] < 7 for layer in network.layers[-2:]
    )
    return bool(counts.max() <= results.size * (0.85 if few else 0.5))
