"""The integer reference: what a network computes, exactly, and judge of every other execution."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .layers import Conv, Flatten, Layer, Linear, MaxPool, Relu, Requantize
from .network import Network
from .numerics import requantize

__all__ = ["run_layer", "run_reference", "trace_reference"]

_INT32_MIN, _INT32_MAX = -(1 << 31), (1 << 31) - 1
_CHUNK_VALUES = 1 << 22
"""Values of an unfolded input held at once; images are worked through in batches of that size."""


def run_reference(network: Network, x: ArrayLike) -> NDArray[Any]:
    """The network's output for a batch, in the output format's dtype, shape (B, *output shape).

    Args:
        network: what to run.
        x: stored integers within the input's format, shape (B, *input shape).

    Raises:
        ValueError: `x` has another shape or values outside the format, or an accumulator leaves int32;
            names the layer.
    """
    return _run(network, x, keep=False)[network.output]


def trace_reference(network: Network, x: ArrayLike) -> dict[str, NDArray[Any]]:
    """Every tensor of a run, by name, each of shape (B, *tensor shape); as `run_reference`."""
    return _run(network, x, keep=True)


def _run(network: Network, x: ArrayLike, keep: bool) -> dict[str, NDArray[Any]]:
    source = network.tensors[network.input]
    batch = source.fmt.check(x, f"network {network.name}: an input value")
    if batch.shape[1:] != source.shape or batch.ndim != len(source.shape) + 1:
        raise ValueError(
            f"network {network.name}: the input must have shape (B, "
            f"{', '.join(map(str, source.shape))}), not {batch.shape}"
        )
    last_use = {layer.input: index for index, layer in enumerate(network.layers)}
    values: dict[str, NDArray[Any]] = {network.input: batch}
    for index, layer in enumerate(network.layers):
        values[layer.output] = run_layer(network, layer, values[layer.input])
        if not keep and last_use[layer.input] == index and layer.input != network.output:
            del values[layer.input]
    return values


def run_layer(network: Network, layer: Layer, x: NDArray[Any]) -> NDArray[Any]:
    """One layer's output for a batch of its input, shape (B, *output shape), in the format's dtype.

    Raises:
        ValueError: an accumulator leaves int32; names the layer.
    """
    source, result = network.tensors[layer.input], network.tensors[layer.output]
    if isinstance(layer, Conv | Linear):
        record = network.weights[layer.name]
        weights, bias = record.values, record.bias_or_zero
        most = max(abs(source.fmt.min), abs(source.fmt.max))
        if isinstance(layer, Conv):
            acc = _conv(layer, x, weights, source.zero_point, most)
            acc += bias.reshape(-1, 1, 1)
        else:
            acc = _matmul(weights, x.T, most).T + bias
        return _accumulators(layer, acc)
    if isinstance(layer, Requantize):
        return requantize(
            x,
            multiplier=layer.multiplier,
            shift=layer.shift,
            rounding=layer.rounding,
            zero_point=result.zero_point,
            low=layer.low,
            high=layer.high,
            channel_axis=1,
        ).astype(result.fmt.dtype)
    if isinstance(layer, MaxPool):
        return _max_pool(layer, x, source.fmt.min)
    if isinstance(layer, Relu):
        return np.asarray(np.maximum(x, np.array(source.zero_point, x.dtype)))
    assert isinstance(layer, Flatten)
    return x.reshape(x.shape[0], -1)


def _accumulators(layer: Layer, acc: NDArray[np.int64]) -> NDArray[np.int32]:
    if acc.size and (int(acc.min()) < _INT32_MIN or int(acc.max()) > _INT32_MAX):
        worst = int(acc.max()) if int(acc.max()) > _INT32_MAX else int(acc.min())
        raise ValueError(
            f"layer {layer.name}: an accumulator must fit int32, not reach {worst}: use fewer "
            "inputs or narrower formats"
        )
    return acc.astype(np.int32)


def _matmul(weights: NDArray[Any], columns: NDArray[Any], most: int) -> NDArray[np.int64]:
    """The product weights @ columns, exactly, for |columns| ≤ most; shape (K, M), int64.

    Floating point is exact, in whatever order the sum is formed, while no partial sum can pass the
    mantissa: Σ |weight| · most < 2^24 for float32, 2^53 for float64.
    """
    flat = np.abs(weights.astype(np.int64))
    bound = int(flat.sum(axis=1).max()) * most
    if bound < 1 << 24:
        return (weights.astype(np.float32) @ columns.astype(np.float32)).astype(np.int64)
    if bound < 1 << 53:
        return (weights.astype(np.float64) @ columns.astype(np.float64)).astype(np.int64)
    # Operands have 16 bits at most, so int64 holds any sum of a tensor's 2^26 products.
    return np.asarray(weights.astype(np.int64) @ columns.astype(np.int64))


def _conv(
    layer: Conv, x: NDArray[Any], weights: NDArray[Any], zero_point: int, most: int
) -> NDArray[np.int64]:
    """Convolution sums without bias, shape (B, K, OY, OX)."""
    batch, channels = x.shape[:2]
    outputs, _, fy_count, fx_count = weights.shape
    top, left, bottom, right = layer.padding
    (sy, sx), (dy, dx) = layer.stride, layer.dilation
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=zero_point)
    oy = (padded.shape[2] - dy * (fy_count - 1) - 1) // sy + 1
    ox = (padded.shape[3] - dx * (fx_count - 1) - 1) // sx + 1
    acc = np.empty((batch, outputs, oy, ox), np.int64)
    depth, height = channels // layer.groups, outputs // layer.groups
    step = max(1, _CHUNK_VALUES // (depth * fy_count * fx_count * oy * ox))
    for start in range(0, batch, step):
        part = padded[start : start + step]
        for group in range(layer.groups):
            taps = np.empty((depth, fy_count, fx_count, part.shape[0], oy, ox), x.dtype)
            inputs = part[:, group * depth : (group + 1) * depth].transpose(1, 0, 2, 3)
            for fy, fx in itertools.product(range(fy_count), range(fx_count)):
                y, col = fy * dy, fx * dx
                taps[:, fy, fx] = inputs[
                    :, :, y : y + (oy - 1) * sy + 1 : sy, col : col + (ox - 1) * sx + 1 : sx
                ]
            rows = slice(group * height, (group + 1) * height)
            sums = _matmul(
                weights[rows].reshape(height, -1),
                taps.reshape(depth * fy_count * fx_count, -1),
                most,
            )
            acc[start : start + step, rows] = sums.reshape(height, part.shape[0], oy, ox).transpose(
                1, 0, 2, 3
            )
    return acc


def _max_pool(layer: MaxPool, x: NDArray[Any], least: int) -> NDArray[Any]:
    """The maximum of each window; padding is the least value of the format, so it never wins."""
    top, left, bottom, right = layer.padding
    (ky, kx), (sy, sx) = layer.kernel, layer.stride
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=least)
    oy = (padded.shape[2] - ky) // sy + 1
    ox = (padded.shape[3] - kx) // sx + 1
    result: NDArray[Any] | None = None
    for y, col in itertools.product(range(ky), range(kx)):
        tap = padded[:, :, y : y + (oy - 1) * sy + 1 : sy, col : col + (ox - 1) * sx + 1 : sx]
        result = tap.copy() if result is None else np.maximum(result, tap)
    assert result is not None
    return result
