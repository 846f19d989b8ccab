"""Core layers that sum over channels: convolutions, grouped ones too, and linear layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..models.layers import Conv, Layer, Linear, Shuffle
from ..models.tensor import Tensor
from .lanewise import in_order, lower_depthwise, sliding_window
from .lowering import Lowering, progressions, refuse, shuffle_order
from .pe import PeKind
from .shape import LayerShape, Place
from .tail import Tail, add_pass, take_tail

__all__ = ["lower_conv", "lower_linear"]


def lower_linear(state: Lowering, layer: Linear) -> None:
    """Nothing; adds the pass of a linear layer, a flattened picture's pixels in the order of memory."""
    kind, record = _kind(state, layer), state.network.weights[layer.name]
    placed = state.placed[layer.input]
    values = record.values.astype(np.int8)
    tail = take_tail(state, layer, record.bias_or_zero.astype(np.int32), dense=True)
    channels, height, width = placed.shape
    weights = values.reshape(len(values), channels, height, width)
    if placed.order is not None:
        weights = weights[:, placed.order]
    place = placed.place
    if place.pitch * 8 == channels * kind.act_bits:  # pixels side by side: one run of them all
        weights = weights.transpose(0, 2, 3, 1).reshape(len(values), -1, 1, 1)
        place = Place(place.offset, place.pitch * height * width)
        channels, height, width = weights.shape[1], 1, 1
    shape = LayerShape(
        name=layer.name, K=len(values), C=channels, H=height, W=width, FY=height, FX=width,
        pe=kind, sources=(place,),
    )  # fmt: skip
    _dense(state, layer, shape, weights, tail, placed.storage, 0)


def lower_conv(state: Lowering, layer: Conv) -> None:
    """Nothing; adds the pass of a convolution, or one for each of its groups."""
    record, source = state.network.weights[layer.name], state.tensor(layer.input)
    values = record.values.astype(np.int8)
    channels, count = source.shape[0], len(values)
    fill = _padding(state, layer, source)
    if layer.groups == channels == count and channels > 1:
        lower_depthwise(state, layer, fill)
        return
    kind = _kind(state, layer)
    parts = layer.groups
    depth, height = channels // parts, count // parts
    placed = state.placed[layer.input] if parts == 1 else in_order(state, layer, layer.input)
    if parts > 1 and depth * kind.act_bits % 8:
        raise refuse(
            layer,
            f"a group's {depth} {kind.act_format} channels don't fill whole bytes",
            "use fewer groups or int8 activations",
        )
    tail = take_tail(state, layer, record.bias_or_zero.astype(np.int32), dense=parts == 1)
    if parts > 1:
        _take_shuffle(state, layer, tail)
    shape = sliding_window(state, layer, values, kind)
    if parts == 1:
        if placed.order is not None:
            values = values[:, placed.order]
        _dense(state, layer, shape, values, tail, placed.storage, fill)
        return
    places = np.arange(count) if tail.order is None else np.argsort(tail.order)
    for group in range(parts):
        rows = np.arange(group * height, (group + 1) * height)
        rows = rows[np.argsort(places[rows])]
        ((_, _, step),) = progressions(places[rows])
        place = shape.places[0]
        part = replace(
            shape,
            name=f"{layer.name}/g{group}",
            K=height,
            C=depth,
            sources=(Place(place.offset + group * depth * kind.act_bits // 8, place.pitch),),
        )
        add_pass(
            state, layer, part, values[rows], tail, placed.storage, fill, rows, (int(places[rows[0]]), step)
        )
    state.placed[tail.out.name] = state.at_home(tail.out.name)


def _kind(state: Lowering, layer: Conv | Linear) -> PeKind:
    """The PE kind that sums over lanes of the layer's formats."""
    source, record = state.tensor(layer.input), state.network.weights[layer.name]
    state.check_format(layer, f"its input {source.name}", source)
    kind = PeKind.of(record.fmt.name, source.fmt.name)
    if kind is None:
        served = [k.weight_format for k in PeKind if not k.lane_wise and k.act_format == source.fmt.name]
        raise refuse(
            layer,
            f"on {source.fmt.name} activations its weights must be {', '.join(served)}, not "
            f"{record.fmt.name}",
            "quantise it to one of them",
        )
    return kind


def _take_shuffle(state: Lowering, layer: Conv, tail: Tail) -> None:
    """Nothing; folds a Shuffle after a grouped convolution if each group's channels then rise evenly."""
    after = state.sole(tail.out.name)
    if not isinstance(after, Shuffle) or tail.out.fmt.bits < 8:
        return
    order = shuffle_order(state, after)
    places, height = np.argsort(order), len(order) // layer.groups
    groups = [np.sort(places[start : start + height]) for start in range(0, len(order), height)]
    if all(len(progressions(group)) == 1 for group in groups):
        tail.order = order
        tail.out = state.tensor(state.fold(after).output)


def _padding(state: Lowering, layer: Conv, source: Tensor) -> int:
    """The byte that a convolution's padding is made of."""
    value = state.network.pad_value(layer)
    if source.fmt.name == "binary":
        if any(layer.padding) and value not in (-1, 1):
            raise refuse(layer, "its binary input can't be padded with 0", "set pad_value to -1 or 1")
        return 0xFF if value == 1 else 0
    if source.fmt.name == "ternary":
        return (value & 3) * 0x55
    return value & 0xFF


def _dense(
    state: Lowering,
    layer: Layer,
    shape: LayerShape,
    weights: NDArray[np.int8],
    tail: Tail,
    source: int,
    fill: int,
) -> None:
    """Nothing; adds the pass of a layer whose rows may take channels in any order."""
    count = shape.K // tail.planes
    rows = tail.rows(np.arange(count) if tail.order is None else tail.order)
    shape = replace(shape, K=count)
    add_pass(state, layer, shape, weights[rows], tail, source, fill, rows, (0, 1))
    state.placed[tail.out.name] = state.at_home(tail.out.name)
