"""Operators that sum products or windows: convolutions, products of matrices, pools, normalisation.

Torch computes convolutions and pools and is imported by the first of them; the rest is NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .attributes import flag, integer, integers, number
from .graph import Node
from .window import Window, window_of

__all__ = ["WEIGHTED", "convolve", "multiply"]

Array = NDArray[Any]
Operands = Sequence[Array]


def convolve(x: Array, weights: Array, window: Window, groups: int) -> Array:
    """The convolution of (N, C, …) with (K, C / groups, …) in the operands' float type, without bias."""
    import torch

    function = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[
        len(window.kernel) - 1
    ]
    padded = _padded(x, window.begins, window.ends, 0)
    out = function(
        _tensor(padded),
        _tensor(weights),
        stride=window.strides,
        dilation=window.dilations,
        groups=groups,
    )
    return np.asarray(out.numpy())


def _tensor(array: Array) -> Any:
    """A torch tensor over the array, which is copied where torch couldn't write to it."""
    import torch

    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _padded(x: Array, begins: Sequence[int], ends: Sequence[int], fill: float) -> Array:
    if not any((*begins, *ends)):
        return x
    pads = [(0, 0), (0, 0), *zip(begins, ends, strict=True)]
    return np.pad(x, pads, constant_values=fill)


def multiply(a: Array, b: Array) -> Array:
    """The matrix product of integers, exact: in float where no sum can leave its mantissa, else in int64."""
    most = 1
    for x in (a, b):
        most *= max((abs(int(x.max())), abs(int(x.min()))), default=0) if x.size else 0
    bound = most * a.shape[-1]
    if bound < 1 << 24:
        return np.asarray(np.matmul(a.astype(np.float32), b.astype(np.float32))).astype(np.int64)
    if bound < 1 << 53:
        return np.asarray(np.matmul(a.astype(np.float64), b.astype(np.float64))).astype(np.int64)
    return np.asarray(np.matmul(a.astype(np.int64), b.astype(np.int64)))


def _conv(node: Node, x: Operands) -> Array:
    window = window_of(node, x[0].shape[2:], x[1].shape[2:])
    out = convolve(x[0], x[1], window, integer(node, "group", 1))
    if len(x) > 2 and x[2] is not None:
        out = out + x[2].reshape(-1, *[1] * len(window.kernel))
    return out


def _conv_transpose(node: Node, x: Operands) -> Array:
    import torch

    rank = x[0].ndim - 2
    function = (torch.nn.functional.conv_transpose1d, torch.nn.functional.conv_transpose2d)[rank - 1]
    pads = integers(node, "pads", (0,) * (2 * rank))
    extra = integers(node, "output_padding", (0,) * rank)
    out = function(
        _tensor(x[0]),
        _tensor(x[1]),
        stride=integers(node, "strides", (1,) * rank),
        dilation=integers(node, "dilations", (1,) * rank),
        groups=integer(node, "group", 1),
    ).numpy()
    out = _padded(out, (0,) * rank, extra, 0)
    cut = [slice(pads[i], out.shape[2 + i] - pads[rank + i]) for i in range(rank)]
    out = out[(slice(None), slice(None), *cut)]
    return out + x[2].reshape(-1, *[1] * rank) if len(x) > 2 and x[2] is not None else out


def _gemm(node: Node, x: Operands) -> Array:
    a = x[0].T if flag(node, "transA") else x[0]
    b = x[1].T if flag(node, "transB") else x[1]
    kind = a.dtype.type
    out = kind(number(node, "alpha", 1.0)) * np.matmul(a, b)
    if len(x) > 2 and x[2] is not None:
        out = out + kind(number(node, "beta", 1.0)) * x[2]
    return np.asarray(out)


def _matmul(node: Node, x: Operands) -> Array:
    if x[0].dtype.kind == "f":
        return np.asarray(np.matmul(x[0], x[1]))
    return np.asarray(np.matmul(x[0].astype(np.int64), x[1].astype(np.int64))).astype(x[0].dtype)


def _max_pool(node: Node, x: Operands) -> Array:
    import torch

    value = x[0]
    window = window_of(node, value.shape[2:])
    low = -math.inf if value.dtype.kind == "f" else np.iinfo(value.dtype).min
    ends = [end + more for end, more in zip(window.ends, window.overhang, strict=True)]
    # float32 holds every int8 and uint8, the only integers that MaxPool takes
    wide = value if value.dtype.kind == "f" else value.astype(np.float32)
    padded = torch.from_numpy(np.ascontiguousarray(_padded(wide, window.begins, ends, low)))
    pools = (
        torch.nn.functional.max_pool1d,
        torch.nn.functional.max_pool2d,
        torch.nn.functional.max_pool3d,
    )
    out = pools[len(window.kernel) - 1](padded, window.kernel, window.strides, 0, window.dilations)
    return np.asarray(out.numpy()).astype(value.dtype, copy=False)


def _average_pool(node: Node, x: Operands) -> Array:
    window = window_of(node, x[0].shape[2:])
    n, c, *spatial = x[0].shape
    ends = tuple(end + more for end, more in zip(window.ends, window.overhang, strict=True))
    whole = Window(
        kernel=window.kernel,
        strides=window.strides,
        dilations=window.dilations,
        begins=window.begins,
        ends=ends,
        out=window.out,
        spatial=window.spatial,
    )
    ones = np.ones((1, 1, *window.kernel), x[0].dtype)
    sums = convolve(x[0].reshape(n * c, 1, *spatial), ones, whole, 1)
    counts: Array = np.ones((), np.float64)
    padded = flag(node, "count_include_pad")
    for i, size in enumerate(spatial):
        # what lies beyond the padding, where ceil_mode lets a window reach, counts never
        first, last = (-window.begins[i], size + window.ends[i]) if padded else (0, size)
        starts = np.arange(window.out[i]) * window.strides[i] - window.begins[i]
        at = starts[:, None] + np.arange(window.kernel[i]) * window.dilations[i]
        counts = counts[..., None] * ((at >= first) & (at < last)).sum(1)
    return np.asarray(sums / counts.astype(x[0].dtype)).reshape(n, c, *window.out)


def _global(function: Callable[..., Any]) -> Callable[[Node, Operands], Array]:
    return lambda node, x: np.asarray(
        function(x[0], axis=tuple(range(2, x[0].ndim)), keepdims=True), x[0].dtype
    )


def _batch_norm(node: Node, x: Operands) -> Array:
    value, scale, shift, mean, variance = x
    axes = (-1, *[1] * (value.ndim - 2))
    factor = scale / np.sqrt(variance + variance.dtype.type(number(node, "epsilon", 1e-5)))
    return np.asarray(value * factor.reshape(axes) + (shift - mean * factor).reshape(axes), dtype=value.dtype)


def _instance_norm(node: Node, x: Operands) -> Array:
    value, scale, shift = x
    axes, broad = tuple(range(2, value.ndim)), (-1, *[1] * (value.ndim - 2))
    mean = value.mean(axis=axes, keepdims=True)
    spread = ((value - mean) ** 2).mean(axis=axes, keepdims=True)
    out = (value - mean) / np.sqrt(spread + number(node, "epsilon", 1e-5))
    return np.asarray(out * scale.reshape(broad) + shift.reshape(broad), value.dtype)


def _lrn(node: Node, x: Operands) -> Array:
    value, size = x[0], integer(node, "size")
    before, after = (size - 1) // 2, size // 2
    channels = value.shape[1]
    squares = np.zeros((value.shape[0], channels + size - 1, *value.shape[2:]), value.dtype)
    np.square(value, out=squares[:, before : before + channels])
    total = np.zeros_like(value)
    for i in range(before + after + 1):
        total += squares[:, i : i + channels]
    kind = value.dtype.type
    factor = kind(number(node, "alpha", 1e-4)) / kind(size)
    powers = np.power(kind(number(node, "bias", 1.0)) + factor * total, -kind(number(node, "beta", 0.75)))
    return np.asarray(value * powers)


WEIGHTED: Mapping[str, Callable[[Node, Operands], Array]] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "GlobalAveragePool": _global(np.mean),
    "GlobalMaxPool": _global(np.max),
    "InstanceNormalization": _instance_norm,
    "LRN": _lrn,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
}
"""By operator of ONNX: its result from its operands."""
