"""The state of a network's lowering: where its tensors lie in memory, and the core layers so far."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..models.layers import Concat, Flatten, Layer, Shuffle
from ..models.network import Network
from ..models.tensor import Tensor
from .layers import CoreLayer, Post
from .mapping import MappingError
from .shape import LayerShape, Place

__all__ = ["ACTIVATIONS", "Index", "Lowering", "Placed", "Storage", "progressions", "refuse", "shuffle_order"]

ACTIVATIONS = ("int8", "ternary", "binary")
"""Formats of tensors in memory."""

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Storage:
    """A tensor in memory, HWC: `pixels` pixels of `pitch` bytes."""

    name: str
    kind: str
    """`input`, `activations` or `output`."""
    pixels: int
    pitch: int

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.pixels * self.pitch


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Where a tensor of the network lies."""

    storage: int
    place: Place
    shape: tuple[int, int, int]
    """(C, H, W) as it lies; of an (N,) tensor (N, 1, 1), or what was flattened."""
    flat: bool = False
    """Whether it is (N,) in the order of C, H, W, but lies as HWC of more than one pixel."""
    order: Index | None = None
    """The channel that lies at each place; None where they lie in order."""


def refuse(layer: Layer, fault: str, way: str) -> MappingError:
    """The error that names a layer, what is wrong with it, and the way out."""
    return MappingError(f"layer {layer.name}: {fault}: {way}")


def progressions(places: Index) -> list[tuple[int, int, int]]:
    """(start, count, step) of pieces of `places` that rise by a constant step, each as long as it can be."""
    pieces = []
    start = 0
    while start < places.size:
        steps = np.diff(places[start:])
        step = int(steps[0]) if steps.size else 1
        count = 1
        if step > 0:
            same = np.flatnonzero(steps != step)
            count = 1 + (int(same[0]) if same.size else steps.size)
        pieces.append((start, count, step if count > 1 else 1))
        start += count
    return pieces


def shuffle_order(state: Lowering, layer: Shuffle) -> Index:
    """The input channel that each output channel is."""
    count = state.tensor(layer.input).shape[0]
    return np.arange(count).reshape(layer.groups, -1).T.ravel()


class Lowering:
    """What is placed, and the core layers so far."""

    def __init__(self, network: Network, apart: frozenset[str] = frozenset()) -> None:
        self.network, self.apart = network, apart
        self.layers: list[CoreLayer] = []
        self.storages: list[Storage] = []
        self.consumers: dict[str, list[Layer]] = {name: [] for name in network.tensors}
        for layer in network.layers:
            for name in layer.inputs:
                self.consumers[name].append(layer)
        self._homes: dict[str, tuple[int, int]] = {}
        self.folded: set[str] = set()
        self.copies = 0
        source = network.tensors[network.input]
        self.check_format(network.layers[0], f"the network's input {source.name}", source)
        self._homes[source.name] = (self.store(source, "input"), 0)
        self.placed = {source.name: self.at_home(source.name)}

    def sole(self, name: str) -> Layer | None:
        """The one layer that takes a tensor; None if there are more, or the tensor is the output."""
        consumers = self.consumers[name]
        return consumers[0] if len(consumers) == 1 and name != self.network.output else None

    def fold(self, layer: Layer) -> Layer:
        """`layer`, which from now on counts as done."""
        self.folded.add(layer.name)
        return layer

    def tensor(self, name: str) -> Tensor:
        """The network's tensor of this name."""
        return self.network.tensors[name]

    @staticmethod
    def check_format(layer: Layer, what: str, tensor: Tensor) -> None:
        """Nothing; MappingError, naming `what`, for a tensor that can't lie in memory."""
        if tensor.fmt.name not in ACTIVATIONS:
            raise refuse(
                layer,
                f"{what} must be {', '.join(ACTIVATIONS)}, not {tensor.fmt.name}",
                "quantise it to one of them",
            )

    def store(self, tensor: Tensor, kind: str) -> int:
        """The number of a new tensor in memory."""
        pitch = -(-tensor.shape[0] * tensor.fmt.bits // 8)
        self.storages.append(Storage(tensor.name, kind, math.prod(tensor.shape[1:]), pitch))
        return len(self.storages) - 1

    def home(self, name: str) -> tuple[int, int]:
        """(tensor in memory, byte in its pixels) where a tensor is to be made: a part in its whole."""
        if name in self._homes:
            return self._homes[name]
        home: tuple[int, int] | None = None
        for layer in self.consumers[name]:
            if isinstance(layer, Concat):
                storage, offset = self.home(layer.output)
                home = storage, offset + self.part_offset(layer, layer.inputs.index(name))
                break
            if isinstance(layer, Flatten) and math.prod(self.tensor(name).shape[1:]) == 1:
                home = self.home(layer.output)
                break
        if home is None:
            kind = "output" if name == self.network.output else "activations"
            home = self.store(self.tensor(name), kind), 0
        self._homes[name] = home
        return home

    def leave_home(self, name: str) -> None:
        """Nothing; gives a tensor a new home of its own, so that it can be copied from the old one."""
        self._homes[name] = self.store(self.tensor(name), "activations"), 0

    def part_offset(self, layer: Concat, index: int) -> int:
        """Bytes from a concatenated pixel's start to its part `index`."""
        before = sum(self.tensor(name).shape[0] for name in layer.inputs[:index])
        bits = before * self.tensor(layer.output).fmt.bits
        if bits % 8:
            raise refuse(
                layer,
                f"its input {layer.inputs[index]} would start within a byte, after {before} channels",
                "let the inputs before it fill whole bytes",
            )
        return bits // 8

    def at_home(self, name: str, order: Index | None = None) -> Placed:
        """A tensor that has been made where it is at home."""
        storage, offset = self.home(name)
        shape = self.tensor(name).shape
        whole = (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)
        return Placed(storage, Place(offset, self.storages[storage].pitch), whole, order=order)

    def alone_at_home(self, name: str) -> bool:
        """Whether a tensor is no part of another and not the network's output."""
        storage, _ = self.home(name)
        return (self.storages[storage].name, self.storages[storage].kind) == (name, "activations")

    def image(self, layer: Layer, name: str) -> Placed:
        """Where an input lies; MappingError for a flattened picture."""
        placed = self.placed[name]
        if placed.flat:
            raise refuse(layer, f"its input {name} is a flattened picture", "put the Flatten after it")
        return placed

    def bytes(self, layer: Layer, name: str) -> None:
        """Nothing; MappingError unless an input of lane-wise work is int8."""
        fmt = self.tensor(name).fmt.name
        if fmt != "int8":
            raise refuse(
                layer,
                f"its input {name} must be int8, not {fmt}, since it works lane by lane",
                "requantise it to int8",
            )

    def append(
        self,
        shape: LayerShape,
        weights: NDArray[np.int8] | None,
        post: Post,
        sources: tuple[int, ...],
        result: int,
        fill: int = 0,
    ) -> None:
        """Nothing; adds a core layer; weights None are ones."""
        if weights is None:
            weights = np.broadcast_to(np.int8(1), (shape.K, 1, shape.FY, shape.FX))
        self.layers.append(
            CoreLayer(shape=shape, weights=weights, post=post, sources=sources, result=result, fill=fill)
        )
