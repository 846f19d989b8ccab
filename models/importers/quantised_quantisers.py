"""What each quantising operator stores: its integers, what a step is worth, and whether int8 holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Node, Value
from ..graph.quantised import channel_axis
from .quantised_constants import whole
from .quantised_values import NotLowered, Quantiser

__all__ = ["QUANTISERS", "linear_quantiser", "quantiser_of"]

QUANTISERS = ("Quant", "IntQuant", "BipolarQuant", "Trunc", "MultiThreshold", "QuantizeLinear")

_RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15)}


def quantiser_of(node: Node, constants: Mapping[str, NDArray[Any]], result: Value) -> Quantiser:
    """What the quantising node `node` stores.

    Args:
        node: one of `QUANTISERS`.
        constants: of the graph.
        result: the node's, whose type and rank count.

    Raises:
        NotLowered: its parameters aren't constants, differ by channel, or take more than 8 bits.
    """
    for name in node.inputs[1:]:
        if name and name not in constants:
            raise NotLowered("its parameters must be constants")
    rank = len(result.shape)
    values = [constants[name] if name else None for name in node.inputs[1:]]
    if node.op == "QuantizeLinear":
        scale = _positive(_one(values[0], "its scale"))
        zero = 0 if len(values) < 2 or values[1] is None else int(_one(values[1], "its zero point"))
        return linear_quantiser(scale, zero, result.dtype)
    if node.op == "MultiThreshold":
        return _multi_threshold(node, values[0], rank)
    scale = _positive(_one(values[0], "its scale"))
    if node.op == "BipolarQuant":
        return _bipolar(scale)
    zero = int(whole(np.asarray(_one(values[1], "its zero point")), "its zero point"))
    bits = int(whole(np.asarray(_one(values[2], "its bit width")), "its bit width"))
    signed, narrow = bool(node.attributes.get("signed", 1)), bool(node.attributes.get("narrow", 1))
    if node.op == "Trunc":
        return _trunc(node, values, scale, zero, bits)
    if bits == 1 and signed:
        return _bipolar(scale)
    low, high = _bounds(bits, signed, narrow)
    ties_even = str(node.attributes.get("rounding_mode", "ROUND")).upper() in ("ROUND", "HALF_EVEN")
    return _stored(scale, zero, low, high, ties_even)


def linear_quantiser(scale: float, zero: int, dtype: np.dtype[Any]) -> Quantiser:
    """What QuantizeLinear stores: integers of `dtype`, those of uint8 less 128.

    Raises:
        NotLowered: integers of more than 8 bits.
    """
    if dtype.name not in _RANGES:
        raise NotLowered(f"it stores {dtype.name}, the core int8 and uint8")
    low, high = _RANGES[dtype.name]
    shift = 128 if high > 127 else 0
    return Quantiser(
        unit=1.0, zero=-shift, low=low - shift, high=high - shift, step=1, scale=scale,
        zero_point=zero - shift, ties_even=True, exact=False,
    )  # fmt: skip


def _bipolar(scale: float) -> Quantiser:
    return Quantiser(
        unit=scale, zero=0, low=-1, high=1, step=2, scale=scale, zero_point=0, ties_even=False, exact=True
    )


def _bounds(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    if not 1 <= bits <= 32:
        raise NotLowered(f"its bit width must be from 1 to 32, not {bits}")
    if signed:
        return -(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - narrow


def _stored(scale: float, zero: int, low: int, high: int, ties_even: bool) -> Quantiser:
    """Integers low … high, moved into int8 where they are unsigned ones of 8 bits."""
    shift = 128 if low >= 0 and high > 127 else 0
    if high - low > 255 or low - shift < -128 or high - shift > 127:
        raise NotLowered(f"it stores integers from {low} to {high}, the core 8 bits")
    if not low <= zero <= high:
        raise NotLowered(f"its zero point must be from {low} to {high}, not {zero}")
    return Quantiser(
        unit=scale, zero=zero - shift, low=low - shift, high=high - shift, step=1, scale=scale,
        zero_point=zero - shift, ties_even=ties_even, exact=True,
    )  # fmt: skip


def _trunc(node: Node, values: list[NDArray[Any] | None], scale: float, zero: int, bits: int) -> Quantiser:
    """Both versions of Trunc; the first has no output scale and doesn't clamp."""
    signed = bool(node.attributes.get("signed", 1))
    if len(values) == 4:
        low, high = _bounds(int(_one(values[3], "its bit width")), True, False)
        if zero:
            raise NotLowered("its zero point must be 0")
        return _stored(scale, 0, low, high, False)
    out_scale = _positive(_one(values[3], "its output scale"))
    bits = int(_one(values[4], "its bit width"))
    if zero:
        raise NotLowered("its zero point must be 0")
    low, high = _bounds(bits, signed, bool(node.attributes.get("narrow", 0)))
    return _stored(out_scale, 0, low, high, False)


def _multi_threshold(node: Node, thresholds: NDArray[Any] | None, rank: int) -> Quantiser:
    """Counts of thresholds, scaled and moved; half steps are stored as odd numbers two apart."""
    if thresholds is None or thresholds.ndim != 2:
        raise NotLowered("its thresholds must be constants of shape (K, T)")
    if channel_axis(node, rank) != 1:
        raise NotLowered("its layout must have the channels behind the batch")
    count = thresholds.shape[1]
    scale = _positive(float(node.attributes.get("out_scale", 1.0)))
    offset = float(node.attributes.get("out_bias", 0.0)) / scale
    if offset == round(offset):
        low = round(offset)
        if not -128 <= low <= 0 or low + count > 127:
            low = -128 if count > 127 else 0
        zero = low - round(offset)
        step = 1
    elif 2 * offset == round(2 * offset):
        low, zero, step, scale = round(2 * offset), 0, 2, scale / 2
    else:
        raise NotLowered("its out_bias must be whole or half steps of out_scale")
    high = low + step * count
    if low < -128 or high > 127:
        raise NotLowered(f"it stores integers from {low} to {high}, the core 8 bits")
    if not low <= zero <= high:
        raise NotLowered("a real 0 must lie among its results")
    return Quantiser(
        unit=scale, zero=zero, low=low, high=high, step=step, scale=scale, zero_point=zero,
        ties_even=False, exact=True,
    )  # fmt: skip


def _one(value: NDArray[Any] | None, what: str) -> float:
    if value is None or value.size < 1 or np.any(value != value.reshape(-1)[0]):
        raise NotLowered(f"{what} must be one for all channels")
    return float(value.reshape(-1)[0])


def _positive(scale: float) -> float:
    if not (np.isfinite(scale) and scale > 0):
        raise NotLowered(f"its scale must be finite and above 0, not {scale}")
    return scale
