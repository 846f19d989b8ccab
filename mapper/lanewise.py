"""Core layers that work lane by lane: depthwise convolutions, pools, adds, and copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..models.layers import Add, AvgPool, Conv, Layer, MaxPool, Relu
from .isa import PostMode
from .layers import Post
from .lowering import ACTIVATIONS, Lowering, Placed, progressions, refuse
from .pe import PeKind
from .shape import LayerShape, Place
from .tail import POOL_MOST, add_pass, take_tail

__all__ = [
    "copy_tensor",
    "in_order",
    "lower_add",
    "lower_avg_pool",
    "lower_depthwise",
    "lower_max_pool",
    "lower_relu",
    "sliding_window",
]


def _lane_wise(
    state: Lowering,
    layer: Conv | AvgPool,
    shape: LayerShape,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32],
    fill: int,
) -> None:
    """Nothing; adds the pass of a window that slides over each channel alone."""
    tail = take_tail(state, layer, bias, dense=False)
    placed = _lane_source(state, layer, layer.input, tail.out.name)
    rows = np.arange(shape.K) if placed.order is None else placed.order
    if isinstance(layer, AvgPool):
        multiplier, shift = tail.post.multiplier, tail.post.shift
        same = (
            multiplier is not None
            and shift is not None
            and all(np.ptp(values) == 0 for values in (tail.post.bias, multiplier, shift))
        )
        shape = replace(shape, ones=True, alike=same)
    shape = replace(shape, sources=(placed.place,))
    add_pass(state, layer, shape, weights[rows], tail, placed.storage, fill, rows, (0, 1))
    state.placed[tail.out.name] = state.at_home(tail.out.name, placed.order)


def lower_depthwise(state: Lowering, layer: Conv, fill: int) -> None:
    """Nothing; adds the pass of a depthwise convolution, its weights widened to int8."""
    state.bytes(layer, layer.input)
    record = state.network.weights[layer.name]
    if record.fmt.name not in ACTIVATIONS:
        raise refuse(
            layer,
            f"its weights must be {', '.join(ACTIVATIONS)}, not {record.fmt.name}",
            "quantise it to one of them",
        )
    values = record.values.astype(np.int8)
    shape = sliding_window(state, layer, values)
    _lane_wise(state, layer, shape, values, record.bias_or_zero.astype(np.int32), fill)


def lower_avg_pool(state: Lowering, layer: AvgPool) -> None:
    """Nothing; adds the pass of an average pool: weights of 1."""
    state.bytes(layer, layer.input)
    source = state.tensor(layer.input)
    ones = np.broadcast_to(np.int8(1), (source.shape[0], 1, *layer.kernel))
    shape = sliding_window(state, layer, ones)
    bias = np.zeros(source.shape[0], np.int32)
    _lane_wise(state, layer, shape, ones, bias, source.zero_point & 0xFF)


def lower_max_pool(state: Lowering, layer: MaxPool) -> None:
    """Nothing; adds the pass of a pool that stands alone; windows that overlap are a tile each."""
    (ky, kx), (sy, sx) = layer.kernel, layer.stride
    if max(ky, kx) > POOL_MOST:
        raise refuse(layer, f"its kernel is {layer.kernel}", f"use at most {POOL_MOST} × {POOL_MOST}")
    _, height, width = state.tensor(layer.output).shape
    aside = (sy, sx) == (ky, kx)
    shape = LayerShape(
        name=layer.name, K=1, C=1, H=1, W=1, OY=height * ky, OX=width * kx, pool_y=ky, pool_x=kx,
        pool_step_y=0 if aside else sy, pool_step_x=0 if aside else sx,
        pad_top=layer.padding[0], pad_left=layer.padding[1],
    )  # fmt: skip
    _hand_on(state, layer, shape, -128)


def lower_relu(state: Lowering, layer: Relu) -> None:
    """Nothing; adds the pass of a ReLU that stands alone."""
    source = state.tensor(layer.input)
    _, height, width = state.placed[layer.input].shape
    shape = LayerShape(name=layer.name, K=1, C=1, H=1, W=1, OY=height, OX=width)
    _hand_on(state, layer, shape, source.zero_point)


def _hand_on(state: Lowering, layer: MaxPool | Relu, shape: LayerShape, low: int) -> None:
    """Nothing; adds a pass that hands values on, the greatest of each window of `shape`, at least `low`."""
    state.bytes(layer, layer.input)
    out = layer.output
    after = state.sole(out)
    if isinstance(after, Relu):
        low, out = max(low, state.tensor(out).zero_point), state.fold(after).output
    placed = _lane_source(state, layer, layer.input, out)
    storage, offset = state.home(out)
    channels, height, width = placed.shape
    shape = replace(
        shape, K=channels, C=channels, H=height, W=width, pe=PeKind.VECTOR, ones=True, alike=True,
        sources=(placed.place,), result=Place(offset, state.storages[storage].pitch),
    )  # fmt: skip
    # Padding is the least value, which never wins.
    state.append(shape, None, _identity(channels, low), (placed.storage,), storage, 0x80)
    state.placed[out] = state.at_home(out, placed.order)


def lower_add(state: Lowering, layer: Add) -> None:
    """Nothing; adds the pass of a residual add, whose operands' rows take turns in the bank."""
    for name in layer.inputs:
        state.bytes(layer, name)
    tail = take_tail(state, layer, np.zeros(state.tensor(layer.output).shape[0], np.int32), dense=False)
    post, after = tail.post, state.consumers[layer.output][0]
    if post.multiplier is None or post.shift is None:
        raise refuse(layer, "Thresholds can't follow an add", "put a Requantize after it")
    if np.ptp(post.multiplier) or np.ptp(post.shift) or post.bias.any():
        raise refuse(
            after,
            "after an add all channels must have the same multiplier and shift, and no bias",
            "requantise with one scale",
        )
    if post.rounding != layer.rounding:
        raise refuse(
            after,
            f"its rounding {post.rounding.name} differs from that of {layer.name}, {layer.rounding.name}",
            "round alike",
        )
    first, second = (state.image(layer, name) for name in layer.inputs)
    same = first.order is second.order or (
        first.order is not None and second.order is not None and np.array_equal(first.order, second.order)
    )
    if not same or (first.order is not None and not state.alone_at_home(tail.out.name)):
        first, second = (in_order(state, layer, name) for name in layer.inputs)
    storage, offset = state.home(tail.out.name)
    channels, height, width = first.shape
    shape = LayerShape(
        name=layer.name, K=channels, C=channels, H=2 * height, W=width, OY=2 * height, OX=width,
        pool_y=2, pe=PeKind.VECTOR, mode=PostMode.ADD, ones=True, alike=True,
        out_bits=tail.out.fmt.bits, sources=(first.place, second.place),
        result=Place(offset, state.storages[storage].pitch),
    )  # fmt: skip
    zero_points = [state.tensor(name).zero_point for name in layer.inputs]
    post = replace(
        post,
        bias=-np.array(zero_points, np.int32),
        multiplier=layer.multiplier,
        shift=layer.shift,
        left=layer.left_shift,
        sum_multiplier=int(post.multiplier[0]),
        sum_shift=int(post.shift[0]),
    )
    state.append(shape, None, post, (first.storage, second.storage), storage)
    state.placed[tail.out.name] = state.at_home(tail.out.name, first.order)


def copy_tensor(state: Lowering, layer: Layer, name: str, storage: int, offset: int) -> None:
    """Nothing; adds core layers that copy a tensor to `offset` in the pixels of `storage`, in order."""
    placed, bits = state.image(layer, name), state.tensor(name).fmt.bits
    if placed.order is not None and bits < 8:
        raise refuse(
            layer,
            f"the shuffled channels of {name} must be copied one by one, which takes int8",
            "shuffle right after a dense convolution, or requantise to int8",
        )
    channels, height, width = placed.shape
    count = -(-channels * bits // 8)  # whole bytes, whatever they hold
    places = np.arange(count) if placed.order is None else placed.order
    pitch = state.storages[storage].pitch
    for start, length, step in progressions(places):
        state.copies += 1
        shape = LayerShape(
            name=f"{layer.name}/copy{state.copies}",
            K=length, C=length, H=height, W=width, OY=height, OX=width,
            pe=PeKind.VECTOR, ones=True, alike=True,
            sources=(Place(placed.place.offset + start, placed.place.pitch),),
            result=Place(offset + int(places[start]), pitch, step),
        )  # fmt: skip
        state.append(shape, None, _identity(length), (placed.storage,), storage)


def in_order(state: Lowering, layer: Layer, name: str) -> Placed:
    """Where an input lies with its channels in order: copied, once, if they don't lie so."""
    placed = state.image(layer, name)
    if placed.order is not None:
        if (placed.storage, placed.place.offset) == state.home(name):  # made out of order by lane-wise work
            state.leave_home(name)
        copy_tensor(state, layer, name, *state.home(name))
        placed = state.placed[name] = state.at_home(name)
    return placed


def _lane_source(state: Lowering, layer: Layer, name: str, out: str) -> Placed:
    """Where a lane-wise layer's input lies: shuffled only if its output may lie so too."""
    placed = state.image(layer, name)
    if placed.order is not None and not state.alone_at_home(out):
        placed = in_order(state, layer, name)
    return placed


def _identity(channels: int, low: int = -128) -> Post:
    """Results that are the accumulators themselves: (acc · 2) · 2^30 / 2^31, exact in every rounding."""
    return Post(
        bias=np.zeros(channels, np.int32),
        multiplier=np.full(channels, 1 << 30, np.int32),
        shift=np.zeros(channels, np.int32),
        left=1,
        low=low,
        high=127,
    )


def sliding_window(
    state: Lowering, layer: Conv | AvgPool, weights: NDArray[np.int8], pe: PeKind = PeKind.VECTOR
) -> LayerShape:
    """The loops of a window that slides over a layer's input, where all of its channels lie."""
    placed, source = state.image(layer, layer.input), state.tensor(layer.input)
    if len(source.shape) != 3:
        raise refuse(layer, "its input must be (C, H, W)", "leave out the Flatten")
    channels, height, width = placed.shape
    dilation = layer.dilation if isinstance(layer, Conv) else (1, 1)
    outputs = state.tensor(layer.output).shape
    return LayerShape(
        name=layer.name, K=len(weights), C=channels, H=height, W=width,
        FY=weights.shape[2], FX=weights.shape[3], OY=outputs[1], OX=outputs[2],
        stride_y=layer.stride[0], stride_x=layer.stride[1],
        dilation_y=dilation[0], dilation_x=dilation[1],
        pad_top=layer.padding[0], pad_left=layer.padding[1],
        pe=pe, sources=(placed.place,),
    )  # fmt: skip
