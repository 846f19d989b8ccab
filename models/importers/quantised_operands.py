"""Operands of the nodes that a walk comes to: stored values, quantised constants, parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node
from ..graph.window import Window, window_of
from .quantised_draft import Draft
from .quantised_values import Fixed, NotLowered, State, Stored

__all__ = ["Operands", "flat_window", "picture_shape"]


def picture_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a graph's value has in a network: (N,), (C, 1, L) or (C, H, W).

    Raises:
        NotLowered: it has other axes, or a batch.
    """
    if not 2 <= len(shape) <= 4 or shape[0] != 1 or 0 in shape:
        raise NotLowered(f"a value of shape {shape} is no vector or picture")
    return (shape[1], 1, shape[2]) if len(shape) == 3 else shape[1:]


class Operands:
    """A graph, what is known of its values, and the layers that make them."""

    def __init__(self, graph: Graph, fixed: Mapping[str, Fixed]) -> None:
        self.graph = graph
        self.fixed = fixed
        self.draft = Draft()
        self.states: dict[str, State] = {}

    def constant(self, name: str, otherwise: NDArray[Any] | None = None) -> NDArray[Any]:
        """An operand's constant values, real ones; `otherwise` where it isn't constant."""
        if name in self.fixed:
            return self.fixed[name].real
        return self.graph.constants[name] if otherwise is None else self.graph.constants.get(name, otherwise)

    def stored(self, name: str) -> Stored:
        """Stored values by name; NotLowered where the graph's value is none."""
        state = self.states.get(name)
        if isinstance(state, Stored):
            return state
        raise NotLowered("its input must be quantised; put a quantiser before it")

    def plain(self, name: str) -> Stored:
        """Stored values by name, neither padded nor on the way to a shuffle; else NotLowered."""
        x = self.stored(name)
        if not x.whole:
            raise NotLowered("its input is padded, or on the way to a channel shuffle")
        return x

    def weights(self, name: str) -> Fixed:
        """A quantised constant by name; NotLowered where it is none."""
        if name not in self.fixed:
            raise NotLowered("its weights aren't quantised constants")
        return self.fixed[name]

    def integers_at(self, place: int, node: Node) -> NDArray[Any] | None:
        """A constant operand, None where it is left out."""
        name = node.inputs[place] if len(node.inputs) > place else ""
        if not name:
            return None
        if name not in self.graph.constants:
            raise NotLowered("its parameters must be constants")
        return self.graph.constants[name]

    def number_at(self, place: int, node: Node, default: float = 0) -> float:
        """A constant operand that is one number, `default` where it is left out; else NotLowered."""
        values = self.integers_at(place, node)
        if values is None:
            return default
        if values.size != 1:
            raise NotLowered("its parameters must be one for all channels")
        return float(values.reshape(-1)[0])

    def dequantized(self, x: Stored, scale: float, zero: int) -> Stored:
        """Stored integers as real values of step `scale`.

        Raises:
            NotLowered: they aren't integers in the graph, or scale and zero point can't be theirs.
        """
        if x.unit != 1:
            raise NotLowered("it dequantises what is no integer")
        tensor, zero = self.draft.tensors[x.tensor], x.zero + zero
        if not (math.isfinite(scale) and scale > 0):
            raise NotLowered(f"its scale must be finite and above 0, not {scale}")
        if not tensor.low <= zero <= tensor.high:
            raise NotLowered("its zero point is outside its integers")
        if tensor.scale is None:
            self.draft.restate(x.tensor, scale, zero)
        return Stored(tensor=x.tensor, unit=scale, zero=zero, pad=x.pad, groups=x.groups, swapped=x.swapped)

    def of_integers(self, node: Node, weight: int, zeros: tuple[int, int], axis: int) -> tuple[Stored, Fixed]:
        """Operands of a node on integers: what it takes, as real numbers of step 1, and its weights."""
        name = node.inputs[weight]
        if name not in self.graph.constants:
            raise NotLowered("its weights must be constants")
        integers_, zero = self.graph.constants[name].astype(np.int64), self.integers_at(zeros[1], node)
        if zero is not None:
            spread = [1] * integers_.ndim
            spread[axis] = -1
            integers_ = integers_ - zero.astype(np.int64).reshape(spread if zero.size > 1 else ())
        x = self.dequantized(self.stored(node.inputs[0]), 1.0, int(self.number_at(zeros[0], node)))
        return x, Fixed(integers=integers_, unit=np.array(1.0), bits=8)

    def bias(self, node: Node) -> Fixed | NDArray[Any] | None:
        """The third operand of a Conv or Gemm, None where it is left out."""
        name = node.inputs[2] if len(node.inputs) > 2 else ""
        if not name:
            return None
        return self.fixed[name] if name in self.fixed else self.graph.constants[name]

    def linear_operands(self, node: Node, bias: int | None, axis: int) -> tuple[Stored, Fixed, Fixed | None]:
        """Operands of QLinearConv or QLinearMatMul: input, weights and bias with their steps."""
        x = self.dequantized(
            self.stored(node.inputs[0]), self.number_at(1, node), int(self.number_at(2, node))
        )
        weights, scale, zero = (self.integers_at(place, node) for place in (3, 4, 5))
        if weights is None or scale is None:
            raise NotLowered("its weights must be constants")
        spread = [1] * weights.ndim
        spread[axis] = -1
        values = weights.astype(np.int64)
        if zero is not None:
            values = values - zero.astype(np.int64).reshape(spread if zero.size > 1 else ())
        unit = scale.astype(np.float64).reshape(spread if scale.size > 1 else ())
        added = self.integers_at(bias, node) if bias is not None else None
        if added is None:
            return x, Fixed(integers=values, unit=unit, bits=8), None
        step = np.broadcast_to(x.unit * unit.reshape(-1), added.shape)
        sums = Fixed(integers=added.astype(np.int64), unit=step, bits=32)
        return x, Fixed(integers=values, unit=unit, bits=8), sums

    def pool_window(self, node: Node, spatial: tuple[int, ...]) -> Window:
        """The window of a pool; NotLowered for one that the core's pools can't have."""
        window = window_of(node, spatial)
        if any(n != 1 for n in window.dilations) or any(window.overhang):
            raise NotLowered("the core's pools are neither dilated nor do they reach beyond the padding")
        return window


def flat_window(window: Window) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    """(kernel, stride, padding) of a pool over one or two axes."""
    if len(window.kernel) == 1:
        return (1, window.kernel[0]), (1, window.strides[0]), (0, window.begins[0], 0, window.ends[0])
    if len(window.kernel) != 2:
        raise NotLowered("the core's pools are over one or two axes")
    (ky, kx), (sy, sx) = window.kernel, window.strides
    return (ky, kx), (sy, sx), (window.begins[0], window.begins[1], window.ends[0], window.ends[1])
