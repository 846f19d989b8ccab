"""What a TFLite operator's windows, axes and activation come to, checked against its tensors' shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from .tflite_file import TfliteFile, TfliteOperator, TfliteTensor

__all__ = [
    "ACTIVATIONS",
    "Operands",
    "Window",
    "concat_axis",
    "is_channels_last",
    "mean_pixels",
    "nchw",
    "operands",
    "padding_of",
    "weights_of",
    "window_of",
]

ACTIVATIONS = {
    tflite.ActivationFunctionType.NONE: None,
    tflite.ActivationFunctionType.RELU: (0.0, math.inf),
    tflite.ActivationFunctionType.RELU_N1_TO_1: (-1.0, 1.0),
    tflite.ActivationFunctionType.RELU6: (0.0, 6.0),
}
"""Least and greatest real value by the schema's number; None clamps nothing."""

_COUNTS = {
    "CONV_2D": (2, 3),
    "DEPTHWISE_CONV_2D": (2, 3),
    "FULLY_CONNECTED": (2, 3),
    "ADD": (2, 2),
    "CONCATENATION": (2, 1 << 10),
    "RESHAPE": (1, 2),
    "PAD": (2, 2),
    "MEAN": (2, 2),
}
"""How many operands an operator has; all others have one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operands:
    """An operator's tensors: those that are activations, the parameters after them, and the result."""

    sources: tuple[int, ...]
    """Numbers of the activations."""
    parameters: tuple[TfliteTensor | None, ...]
    """Constants: weights and bias, a shape, paddings or axes; None where one is left out."""
    result: TfliteTensor
    activation: tuple[float, float] | None


def operands(file: TfliteFile, operator: TfliteOperator) -> Operands:
    """An operator's tensors, sorted.

    Raises:
        ValueError: too few or too many operands, a parameter that isn't constant, a batch axis other than
            1, or an unknown fused activation; names the operator.
    """
    least, most = _COUNTS.get(operator.kind, (1, 1))
    inputs = operator.inputs
    if not least <= len(inputs) <= most:
        raise ValueError(f"{operator}: it must have {least} to {most} operands, not {len(inputs)}")
    moving = 2 if operator.kind == "ADD" else len(inputs) if operator.kind == "CONCATENATION" else 1
    if any(number < 0 for number in inputs[: max(moving, least)]):
        raise ValueError(f"{operator}: an operand that it needs is left out")
    parameters = tuple(file.tensors[n] if n >= 0 else None for n in inputs[moving:])
    for tensor in parameters:
        if tensor is not None and tensor.data is None:
            raise ValueError(f"{operator}: its operand {tensor.name!r:.60} must be constant")
    for number in (*inputs[:moving], operator.output):
        shape = file.tensors[number].shape
        if len(shape) < 2 or shape[0] != 1:
            raise ValueError(f"{operator}: activations must have a batch axis of 1 first, not shape {shape}")
    number = operator.options.get("FusedActivationFunction", 0)
    if number not in ACTIVATIONS:
        raise ValueError(
            f"{operator}: fused activation {number} is not read; NONE, RELU, RELU_N1_TO_1, RELU6 are"
        )
    return Operands(
        sources=inputs[:moving],
        parameters=parameters,
        result=file.tensors[operator.output],
        activation=ACTIVATIONS[number],
    )


def is_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether a shape is a picture's, (1, H, W, C)."""
    return len(shape) == 4


def nchw(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with channels in front of the pixels; one that is no picture's stays."""
    return (shape[0], shape[3], shape[1], shape[2]) if is_channels_last(shape) else shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Windows over a picture; pairs are (y, x), padding is (top, left, bottom, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]


def _expect(operator: TfliteOperator, result: TfliteTensor, shape: tuple[int, ...]) -> None:
    if result.shape != shape:
        raise ValueError(f"{operator}: its result must have shape {shape}, not {result.shape}")


def window_of(
    operator: TfliteOperator,
    source: TfliteTensor,
    result: TfliteTensor,
    kernel: tuple[int, int],
    channels: int,
) -> Window:
    """The windows of a convolution or pool.

    Args:
        operator: with the options Padding, StrideH, …
        source: a picture.
        result: whose shape must be what the windows give.
        kernel: (y, x).
        channels: of the result.

    Raises:
        ValueError: options or shapes that don't fit; names the operator.
    """
    options = operator.options
    if not is_channels_last(source.shape):
        raise ValueError(f"{operator}: its input must be (1, H, W, C), not {source.shape}")
    stride = options["StrideH"], options["StrideW"]
    dilation = options.get("DilationHFactor", 1), options.get("DilationWFactor", 1)
    if any(not 1 <= n <= 1 << 16 for n in (*stride, *dilation, *kernel)):
        raise ValueError(
            f"{operator}: kernel {kernel}, stride {stride} and dilation {dilation} must be 1 to 2^16"
        )
    if options["Padding"] not in (tflite.Padding.SAME, tflite.Padding.VALID):
        raise ValueError(f"{operator}: padding must be SAME or VALID, not number {options['Padding']}")
    counts, before, after = [], [], []
    for size, taps, step, apart in zip(source.shape[1:3], kernel, stride, dilation, strict=True):
        reach = (taps - 1) * apart + 1
        if options["Padding"] == tflite.Padding.SAME:
            count = -(-size // step)
            missing = max(0, (count - 1) * step + reach - size)
        else:
            count, missing = (size - reach) // step + 1, 0
        counts.append(count)
        before.append(missing // 2)
        after.append(missing - missing // 2)
    _expect(operator, result, (1, counts[0], counts[1], channels))
    return Window(
        kernel=kernel, stride=stride, dilation=dilation, padding=(before[0], before[1], after[0], after[1])
    )


def weights_of(
    operator: TfliteOperator, source: TfliteTensor, weights: TfliteTensor, bias: TfliteTensor | None
) -> tuple[NDArray[Any], int]:
    """(weights as (K, C / groups, FY, FX) or (K, N), groups) of an operator that has some.

    Raises:
        ValueError: shapes, scales or bias that don't fit; names the operator.
    """
    assert weights.data is not None  # `operands` made sure
    shape, groups = weights.shape, 1
    if operator.kind == "FULLY_CONNECTED":
        if operator.options["WeightsFormat"] != 0:
            raise ValueError(f"{operator}: shuffled weights are not read")
        if len(shape) != 2 or math.prod(source.shape) != shape[1]:
            raise ValueError(f"{operator}: weights {shape} don't fit an input of {source.shape}")
        values, axis = weights.data, 0
    else:
        if len(shape) != 4 or not is_channels_last(source.shape):
            raise ValueError(f"{operator}: weights {shape} and input {source.shape} must have 4 axes")
        channels = source.shape[3]
        if operator.kind == "CONV_2D":
            if channels % shape[3] or shape[0] % (channels // shape[3]):
                raise ValueError(f"{operator}: weights {shape} don't fit an input of {channels} channels")
            groups = channels // shape[3]
            values, axis = weights.data.transpose(0, 3, 1, 2), 0
        else:
            if shape[0] != 1 or shape[3] % channels:
                raise ValueError(f"{operator}: weights {shape} don't fit an input of {channels} channels")
            groups = channels
            values, axis = weights.data.transpose(3, 0, 1, 2), 3
    if weights.scales is not None and weights.scales.size > 1 and weights.axis != axis:
        raise ValueError(f"{operator}: its weights' scales must lie along axis {axis}, not {weights.axis}")
    wanted = np.dtype(np.int32 if weights.dtype == np.int8 else np.float32)
    if bias is not None and (math.prod(bias.shape) != values.shape[0] or bias.dtype != wanted):
        raise ValueError(
            f"{operator}: its bias must be {values.shape[0]} values of {wanted}, not {bias.shape} of "
            f"{bias.dtype}"
        )
    return values, groups


def padding_of(
    operator: TfliteOperator, source: TfliteTensor, result: TfliteTensor, table: TfliteTensor | None
) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of a PAD of a picture's pixels.

    Raises:
        ValueError: a table of another shape, or padding of batch or channels; names the operator.
    """
    if table is None or table.data is None or table.shape != (4, 2) or not is_channels_last(source.shape):
        raise ValueError(f"{operator}: its padding must be constant, shape (4, 2), on (1, H, W, C)")
    rows = [(int(before), int(after)) for before, after in table.data]
    if any(not 0 <= n <= 1 << 16 for row in rows for n in row) or rows[0] != (0, 0) or rows[3] != (0, 0):
        raise ValueError(f"{operator}: only pixels can be padded, by up to 2^16, not {rows}")
    _expect(operator, result, tuple(n + sum(row) for n, row in zip(source.shape, rows, strict=True)))
    return rows[1][0], rows[2][0], rows[1][1], rows[2][1]


def mean_pixels(
    operator: TfliteOperator, source: TfliteTensor, result: TfliteTensor, axes: TfliteTensor | None
) -> int:
    """Pixels of the picture that a MEAN takes the mean of.

    Raises:
        ValueError: other axes than a picture's y and x; names the operator.
    """
    size = len(source.shape)
    found = () if axes is None or axes.data is None else tuple(int(n) for n in axes.data.ravel()[:8])
    if size != 4 or {n % size if -size <= n < size else n for n in found} != {1, 2}:
        raise ValueError(
            f"{operator}: only the mean over the pixels of (1, H, W, C) is read, not over {found}"
        )
    channels = source.shape[3]
    _expect(operator, result, (1, 1, 1, channels) if operator.options["KeepDims"] else (1, channels))
    return math.prod(source.shape[1:3])


def concat_axis(operator: TfliteOperator, sources: list[TfliteTensor], result: TfliteTensor) -> int:
    """The axis of a CONCATENATION in the file's layout.

    Raises:
        ValueError: shapes that don't fit, or the batch axis; names the operator.
    """
    size = len(result.shape)
    axis = int(operator.options["Axis"])
    axis = axis + size if axis < 0 else axis
    if not 1 <= axis < size or any(len(tensor.shape) != size for tensor in sources):
        raise ValueError(f"{operator}: it can't join {[t.shape for t in sources]!s:.120} along axis {axis}")
    whole = list(sources[0].shape)
    whole[axis] = sum(tensor.shape[axis] for tensor in sources)
    for tensor in sources:
        if [n for a, n in enumerate(tensor.shape) if a != axis] != [
            n for a, n in enumerate(whole) if a != axis
        ]:
            raise ValueError(
                f"{operator}: it can't join {[t.shape for t in sources]!s:.120} along axis {axis}"
            )
    _expect(operator, result, tuple(whole))
    return axis
