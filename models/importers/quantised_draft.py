"""An integer network under construction, whose formats are chosen last, when all that reads them is known."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bounds import dot_range
from ..formats import Format
from ..layers import Concat, Conv, Flatten, Layer, Linear, MaxPool, Relu, Shuffle, Thresholds
from ..network import Network
from ..tensor import Tensor
from ..weights import WeightRecord
from .quantised_values import NotLowered

__all__ = ["Draft", "DraftTensor", "DraftWeights", "plain_name"]

_MOVES = (MaxPool, Relu, Flatten, Concat, Shuffle)
"""Layers whose tensors share a format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftTensor:
    """A tensor whose format is not chosen yet."""

    name: str
    shape: tuple[int, ...]
    low: int = 0
    high: int = 0
    step: int = 1
    scale: float | None = None
    zero_point: int = 0
    sums: bool = False
    """Whether it holds accumulators."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DraftWeights:
    """A layer's weights whose format is not chosen yet."""

    values: NDArray[np.int64]
    bits: int
    scales: NDArray[np.float64]
    bias: NDArray[np.int64]


def plain_name(name: str) -> str:
    """`name` with nothing but what layers and tensors may be called."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100]
    return plain if plain[:1].isalpha() or plain[:1] == "_" else f"n{plain}"


class Draft:
    """Layers and tensors so far; `network` makes of them what a value needs."""

    def __init__(self) -> None:
        self.tensors: dict[str, DraftTensor] = {}
        self.layers: list[Layer] = []
        self.named: dict[str, Layer] = {}
        self.taken: set[str] = set()
        """Tensors that layers take."""
        self.weights: dict[str, DraftWeights] = {}
        self.flips: dict[str, tuple[str, NDArray[np.int64]]] = {}
        """By a layer with weights: the layer of thresholds for whose sake channels change sign, and signs."""
        self.depths: dict[str, int] = {}
        """By tensor: a bit for each layer that it needs, by the layer's place."""
        self._names: set[str] = set()
        self._ranges: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def fresh(self, name: str) -> str:
        """`name`, made plain and unlike all others."""
        base = plain_name(name)
        found, number = base, 1
        while found in self._names:
            number += 1
            found = f"{base}.{number}"
        self._names.add(found)
        return found

    def tensor(self, tensor: DraftTensor) -> str:
        """The name of a tensor, which is added under a fresh one."""
        name = self.fresh(tensor.name)
        self.tensors[name] = replace(tensor, name=name)
        return name

    def like(self, source: str, name: str, shape: tuple[int, ...]) -> str:
        """The name of a new tensor with the values of another, in another shape."""
        return self.tensor(replace(self.tensors[source], name=name, shape=shape))

    def shaped(self, source: str, name: str, shape: tuple[int, ...]) -> DraftTensor:
        """A tensor called `name` with the values of another, in another shape."""
        return replace(self.tensors[source], name=name, shape=shape)

    def restate(self, name: str, scale: float, zero_point: int) -> None:
        """Nothing; says what the integers of a tensor are worth, where nobody has yet.

        So it holds for all that are moved copies of the same input.
        """
        for key, tensor in self.tensors.items():
            if key == name or (tensor.scale is None and not tensor.sums):
                self.tensors[key] = replace(tensor, scale=scale, zero_point=zero_point)

    def append(self, layer: Layer, weights: DraftWeights | None = None) -> None:
        """Nothing; adds a layer whose tensors are there.

        Raises:
            NotLowered: weights beyond 8 bits, or a bias beyond 32.
        """
        if weights is not None:
            if weights.values.min() < -128 or weights.values.max() > 127:
                raise NotLowered("its weights must fit 8 bits once the zero point is taken out")
            if np.abs(weights.bias).max() >= 1 << 31:
                raise NotLowered("its bias must fit 32 bits")
            self.weights[layer.name] = weights
        self.depths[layer.output] = 1 << len(self.layers)
        for name in layer.inputs:
            self.depths[layer.output] |= self.depths.get(name, 0)
        self.layers.append(layer)
        self.named[layer.name] = layer
        self.taken.update(layer.inputs)

    def sums_range(self, layer: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(least, greatest) sum of each channel of a layer with weights, with its bias."""
        if layer not in self._ranges:
            weights = self.weights[layer]
            source = self.named[layer].inputs[0]
            least, most = dot_range(weights.values, self._widest(source))
            self._ranges[layer] = least + weights.bias, most + weights.bias
        return self._ranges[layer]

    def _widest(self, tensor: str) -> Format:
        """The narrowest format that a tensor's values could be given."""
        values = self.tensors[tensor]
        return Format.parse("ternary" if values.low >= -1 and values.high <= 1 else "int8")

    def needed(self, output: str) -> list[Layer]:
        """The layers that a tensor needs, in order."""
        bits = self.depths.get(output, 0)
        return [layer for place, layer in enumerate(self.layers) if bits >> place & 1]

    def network(self, name: str, source: str, output: str) -> Network:
        """The network that makes `output` of `source`.

        Raises:
            ValueError: a part that doesn't fit; names the layer or tensor.
        """
        layers = self.needed(output)
        posts = {layer.name for layer in layers}
        formats = self._formats(source, layers)
        names = {source, *(layer.output for layer in layers)}
        tensors = {
            key: Tensor(
                name=key,
                shape=t.shape,
                fmt=formats[key],
                scale=t.scale,
                zero_point=0 if t.sums else t.zero_point,
            )
            for key, t in self.tensors.items()
            if key in names
        }
        records = {}
        for layer in layers:
            if isinstance(layer, Conv | Linear):
                weights = self.weights[layer.name]
                sign = self.signs(layer.name, posts)
                values = weights.values * sign.reshape(-1, *[1] * (weights.values.ndim - 1))
                bias = weights.bias * sign
                records[layer.name] = WeightRecord.dense(
                    layer=layer.name,
                    values=values,
                    fmt=_weight_format(layer, weights, formats[layer.input].name),
                    scales=weights.scales,
                    bias=bias if bias.any() else None,
                )
        return Network(
            name=plain_name(name),
            input=source,
            output=output,
            tensors=tensors,
            layers=tuple(layers),
            weights=records,
        )

    def signs(self, layer: str, kept: Container[str]) -> NDArray[np.int64]:
        """−1 for each channel of a layer whose weights change sign where the layers `kept` are, else 1."""
        post, sign = self.flips.get(layer, ("", np.ones(1, np.int64)))
        if post not in kept:
            sign = np.ones(1, np.int64)
        return np.broadcast_to(sign, (len(self.weights[layer].values),))

    def _formats(self, source: str, layers: list[Layer]) -> dict[str, Format]:
        """The format of each tensor: the lowest that all its readers can take."""
        group = {source: source} | {layer.output: layer.output for layer in layers}

        def root(name: str) -> str:
            while group[name] != name:
                name = group[name]
            return name

        for layer in layers:
            if isinstance(layer, _MOVES):
                for name in layer.inputs:
                    group[root(name)] = root(layer.output)
        parts: dict[str, list[str]] = {}
        for name in group:
            parts.setdefault(root(name), []).append(name)
        formats = {}
        for names in parts.values():
            sums = self.tensors[names[0]].sums
            fmt = "int32" if sums else self._activation_format(set(names), source, layers)
            formats.update(dict.fromkeys(names, Format.parse(fmt)))
        return formats

    def _activation_format(self, names: set[str], source: str, layers: list[Layer]) -> str:
        values = [self.tensors[name] for name in names]
        if any(t.low < -1 or t.high > 1 or t.zero_point != 0 for t in values):
            return "int8"
        binary = all((t.low, t.high, t.step) == (-1, 1, 2) for t in values)
        made = {layer.output: layer for layer in layers}
        for layer in layers:
            if not names.intersection(layer.inputs):
                continue
            if isinstance(layer, Conv | Linear):
                weights = self.weights[layer.name]
                groups = layer.groups if isinstance(layer, Conv) else 1
                if weights.bits > 2 or np.abs(weights.values).max() > 1 or groups > 1:
                    return "int8"
                padded = isinstance(layer, Conv) and any(layer.padding)
                binary = binary and weights.bits == 1 and not padded
            elif isinstance(layer, MaxPool):
                # In one pass with the thresholds before it; alone it works on bytes.
                maker = made.get(layer.input)
                readers = sum(layer.input in other.inputs for other in layers)
                aside = layer.stride == layer.kernel and not any(layer.padding)
                if not (isinstance(maker, Thresholds) and readers == 1 and aside):
                    return "int8"
            elif not isinstance(layer, Flatten):
                return "int8"
        return "binary" if binary else "ternary"


def _weight_format(layer: Conv | Linear, weights: DraftWeights, activations: str) -> Format:
    """The lowest format that a processing element multiplies with these activations.

    Binary weights on ternary activations have none of their own: they are ternary ones that never are 0.
    """
    values: NDArray[Any] = weights.values
    depthwise = isinstance(layer, Conv) and layer.groups == len(values) > 1
    if depthwise or weights.bits > 2 or np.abs(values).max() > 1:
        return Format.parse("int8")
    if activations == "ternary" or (weights.bits > 1 or not values.all()):
        return Format.parse("ternary")
    return Format.parse("binary")
