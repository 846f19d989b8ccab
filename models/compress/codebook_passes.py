"""Passes that give layers codebooks: shared weights, product codes, codes fitted to responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .codebook import fit_codebook
from .layer_samples import captured_values, check_images, node_of, sample, sampled_rows
from .passes import Pass
from .product_quantization import product_quantize
from .response_codebook import correct_responses, response_error
from .shared_weights import SharedVectors, SharedWeights, read_codebook
from .subject import Subject
from .trainable import WeightedLayer
from .training import Hooks, TrainingOptions

__all__ = ["BimodalTraining", "ProductCodebook", "ResponseCodebook", "ShareWeights"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareWeights(Pass):
    """Weights of a layer become values of a codebook by k-means; then the values are trained.

    Pruned weights have an index of their own, which stands for 0.
    Source: Han et al. 2016, Deep Compression, section 3; Gong et al. 2014, section 3.2.
    """

    name: ClassVar[str] = "codebook.scalar"
    bits: int = 5
    conv_bits: int | None = None
    """Of convolutions; None is `bits`."""
    init: str = "linear"
    """Where k-means starts: linear, density or random."""

    def __post_init__(self) -> None:
        for key, bits in (("bits", self.bits), ("conv_bits", self.conv_bits or self.bits)):
            if not 1 <= bits <= 8:
                raise ValueError(f"{key} must be from 1 to 8, not {bits}")
        if self.init not in ("linear", "density", "random"):
            raise ValueError(f"init must be linear, density or random, not {self.init!r}")

    def apply(self, subject: Subject) -> None:
        """Nothing; codes the selected layers, then trains codebooks, biases and norms."""
        tables: dict[str, SharedWeights] = {}
        for layer in self.selected(subject):
            mask = subject.masks.get(layer.name)
            bits = self.bits if layer.op == "Gemm" or self.conv_bits is None else self.conv_bits
            kept = None if mask is None or mask.kept.all() else mask.kept
            code = fit_codebook(
                subject.weight(layer.name), bits, kept=kept, init=self.init, seed=subject.seed
            )
            subject.encode(layer.name, code)
            tables[layer.name] = SharedWeights(code, pruned=kept is not None)
        before = subject.accuracy()
        for name, table in tables.items():
            subject.model.set_transform(name, table)
        _train_tables(subject, self.training, tables)
        for name, table in tables.items():
            subject.encode(name, read_codebook(table))
        subject.notes |= {"accuracy before training": before, "accuracy after training": subject.accuracy()}


def _train_tables(
    subject: Subject,
    training: TrainingOptions | None,
    tables: Mapping[str, SharedWeights] | Mapping[str, SharedVectors],
) -> None:
    """Nothing; trains the tables of shared weights with biases and norms; other weights stand still."""
    weights = {id(subject.model.weight(layer.name)) for layer in subject.model.layers}
    own = {id(parameter) for table in tables.values() for parameter in table.parameters()}
    rest = [p for p in subject.model.parameters() if p.requires_grad and id(p) not in weights | own]
    shared = [table.centroids for table in tables.values()]
    subject.train(training, Hooks(parameters=(*rest, *shared)), what="training codebooks")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductCodebook(Pass):
    """Weights become sub-vectors of codebooks, one a segment of columns; residual codes have more stages.

    The paper leaves the codebooks as k-means found them; here they may be trained as scalar ones are.
    Source: Gong et al. 2014, Compressing Deep Convolutional Networks using Vector Quantization, section 3.
    """

    name: ClassVar[str] = "codebook.product"
    length: int = 4
    """Columns of a segment."""
    bits: int = 4
    """Of an index: a codebook has 2^bits sub-vectors, or as many as there are output channels."""
    stages: int = 1

    def __post_init__(self) -> None:
        if self.length < 1 or self.stages < 1 or not 1 <= self.bits <= 12:
            raise ValueError(
                f"length and stages must be at least 1 and bits from 1 to 12, not {self.length}, "
                f"{self.stages} and {self.bits}"
            )

    def check(self, subject: Subject) -> None:
        """Nothing; ValueError for a layer that is narrower than a segment."""
        for layer in self.selected(subject):
            columns = int(np.prod(subject.model.weight(layer.name).shape[1:]))
            if columns < self.length:
                raise ValueError(
                    f"layer {layer.name} has {columns} columns, a segment of {self.length}: lower length"
                )

    def apply(self, subject: Subject) -> None:
        """Nothing; codes the layers; with a training of its own, trains codebooks, biases and norms."""
        tables: dict[str, SharedVectors] = {}
        for layer in self.selected(subject):
            weights = subject.weight(layer.name)
            values = min(1 << self.bits, len(weights))
            code = product_quantize(
                weights, length=self.length, values=values, stages=self.stages, seed=subject.seed
            )
            subject.encode(layer.name, code)
            tables[layer.name] = SharedVectors(code)
        if self.training is None:
            return
        for name, table in tables.items():
            subject.model.set_transform(name, table)
        _train_tables(subject, self.training, tables)
        for name, table in tables.items():
            subject.encode(name, table.code())


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseCodebook(Pass):
    """Product codes whose codebooks meet the layers' responses to images, layer after layer.

    Each layer is fitted to the responses that the uncompressed network has, on inputs as the layers coded
    before it leave them.
    Source: Wu et al. 2016, Quantized Convolutional Neural Networks, section 3.3.
    """

    name: ClassVar[str] = "codebook.response"
    length: int = 4
    bits: int = 4
    images: int = 256
    pixels: int = 10
    """Of each image, that a convolution's responses are taken at."""
    rounds: int = 5

    def __post_init__(self) -> None:
        if min(self.length, self.rounds, self.pixels) < 1 or not 1 <= self.bits <= 12:
            raise ValueError(
                f"length, rounds and pixels must be at least 1 and bits from 1 to 12, not {self.length}, "
                f"{self.rounds}, {self.pixels} and {self.bits}"
            )

    def check(self, subject: Subject) -> None:
        """Nothing; ValueError for too few images, or a grouped convolution."""
        check_images(subject, self.images, "images")
        for layer in self.selected(subject):
            if layer.groups != 1:
                raise ValueError(f"layer {layer.name}: response codebooks serve layers of 1 group")

    def apply(self, subject: Subject) -> None:
        """Nothing; codes the selected layers in order."""
        chosen = self.selected(subject)
        inputs = {layer.name: self._inputs(subject, layer) for layer in chosen}
        errors = {}
        for number, layer in enumerate(chosen):
            weights = subject.weight(layer.name)
            seen = self._inputs(subject, layer)
            values = min(1 << self.bits, len(weights))
            code = product_quantize(weights, length=self.length, values=values, seed=subject.seed)
            first = inputs[layer.name]
            fitted = correct_responses(weights, code, first, seen, rounds=self.rounds)
            errors[layer.name] = [response_error(weights, found, first, seen) for found in (code, fitted)]
            subject.encode(layer.name, fitted)
            subject.progress(f"layer {layer.name}", (number + 1) / len(chosen))
        subject.notes["response error before and after"] = errors
        if self.training is not None:
            subject.train(self.training, what="training what isn't coded")

    def _inputs(self, subject: Subject, layer: WeightedLayer) -> NDArray[np.float64]:
        """Rows (samples, N) of what a layer reads now, at the same places each time."""
        node = node_of(subject.model, layer)
        x, _ = sample(subject, self.images)
        value = captured_values(subject, (node.inputs[0],), x)[node.inputs[0]]
        shape = tuple(subject.model.weight(layer.name).shape)
        rows, _ = sampled_rows(node, shape, value, self.pixels, np.random.default_rng([subject.seed, 3]))
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class BimodalTraining(Pass):
    """Training with a regulariser that draws weights to two values, ±the layer's mean magnitude.

    Of Soulié et al. 2016 only the title and abstract were at hand: the regulariser is our reading of them.
    """

    name: ClassVar[str] = "train.bimodal"
    strength: float = 1.0
    """Times Σ over layers of the mean of (|w| − m)² / m², with m the layer's mean |w|."""

    def __post_init__(self) -> None:
        if not self.strength >= 0:
            raise ValueError(f"strength must be 0 or more, not {self.strength}")

    def apply(self, subject: Subject) -> None:
        """Nothing; trains the selected layers with the regulariser, the others plainly."""
        weights = [subject.model.weight(layer.name) for layer in self.selected(subject)]

        def penalty() -> Tensor:
            total = torch.zeros(())
            for weight in weights:
                size = weight.abs()
                mean = size.detach().mean().clamp_min(1e-8)
                total = total + ((size - mean) / mean).square().mean()
            return self.strength * total

        subject.train(self.training, Hooks(penalty=penalty), what="training to two values")
        subject.notes["spread of |w| over its mean"] = {
            layer.name: _spread(subject, layer) for layer in self.selected(subject)
        }


def _spread(subject: Subject, layer: WeightedLayer) -> float:
    size = np.abs(subject.weight(layer.name))
    return float(size.std() / size.mean())
