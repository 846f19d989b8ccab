"""Folding: how a float or QAT layer's scales and batch norm become integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor, log2
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bounds import dot_range
from .formats import Format, FormatKind
from .numerics import quantize_multiplier

__all__ = ["BatchNorm", "Folded", "FoldedThresholds", "fold", "fold_thresholds"]

_INT8 = Format.parse("int8")
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
    weight_format: Format = _INT8,
    input_bits: int = 8,
    bias: ArrayLike | None = None,
    norm: BatchNorm | None = None,
    layer: str = "?",
) -> Folded:
    """The integers of a layer: weights, bias, multiplier and shift by output channel.

    The norm's |γ| / σ goes into the multiplier, its sign into the weights, the rest into the bias;
    the weights' own integers stay as they were trained. A channel whose factor is so small that no
    input could move its result by 1/4 of a step keeps only its constant: its weights become 0, or,
    where the format has no 0, its factor the greatest power of two that still moves it by 1/4 at most.

    Args:
        values: stored weights, (K, …), of a range that is symmetric about 0.
        weight_scale: what a weight's step is worth, shape (K,).
        input_scale: what an input's step is worth.
        input_zero_point: stored value of a real 0.
        output_scale: what an output's step is worth.
        weight_format: of the stored weights.
        input_bits: of the stored input; an input is less than 2^input_bits away from its zero point.
        bias: float bias added before the norm, shape (K,), or None.
        norm: the batch norm after it, or None.
        layer: for messages.

    Raises:
        ValueError: a multiplier would be 1 or more, or a bias leave int32; names layer and channel.
    """
    weights = np.array(values, np.int64, order="C")  # so that flat rows are views of it
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
            scales[k] = np.asarray(weight_scale, np.float64)[k]
            real = 2.0**-16
            if weight_format.kind == FormatKind.BINARY:
                real = min(real, 2.0 ** floor(log2(0.25 / reach[k])))
            else:
                weights[k] = 0
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldedThresholds:
    """A layer in integers with few levels: level = how many thresholds t have Σ values · stored ≥ t."""

    values: NDArray[Any]
    """The stored weights; rows of channels with γ < 0 have changed sign."""
    thresholds: NDArray[np.int32]
    """Shape (K, cuts), rows that don't decrease, the input's zero point taken in."""


def fold_thresholds(
    values: ArrayLike,
    *,
    weight_scale: ArrayLike,
    input_scale: float,
    input_zero_point: int,
    input_format: Format,
    cuts: Sequence[float],
    bias: ArrayLike | None = None,
    norm: BatchNorm | None = None,
    layer: str = "?",
) -> FoldedThresholds:
    """The integers of a layer whose real result y is compared with `cuts`: weights and thresholds.

    acc ≥ threshold holds if and only if y ≥ cut, for every accumulator, exactly: y is a line through
    the accumulators, and where it meets the cut is worked out in rational numbers from the float64
    parameters (only √(variance + ε) is rounded, to float64). A falling line's weights change sign, so
    that it rises. A channel with γ = 0 is constant: its thresholds are those that all accumulators
    reach, or none. Thresholds are never further out than one past what accumulators can be.

    Args:
        values: stored weights, (K, …), of a range that is symmetric about 0.
        weight_scale: what a weight's step is worth, shape (K,).
        input_scale: what an input's step is worth.
        input_zero_point: stored value of a real 0.
        input_format: of the stored input, and of what padding inserts.
        cuts: where levels begin, increasing: (0,) for a sign, (−Δ, Δ) for ternary, steps for more.
        bias: float bias added before the norm, shape (K,), or None.
        norm: the batch norm after it, or None.
        layer: for messages.

    Raises:
        ValueError: cuts that are none or out of order, a parameter that isn't finite, or accumulators
            that could leave int32; names the layer.
    Source: Umuroglu et al. 2017, FINN, section 4.2.2 (batch norm and sign as one threshold).
    """
    where = f"layer {layer}"
    if not cuts or any(a > b for a, b in pairwise(cuts)):
        raise ValueError(f"{where}: cuts must be one or more, in increasing order, not {tuple(cuts)}")
    weights = np.array(values, np.int64, order="C")  # so that flat rows are views of it
    count = weights.shape[0]
    steps = np.broadcast_to(np.asarray(weight_scale, np.float64), count)
    offset = np.zeros(count) if bias is None else np.asarray(bias, np.float64)
    one, zero = np.ones(count), np.zeros(count)
    gamma, beta, mean = (one, zero, zero) if norm is None else (norm.gamma, norm.beta, norm.mean)
    sigma = one if norm is None else np.sqrt(norm.variance + norm.epsilon)
    for name, parameter in (
        ("weight scale", steps),
        ("bias", offset),
        ("gamma", gamma),
        ("beta", beta),
        ("mean", mean),
        ("deviation", sigma),
        ("cut", np.asarray(cuts)),
    ):
        if not np.all(np.isfinite(parameter)):
            raise ValueError(f"{where}: a {name} must be a finite number, not {parameter.tolist()}")
    if not np.all(sigma > 0):
        raise ValueError(f"{where}: variance + epsilon must be above 0")
    weights[np.asarray(gamma) < 0] *= -1
    flat = weights.reshape(count, -1)
    least, most = dot_range(weights, input_format)
    if least.min() < -(1 << 31) or most.max() >= (1 << 31) - 1:
        raise ValueError(f"{where}: its accumulators must fit int32: use fewer inputs or narrower formats")
    thresholds = np.zeros((count, len(cuts)), np.int32)
    for k in range(count):
        gain = Fraction(float(gamma[k])) / Fraction(float(sigma[k]))
        constant = gain * (Fraction(float(offset[k])) - Fraction(float(mean[k]))) + Fraction(float(beta[k]))
        slope = abs(gain) * Fraction(float(steps[k])) * Fraction(input_scale)
        for i, cut in enumerate(cuts):
            if slope == 0:
                first = int(least[k]) if constant >= Fraction(cut) else int(most[k]) + 1
            else:
                first = ceil((Fraction(cut) - constant) / slope) + input_zero_point * int(flat[k].sum())
            thresholds[k, i] = min(max(first, int(least[k])), int(most[k]) + 1)
    return FoldedThresholds(values=weights, thresholds=thresholds)
