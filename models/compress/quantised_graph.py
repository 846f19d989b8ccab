"""A compressed float graph with its quantisers written in, which the importers' lowering makes integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats import Format, FormatKind
from ..graph import Graph, Node, ShapeTracker, Value
from ..graph.attributes import integers
from .weight_codes import FixedCode

__all__ = ["ActivationRange", "fixed_weights", "quantised_points", "with_quantisers", "without_softmax"]

_Array = NDArray[Any]
_THROUGH = frozenset(("MaxPool", "Flatten", "Reshape", "Transpose", "Identity", "Dropout", "Pad", "Squeeze"))
"""What keeps scale and zero point: values are quantised before it, not after."""
_JOINED = frozenset(("Relu", "Clip", "LeakyRelu", "PRelu"))
"""What is worked out before the rounding of the value that it takes."""
_LEAST = 2.0**-10
"""The least scale of a filter, to the layer's greatest."""
_ABOVE = 2.0**-16
"""By how much a step is above its unit: well over what float32 rounds away."""
_ALREADY = frozenset(("BipolarQuant", "Quant", "QuantizeLinear", "MultiThreshold"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRange:
    """What int8 activations of a value stand for.

    Raises:
        ValueError: a scale that isn't above 0.
    """

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale > 0 and -128 <= self.zero_point <= 127):
            raise ValueError(f"no range of int8: scale {self.scale}, zero point {self.zero_point}")

    @classmethod
    def of(cls, low: float, high: float) -> ActivationRange:
        """The range from `low` to `high`, widened to hold 0 exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / 255.0, 1e-8)
        return cls(scale=scale, zero_point=int(max(-128, min(127, round(-128 - low / scale)))))

    def coarsened(self, unit: float) -> ActivationRange:
        """The range with steps above `unit`, that of the sums that are rounded to it: as it is, or wider.

        Finer steps tell nothing more, and a core rescales by factors below 1 alone: a factor above would take
        a threshold a level and channel. Sums of signs have units that coarse.
        """
        if self.scale > unit:
            return self
        scale = unit * (1 + _ABOVE)
        low = (-128 - self.zero_point) * self.scale
        return ActivationRange(scale=scale, zero_point=max(-128, min(127, round(-128 - low / scale))))


def fixed_weights(weights: _Array, fmt: str = "int8") -> FixedCode:
    """Weights rounded to a symmetric integer format, a scale a filter: max |w| / the format's maximum.

    No scale is below 2^-10 of the layer's greatest: a filter that is dead, or all but, adds nothing that the
    output's 8 bits could tell, and its bias would take more steps than int32 or float32 has.

    Args:
        weights: float, (K, …).
        fmt: int2 … int8.
    """
    top = Format.parse(fmt).max
    size = np.abs(weights.reshape(len(weights), -1)).max(axis=1).astype(np.float64)
    scales = np.maximum(size, (size.max() or 1.0) * _LEAST) / top
    by = scales.reshape(-1, *[1] * (weights.ndim - 1))
    whole = np.clip(np.rint(weights / by), -top, top).astype(Format.parse(fmt).dtype)
    return FixedCode(integers=whole, scales=scales, fmt=fmt)


def without_softmax(graph: Graph) -> Graph:
    """The graph up to its logits, where a Softmax ends it; and Dropout gone."""
    last = graph.nodes[-1]
    if last.op == "Softmax" and graph.outputs == last.outputs:
        graph = replace(graph, nodes=graph.nodes[:-1], outputs=(last.inputs[0],))
    same: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(same.get(name, name) for name in node.inputs)
        if node.op in ("Dropout", "Identity") and node.outputs[0] not in graph.outputs:
            same[node.outputs[0]] = inputs[0]
            continue
        nodes.append(replace(node, inputs=inputs))
    return _with_shortcuts(graph, nodes)


def _with_shortcuts(graph: Graph, nodes: list[Node]) -> Graph:
    """The graph of these nodes, with zeros beside a picture's channels put in by a 1×1 convolution.

    He et al.'s option A pads channels; the core pads pixels only, so a convolution with ones on its diagonal
    stands for every second pixel and the new channels.
    """
    made = {node.outputs[0]: node for node in nodes}
    readers: dict[str, int] = {}
    for node in nodes:
        for name in node.inputs:
            readers[name] = readers.get(name, 0) + 1
    drop: set[str] = set()
    changed: dict[str, Node] = {}
    constants, values = dict(graph.constants), dict(graph.values)
    for node in nodes:
        if node.op != "Pad" or node.inputs[1] not in graph.constants:
            continue
        pads = [int(n) for n in graph.constants[node.inputs[1]]]
        if len(pads) != 8 or any(pads[i] for i in (0, 2, 3, 4, 6, 7)) or not (pads[1] or pads[5]):
            continue
        before = made.get(node.inputs[0])
        stride = (1, 1)
        source = node.inputs[0]
        if (
            before is not None
            and before.op == "MaxPool"
            and integers(before, "kernel_shape") == (1, 1)
            and readers[before.outputs[0]] == 1
        ):
            stride = tuple(integers(before, "strides", (1, 1)))  # type: ignore[assignment]
            source = before.inputs[0]
            drop.add(before.name)
        changed[node.name] = Node(
            op="Conv",
            name=node.name,
            inputs=(source, f"{node.name}.ones"),
            outputs=node.outputs,
            attributes={
                "kernel_shape": (1, 1),
                "strides": stride,
                "pads": (0, 0, 0, 0),
                "dilations": (1, 1),
                "group": 1,
            },
        )
        channels = graph.values[source].shape[1]
        ones = np.zeros((pads[1] + channels + pads[5], channels, 1, 1), np.float32)
        ones[pads[1] + np.arange(channels), np.arange(channels)] = 1
        constants[f"{node.name}.ones"] = ones
        values[f"{node.name}.ones"] = Value(name=f"{node.name}.ones", shape=ones.shape, dtype=ones.dtype)
    kept = tuple(changed.get(node.name, node) for node in nodes if node.name not in drop)
    return replace(graph, nodes=kept, constants=constants, values=values)


def quantised_points(graph: Graph) -> tuple[str, ...]:
    """The values of a graph that activations are rounded at, its input first.

    They are the results of sums (convolutions, products, adds, averages), after the ReLU or clip that follows
    alone. What only moves values has none of its own, and neither has what a low-bit quantiser takes.
    """
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    points = [graph.inputs[0]]
    for node in graph.nodes:
        if node.op in _THROUGH or node.op in _JOINED or node.op in _ALREADY:
            continue
        value = node.outputs[0]
        while len(readers.get(value, ())) == 1 and readers[value][0].op in _JOINED | {"BatchNormalization"}:
            value = readers[value][0].outputs[0]
        following = readers.get(value, ())
        if following and all(_low_bit_after(taker, readers) for taker in following):
            continue
        if value not in points:
            points.append(value)
    return tuple(points)


def _low_bit_after(node: Node, readers: Mapping[str, list[Node]]) -> bool:
    """Whether a low-bit quantiser is the node or takes what it makes, with but pools between."""
    while node.op == "MaxPool" and len(readers.get(node.outputs[0], ())) == 1:
        node = readers[node.outputs[0]][0]
    return node.op in _ALREADY


class _Draft:
    """The graph under construction."""

    def __init__(self, graph: Graph) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, _Array] = {}
        self.tracker = ShapeTracker()
        source = graph.values[graph.inputs[0]]
        self.tracker.add_value(Value(name=source.name, shape=source.shape, dtype=np.dtype(np.float32)))

    def add(self, node: Node) -> str:
        self.tracker.add_node(node)
        self.nodes.append(node)
        return node.outputs[0]

    def op(self, op: str, name: str, inputs: tuple[str, ...], **attributes: Any) -> str:
        return self.add(Node(op=op, name=name, inputs=inputs, outputs=(name,), attributes=attributes))

    def constant(self, name: str, array: _Array) -> str:
        if name not in self.constants:
            self.constants[name] = array
            self.tracker.add_value(Value(name=name, shape=array.shape, dtype=array.dtype), array)
        return name

    def weights(self, layer: str, code: FixedCode) -> str:
        """The weights of a layer as constants and the node that makes them real."""
        fmt = Format.parse(code.fmt)
        rank = code.integers.ndim
        if fmt.kind == FormatKind.INT:
            stored = self.constant(f"{layer}.integers", code.integers.astype(np.int8))
            scale = self.constant(f"{layer}.scales", code.scales.astype(np.float32))
            return self.op("DequantizeLinear", f"{layer}.weights", (stored, scale), axis=0)
        scales = code.scales.astype(np.float32).reshape(-1, *[1] * (rank - 1))
        real = self.constant(f"{layer}.real", (code.integers * scales).astype(np.float32))
        scale = self.constant(f"{layer}.scales", scales)
        if fmt.kind == FormatKind.BINARY:
            return self.op("BipolarQuant", f"{layer}.weights", (real, scale))
        zero = self.constant("quant.zero", np.array(0.0, np.float32))
        bits = self.constant("quant.bits2", np.array(2.0, np.float32))
        return self.op(
            "Quant", f"{layer}.weights", (real, scale, zero, bits), signed=1, narrow=1, rounding_mode="ROUND"
        )

    def bias(self, layer: str, name: str, step: float | None, code: FixedCode) -> str:
        """A layer's bias as int32 in steps of its sums; as it is where the input's step isn't known."""
        if step is None:
            return name
        real = self.constants[name].astype(np.float64)
        scale = (np.float32(step) * code.scales.astype(np.float32)).astype(np.float32)
        whole = np.rint(real / scale)
        limit = float(1 << 30)
        if np.abs(whole).max(initial=0.0) > limit:
            raise ValueError(f"layer {layer}: its bias must stay within 2^30 steps of its sums")
        stored = self.constant(f"{layer}.bias_integers", whole.astype(np.int32))
        steps = self.constant(f"{layer}.bias_scales", scale)
        return self.op("DequantizeLinear", f"{layer}.bias_real", (stored, steps), axis=0)

    def rounded(self, name: str, x: str, span: ActivationRange) -> str:
        """A value as int8 and back."""
        scale = self.constant(f"{name}.scale", np.array(span.scale, np.float32))
        zero = self.constant(f"{name}.zero_point", np.array(span.zero_point, np.int8))
        stored = self.op("QuantizeLinear", f"{name}.stored", (x, scale, zero))
        return self.op("DequantizeLinear", f"{name}.rounded", (stored, scale, zero))


def with_quantisers(
    graph: Graph, codes: Mapping[str, FixedCode], ranges: Mapping[str, ActivationRange]
) -> Graph:
    """The graph in ONNX's and QONNX's quantised vocabulary.

    Args:
        graph: from `without_softmax`, batch norms folded; float.
        codes: of every Conv and Gemm with constant weights, by node name.
        ranges: of every value of `quantised_points`.

    Raises:
        ValueError: a layer without code or a value without range.
    """
    draft = _Draft(graph)
    now = {graph.inputs[0]: graph.inputs[0]}

    spans = dict(ranges)
    units: dict[str, float] = {}

    def point(value: str, name: str) -> str:
        return draft.rounded(value, name, spans[value]) if value in spans else name

    now[graph.inputs[0]] = point(graph.inputs[0], graph.inputs[0])
    steps = {graph.inputs[0]: ranges[graph.inputs[0]].scale}
    for node in graph.nodes:
        inputs = []
        for place, name in enumerate(node.inputs):
            if place == 1 and node.op in ("Conv", "Gemm"):
                if node.name not in codes:
                    raise ValueError(f"layer {node.name} has no integer weights")
                inputs.append(draft.weights(node.name, codes[node.name]))
            elif name in now:
                inputs.append(now[name])
            elif name:
                inputs.append(draft.constant(name, np.asarray(graph.constants[name])))
            else:
                inputs.append("")
        if node.op in ("Conv", "Gemm") and len(inputs) > 2 and inputs[2] in draft.constants:
            inputs[2] = draft.bias(node.name, inputs[2], steps.get(node.inputs[0]), codes[node.name])
        value, source = node.outputs[0], node.inputs[0]
        if node.op in ("Conv", "Gemm") and source in steps:
            units[value] = steps[source] * float(codes[node.name].scales.max())
        elif node.op in _JOINED and source in units:
            units[value] = units[source]
        if value in spans and value in units:
            spans[value] = spans[value].coarsened(units[value])
        now[node.outputs[0]] = point(node.outputs[0], draft.add(replace(node, inputs=tuple(inputs))))
        if value in spans:
            steps[value] = spans[value].scale
        elif node.op == "BipolarQuant":
            steps[value] = float(np.asarray(graph.constants[node.inputs[1]]).reshape(-1)[0])
        elif node.op in _THROUGH and node.inputs[0] in steps:
            steps[value] = steps[node.inputs[0]]
    output = now[graph.outputs[0]]
    return Graph(
        name=graph.name,
        source="compressed",
        inputs=graph.inputs,
        outputs=(output,),
        nodes=tuple(draft.nodes),
        constants=draft.constants,
        values=draft.tracker.values,
    )
