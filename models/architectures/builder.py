"""A graph of the zoo under construction: one line a layer, weights that take no memory unless seeded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node, Value
from ..graph.shapes import ShapeTracker

__all__ = ["Builder"]

_Pad = int | tuple[int, int, int, int]
_OnWeights = Callable[[str], str]


def _pads(pad: _Pad) -> tuple[int, int, int, int]:
    """(top, left, bottom, right)."""
    return (pad, pad, pad, pad) if isinstance(pad, int) else pad


class Builder:
    """Nodes, their weights and shapes, in the order in which layers are asked for.

    Every method adds a layer and returns the name of the value that it makes, which is the layer's own;
    layers without weights are numbered where they are given no name. Weights are called `NAME.weight`,
    `NAME.bias`, `NAME.running_mean` and `NAME.running_var`.

    Args:
        name: of the graph.
        shape: of its input, without the batch axis.
        seed: None for weights that are all 0 (a norm's γ and variance 1) and take no memory; else weights
            are drawn from a normal distribution of variance 2 / fan-in (He et al. 2015, eq. 10).
    """

    def __init__(self, name: str, shape: Sequence[int], seed: int | None) -> None:
        self.name = name
        self.input = "input"
        self._rng = None if seed is None else np.random.default_rng(seed)
        self._nodes: list[Node] = []
        self._constants: dict[str, NDArray[Any]] = {}
        self._tracker = ShapeTracker()
        self._tracker.add_value(Value(name="input", shape=(1, *shape), dtype=np.dtype(np.float32)))
        self._numbers: dict[str, int] = {}

    def graph(self, *outputs: str) -> Graph:
        """The graph that has been built, with these outputs."""
        return Graph(
            name=self.name,
            source="zoo",
            inputs=(self.input,),
            outputs=outputs,
            nodes=tuple(self._nodes),
            constants=self._constants,
            values=self._tracker.values,
        )

    def shape(self, value: str) -> tuple[int, ...]:
        """The shape of a value, with the batch axis."""
        return self._tracker.values[value].shape

    # Layers with weights

    def conv(
        self,
        name: str,
        x: str,
        channels: int,
        kernel: int,
        *,
        stride: int = 1,
        pad: _Pad = 0,
        groups: int = 1,
        bias: bool = True,
        on_weights: _OnWeights | None = None,
    ) -> str:
        """A square convolution; `pad` is one number or (top, left, bottom, right)."""
        shape = (channels, self.shape(x)[1] // groups, kernel, kernel)
        operands = [x, self._weight(f"{name}.weight", shape, on_weights)]
        if bias:
            operands.append(self._filled(f"{name}.bias", (channels,), 0.0))
        attributes = {
            "kernel_shape": (kernel, kernel),
            "strides": (stride, stride),
            "pads": _pads(pad),
            "dilations": (1, 1),
            "group": groups,
        }
        return self._add("Conv", name, operands, attributes)

    def linear(
        self, name: str, x: str, features: int, *, bias: bool = True, on_weights: _OnWeights | None = None
    ) -> str:
        """A fully connected layer, weights (features, inputs); pictures are flattened before.

        `on_weights` adds what the weights pass through: a quantiser, or a Dropout for DropConnect.
        """
        x = self.flatten(x)
        operands = [x, self._weight(f"{name}.weight", (features, self.shape(x)[1]), on_weights)]
        if bias:
            operands.append(self._filled(f"{name}.bias", (features,), 0.0))
        return self._add("Gemm", name, operands, {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1})

    def again(self, name: str, x: str, step: str) -> str:
        """The linear layer `name` once more, as `step`, with the same weights: another time step."""
        first = next(node for node in self._nodes if node.name == name)
        return self._add("Gemm", step, [x, *first.inputs[1:]], dict(first.attributes))

    def set_weight(self, name: str, values: NDArray[np.float32]) -> None:
        """Nothing; gives a layer other weights than drawn ones."""
        self._constant(f"{name}.weight", values)

    def norm(self, name: str, x: str, *, epsilon: float = 1e-5) -> str:
        """Batch normalisation: γ and β are parameters, the running statistics are not."""
        count = (self.shape(x)[1],)
        operands = [
            x,
            self._filled(f"{name}.weight", count, 1.0),
            self._filled(f"{name}.bias", count, 0.0),
            self._filled(f"{name}.running_mean", count, 0.0),
            self._filled(f"{name}.running_var", count, 1.0),
        ]
        return self._add("BatchNormalization", name, operands, {"epsilon": epsilon})

    def prelu(self, name: str, x: str) -> str:
        """A ReLU with a learnt slope below 0 for each channel, 1/4 at first (He et al. 2015)."""
        shape = (self.shape(x)[1], *(1 for _ in self.shape(x)[2:]))
        return self._add("PRelu", name, [x, self._filled(f"{name}.weight", shape, 0.25)])

    # Layers without

    def bipolar(self, x: str, *, name: str | None = None) -> str:
        """QONNX's BipolarQuant: 1 where x is at least 0, else −1."""
        name = name or self._number("sign")
        return self._add("BipolarQuant", name, [x, self._filled(f"{name}.scale", (), 1.0)])

    def quantized(self, x: str, *, scale: float, bits: int) -> str:
        """QONNX's Quant: x rounded half to even to signed steps of `scale`."""
        name = self._number("quant")
        numbers = (("scale", scale), ("zero_point", 0.0), ("bits", float(bits)))
        operands = [x, *(self._filled(f"{name}.{word}", (), number) for word, number in numbers)]
        attributes = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
        return self._add("Quant", name, operands, attributes)

    def symmetric(self, x: str) -> str:
        """Values 0..1 stretched to −1..1."""
        x = self._add("Mul", "stretch", [x, self._filled("stretch.factor", (), 2.0)])
        return self._add("Sub", "centre", [x, self._filled("centre.offset", (), 1.0)])

    def relu(self, x: str, *, name: str | None = None) -> str:
        """max(x, 0)."""
        return self._add("Relu", name, [x])

    def leaky_relu(self, x: str, slope: float, *, name: str | None = None) -> str:
        """Where x is below 0, slope · x."""
        return self._add("LeakyRelu", name, [x], {"alpha": slope})

    def softmax(self, x: str, *, name: str | None = None) -> str:
        """Softmax over the channels."""
        return self._add("Softmax", name, [x], {"axis": 1})

    def lrn(self, x: str, *, size: int, alpha: float, beta: float, bias: float) -> str:
        """Local response normalisation: x / (bias + alpha / size · Σ x²)^beta over `size` channels."""
        return self._add("LRN", None, [x], {"size": size, "alpha": alpha, "beta": beta, "bias": bias})

    def dropout(self, x: str, ratio: float, *, name: str | None = None) -> str:
        """Dropout, which inference does not see."""
        name = name or self._number("dropout")
        return self._add("Dropout", name, [x, self._constant(f"{name}.ratio", np.float32(ratio))])

    def max_pool(
        self, x: str, kernel: int, *, stride: int, pad: _Pad = 0, ceil: bool = False, name: str | None = None
    ) -> str:
        """A square max pool; `ceil` adds to bottom and right what makes the last window whole."""
        attributes = self._windows(x, kernel, stride, pad, ceil)
        return self._add("MaxPool", name or self._number("pool"), [x], attributes)

    def average_pool(
        self,
        x: str,
        kernel: int,
        *,
        stride: int,
        pad: _Pad = 0,
        ceil: bool = False,
        count_padding: bool = False,
        name: str | None = None,
    ) -> str:
        """A square average pool; padding counts as zeros only where `count_padding`."""
        attributes = self._windows(x, kernel, stride, pad, ceil) | {"count_include_pad": int(count_padding)}
        return self._add("AveragePool", name or self._number("pool"), [x], attributes)

    def frame(self, x: str, number: int) -> str:
        """Row `number` of a picture, as a row of its own."""
        name = f"frame{number}"
        limits = (("start", number), ("end", number + 1), ("axis", 2))
        operands = [x, *(self._constant(f"{name}.{word}", np.array([n], np.int64)) for word, n in limits)]
        return self.flatten(self._add("Slice", name, operands))

    def global_average_pool(self, x: str, *, name: str | None = None) -> str:
        """Each channel's mean, (1, C, 1, 1)."""
        return self._add("GlobalAveragePool", name or self._number("pool"), [x])

    def flatten(self, x: str) -> str:
        """A picture as a row; what is a row already stays, and adds no layer."""
        return x if len(self.shape(x)) == 2 else self._add("Flatten", None, [x], {"axis": 1})

    def add(self, left: str, right: str, *, name: str | None = None) -> str:
        """The sum of two values of one shape."""
        return self._add("Add", name, [left, right])

    def concat(self, parts: Sequence[str], *, name: str | None = None) -> str:
        """Values one after the other along the channels."""
        return self._add("Concat", name, list(parts), {"axis": 1})

    def pad_channels(self, x: str, before: int, after: int) -> str:
        """Channels of zeros before and after."""
        name = self._number("pad")
        pads = np.array([0, before, 0, 0, 0, after, 0, 0], np.int64)
        operands = [x, self._constant(f"{name}.pads", pads)]
        return self._add("Pad", name, operands, {"mode": "constant"})

    def shuffle(self, x: str, groups: int, *, name: str) -> str:
        """Channels of `groups` groups interleaved (Zhang et al. 2018, ShuffleNet, section 3.1)."""
        batch, count, *pixels = self.shape(x)
        x = self._reshape(x, (batch, groups, count // groups, *pixels), f"{name}.split")
        x = self._add("Transpose", f"{name}.swap", [x], {"perm": (0, 2, 1, 3, 4)})
        return self._reshape(x, (batch, count, *pixels), name)

    def _reshape(self, x: str, shape: tuple[int, ...], name: str) -> str:
        operands = [x, self._constant(f"{name}.shape", np.array(shape, np.int64))]
        return self._add("Reshape", name, operands, {"allowzero": 0})

    # What layers are made of

    def _weight(self, name: str, shape: tuple[int, ...], on_weights: _OnWeights | None) -> str:
        if self._rng is None:
            self._filled(name, shape, 0.0)
        else:
            values = self._rng.standard_normal(shape, np.float32)
            values *= np.float32(math.sqrt(2.0 / math.prod(shape[1:])))
            self._constant(name, values)
        return name if on_weights is None else on_weights(name)

    def _filled(self, name: str, shape: tuple[int, ...], value: float) -> str:
        return self._constant(name, np.broadcast_to(np.float32(value), shape))

    def _constant(self, name: str, array: NDArray[Any] | np.generic) -> str:
        self._constants[name] = values = np.asarray(array)
        self._tracker.add_value(Value(name=name, shape=values.shape, dtype=values.dtype), values)
        return name

    def _number(self, word: str) -> str:
        self._numbers[word] = number = self._numbers.get(word, 0) + 1
        return f"{word}{number}"

    def _windows(self, x: str, kernel: int, stride: int, pad: _Pad, ceil: bool) -> dict[str, Any]:
        """The attributes that all pools have."""
        return {
            "kernel_shape": (kernel, kernel),
            "strides": (stride, stride),
            "pads": self._ceiled(x, kernel, stride, pad) if ceil else _pads(pad),
            "dilations": (1, 1),
            "ceil_mode": 0,
        }

    def _ceiled(self, x: str, kernel: int, stride: int, pad: _Pad) -> tuple[int, int, int, int]:
        top, left, bottom, right = _pads(pad)
        _, _, height, width = self.shape(x)
        return (
            top,
            left,
            bottom + (kernel - height - top - bottom) % stride,
            right + (kernel - width - left - right) % stride,
        )

    def _add(
        self, op: str, name: str | None, operands: list[str], attributes: dict[str, Any] | None = None
    ) -> str:
        name = name or self._number(op.lower())
        node = Node(op=op, name=name, inputs=tuple(operands), outputs=(name,), attributes=attributes or {})
        self._nodes.append(node)
        self._tracker.add_node(node)
        return name
