"""TFLite files made by hand, one function's graph each, so that every operator can meet its kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import tflite

__all__ = ["Made", "TfliteWriter", "every_operator"]

_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "ADD": "AddOptions",
    "CONCATENATION": "ConcatenationOptions",
    "RESHAPE": "ReshapeOptions",
    "SOFTMAX": "SoftmaxOptions",
    "PAD": "PadOptions",
    "MEAN": "ReducerOptions",
    "QUANTIZE": "QuantizeOptions",
    "DEQUANTIZE": "DequantizeOptions",
}
_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "DEQUANTIZE": 2}


@dataclass(frozen=True)
class Made:
    """A tensor of a file being written."""

    number: int
    shape: tuple[int, ...]


class TfliteWriter:
    """Collects tensors and operators; `bytes` is the file."""

    def __init__(self) -> None:
        self._tensors: list[dict[str, Any]] = []
        self._operators: list[tuple[str, list[int], int, dict[str, Any]]] = []

    def tensor(
        self,
        shape: tuple[int, ...],
        dtype: Any = np.int8,
        *,
        data: Any = None,
        scale: Any = None,
        zero_point: int = 0,
        axis: int = 0,
        name: str = "",
    ) -> Made:
        number = len(self._tensors)
        self._tensors.append(
            {
                "name": name or f"tensor_{number}",
                "shape": shape,
                "dtype": np.dtype(dtype),
                "data": None if data is None else np.ascontiguousarray(data, dtype).reshape(shape),
                "scale": None if scale is None else np.atleast_1d(np.asarray(scale, np.float32)),
                "zero_point": zero_point,
                "axis": axis,
            }
        )
        return Made(number, shape)

    def constant(self, data: Any, dtype: Any, **quantised: Any) -> Made:
        array = np.asarray(data, dtype)
        return self.tensor(array.shape, dtype, data=array, **quantised)

    def operator(self, kind: str, inputs: list[Made], output: Made, **options: Any) -> Made:
        self._operators.append((kind, [made.number for made in inputs], output.number, options))
        return output

    def bytes(self, inputs: list[Made], outputs: list[Made]) -> bytes:
        b = flatbuffers.Builder(1024)
        types = {np.dtype(t): getattr(tflite.TensorType, n) for t, n in (
            (np.float32, "FLOAT32"), (np.int8, "INT8"), (np.int32, "INT32"), (np.int64, "INT64"),
            (np.uint8, "UINT8"),
        )}  # fmt: skip
        buffers, tensors = [self._buffer(b, None)], []
        for tensor in self._tensors:
            if tensor["data"] is not None:
                buffers.append(self._buffer(b, tensor["data"]))
            quantisation = self._quantisation(b, tensor)
            name, shape = b.CreateString(tensor["name"]), _vector(b, np.array(tensor["shape"], np.int32))
            tflite.TensorStart(b)
            tflite.TensorAddName(b, name)
            tflite.TensorAddShape(b, shape)
            tflite.TensorAddType(b, types[tensor["dtype"]])
            tflite.TensorAddBuffer(b, len(buffers) - 1 if tensor["data"] is not None else 0)
            if quantisation is not None:
                tflite.TensorAddQuantization(b, quantisation)
            tensors.append(tflite.TensorEnd(b))
        kinds = sorted({kind for kind, *_ in self._operators})
        operators = [self._operator(b, kinds, *operator) for operator in self._operators]
        codes = []
        for kind in kinds:
            number = getattr(tflite.BuiltinOperator, kind)
            tflite.OperatorCodeStart(b)
            tflite.OperatorCodeAddDeprecatedBuiltinCode(b, number)
            tflite.OperatorCodeAddBuiltinCode(b, number)
            tflite.OperatorCodeAddVersion(b, _VERSIONS.get(kind, 2 if kind not in ("RESHAPE",) else 1))
            codes.append(tflite.OperatorCodeEnd(b))
        parts = _offsets(b, tensors), _offsets(b, operators)
        ends = [_vector(b, np.array([m.number for m in made], np.int32)) for made in (inputs, outputs)]
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, parts[0])
        tflite.SubGraphAddInputs(b, ends[0])
        tflite.SubGraphAddOutputs(b, ends[1])
        tflite.SubGraphAddOperators(b, parts[1])
        graph = tflite.SubGraphEnd(b)
        graphs, code_list, buffer_list = _offsets(b, [graph]), _offsets(b, codes), _offsets(b, buffers)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, code_list)
        tflite.ModelAddSubgraphs(b, graphs)
        tflite.ModelAddBuffers(b, buffer_list)
        b.Finish(tflite.ModelEnd(b), b"TFL3")
        return bytes(b.Output())

    @staticmethod
    def _buffer(b: Any, data: Any) -> int:
        vector = None if data is None else b.CreateNumpyVector(np.frombuffer(data.tobytes(), np.uint8))
        tflite.BufferStart(b)
        if vector is not None:
            tflite.BufferAddData(b, vector)
        return int(tflite.BufferEnd(b))

    @staticmethod
    def _quantisation(b: Any, tensor: dict[str, Any]) -> int | None:
        if tensor["scale"] is None:
            return None
        scales = _vector(b, tensor["scale"])
        zero_points = _vector(b, np.full(tensor["scale"].size, tensor["zero_point"], np.int64))
        tflite.QuantizationParametersStart(b)
        tflite.QuantizationParametersAddScale(b, scales)
        tflite.QuantizationParametersAddZeroPoint(b, zero_points)
        tflite.QuantizationParametersAddQuantizedDimension(b, tensor["axis"])
        return int(tflite.QuantizationParametersEnd(b))

    @staticmethod
    def _operator(
        b: Any, kinds: list[str], kind: str, inputs: list[int], output: int, options: dict[str, Any]
    ) -> int:
        table = None
        if name := _OPTIONS.get(kind):
            getattr(tflite, f"{name}Start")(b)
            for key, value in options.items():
                getattr(tflite, f"{name}Add{key}")(b, value)
            table = getattr(tflite, f"{name}End")(b)
        ins, outs = _vector(b, np.array(inputs, np.int32)), _vector(b, np.array([output], np.int32))
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, kinds.index(kind))
        tflite.OperatorAddInputs(b, ins)
        tflite.OperatorAddOutputs(b, outs)
        if table is not None:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, name))
            tflite.OperatorAddBuiltinOptions(b, table)
        return int(tflite.OperatorEnd(b))


def _vector(b: Any, values: Any) -> int:
    return int(b.CreateNumpyVector(values))


def _offsets(b: Any, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def every_operator() -> tuple[bytes, tuple[int, ...]]:
    """A file with every int8 operator that the core runs, in one network, and the shape of its input."""
    rng = np.random.default_rng(12)
    w = TfliteWriter()

    def tensor(*shape: int, scale: float, zero_point: int) -> Made:
        return w.tensor((1, *shape), scale=scale, zero_point=zero_point)

    def weighted(
        kind: str, source: Made, result: Made, shape: tuple[int, ...], axis: int, **more: Any
    ) -> None:
        scales = rng.uniform(0.002, 0.01, shape[axis])
        weights = w.constant(rng.integers(-127, 128, shape), np.int8, scale=scales, axis=axis)
        bias = w.constant(rng.integers(-900, 900, shape[axis]), np.int32, scale=scales * 0.05)
        w.operator(kind, [source, weights, bias], result, **more)

    same = {"Padding": 0, "StrideH": 1, "StrideW": 1}
    pool = {"StrideH": 2, "StrideW": 2, "FusedActivationFunction": 0}
    x = tensor(10, 10, 3, scale=0.05, zero_point=3)
    wide = tensor(12, 12, 3, scale=0.05, zero_point=3)
    w.operator("PAD", [x, w.constant([[0, 0], [1, 1], [2, 0], [0, 0]], np.int32)], wide)
    first = tensor(10, 10, 8, scale=0.1, zero_point=-128)
    weighted(
        "CONV_2D", wide, first, (8, 3, 3, 3), 0, Padding=1, StrideH=1, StrideW=1, FusedActivationFunction=1
    )
    second = tensor(10, 10, 8, scale=0.08, zero_point=5)
    options = {**same, "DepthMultiplier": 1, "FusedActivationFunction": 0}
    weighted("DEPTHWISE_CONV_2D", first, second, (1, 3, 3, 8), 3, **options)
    third = tensor(10, 10, 8, scale=0.1, zero_point=-128)
    w.operator("RELU6", [second], third)
    added = tensor(10, 10, 8, scale=0.12, zero_point=-20)
    w.operator("ADD", [first, third], added, FusedActivationFunction=1)
    most, mean = (tensor(5, 5, 8, scale=0.12, zero_point=-20) for _ in range(2))
    w.operator("MAX_POOL_2D", [added], most, Padding=0, FilterHeight=3, FilterWidth=3, **pool)
    w.operator("AVERAGE_POOL_2D", [added], mean, Padding=1, FilterHeight=2, FilterWidth=2, **pool)
    both = tensor(5, 5, 16, scale=0.12, zero_point=-20)
    w.operator("CONCATENATION", [most, mean], both, Axis=3, FusedActivationFunction=0)
    pixel = tensor(1, 1, 16, scale=0.1, zero_point=-30)
    w.operator("MEAN", [both, w.constant([1, 2], np.int32)], pixel, KeepDims=True)
    flat = tensor(16, scale=0.1, zero_point=-30)
    w.operator("RESHAPE", [pixel, w.constant([1, 16], np.int32)], flat)
    result = tensor(10, scale=0.06, zero_point=4)
    weighted("FULLY_CONNECTED", flat, result, (10, 16), 0, FusedActivationFunction=0, WeightsFormat=0)
    return w.bytes([x], [result]), x.shape
