"""QONNX and QDQ graphs as steps: integer networks for the core, and what the host runs around them."""

from __future__ import annotations

import functools
import heapq
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..graph import Graph, Node, fold_constants
from ..layers import Conv, Linear
from .model import Code, CoreStep, HostStep, Model
from .quantised_constants import fixed_constants
from .quantised_posts import identity_post
from .quantised_quantisers import QUANTISERS, linear_quantiser, quantiser_of
from .quantised_values import NotLowered, Pending, Quantiser, Stored, Sums
from .quantised_walk import Walk

__all__ = ["OPERATORS", "lower_graph"]

_THRESHOLDS = "Thresholds of the float32 function, exact; Requantize HALF_EVEN where that is equal"
_HALF_EVEN = "Requantize, HALF_EVEN"

OPERATORS = {
    "Quant": f"activations: {_THRESHOLDS}; constants: binary, ternary or int8 weights",
    "BipolarQuant": "activations: Thresholds, one a channel; constants: binary weights",
    "Trunc": _THRESHOLDS,
    "MultiThreshold": "Thresholds, exact",
    "QuantizeLinear": f"{_HALF_EVEN}, after Relu and Clip too; else Thresholds of the float32 function",
    "DequantizeLinear": "a scale and a zero point; constants: int8 weights, int32 bias",
    "QLinearConv": _HALF_EVEN,
    "QLinearMatMul": _HALF_EVEN,
    "ConvInteger": "Conv, int32 sums",
    "MatMulInteger": "Linear, int32 sums",
    "Conv": "Conv, int32 sums; over one axis as a picture of one row",
    "Gemm": "Linear, int32 sums",
    "MatMul": "Linear, int32 sums",
    "AveragePool": "AvgPool, int32 sums",
    "GlobalAveragePool": "AvgPool over the picture, int32 sums",
    "ReduceMean": "over all pixels, as GlobalAveragePool",
    "MaxPool": "MaxPool; before a quantiser too, where all between them rises",
    "Add": "Add with Requantize, HALF_EVEN; of a constant, part of the thresholds",
    "Concat": "Concat along channels; parts of other steps are rescaled, HALF_EVEN",
    "Pad": "padding of the Conv or AveragePool after it",
    "Flatten": "Flatten",
    "Reshape": "Flatten, or part of a channel shuffle",
    "Squeeze": "Flatten, or nothing",
    "Unsqueeze": "nothing, where a vector's signal becomes a picture of one row",
    "Transpose": "Shuffle, between two Reshapes",
    "Identity": "nothing",
    "Dropout": "nothing",
    "Relu": "a clamp of the Requantize, part of the thresholds, or Relu",
    "Clip": "a clamp of the Requantize, or part of the thresholds",
    **dict.fromkeys(
        ("LeakyRelu", "PRelu", "Sub", "Mul", "Div", "BatchNormalization", "Cast"),
        "part of the thresholds after it",
    ),
}
"""Every operator that can run on the core by its hardware path and rounding; all others are the host's."""

_FLOAT = "its operands are float: no quantiser stands before it"
_UNFINISHED = "no quantiser stands behind it, or the core's part ends before it"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cut:
    """Where a walk ends: the value that leaves the core."""

    value: str
    tensor: str
    layers: int
    """A bit for each layer, without what brings sums out as they are."""


def lower_graph(graph: Graph) -> Model:
    """The graph as steps: its integer parts as networks, one value in and one out, the rest as the host's.

    A part starts behind a quantiser that the host runs, and is as long as its nodes lower; where it forks, it
    ends at the last value that all of its results come from, and another may start there.

    Returns:
        the steps, and the graph with constants folded, whose nodes they name.

    Raises:
        ValueError: constants that can't be computed; names the node.
    """
    graph = fold_constants(graph)
    fixed = fixed_constants(graph)
    states = _Partition(graph, Walk(graph, fixed))
    for node in graph.nodes:
        states.open(node)
    return Model(graph=graph, steps=tuple(states.steps()))


class _Partition:
    """Which node is whose, as far as decided."""

    def __init__(self, graph: Graph, blank: Walk) -> None:
        self.graph = graph
        self.fixed = blank.fixed
        self.cores: list[CoreStep] = []
        self.taken: set[str] = set()
        """Names of the nodes that a core runs."""
        self.reasons: dict[str, str] = {}
        self.readers: dict[str, list[int]] = {}
        """Places of the nodes that take a value."""
        for place, node in enumerate(graph.nodes):
            for name in set(node.inputs):
                self.readers.setdefault(name, []).append(place)
        for name in graph.inputs:
            self._from_integers(name)

    def open(self, node: Node) -> None:
        """Nothing; starts a part behind `node` where it quantises what the host has."""
        if node.name in self.taken or node.op not in QUANTISERS or node.outputs[0] in self.fixed:
            return
        try:
            spec = quantiser_of(node, self.graph.constants, self.graph.values[node.outputs[0]])
        except NotLowered as fault:
            self.reasons.setdefault(node.name, str(fault))
            return
        self._grow(node.outputs[0], spec)

    def _from_integers(self, name: str) -> None:
        """Nothing; starts a part at an input of the graph that holds integers."""
        try:
            spec = linear_quantiser(1.0, 0, self.graph.values[name].dtype)
        except NotLowered:
            return
        self._grow(name, spec, known=False)

    def _grow(self, value: str, spec: Quantiser, known: bool = True) -> None:
        """Nothing; adds the core's part that starts at `value`, and the one at its end, and so on."""
        walk = Walk(self.graph, self.fixed)
        try:
            source = walk.start(value, spec, known=known)
        except NotLowered as fault:
            self._blame(value, str(fault))
            return
        self._follow(walk, value)
        self.reasons.update(walk.reasons)
        open_ends = functools.reduce(operator.or_, walk.ancestors.values())
        self.reasons.update(dict.fromkeys(self._names(open_ends), _UNFINISHED))
        cut = self._cut(walk)
        if cut is None:
            return
        try:
            step = self._step(walk, value, source, cut)
        except ValueError as fault:
            self._blame(value, str(fault))
            return
        self.cores.append(step)
        self.taken.update(step.nodes)
        state = walk.states[cut.value]
        if isinstance(state, Stored):
            tensor = walk.draft.tensors[state.tensor]
            assert tensor.scale is not None  # a quantiser made it
            again = Quantiser(
                unit=state.unit, zero=state.zero, low=tensor.low, high=tensor.high, step=tensor.step,
                scale=tensor.scale, zero_point=tensor.zero_point, ties_even=spec.ties_even, exact=spec.exact,
            )  # fmt: skip
            self._grow(cut.value, again)

    def _blame(self, value: str, reason: str) -> None:
        """Nothing; says why the nodes that take `value` are the host's."""
        for place in self.readers.get(value, ()):
            self.reasons[self.graph.nodes[place].name] = reason

    def _follow(self, walk: Walk, value: str) -> None:
        """Nothing; lowers what follows `value`, in the graph's order, as far as it goes."""
        waiting = list(self.readers.get(value, ()))
        heapq.heapify(waiting)
        seen: set[int] = set()
        while waiting:
            place = heapq.heappop(waiting)
            node = self.graph.nodes[place]
            if place in seen or node.name in self.taken:
                continue
            seen.add(place)
            if walk.take(node, place):
                for reader in self.readers.get(node.outputs[0], ()):
                    heapq.heappush(waiting, reader)

    def _names(self, bits: int) -> list[str]:
        """Names of the nodes that `bits` stands for."""
        names = []
        while bits:
            lowest = bits & -bits
            names.append(self.graph.nodes[lowest.bit_length() - 1].name)
            bits ^= lowest
        return names

    def _cut(self, walk: Walk) -> _Cut | None:
        """The value that most layers lead to, and that alone leaves the nodes before it."""
        weighted = sum(
            1 << i for i, layer in enumerate(walk.draft.layers) if isinstance(layer, Conv | Linear)
        )
        leaks = self._leaks(walk)
        best: _Cut | None = None
        for value, state in walk.states.items():
            if isinstance(state, Stored) and state.whole:
                tensor = state.tensor
            elif isinstance(state, Pending) and isinstance(state.base, Sums) and not state.nodes:
                tensor = state.base.tensor
            else:
                continue
            layers = walk.draft.depths.get(tensor, 0)
            better = best is None or layers.bit_count() > best.layers.bit_count()
            if not (better and layers & weighted) or leaks[value] & ~walk.ancestors[value]:
                continue
            if isinstance(state, Pending):
                assert isinstance(state.base, Sums)
                try:
                    tensor = identity_post(walk.draft, state.base.layer, state.base)
                except NotLowered as fault:
                    maker = walk.ancestors[value].bit_length() - 1
                    self.reasons[self.graph.nodes[maker].name] = str(fault)
                    continue
            best = _Cut(value=value, tensor=tensor, layers=layers)
        return best

    def _leaks(self, walk: Walk) -> dict[str, int]:
        """By value of a walk: a bit for each node that takes what was made on the way to it.

        The bit behind the last node's stands for the graph's user.
        """
        user = 1 << len(self.graph.nodes)
        leaks: dict[str, int] = {}
        for value in walk.states:
            if not walk.ancestors[value]:
                leaks[value] = 0
                continue
            maker = self.graph.nodes[walk.ancestors[value].bit_length() - 1]
            leaks[value] = 0
            for name in maker.inputs:
                if name in leaks:
                    leaks[value] |= leaks[name]
                    if walk.ancestors[name]:
                        leaks[value] |= user if name in self.graph.outputs else 0
                        leaks[value] |= sum(1 << reader for reader in self.readers.get(name, ()))
        return leaks

    def _step(self, walk: Walk, value: str, source: str, cut: _Cut) -> CoreStep:
        bits = walk.ancestors[cut.value]
        nodes = set(self._names(bits))
        nodes |= self._constant_nodes(nodes)
        number = len(self.cores)
        name = self.graph.name or "network"
        network = walk.draft.network(f"{name}.{number + 1}" if number else name, source, cut.tensor)
        kept = {layer.name for layer in network.layers}
        tensors: dict[str, str] = {}
        codes: dict[str, Code] = {}
        for key, state in walk.states.items():
            if walk.ancestors[key] & ~bits:
                continue
            if isinstance(state, Stored) and state.whole and state.tensor in network.tensors:
                tensors[key], codes[key] = state.tensor, Code(unit=np.array(state.unit), zero=state.zero)
            elif isinstance(state, Pending) and isinstance(state.base, Sums) and not state.nodes:
                sums = state.base
                if sums.tensor not in network.tensors or sums.layer not in walk.draft.weights:
                    continue
                sign = walk.draft.signs(sums.layer, kept)
                tensors[key] = sums.tensor
                codes[key] = Code(unit=sums.unit * sign, offset=sums.offset)
        tensors[cut.value] = cut.tensor
        return CoreStep(
            network=network,
            takes=value,
            makes=cut.value,
            nodes=tuple(node.name for node in self.graph.nodes if node.name in nodes),
            tensors=tensors,
            codes=codes,
        )

    def _constant_nodes(self, nodes: set[str]) -> set[str]:
        """Nodes whose results are quantised constants that `nodes` alone take."""
        found: set[str] = set()
        for node in reversed(self.graph.nodes):
            if node.outputs[0] in self.fixed and node.outputs[0] not in self.graph.outputs:
                readers = [self.graph.nodes[place].name for place in self.readers.get(node.outputs[0], ())]
                if readers and all(name in nodes or name in found for name in readers):
                    found.add(node.name)
        return found

    def steps(self) -> Iterator[HostStep | CoreStep]:
        """All steps in an order in which they can run; neighbours of the host's with one reason are one."""
        owner = {name: step for step in self.cores for name in step.nodes}
        made = {*self.graph.inputs, *self.graph.constants, ""}
        waiting: list[Node | CoreStep] = [node for node in self.graph.nodes if node.name not in owner]
        waiting += self.cores
        pending: list[Node] = []
        while waiting:
            ready = next(
                (item for item in waiting if isinstance(item, Node) and made.issuperset(item.inputs)), None
            ) or next(item for item in waiting if isinstance(item, CoreStep) and item.takes in made)
            waiting.remove(ready)
            if isinstance(ready, Node):
                made.update(ready.outputs)
                pending.append(ready)
                continue
            yield from self._host(pending)
            pending = []
            made.add(ready.makes)
            yield ready
        yield from self._host(pending)

    def _host(self, nodes: Sequence[Node]) -> Iterator[HostStep]:
        group: list[Node] = []
        for node in nodes:
            if group and self._reason(node) != self._reason(group[0]):
                yield HostStep(nodes=tuple(group), reason=self._reason(group[0]))
                group = []
            group.append(node)
        if group:
            yield HostStep(nodes=tuple(group), reason=self._reason(group[0]))

    def _reason(self, node: Node) -> str:
        if node.name in self.reasons:
            return self.reasons[node.name]
        if node.outputs[0] in self.fixed:
            return "its constants are the host's"
        if node.op in QUANTISERS:
            return "it brings float values into the core's formats"
        return _FLOAT
