"""A TFLite file as plain tables: tensors, constants and operators, bounded before they are believed.

The flatbuffer is walked with the `tflite` schema's accessors, which check nothing. An offset that leaves the
file fails in `struct` or numpy, which is reported as damage. Counts are held against the file's length, and
all that is read is charged to a budget, so a damaged file costs no more time and memory than a good one.
"""

from __future__ import annotations

import math
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from ..graph.graph import MAX_ELEMENTS

__all__ = ["OPTIONS", "TfliteFile", "TfliteOperator", "TfliteTensor", "read_tflite"]

_FILE_LIMIT = (1 << 31) - 1
_COUNT_LIMIT = 1 << 12
"""The most tensors, operators, buffers or operator codes."""
_DAMAGE = (struct.error, IndexError, KeyError, TypeError, OverflowError, AttributeError, MemoryError)

_POOL = ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction")
_CONV = ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction")
OPTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "CONV_2D": ("Conv2DOptions", _CONV),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", (*_CONV, "DepthMultiplier")),
    "FULLY_CONNECTED": (
        "FullyConnectedOptions",
        ("FusedActivationFunction", "WeightsFormat", "KeepNumDims"),
    ),
    "MAX_POOL_2D": ("Pool2DOptions", _POOL),
    "AVERAGE_POOL_2D": ("Pool2DOptions", _POOL),
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
    "RESHAPE": ("ReshapeOptions", ()),
    "SQUEEZE": ("SqueezeOptions", ()),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "LOGISTIC": ("", ()),
    "PAD": ("PadOptions", ()),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "RELU": ("", ()),
    "RELU6": ("", ()),
    "QUANTIZE": ("QuantizeOptions", ()),
    "DEQUANTIZE": ("DequantizeOptions", ()),
}
"""The operators that are read: the table of their options, and which of those."""

_OPTIONAL_TABLE = {"RESHAPE", "SQUEEZE", "PAD", "QUANTIZE", "DEQUANTIZE"}
"""Operators whose options may be left out, since nothing in them is needed."""

_DTYPES: Mapping[int, np.dtype[Any]] = {
    tflite.TensorType.FLOAT32: np.dtype("<f4"),
    tflite.TensorType.INT8: np.dtype("<i1"),
    tflite.TensorType.UINT8: np.dtype("<u1"),
    tflite.TensorType.INT32: np.dtype("<i4"),
    tflite.TensorType.INT64: np.dtype("<i8"),
}


def _names_of(enum: type[Any]) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


_OPERATOR_NAMES = _names_of(tflite.BuiltinOperator)
_TYPE_NAMES = _names_of(tflite.TensorType)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TfliteTensor:
    """A tensor as the file says; its layout is the file's, NHWC."""

    name: str
    shape: tuple[int, ...]
    """The batch axis, where there is one, as the file has it."""
    dtype: np.dtype[Any]
    data: NDArray[Any] | None
    """A view of the file, of `shape`; None where an operator makes it."""
    scales: NDArray[np.float32] | None
    """Shape (1,) or (shape[axis],), finite and above 0; None where it isn't quantised."""
    zero_points: NDArray[np.int64] | None
    """As many, each within `dtype`."""
    axis: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TfliteOperator:
    """An operator with its options; one that is left out of `OPTIONS` is never read."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    """Numbers of tensors; −1 stands for one that is left out."""
    output: int
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"operator {self.index} ({self.kind})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TfliteFile:
    """The one graph of a file, whose numbers all name tensors and whose operators can run in order."""

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(path: Path) -> TfliteFile:
    """The graph that a file holds.

    Raises:
        OSError: the file can't be read.
        ValueError: no TFLite file, damaged, or with operators, types or shapes that aren't read; one line
            that names the operator or tensor.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
        raise ValueError("it is no regular file")
    if status.st_size > _FILE_LIMIT:
        raise ValueError(f"it has {status.st_size} bytes; at most {_FILE_LIMIT} are read")
    with path.open("rb") as file:
        data = file.read(status.st_size)
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise ValueError("it is no TFLite file: bytes 4 to 7 are not 'TFL3'")
    reader = _Reader(data)
    try:
        return reader.read()
    except _DAMAGE:
        raise ValueError(f"it is damaged: {reader.where} lies outside the file") from None


class _Reader:
    """One pass over a file; `where` is what is being read, for the message if it lies outside."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = 4 * len(data) + 4096
        self.where = "the model"

    def _charge(self, count: int, size: int = 1) -> int:
        """`count`, the length of a vector; it must fit into the file, and into what may be read in all."""
        cost = count * size
        self._left -= cost
        if count < 0 or cost > len(self._data) or self._left < 0:
            raise IndexError(count)
        return count

    def _count(self, count: int, what: str) -> int:
        if count > _COUNT_LIMIT:
            raise ValueError(f"it has {count} {what}; at most {_COUNT_LIMIT} are read")
        return self._charge(count, 4)

    def _vector(self, table: Any, name: str, size: int) -> NDArray[Any]:
        """A vector of numbers; empty where there is none."""
        if not self._charge(getattr(table, f"{name}Length")(), size):
            return np.zeros(0, np.int64)
        return np.asarray(getattr(table, f"{name}AsNumpy")())

    def read(self) -> TfliteFile:
        model = tflite.Model.GetRootAs(self._data, 0)
        if model.SubgraphsLength() != 1:
            raise ValueError(f"it must have 1 subgraph, not {model.SubgraphsLength()}: export one function")
        kinds = self._operator_kinds(model)
        graph = model.Subgraphs(0)
        buffers = self._count(model.BuffersLength(), "buffers")
        tensors = []
        for index in range(self._count(graph.TensorsLength(), "tensors")):
            self.where = f"tensor {index}"
            tensors.append(self._tensor(model, graph.Tensors(index), index, buffers))
        self.where = "the list of operators"
        operators = []
        for index in range(self._count(graph.OperatorsLength(), "operators")):
            self.where = f"operator {index}"
            operators.append(self._operator(graph.Operators(index), index, kinds))
        self.where = "the list of inputs and outputs"
        inputs = tuple(int(n) for n in self._vector(graph, "Inputs", 4))
        outputs = tuple(int(n) for n in self._vector(graph, "Outputs", 4))
        file = TfliteFile(tensors=tuple(tensors), operators=tuple(operators), inputs=inputs, outputs=outputs)
        _check_order(file)
        return file

    def _operator_kinds(self, model: Any) -> list[str]:
        self.where = "the list of operator codes"
        kinds = []
        for index in range(self._count(model.OperatorCodesLength(), "operator codes")):
            code = model.OperatorCodes(index)
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            kinds.append(_OPERATOR_NAMES.get(number, f"number {number}"))
        return kinds

    def _tensor(self, model: Any, table: Any, index: int, buffers: int) -> TfliteTensor:
        name = table.Name() or b""
        self._charge(len(name))
        label = f"tensor {index} ({name.decode('utf-8', 'replace')!r:.60})"
        shape = tuple(int(n) for n in self._vector(table, "Shape", 4))
        signature = tuple(int(n) for n in self._vector(table, "ShapeSignature", 4))
        if any(n < 1 for n in shape) or math.prod(shape) > MAX_ELEMENTS or len(shape) > 6:
            raise ValueError(
                f"{label}: its shape must be whole, with at most 6 axes and 2^28 values, not {shape!s:.80}"
            )
        if any(n < 0 for n in signature[1:]):
            raise ValueError(
                f"{label}: only its batch axis may be open, not {signature!s:.80}: fix the shape"
            )
        if table.Type() not in _DTYPES:
            known = _TYPE_NAMES.get(table.Type(), f"number {table.Type()}")
            raise ValueError(f"{label}: type {known} is not read; FLOAT32, INT8, UINT8, INT32 and INT64 are")
        if table.Sparsity() is not None or table.IsVariable():
            raise ValueError(f"{label}: sparse and variable tensors are not read")
        dtype = _DTYPES[table.Type()]
        if not 0 <= table.Buffer() < buffers:
            raise ValueError(f"{label}: its buffer {table.Buffer()} is none of the file's {buffers}")
        buffer = model.Buffers(table.Buffer())
        if buffer.Offset() > 1 or buffer.Size() > 1:
            raise ValueError(f"{label}: its data lies outside the flatbuffer, which is not read")
        data = None
        if length := buffer.DataLength():
            if length != math.prod(shape) * dtype.itemsize:
                raise ValueError(
                    f"{label}: {dtype.name} of shape {shape!s:.80} takes {math.prod(shape) * dtype.itemsize} "
                    f"bytes, its buffer has {length}"
                )
            data = self._vector(buffer, "Data", 1).view(dtype).reshape(shape)
            if dtype.kind == "f" and not np.all(np.isfinite(data)):
                raise ValueError(f"{label}: its constants must be finite")
        scales, zero_points, axis = self._quantisation(table.Quantization(), label, shape, dtype)
        return TfliteTensor(
            name=name.decode("utf-8", "replace"), shape=shape, dtype=dtype, data=data, scales=scales,
            zero_points=zero_points, axis=axis,
        )  # fmt: skip

    def _quantisation(
        self, table: Any, label: str, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.int64] | None, int]:
        if table is None or not table.ScaleLength():
            return None, None, 0
        scales = self._vector(table, "Scale", 4).astype(np.float32)
        zero_points = self._vector(table, "ZeroPoint", 8).astype(np.int64)
        axis = int(table.QuantizedDimension())
        if not np.all(np.isfinite(scales) & (scales > 0)):
            raise ValueError(f"{label}: its scales must be finite and above 0")
        if not zero_points.size:
            zero_points = np.zeros(scales.size, np.int64)
        if zero_points.size == 1:
            zero_points = np.repeat(zero_points, scales.size)
        if scales.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scales.size):
            raise ValueError(f"{label}: {scales.size} scales don't fit axis {axis} of shape {shape!s:.80}")
        if zero_points.size != scales.size:
            raise ValueError(f"{label}: it has {scales.size} scales and {zero_points.size} zero points")
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            if int(zero_points.min()) < limits.min or int(zero_points.max()) > limits.max:
                raise ValueError(f"{label}: its zero points must be from {limits.min} to {limits.max}")
        return scales, zero_points, axis

    def _operator(self, table: Any, index: int, kinds: list[str]) -> TfliteOperator:
        number = table.OpcodeIndex()
        if not 0 <= number < len(kinds):
            raise ValueError(f"operator {index}: its code {number} is none of the file's {len(kinds)}")
        kind = kinds[number]
        where = f"operator {index} ({kind})"
        if kind not in OPTIONS:
            raise ValueError(f"{where} is not read; these are: {', '.join(OPTIONS)}")
        inputs = tuple(int(n) for n in self._vector(table, "Inputs", 4))
        outputs = tuple(int(n) for n in self._vector(table, "Outputs", 4))
        if len(outputs) != 1:
            raise ValueError(f"{where}: it must have 1 output, not {len(outputs)}")
        name, wanted = OPTIONS[kind]
        options: dict[str, Any] = {}
        if name and not (table.BuiltinOptionsType() == 0 and kind in _OPTIONAL_TABLE):
            if table.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, name):
                raise ValueError(
                    f"{where}: its options must be {name}, not number {table.BuiltinOptionsType()}"
                )
            union = table.BuiltinOptions()
            entry = getattr(tflite, name)()
            entry.Init(union.Bytes, union.Pos)
            options = {key: getattr(entry, key)() for key in wanted}
        return TfliteOperator(index=index, kind=kind, inputs=inputs, output=outputs[0], options=options)


def _check_order(file: TfliteFile) -> None:
    """Nothing, where every operand is a constant, an input, or made by an operator before it."""
    count = len(file.tensors)
    if not file.inputs or not file.outputs or not file.operators:
        raise ValueError("it must have inputs, outputs and operators")
    for number in (*file.inputs, *file.outputs):
        if not 0 <= number < count:
            raise ValueError(f"its inputs and outputs must be tensors 0 to {count - 1}, not {number}")
    known = {number for number, tensor in enumerate(file.tensors) if tensor.data is not None}
    for number in file.inputs:
        if number in known:
            raise ValueError(f"tensor {number} is named as an input, but is a constant or named twice")
        known.add(number)
    for operator in file.operators:
        for number in operator.inputs:
            if not -1 <= number < count:
                raise ValueError(f"{operator}: its operands must be tensors 0 to {count - 1}, not {number}")
            if number >= 0 and number not in known:
                raise ValueError(f"{operator}: its operand, tensor {number}, is made by none before it")
        if not 0 <= operator.output < count or operator.output in known:
            raise ValueError(f"{operator}: its result, tensor {operator.output}, is made twice or not listed")
        known.add(operator.output)
    for number in file.outputs:
        if number not in known:
            raise ValueError(f"its output, tensor {number}, is made by no operator")
