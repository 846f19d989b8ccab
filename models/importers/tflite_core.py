"""Which int8 operators of a TFLite file the core runs, and the layers that each becomes, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..bounds import dot_range
from ..layers import Add, AvgPool, Concat, Conv, Flatten, Layer, Linear, MaxPool, Relu, Requantize
from ..numerics import Rounding
from ..tensor import Tensor
from ..weights import WeightRecord
from .tflite_arithmetic import (
    activation_range,
    average_multiplier,
    linear_multiplier,
    mean_multiplier,
    multipliers,
)
from .tflite_file import TfliteFile, TfliteOperator
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
from .tflite_graph import TfliteGraph
from .tflite_pieces import INT8, HostError, Piece, PieceMaker, one_scale

__all__ = ["HARDWARE", "lower_operators"]

HARDWARE: Mapping[str, tuple[str, str]] = {
    "CONV_2D": ("dense or grouped convolution", "TFLITE_DOUBLE, a multiplier a channel"),
    "DEPTHWISE_CONV_2D": ("lane-wise convolution", "TFLITE_DOUBLE, a multiplier a channel"),
    "FULLY_CONNECTED": ("linear layer", "TFLITE_SINGLE, proved equal to half away from zero in float64"),
    "MAX_POOL_2D": ("pool, in the pass before it where windows lie side by side", "none"),
    "AVERAGE_POOL_2D": ("lane-wise sum; on the host where padded", "half away from zero"),
    "MEAN": ("lane-wise sum over the whole picture", "TFLITE_DOUBLE"),
    "ADD": ("lane-wise add", "TFLITE_DOUBLE with 20 more bits"),
    "CONCATENATION": ("addresses, along channels with one scale; else on the host", "none"),
    "RESHAPE": ("addresses, before a linear layer; else on the host", "none"),
    "SQUEEZE": ("as RESHAPE", "none"),
    "PAD": ("written around the tile, before a convolution; else on the host", "none"),
    "RELU": ("clamp of the pass before it, or a lane-wise pass", "TFLITE_DOUBLE where scales differ"),
    "RELU6": ("lane-wise pass", "TFLITE_DOUBLE where scales differ"),
    "SOFTMAX": ("host", "float32, then half to even"),
    "LOGISTIC": ("host", "float32, then half to even"),
    "QUANTIZE": ("host", "half to even"),
    "DEQUANTIZE": ("host", "none"),
}
"""Hardware path and rounding of each int8 operator; all float operators run on the host."""


def lower_operators(file: TfliteFile, graph: TfliteGraph) -> dict[int, Piece | str]:
    """By operator's index: what the core does for it, or the reason why the host runs it."""
    pieces = _Lowering(file, graph, ahead=True).run()
    if pieces is None:  # an operator that was to do the work of one before it runs on the host
        pieces = _Lowering(file, graph, ahead=False).run()
        assert pieces is not None
    return pieces


class _Lowering(PieceMaker):
    """One pass over the operators; with `ahead`, convolutions pad and linear layers flatten by themselves."""

    def __init__(self, file: TfliteFile, graph: TfliteGraph, *, ahead: bool) -> None:
        super().__init__(file, graph)
        self._ahead = ahead
        self._takers: dict[int, list[TfliteOperator]] = {}
        for operator in file.operators:
            for number in set(operator.inputs):
                self._takers.setdefault(number, []).append(operator)
        self._padded: dict[int, tuple[int, tuple[int, int, int, int]]] = {}
        """Tensors that convolutions make themselves: what of, and the padding."""
        self._flat: dict[int, int] = {}
        """Tensors that linear layers make themselves: what of."""

    def run(self) -> dict[int, Piece | str] | None:
        """The pieces; None if one that does another's work has none."""
        found: dict[int, Piece | str] = {}
        for operator in self.file.operators:
            try:
                found[operator.index] = self._lower(operator)
            except (HostError, ValueError) as fault:
                found[operator.index] = str(fault)
                if any(number in self._padded or number in self._flat for number in operator.inputs):
                    return None
        return found

    def _lower(self, operator: TfliteOperator) -> Piece:
        given = operands(self.file, operator)
        sources = [self.file.tensors[number] for number in given.sources]
        if operator.kind in ("QUANTIZE", "DEQUANTIZE"):
            raise HostError(f"{operator.kind} stands between formats, and the core has int8 only")
        if any(tensor.dtype != np.int8 for tensor in (*sources, given.result)):
            raise HostError("its activations are float")
        if operator.kind in ("SOFTMAX", "LOGISTIC"):
            raise HostError(f"{operator.kind} has no hardware")
        if any(tensor.data is not None for tensor in sources):
            raise HostError("an activation of it is a constant")
        match operator.kind:
            case "CONV_2D" | "DEPTHWISE_CONV_2D":
                return self._conv(operator, given)
            case "FULLY_CONNECTED":
                return self._linear(operator, given)
            case "MAX_POOL_2D":
                return self._max_pool(operator, given)
            case "AVERAGE_POOL_2D" | "MEAN":
                return self._average(operator, given)
            case "ADD":
                return self._add(operator, given)
            case "CONCATENATION":
                return self._concat(operator, given)
            case "RESHAPE" | "SQUEEZE":
                return self._reshape(operator, given)
            case "PAD":
                return self._pad(operator, given)
            case _:
                return self._relu(operator, given)

    # -- operators that sum --------------------------------------------------------------------

    def _conv(self, operator: TfliteOperator, given: Operands) -> Piece:
        name, source = self.graph.name_of[operator.index], self.file.tensors[given.sources[0]]
        weights, bias = (*given.parameters, None)[:2]
        assert weights is not None
        values, groups = weights_of(operator, source, weights, bias)
        kernel = values.shape[2], values.shape[3]
        window = window_of(operator, source, given.result, kernel, len(values))
        number, (top, left, bottom, right) = self._padded.get(
            given.sources[0], (given.sources[0], (0, 0, 0, 0))
        )
        own = window.padding
        conv = Conv(
            name=name,
            input=self.graph.value_of[number],
            output=f"{name}.acc",
            stride=window.stride,
            padding=(own[0] + top, own[1] + left, own[2] + bottom, own[3] + right),
            dilation=window.dilation,
            groups=groups,
        )
        sums = self.sums(name, (len(values), *nchw(given.result.shape)[2:]))
        record, post = self._weighted(operator, given, values, sums)
        return self.piece((number,), operator.output, (conv, post), (sums,), (record,))

    def _linear(self, operator: TfliteOperator, given: Operands) -> Piece:
        name = self.graph.name_of[operator.index]
        weights, bias = (*given.parameters, None)[:2]
        assert weights is not None
        number = self._flat.get(given.sources[0], given.sources[0])
        source = self.file.tensors[number]
        values, _ = weights_of(operator, source, weights, bias)
        layers: list[Layer] = []
        between = []
        value = self.graph.value_of[number]
        if is_channels_last(source.shape):
            # The file flattens pixels with their channels last, Flatten with their channels first.
            _, height, width, channels = source.shape
            values = (
                values.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(len(values), -1)
            )
            scale, zero_point = one_scale(source)
            flat = Tensor(
                name=f"{name}.flatten",
                shape=(values.shape[1],),
                fmt=INT8,
                scale=float(scale),
                zero_point=zero_point,
            )
            between.append(flat)
            layers.append(Flatten(name=f"{name}.flatten", input=value, output=flat.name))
            value = flat.name
        elif len(source.shape) != 2:
            raise HostError(f"its input has shape {source.shape}")
        sums = self.sums(name, (len(values),))
        record, post = self._weighted(operator, given, values, sums)
        layers += [Linear(name=name, input=value, output=sums.name), post]
        return self.piece((number,), operator.output, tuple(layers), (*between, sums), (record,))

    def _weighted(
        self, operator: TfliteOperator, given: Operands, values: Any, sums: Tensor
    ) -> tuple[WeightRecord, Requantize]:
        """Weights with the input's zero point in their bias, and the rescaling by channel."""
        name = self.graph.name_of[operator.index]
        weights, bias = (*given.parameters, None)[:2]
        assert weights is not None and weights.scales is not None and weights.zero_points is not None
        if weights.zero_points.any():
            raise HostError("its weights have a zero point other than 0")
        scale, zero_point = one_scale(self.file.tensors[given.sources[0]])
        result_scale, result_zero = one_scale(given.result)
        products = np.float64(scale) * np.float64(weights.scales)
        outputs = len(values)
        reals = np.asarray(products / np.float64(result_scale))
        total = -zero_point * values.reshape(outputs, -1).astype(np.int64).sum(axis=1)
        if bias is not None:
            assert bias.data is not None
            total = total + bias.data.reshape(-1)
        if int(np.abs(total).max()) >= 1 << 31:
            raise HostError("its bias, the input's zero point taken out, passes 32 bits")
        record = WeightRecord.dense(
            layer=name,
            values=values,
            fmt=INT8,
            scales=np.broadcast_to(np.float64(weights.scales), outputs),
            bias=total,
        )
        low, high = self.result_range(given)
        if operator.kind != "FULLY_CONNECTED":
            multiplier, shift = multipliers(reals)
            return record, self.requantize(operator, sums, multiplier, shift, low, high)
        least, most = (ends + record.bias_or_zero for ends in dot_range(record.values, INT8))
        if reals.size == 1:
            least, most = least.min(keepdims=True), most.max(keepdims=True)
        if int(least.min()) < -(1 << 31) or int(most.max()) >= 1 << 31:
            raise HostError("its sums pass 32 bits")
        limits = low - result_zero, high - result_zero
        pairs = np.array(
            [
                linear_multiplier(float(real), (int(first), int(last)), limits)
                for real, first, last in zip(reals, least, most, strict=True)
            ]
        )
        return record, self.requantize(
            operator, sums, pairs[:, 0], pairs[:, 1], low, high, rounding=Rounding.TFLITE_SINGLE
        )

    def _average(self, operator: TfliteOperator, given: Operands) -> Piece:
        name, source = self.graph.name_of[operator.index], self.file.tensors[given.sources[0]]
        scale, zero_point = one_scale(source)
        result_scale, _ = one_scale(given.result)
        if operator.kind == "MEAN":
            pixels = mean_pixels(operator, source, given.result, given.parameters[0])
            kernel, stride = source.shape[1:3], (1, 1)
            multiplier, shift = mean_multiplier(float(scale) / float(result_scale), pixels)
            bias, offset, (low, high) = -zero_point * pixels, None, (-128, 127)
        else:
            self.check_hands_on(given)
            kernel = operator.options["FilterHeight"], operator.options["FilterWidth"]
            window = window_of(operator, source, given.result, kernel, source.shape[3])
            if any(window.padding):
                raise HostError("its windows at the edge have fewer pixels, so they divide by less")
            stride = window.stride
            multiplier, shift = average_multiplier(kernel[0] * kernel[1]), 0
            # The kernel divides sums of stored values, zero point and all.
            bias, offset, (low, high) = 0, 0, self.result_range(given)
        pool = AvgPool(
            name=name,
            input=self.graph.value_of[given.sources[0]],
            output=f"{name}.acc",
            kernel=(kernel[0], kernel[1]),
            stride=stride,
        )
        shape = nchw(given.result.shape)[1:]
        sums = self.sums(name, shape if len(shape) == 3 else (*shape, 1, 1))
        post = self.requantize(operator, sums, multiplier, shift, low, high, bias=bias, offset=offset)
        if len(shape) == 3:
            return self.piece(given.sources, operator.output, (pool, post), (sums,))
        result = self.tensor(operator.output)
        pixel = replace(result, name=f"{name}.pixel", shape=sums.shape)
        flatten = Flatten(name=f"{name}.flatten", input=pixel.name, output=result.name)
        layers = pool, replace(post, output=pixel.name), flatten
        return self.piece(given.sources, operator.output, layers, (sums, pixel))

    def _add(self, operator: TfliteOperator, given: Operands) -> Piece:
        name = self.graph.name_of[operator.index]
        tensors = [self.file.tensors[number] for number in given.sources]
        if any(tensor.shape != given.result.shape for tensor in tensors):
            raise HostError("its operands have different shapes")
        scales = [float(one_scale(tensor)[0]) for tensor in tensors]
        twice = 2 * max(scales)
        multiplier, shift = multipliers(np.array(scales) / twice)
        sum_multiplier, sum_shift = multipliers(
            np.array([twice / ((1 << 20) * float(one_scale(given.result)[0]))])
        )
        add = Add(
            name=name,
            inputs=tuple(self.graph.value_of[number] for number in given.sources),
            output=f"{name}.acc",
            multiplier=multiplier,
            shift=shift,
            left_shift=20,
            rounding=Rounding.TFLITE_DOUBLE,
        )
        sums = self.sums(name, nchw(given.result.shape)[1:])
        low, high = self.result_range(given)
        post = self.requantize(operator, sums, sum_multiplier, sum_shift, low, high)
        return self.piece(given.sources, operator.output, (add, post), (sums,))

    # -- operators that hand on ----------------------------------------------------------------

    def _max_pool(self, operator: TfliteOperator, given: Operands) -> Piece:
        name, source = self.graph.name_of[operator.index], self.file.tensors[given.sources[0]]
        self.check_hands_on(given)
        kernel = operator.options["FilterHeight"], operator.options["FilterWidth"]
        window = window_of(operator, source, given.result, kernel, source.shape[3])
        low, high = self.result_range(given)
        _, zero_point = one_scale(source)
        if high < 127 or low not in (-128, zero_point):
            raise HostError("its activation clamps from above")
        value, result = self.graph.value_of[given.sources[0]], self.graph.value_of[operator.output]
        pool = MaxPool(
            name=name,
            input=value,
            output=result if low == -128 else f"{name}.max",
            kernel=kernel,
            stride=window.stride,
            padding=window.padding,
        )
        if low == -128:
            return self.piece(given.sources, operator.output, (pool,))
        middle = Tensor(
            name=pool.output,
            shape=nchw(given.result.shape)[1:],
            fmt=INT8,
            scale=float(one_scale(source)[0]),
            zero_point=zero_point,
        )
        relu = Relu(name=f"{name}.relu", input=pool.output, output=result)
        return self.piece(given.sources, operator.output, (pool, relu), (middle,))

    def _relu(self, operator: TfliteOperator, given: Operands) -> Piece:
        name, source = self.graph.name_of[operator.index], self.file.tensors[given.sources[0]]
        scale, zero_point = one_scale(source)
        result_scale, _ = one_scale(given.result)
        value, result = self.graph.value_of[given.sources[0]], self.graph.value_of[operator.output]
        limits = 0.0, 6.0 if operator.kind == "RELU6" else math.inf
        low, high = activation_range(limits, *one_scale(given.result))
        if high == 127 and one_scale(source) == one_scale(given.result):
            return self.piece(given.sources, operator.output, (Relu(name=name, input=value, output=result),))
        if not is_channels_last(source.shape):
            raise HostError(f"it rescales a tensor of shape {source.shape}, which is no picture")
        multiplier, shift = multipliers(np.array([float(scale) / float(result_scale)]))
        pool = AvgPool(name=name, input=value, output=f"{name}.acc", kernel=(1, 1), stride=(1, 1))
        sums = self.sums(name, nchw(source.shape)[1:])
        post = self.requantize(operator, sums, multiplier, shift, low, high, bias=-zero_point)
        return self.piece(given.sources, operator.output, (pool, post), (sums,))

    def _concat(self, operator: TfliteOperator, given: Operands) -> Piece:
        name = self.graph.name_of[operator.index]
        axis = concat_axis(operator, [self.file.tensors[n] for n in given.sources], given.result)
        if axis != len(given.result.shape) - 1 or len(given.result.shape) == 3:
            raise HostError("it doesn't join channels")
        self.check_hands_on(given)
        if self.result_range(given) != (-128, 127):
            raise HostError("it has an activation")
        concat = Concat(
            name=name,
            inputs=tuple(self.graph.value_of[number] for number in given.sources),
            output=self.graph.value_of[operator.output],
        )
        return self.piece(given.sources, operator.output, (concat,))

    def _reshape(self, operator: TfliteOperator, given: Operands) -> Piece:
        source = self.file.tensors[given.sources[0]]
        if not is_channels_last(source.shape) or len(given.result.shape) != 2:
            raise HostError(f"the core doesn't make {given.result.shape} of {source.shape}")
        if self._made_by_takers(operator, ("FULLY_CONNECTED",)):
            self._flat[operator.output] = given.sources[0]
            return Piece(sources=(), layers=(), tensors=(), weights=())
        if source.shape[1] * source.shape[2] > 1:
            raise HostError("it flattens pixels for more than linear layers")
        name = self.graph.name_of[operator.index]
        value, result = self.graph.value_of[given.sources[0]], self.graph.value_of[operator.output]
        return self.piece(given.sources, operator.output, (Flatten(name=name, input=value, output=result),))

    def _pad(self, operator: TfliteOperator, given: Operands) -> Piece:
        source = self.file.tensors[given.sources[0]]
        padding = padding_of(operator, source, given.result, given.parameters[0])
        self.check_hands_on(given)
        if not self._made_by_takers(operator, ("CONV_2D", "DEPTHWISE_CONV_2D")):
            raise HostError("it is no convolution that takes its result")
        self._padded[operator.output] = given.sources[0], padding
        return Piece(sources=(), layers=(), tensors=(), weights=())

    def _made_by_takers(self, operator: TfliteOperator, kinds: tuple[str, ...]) -> bool:
        """Whether all that take an operator's result are of these kinds, and nobody else sees it."""
        number = operator.output
        takers = self._takers.get(number, [])
        return (
            self._ahead
            and bool(takers)
            and number not in self.file.outputs
            and operator.inputs[0] not in self._padded
            and all(taker.kind in kinds and taker.inputs.count(number) == 1 for taker in takers)
        )
