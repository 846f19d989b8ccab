"""A network under construction: layers are added one by one and calibrated on a batch that runs along."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formats import Format
from .layers import Conv, Flatten, Layer, Linear, MaxPool, Requantize, Thresholds
from .network import Network, Tensor
from .numerics import Rounding, quantize_multiplier
from .reference import run_layer
from .weights import WeightRecord

__all__ = ["INT8", "INT32", "Stack"]

INT8, INT32 = Format.parse("int8"), Format.parse("int32")


class Stack:
    """Layers, their tensors, and the values that a calibration batch has in each of them.

    `last` is the tensor made last, where the next layer usually goes on.
    """

    def __init__(self, name: str, rng: np.random.Generator, source: Tensor, batch: NDArray[Any]) -> None:
        self.name = name
        self.rng = rng
        self.input = self.last = source
        self.tensors = {source.name: source}
        self.layers: list[Layer] = []
        self.weights: dict[str, WeightRecord] = {}
        self.values: dict[str, NDArray[Any]] = {source.name: batch}

    def network(self) -> Network:
        """The network so far."""
        return Network(
            name=self.name,
            input=self.input.name,
            output=self.last.name,
            tensors=self.tensors,
            layers=tuple(self.layers),
            weights=self.weights,
        )

    def append(self, layer: Layer, tensor: Tensor) -> Tensor:
        """Adds a layer and the tensor that it makes, and runs it; returns the tensor."""
        self.tensors[tensor.name] = tensor
        self.layers.append(layer)
        self.last = tensor
        self._run(layer)
        return tensor

    def _run(self, layer: Layer) -> None:
        inputs = [self.values[name] for name in layer.inputs]
        self.values[layer.output] = run_layer(self.network(), layer, *inputs)

    def step(self, layer: Layer, shape: tuple[int, ...]) -> Tensor:
        """Adds a layer that keeps format, scale and zero point."""
        source = self.tensors[layer.inputs[0]]
        return self.append(
            layer,
            Tensor(
                name=layer.output,
                shape=shape,
                fmt=source.fmt,
                scale=source.scale,
                zero_point=source.zero_point,
            ),
        )

    def sums(
        self,
        layer: Conv | Linear,
        values: NDArray[np.integer[Any]],
        fmt: Format = INT8,
        bias: NDArray[np.int64] | None = None,
    ) -> Tensor:
        """Adds a layer with weights; returns its accumulators."""
        self.weights[layer.name] = WeightRecord.dense(
            layer=layer.name, values=values, fmt=fmt, scales=np.full(values.shape[0], 2.0**-9), bias=bias
        )
        shape = layer.output_shape(self.tensors[layer.input].shape, values.shape)
        return self.append(layer, Tensor(name=layer.output, shape=shape, fmt=INT32))

    def requantize(
        self,
        name: str,
        acc: Tensor,
        *,
        rounding: Rounding,
        zero_point: int,
        low: int,
        high: int,
        spread: NDArray[np.float64],
        centre: NDArray[np.float64],
        fmt: Format = INT8,
        scale: float = 1.0,
        bias_of: str | None = None,
    ) -> Tensor:
        """Adds the requantisation of `acc`, calibrated so that channel k's results have about the standard
        deviation spread[k] and the mean centre[k], before the clamp; returns its output.

        The bias that this takes goes to the layer with weights `bias_of`, or else into the requantisation.
        """
        sums = self.values[acc.name].astype(np.float64)
        axes = (0, *range(2, sums.ndim))
        mean, deviation = sums.mean(axis=axes), sums.std(axis=axes)
        wanted = np.minimum(spread / np.maximum(deviation, 1.0), 1 - 2.0**-31)
        pairs = [quantize_multiplier(float(real)) for real in wanted]
        multiplier = np.array([pair[0] for pair in pairs], np.int32)
        shift = np.array([pair[1] for pair in pairs], np.int32)
        # Some multipliers give up leading zeros for a smaller shift, as importers' may.
        count = acc.shape[0]
        spare = np.minimum(self.rng.integers(0, 12, count) * self.rng.integers(0, 2, count), shift)
        multiplier, shift = multiplier >> spare.astype(np.int32), shift - spare.astype(np.int32)
        exact = np.rint((centre - zero_point) / wanted - mean).astype(np.int64)
        bias = np.clip(exact, -(1 << 30), 1 << 30)
        if bias_of is not None:
            layer, record = self.layers[-1], self.weights[bias_of]
            self.weights[bias_of] = WeightRecord.dense(
                layer=bias_of, values=record.values, fmt=record.fmt, scales=record.scales, bias=bias
            )
            self._run(layer)
        post = Requantize(
            name=f"{name}.requantize",
            input=acc.name,
            output=f"{name}.out",
            multiplier=multiplier,
            shift=shift,
            rounding=rounding,
            low=low,
            high=high,
            bias=None if bias_of is not None else bias,
        )
        return self.append(
            post, Tensor(name=post.output, shape=acc.shape, fmt=fmt, scale=scale, zero_point=zero_point)
        )

    def rescale_sum(
        self, name: str, acc: Tensor, *, rounding: Rounding, low: int, high: int, spread: float, centre: float
    ) -> Tensor:
        """Adds the requantisation of an Add: one multiplier and shift for all channels, and no bias.

        The zero point takes the results, of about the standard deviation `spread`, near the mean `centre`.
        """
        sums = self.values[acc.name].astype(np.float64)
        real = min(spread / max(float(sums.std()), 1.0), 1 - 2.0**-31)
        multiplier, shift = quantize_multiplier(real)
        zero_point = int(np.clip(round(centre - float(sums.mean()) * real), INT8.min, INT8.max))
        post = Requantize(
            name=f"{name}.requantize",
            input=acc.name,
            output=f"{name}.out",
            multiplier=np.full(acc.shape[0], multiplier),
            shift=np.full(acc.shape[0], shift),
            rounding=rounding,
            low=low,
            high=high,
        )
        return self.append(
            post, Tensor(name=post.output, shape=acc.shape, fmt=INT8, scale=1.0, zero_point=zero_point)
        )

    def thresholds(
        self,
        name: str,
        acc: Tensor,
        *,
        quantiles: NDArray[np.float64],
        lacking: NDArray[np.bool_],
        low: int,
        step: int,
        fmt: Format,
        scale: float = 1.0,
        zero_point: int = 0,
    ) -> Tensor:
        """Adds thresholds at quantiles of each channel's accumulators; returns their output.

        `quantiles` has shape (T,), each from 0 to 1; channels that are `lacking`, shape (K,), have a last
        threshold that nothing reaches.
        """
        sums = np.moveaxis(self.values[acc.name], 1, 0).reshape(acc.shape[0], -1)
        # Halfway between two accumulators is rounded up, so a median parts two values that are equally many.
        values = np.ceil(np.quantile(sums, np.sort(quantiles), axis=1).T).astype(np.int64)
        values[lacking, -1] = (1 << 31) - 1
        layer = Thresholds(
            name=f"{name}.thresholds", input=acc.name, output=f"{name}.out", values=values, low=low, step=step
        )
        return self.append(
            layer, Tensor(name=layer.output, shape=acc.shape, fmt=fmt, scale=scale, zero_point=zero_point)
        )

    def pool(self, name: str, kernel: tuple[int, int]) -> Tensor:
        """Adds a max pool whose windows neither overlap nor are padded."""
        layer = MaxPool(name=name, input=self.last.name, output=f"{name}.out", kernel=kernel, stride=kernel)
        return self.step(layer, layer.output_shape(self.last.shape))

    def flatten(self, name: str) -> None:
        """Adds a flatten if the last tensor is an image."""
        if len(self.last.shape) == 3:
            layer = Flatten(name=name, input=self.last.name, output=f"{name}.out")
            self.step(layer, (math.prod(self.last.shape),))
