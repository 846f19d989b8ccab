"""The integer network: tensors with formats, layers that join them, and the verifier of both."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .formats import Format, FormatKind
from .layers import Conv, Flatten, Layer, Linear, MaxPool, Relu, Requantize
from .weights import WeightRecord

__all__ = [
    "NAME",
    "Conv",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool",
    "Network",
    "Relu",
    "Requantize",
    "Tensor",
]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
"""What networks, tensors and layers may be called."""

_ELEMENTS = 1 << 26
"""The most values one tensor may have."""


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"{what} must be letters, digits, '_', '.' or '-', starting with a letter or '_', at "
            f"most 128 long, not {name!r:.140}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor between layers, one image's worth: real value = scale · (stored − zero point).

    Raises:
        ValueError: a shape, scale or zero point out of range; names the tensor.
    """

    name: str
    shape: tuple[int, ...]
    """(C, H, W) or (N,)."""
    fmt: Format
    scale: float | None = None
    """None where nobody has said what a step is worth."""
    zero_point: int = 0

    def __post_init__(self) -> None:
        _check_name("a tensor's name", self.name)
        try:
            shape = tuple(operator.index(n) for n in self.shape)
        except TypeError:
            shape = ()
        if len(shape) not in (1, 3) or min(shape) < 1 or math.prod(shape) > _ELEMENTS:
            raise ValueError(
                f"tensor {self.name}: shape must be (C, H, W) or (N,), each at least 1 and at most "
                f"2^26 in all, not {self.shape!r}"
            )
        object.__setattr__(self, "shape", shape)
        if self.fmt.kind == FormatKind.CODEBOOK:
            raise ValueError(f"tensor {self.name}: a codebook is for weights, not for tensors")
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"tensor {self.name}: scale must be finite and above 0, not {self.scale}")
        zero_point = operator.index(self.zero_point)
        object.__setattr__(self, "zero_point", zero_point)
        if not self.fmt.min <= zero_point <= self.fmt.max:
            raise ValueError(
                f"tensor {self.name}: zero_point must be from {self.fmt.min} to {self.fmt.max} for "
                f"{self.fmt.name}, not {zero_point}"
            )


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
        _check_name("a network's name", self.name)
        for key, tensor in self.tensors.items():
            if key != tensor.name:
                raise ValueError(f"tensor {tensor.name} is listed under the name {key!r}")
        self._check_graph()
        for layer in self.layers:
            self._check_layer(layer)

    def _check_graph(self) -> None:
        for what, name in (("input", self.input), ("output", self.output)):
            if name not in self.tensors:
                raise ValueError(f"network {self.name}: its {what} {name!r} is no listed tensor")
        if not self.layers:
            raise ValueError(f"network {self.name} has no layers; it needs at least one")
        known = {self.input}
        seen: set[str] = set()
        for layer in self.layers:
            _check_name("a layer's name", layer.name)
            where = f"layer {layer.name}"
            if layer.name in seen:
                raise ValueError(f"{where}: the name stands twice; layer names must differ")
            seen.add(layer.name)
            for name in (layer.input, layer.output):
                if name not in self.tensors:
                    raise ValueError(f"{where}: {name!r} is no listed tensor")
            if layer.input not in known:
                raise ValueError(f"{where}: its input {layer.input!r} is made by no layer before it")
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

    def _check_layer(self, layer: Layer) -> None:
        where = f"layer {layer.name}"
        source, result = self.tensors[layer.input], self.tensors[layer.output]
        if isinstance(layer, Conv | Linear):
            record = self.weights[layer.name]
            if record.fmt.kind == FormatKind.CODEBOOK or record.fmt.bits > 16:
                raise ValueError(
                    f"{where}: weights must be binary, ternary, int or uint of at most 16 bits, not "
                    f"{record.fmt.name}"
                )
            if source.fmt.bits > 16:
                raise ValueError(
                    f"{where}: its input must have at most 16 bits, not {source.fmt.name}; put a "
                    "Requantize before it"
                )
            shape = layer.output_shape(source.shape, record.values.shape)
            if result.fmt.name != "int32" or result.zero_point != 0:
                raise ValueError(
                    f"{where}: its output {result.name} holds accumulators: int32 with zero point "
                    f"0, not {result.fmt.name} with {result.zero_point}"
                )
        elif isinstance(layer, Requantize):
            shape = source.shape
            if source.fmt.name != "int32":
                raise ValueError(f"{where}: its input must be int32 accumulators, not {source.fmt.name}")
            if result.fmt.bits > 16:
                raise ValueError(f"{where}: its output must have at most 16 bits, not {result.fmt.name}")
            if layer.multiplier.size != shape[0]:
                raise ValueError(
                    f"{where}: multiplier and shift must be given for the {shape[0]} channels, not "
                    f"for {layer.multiplier.size}"
                )
            if not result.fmt.min <= layer.low <= layer.high <= result.fmt.max:
                raise ValueError(
                    f"{where}: low and high must be from {result.fmt.min} to {result.fmt.max} for "
                    f"{result.fmt.name}, not {layer.low} and {layer.high}"
                )
        else:
            if (source.fmt, source.scale, source.zero_point) != (
                result.fmt,
                result.scale,
                result.zero_point,
            ):
                raise ValueError(f"{where}: input and output must share format, scale and zero point")
            if isinstance(layer, MaxPool):
                shape = layer.output_shape(source.shape)
            elif isinstance(layer, Flatten):
                shape = (math.prod(source.shape),)
            else:
                shape = source.shape
        if result.shape != shape:
            raise ValueError(f"{where}: its output {result.name} must have shape {shape}, not {result.shape}")

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
        """Multiply-accumulates of one layer for one image; 0 without weights."""
        layer = self.layer(name)
        if not isinstance(layer, Conv | Linear):
            return 0
        pixels = math.prod(self.tensors[layer.output].shape[1:])
        return int(self.weights[name].values.size) * pixels

    def layer_parameters(self, name: str) -> int:
        """Weights and biases of one layer; 0 without weights."""
        if name not in self.weights:
            return 0
        record = self.weights[name]
        return int(record.values.size) + (0 if record.bias is None else int(record.bias.size))

    def accumulator_bounds(self, name: str) -> tuple[int, int]:
        """(least, greatest) accumulator that a layer's weights and bias and its input's format allow.

        Padding is covered, since the zero point is a value of the format.

        Raises:
            ValueError: the layer has no accumulators.
        """
        layer = self.layer(name)
        if not isinstance(layer, Conv | Linear):
            raise ValueError(f"layer {name} has no accumulators")
        record, fmt = self.weights[name], self.tensors[layer.input].fmt
        weights = record.values.reshape(record.values.shape[0], -1).astype(np.int64)
        ends = (weights * fmt.min, weights * fmt.max)
        bias = record.bias_or_zero.astype(np.int64)
        least = np.minimum(*ends).sum(axis=1) + bias
        most = np.maximum(*ends).sum(axis=1) + bias
        return int(least.min()), int(most.max())

    def save(self, path: str | Path) -> None:
        """Nothing; writes the network to `path` (suffix `.bw`), whole or not at all.

        Raises:
            ValueError: the suffix is another.
            OSError: the file can't be written.
        """
        from .storage import save_network  # storage imports this module

        save_network(self, path)
