"""Operators that work value by value, or along axes, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .attributes import axis_of, choice, flag, integer, number
from .graph import Node

__all__ = ["ELEMENTWISE"]

Array = NDArray[Any]
Operands = Sequence[Array]
Operator = Callable[[Node, Operands], Array]


def _of_one(function: Callable[[Array], Any]) -> Operator:
    return lambda node, x: np.asarray(function(x[0])).astype(x[0].dtype, copy=False)


def _of_two(function: Callable[[Array, Array], Any]) -> Operator:
    return lambda node, x: np.asarray(function(x[0], x[1]))


def _chain(function: Callable[[Array, Array], Any]) -> Operator:
    def run(node: Node, x: Operands) -> Array:
        total = x[0]
        for other in x[1:]:
            total = function(total, other)
        return total

    return run


def _mean(node: Node, x: Operands) -> Array:
    total = _chain(np.add)(node, x)
    return np.asarray(total / np.asarray(len(x), total.dtype)).astype(total.dtype)


def _divide(node: Node, x: Operands) -> Array:
    a, b = x
    if a.dtype.kind == "f":
        return np.asarray(np.divide(a, b))
    if not np.all(b):
        raise ValueError("a division of integers by 0")
    quotient = a // b
    return np.asarray(np.where((a % b != 0) & ((a < 0) != (b < 0)), quotient + 1, quotient).astype(a.dtype))


def _power(node: Node, x: Operands) -> Array:
    base, exponent = x
    if base.dtype.kind == "f" or exponent.dtype.kind == "f":
        return np.power(base.astype(np.float64), exponent.astype(np.float64)).astype(base.dtype)
    if np.any(exponent < 0):
        raise ValueError("an integer to the power of a negative integer")
    return np.asarray(np.power(base, exponent.astype(base.dtype)))


def _sigmoid(node: Node, x: Operands) -> Array:
    wide = x[0].astype(np.float64)
    small = np.exp(-np.abs(wide))
    return np.where(wide >= 0, 1 / (1 + small), small / (1 + small)).astype(x[0].dtype)


def _clip(node: Node, x: Operands) -> Array:
    value = x[0]
    if len(x) > 1 and x[1] is not None:
        value = np.asarray(np.maximum(value, x[1]))
    if len(x) > 2 and x[2] is not None:
        value = np.asarray(np.minimum(value, x[2]))
    return value


def _leaky(node: Node, x: Operands) -> Array:
    slope = np.asarray(number(node, "alpha", 0.01), x[0].dtype)
    return np.where(x[0] < 0, slope * x[0], x[0])


def _elu(node: Node, x: Operands) -> Array:
    alpha = np.asarray(number(node, "alpha", 1.0), x[0].dtype)
    return np.where(x[0] < 0, alpha * np.expm1(np.minimum(x[0], 0)), x[0])


def _hard_sigmoid(node: Node, x: Operands) -> Array:
    alpha, beta = (
        np.asarray(number(node, key, value), x[0].dtype) for key, value in (("alpha", 0.2), ("beta", 0.5))
    )
    return np.asarray(np.clip(alpha * x[0] + beta, 0, 1))


def _hard_swish(node: Node, x: Operands) -> Array:
    value = x[0]
    return np.asarray(value * np.clip(value / value.dtype.type(6) + value.dtype.type(0.5), 0, 1))


def _softmax(node: Node, x: Operands) -> Array:
    axis = integer(node, "axis", -1)
    scaled = x[0] - x[0].max(axis=axis, keepdims=True)
    powers = np.exp(scaled)
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _log_softmax(node: Node, x: Operands) -> Array:
    axis = integer(node, "axis", -1)
    scaled = x[0] - x[0].max(axis=axis, keepdims=True)
    return np.asarray(scaled - np.log(np.exp(scaled).sum(axis=axis, keepdims=True)))


def _gelu(node: Node, x: Operands) -> Array:
    wide = x[0].astype(np.float64)
    if choice(node, "approximate", "none", ("none", "tanh")) == "tanh":
        gate = 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
    else:
        gate = 0.5 * (1 + _erf(wide / math.sqrt(2)))
    return (wide * gate).astype(x[0].dtype)


def _erf(x: Array) -> Array:
    import torch

    return np.asarray(torch.special.erf(torch.from_numpy(x.astype(np.float64))).numpy())


def _reduce(function: Callable[..., Any]) -> Operator:
    def run(node: Node, x: Operands) -> Array:
        value = x[0]
        axes = x[1] if len(x) > 1 else None
        if axes is None or axes.size == 0:
            if flag(node, "noop_with_empty_axes"):
                return value
            chosen = tuple(range(value.ndim))
        else:
            chosen = tuple(axis_of(int(axis), value.ndim) for axis in axes.ravel())
        keep = flag(node, "keepdims", True)
        return np.asarray(function(value, axis=chosen, keepdims=keep)).astype(value.dtype, copy=False)

    return run


def _arg(function: Callable[..., Any]) -> Operator:
    def run(node: Node, x: Operands) -> Array:
        axis, last = integer(node, "axis", 0), flag(node, "select_last_index")
        value = np.flip(x[0], axis) if last else x[0]
        index = np.asarray(function(value, axis=axis, keepdims=flag(node, "keepdims", True)))
        return (x[0].shape[axis] - 1 - index if last else index).astype(np.int64)

    return run


def _normalise_layer(node: Node, x: Operands) -> Array:
    value = x[0]
    axes = tuple(range(axis_of(integer(node, "axis", -1), value.ndim), value.ndim))
    mean = value.mean(axis=axes, keepdims=True)
    spread = ((value - mean) ** 2).mean(axis=axes, keepdims=True)
    out = (value - mean) / np.sqrt(spread + number(node, "epsilon", 1e-5)) * x[1]
    return np.asarray(out + x[2] if len(x) > 2 and x[2] is not None else out).astype(value.dtype)


ELEMENTWISE: Mapping[str, Operator] = {
    "Abs": _of_one(np.abs),
    "Ceil": _of_one(np.ceil),
    "Erf": _of_one(_erf),
    "Exp": _of_one(np.exp),
    "Floor": _of_one(np.floor),
    "Log": _of_one(np.log),
    "Neg": _of_one(np.negative),
    "Not": _of_one(np.logical_not),
    "Reciprocal": _of_one(np.reciprocal),
    "Relu": _of_one(lambda x: np.maximum(x, np.zeros((), x.dtype))),
    "Round": _of_one(np.round),
    "Sign": _of_one(np.sign),
    "Softplus": _of_one(lambda x: np.logaddexp(x, np.zeros((), x.dtype))),
    "Sqrt": _of_one(np.sqrt),
    "Tanh": _of_one(np.tanh),
    "Sigmoid": _sigmoid,
    "Add": _of_two(np.add),
    "Sub": _of_two(np.subtract),
    "Mul": _of_two(np.multiply),
    "Div": _divide,
    "Pow": _power,
    "PRelu": _of_two(lambda x, slope: np.where(x < 0, slope * x, x)),
    "And": _of_two(np.logical_and),
    "Or": _of_two(np.logical_or),
    "Equal": _of_two(np.equal),
    "Greater": _of_two(np.greater),
    "GreaterOrEqual": _of_two(np.greater_equal),
    "Less": _of_two(np.less),
    "LessOrEqual": _of_two(np.less_equal),
    "Sum": _chain(np.add),
    "Max": _chain(np.maximum),
    "Min": _chain(np.minimum),
    "Mean": _mean,
    "Where": lambda node, x: np.where(x[0], x[1], x[2]),
    "Clip": _clip,
    "LeakyRelu": _leaky,
    "Elu": _elu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Gelu": _gelu,
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "ReduceMax": _reduce(np.max),
    "ReduceMean": _reduce(np.mean),
    "ReduceMin": _reduce(np.min),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ArgMax": _arg(np.argmax),
    "ArgMin": _arg(np.argmin),
    "LayerNormalization": _normalise_layer,
}
"""By operator of ONNX: its result from its operands."""
