"""Layers whose weights are sums of binary or ternary planes, written into an integer network as such."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..formats import Format
from ..layers import Conv, Layer, Linear, PlaneSum, Requantize
from ..network import Network, Tensor
from ..numerics import quantize_multiplier
from ..weights import WeightRecord
from .weight_codes import PlanesCode, TwoScaleCode

__all__ = ["WeightPlanes", "weight_planes", "with_planes"]

_INT32 = Format.parse("int32")
_SPARE_BITS = 2
"""Of int32, that a sum of planes leaves free."""
_WIDEST_SHIFT = 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightPlanes:
    """Weights as Σⱼ scales[j, k] · values[j, k, …], the largest scale of a filter first."""

    values: NDArray[np.int8]
    """Shape (planes, *weights)."""
    scales: NDArray[np.float64]
    """Shape (planes, K), 0 or above."""
    fmt: Format
    """binary or ternary."""


def weight_planes(code: PlanesCode | TwoScaleCode, gain: NDArray[np.float64]) -> WeightPlanes:
    """The planes of coded weights, each filter times `gain`, shape (K,), which a norm has given it.

    Two scales are ternary planes: +p and −n are ±(p + n) / 2 and, wherever a weight isn't 0, (p − n) / 2.
    """
    if isinstance(code, TwoScaleCode):
        signs = code.signs.astype(np.int8)
        values = np.stack([signs, np.abs(signs)])
        scales = np.stack([(code.positive + code.negative) / 2, (code.positive - code.negative) / 2])
    else:
        values, scales = code.planes.astype(np.int8), code.scales.astype(np.float64)
    scales = scales * gain
    turn = np.where(scales < 0, -1, 1).astype(np.int8)
    values = values * turn.reshape(*turn.shape, *[1] * (values.ndim - 2))
    scales = np.abs(scales)
    order = np.argsort(-scales, axis=0, kind="stable")
    filters = np.arange(scales.shape[1])
    return WeightPlanes(
        values=np.ascontiguousarray(values[order, filters]),
        scales=scales[order, filters],
        fmt=Format.parse("ternary" if isinstance(code, TwoScaleCode) else "binary"),
    )


def with_planes(network: Network, planes: Mapping[str, WeightPlanes]) -> Network:
    """The network with the layers `planes` computing one sum a plane, which a PlaneSum brings together.

    Args:
        network: with any weights of the right shape in these layers, each of which a Requantize follows.
        planes: by layer.

    Raises:
        ValueError: a layer that no Requantize follows alone, or whose sums leave int32; names it.
    """
    layers: list[Layer] = []
    tensors, weights = dict(network.tensors), dict(network.weights)
    replaced: dict[str, Requantize] = {}
    for layer in network.layers:
        if layer.name in planes and isinstance(layer, Conv | Linear):
            post = _requantisation(network, layer)
            found = _Sums(network, layer, post, planes[layer.name])
            tensors |= {tensor.name: tensor for tensor in found.tensors()}
            weights[layer.name] = found.record
            replaced[post.name] = found.requantize
            layers += [dataclasses.replace(layer, output=f"{layer.name}.planes"), found.plane_sum]
        else:
            layers.append(replaced.get(layer.name, layer))
    return dataclasses.replace(network, layers=tuple(layers), tensors=tensors, weights=weights)


def _requantisation(network: Network, layer: Conv | Linear) -> Requantize:
    readers = [other for other in network.layers if layer.output in other.inputs]
    if len(readers) != 1 or not isinstance(readers[0], Requantize):
        raise ValueError(f"layer {layer.name}: sums of planes need a requantisation after it")
    return readers[0]


class _Sums:
    """A layer's planes as integers: their record, the sum of planes, and the requantisation after it."""

    def __init__(
        self, network: Network, layer: Conv | Linear, post: Requantize, planes: WeightPlanes
    ) -> None:
        source, result = network.tensors[layer.input], network.tensors[post.output]
        old = network.weights[layer.name]
        assert source.scale is not None and result.scale is not None  # the lowering gives both
        self.layer, self.out = layer, network.tensors[layer.output]
        count, filters = planes.scales.shape
        top = float(planes.scales.max()) * (1.0 + 1e-6) or 1.0
        bias = self._bias(old, planes, source.zero_point)
        fan_in = int(planes.values[0, 0].size)
        reach = (128 + abs(source.zero_point)) * fan_in + int(np.abs(bias).max())
        shift = min(_WIDEST_SHIFT, 31 - _SPARE_BITS - math.ceil(math.log2(reach * count)))
        if shift < 0:
            raise ValueError(f"layer {layer.name}: the sums of its {count} planes don't fit int32")
        unit = top * source.scale / 2.0**shift
        pairs = [quantize_multiplier(float(scale) / top) for scale in planes.scales.ravel()]
        self.plane_sum = PlaneSum(
            name=f"{layer.name}.sum",
            input=f"{layer.name}.planes",
            output=layer.output,
            planes=count,
            multiplier=np.array([pair[0] for pair in pairs], np.int32),
            shift=np.array([pair[1] for pair in pairs], np.int32),
            left_shift=shift,
            rounding=post.rounding,
        )
        multiplier, down = quantize_multiplier(unit / result.scale)
        self.requantize = dataclasses.replace(
            post,
            multiplier=np.full(filters, multiplier, np.int32),
            shift=np.full(filters, down, np.int32),
            bias=None,
        )
        self.record = WeightRecord.dense(
            layer=layer.name,
            values=planes.values.reshape(-1, *planes.values.shape[2:]),
            fmt=planes.fmt,
            scales=np.maximum(planes.scales, top * 1e-9).ravel(),
            bias=bias,
        )

    def tensors(self) -> tuple[Tensor, Tensor]:
        """The planes' sums, and the sum of planes."""
        shape = (self.plane_sum.multiplier.size, *self.out.shape[1:])
        wide = Tensor(name=f"{self.layer.name}.planes", shape=shape, fmt=_INT32)
        return wide, Tensor(name=self.out.name, shape=self.out.shape, fmt=_INT32)

    @staticmethod
    def _bias(old: WeightRecord, planes: WeightPlanes, zero_point: int) -> NDArray[np.int64]:
        """Of each plane what the input's zero point adds, in the first the layer's own, too; (planes·K,)."""
        count, filters = planes.scales.shape
        sums = planes.values.reshape(count, filters, -1).sum(axis=2, dtype=np.int64)
        bias = -zero_point * sums
        before = old.values.reshape(filters, -1).sum(axis=1, dtype=np.int64)
        real = (old.bias_or_zero.astype(np.float64) + zero_point * before) * old.scales
        first = np.maximum(planes.scales[0], 1e-30)
        bias[0] += np.rint(np.clip(real / first, -(2.0**30), 2.0**30)).astype(np.int64)
        flat: NDArray[np.int64] = bias.ravel()
        return flat
