"""What follows the sums of a layer within its pass: Requantize or Thresholds, then Relu, MaxPool, Shuffle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..models.layers import Add, Layer, MaxPool, PlaneSum, Relu, Requantize, Shuffle, Thresholds
from ..models.tensor import Tensor
from .isa import PostMode
from .layers import Post
from .lowering import Index, Lowering, refuse, shuffle_order
from .shape import LayerShape, Place

__all__ = ["POOL_MOST", "Tail", "add_pass", "take_tail"]

POOL_MOST = 15
"""What OUTPUT.pool_y and .pool_x hold."""


@dataclass(slots=True)
class Tail:
    """What follows the sums of a layer within its pass."""

    post: Post
    out: Tensor
    mode: PostMode
    pool: tuple[int, int] = (1, 1)
    order: Index | None = None
    """The channel that each place of the result takes; None: in order."""
    planes: int = 1
    """Of weights, whose rescaled sums are a result's."""

    def rows(self, channels: Index) -> Index:
        """The rows of weights of these channels, plane after plane."""
        return (np.arange(self.planes)[:, None] * (self.post.bias.size // self.planes) + channels).ravel()


def take_tail(state: Lowering, layer: Layer, bias: NDArray[np.int32], dense: bool) -> Tail:
    """The layers after `layer` that run in its pass.

    Args:
        layer: makes the accumulators.
        bias: of each channel.
        dense: whether rows may take channels in any order.
    """
    after = state.sole(layer.output)
    if isinstance(after, PlaneSum):
        return _with_relus(state, layer, _planes_tail(state, layer, after, bias, dense), dense)
    if not isinstance(after, Requantize | Thresholds):
        raise refuse(
            layer,
            f"its accumulators {layer.output} must go to one Requantize or Thresholds alone",
            "put one after it",
        )
    state.fold(after)
    out = state.tensor(after.output)
    state.check_format(after, f"its output {out.name}", out)
    if isinstance(after, Requantize):
        tail = Tail(_requantized(layer, after, bias, out), out, PostMode.REQUANTIZE)
    else:
        post = Post(bias=bias, thresholds=after.values, step=after.step, low=after.low, high=after.high)
        tail = Tail(post, out, PostMode.THRESHOLDS)
    return _with_relus(state, layer, tail, dense)


def _with_relus(state: Lowering, layer: Layer, tail: Tail, dense: bool) -> Tail:
    """The tail with the Relu, MaxPool and Shuffle that run in its pass."""
    while (following := state.sole(tail.out.name)) is not None:
        if isinstance(following, Relu) and tail.mode is not PostMode.THRESHOLDS:
            # A maximum commutes with the pool's maximum, so it may stand on either side.
            zero_point = tail.out.zero_point
            low, high = max(tail.post.low, zero_point), max(tail.post.high, zero_point)
            tail.post = replace(tail.post, low=low, high=high)
        elif isinstance(following, MaxPool) and tail.pool == (1, 1) and _fits(following):
            if isinstance(layer, Add) or tail.planes > 1 or following.name in state.apart:
                break
            tail.pool = following.kernel
        elif isinstance(following, Shuffle) and dense:
            order = shuffle_order(state, following)
            tail.order = order if tail.order is None else tail.order[order]
        else:
            break
        tail.out = state.tensor(state.fold(following).output)
    return tail


def _planes_tail(
    state: Lowering, layer: Layer, planes: PlaneSum, bias: NDArray[np.int32], dense: bool
) -> Tail:
    """What POST does for a sum of planes and the Requantize after it."""
    if not dense:
        raise refuse(
            planes, f"{layer.name}, whose planes it sums, is no dense layer", "leave out groups and pools"
        )
    state.fold(planes)
    after = state.sole(planes.output)
    if not isinstance(after, Requantize):
        raise refuse(planes, f"its sums {planes.output} must go to one Requantize alone", "put one after it")
    if np.ptp(after.multiplier) or np.ptp(after.shift) or (after.bias is not None and after.bias.any()):
        raise refuse(
            after,
            "after a sum of planes all channels must have the same multiplier and shift, and no bias",
            "put scales and biases into the planes",
        )
    if after.rounding != planes.rounding:
        raise refuse(
            after,
            f"its rounding {after.rounding.name} differs from that of {planes.name}, {planes.rounding.name}",
            "round alike",
        )
    state.fold(after)
    out = state.tensor(after.output)
    state.check_format(after, f"its output {out.name}", out)
    post = Post(
        bias=bias,
        multiplier=planes.multiplier,
        shift=planes.shift,
        left=planes.left_shift,
        rounding=planes.rounding,
        zero_point=out.zero_point if after.offset is None else after.offset,
        low=after.low,
        high=after.high,
        sum_multiplier=int(after.multiplier[0]),
        sum_shift=int(after.shift[0]),
    )
    return Tail(post, out, PostMode.PLANES, planes=planes.planes)


def _fits(pool: MaxPool) -> bool:
    """Whether a pool's windows lie side by side, so that they can be taken from one tile."""
    return pool.stride == pool.kernel and not any(pool.padding) and max(pool.kernel) <= POOL_MOST


def _requantized(layer: Layer, after: Requantize, bias: NDArray[np.int32], out: Tensor) -> Post:
    """What POST does for a Requantize, the layer's bias and its own in one."""
    total = bias.astype(np.int64)
    if after.bias is not None:
        total = total + after.bias
    if int(total.min()) < -(1 << 31) or int(total.max()) >= 1 << 31:
        raise refuse(after, f"its bias and that of {layer.name} pass 32 bits", "lower one of them")
    return Post(
        bias=total.astype(np.int32),
        multiplier=after.multiplier,
        shift=after.shift,
        rounding=after.rounding,
        zero_point=out.zero_point if after.offset is None else after.offset,
        low=after.low,
        high=after.high,
    )


def add_pass(
    state: Lowering,
    layer: Layer,
    shape: LayerShape,
    weights: NDArray[np.int8],
    tail: Tail,
    source: int,
    fill: int,
    rows: Index,
    where: tuple[int, int],
) -> None:
    """Nothing; adds one pass whose rows are the channels `rows`, put at places start, start + step, …"""
    storage, offset = state.home(tail.out.name)
    start, step = where
    bits = tail.out.fmt.bits
    if start * bits % 8:
        raise refuse(
            layer,
            f"a group's {shape.K} {tail.out.fmt.name} results don't fill whole bytes",
            "use fewer groups or int8 results",
        )
    py, px = tail.pool
    post = tail.post.pick(rows)
    levels = 0
    if post.thresholds is not None:
        levels = next(n for n in range(1, 5) if 4**n > post.thresholds.shape[1])
    shape = replace(
        shape,
        OY=shape.OY // py * py, OX=shape.OX // px * px, pool_y=py, pool_x=px,
        mode=tail.mode, levels=levels, planes=tail.planes, out_bits=bits,
        result=Place(offset + start * bits // 8, state.storages[storage].pitch, step),
    )  # fmt: skip
    state.append(shape, np.ascontiguousarray(weights), post, (source,), storage, fill)
