"""Operators that quantise, and those on stored integers, as ONNX Runtime and qonnx's executor have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .attributes import axis_of, flag, integer, number
from .graph import Node
from .weighted import convolve, multiply
from .window import window_of

__all__ = ["QUANTISED", "ROUNDINGS", "channel_axis", "quant_range"]

Array = NDArray[Any]
Operands = Sequence[Array]

ROUNDINGS: Mapping[str, Callable[[Array], Array]] = {
    "ROUND": np.round,
    "HALF_EVEN": np.round,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.fix,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + np.float32(0.5)),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - np.float32(0.5)),
}
"""QONNX's rounding modes; its HALF_UP and HALF_DOWN go away from and towards zero."""

_LAYOUTS = {2: "NC", 3: "NWC", 4: "NCHW"}


def _operand(x: Operands, i: int) -> Array | None:
    return x[i] if i < len(x) else None


def _along(node: Node, value: Array | None, rank: int) -> Array | int:
    """A scale or zero point shaped to broadcast along the node's axis; 0 where it is left out."""
    if value is None:
        return 0
    if value.size == 1:
        return value.reshape(())
    axis = axis_of(integer(node, "axis", 1), rank)
    return value.reshape([-1 if i == axis else 1 for i in range(rank)])


def _quantise(x: Array, scale: Array | int, zero: Array | int, dtype: np.dtype[Any]) -> Array:
    """X / scale in float32, rounded half to even, then shifted and saturated."""
    limits = np.iinfo(dtype)
    rounded = np.round(x / scale).astype(np.float64) + np.asarray(zero, np.float64)
    return np.clip(np.nan_to_num(rounded, nan=0.0), limits.min, limits.max).astype(dtype)


def _quantize_linear(node: Node, x: Operands) -> Array:
    zero = _operand(x, 2)
    dtype = np.dtype(np.uint8) if zero is None else zero.dtype
    rank = x[0].ndim
    return _quantise(x[0].astype(np.float32), _along(node, x[1], rank), _along(node, zero, rank), dtype)


def _dequantize_linear(node: Node, x: Operands) -> Array:
    rank = x[0].ndim
    scale, zero = _along(node, x[1], rank), _along(node, _operand(x, 2), rank)
    centred = x[0].astype(np.int64) - np.asarray(zero, np.int64)
    return np.asarray(centred.astype(np.float32) * scale, x[1].dtype)


def _centred(x: Array, zero: Array | None, shape: Sequence[int] = (-1,)) -> Array:
    """Stored integers without their zero point, in int64; `shape` spreads a zero point a channel, by
    default along the last axis.
    """
    if zero is None:
        return x.astype(np.int64)
    spread = zero.reshape(()) if zero.size == 1 else zero.reshape(shape)
    return x.astype(np.int64) - spread.astype(np.int64)


def _wrapped(x: Array) -> NDArray[np.int32]:
    """int32 as the runtime's accumulators hold it: modulo 2^32."""
    return x.astype(np.int64).astype(np.int32)


def _accumulate(node: Node, x: Array, weights: Array) -> Array:
    """The convolution of centred integers, exact."""
    window = window_of(node, x.shape[2:], weights.shape[2:])
    bound = int(np.abs(x).max(initial=0)) * int(np.abs(weights).max(initial=0)) * weights[0].size
    kind = np.dtype(np.float32 if bound < 1 << 24 else np.float64)
    return convolve(x.astype(kind), weights.astype(kind), window, integer(node, "group", 1)).astype(np.int64)


def _conv_integer(node: Node, x: Operands) -> Array:
    spread = (-1, *[1] * (x[1].ndim - 1))
    weights = _centred(x[1], _operand(x, 3), spread)
    return _wrapped(_accumulate(node, _centred(x[0], _operand(x, 2)), weights))


def _matmul_integer(node: Node, x: Operands) -> Array:
    a = _centred(x[0], _operand(x, 2), (-1, 1))
    return _wrapped(multiply(a, _centred(x[1], _operand(x, 3))))


def _qlinear_conv(node: Node, x: Operands) -> Array:
    value, x_scale, x_zero, weights, w_scale, w_zero, y_scale, y_zero = x[:8]
    spread = (-1, *[1] * (weights.ndim - 1))
    sums = _accumulate(node, _centred(value, x_zero), _centred(weights, w_zero, spread))
    broad = (-1, *[1] * (weights.ndim - 2))
    bias = _operand(x, 8)
    if bias is not None:
        sums = sums + bias.reshape(broad)
    scale = x_scale.reshape(()) * w_scale / y_scale.reshape(())
    return _requantised(_wrapped(sums), scale if scale.size == 1 else scale.reshape(broad), y_zero)


def _qlinear_matmul(node: Node, x: Operands) -> Array:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = x
    sums = multiply(_centred(a, a_zero, (-1, 1)), _centred(b, b_zero))
    return _requantised(_wrapped(sums), a_scale.reshape(()) * b_scale / y_scale.reshape(()), y_zero)


def _requantised(sums: Array, scale: Array, zero: Array) -> Array:
    """Accumulators times a float32 factor, rounded half to even, as ONNX Runtime's MLAS does."""
    limits = np.iinfo(zero.dtype)
    scaled = sums.astype(np.float32) * scale.astype(np.float32)
    rounded = np.round(scaled).astype(np.float64) + int(zero.reshape(()))
    return np.clip(rounded, limits.min, limits.max).astype(zero.dtype)


def quant_range(bits: Array, signed: bool, narrow: bool) -> tuple[Array, Array]:
    """The least and the greatest integer of `bits` wide numbers, as QONNX counts them."""
    if signed:
        high = 2 ** (bits - 1) - 1
        return np.asarray(-high if narrow else -high - 1), np.asarray(high)
    return np.zeros_like(bits), np.asarray(2**bits - (2 if narrow else 1))


def _quant(node: Node, x: Operands) -> Array:
    value, scale, zero, bits = x
    signed, narrow = flag(node, "signed", True), flag(node, "narrow", True)
    stored = value / scale + zero
    if signed and bits.size == 1 and bits.item() == 1:
        stored = np.where(stored >= 0, 1, -1).astype(stored.dtype)
    else:
        low, high = quant_range(bits, signed, narrow)
        stored = np.where(stored > high, high.astype(stored.dtype), stored)
        stored = np.where(stored < low, low.astype(stored.dtype), stored)
        stored = ROUNDINGS[str(node.attributes.get("rounding_mode", "ROUND")).upper()](stored)
    return np.asarray((stored - zero) * scale, np.float32)


def _bipolar(node: Node, x: Operands) -> Array:
    return np.where(x[0] >= 0, np.ones((), x[0].dtype), -np.ones((), x[0].dtype)) * x[1]


def _trunc(node: Node, x: Operands) -> Array:
    rounding = ROUNDINGS[str(node.attributes.get("rounding_mode", "FLOOR")).upper()]
    value, scale, zero, bits = x[:4]
    stored = np.round(value / scale + zero)
    if len(x) == 5:
        by: Array = np.asarray(2.0 ** (bits - x[4]))
        return np.asarray((rounding(stored / by) - zero) * scale, np.float32)
    out_scale, out_bits = x[4], x[5]
    by = np.asarray(2 ** np.round(np.log2(out_scale / scale)))
    low, high = quant_range(out_bits, flag(node, "signed", True), flag(node, "narrow"))
    stored = stored / by
    stored = np.where(stored > high, high.astype(stored.dtype), stored)
    stored = np.where(stored < low, low.astype(stored.dtype), stored)
    return np.asarray((rounding(stored) - zero / by) * out_scale, np.float32)


def channel_axis(node: Node, rank: int) -> int:
    """The axis whose entries have thresholds of their own: its layout's C; rank 3 is NWC unless named."""
    layout = str(node.attributes.get("data_layout", "")) or _LAYOUTS.get(rank, "NC")
    axis = layout.index("C") if "C" in layout else 1
    if axis >= rank:
        raise ValueError(f"its layout {layout:.20} has more axes than its operand, {rank}")
    return axis


def _multi_threshold(node: Node, x: Operands) -> Array:
    value, thresholds = x
    axis = channel_axis(node, value.ndim)
    moved = np.moveaxis(value, axis, -1)
    count = np.zeros(moved.shape, value.dtype)
    for level in range(thresholds.shape[1]):
        count += moved >= thresholds[:, level]
    scale, bias = number(node, "out_scale", 1.0), number(node, "out_bias", 0.0)
    return np.asarray(scale * np.moveaxis(count, -1, axis) + bias, value.dtype)


def _dynamic(node: Node, x: Operands) -> tuple[Array, Array, Array]:
    low, high = min(0.0, float(x[0].min(initial=0))), max(0.0, float(x[0].max(initial=0)))
    scale = np.float32(high - low) / np.float32(255) or np.float32(1)
    zero = np.clip(np.round(np.float32(0 - low) / scale), 0, 255).astype(np.uint8)
    out = _quantise(x[0], np.asarray(scale), np.asarray(zero), np.dtype(np.uint8))
    return out, np.asarray(scale, np.float32), np.asarray(zero)


QUANTISED: Mapping[str, Callable[[Node, Operands], Array | tuple[Array, ...]]] = {
    "BipolarQuant": _bipolar,
    "ConvInteger": _conv_integer,
    "DequantizeLinear": _dequantize_linear,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _matmul_integer,
    "MultiThreshold": _multi_threshold,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "Quant": _quant,
    "QuantizeLinear": _quantize_linear,
    "Trunc": _trunc,
}
"""By operator of ONNX or QONNX: its results from its operands."""
