"""A walk along a graph from one quantised value on: which nodes become layers, and why others don't."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node
from ..graph.attributes import flag, integer, integers, number
from ..graph.window import window_of
from .quantised_draft import DraftTensor
from .quantised_moves import concat, join, max_pool, pad, reshape, shaped
from .quantised_operands import Operands, flat_window, picture_shape
from .quantised_posts import SHAPES, Chain, finish_stored, finish_sums
from .quantised_quantisers import QUANTISERS, linear_quantiser, quantiser_of
from .quantised_sums import add_stored, convolve_stored, copy_stored, multiply_stored, pool_stored
from .quantised_values import Fixed, NotLowered, Parts, Pending, Quantiser, State, Stored, Sums

__all__ = ["Walk"]

_ELEMENTWISE = (
    "Relu",
    "LeakyRelu",
    "PRelu",
    "Clip",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "BatchNormalization",
    "Cast",
)
_CHAIN = 64
"""The most nodes between sums and their quantiser."""
_POOLS = ("AveragePool", "GlobalAveragePool", "ReduceMean")


class Walk(Operands):
    """States of the values that follow one quantised value, and the layers that make them."""

    def __init__(self, graph: Graph, fixed: Mapping[str, Fixed]) -> None:
        super().__init__(graph, fixed)
        self.ancestors: dict[str, int] = {}
        """By value: a bit for each node between it and the first value, by the node's place in the graph."""
        self.reasons: dict[str, str] = {}
        """By name of a node that is the host's."""

    def start(self, value: str, spec: Quantiser, known: bool = True) -> str:
        """The network's input: the tensor that `value`, which the host quantised, is stored in.

        Args:
            value: of the graph.
            spec: how it is stored.
            known: whether `spec` says what a step is worth; else the first node to take it does.

        Raises:
            NotLowered: a shape that no tensor has.
        """
        tensor = DraftTensor(
            name=value,
            shape=picture_shape(self.graph.values[value].shape),
            low=spec.low,
            high=spec.high,
            step=spec.step,
            scale=spec.scale if known else None,
            zero_point=spec.zero_point,
        )
        name = self.draft.tensor(tensor)
        self.states[value] = Stored(tensor=name, unit=spec.unit, zero=spec.zero)
        self.ancestors[value] = 0
        return name

    def take(self, node: Node, place: int) -> bool:
        """Whether `node`, which takes a known value, became layers; `place` is its place in the graph."""
        known = [name for name in node.inputs if name in self.states]
        try:
            given = (self.states, self.fixed, self.graph.constants)
            loose = [name for name in node.inputs if name and not any(name in names for names in given)]
            if loose:
                raise NotLowered(f"its operand {loose[0]:.60} is the host's")
            state = self._lower(node)
        except (NotLowered, ValueError) as fault:
            self.reasons[node.name] = str(fault)
            return False
        value = node.outputs[0]
        self.states[value] = state
        self.ancestors[value] = 1 << place
        for name in known:
            self.ancestors[value] |= self.ancestors[name]
        return True

    def _lower(self, node: Node) -> State:
        if any(node.outputs[1:]):
            raise NotLowered("the core has one result a layer")
        match node.op:
            case "DequantizeLinear":
                return self._dequantize(node)
            case "Conv" | "ConvInteger" | "QLinearConv":
                return self._conv(node)
            case "Gemm" | "MatMul" | "MatMulInteger" | "QLinearMatMul":
                return self._product(node)
            case "MaxPool":
                if isinstance(self.states[node.inputs[0]], Pending):
                    return self._pending(node)
                return max_pool(self, node, self.plain(node.inputs[0]))
            case "Concat":
                return concat(self, node)
            case "Pad":
                return pad(self, node)
        if node.op in QUANTISERS:
            spec = quantiser_of(node, self.graph.constants, self.graph.values[node.outputs[0]])
            return self._quantise(node, self.states[node.inputs[0]], node.inputs[0], spec)
        if node.op in _POOLS:
            return self._average(node)
        if node.op in (*SHAPES, "Transpose") and isinstance(self.states[node.inputs[0]], Stored):
            return reshape(self, node, self.stored(node.inputs[0]))
        if node.op == "Add" and all(name in self.states for name in node.inputs):
            a, b = (self.stored(name) for name in node.inputs)
            return self._sums(node, add_stored(self.draft, node.name, a, b))
        if node.op in _ELEMENTWISE or node.op in SHAPES:
            return self._pending(node)
        raise NotLowered(f"{node.op} has no hardware")

    # Values.

    def _dequantize(self, node: Node) -> State:
        scale, zero = self.number_at(1, node), int(self.number_at(2, node))
        return self.dequantized(self.stored(node.inputs[0]), scale, zero)

    # Layers with sums.

    def _sums(self, node: Node, sums: Sums) -> Pending:
        return Pending(base=sums, start=node.outputs[0])

    def _conv(self, node: Node) -> State:
        bias: Fixed | NDArray[Any] | None = None
        if node.op == "Conv":
            x, weights = self.stored(node.inputs[0]), self.weights(node.inputs[1])
            bias = self.bias(node)
        elif node.op == "ConvInteger":
            x, weights = self.of_integers(node, 1, (2, 3), 0)
        else:
            x, weights, bias = self.linear_operands(node, 8, 0)
        spatial = self.graph.values[node.inputs[0]].shape[2:]
        window = window_of(node, spatial, weights.integers.shape[2:])
        sums = convolve_stored(self.draft, node.name, x, weights, bias, window, integer(node, "group", 1))
        return self._linear_result(node, sums) if node.op == "QLinearConv" else self._sums(node, sums)

    def _product(self, node: Node) -> State:
        bias: Fixed | NDArray[Any] | None = None
        if node.op == "MatMulInteger":
            x, weights = self.of_integers(node, 1, (2, 3), 1)
        elif node.op == "QLinearMatMul":
            x, weights, _ = self.linear_operands(node, None, 1)
        else:
            x, weights = self.stored(node.inputs[0]), self.weights(node.inputs[1])
        if node.op == "Gemm":
            if flag(node, "transA") or (number(node, "alpha", 1), number(node, "beta", 1)) != (1, 1):
                raise NotLowered("transA, alpha and beta must be left as they are")
            if flag(node, "transB"):
                unit = weights.unit.T if weights.unit.ndim else weights.unit
                weights = Fixed(integers=weights.integers.T, unit=unit, bits=weights.bits)
            bias = self.bias(node)
        if len(self.graph.values[node.inputs[0]].shape) != 2:
            raise NotLowered("the core multiplies vectors by matrices; flatten its input")
        sums = multiply_stored(self.draft, node.name, x, weights, bias)
        return self._linear_result(node, sums) if node.op == "QLinearMatMul" else self._sums(node, sums)

    def _linear_result(self, node: Node, sums: Sums) -> State:
        """The result of a node that requantises by itself: its operands 6 and 7."""
        out = self.graph.values[node.outputs[0]]
        spec = linear_quantiser(self.number_at(6, node), int(self.number_at(7, node)), out.dtype)
        start = Pending(base=sums, start=node.outputs[0])
        return self._finish(node, start, spec, None, np.dtype(np.float32))

    def _average(self, node: Node) -> State:
        x = self.stored(node.inputs[0])
        spatial = self.graph.values[node.inputs[0]].shape[2:]
        if node.op == "AveragePool":
            window = self.pool_window(node, spatial)
            if any((*window.begins, *window.ends)) and not flag(node, "count_include_pad"):
                raise NotLowered("padded places must count, or the divisor would differ by window")
            kernel, stride, padding = flat_window(window)
        else:
            if node.op == "ReduceMean":
                given = self.integers_at(1, node)
                axes = tuple(given.tolist()) if given is not None else integers(node, "axes", ())
                if sorted(axis % (2 + len(spatial)) for axis in axes) != list(range(2, 2 + len(spatial))):
                    raise NotLowered("the core's means are over all pixels")
            kernel = stride = (spatial[0], spatial[1]) if len(spatial) == 2 else (1, math.prod(spatial))
            padding = (0, 0, 0, 0)
        return self._sums(node, pool_stored(self.draft, node.name, x, kernel, stride, padding))

    # Layers that hand on.

    # What stands between sums and the next stored values.

    def _pending(self, node: Node) -> State:
        known = [name for name in node.inputs if name in self.states]
        first = node.op in ("Div", "PRelu", "BatchNormalization")
        if len(known) != 1 or (first and known[0] != node.inputs[0]):
            raise NotLowered("one operand must be constant")
        state = self.states[known[0]]
        if isinstance(state, Stored):
            factor = self._factor(node, known[0])
            if factor is not None and math.isfinite(factor) and factor > 0 and state.unit != 1:
                return Stored(tensor=state.tensor, unit=state.unit * factor, zero=state.zero, pad=state.pad)
            state = Pending(base=self.plain(known[0]), start=known[0])
        if not isinstance(state, Pending):
            raise NotLowered("parts with different steps must be quantised first")
        if len(state.nodes) >= _CHAIN:
            raise NotLowered(f"more than {_CHAIN} nodes stand before a quantiser")
        if node.op == "MaxPool" and any(other.op == "MaxPool" for other in state.nodes):
            raise NotLowered("of two pools the first must be quantised")
        if node.op in SHAPES and math.prod(self.draft.tensors[state.base.tensor].shape[1:]) != 1:
            raise NotLowered("a picture's sums must be quantised before they change shape")
        if node.op == "LeakyRelu" and number(node, "alpha", 0.01) < 0:
            raise NotLowered("its slope must not be negative")
        return Pending(base=state.base, start=state.start, nodes=(*state.nodes, node))

    def _factor(self, node: Node, known: str) -> float | None:
        """What a node multiplies by, where it is one number."""
        if node.op not in ("Mul", "Div"):
            return None
        other = next((name for name in node.inputs if name != known), None)
        value = None if other is None else self.constant(other)
        if value is None or value.size != 1:
            return None
        number_ = float(value.reshape(-1)[0])
        return number_ if node.op == "Mul" else (1 / number_ if number_ else None)

    def _quantise(self, node: Node, state: State, name: str, spec: Quantiser) -> State:
        if isinstance(state, Parts):
            parts = []
            for x in state.parts:
                chain = self._chain((), name, spec, node, np.dtype(np.float32))
                tensor = self.draft.tensors[x.tensor]
                steps = {(x.unit, x.zero), (tensor.scale, tensor.zero_point), (spec.scale, spec.zero_point)}
                if len(steps) == 1:
                    parts.append(Stored(tensor=x.tensor, unit=spec.unit, zero=spec.zero))
                    continue
                sums = copy_stored(self.draft, f"{node.name}.copy", x, x.unit / spec.scale)
                parts.append(finish_sums(self.draft, node.name, sums, chain))
            return join(self, node, parts)
        if isinstance(state, Stored):
            state = Pending(base=state, start=name)
        return self._finish(node, state, spec, node, self.graph.values[state.start].dtype)

    def _chain(
        self,
        nodes: tuple[Node, ...],
        start: str,
        spec: Quantiser,
        quantiser: Node | None,
        dtype: np.dtype[Any],
    ) -> Chain:
        values = self.graph.values
        return Chain(
            nodes=nodes,
            ranks=tuple(len(values[node.outputs[0]].shape) for node in nodes),
            rank=len(values[start].shape),
            dtype=dtype,
            constant=self.constant,
            spec=spec,
            quantiser=quantiser,
        )

    def _finish(
        self, node: Node, state: Pending, spec: Quantiser, quantiser: Node | None, dtype: np.dtype[Any]
    ) -> State:
        chain = self._chain(state.nodes, state.start, spec, quantiser, dtype)
        if isinstance(state.base, Sums):
            made = finish_sums(self.draft, node.name, state.base, chain)
        else:
            made = finish_stored(self.draft, node.name, state.base, chain)
        for pool in state.nodes:
            if pool.op == "MaxPool":
                made = max_pool(self, pool, made)
        if not made.whole:
            return made
        shape = picture_shape(self.graph.values[node.outputs[0]].shape)
        return Stored(tensor=shaped(self, node, made.tensor, shape), unit=made.unit, zero=made.zero)
