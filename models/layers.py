"""The layers that a network is made of, each with its geometry; formats are checked in `verify`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .layer_parts import (
    OneInput,
    check_integer,
    check_integers,
    check_multipliers,
    check_rounding,
    windows_shape,
)
from .numerics import Rounding
from .post_layers import PlaneSum, Requantize, Thresholds

__all__ = [
    "Add",
    "AvgPool",
    "Concat",
    "Conv",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool",
    "PlaneSum",
    "Relu",
    "Requantize",
    "Shuffle",
    "Thresholds",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(OneInput):
    """A 2-D convolution (cross-correlation): accumulators (K, OY, OX) from (C, H, W).

    Weights, shape (K, C / groups, FY, FX), and bias stand in the network's weight record;
    acc = Σ weight · stored input + bias. With as many groups as channels it is a depthwise convolution.
    """

    kind: ClassVar[str] = "conv"
    stride: tuple[int, int] = (1, 1)
    """(y, x)."""
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """(top, left, bottom, right)."""
    dilation: tuple[int, int] = (1, 1)
    """(y, x)."""
    groups: int = 1
    pad_value: int | None = None
    """The stored value that padding inserts; None is the input's zero point. Binary inputs have no 0: with
    −1 or 1 padding is a bit as all others, with 0 it adds nothing to a sum (and no hardware does it)."""

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        for name, length, low in (("stride", 2, 1), ("padding", 4, 0), ("dilation", 2, 1)):
            checked = check_integers(where, name, getattr(self, name), length, low)
            object.__setattr__(self, name, checked)
        object.__setattr__(self, "groups", check_integers(where, "groups", (self.groups,), 1, 1)[0])
        if self.pad_value is not None:
            checked = check_integers(where, "pad_value", (self.pad_value,), 1, -(1 << 15))
            object.__setattr__(self, "pad_value", checked[0])

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
        windows = windows_shape(
            where,
            f"kernel with dilation {self.dilation[0]}×{self.dilation[1]}",
            shape,
            kernel=(weights[2], weights[3]),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )
        return (weights[0], *windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(OneInput):
    """A fully connected layer: accumulators (K,) from (N,); weights have shape (K, N)."""

    kind: ClassVar[str] = "linear"

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
class _Pool(OneInput):
    """Windows that slide over every channel alone: (C, OY, OX) from (C, H, W)."""

    kernel: tuple[int, int]
    """(y, x)."""
    stride: tuple[int, int]
    """(y, x)."""
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """(top, left, bottom, right), each less than the kernel."""

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        for name, length, low in (("kernel", 2, 1), ("stride", 2, 1), ("padding", 4, 0)):
            checked = check_integers(where, name, getattr(self, name), length, low)
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
        where = f"layer {self.name}"
        if len(shape) != 3:
            raise ValueError(f"{where}: a pool needs an input (C, H, W), not {shape}")
        windows = windows_shape(
            where, "pool", shape, kernel=self.kernel, stride=self.stride, padding=self.padding
        )
        return (shape[0], *windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(_Pool):
    """The maximum of each window, (C, OY, OX) from (C, H, W); padded places never win."""

    kind: ClassVar[str] = "maxpool"


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPool(_Pool):
    """The sum of each window, accumulators (C, OY, OX) from (C, H, W); padding inserts the zero point.

    A Requantize after it makes the mean: with n pixels in a window its multiplier holds
    input scale / (n · output scale), its bias is −n · the input's zero point. Padded places count.
    A window of the whole picture is a global pool.
    """

    kind: ClassVar[str] = "avgpool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relu(OneInput):
    """max(value, zero point): input and output share scale and zero point."""

    kind: ClassVar[str] = "relu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten(OneInput):
    """(C·H·W,) from (C, H, W), in that order."""

    kind: ClassVar[str] = "flatten"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffle(OneInput):
    """A channel shuffle: out[c · groups + j] = in[j · (C / groups) + c], on (C, H, W) or (N,).

    Source: Zhang et al. 2018, ShuffleNet.
    """

    kind: ClassVar[str] = "shuffle"
    groups: int

    def __post_init__(self) -> None:
        groups = check_integers(f"layer {self.name}", "groups", (self.groups,), 1, 1)[0]
        object.__setattr__(self, "groups", groups)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`shape`; ValueError, naming the layer, if groups don't divide its channels."""
        if shape[0] % self.groups:
            raise ValueError(
                f"layer {self.name}: groups must divide the {shape[0]} channels, not {self.groups}"
            )
        return shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Add:
    """A residual add of two tensors of one shape, each with a scale of its own: accumulators of that shape.

    acc = Σᵢ rescale((xᵢ − zero pointᵢ) · 2^left_shift, multiplierᵢ, shiftᵢ); a Requantize after it, with
    the same multiplier and shift for all channels, brings the sum to the output's scale. TFLite's ADD
    has left_shift 20 and Rounding.TFLITE_DOUBLE.
    """

    kind: ClassVar[str] = "add"
    name: str
    inputs: tuple[str, ...]
    """Two names; both may be the same."""
    output: str
    multiplier: NDArray[np.int32]
    """Q0.31, 0..2^31 − 1, shape (2,)."""
    shift: NDArray[np.int32]
    """0..31, shape (2,)."""
    left_shift: int
    """0..20: fraction bits that the sum is formed with."""
    rounding: Rounding

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        object.__setattr__(self, "inputs", _names(where, self.inputs))
        if len(self.inputs) != 2:
            raise ValueError(f"{where}: an add has 2 inputs, not {len(self.inputs)}")
        multiplier, shift = check_multipliers(where, self.multiplier, self.shift)
        if multiplier.size != 2:
            raise ValueError(
                f"{where}: multiplier and shift must be given for the 2 inputs, not for {multiplier.size}"
            )
        object.__setattr__(self, "multiplier", multiplier)
        object.__setattr__(self, "shift", shift)
        object.__setattr__(self, "rounding", check_rounding(where, self.rounding))
        object.__setattr__(self, "left_shift", check_integer(where, "left_shift", self.left_shift))
        if not 0 <= self.left_shift <= 20:
            raise ValueError(f"{where}: left_shift must be from 0 to 20, not {self.left_shift}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat:
    """The channels of all inputs, one after the other: (ΣC, H, W) from (C, H, W) each, or (ΣN,) from (N,)."""

    kind: ClassVar[str] = "concat"
    name: str
    inputs: tuple[str, ...]
    """Two names or more; a name may stand more than once."""
    output: str

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        object.__setattr__(self, "inputs", _names(where, self.inputs))
        if len(self.inputs) < 2:
            raise ValueError(f"{where}: a concat has at least 2 inputs, not {len(self.inputs)}")

    def output_shape(self, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
        """The shape of the whole; ValueError, naming the layer, if pixels differ."""
        if any(shape[1:] != shapes[0][1:] for shape in shapes):
            raise ValueError(
                f"layer {self.name}: all inputs must have the same pixels, not {', '.join(map(str, shapes))}"
            )
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _names(where: str, inputs: object) -> tuple[str, ...]:
    if not isinstance(inputs, tuple | list) or not all(isinstance(name, str) for name in inputs):
        raise ValueError(f"{where}: inputs must be a tuple of tensor names, not {inputs!r}")
    return tuple(inputs)


Layer = (
    Conv
    | Linear
    | MaxPool
    | AvgPool
    | Requantize
    | Thresholds
    | PlaneSum
    | Relu
    | Flatten
    | Add
    | Concat
    | Shuffle
)
