"""Shapes of what layers make: convolutions, products, pools, normalisation, quantisers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .attributes import axis_of, flag, integer, integers
from .graph import MAX_ELEMENTS, Node, Value
from .operands import Known, Made, Operands, Rule, Shape, broadcast, operand
from .quantised import channel_axis
from .window import window_of

__all__ = ["LAYER_RULES"]

_INT32, _UINT8, _FLOAT = (np.dtype(t) for t in (np.int32, np.uint8, np.float32))


def _weights(x: Operands, group: int, at: int = 1) -> tuple[Shape, Shape]:
    """Shapes of the picture and of the weights (K, C / group, kernel), which must fit each other."""
    shape, weights = operand(x).shape, operand(x, at).shape
    if not 3 <= len(shape) <= 5 or len(weights) != len(shape):
        raise ValueError(f"it takes (N, C, …) and weights of as many axes, not {shape} and {weights}")
    if group < 1 or weights[1] * group != shape[1] or weights[0] % group or not math.prod(weights):
        raise ValueError(f"weights {weights} in {group} groups don't fit {shape}")
    return shape, weights


def _vector(x: Operands, i: int, size: int, what: str) -> None:
    if i < len(x) and x[i] is not None and operand(x, i).shape != (size,):
        raise ValueError(f"its {what} must have the shape ({size},), not {operand(x, i).shape}")


def _scalar_or_vector(x: Operands, i: int, size: int, what: str) -> None:
    if i < len(x) and x[i] is not None and operand(x, i).shape not in ((), (1,), (size,)):
        raise ValueError(f"its {what} must be one or {size} values, not of shape {operand(x, i).shape}")


def _conv_shape(node: Node, x: Operands, at: int = 1) -> Shape:
    shape, weights = _weights(x, integer(node, "group", 1), at)
    return (shape[0], weights[0], *window_of(node, shape[2:], weights[2:]).out)


def _conv(node: Node, x: Operands, known: Known) -> list[Made]:
    out = _conv_shape(node, x)
    _vector(x, 2, out[1], "bias")
    return [(out, operand(x).dtype)]


def _conv_integer(node: Node, x: Operands, known: Known) -> list[Made]:
    out = _conv_shape(node, x)
    _scalar_or_vector(x, 2, 1, "zero point")
    _scalar_or_vector(x, 3, out[1], "weights' zero point")
    return [(out, _INT32)]


def _qlinear_conv(node: Node, x: Operands, known: Known) -> list[Made]:
    out = _conv_shape(node, x, 3)
    for i, size in ((1, 1), (2, 1), (4, out[1]), (5, out[1]), (6, 1), (7, 1)):
        _scalar_or_vector(x, i, size, "scales and zero points")
    _vector(x, 8, out[1], "bias")
    return [(out, operand(x, 7).dtype)]


def _conv_transpose(node: Node, x: Operands, known: Known) -> list[Made]:
    shape, weights, group = operand(x).shape, operand(x, 1).shape, integer(node, "group", 1)
    rank = len(shape) - 2
    if rank not in (1, 2) or len(weights) != len(shape) or "output_shape" in node.attributes:
        raise ValueError("it takes one or two spatial axes and no output_shape")
    if group < 1 or weights[0] != shape[1] or shape[1] % group or not math.prod(weights):
        raise ValueError(f"weights {weights} in {group} groups don't fit {shape}")
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise ValueError("ConvTranspose with auto_pad is not supported: give pads")
    kernel = integers(node, "kernel_shape", weights[2:])
    strides, dilations = (integers(node, key, (1,) * rank) for key in ("strides", "dilations"))
    pads, extra = integers(node, "pads", (0,) * 2 * rank), integers(node, "output_padding", (0,) * rank)
    if kernel != weights[2:] or (len(strides), len(dilations), len(pads), len(extra)) != (
        rank, rank, 2 * rank, rank,
    ) or min(*strides, *dilations) < 1 or min(*pads, *extra) < 0:  # fmt: skip
        raise ValueError("kernel_shape, strides, dilations, pads or output_padding don't fit its operands")
    whole = [
        (n - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i] for i, n in enumerate(shape[2:])
    ]
    out = tuple(n - pads[i] - pads[rank + i] for i, n in enumerate(whole))
    if min(out) < 1 or math.prod(whole) > MAX_ELEMENTS:
        raise ValueError(f"its result would have the sizes {out}")
    _vector(x, 2, weights[1] * group, "bias")
    return [((shape[0], weights[1] * group, *out), operand(x).dtype)]


def _gemm(node: Node, x: Operands, known: Known) -> list[Made]:
    a, b = operand(x).shape, operand(x, 1).shape
    if len(a) != 2 or len(b) != 2:
        raise ValueError(f"it multiplies two matrices, not {a} and {b}")
    m, k = reversed(a) if flag(node, "transA") else a
    k2, n = reversed(b) if flag(node, "transB") else b
    if k != k2:
        raise ValueError(f"{a} and {b} can't be multiplied")
    if len(x) > 2 and x[2] is not None and broadcast([(m, n), operand(x, 2).shape]) != (m, n):
        raise ValueError(f"its bias {operand(x, 2).shape} doesn't broadcast to {(m, n)}")
    return [((m, n), operand(x).dtype)]


def _product(a: Shape, b: Shape) -> Shape:
    if not a or not b:
        raise ValueError("a scalar can't be multiplied as a matrix")
    left, right = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    if left[-1] != right[-2]:
        raise ValueError(f"{a} and {b} can't be multiplied")
    out = (*broadcast([left[:-2], right[:-2]]), left[-2], right[-1])
    out = out[:-1] if len(b) == 1 else out
    return out[:-2] + out[-1:] if len(a) == 1 and len(b) > 1 else out[:-1] if len(a) == 1 else out


def _matmul(node: Node, x: Operands, known: Known) -> list[Made]:
    return [(_product(operand(x).shape, operand(x, 1).shape), operand(x).dtype)]


def _matmul_integer(node: Node, x: Operands, known: Known) -> list[Made]:
    out = _product(operand(x).shape, operand(x, 1).shape)
    _scalar_or_vector(x, 2, operand(x).shape[-2] if len(operand(x).shape) == 2 else 1, "zero point")
    _scalar_or_vector(x, 3, operand(x, 1).shape[-1], "zero point")
    return [(out, _INT32)]


def _qlinear_matmul(node: Node, x: Operands, known: Known) -> list[Made]:
    out = _product(operand(x).shape, operand(x, 3).shape)
    for i, size in (
        (1, 1),
        (2, 1),
        (4, operand(x, 3).shape[-1]),
        (5, operand(x, 3).shape[-1]),
        (6, 1),
        (7, 1),
    ):
        _scalar_or_vector(x, i, size, "scales and zero points")
    return [(out, operand(x, 7).dtype)]


def _pool(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    if not 3 <= len(value.shape) <= 5:
        raise ValueError(f"it takes (N, C, …) with one to three more axes, not {value.shape}")
    if "kernel_shape" not in node.attributes:
        raise ValueError("its attribute kernel_shape is missing")
    if len(node.outputs) > 1 and any(node.outputs[1:]):
        raise ValueError("the places of the maxima (its second output) are not supported")
    if flag(node, "storage_order"):
        raise ValueError("storage_order 1 is not supported")
    window = window_of(node, value.shape[2:])
    if any(pad >= size for pad, size in zip(window.begins, window.kernel, strict=True)) or any(
        pad >= (size - 1) * by + 1
        for pad, size, by in zip(window.ends, window.kernel, window.dilations, strict=True)
    ):
        raise ValueError(f"its padding {window.begins + window.ends} must be smaller than {window.kernel}")
    return [((*value.shape[:2], *window.out), value.dtype)]


def _global(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    if len(value.shape) < 3 or not math.prod(value.shape[2:]):
        raise ValueError(f"it takes (N, C, …) with at least one more axis, not {value.shape}")
    return [((*value.shape[:2], *[1] * (len(value.shape) - 2)), value.dtype)]


def _per_channel(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    if len(value.shape) < 2:
        raise ValueError(f"it takes (N, C, …), not {value.shape}")
    for i in range(1, len(x)):
        _vector(x, i, value.shape[1], "scale, shift, mean and variance")
    return [(value.shape, value.dtype)]


def _batch_norm(node: Node, x: Operands, known: Known) -> list[Made]:
    if flag(node, "training_mode") or any(node.outputs[1:]):
        raise ValueError("it is in training mode: export the network for inference")
    return _per_channel(node, x, known)


def _lrn(node: Node, x: Operands, known: Known) -> list[Made]:
    value, size = operand(x), integer(node, "size")
    if len(value.shape) < 2 or not 1 <= size <= 2 * value.shape[1]:
        raise ValueError(f"a window of {size} channels doesn't fit {value.shape}")
    return [(value.shape, value.dtype)]


def _quantised_axis(node: Node, x: Operands) -> Value:
    value, scale = operand(x), operand(x, 1).shape
    if integer(node, "block_size", 0):
        raise ValueError("scales a block are not supported")
    if math.prod(scale) != 1:
        size = value.shape[axis_of(integer(node, "axis", 1), len(value.shape))]
        if scale != (size,):
            raise ValueError(f"its scale must be one or {size} values, not of shape {scale}")
    if len(x) > 2 and x[2] is not None and math.prod(operand(x, 2).shape) != math.prod(scale):
        raise ValueError(f"its zero point {operand(x, 2).shape} and its scale {scale} differ in shape")
    return value


def _quantize_linear(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _quantised_axis(node, x)
    return [(value.shape, _UINT8 if len(x) < 3 or x[2] is None else operand(x, 2).dtype)]


def _dequantize_linear(node: Node, x: Operands, known: Known) -> list[Made]:
    return [(_quantised_axis(node, x).shape, operand(x, 1).dtype)]


def _dynamic(node: Node, x: Operands, known: Known) -> list[Made]:
    return [(operand(x).shape, _UINT8), ((), _FLOAT), ((), _UINT8)]


def _multi_threshold(node: Node, x: Operands, known: Known) -> list[Made]:
    value, thresholds = operand(x), operand(x, 1).shape
    channels = value.shape[channel_axis(node, len(value.shape))]
    if len(thresholds) != 2 or thresholds[0] not in (1, channels):
        raise ValueError(f"its thresholds must be (1 or {channels}, levels), not {thresholds}")
    return [(value.shape, value.dtype)]


LAYER_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global),
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvInteger": _conv_integer,
    "ConvTranspose": _conv_transpose,
    "DequantizeLinear": _dequantize_linear,
    "DynamicQuantizeLinear": _dynamic,
    "Gemm": _gemm,
    "InstanceNormalization": _per_channel,
    "LRN": _lrn,
    "MatMul": _matmul,
    "MatMulInteger": _matmul_integer,
    "MultiThreshold": _multi_threshold,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize_linear,
}
"""By operator."""
