"""What all layers share: the names of one input and one output, checked fields, and windows over pixels."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .numerics import Rounding

__all__ = [
    "OneInput",
    "check_integer",
    "check_integers",
    "check_multipliers",
    "check_rounding",
    "window_count",
    "windows_shape",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OneInput:
    """The names that a layer with one input has."""

    name: str
    input: str
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of all inputs, in order."""
        return (self.input,)


def check_integer(where: str, name: str, value: Any) -> int:
    """`value` as a plain int; ValueError names the layer (`where`) and the field."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{where}: {name} must be an integer, not {value!r}") from None


def check_integers(where: str, name: str, values: Any, length: int, low: int) -> tuple[int, ...]:
    """`values` as a tuple of plain ints, low..2^16; ValueError names the layer (`where`) and the field."""
    try:
        result = tuple(operator.index(value) for value in values)
    except TypeError:
        result = ()
    if len(result) != length or any(not low <= value <= 1 << 16 for value in result):
        what, came = (f"{length} integers", values) if length > 1 else ("an integer", *values)
        raise ValueError(f"{where}: {name} must be {what} from {low} to {1 << 16}, not {came!r}")
    return result


def check_multipliers(
    where: str, multiplier: ArrayLike, shift: ArrayLike
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Read-only int32 copies of multipliers, 0..2^31 − 1, and shifts, 0..31, both of the same shape (K,).

    Raises:
        ValueError: another shape, type or range; names the layer (`where`) and the field.
    """
    copies: list[NDArray[np.int32]] = []
    for name, values, top in (("multiplier", multiplier, (1 << 31) - 1), ("shift", shift, 31)):
        array = np.asarray(values)
        if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
            raise ValueError(f"{where}: {name} must be integers of shape (K,)")
        least, most = int(array.min()), int(array.max())
        if least < 0 or most > top:
            raise ValueError(f"{where}: {name} must be from 0 to {top}, not {least if least < 0 else most}")
        copy = array.astype(np.int32)
        copy.flags.writeable = False
        copies.append(copy)
    if copies[0].shape != copies[1].shape:
        raise ValueError(
            f"{where}: multiplier and shift must be equally many, not {copies[0].size} and {copies[1].size}"
        )
    return copies[0], copies[1]


def check_rounding(where: str, rounding: Any) -> Rounding:
    """`rounding` as a mode; ValueError names the layer (`where`)."""
    try:
        return Rounding(rounding)
    except ValueError:
        raise ValueError(
            f"{where}: rounding must be one of {', '.join(r.name for r in Rounding)}, not {rounding!r}"
        ) from None


def window_count(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """How many windows fit along one axis; 0 or less if none does."""
    reach = dilation * (kernel - 1) + 1
    return (size + before + after - reach) // stride + 1


def windows_shape(
    where: str,
    what: str,
    shape: tuple[int, ...],
    *,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int]:
    """(OY, OX), the windows of a padded input (C, H, W).

    Raises:
        ValueError: no window fits, or the padded input has more than 2^28 values; names the layer
            (`where`) and what slides (`what`).
    """
    top, left, bottom, right = padding
    height, width = shape[1] + top + bottom, shape[2] + left + right
    if shape[0] * height * width > 1 << 28:
        raise ValueError(f"{where}: its padded input must have at most 2^28 values: lower padding")
    oy = window_count(shape[1], kernel[0], stride[0], top, bottom, dilation[0])
    ox = window_count(shape[2], kernel[1], stride[1], left, right, dilation[1])
    if oy < 1 or ox < 1:
        raise ValueError(
            f"{where}: a {kernel[0]}×{kernel[1]} {what} doesn't fit into {height}×{width} padded pixels"
        )
    return oy, ox
