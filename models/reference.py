"""The integer reference: what a network computes, exactly, and judge of every other execution."""

from __future__ import annotations

import functools
import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from .layers import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    PlaneSum,
    Relu,
    Requantize,
    Shuffle,
    Thresholds,
)
from .network import Network
from .numerics import count_thresholds, requantize, rescale

__all__ = ["run_layer", "run_reference", "trace_reference"]

_INT32_MIN, _INT32_MAX = -(1 << 31), (1 << 31) - 1
_CHUNK_VALUES = 1 << 19
"""Values of an unfolded input held at once; images are worked through in batches of that size."""
_BATCH_VALUES = 1 << 18
"""Values of a batch's largest tensor; larger batches run in parts, whose tensors then stay in the caches."""


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
    largest = max(math.prod(tensor.shape) for tensor in network.tensors.values())
    size = max(1, _BATCH_VALUES // largest)
    if len(batch) <= size:
        return _run_part(network, batch, keep)
    slices = [batch[start : start + size] for start in range(0, len(batch), size)]
    # A part's products are too small to share among BLAS's threads, which would wait for each other: every
    # processor works on a part of its own.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(min(len(slices), os.cpu_count() or 1)) as pool:
        parts = list(pool.map(lambda part: _run_part(network, part, keep), slices))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _run_part(network: Network, batch: NDArray[Any], keep: bool) -> dict[str, NDArray[Any]]:
    """The tensors of a checked batch; without `keep` the output alone."""
    last_use = {name: index for index, layer in enumerate(network.layers) for name in layer.inputs}
    last_use[network.output] = len(network.layers)
    values: dict[str, NDArray[Any]] = {network.input: batch}
    for index, layer in enumerate(network.layers):
        values[layer.output] = run_layer(network, layer, *(values[name] for name in layer.inputs))
        if not keep:
            for name in {*layer.inputs, layer.output}:
                if last_use.get(name, index) == index:
                    del values[name]
    return values


def run_layer(network: Network, layer: Layer, *inputs: NDArray[Any]) -> NDArray[Any]:
    """One layer's output for a batch of its inputs, shape (B, *output shape), in the format's dtype.

    Raises:
        ValueError: an accumulator leaves int32; names the layer.
    """
    x, result = inputs[0], network.tensors[layer.output]
    source = network.tensors[layer.inputs[0]]
    if isinstance(layer, Conv | Linear):
        record = network.weights[layer.name]
        weights, bias = record.values, record.bias_or_zero
        bound = int(np.abs(weights.reshape(len(weights), -1).astype(np.int64)).sum(axis=1).max())
        bound *= max(abs(source.fmt.min), abs(source.fmt.max))
        if isinstance(layer, Conv):
            acc = _conv(layer, x, weights, network.pad_value(layer), bound)
        else:
            acc = _matmul(x, weights.T, bound).astype(_sum_type(bound))
        if acc.dtype == np.int32 and bound + int(np.abs(bias.astype(np.int64)).max()) <= _INT32_MAX:
            acc += _by_channel(bias, acc)
            return acc
        return _accumulators(layer, acc + _by_channel(bias.astype(np.int64), acc))
    if isinstance(layer, AvgPool):
        return _accumulators(layer, _pool(layer, x.astype(np.int64), source.zero_point, np.add))
    if isinstance(layer, Add):
        return _accumulators(layer, _add(network, layer, inputs))
    if isinstance(layer, PlaneSum):
        return _accumulators(layer, _plane_sum(layer, x))
    if isinstance(layer, Requantize):
        if layer.bias is not None:
            x = _accumulators(layer, x + _by_channel(layer.bias.astype(np.int64), x))
        return requantize(
            x,
            multiplier=layer.multiplier,
            shift=layer.shift,
            rounding=layer.rounding,
            zero_point=result.zero_point if layer.offset is None else layer.offset,
            low=layer.low,
            high=layer.high,
            channel_axis=1,
        ).astype(result.fmt.dtype)
    if isinstance(layer, Thresholds):
        counted = count_thresholds(x, values=layer.values, low=layer.low, step=layer.step, channel_axis=1)
        return counted.astype(result.fmt.dtype)
    return _move(layer, inputs, source.fmt.min, source.zero_point)


def _move(layer: Layer, inputs: tuple[NDArray[Any], ...], least: int, zero_point: int) -> NDArray[Any]:
    """The layers that hand stored values on."""
    x = inputs[0]
    if isinstance(layer, MaxPool):
        return _pool(layer, x, least, np.maximum)
    if isinstance(layer, Relu):
        return np.asarray(np.maximum(x, np.array(zero_point, x.dtype)))
    if isinstance(layer, Concat):
        return np.concatenate(inputs, axis=1)
    if isinstance(layer, Shuffle):
        parts = x.reshape(x.shape[0], layer.groups, -1, *x.shape[2:])
        return parts.swapaxes(1, 2).reshape(x.shape)
    assert isinstance(layer, Flatten)
    return x.reshape(x.shape[0], -1)


def _by_channel(values: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """`values`, shape (K,), so that they broadcast over x, shape (B, K, …)."""
    return values.reshape(-1, *[1] * (x.ndim - 2))


def _add(network: Network, layer: Add, inputs: tuple[NDArray[Any], ...]) -> NDArray[np.int64]:
    total = np.zeros(inputs[0].shape, np.int64)
    for place, (name, x) in enumerate(zip(layer.inputs, inputs, strict=True)):
        real = x.astype(np.int64) - network.tensors[name].zero_point
        total += rescale(
            real << layer.left_shift, layer.multiplier[place], layer.shift[place], layer.rounding
        )
    return total


def _plane_sum(layer: PlaneSum, x: NDArray[Any]) -> NDArray[np.int64]:
    """Sums of rescaled planes, (B, K, …) from (B, planes·K, …)."""
    shifted = x.astype(np.int64) << layer.left_shift
    if shifted.size and max(-int(shifted.min()) - 1, int(shifted.max())) > _INT32_MAX:
        raise ValueError(
            f"layer {layer.name}: an accumulator shifted left by {layer.left_shift} must fit int32, not "
            f"reach {int(shifted.flat[np.argmax(np.abs(shifted))])}: lower left_shift"
        )
    multiplier, shift = _by_channel(layer.multiplier, x), _by_channel(layer.shift, x)
    rescaled = rescale(shifted, multiplier, shift, layer.rounding)
    return np.asarray(rescaled.reshape(len(x), layer.planes, -1, *x.shape[2:]).sum(axis=1))


def _accumulators(layer: Layer, acc: NDArray[np.int64]) -> NDArray[np.int32]:
    if acc.size and (int(acc.min()) < _INT32_MIN or int(acc.max()) > _INT32_MAX):
        worst = int(acc.max()) if int(acc.max()) > _INT32_MAX else int(acc.min())
        raise ValueError(
            f"layer {layer.name}: an accumulator must fit int32, not reach {worst}: use fewer "
            "inputs or narrower formats"
        )
    return acc.astype(np.int32)


def _exact_type(bound: int) -> type[Any]:
    """The number type in which sums of integers up to `bound` are exact, in whatever order they are formed.

    Floating point is while no partial sum can pass the mantissa: Σ |weight| · most < 2^24 for float32, 2^53
    for float64. Operands have 16 bits at most, so int64 holds any sum of a tensor's 2^26 products.
    """
    return np.float32 if bound < 1 << 24 else np.float64 if bound < 1 << 53 else np.int64


def _matmul(weights: NDArray[Any], columns: NDArray[Any], bound: int) -> NDArray[Any]:
    """The products weights @ columns, exactly, none above `bound`, leading axes a stack; of `_exact_type`."""
    dtype = _exact_type(bound)
    return np.asarray(weights.astype(dtype, copy=False) @ columns.astype(dtype, copy=False))


def _sum_type(bound: int) -> type[Any]:
    return np.int32 if bound <= _INT32_MAX else np.int64


def _conv(layer: Conv, x: NDArray[Any], weights: NDArray[Any], pad_value: int, bound: int) -> NDArray[Any]:
    """Convolution sums without bias, shape (B, K, OY, OX), none of them above `bound`."""
    batch, channels = x.shape[:2]
    outputs, depth, fy_count, fx_count = weights.shape
    top, left, bottom, right = layer.padding
    (sy, sx), (dy, dx) = layer.stride, layer.dilation
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=pad_value)
    oy = (padded.shape[2] - dy * (fy_count - 1) - 1) // sy + 1
    ox = (padded.shape[3] - dx * (fx_count - 1) - 1) // sx + 1
    acc = np.empty((batch, outputs, oy, ox), _sum_type(bound))
    dtype = _exact_type(bound)
    matrices = weights.reshape(layer.groups, outputs // layer.groups, -1).astype(dtype)
    step = max(1, _CHUNK_VALUES // (channels * fy_count * fx_count * oy * ox))
    for start in range(0, batch, step):
        part = padded[start : start + step].transpose(1, 0, 2, 3)
        taps = np.empty((channels, fy_count, fx_count, part.shape[1], oy, ox), dtype)
        for fy, fx in itertools.product(range(fy_count), range(fx_count)):
            y, col = fy * dy, fx * dx
            taps[:, fy, fx] = part[:, :, y : y + (oy - 1) * sy + 1 : sy, col : col + (ox - 1) * sx + 1 : sx]
        columns = taps.reshape(layer.groups, depth * fy_count * fx_count, -1)
        sums = _matmul(matrices, columns, bound).reshape(outputs, part.shape[1], oy, ox)
        acc[start : start + step] = sums.transpose(1, 0, 2, 3)
    return acc


def _pool(layer: MaxPool | AvgPool, x: NDArray[Any], fill: int, fold: np.ufunc) -> NDArray[Any]:
    """What `fold` makes of each window, padded with `fill`: first along x, then along y."""
    top, left, bottom, right = layer.padding
    result = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    for axis in (3, 2):
        kernel, stride = layer.kernel[axis - 2], layer.stride[axis - 2]
        count = (result.shape[axis] - kernel) // stride + 1
        lines = np.moveaxis(result, axis, 0)
        taps = (lines[tap : tap + (count - 1) * stride + 1 : stride] for tap in range(kernel))
        result = np.moveaxis(functools.reduce(fold, taps), 0, axis)
    return np.ascontiguousarray(result)
