"""A float graph as a torch module: what passes train, look into and change. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..graph import Graph, Node
from ..graph.attributes import integer, integers, number

__all__ = ["Operands", "TrainableGraph", "WeightedLayer"]

_TRAINED_OPERANDS = {"BatchNormalization": 3, "Conv": 3, "Gemm": 3, "PRelu": 2}
"""By operator: up to where its operands are trained, besides the first; γ and β, not mean and variance."""

Operands = Sequence[Any]
"""What a node takes: tensors, or None where it leaves one out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedLayer:
    """A convolution or linear layer of a graph whose weights are its own."""

    name: str
    """Its node's."""
    op: str
    """Conv or Gemm."""
    weight: str
    """The constant that holds its weights: (K, C / groups, FY, FX) or (K, N)."""
    bias: str | None
    groups: int
    value: str
    """The value that the node makes."""


class TrainableGraph(nn.Module):
    """The function of a float graph with one input and one output, its floating constants trainable.

    The forward pass gives the graph's output, shape (B, …), or what stands before a Softmax at its end, so
    that a loss can take logits. Dropout drops while training. A layer's weights go through its `transform`,
    where one is set, and values go through their `taps`.

    Args:
        graph: float; weights that take no memory become writable zeros.

    Raises:
        ValueError: more than one input or output, or an operator that isn't trained here; names the node.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise ValueError(
                f"network {graph.name}: compression takes networks with one input and one output, not "
                f"{len(graph.inputs)} and {len(graph.outputs)}"
            )
        for node in graph.nodes:
            if node.op not in _OPERATORS:
                raise ValueError(
                    f"layer {node.name}: {node.op} can't be trained here; what can is "
                    f"{', '.join(sorted(_OPERATORS))}"
                )
        self.graph = graph
        self.layers = tuple(_weighted_layers(graph))
        trained = {name for layer in self.layers for name in (layer.weight, layer.bias)}
        for node in graph.nodes:
            trained.update(node.inputs[1 : _TRAINED_OPERANDS.get(node.op, 1)])
        self._parameters_by_name: dict[str, nn.Parameter] = {}
        self._buffers_by_name: dict[str, Tensor] = {}
        for name, array in graph.constants.items():
            key = _key(name)
            tensor = torch.from_numpy(np.array(array))
            if array.dtype.kind == "f" and name in trained:
                self._parameters_by_name[name] = nn.Parameter(tensor.float())
                self.register_parameter(key, self._parameters_by_name[name])
            else:
                self.register_buffer(key, tensor)
                self._buffers_by_name[name] = tensor
        self.transforms = nn.ModuleDict()
        """By key of a layer, see `set_transform`."""
        self.taps: dict[str, list[Callable[[Tensor], Tensor]]] = {}
        """By name of a value: what it goes through once made; for quantisers and for captures."""
        self.norm: Callable[[Node, Operands, bool], Tensor] | None = None
        """What batch norms compute while a pass says so: (node, operands, whether training) → result."""

    # Layers and their weights

    def layer(self, name: str) -> WeightedLayer:
        """The weighted layer of this name; ValueError if there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(f"network {self.graph.name} has no layer {name!r} with weights")

    def weight(self, name: str) -> nn.Parameter:
        """The weights of the layer `name`, before its transform."""
        return self._parameters_by_name[self.layer(name).weight]

    def bias(self, name: str) -> nn.Parameter | None:
        """The bias of the layer `name`, shape (K,), or None."""
        bias = self.layer(name).bias
        return None if bias is None else self._parameters_by_name[bias]

    def parameter(self, constant: str) -> nn.Parameter:
        """What is trained in place of a constant of the graph: weights, a bias, a norm's gain or shift."""
        return self._parameters_by_name[constant]

    def set_transform(self, name: str, transform: nn.Module | None) -> None:
        """Nothing; from here on the layer computes with `transform(weight)`; None takes it away."""
        key = _key(self.layer(name).name)
        if key in self.transforms:
            del self.transforms[key]
        if transform is not None:
            self.transforms[key] = transform

    def transform(self, name: str) -> nn.Module | None:
        """The transform of the layer `name`, or None."""
        key = _key(name)
        return self.transforms[key] if key in self.transforms else None  # noqa: SIM401 - no mapping

    def effective_weight(self, name: str) -> Tensor:
        """The weights that the layer `name` computes with: after its transform."""
        weight, transform = self.weight(name), self.transform(name)
        if transform is None:
            return weight
        changed: Tensor = transform(weight)
        return changed

    @contextmanager
    def captured(self, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
        """The values `names` of each forward pass within, by name; those of the newest pass."""
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[Tensor], Tensor]:
            def tap(value: Tensor) -> Tensor:
                found[name] = value
                return value

            return tap

        taps = {name: keep(name) for name in names}
        for name, tap in taps.items():
            self.taps.setdefault(name, []).append(tap)
        try:
            yield found
        finally:
            for name, tap in taps.items():
                self.taps[name].remove(tap)

    def to_graph(self) -> Graph:
        """The graph with the weights as they are now, transforms applied; everything float32."""
        effective = {layer.weight: layer.name for layer in self.layers}
        constants: dict[str, NDArray[Any]] = {}
        with torch.no_grad():
            for name, array in self.graph.constants.items():
                layer = effective.get(name)
                value = self.value(name) if layer is None else self.effective_weight(layer)
                constants[name] = value.detach().cpu().numpy().astype(array.dtype).copy()
        return replace(self.graph, constants=constants)

    def value(self, constant: str) -> Tensor:
        """What a constant of the graph is now: what is trained for it, or what the forward pass keeps."""
        if constant in self._parameters_by_name:
            return self._parameters_by_name[constant]
        return getattr(self, _key(constant))  # type: ignore[no-any-return]

    # The forward pass

    def forward(self, x: Tensor) -> Tensor:
        """The output for inputs of shape (B, *input shape without the batch axis)."""
        weights = {layer.weight: layer.name for layer in self.layers}
        known: dict[str, Tensor] = {self.graph.inputs[0]: self._tapped(self.graph.inputs[0], x)}
        last = self.graph.nodes[-1]
        output = self.graph.outputs[0]
        for node in self.graph.nodes:
            if node is last and node.op == "Softmax" and node.outputs[0] == output:
                return known[node.inputs[0]]
            operands: list[Tensor | None] = []
            for name in node.inputs:
                if not name:
                    operands.append(None)
                elif name in known:
                    operands.append(known[name])
                elif name in weights:
                    operands.append(self.effective_weight(weights[name]))
                else:
                    operands.append(self.value(name))
            operator = self.norm if node.op == "BatchNormalization" and self.norm else _OPERATORS[node.op]
            made = operator(node, operands, self.training)
            known[node.outputs[0]] = self._tapped(node.outputs[0], made)
        return known[output]

    def _tapped(self, name: str, value: Tensor) -> Tensor:
        for tap in self.taps.get(name, ()):
            value = tap(value)
        return value


def _key(name: str) -> str:
    """A name as torch takes it for a part of a module."""
    return "p_" + "".join(c if c.isalnum() else f"_{ord(c):x}_" for c in name)


def _weighted_layers(graph: Graph) -> Iterator[WeightedLayer]:
    readers: dict[str, set[str]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, set()).add(node.op)
    taken: set[str] = set()
    for node in graph.nodes:
        if node.op not in ("Conv", "Gemm") or len(node.inputs) < 2:
            continue
        weight = graph.constants.get(node.inputs[1])
        if weight is None or weight.dtype.kind != "f" or readers[node.inputs[1]] != {node.op}:
            continue
        if node.inputs[1] in taken:  # another time step of a recurrent layer, which is called as its first
            continue
        taken.add(node.inputs[1])
        if node.op == "Gemm" and not integer(node, "transB", 0):
            continue
        bias = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2] in graph.constants else None
        yield WeightedLayer(
            name=node.name,
            op=node.op,
            weight=node.inputs[1],
            bias=bias,
            groups=integer(node, "group", 1) if node.op == "Conv" else 1,
            value=node.outputs[0],
        )


# Operators: (node, operands, whether training) → result


def _padded(x: Tensor, pads: Sequence[int], fill: float) -> Tensor:
    top, left, bottom, right = pads
    return functional.pad(x, (left, right, top, bottom), value=fill) if any(pads) else x


def _conv(node: Node, x: Operands, training: bool) -> Tensor:
    pads = integers(node, "pads", (0, 0, 0, 0))
    even = pads[0] == pads[2] and pads[1] == pads[3]
    source = x[0] if even else _padded(x[0], pads, 0.0)
    return functional.conv2d(
        source,
        x[1],
        x[2] if len(x) > 2 else None,
        tuple(integers(node, "strides", (1, 1))),
        (pads[0], pads[1]) if even else (0, 0),
        tuple(integers(node, "dilations", (1, 1))),
        integer(node, "group", 1),
    )


def _gemm(node: Node, x: Operands, training: bool) -> Tensor:
    if integer(node, "transA", 0) or number(node, "alpha", 1.0) != 1.0 or number(node, "beta", 1.0) != 1.0:
        raise ValueError(f"layer {node.name}: a Gemm must have alpha and beta 1 and no transA to be trained")
    weight = x[1] if integer(node, "transB", 0) else x[1].T
    return functional.linear(x[0], weight, x[2] if len(x) > 2 else None)


def _norm(node: Node, x: Operands, training: bool) -> Tensor:
    return functional.batch_norm(
        x[0], x[3], x[4], x[1], x[2], training=training, momentum=0.1, eps=number(node, "epsilon", 1e-5)
    )


def _max_pool(node: Node, x: Operands, training: bool) -> Tensor:
    pads = integers(node, "pads", (0, 0, 0, 0))
    kernel = tuple(integers(node, "kernel_shape", ()))
    strides = tuple(integers(node, "strides", (1, 1)))
    return functional.max_pool2d(
        _padded(x[0], pads, float("-inf")),
        kernel,
        strides,
        0,
        tuple(integers(node, "dilations", (1, 1))),
        bool(integer(node, "ceil_mode", 0)),
    )


def _average_pool(node: Node, x: Operands, training: bool) -> Tensor:
    pads = integers(node, "pads", (0, 0, 0, 0))
    if pads[0] != pads[2] or pads[1] != pads[3]:
        raise ValueError(f"layer {node.name}: an average pool must be padded alike on both sides")
    return functional.avg_pool2d(
        x[0],
        tuple(integers(node, "kernel_shape", ())),
        tuple(integers(node, "strides", (1, 1))),
        (pads[0], pads[1]),
        bool(integer(node, "ceil_mode", 0)),
        bool(integer(node, "count_include_pad", 0)),
    )


def _global_average_pool(node: Node, x: Operands, training: bool) -> Tensor:
    mean: Tensor = x[0].mean(dim=(2, 3), keepdim=True)
    return mean


def _flatten(node: Node, x: Operands, training: bool) -> Tensor:
    if integer(node, "axis", 1) != 1:
        raise ValueError(f"layer {node.name}: a Flatten must have axis 1 to be trained")
    flat: Tensor = x[0].flatten(1)
    return flat


def _reshape(node: Node, x: Operands, training: bool) -> Tensor:
    shape = [int(n) for n in x[1]]
    changed: Tensor = x[0].reshape(len(x[0]), *shape[1:])
    return changed


def _transpose(node: Node, x: Operands, training: bool) -> Tensor:
    order = integers(node, "perm", tuple(reversed(range(x[0].dim()))))
    turned: Tensor = x[0].permute(*order)
    return turned


def _pad(node: Node, x: Operands, training: bool) -> Tensor:
    pads = [int(n) for n in x[1]]
    rank = x[0].dim()
    flat = [pads[axis + side * rank] for axis in reversed(range(rank)) for side in (0, 1)]
    fill = float(x[2]) if len(x) > 2 and x[2] is not None else 0.0
    return functional.pad(x[0], flat, value=fill)


def _slice(node: Node, x: Operands, training: bool) -> Tensor:
    starts, ends = ([int(n) for n in x[i]] for i in (1, 2))
    axes = [int(n) for n in x[3]] if len(x) > 3 and x[3] is not None else list(range(len(starts)))
    steps = [int(n) for n in x[4]] if len(x) > 4 and x[4] is not None else [1] * len(starts)
    part: Tensor = x[0]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1 or axis % part.dim() == 0:
            raise ValueError(f"layer {node.name}: a Slice must go forward, within a picture, to be trained")
        part = part[(slice(None),) * (axis % part.dim()) + (slice(start, end, step),)]
    return part


def _dropout(node: Node, x: Operands, training: bool) -> Tensor:
    ratio = float(x[1]) if len(x) > 1 and x[1] is not None else 0.5
    return functional.dropout(x[0], ratio, training)


def _clip(node: Node, x: Operands, training: bool) -> Tensor:
    low, high = (float(x[i]) if len(x) > i and x[i] is not None else None for i in (1, 2))
    clipped: Tensor = x[0].clamp(low, high)
    return clipped


class _Sign(torch.autograd.Function):
    """The sign of x, +1 for 0; gradients pass where |x| ≤ 1 (Courbariaux et al. 2016, eq. 4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        passed: Tensor = gradients[0] * (x.abs() <= 1)
        return passed


def _bipolar(node: Node, x: Operands, training: bool) -> Tensor:
    signs: Tensor = _Sign.apply(x[0]) * x[1]  # type: ignore[no-untyped-call]
    return signs


def _reduce_mean(node: Node, x: Operands, training: bool) -> Tensor:
    axes = [int(n) for n in x[1]]
    mean: Tensor = x[0].mean(dim=axes, keepdim=bool(integer(node, "keepdims", 1)))
    return mean


_OPERATORS: Mapping[str, Callable[[Node, Operands, bool], Tensor]] = {
    "Abs": lambda node, x, training: x[0].abs(),
    "Add": lambda node, x, training: x[0] + x[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _norm,
    "BipolarQuant": _bipolar,
    "Clip": _clip,
    "Concat": lambda node, x, training: torch.cat(list(x), integer(node, "axis", 1)),
    "Conv": _conv,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "Identity": lambda node, x, training: x[0],
    "LRN": lambda node, x, training: functional.local_response_norm(
        x[0],
        integer(node, "size"),
        number(node, "alpha", 1e-4),
        number(node, "beta", 0.75),
        number(node, "bias", 1.0),
    ),
    "LeakyRelu": lambda node, x, training: functional.leaky_relu(x[0], number(node, "alpha", 0.01)),
    "MaxPool": _max_pool,
    "Mul": lambda node, x, training: x[0] * x[1],
    "PRelu": lambda node, x, training: torch.where(x[0] >= 0, x[0], x[0] * x[1]),
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": lambda node, x, training: functional.relu(x[0]),
    "Reshape": _reshape,
    "Slice": _slice,
    "Sigmoid": lambda node, x, training: torch.sigmoid(x[0]),
    "Softmax": lambda node, x, training: torch.softmax(x[0], integer(node, "axis", -1)),
    "Sub": lambda node, x, training: x[0] - x[1],
    "Tanh": lambda node, x, training: torch.tanh(x[0]),
    "Transpose": _transpose,
}
"""By operator of ONNX; batch norms use and follow the batch's statistics while training."""
