"""From torch's operators to ONNX's: arithmetic, and the table of all that is accepted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .torch_archive import Call, Program, Ref
from .torch_lowering import Lower, Lowering, axis_of, expect, number, operand, option
from .torch_moves import MOVES

__all__ = ["OPERATORS", "lowering_of"]


def lowering_of(program: Program) -> Lowering:
    """A lowering of a program that knows every operator."""
    return Lowering(program, OPERATORS, _VIEWS)


def _conv(low: Lowering, call: Call) -> None:
    weight = call.arguments.get("weight")
    if not isinstance(weight, Ref) or not 3 <= len(low.shape(weight)) <= 4:
        raise ValueError("convolutions of one or two axes are supported")
    expect(call, transposed=False)
    kernel = low.shape(weight)[2:]
    rank = len(kernel)
    strides, dilations = low.sizes(call, "stride", rank, 1), low.sizes(call, "dilation", rank, 1)
    padding = option(call, "padding", 0)
    if padding == "same":
        around = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        pads = (*(n // 2 for n in around), *(n - n // 2 for n in around))
    else:
        pads = ((0,) * rank if padding == "valid" else low.sizes(call, "padding", rank, 0)) * 2
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "group": low.size(option(call, "groups", 1)),
    }
    operands = [low.value(operand(call)), low.value(weight), low.value(call.arguments.get("bias"))]
    low.emit(call, "Conv", operands, attributes)


def _linear(low: Lowering, call: Call) -> None:
    x, weight, bias = operand(call), call.arguments.get("weight"), call.arguments.get("bias")
    operands = [low.value(x), low.value(weight)]
    if len(low.shape(x)) == 2:
        low.emit(call, "Gemm", [*operands, low.value(bias)], {"transB": 1})
        return
    turned = low.emit(call, "Transpose", operands[1:], {"perm": (1, 0)}, step="turned")
    if bias is None:
        low.emit(call, "MatMul", [operands[0], turned])
        return
    product = low.emit(call, "MatMul", [operands[0], turned], step="product")
    low.emit(call, "Add", [product, low.value(bias)])


def _addmm(low: Lowering, call: Call) -> None:
    operands = [low.value(call.arguments.get(key)) for key in ("mat1", "mat2", "self")]
    low.emit(call, "Gemm", operands, {key: number(call, key, 1.0) for key in ("alpha", "beta")})


def _matmul(low: Lowering, call: Call) -> None:
    other = call.arguments.get("other", call.arguments.get("mat2"))
    low.emit(call, "MatMul", [low.value(operand(call)), low.value(other)])


def _batch_norm(low: Lowering, call: Call) -> None:
    if option(call, "training", False) is not False:
        raise ValueError("its batch norm is in training: export it after .eval()")
    x = operand(call)
    count = low.shape(x)[1]
    names = []
    for key, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", None), ("running_var", None)):
        ref = call.arguments.get(key)
        if ref is None and value is None:
            raise ValueError("a batch norm without running statistics is not supported")
        names.append(
            low.constant(call, key, np.full(count, value), low.dtype(x)) if ref is None else low.value(ref)
        )
    attributes = {"epsilon": number(call, "eps", 1e-5)}
    low.emit(call, "BatchNormalization", [low.value(x), *names], attributes)


def _unary(op: str, **constant: Any) -> Lower:
    def lower(low: Lowering, call: Call) -> None:
        low.emit(call, op, [low.value(operand(call))], constant)

    return lower


def _leaky(low: Lowering, call: Call) -> None:
    low.emit(call, "LeakyRelu", [low.value(operand(call))], {"alpha": number(call, "negative_slope", 0.01)})


def _prelu(low: Lowering, call: Call) -> None:
    x, weight = operand(call), call.arguments.get("weight")
    slope = low.value(weight)
    if isinstance(weight, Ref) and (inner := len(low.shape(x)) - 2) > 0 and low.shape(weight) != (1,):
        # One slope a channel stands at axis 1, where ONNX aligns at the last.
        axes = low.constant(call, "axes", range(1, inner + 1))
        slope = low.emit(call, "Unsqueeze", [slope, axes], step="slope")
    low.emit(call, "PRelu", [low.value(x), slope])


def _clip(low_key: str, high_key: str, low_default: Any, high_default: Any) -> Lower:
    def lower(low: Lowering, call: Call) -> None:
        x = operand(call)
        bounds = []
        for word, key, default in (("low", low_key, low_default), ("high", high_key, high_default)):
            bound = call.arguments.get(key, default) if key else default
            if bound is None:
                bounds.append("")
            elif isinstance(bound, bool) or not isinstance(bound, int | float) or math.isnan(bound):
                raise ValueError(f"a bound must be a number, not {bound!r:.40}")
            else:
                bounds.append(low.constant(call, word, bound, low.dtype(x)))
        low.emit(call, "Clip", [low.value(x), *bounds])

    return lower


def _silu(low: Lowering, call: Call) -> None:
    x = low.value(operand(call))
    low.emit(call, "Mul", [x, low.emit(call, "Sigmoid", [x], step="gate")])


def _softmax(op: str) -> Lower:
    def lower(low: Lowering, call: Call) -> None:
        x = operand(call)
        expect(call, dtype=None, half_to_float=False)
        axis = axis_of(call.arguments.get("dim"), len(low.shape(x)))
        low.emit(call, op, [low.value(x)], {"axis": axis})

    return lower


def _pool(op: str) -> Lower:
    def lower(low: Lowering, call: Call) -> None:
        x = operand(call)
        rank = len(low.shape(x)) - 2
        kernel = low.sizes(call, "kernel_size", rank)
        attributes: dict[str, Any] = {
            "kernel_shape": kernel,
            "strides": low.sizes(call, "stride", rank) if call.arguments.get("stride") else kernel,
            "pads": low.sizes(call, "padding", rank, 0) * 2,
            "ceil_mode": int(option(call, "ceil_mode", False) is True),
        }
        if op == "MaxPool":
            attributes["dilations"] = low.sizes(call, "dilation", rank, 1)
        else:
            expect(call, divisor_override=None)
            attributes["count_include_pad"] = int(option(call, "count_include_pad", True) is True)
        low.emit(call, op, [low.value(x)], attributes)

    return lower


def _adaptive(op: str) -> Lower:
    def lower(low: Lowering, call: Call) -> None:
        x = operand(call)
        inner = low.shape(x)[2:]
        wanted = low.sizes(call, "output_size", len(inner))
        if all(n == 1 for n in wanted):
            low.emit(call, f"Global{op}", [low.value(x)])
            return
        if any(n < 1 or size % n for size, n in zip(inner, wanted, strict=True)):
            raise ValueError(f"an adaptive pool from {inner} to {wanted} has windows of different sizes")
        kernel = tuple(size // n for size, n in zip(inner, wanted, strict=True))
        low.emit(call, op, [low.value(x)], {"kernel_shape": kernel, "strides": kernel})

    return lower


def _reduce(op: str) -> Lower:
    def lower(low: Lowering, call: Call) -> None:
        x = operand(call)
        rank = len(low.shape(x))
        expect(call, dtype=None)
        keep = option(call, "keepdim", False) is True
        axes = tuple(sorted({axis_of(n, rank) for n in low.sizes(call, "dim")}))
        if op == "ReduceMean" and rank > 2 and axes == tuple(range(2, rank)):
            if keep:
                low.emit(call, "GlobalAveragePool", [low.value(x)])
            else:
                pooled = low.emit(call, "GlobalAveragePool", [low.value(x)], step="pooled")
                low.emit(call, "Flatten", [pooled], {"axis": 1})
            return
        low.emit(call, op, [low.value(x), low.constant(call, "axes", axes)], {"keepdims": int(keep)})

    return lower


def _binary(op: str, *, reverse: bool = False) -> Lower:
    def lower(low: Lowering, call: Call) -> None:
        x, other = operand(call), call.arguments.get("other")
        expect(call, alpha=1, rounding_mode=None)
        if isinstance(other, Ref):
            right = low.value(other)
        elif isinstance(other, bool) or not isinstance(other, int | float):
            raise ValueError(f"an operand must be a tensor or a number, not {other!r:.40}")
        elif low.dtype(x).kind != "f":
            raise ValueError(f"a number beside a tensor of {low.dtype(x)} is not supported")
        else:
            right = low.constant(call, "number", number(call, "other", 0), low.dtype(x))
        operands = [low.value(x), right]
        low.emit(call, op, operands[::-1] if reverse else operands)

    return lower


OPERATORS: Mapping[str, tuple[str, Lower]] = {
    **dict.fromkeys(
        ("conv1d.default", "conv1d.padding", "conv2d.default", "conv2d.padding", "convolution.default"),
        ("Conv", _conv),
    ),
    "linear.default": ("Gemm", _linear),
    "addmm.default": ("Gemm", _addmm),
    **dict.fromkeys(("matmul.default", "mm.default"), ("MatMul", _matmul)),
    **dict.fromkeys(
        ("batch_norm.default", "_native_batch_norm_legit_no_training.default"),
        ("BatchNormalization", _batch_norm),
    ),
    "relu.default": ("Relu", _unary("Relu")),
    "relu6.default": ("Clip", _clip("", "", 0.0, 6.0)),
    "clamp.default": ("Clip", _clip("min", "max", None, None)),
    "clip.default": ("Clip", _clip("min", "max", None, None)),
    "clamp_min.default": ("Clip", _clip("min", "", None, None)),
    "clamp_max.default": ("Clip", _clip("", "max", None, None)),
    "hardtanh.default": ("Clip", _clip("min_val", "max_val", -1.0, 1.0)),
    "leaky_relu.default": ("LeakyRelu", _leaky),
    "prelu.default": ("PRelu", _prelu),
    "sigmoid.default": ("Sigmoid", _unary("Sigmoid")),
    "tanh.default": ("Tanh", _unary("Tanh")),
    "hardswish.default": ("HardSwish", _unary("HardSwish")),
    "hardsigmoid.default": ("HardSigmoid", _unary("HardSigmoid", alpha=1 / 6, beta=0.5)),
    "silu.default": ("Mul", _silu),
    **dict.fromkeys(("softmax.int", "_softmax.default"), ("Softmax", _softmax("Softmax"))),
    **dict.fromkeys(("log_softmax.int", "_log_softmax.default"), ("LogSoftmax", _softmax("LogSoftmax"))),
    **dict.fromkeys(
        ("max_pool1d.default", "max_pool2d.default", "max_pool2d_with_indices.default"),
        ("MaxPool", _pool("MaxPool")),
    ),
    **dict.fromkeys(("avg_pool1d.default", "avg_pool2d.default"), ("AveragePool", _pool("AveragePool"))),
    **dict.fromkeys(
        ("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default"),
        ("AveragePool", _adaptive("AveragePool")),
    ),
    **dict.fromkeys(
        ("adaptive_max_pool1d.default", "adaptive_max_pool2d.default"), ("MaxPool", _adaptive("MaxPool"))
    ),
    "mean.dim": ("ReduceMean", _reduce("ReduceMean")),
    "sum.dim_IntList": ("ReduceSum", _reduce("ReduceSum")),
    **dict.fromkeys(("add.Tensor", "add.Scalar"), ("Add", _binary("Add"))),
    **dict.fromkeys(("sub.Tensor", "sub.Scalar"), ("Sub", _binary("Sub"))),
    "rsub.Scalar": ("Sub", _binary("Sub", reverse=True)),
    **dict.fromkeys(("mul.Tensor", "mul.Scalar"), ("Mul", _binary("Mul"))),
    **dict.fromkeys(("div.Tensor", "div.Scalar"), ("Div", _binary("Div"))),
    **MOVES,
}
"""By operator of torch's aten: the ONNX operator that does its work ('' for none), and what makes it."""

_VIEWS = {
    key
    for key, (op, _) in OPERATORS.items()
    if op in ("Reshape", "Flatten", "Transpose", "Slice", "Split", "Dropout")
    or key in ("contiguous.default", "detach.default", "alias.default", "to.dtype")
} - {"channel_shuffle.default"}
"""Operators whose result may be the same memory as their operand."""
