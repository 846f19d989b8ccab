"""The integer network: tensors with formats, layers that join them, and the verifier of both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .bounds import accumulator_range
from .layers import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    PlaneSum,
    Relu,
    Requantize,
    Shuffle,
    Thresholds,
)
from .tensor import Tensor, check_name
from .verify import check_layer
from .weights import WeightRecord

__all__ = [
    "Add",
    "AvgPool",
    "Concat",
    "Conv",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool",
    "Network",
    "PlaneSum",
    "Relu",
    "Requantize",
    "Shuffle",
    "Tensor",
    "Thresholds",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """A checked graph of layers in an order in which they can run.

    Raises:
        ValueError: a part that doesn't fit; the message names the layer or tensor at fault.
    """

    name: str
    input: str
    """Name of the tensor that images come in."""
    output: str
    tensors: Mapping[str, Tensor]
    layers: tuple[Layer, ...]
    weights: Mapping[str, WeightRecord]
    """By layer name, for each Conv and Linear."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", dict(self.tensors))
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "weights", dict(self.weights))
        check_name("a network's name", self.name)
        for key, tensor in self.tensors.items():
            if key != tensor.name:
                raise ValueError(f"tensor {tensor.name} is listed under the name {key!r}")
        self._check_graph()
        for layer in self.layers:
            check_layer(layer, self.sources(layer), self.tensors[layer.output], self.weights.get(layer.name))

    def _check_graph(self) -> None:
        for what, name in (("input", self.input), ("output", self.output)):
            if name not in self.tensors:
                raise ValueError(f"network {self.name}: its {what} {name!r} is no listed tensor")
        if not self.layers:
            raise ValueError(f"network {self.name} has no layers; it needs at least one")
        known = {self.input}
        seen: set[str] = set()
        for layer in self.layers:
            check_name("a layer's name", layer.name)
            where = f"layer {layer.name}"
            if layer.name in seen:
                raise ValueError(f"{where}: the name stands twice; layer names must differ")
            seen.add(layer.name)
            for name in (*layer.inputs, layer.output):
                if name not in self.tensors:
                    raise ValueError(f"{where}: {name!r} is no listed tensor")
            for name in layer.inputs:
                if name not in known:
                    raise ValueError(f"{where}: its input {name!r} is made by no layer before it")
            if layer.output in known:
                raise ValueError(f"{where}: its output {layer.output!r} is already made")
            known.add(layer.output)
        if unmade := sorted(set(self.tensors) - known):
            raise ValueError(f"tensor {unmade[0]} is made by no layer")
        needed = {layer.name for layer in self.layers if isinstance(layer, Conv | Linear)}
        if missing := sorted(needed - set(self.weights)):
            raise ValueError(f"layer {missing[0]}: it has no weights")
        if extra := sorted(set(self.weights) - needed):
            raise ValueError(f"weights for {extra[0]!r} belong to no conv or linear layer")
        for key, record in self.weights.items():
            if record.layer != key:
                raise ValueError(f"layer {key}: its weight record is for {record.layer!r}")

    def sources(self, layer: Layer) -> list[Tensor]:
        """The tensors that a layer takes, in the order of its inputs."""
        return [self.tensors[name] for name in layer.inputs]

    def pad_value(self, layer: Layer) -> int:
        """The stored value that a layer's padding inserts: its own, or its input's zero point.

        A MaxPool inserts nothing: its padded places never win.
        """
        if isinstance(layer, Conv) and layer.pad_value is not None:
            return layer.pad_value
        return self.tensors[layer.inputs[0]].zero_point

    def layer(self, name: str) -> Layer:
        """The layer of this name.

        Raises:
            ValueError: there is none.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(f"network {self.name} has no layer {name!r}")

    def layer_macs(self, name: str) -> int:
        """Multiply-accumulates of one layer for one image; 0 without weights, so for pools and adds too."""
        layer = self.layer(name)
        if not isinstance(layer, Conv | Linear):
            return 0
        pixels = math.prod(self.tensors[layer.output].shape[1:])
        return int(self.weights[name].values.size) * pixels

    def layer_parameters(self, name: str) -> int:
        """Weights and biases, or thresholds, of one layer; 0 for all others.

        Thresholds count, since bias and batch normalisation are folded into them. What a Requantize or an
        Add holds are scales and zero points, which don't.
        """
        layer = self.layer(name)
        if isinstance(layer, Thresholds):
            return int(layer.values.size)
        if name not in self.weights:
            return 0
        record = self.weights[name]
        return int(record.values.size) + (0 if record.bias is None else int(record.bias.size))

    def accumulator_bounds(self, name: str) -> tuple[int, int]:
        """(least, greatest) accumulator that a layer can reach, whatever its input holds.

        Of a Conv, Linear, AvgPool or Add: its sums, as weights, bias and the inputs' formats allow; padding
        is covered, since what it inserts is a value of the format. Of a Requantize: what it rescales, its
        bias included.

        Raises:
            ValueError: the layer has no accumulators.
        """
        layer = self.layer(name)
        if isinstance(layer, Requantize):
            maker = next((made for made in self.layers if made.output == layer.input), layer)
            least, most = accumulator_range(maker, self.sources(maker), self.weights.get(maker.name))
            if layer.bias is not None:
                least, most = least + layer.bias, most + layer.bias
        elif isinstance(layer, Conv | Linear | AvgPool | Add):
            least, most = accumulator_range(layer, self.sources(layer), self.weights.get(name))
        else:
            raise ValueError(f"layer {name} has no accumulators")
        return int(least.min()), int(most.max())

    def save(self, path: str | Path) -> None:
        """Nothing; writes the network to `path` (suffix `.bw`), whole or not at all.

        Raises:
            ValueError: the suffix is another.
            OSError: the file can't be written.
        """
        from .storage import save_network  # storage imports this module

        save_network(self, path)
