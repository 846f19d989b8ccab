"""A network as its layers' problems and the tensors between them: what can stay on chip, and for how long."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..models.graph import Graph, Node
from ..models.graph.window import window_of
from ..models.layers import AvgPool, Concat, Conv, Linear, MaxPool
from ..models.network import Network
from .problem import Problem

__all__ = ["FlowTensor", "LayerGraph", "Rows", "Step", "graph_steps", "network_steps"]

_WINDOWS = {"Conv", "ConvInteger", "QLinearConv"}
_PRODUCTS = {"Gemm": (0, 1), "MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}
_POOLS = {"MaxPool", "AveragePool"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowTensor:
    """What passes between steps: its bits, and its rows where it is a picture."""

    name: str
    size_bits: int
    rows: int = 0
    """Of a picture; 0 of all else."""

    def __post_init__(self) -> None:
        if self.size_bits < 1 or self.rows < 0:
            raise ValueError(
                f"tensor {self.name!r:.80} must have at least 1 bit and 0 rows, not {self.size_bits} "
                f"bits and {self.rows} rows"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The window of a convolution or pool along the picture's rows."""

    outputs: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    pad_top: int = 0

    @property
    def reach(self) -> int:
        """Rows from a window's first to its last."""
        return (self.kernel - 1) * self.dilation + 1

    def needed(self, outputs: int) -> int:
        """Input rows, padding included, that so many output rows in a row take."""
        return (outputs - 1) * self.stride + self.reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A layer with products, or one that only moves values: a pool, a sum of two tensors, a slice."""

    name: str
    inputs: tuple[str, ...]
    """Of a layer the first is operand I, unless it is among `weights`."""
    outputs: tuple[str, ...]
    problem: Problem | None = None
    weights: tuple[str, ...] = ()
    """Of the inputs, those that stand where weights do: a product of two matrices that both move."""
    rows: Rows | None = None
    """Where a window slides over a picture's rows."""

    def __post_init__(self) -> None:
        if not self.outputs:
            raise ValueError(f"step {self.name!r:.80} makes no tensor")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGraph:
    """Steps in an order in which they run, and their tensors.

    Raises:
        ValueError: a tensor that isn't listed, or is read before it is made; names step and tensor.
    """

    name: str
    steps: tuple[Step, ...]
    tensors: Mapping[str, FlowTensor]
    inputs: tuple[str, ...] = ()
    """There before the first step."""
    outputs: tuple[str, ...] = ()
    """Wanted after the last."""

    def __post_init__(self) -> None:
        known = set(self.inputs)
        for step in self.steps:
            for name in (*step.inputs, *step.outputs):
                if name not in self.tensors:
                    raise ValueError(f"step {step.name!r:.80}: its tensor {name!r:.80} is not listed")
            for name in step.inputs:
                if name not in known:
                    raise ValueError(
                        f"step {step.name!r:.80}: its input {name!r:.80} is made by no step before it"
                    )
            known.update(step.outputs)
        for name in self.outputs:
            if name not in known:
                raise ValueError(f"network {self.name!r:.80}: its output {name!r:.80} is made by no step")

    def lives(self) -> dict[str, tuple[int, int]]:
        """By tensor, the first and last step that touch it; −1 and len(steps): before and after the run."""
        found: dict[str, tuple[int, int]] = dict.fromkeys(self.inputs, (-1, -1))
        for i, step in enumerate(self.steps):
            for name in (*step.inputs, *step.outputs):
                found[name] = (found.get(name, (i, i))[0], i)
        for name in self.outputs:
            found[name] = (found[name][0], len(self.steps))
        return found


class _Flow:
    """Tensors joined where an operator works on the fly, and what is known of their bits."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}
        self.values: dict[str, int] = {}
        self.bits: dict[str, int] = {}
        self.rows: dict[str, int] = {}

    def add(self, name: str, shape: Sequence[int]) -> None:
        if name not in self.parent:
            self.parent[name] = name
            self.values[name] = max(1, math.prod(shape))
            self.rows[name] = shape[-2] if len(shape) > 2 else 0

    def root(self, name: str) -> str:
        while self.parent[name] != name:
            name = self.parent[name]
        return name

    def join(self, name: str, other: str) -> None:
        """Nothing; both are one tensor from here on, as large as the larger, by the name of the first."""
        a, b = self.root(name), self.root(other)
        if a == b:
            return
        self.parent[b] = a
        self.values[a] = max(self.values[a], self.values[b])
        if self.rows[a] != self.rows[b]:
            self.rows[a] = 0
        if b in self.bits:
            self.widen(a, self.bits[b])

    def widen(self, name: str, bits: int) -> None:
        top = self.root(name)
        self.bits[top] = max(bits, self.bits.get(top, 0))

    def graph(
        self, name: str, steps: list[Step], inputs: Sequence[str], outputs: Sequence[str], bits: int
    ) -> LayerGraph:
        """The finished graph; tensors whose bits no layer says have `bits` a value."""
        kept = [
            Step(
                name=step.name,
                inputs=tuple(dict.fromkeys(self.root(x) for x in step.inputs)),
                outputs=tuple(dict.fromkeys(self.root(x) for x in step.outputs)),
                problem=step.problem,
                weights=tuple(self.root(x) for x in step.weights),
                rows=step.rows,
            )
            for step in steps
        ]
        roots = {self.root(x) for x in self.parent}
        return LayerGraph(
            name=name,
            steps=tuple(kept),
            tensors={
                x: FlowTensor(name=x, size_bits=self.values[x] * self.bits.get(x, bits), rows=self.rows[x])
                for x in roots
            },
            inputs=tuple(dict.fromkeys(self.root(x) for x in inputs)),
            outputs=tuple(dict.fromkeys(self.root(x) for x in outputs)),
        )


def graph_steps(graph: Graph, problems: Sequence[Problem]) -> LayerGraph:
    """A graph's layers and tensors. What has one operand that moves and as many results works on the fly.

    So do reshapes, activations and scales; a concatenation's operands lie side by side in its result, so they
    are one tensor; all else (pools, sums of two tensors, slices) moves its operands in and its results out.

    Args:
        graph: checked.
        problems: of its layers with products, by the nodes' names.

    Raises:
        ValueError: a layer has no problem; names it.
    """
    by_name = {problem.name: problem for problem in problems}
    flow, fixed = _Flow(), set(graph.constants)
    for name in graph.inputs:
        flow.add(name, graph.values[name].shape)
    steps: list[Step] = []
    for node in graph.nodes:
        moving = list(dict.fromkeys(x for x in node.inputs if x and x not in fixed))
        if not moving:
            fixed.update(node.outputs)
            continue
        made = [x for x in node.outputs if x]
        for x in made:
            flow.add(x, graph.values[x].shape)
        if node.op in _WINDOWS or node.op in _PRODUCTS:
            problem = by_name.get(node.name)
            if problem is None:
                raise ValueError(f"layer {node.name!r:.80}: no problem of this name is given")
            first = node.inputs[_PRODUCTS.get(node.op, (0, 0))[0]]
            second = node.inputs[_PRODUCTS[node.op][1]] if node.op in _PRODUCTS else ""
            operands = [first, *(x for x in moving if x != first)] if first in moving else moving
            weights = tuple(x for x in moving if x == second)
            flow.widen(operands[0], problem.input_bits)
            flow.widen(made[0], problem.output_bits)
            rows = _rows(graph, node) if node.op in _WINDOWS else None
            steps.append(
                Step(
                    name=node.name,
                    inputs=tuple(operands),
                    outputs=(made[0],),
                    problem=problem,
                    weights=weights,
                    rows=rows,
                )
            )
        elif node.op == "Concat":
            for x in moving:
                flow.join(made[0], x)
        elif len(moving) == 1 and len(made) == 1 and _count(graph, moving[0]) == _count(graph, made[0]):
            flow.join(moving[0], made[0])
        else:
            rows = _rows(graph, node) if node.op in _POOLS else None
            steps.append(Step(name=node.name, inputs=tuple(moving), outputs=tuple(made), rows=rows))
    bits = max((problem.output_bits for problem in problems), default=8)
    outputs = [x for x in graph.outputs if x not in fixed]
    return flow.graph(graph.name, steps, graph.inputs, outputs, bits)


def _count(graph: Graph, name: str) -> int:
    return math.prod(graph.values[name].shape)


def _rows(graph: Graph, node: Node) -> Rows | None:
    """The window along rows of a picture; None of one-dimensional convolutions."""
    picture = graph.values[node.inputs[0]].shape
    kernel = None
    if node.op in _WINDOWS:
        kernel = graph.values[node.inputs[3 if node.op == "QLinearConv" else 1]].shape[2:]
    window = window_of(node, picture[2:], kernel)
    if len(window.kernel) != 2:
        return None
    return Rows(
        outputs=window.out[0],
        kernel=window.kernel[0],
        stride=window.strides[0],
        dilation=window.dilations[0],
        pad_top=window.begins[0],
    )


def network_steps(network: Network, problems: Sequence[Problem]) -> LayerGraph:
    """An integer network's layers and tensors, by the rule of `graph_steps`; bits are its formats'.

    Accumulators are never stored: the tensor behind a layer's requantisation is what it makes.

    Raises:
        ValueError: a layer has no problem; names it.
    """
    by_name = {problem.name: problem for problem in problems}
    flow = _Flow()
    flow.add(network.input, network.tensors[network.input].shape)
    flow.widen(network.input, network.tensors[network.input].fmt.bits)
    steps: list[Step] = []
    for layer in network.layers:
        tensor = network.tensors[layer.output]
        flow.add(layer.output, tensor.shape)
        rows = None
        if isinstance(layer, Conv | MaxPool | AvgPool):
            if isinstance(layer, Conv):
                kernel = network.weights[layer.name].values.shape[2]
            else:
                kernel = layer.kernel[0]
            rows = Rows(
                outputs=tensor.shape[1],
                kernel=kernel,
                stride=layer.stride[0],
                dilation=layer.dilation[0] if isinstance(layer, Conv) else 1,
                pad_top=layer.padding[0],
            )
        if isinstance(layer, Conv | Linear):
            problem = by_name.get(layer.name)
            if problem is None:
                raise ValueError(f"layer {layer.name!r:.80}: no problem of this name is given")
            flow.widen(layer.inputs[0], problem.input_bits)
            flow.widen(layer.output, problem.output_bits)
            steps.append(
                Step(
                    name=layer.name,
                    inputs=tuple(layer.inputs),
                    outputs=(layer.output,),
                    problem=problem,
                    rows=rows,
                )
            )
        elif isinstance(layer, Concat):
            for x in layer.inputs:
                flow.join(layer.output, x)
        elif len(set(layer.inputs)) == 1 and rows is None:
            flow.join(layer.inputs[0], layer.output)
            flow.widen(layer.output, _stored(network, layer.output))
        else:
            flow.widen(layer.output, _stored(network, layer.output))
            steps.append(
                Step(name=layer.name, inputs=tuple(layer.inputs), outputs=(layer.output,), rows=rows)
            )
    return flow.graph(network.name, steps, (network.input,), (network.output,), 8)


def _stored(network: Network, name: str) -> int:
    """Bits of a value where it is stored; 1, which the next layer widens, where it is a sum on its way."""
    makes = {layer.inputs[0]: layer.output for layer in network.layers}
    kind = next((layer.kind for layer in network.layers if layer.output == name), "")
    if kind in ("conv", "linear", "avgpool", "add") and name in makes:
        return network.tensors[makes[name]].fmt.bits
    return network.tensors[name].fmt.bits
