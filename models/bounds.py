"""What accumulators a layer can reach: interval arithmetic over its weights and its inputs' formats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formats import Format
from .layers import Add, AvgPool, Conv, Layer, Linear
from .numerics import rescale
from .tensor import Tensor
from .weights import WeightRecord

__all__ = ["accumulator_range", "dot_range"]


def dot_range(weights: NDArray[Any], fmt: Format) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(least, greatest) sum of products of each channel's weights, (K, …), with values of `fmt`, int64 (K,).

    The interval of every format holds 0, so these bound each partial sum too.
    """
    flat = weights.reshape(weights.shape[0], -1).astype(np.int64)
    ends = flat * fmt.min, flat * fmt.max
    return np.minimum(*ends).sum(axis=1), np.maximum(*ends).sum(axis=1)


def accumulator_range(
    layer: Layer, sources: list[Tensor], record: WeightRecord | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(least, greatest) value of each channel that a layer makes, shape (K,), or (1,) where all are alike.

    Padding is covered, since what it inserts is a value of the format. Layers that don't sum give the
    range of their input's format.

    Raises:
        ValueError: an Add whose shifted operands leave int32; names the layer.
    """
    fmt = sources[0].fmt
    if isinstance(layer, Conv | Linear):
        assert record is not None  # the graph's check
        least, most = dot_range(record.values, fmt)
        return least + record.bias_or_zero, most + record.bias_or_zero
    if isinstance(layer, Add):
        sums = _sums(layer, sources)
        return sums[:1], sums[1:]
    pixels = layer.kernel[0] * layer.kernel[1] if isinstance(layer, AvgPool) else 1
    return np.array([fmt.min * pixels]), np.array([fmt.max * pixels])


def _sums(layer: Add, sources: list[Tensor]) -> NDArray[np.int64]:
    """The least and the greatest sum; rescaling never decreases, so they lie at the formats' ends."""
    total = np.zeros(2, np.int64)
    for operand, multiplier, shift in zip(sources, layer.multiplier, layer.shift, strict=True):
        ends = np.array([operand.fmt.min, operand.fmt.max], np.int64) - operand.zero_point
        shifted = ends << layer.left_shift
        try:
            total += rescale(shifted, multiplier, shift, layer.rounding)
        except ValueError:
            worst = int(shifted[np.argmax(np.abs(shifted))])
            raise ValueError(
                f"layer {layer.name}: operand {operand.name} shifted left by {layer.left_shift} must fit "
                f"int32, not reach {worst}: lower left_shift"
            ) from None
    return total
