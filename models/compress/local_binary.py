"""Local binary convolution: fixed sparse filters of −1, 0 and 1, a ReLU, and a learnt 1×1 convolution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph
from .passes import Pass
from .rewriting import Rewriting
from .subject import Subject
from .trainable import WeightedLayer
from .weight_codes import FixedCode

__all__ = ["LocalBinaryPass", "local_binary_graph", "parameter_ratio", "sparse_patterns"]


def sparse_patterns(
    filters: int, channels: int, kernel: tuple[int, int], density: float, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Fixed filters, (filters, channels, *kernel), each value ±1 with the probability `density`, else 0.

    No filter is empty: one without any ±1 is given one.

    Source: Juefei-Xu, Boddeti and Savvides 2017, Local Binary Convolutional Neural Networks, section 3.
    """
    shape = (filters, channels, *kernel)
    flat = (rng.choice((-1, 1), shape) * (rng.random(shape) < density)).reshape(filters, -1)
    empty = np.flatnonzero(~flat.any(axis=1))
    flat[empty, rng.integers(0, flat.shape[1], len(empty))] = 1
    return flat.reshape(shape).astype(np.int8)


def parameter_ratio(channels: int, patterns: int, kernel: int) -> float:
    """Learnt weights of a convolution over those of its local binary form: p·h·w / m.

    With as many patterns as input channels it is kernel²: 9 for 3×3, 169 for 13×13.

    Source: Juefei-Xu et al. 2017, section 3.2.
    """
    return channels * kernel * kernel / patterns


def local_binary_graph(
    graph: Graph, patterns: Mapping[str, NDArray[np.int8]], weights: Mapping[str, NDArray[np.float32]]
) -> Graph:
    """The graph whose convolutions became fixed patterns, a ReLU and a 1×1 convolution of the old name.

    Args:
        graph: float.
        patterns: by layer, (m, C, FY, FX); the new layer before it is called `NAME.patterns`.
        weights: of the 1×1 convolutions by layer, (K, m, 1, 1).
    """
    draft = Rewriting(graph)
    for name, filters in patterns.items():
        layer = draft.node(name)
        fixed = f"{name}.patterns"
        scale = np.float32(_pattern_scale(filters))
        held = {draft.free(f"{fixed}.weight"): filters.astype(np.float32) * scale}
        made = draft.insert(name, "Conv", draft.free(fixed), [layer.inputs[0], *held], layer.attributes, held)
        bent = draft.insert(name, "Relu", draft.free(f"{name}.relu"), [made])
        mixing = draft.free(f"{name}.mixing")
        draft.constants[mixing] = weights[name]
        attributes = {
            **layer.attributes,
            "kernel_shape": (1, 1),
            "strides": (1, 1),
            "pads": (0, 0, 0, 0),
            "dilations": (1, 1),
        }
        draft.replace(layer, inputs=(bent, mixing, *layer.inputs[2:]), attributes=attributes)
    return draft.graph()


def _pattern_scale(filters: NDArray[np.int8]) -> float:
    """One over the root of the mean number of ±1 a filter: sums stay of the size of what is summed."""
    return 1.0 / math.sqrt(float(np.abs(filters).sum(axis=(1, 2, 3)).mean()))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBinaryPass(Pass):
    """Convolutions become fixed ternary patterns with a learnt 1×1 convolution behind, then all trains.

    The patterns are coded as ternary and never change. Notes learnt weights before and after by layer.
    """

    name: ClassVar[str] = "binary.local"
    layers: tuple[str, ...] = ("conv",)
    patterns: int = 0
    """m, by layer; 0 is as many as the convolution has filters."""
    density: float = 0.5
    """The share of ±1 in the patterns."""

    def __post_init__(self) -> None:
        if self.patterns < 0:
            raise ValueError(f"patterns must be 0 or more, not {self.patterns}")
        if not 0 < self.density <= 1:
            raise ValueError(f"density must be above 0 and at most 1, not {self.density}")

    def check(self, subject: Subject) -> None:
        """Nothing.

        Raises:
            ValueError: a linear, grouped or 1×1 layer; names it.
        """
        for layer in self.selected(subject):
            shape = tuple(subject.model.weight(layer.name).shape)
            if layer.op != "Conv" or layer.groups != 1 or math.prod(shape[2:]) == 1:
                raise ValueError(
                    f"layer {layer.name}: {self.name} serves convolutions with one group and a window, not "
                    f"{layer.op} of shape {shape}, {layer.groups} groups; leave it out of layers"
                )

    def apply(self, subject: Subject) -> None:
        """Nothing; changes the network and trains it.

        Raises:
            ValueError: as `check`; DivergedError: training fails.
        """
        self.check(subject)
        layers = self.selected(subject)
        rng = np.random.default_rng([subject.seed, 41])
        filters, weights, found = {}, {}, {}
        for layer in layers:
            shape = tuple(subject.model.weight(layer.name).shape)
            count = self.patterns or shape[0]
            filters[layer.name] = sparse_patterns(count, shape[1], (shape[2], shape[3]), self.density, rng)
            mixing = rng.standard_normal((shape[0], count, 1, 1), np.float32) * math.sqrt(2.0 / count)
            weights[layer.name] = mixing.astype(np.float32)
            found[layer.name] = {"learnt_before": math.prod(shape), "learnt": mixing.size}
        names = self._rewrite(subject, layers, filters, weights)
        for layer in layers:
            signs = filters[layer.name]
            scales = np.full(len(signs), np.float64(_pattern_scale(signs)))
            code = FixedCode(integers=signs, scales=scales, fmt="ternary")
            subject.encode(names[layer.name], code)
        subject.notes[self.name] = found
        subject.train(self.training, what=self.name)

    def _rewrite(
        self,
        subject: Subject,
        layers: tuple[WeightedLayer, ...],
        filters: Mapping[str, NDArray[np.int8]],
        weights: Mapping[str, NDArray[np.float32]],
    ) -> dict[str, str]:
        """By layer the name of the one that holds its patterns."""
        subject.regraph(local_binary_graph(subject.model.to_graph(), filters, weights))
        graph = subject.model.graph
        names = {}
        for layer in layers:
            node = next(node for node in graph.nodes if node.name == layer.name)
            relu = graph.producer(node.inputs[0])
            assert relu is not None
            made = graph.producer(relu.inputs[0])
            assert made is not None
            names[layer.name] = made.name
        return names
