"""The layers that make accumulators of stored values: convolutions, matrix products, average pools, adds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph.window import Window
from ..layers import Add, AvgPool, Conv, Linear
from ..numerics import Rounding, quantize_multiplier
from .quantised_draft import Draft, DraftTensor, DraftWeights
from .quantised_values import Fixed, NotLowered, Stored, Sums

__all__ = ["add_stored", "convolve_stored", "copy_stored", "multiply_stored", "pool_stored"]

_SHIFT_ALIKE, _SHIFT_OTHERS = 8, 20
"""Fraction bits of a residual sum: exact ones where both steps are alike, else as many as TFLite's."""


def convolve_stored(
    draft: Draft,
    name: str,
    x: Stored,
    weights: Fixed,
    bias: Fixed | NDArray[Any] | None,
    window: Window,
    groups: int,
) -> Sums:
    """The sums of a convolution over one or two axes.

    Raises:
        NotLowered: weights that the core can't hold, or steps that differ within a channel.
        ValueError: a geometry that the layer can't have.
    """
    values, one = weights.integers, window.kernel[0:1] if len(window.kernel) == 1 else None
    if one is not None:
        values = values[:, :, None]
    if values.ndim != 4:
        raise NotLowered("the core convolves over one or two axes")
    flat = one is not None
    top, bottom = (0, 0) if flat else (window.begins[0], window.ends[0])
    layer = Conv(
        name=draft.fresh(name),
        input=x.tensor,
        output=draft.fresh(f"{name}.sums"),
        stride=_two(window.strides, flat),
        padding=(top + x.pad[0], window.begins[-1] + x.pad[1], bottom + x.pad[2], window.ends[-1] + x.pad[3]),
        dilation=_two(window.dilations, flat),
        groups=groups,
        pad_value=None if x.zero == draft.tensors[x.tensor].zero_point else x.zero,
    )
    shape = layer.output_shape(draft.tensors[x.tensor].shape, values.shape)
    return _weighted(draft, layer, shape, x, values, _by_output(weights, 0), weights.bits, bias)


def multiply_stored(
    draft: Draft, name: str, x: Stored, weights: Fixed, bias: Fixed | NDArray[Any] | None
) -> Sums:
    """The sums of a matrix product with weights (N, K).

    Raises:
        NotLowered: as `convolve_stored`.
        ValueError: shapes that don't fit together.
    """
    if weights.integers.ndim != 2 or any(x.pad):
        raise NotLowered("the core multiplies vectors by matrices")
    layer = Linear(name=draft.fresh(name), input=x.tensor, output=draft.fresh(f"{name}.sums"))
    values = np.ascontiguousarray(weights.integers.T)
    shape = layer.output_shape(draft.tensors[x.tensor].shape, values.shape)
    return _weighted(draft, layer, shape, x, values, _by_output(weights, 1), weights.bits, bias)


def copy_stored(draft: Draft, name: str, x: Stored, factor: float) -> Sums:
    """Sums that are a picture's values, so that they can be given another step, `factor` times theirs.

    Raises:
        NotLowered: the values aren't a picture's, or the factor is too large.
    """
    shape = draft.tensors[x.tensor].shape
    if len(shape) != 3:
        raise NotLowered("values that are no picture's can't be rescaled alone")
    gain = next((1 << n for n in range(7) if factor < 1 << n), 0)
    if not gain:
        raise NotLowered(f"its step must be more than a 64th of its input's, not {1 / factor:.3g} of it")
    layer = Conv(name=draft.fresh(name), input=x.tensor, output=draft.fresh(f"{name}.sums"), groups=shape[0])
    values = np.full((shape[0], 1, 1, 1), gain, np.int64)
    return _weighted(draft, layer, shape, x, values, np.full(shape[0], 1 / gain), 8, None)


def pool_stored(
    draft: Draft,
    name: str,
    x: Stored,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, ...],
) -> Sums:
    """The sums of an average pool's windows; padding counts.

    Raises:
        ValueError: a geometry that the layer can't have.
    """
    top, left, bottom, right = (a + b for a, b in zip(padding, x.pad, strict=True))
    if any((top, left, bottom, right)) and x.zero != draft.tensors[x.tensor].zero_point:
        raise NotLowered("its padding isn't the zero point of its input")
    layer = AvgPool(
        name=draft.fresh(name),
        input=x.tensor,
        output=draft.fresh(f"{name}.sums"),
        kernel=kernel,
        stride=stride,
        padding=(top, left, bottom, right),
    )
    shape = layer.output_shape(draft.tensors[x.tensor].shape)
    draft.append(layer)
    draft.tensors[layer.output] = DraftTensor(name=layer.output, shape=shape, sums=True)
    pixels = kernel[0] * kernel[1]
    return Sums(
        layer=layer.name,
        tensor=layer.output,
        unit=np.full(shape[0], x.unit / pixels),
        offset=np.zeros(shape[0]),
        bias=np.full(shape[0], -pixels * x.zero),
    )


def add_stored(draft: Draft, name: str, a: Stored, b: Stored) -> Sums:
    """The sums of a residual add.

    Raises:
        NotLowered: shapes that differ.
    """
    for x in (a, b):
        if any(x.pad) or x.zero != draft.tensors[x.tensor].zero_point:
            raise NotLowered("an operand is padded, or its zero point isn't the one it was stored with")
    shape = draft.tensors[a.tensor].shape
    if draft.tensors[b.tensor].shape != shape:
        raise NotLowered("its operands must have one shape")
    if a.unit == b.unit:  # (x << 8) · (2^31 − 1) / 2^31 is x << 8: exact
        left, unit = _SHIFT_ALIKE, a.unit / (1 << _SHIFT_ALIKE)
        pairs = [((1 << 31) - 1, 0)] * 2
    else:
        most = 2 * max(a.unit, b.unit)
        left, unit = _SHIFT_OTHERS, most / (1 << _SHIFT_OTHERS)
        pairs = [quantize_multiplier(a.unit / most), quantize_multiplier(b.unit / most)]
    layer = Add(
        name=draft.fresh(name),
        inputs=(a.tensor, b.tensor),
        output=draft.fresh(f"{name}.sums"),
        multiplier=np.array([pair[0] for pair in pairs]),
        shift=np.array([pair[1] for pair in pairs]),
        left_shift=left,
        rounding=Rounding.HALF_EVEN,
    )
    draft.append(layer)
    draft.tensors[layer.output] = DraftTensor(name=layer.output, shape=shape, sums=True)
    none = np.zeros(shape[0], np.int64)
    return Sums(
        layer=layer.name,
        tensor=layer.output,
        unit=np.full(shape[0], unit),
        offset=none.astype(np.float64),
        bias=none,
    )


def _weighted(
    draft: Draft,
    layer: Conv | Linear,
    shape: tuple[int, ...],
    x: Stored,
    values: NDArray[np.int64],
    steps: NDArray[np.float64],
    bits: int,
    bias: Fixed | NDArray[Any] | None,
) -> Sums:
    unit = x.unit * steps
    if not np.all(np.isfinite(unit) & (unit > 0)):
        raise NotLowered("the scales of its weights must be finite and above 0")
    axes = tuple(range(1, values.ndim))
    integers, offset = -x.zero * values.sum(axis=axes), np.zeros(len(values))
    if bias is not None:
        real = bias.integers * bias.unit if isinstance(bias, Fixed) else np.asarray(bias, np.float64)
        real = np.broadcast_to(real.reshape(-1), (len(values),))
        nearest = np.rint(real / unit)
        # A quantised bias says its step once more, in float32: input scale · weight scale, rounded. Above
        # 2^22 steps that rounding is more than half of one, so that `nearest` may be beside what was given.
        given = bias.integers.reshape(-1) if isinstance(bias, Fixed) else np.full(1, np.nan)
        alike = np.allclose(nearest, given, rtol=2.0**-22, atol=0)
        if alike and np.allclose(real, nearest * unit, rtol=1e-5, atol=0):
            integers = integers + given.astype(np.int64)
        else:
            offset = real
    draft.append(layer, DraftWeights(values=values, bits=bits, scales=steps, bias=integers))
    draft.tensors[layer.output] = DraftTensor(name=layer.output, shape=shape, sums=True)
    least, most = draft.sums_range(layer.name)
    if least.min() <= -(1 << 31) + 1 or most.max() >= (1 << 31) - 1:
        raise NotLowered("its accumulators must fit 32 bits")
    return Sums(
        layer=layer.name, tensor=layer.output, unit=unit, offset=offset, bias=np.zeros(len(values), np.int64)
    )


def _by_output(weights: Fixed, axis: int) -> NDArray[np.float64]:
    """The scale of each output channel, shape (K,)."""
    count = weights.integers.shape[axis]
    if weights.unit.size == 1:
        return np.full(count, float(weights.unit.reshape(())))
    if weights.unit.size != count or weights.unit.shape[axis] != count:
        raise NotLowered("its weights' scales must be one, or one for each output channel")
    return weights.unit.reshape(-1)


def _two(values: tuple[int, ...], flat: bool) -> tuple[int, int]:
    return (1, values[0]) if flat else (values[0], values[1])
