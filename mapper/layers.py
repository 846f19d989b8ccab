"""A core layer: one pass through array and POST, and the proof that its sums fit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.bounds import dot_range
from ..models.formats import Format
from ..models.numerics import Rounding, rescale
from .isa import PostMode
from .machine import Machine
from .mapping import MappingError
from .pe import PeKind
from .shape import LayerShape

__all__ = ["CoreLayer", "Post", "check_accumulators", "check_served"]

_INT32 = (-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Post:
    """What POST does with a layer's accumulators; arrays have an entry a channel, or an operand of an add."""

    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32] | None = None
    """None where thresholds are counted."""
    shift: NDArray[np.int32] | None = None
    left: int = 0
    rounding: Rounding = Rounding.TFLITE_DOUBLE
    zero_point: int = 0
    low: int
    high: int
    thresholds: NDArray[np.int32] | None = None
    """(K, T), no row decreases."""
    step: int = 1
    sum_multiplier: int = 0
    """Of an add, as `sum_shift`."""
    sum_shift: int = 0

    def pick(self, channels: NDArray[np.int64]) -> Post:
        """The same for these channels, in this order."""

        def of(values: NDArray[np.int32] | None) -> NDArray[np.int32] | None:
            return None if values is None else values[channels]

        return dataclasses.replace(
            self,
            bias=self.bias[channels],
            multiplier=of(self.multiplier),
            shift=of(self.shift),
            thresholds=of(self.thresholds),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoreLayer:
    """One pass through array and POST."""

    shape: LayerShape
    weights: NDArray[np.int8]
    """(K, C, FY, FX), of lane-wise layers (K, 1, FY, FX); channels in the order that they have in memory."""
    post: Post
    sources: tuple[int, ...]
    """Numbers of the tensors in memory that it reads, one for each of `shape.places`."""
    result: int
    """Number of the tensor in memory that it writes."""
    fill: int = 0
    """The byte that padding is made of."""


def check_served(layer: CoreLayer, machine: Machine) -> None:
    """Nothing; MappingError, with the layer's name, when no PE of the machine serves its formats."""
    kind, shape = layer.shape.pe, layer.shape
    if shape.mode is PostMode.PLANES and not machine.adds:
        raise MappingError(
            f"layer {shape.name}: POST of {machine.name} has no sums of planes: add {PeKind.VECTOR.key!r} to "
            "array.pes"
        )
    if shape.summed > machine.row_groups:
        raise MappingError(
            f"layer {shape.name}: {shape.planes} planes take {shape.summed} lane sets of a pixel, "
            f"{machine.name} has {machine.row_groups} (array.rows / post.lanes): use fewer planes"
        )
    if kind in machine.array.kinds:
        return
    what = f"serves {kind.weight_format} weights on {kind.act_format} activations"
    if kind.lane_wise:
        what = "works lane by lane (depthwise convolutions, pools, adds and copies do)"
    raise MappingError(
        f"layer {layer.shape.name}: no PE of {machine.name} {what}, only "
        f"{', '.join(machine.array.pes)}: add {kind.key!r} to array.pes"
    )


def sum_bounds(layer: CoreLayer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(least, greatest) accumulator of each channel, partial sums included, without bias, int64 (K,)."""
    return dot_range(layer.weights, Format.parse(layer.shape.pe.act_format))


def _bits(low: NDArray[np.int64], high: NDArray[np.int64]) -> int:
    """Bits that two's complement needs from the least of `low` to the greatest of `high`."""
    least, most = int(low.min()), int(high.max())
    return max((-least - 1).bit_length() + 1 if least < 0 else 1, max(most, 0).bit_length() + 1)


def check_accumulators(layer: CoreLayer, machine: Machine) -> None:
    """Prove that no sum of this layer overflows, whatever its input and the order of terms.

    Raises:
        MappingError: naming the layer and the bits it needs, or the step that overflows.
    """
    name, post = layer.shape.name, layer.post
    low, high = sum_bounds(layer)
    fewer = "use fewer or smaller weights"
    need, have = _bits(low, high), machine.array.acc_bits
    if need > have:
        way = f"raise array.acc_bits to {need}" if need <= 32 else fewer
        raise MappingError(f"layer {name}: its accumulators need {need} bits, there are {have}: {way}")
    if layer.shape.mode is PostMode.ADD:
        _check_sum(layer, low.min(), high.max(), "the sum of its operands")
        return
    if layer.shape.mode is PostMode.PLANES:
        _check_sum(layer, low, high, "a sum of its planes")
        return
    bias = post.bias.astype(np.int64)
    need = _bits((low + bias) << post.left, (high + bias) << post.left)
    if need > 32:
        raise MappingError(f"layer {name}: its sums with bias need {need} bits, there are 32: {fewer}")
    if layer.shape.mode is PostMode.THRESHOLDS and int(high.max()) >= _INT32[1]:
        raise MappingError(
            f"layer {name}: its accumulators reach {int(high.max())}, which stands for no threshold: {fewer}"
        )


def _check_sum(layer: CoreLayer, low: Any, high: Any, what: str) -> None:
    """Nothing; MappingError where a term shifted left, or `what`, leaves 32 bits.

    Args:
        layer: an add, with a term an operand, or a sum of planes, with a term a row of weights.
        low: the least accumulator of each term, or of all.
        high: the greatest.
        what: names the sum.
    """
    name, post = layer.shape.name, layer.post
    assert post.multiplier is not None and post.shift is not None
    bias = post.bias.astype(np.int64)
    shifted = np.stack([low + bias, high + bias]) << post.left
    if _bits(shifted, shifted) > 32:
        raise MappingError(
            f"layer {name}: an operand shifted left by {post.left} needs {_bits(shifted, shifted)} bits, "
            "there are 32: lower left_shift"
        )
    terms = rescale(shifted, post.multiplier, post.shift, post.rounding)
    count = layer.shape.planes if layer.shape.mode is PostMode.PLANES else bias.size
    terms = terms.reshape(2, count, -1)
    # Partial sums too, in the order in which POST forms them.
    sums = np.cumsum(terms, axis=1)
    if _bits(sums, sums) > 32:
        raise MappingError(
            f"layer {name}: {what} needs {_bits(sums, sums)} bits, there are 32: lower "
            "left_shift or the multipliers"
        )


def tree_of(layer: CoreLayer) -> NDArray[np.int32]:
    """The thresholds of each channel as the search tree takes them, int32 (K, nodes, 3).

    Level order, node i's children being 4i + 1 … 4i + 4. The bias is taken off; thresholds that no
    accumulator or every accumulator reaches are moved next to the range of the accumulators, which
    changes no result and keeps them in 32 bits. Keys that a channel lacks are 2^31 − 1.
    """
    post, levels = layer.post, layer.shape.levels
    assert post.thresholds is not None
    low, high = sum_bounds(layer)
    values = post.thresholds.astype(np.int64) - post.bias.astype(np.int64)[:, None]
    values = np.clip(values, low[:, None], high[:, None] + 1)
    K, T = values.shape
    keys = np.full((K, 4**levels - 1), _INT32[1], np.int64)
    keys[:, :T] = values
    nodes = []
    for level in range(levels):
        # A node of this level stands over `below` · 4 + 3 sorted keys; its own divide them in four.
        below = 4 ** (levels - 1 - level) - 1
        for node in range(4**level):
            start = node * (4 * below + 4)
            nodes.append(keys[:, [start + (i + 1) * (below + 1) - 1 for i in range(3)]])
    return np.stack(nodes, axis=1).astype(np.int32)
