"""The layers that a network is made of, each with its geometry; formats are checked in `network`."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .numerics import Rounding

__all__ = [
    "Conv",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool",
    "Relu",
    "Requantize",
    "window_count",
]


def _integers(where: str, name: str, values: Any, length: int, low: int) -> tuple[int, ...]:
    """`values` as a tuple of plain ints; ValueError names the layer (`where`) and the field."""
    try:
        result = tuple(operator.index(value) for value in values)
    except TypeError:
        result = ()
    if len(result) != length or any(not low <= value <= 1 << 16 for value in result):
        raise ValueError(f"{where}: {name} must be {length} integers from {low} to {1 << 16}, not {values!r}")
    return result


def window_count(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    """How many windows fit along one axis; 0 or less if none does."""
    reach = dilation * (kernel - 1) + 1
    return (size + before + after - reach) // stride + 1


def _padded(where: str, shape: tuple[int, ...], padding: tuple[int, int, int, int]) -> None:
    """Nothing; ValueError where padding would make a tensor of more than 2^28 values."""
    top, left, bottom, right = padding
    if shape[0] * (shape[1] + top + bottom) * (shape[2] + left + right) > 1 << 28:
        raise ValueError(f"{where}: its padded input must have at most 2^28 values: lower padding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """A 2-D convolution (cross-correlation): accumulators (K, OY, OX) from (C, H, W).

    Padding inserts the input's zero point. Weights, shape (K, C / groups, FY, FX), and bias stand in
    the network's weight record; acc = Σ weight · stored input + bias.
    """

    kind: ClassVar[str] = "conv"
    name: str
    input: str
    output: str
    stride: tuple[int, int] = (1, 1)
    """(y, x)."""
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """(top, left, bottom, right)."""
    dilation: tuple[int, int] = (1, 1)
    """(y, x)."""
    groups: int = 1

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        for name, length, low in (("stride", 2, 1), ("padding", 4, 0), ("dilation", 2, 1)):
            checked = _integers(where, name, getattr(self, name), length, low)
            object.__setattr__(self, name, checked)
        object.__setattr__(self, "groups", _integers(where, "groups", (self.groups,), 1, 1)[0])

    def output_shape(self, shape: tuple[int, ...], weights: tuple[int, ...]) -> tuple[int, ...]:
        """(K, OY, OX) for an input and weights of these shapes.

        Raises:
            ValueError: the shapes don't fit together; names the layer.
        """
        where = f"layer {self.name}"
        if len(shape) != 3 or len(weights) != 4:
            raise ValueError(
                f"{where}: a convolution needs an input (C, H, W) and weights (K, C, FY, FX), not "
                f"{shape} and {weights}"
            )
        if shape[0] % self.groups or weights[0] % self.groups:
            raise ValueError(
                f"{where}: groups must divide the {shape[0]} input and {weights[0]} output "
                f"channels, not {self.groups}"
            )
        if weights[1] * self.groups != shape[0]:
            raise ValueError(
                f"{where}: weights for {weights[1]} channels in {self.groups} groups don't fit an "
                f"input of {shape[0]} channels"
            )
        _padded(where, shape, self.padding)
        top, left, bottom, right = self.padding
        dy, dx = self.dilation
        oy = window_count(shape[1], weights[2], self.stride[0], top, bottom, dy)
        ox = window_count(shape[2], weights[3], self.stride[1], left, right, dx)
        if oy < 1 or ox < 1:
            raise ValueError(
                f"{where}: a {weights[2]}×{weights[3]} kernel with dilation {dy}×{dx} doesn't fit "
                f"into {shape[1] + top + bottom}×{shape[2] + left + right} padded pixels"
            )
        return (weights[0], oy, ox)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A fully connected layer: accumulators (K,) from (N,); weights have shape (K, N)."""

    kind: ClassVar[str] = "linear"
    name: str
    input: str
    output: str

    def output_shape(self, shape: tuple[int, ...], weights: tuple[int, ...]) -> tuple[int, ...]:
        """(K,) for an input and weights of these shapes.

        Raises:
            ValueError: the shapes don't fit together; names the layer.
        """
        if len(shape) != 1 or len(weights) != 2 or shape[0] != weights[1]:
            raise ValueError(
                f"layer {self.name}: a linear layer needs an input (N,) and weights (K, N), not "
                f"{shape} and {weights}; put a Flatten before it"
            )
        return (weights[0],)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool:
    """The maximum of each window, (C, OY, OX) from (C, H, W); padded places never win."""

    kind: ClassVar[str] = "maxpool"
    name: str
    input: str
    output: str
    kernel: tuple[int, int]
    """(y, x)."""
    stride: tuple[int, int]
    """(y, x)."""
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """(top, left, bottom, right), each less than the kernel."""

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        for name, length, low in (("kernel", 2, 1), ("stride", 2, 1), ("padding", 4, 0)):
            checked = _integers(where, name, getattr(self, name), length, low)
            object.__setattr__(self, name, checked)
        if any(self.padding[i] >= self.kernel[i % 2] for i in range(4)):
            raise ValueError(
                f"{where}: pool padding must be less than the kernel {self.kernel}, not {self.padding}"
            )

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(C, OY, OX) for an input of this shape.

        Raises:
            ValueError: no window fits; names the layer.
        """
        if len(shape) != 3:
            raise ValueError(f"layer {self.name}: a pool needs an input (C, H, W), not {shape}")
        _padded(f"layer {self.name}", shape, self.padding)
        top, left, bottom, right = self.padding
        oy = window_count(shape[1], self.kernel[0], self.stride[0], top, bottom, 1)
        ox = window_count(shape[2], self.kernel[1], self.stride[1], left, right, 1)
        if oy < 1 or ox < 1:
            raise ValueError(
                f"layer {self.name}: a {self.kernel[0]}×{self.kernel[1]} pool doesn't fit into "
                f"{shape[1] + top + bottom}×{shape[2] + left + right} padded pixels"
            )
        return (shape[0], oy, ox)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requantize:
    """Accumulators as activations: rescaled by channel, moved by the output's zero point, clamped.

    The arithmetic is `numerics.requantize`. A ReLU is a `low` at the zero point.
    """

    kind: ClassVar[str] = "requantize"
    name: str
    input: str
    output: str
    multiplier: NDArray[np.int32]
    """Q0.31, 0..2^31 − 1, shape (K,)."""
    shift: NDArray[np.int32]
    """0..31, shape (K,)."""
    rounding: Rounding
    low: int
    high: int

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        for name, top in (("multiplier", (1 << 31) - 1), ("shift", 31)):
            array = np.asarray(getattr(self, name))
            if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
                raise ValueError(f"{where}: {name} must be integers of shape (K,)")
            if int(array.min()) < 0 or int(array.max()) > top:
                worst = int(array.min()) if int(array.min()) < 0 else int(array.max())
                raise ValueError(f"{where}: {name} must be from 0 to {top}, not {worst}")
            copy = array.astype(np.int32)
            copy.flags.writeable = False
            object.__setattr__(self, name, copy)
        if self.multiplier.shape != self.shift.shape:
            raise ValueError(
                f"{where}: multiplier and shift must be equally many, not {self.multiplier.size} "
                f"and {self.shift.size}"
            )
        try:
            object.__setattr__(self, "rounding", Rounding(self.rounding))
        except ValueError:
            raise ValueError(
                f"{where}: rounding must be one of {', '.join(r.name for r in Rounding)}, not "
                f"{self.rounding!r}"
            ) from None
        for name in ("low", "high"):
            try:
                object.__setattr__(self, name, operator.index(getattr(self, name)))
            except TypeError:
                raise ValueError(f"{where}: {name} must be an integer, not {getattr(self, name)!r}") from None
        if self.low > self.high:
            raise ValueError(f"{where}: low must not be above high, not {self.low} and {self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu:
    """max(value, zero point): input and output share scale and zero point."""

    kind: ClassVar[str] = "relu"
    name: str
    input: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten:
    """(C·H·W,) from (C, H, W), in that order."""

    kind: ClassVar[str] = "flatten"
    name: str
    input: str
    output: str


Layer = Conv | Linear | MaxPool | Requantize | Relu | Flatten
