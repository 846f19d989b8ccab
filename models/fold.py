"""Folding: how a float or QAT layer's scales and batch norm become integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .numerics import quantize_multiplier

__all__ = ["BatchNorm", "Folded", "fold"]

_BIAS_LIMIT = float(1 << 30)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchNorm:
    """A batch norm at inference, by channel: γ · (x − mean) / √(variance + ε) + β; shapes (K,)."""

    gamma: NDArray[np.float64]
    beta: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    epsilon: float = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Folded:
    """A layer in integers: q = rescale(Σ values · stored input + bias, multiplier, shift) + zero point.

    With x the accumulator including bias, q is a rounding of a number that differs from the exact
    quotient output / output scale by at most 2^−(1 + shift) (half a unit of the bias times a
    multiplier below 2^−shift) plus |x| · 2^−(32 + shift) (the multiplier's last bit); by 1/4 more in a
    channel that is left constant.
    """

    values: NDArray[Any]
    """The stored weights; rows of channels with γ < 0 have changed sign."""
    bias: NDArray[np.int32]
    """Shape (K,), in accumulator units, the input's zero point taken out."""
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int32]
    scales: NDArray[np.float64]
    """Shape (K,): what a step of a stored weight is worth once the norm's |γ| / σ is part of it."""


def fold(
    values: ArrayLike,
    *,
    weight_scale: ArrayLike,
    input_scale: float,
    input_zero_point: int,
    output_scale: float,
    input_bits: int = 8,
    bias: ArrayLike | None = None,
    norm: BatchNorm | None = None,
    layer: str = "?",
) -> Folded:
    """The integers of a layer: weights, bias, multiplier and shift by output channel.

    The norm's |γ| / σ goes into the multiplier, its sign into the weights, the rest into the bias;
    the weights' own integers stay as they were trained. A channel whose factor is so small that no
    input could move its result by 1/4 of a step keeps only its constant: its weights become 0.

    Args:
        values: stored weights, (K, …), of a range that is symmetric about 0.
        weight_scale: what a weight's step is worth, shape (K,).
        input_scale: what an input's step is worth.
        input_zero_point: stored value of a real 0.
        output_scale: what an output's step is worth.
        input_bits: of the stored input; an input is less than 2^input_bits away from its zero point.
        bias: float bias added before the norm, shape (K,), or None.
        norm: the batch norm after it, or None.
        layer: for messages.

    Raises:
        ValueError: a multiplier would be 1 or more, or a bias leave int32; names layer and channel.
    """
    weights = np.array(values, np.int64)
    count = weights.shape[0]
    offset = np.zeros(count) if bias is None else np.array(bias, np.float64)
    gain = np.ones(count)
    if norm is not None:
        gain = norm.gamma / np.sqrt(norm.variance + norm.epsilon)
        offset = (offset - norm.mean) * gain + norm.beta
    weights[gain < 0] *= -1
    scales = np.asarray(weight_scale, np.float64) * np.abs(gain)
    flat = weights.reshape(count, -1)
    reach = np.abs(flat).sum(axis=1) * float(1 << input_bits)
    integers = np.zeros(count, np.int64)
    multipliers, shifts = np.zeros(count, np.int32), np.zeros(count, np.int32)
    for k in range(count):
        real, target = scales[k] * input_scale / output_scale, offset[k] / output_scale
        if real * reach[k] <= 0.25:
            weights[k] = 0
            scales[k] = np.asarray(weight_scale, np.float64)[k]
            real = 2.0**-16
        try:
            multipliers[k], shifts[k] = quantize_multiplier(float(real))
        except ValueError as fault:
            raise ValueError(f"layer {layer}, channel {k}: {fault}") from None
        if abs(target / real) > _BIAS_LIMIT:
            raise ValueError(
                f"layer {layer}, channel {k}: its bias must stay within 2^30 accumulator steps, not "
                f"reach {target / real:.3g}: enlarge the channel's weights or batch norm factor"
            )
        integers[k] = round(target / real) - input_zero_point * int(flat[k].sum())
    limit = (1 << 31) - 1
    if np.abs(integers).max() > limit:
        worst = int(np.abs(integers).argmax())
        raise ValueError(f"layer {layer}, channel {worst}: its bias must fit int32, not be {integers[worst]}")
    return Folded(
        values=weights,
        bias=integers.astype(np.int32),
        multiplier=multipliers,
        shift=shifts,
        scales=scales,
    )
