"""The graph of a TFLite file in ONNX's vocabulary, NCHW; int8 operators stand between quantisers.

An int8 operator becomes DequantizeLinear of its operands, the float operator, and QuantizeLinear, as ONNX
writes quantised networks. Evaluated so it may differ by one step from TFLite's integers; what the core runs
is lowered from the file itself (`tflite_core`) and doesn't.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node, Value
from .tflite_file import TfliteFile, TfliteOperator, TfliteTensor
from .tflite_geometry import (
    Operands,
    concat_axis,
    is_channels_last,
    mean_pixels,
    nchw,
    operands,
    padding_of,
    weights_of,
    window_of,
)

__all__ = ["TfliteGraph", "clean_name"]

_NAME_LENGTH = 80
"""Characters of a name, which leaves room for what is made of it."""
_WORDS = re.compile(r"(?i)(conv2d|depthwise|matmul|pool|add|concat|reshape|flatten|softmax|pad|mean)\d*$")
_GENERIC = re.compile(r"(Identity|StatefulPartitionedCall)[_:\d]*(int8)?")
_FLOAT = np.dtype(np.float32)
_NHWC, _NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


def clean_name(text: str) -> str:
    """`text` as networks, tensors and layers may be called: 'model/conv2d/Conv2D' is model.conv2d.Conv2D."""
    clean = re.sub(r"[^A-Za-z0-9_.-]", "_", text.replace("/", ".")).strip(".")[-_NAME_LENGTH:]
    return clean if re.match(r"[A-Za-z_]", clean) else f"_{clean}"


class TfliteGraph:
    """The graph of a file, and what its operators and tensors are called in it.

    Raises:
        ValueError: an operator whose options, types or shapes don't fit; names it.
    """

    def __init__(self, file: TfliteFile, name: str) -> None:
        self._file = file
        self._nodes: list[Node] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._values: dict[str, Value] = {}
        self._taken: set[str] = set()
        stored = sum(tensor.data.nbytes for tensor in file.tensors if tensor.data is not None)
        self._left = 8 * stored + (1 << 20)
        self.value_of: dict[int, str] = {}
        """The graph's value by number of the file's tensor, of activations only."""
        self.name_of: dict[int, str] = {}
        """The node that does an operator's work, by its index."""
        self.nodes_of: dict[int, tuple[Node, ...]] = {}
        """All nodes that an operator became, by its index."""
        for number in file.inputs:
            tensor = file.tensors[number]
            if len(tensor.shape) < 2 or tensor.shape[0] != 1:
                raise ValueError(f"input {tensor.name!r:.60} must have a batch axis of 1, not {tensor.shape}")
            self.value_of[number] = self._value(clean_name(tensor.name), tensor)
        for operator in file.operators:
            start = len(self._nodes)
            self._operator(operator)
            self.nodes_of[operator.index] = tuple(self._nodes[start:])
        for number in file.outputs:
            if number not in self.value_of:
                raise ValueError(f"its output, tensor {number}, is a constant")
        self.graph = Graph(
            name=name,
            source="tflite",
            inputs=tuple(self.value_of[n] for n in file.inputs),
            outputs=tuple(self.value_of[n] for n in file.outputs),
            nodes=tuple(self._nodes),
            constants=self._constants,
            values=self._values,
        )

    # -- names, values, nodes ------------------------------------------------------------------

    def _unique(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name

    def _value(self, wanted: str, tensor: TfliteTensor) -> str:
        return self._made(wanted, nchw(tensor.shape), tensor.dtype)

    def _made(self, wanted: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
        name = self._unique(wanted)
        self._values[name] = Value(name=name, shape=shape, dtype=dtype.newbyteorder("="))
        return name

    def _constant(self, wanted: str, array: NDArray[Any] | float) -> str:
        values = np.array(array, dtype=np.float32 if isinstance(array, float) else None, order="C")
        self._left -= values.nbytes
        if self._left < 0:
            raise ValueError("its operators share constants so often that they would fill the memory")
        name = self._made(wanted, values.shape, values.dtype)
        self._constants[name] = values.astype(values.dtype.newbyteorder("="), copy=False)
        return name

    def _node(
        self,
        op: str,
        name: str,
        inputs: tuple[str, ...],
        output: tuple[str, tuple[int, ...], np.dtype[Any]],
        attributes: Mapping[str, Any] | None = None,
    ) -> str:
        made = self._made(*output)
        self._nodes.append(
            Node(op=op, name=name, inputs=inputs, outputs=(made,), attributes=attributes or {})
        )
        return made

    def _operator_name(self, operator: TfliteOperator, given: Operands) -> str:
        """After the weights, if there are any, or the result; of joined names the one that says the work."""
        named = given.result
        if given.parameters and operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            assert given.parameters[0] is not None
            named = given.parameters[0]
        parts = [part for part in named.name.split(";") if part]
        chosen = next((part for part in parts if _WORDS.search(part)), parts[0] if parts else "")
        if not chosen or _GENERIC.fullmatch(chosen):
            chosen = operator.kind.lower()
        return self._unique(clean_name(chosen))

    # -- quantisers ----------------------------------------------------------------------------

    def _quantisers(self, name: str, tensor: TfliteTensor, operator: TfliteOperator) -> tuple[str, str]:
        """(scale, zero point) of a tensor with one scale, as constants."""
        if tensor.scales is None or tensor.zero_points is None or tensor.scales.size != 1:
            raise ValueError(f"{operator}: tensor {tensor.name!r:.60} must have one scale and zero point")
        return (
            self._constant(f"{name}.scale", tensor.scales[0]),
            self._constant(f"{name}.zero_point", tensor.zero_points.astype(tensor.dtype)[0]),
        )

    def _real(self, name: str, number: int, operator: TfliteOperator, place: int) -> str:
        """A float value for operand `place`; dequantised if it isn't one."""
        tensor = self._file.tensors[number]
        value = self.value_of.get(number)
        if value is None:
            assert tensor.data is not None  # the reader's check of order
            data = tensor.data.transpose(_NCHW) if is_channels_last(tensor.shape) else tensor.data
            value = self._constant(f"{name}.constant", data)
        if tensor.dtype == _FLOAT:
            return value
        scale, zero_point = self._quantisers(f"{name}.x{place}", tensor, operator)
        output = f"{name}.x{place}", nchw(tensor.shape), _FLOAT
        return self._node(
            "DequantizeLinear", self._unique(f"{name}.dequantize"), (value, scale, zero_point), output
        )

    def _parameter(self, name: str, values: NDArray[Any], scales: NDArray[np.float32] | None) -> str:
        """Weights or bias as float: constants, dequantised by channel if they are integers."""
        stored = self._constant(name, values)
        if values.dtype.kind == "f":
            return stored
        assert scales is not None
        scale = self._constant(f"{name}.scale", scales if scales.size > 1 else scales[0])
        return self._node(
            "DequantizeLinear",
            self._unique(f"{name}.dequantize"),
            (stored, scale),
            (f"{name}.real", values.shape, _FLOAT),
            {"axis": 0} if scales.size > 1 else {},
        )

    # -- operators -----------------------------------------------------------------------------

    def _operator(self, operator: TfliteOperator) -> None:
        given = operands(self._file, operator)
        name = self._operator_name(operator, given)
        self.name_of[operator.index] = name
        sources = [self._file.tensors[number] for number in given.sources]
        self._check_types(operator, sources, given)
        if operator.kind in ("RESHAPE", "SQUEEZE"):
            self.value_of[operator.output] = self._reshape(operator, name, sources[0], given.result)
            return
        if operator.kind == "DEQUANTIZE":
            self.value_of[operator.output] = self._real(name, given.sources[0], operator, 0)
            return
        inputs = [self._real(name, number, operator, place) for place, number in enumerate(given.sources)]
        if operator.kind == "QUANTIZE":
            made = inputs[0]
        else:
            made = self._work(operator, name, sources, inputs, given)
        made = self._activate(operator, name, made, given)
        if given.result.dtype != _FLOAT:
            scale, zero_point = self._quantisers(f"{name}.y", given.result, operator)
            output = f"{name}.out", nchw(given.result.shape), given.result.dtype
            made = self._node(
                "QuantizeLinear", self._unique(f"{name}.quantize"), (made, scale, zero_point), output
            )
        self.value_of[operator.output] = made

    def _check_types(self, operator: TfliteOperator, sources: list[TfliteTensor], given: Operands) -> None:
        types = {tensor.dtype.name for tensor in (*sources, given.result)}
        if operator.kind in ("QUANTIZE", "DEQUANTIZE"):
            back = operator.kind == "DEQUANTIZE"
            result, source = given.result.dtype, sources[0].dtype
            allowed = {"int8", "uint8", "float32"}
            if not types <= allowed or (result == _FLOAT) != back or (back and source == _FLOAT):
                raise ValueError(f"{operator}: it can't make {result} of {source}")
            if given.result.shape != sources[0].shape:
                raise ValueError(f"{operator}: its result must have shape {sources[0].shape}")
            return
        if types not in ({"int8"}, {"float32"}):
            raise ValueError(f"{operator}: activations must be all int8 or all float32, not {sorted(types)}")
        if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            weights = given.parameters[0]
            assert weights is not None
            if {weights.dtype.name} != types or (weights.dtype == np.int8 and weights.scales is None):
                raise ValueError(
                    f"{operator}: weights of {weights.dtype} on activations of {sorted(types)[0]} are not "
                    "read: quantise both to int8, with scales"
                )

    def _work(
        self,
        operator: TfliteOperator,
        name: str,
        sources: list[TfliteTensor],
        inputs: list[str],
        given: Operands,
    ) -> str:
        """The float operator's value."""
        shape = nchw(given.result.shape)
        output = f"{name}.sum", shape, _FLOAT
        match operator.kind:
            case "CONV_2D" | "DEPTHWISE_CONV_2D" | "FULLY_CONNECTED":
                return self._weighted(operator, name, sources[0], inputs[0], given)
            case "MAX_POOL_2D" | "AVERAGE_POOL_2D":
                return self._pool(operator, name, sources[0], inputs[0], given)
            case "CONCATENATION":
                axis = concat_axis(operator, sources, given.result)
                axis = _NCHW.index(axis) if is_channels_last(given.result.shape) else axis
                return self._node("Concat", name, tuple(inputs), output, {"axis": axis})
            case "PAD":
                top, left, bottom, right = padding_of(operator, sources[0], given.result, given.parameters[0])
                pads = self._constant(
                    f"{name}.pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
                )
                return self._node("Pad", name, (inputs[0], pads), output, {"mode": "constant"})
            case "MEAN":
                mean_pixels(operator, sources[0], given.result, given.parameters[0])
                whole = f"{name}.mean", (1, sources[0].shape[3], 1, 1), _FLOAT
                made = self._node("GlobalAveragePool", name, (inputs[0],), whole)
                return made if len(shape) == 4 else self._shaped(name, made, shape, _FLOAT)
        if any(tensor.shape != given.result.shape for tensor in sources) and operator.kind != "ADD":
            raise ValueError(f"{operator}: input and result must have one shape, not {given.result.shape}")
        match operator.kind:
            case "ADD":
                for tensor in sources:
                    if tensor.shape != given.result.shape and math.prod(tensor.shape) != 1:
                        raise ValueError(f"{operator}: its operands must have shape {given.result.shape}")
                return self._node("Add", name, tuple(inputs), output)
            case "SOFTMAX":
                if operator.options["Beta"] != 1.0:
                    raise ValueError(f"{operator}: beta must be 1, not {operator.options['Beta']}")
                axis = 1 if len(shape) == 4 else len(shape) - 1
                return self._node("Softmax", name, (inputs[0],), output, {"axis": axis})
            case "LOGISTIC":
                return self._node("Sigmoid", name, (inputs[0],), output)
            case _:
                upper = 6.0 if operator.kind == "RELU6" else math.inf
                return self._clamp(name, inputs[0], (0.0, upper), output)

    def _weighted(
        self, operator: TfliteOperator, name: str, source: TfliteTensor, value: str, given: Operands
    ) -> str:
        weights, bias = (*given.parameters, None)[:2]
        assert weights is not None
        values, groups = weights_of(operator, source, weights, bias)
        inputs = [self._parameter(f"{name}.weight", values, weights.scales)]
        if bias is not None:
            assert bias.data is not None
            scales = bias.scales
            if weights.scales is not None and scales is None:
                assert source.scales is not None
                scales = source.scales[0] * weights.scales
            inputs.append(self._parameter(f"{name}.bias", bias.data.reshape(-1), scales))
        output = f"{name}.sum", nchw(given.result.shape), _FLOAT
        if operator.kind == "FULLY_CONNECTED":
            if given.result.shape != (1, len(values)):
                raise ValueError(f"{operator}: its result must have shape {(1, len(values))}")
            if len(source.shape) != 2:
                value = self._flat(name, value, source, (1, values.shape[1]), _FLOAT)
            return self._node("Gemm", name, (value, *inputs), output, {"transB": 1})
        kernel = values.shape[2], values.shape[3]
        window = window_of(operator, source, given.result, kernel, len(values))
        attributes = {
            "kernel_shape": window.kernel,
            "strides": window.stride,
            "dilations": window.dilation,
            "pads": window.padding,
            "group": groups,
        }
        return self._node("Conv", name, (value, *inputs), output, attributes)

    def _pool(
        self, operator: TfliteOperator, name: str, source: TfliteTensor, value: str, given: Operands
    ) -> str:
        kernel = operator.options["FilterHeight"], operator.options["FilterWidth"]
        channels = source.shape[-1]
        window = window_of(operator, source, given.result, kernel, channels)
        attributes: dict[str, Any] = {
            "kernel_shape": kernel,
            "strides": window.stride,
            "pads": window.padding,
        }
        op = "MaxPool" if operator.kind == "MAX_POOL_2D" else "AveragePool"
        if op == "AveragePool":
            attributes["count_include_pad"] = 0
        return self._node(op, name, (value,), (f"{name}.sum", nchw(given.result.shape), _FLOAT), attributes)

    def _activate(self, operator: TfliteOperator, name: str, value: str, given: Operands) -> str:
        """`value` behind the operator's fused activation."""
        if given.activation is None:
            return value
        output = f"{name}.act", nchw(given.result.shape), _FLOAT
        return self._clamp(self._unique(f"{name}.activation"), value, given.activation, output)

    def _clamp(
        self,
        name: str,
        value: str,
        limits: tuple[float, float],
        output: tuple[str, tuple[int, ...], np.dtype[Any]],
    ) -> str:
        if limits == (0.0, math.inf):
            return self._node("Relu", name, (value,), output)
        low, high = (
            self._constant(f"{name}.{end}", limit) for end, limit in zip(("min", "max"), limits, strict=True)
        )
        return self._node("Clip", name, (value, low, high), output)

    # -- shapes --------------------------------------------------------------------------------

    def _reshape(
        self, operator: TfliteOperator, name: str, source: TfliteTensor, result: TfliteTensor
    ) -> str:
        if math.prod(source.shape) != math.prod(result.shape):
            raise ValueError(f"{operator}: {source.shape} can't become {result.shape}")
        if _steps_of(source) != _steps_of(result):
            raise ValueError(f"{operator}: its input and result must share scale and zero point")
        number = operator.inputs[0]
        value = self.value_of.get(number)
        if value is None:
            raise ValueError(f"{operator}: its input is a constant")
        if not is_channels_last(result.shape):
            return self._flat(name, value, source, result.shape, source.dtype)
        value = self._flat(name, value, source, result.shape, source.dtype)
        output = f"{name}.nchw", nchw(result.shape), source.dtype
        return self._node("Transpose", self._unique(f"{name}.nchw"), (value,), output, {"perm": _NCHW})

    def _flat(
        self, name: str, value: str, source: TfliteTensor, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> str:
        """`value` in another shape, its numbers in the file's order."""
        if is_channels_last(source.shape) and source.shape[3] > 1 and source.shape[1] * source.shape[2] > 1:
            output = f"{name}.nhwc", source.shape, dtype
            value = self._node("Transpose", self._unique(f"{name}.nhwc"), (value,), output, {"perm": _NHWC})
        return self._shaped(name, value, shape, dtype)

    def _shaped(self, name: str, value: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
        wanted = self._constant(f"{name}.shape", np.array(shape, np.int64))
        output = f"{name}.flat", shape, dtype
        return self._node("Reshape", self._unique(f"{name}.reshape"), (value, wanted), output)


def _steps_of(tensor: TfliteTensor) -> tuple[list[float], list[int]]:
    """(scales, zero points), empty where there are none."""
    if tensor.scales is None or tensor.zero_points is None:
        return [], []
    return tensor.scales.tolist(), tensor.zero_points.tolist()
