"""Numbers that a quantised or normalised layer can't have: scales of 0, zero points out of range, NaN."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph.attributes import choice, flag, number
from ..graph.graph import Node
from ..graph.movement import PAD_MODES, RESIZE_COORDINATES, RESIZE_MODES, RESIZE_NEAREST
from ..graph.quantised import quant_range

__all__ = ["check_attributes", "check_numbers"]

Operands = Sequence[NDArray[Any] | None]


def check_attributes(node: Node) -> None:
    """Nothing; the attributes of a node of the current opset are finite and of what its operator allows.

    Raises:
        ValueError: an attribute that isn't; names it.
    """
    for key, value in node.attributes.items():
        if isinstance(value, float):
            number(node, key, 0.0)
        elif key in _FLAGS:
            flag(node, key)
        elif key in _CHOICES.get(node.op, {}):
            choice(node, key, "", _CHOICES[node.op][key])


def check_numbers(node: Node, operands: Operands) -> None:
    """Nothing; those of a node's operands that are constants (the others are None) make sense.

    Raises:
        ValueError: a scale that isn't positive and finite, a bit width that isn't whole or beyond 1..32, a
            zero point outside the quantised range, a variance below 0, weights or thresholds that are NaN.
    """
    for i in _SCALES.get(node.op, ()):
        _positive(_at(operands, i))
    for i in _FINITE.get(node.op, ()):
        array = _at(operands, i)
        if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"its operand {i} holds NaN or infinity")
    if node.op in _RULES:
        _RULES[node.op](node, operands)


def _at(operands: Operands, i: int) -> NDArray[Any] | None:
    return operands[i] if i < len(operands) else None


def _positive(scale: NDArray[Any] | None) -> None:
    if scale is not None and not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError("its scale must be positive and finite")


def _bits(bits: NDArray[Any] | None) -> None:
    if bits is None:
        return
    if bits.size != 1 or not 1 <= bits.item() <= 32 or bits.item() != int(bits.item()):
        raise ValueError("its bit width must be one whole number from 1 to 32")


def _zero_point(zero: NDArray[Any] | None, bits: NDArray[Any] | None, signed: bool, narrow: bool) -> None:
    if zero is None:
        return
    low, high = (-np.inf, np.inf) if bits is None else quant_range(bits.astype(np.float64), signed, narrow)
    if not np.isfinite(zero).all() or (zero != np.round(zero)).any():
        raise ValueError("its zero point must be a whole number")
    if (zero < low).any() or (zero > high).any():
        raise ValueError(f"its zero point must be from {np.min(low):.0f} to {np.max(high):.0f}")


def _quant(node: Node, x: Operands) -> None:
    _bits(_at(x, 3))
    _zero_point(_at(x, 2), _at(x, 3), flag(node, "signed", True), flag(node, "narrow", True))


def _trunc(node: Node, x: Operands) -> None:
    if len(x) == 6:
        _positive(_at(x, 4))
    _bits(_at(x, 3))
    _bits(_at(x, len(x) - 1))
    _zero_point(_at(x, 2), None, True, False)


def _batch_norm(node: Node, x: Operands) -> None:
    variance = _at(x, 4)
    if variance is not None and not (variance + number(node, "epsilon", 1e-5) > 0).all():
        raise ValueError("its variance must be at least 0")


def _multi_threshold(node: Node, x: Operands) -> None:
    thresholds = _at(x, 1)
    if thresholds is not None and np.isnan(thresholds).any():
        raise ValueError("its thresholds hold NaN")


_FLAGS = frozenset(
    (
        *("allowzero", "antialias", "ceil_mode", "count_include_pad", "exclude_outside", "keepdims"),
        *("narrow", "noop_with_empty_axes", "select_last_index", "signed", "training_mode", "transA"),
        *("transB", "storage_order"),
    )
)
"""Attributes that are 0 or 1, whatever the operator."""
_CHOICES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "DepthToSpace": {"mode": ("DCR", "CRD")},
    "Gelu": {"approximate": ("none", "tanh")},
    "Pad": {"mode": PAD_MODES},
    "Resize": {
        "coordinate_transformation_mode": RESIZE_COORDINATES,
        "mode": RESIZE_MODES,
        "nearest_mode": tuple(RESIZE_NEAREST),
    },
}
_SCALES: Mapping[str, tuple[int, ...]] = {
    "BipolarQuant": (1,),
    "DequantizeLinear": (1,),
    "QLinearConv": (1, 4, 6),
    "QLinearMatMul": (1, 4, 6),
    "Quant": (1,),
    "QuantizeLinear": (1,),
    "Trunc": (1,),
}
"""By operator: the operands that are scales."""
_FINITE: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2, 3, 4),
    "Conv": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
}
_RULES: Mapping[str, Callable[[Node, Operands], None]] = {
    "BatchNormalization": _batch_norm,
    "MultiThreshold": _multi_threshold,
    "Quant": _quant,
    "Trunc": _trunc,
}
