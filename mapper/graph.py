"""A network's graph as core layers: what one pass computes, which tensors lie in memory, and where in them.

A core layer is a convolution, linear layer, pool or add with its Requantize or Thresholds, and with the Relu,
MaxPool and Shuffle after it where they fit. Flatten, Concat and Shuffle are a matter of addresses: a part of
a concatenation is written into the whole, and a shuffled tensor stays as it is until somebody needs its
channels in order. What can't lie where it is needed is copied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..models.layers import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Relu,
    Requantize,
    Shuffle,
    Thresholds,
)
from ..models.network import Network
from ..models.tensor import Tensor
from .isa import PostMode
from .layers import CoreLayer, Post
from .mapping import MappingError
from .pe import PeKind
from .shape import LayerShape, Place

__all__ = ["Graph", "Storage", "lower_graph"]

_ACTIVATIONS = ("int8", "ternary", "binary")
_POOL_MOST = 15
"""What OUTPUT.pool_y and .pool_x hold."""

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Storage:
    """A tensor in memory, HWC: `pixels` pixels of `pitch` bytes."""

    name: str
    kind: str
    """`input`, `activations` or `output`."""
    pixels: int
    pitch: int

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.pixels * self.pitch


@dataclass(frozen=True, slots=True)
class Graph:
    """The core layers in order, and the tensors in memory that they name by number."""

    layers: tuple[CoreLayer, ...]
    storages: tuple[Storage, ...]
    output: int
    """Number of the network's output; its input is number 0."""


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """Where a tensor of the network lies."""

    storage: int
    place: Place
    shape: tuple[int, int, int]
    """(C, H, W) as it lies; of an (N,) tensor (N, 1, 1), or what was flattened."""
    flat: bool = False
    """Whether it is (N,) in the order of C, H, W, but lies as HWC of more than one pixel."""
    order: Index | None = None
    """The channel that lies at each place; None where they lie in order."""


@dataclass(slots=True)
class _Tail:
    """What follows the sums of a layer within its pass."""

    post: Post
    out: Tensor
    mode: PostMode
    pool: tuple[int, int] = (1, 1)
    order: Index | None = None
    """The channel that each place of the result takes; None: in order."""


def _refuse(layer: Layer, fault: str, way: str) -> MappingError:
    return MappingError(f"layer {layer.name}: {fault}: {way}")


def _progressions(places: Index) -> list[tuple[int, int, int]]:
    """(start, count, step): pieces of `places` that rise by a constant step, longest first come."""
    pieces = []
    start = 0
    while start < places.size:
        steps = np.diff(places[start:])
        step = int(steps[0]) if steps.size else 1
        count = 1
        if step > 0:
            same = np.flatnonzero(steps != step)
            count = 1 + (int(same[0]) if same.size else steps.size)
        pieces.append((start, count, step if count > 1 else 1))
        start += count
    return pieces


def _inverse(order: Index) -> Index:
    return np.argsort(order)


def lower_graph(network: Network) -> Graph:
    """The core layers of `network`, in an order in which they can run, and its tensors in memory.

    Raises:
        MappingError: a layer that the core doesn't run; the message names it and the way out.
    """
    return _Lowering(network).run()


class _Lowering:
    """The state of the lowering: what is placed, and the core layers so far."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.layers: list[CoreLayer] = []
        self.storages: list[Storage] = []
        self._consumers: dict[str, list[Layer]] = {name: [] for name in network.tensors}
        for layer in network.layers:
            for name in layer.inputs:
                self._consumers[name].append(layer)
        self._homes: dict[str, tuple[int, int]] = {}
        self._folded: set[str] = set()
        self._copies = 0
        source = network.tensors[network.input]
        self._check_format(network.layers[0], f"the network's input {source.name}", source)
        self._homes[source.name] = (self._store(source, "input"), 0)
        self._placed = {source.name: self._at_home(source.name)}

    def run(self) -> Graph:
        """The whole graph."""
        for layer in self.network.layers:
            if not self._consumers[layer.output] and layer.output != self.network.output:
                raise _refuse(layer, f"nobody takes its output {layer.output}", "leave it out")
        lower = {
            Conv: self._conv, Linear: self._linear, AvgPool: self._avg_pool, MaxPool: self._max_pool,
            Add: self._add, Relu: self._relu, Flatten: self._flatten, Shuffle: self._shuffle,
            Concat: self._concat, Requantize: self._alone, Thresholds: self._alone,
        }  # fmt: skip
        for layer in self.network.layers:
            if layer.name not in self._folded:
                lower[type(layer)](layer)
        last = next(layer for layer in self.network.layers if layer.output == self.network.output)
        out = self._placed[self.network.output]
        if out.flat:
            raise _refuse(last, "it would reorder the output", "end with the layer before it")
        storage, offset = self._home(self.network.output)
        if (out.storage, out.place.offset) != (storage, offset) or out.order is not None:
            self._copy(last, self.network.output, storage, offset)
        return Graph(tuple(self.layers), tuple(self.storages), storage)

    # -- where tensors lie ---------------------------------------------------------------------

    def _tensor(self, name: str) -> Tensor:
        return self.network.tensors[name]

    @staticmethod
    def _check_format(layer: Layer, what: str, tensor: Tensor) -> None:
        if tensor.fmt.name not in _ACTIVATIONS:
            raise _refuse(
                layer,
                f"{what} must be {', '.join(_ACTIVATIONS)}, not {tensor.fmt.name}",
                "quantise it to one of them",
            )

    def _store(self, tensor: Tensor, kind: str) -> int:
        """The number of a new tensor in memory."""
        pitch = -(-tensor.shape[0] * tensor.fmt.bits // 8)
        self.storages.append(Storage(tensor.name, kind, math.prod(tensor.shape[1:]), pitch))
        return len(self.storages) - 1

    def _home(self, name: str) -> tuple[int, int]:
        """(tensor in memory, byte in its pixels) where a tensor is to be made: a part in its whole."""
        if name in self._homes:
            return self._homes[name]
        home: tuple[int, int] | None = None
        for layer in self._consumers[name]:
            if isinstance(layer, Concat):
                storage, offset = self._home(layer.output)
                home = storage, offset + self._part_offset(layer, layer.inputs.index(name))
                break
            if isinstance(layer, Flatten) and math.prod(self._tensor(name).shape[1:]) == 1:
                home = self._home(layer.output)
                break
        if home is None:
            kind = "output" if name == self.network.output else "activations"
            home = self._store(self._tensor(name), kind), 0
        self._homes[name] = home
        return home

    def _part_offset(self, layer: Concat, index: int) -> int:
        """Bytes from a concatenated pixel's start to its part `index`."""
        before = sum(self._tensor(name).shape[0] for name in layer.inputs[:index])
        bits = before * self._tensor(layer.output).fmt.bits
        if bits % 8:
            raise _refuse(
                layer,
                f"its input {layer.inputs[index]} would start within a byte, after {before} channels",
                "let the inputs before it fill whole bytes",
            )
        return bits // 8

    def _at_home(self, name: str, order: Index | None = None) -> _Placed:
        storage, offset = self._home(name)
        shape = self._tensor(name).shape
        whole = (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)
        return _Placed(storage, Place(offset, self.storages[storage].pitch), whole, order=order)

    def _alone_at_home(self, name: str) -> bool:
        """Whether a tensor is no part of another and not the network's output."""
        storage, _ = self._home(name)
        return (self.storages[storage].name, self.storages[storage].kind) == (name, "activations")

    def _image(self, layer: Layer, name: str) -> _Placed:
        """Where an input lies; MappingError for a flattened picture."""
        placed = self._placed[name]
        if placed.flat:
            raise _refuse(layer, f"its input {name} is a flattened picture", "put the Flatten after it")
        return placed

    def _in_order(self, layer: Layer, name: str) -> _Placed:
        """Where an input lies with its channels in order: copied, once, if they don't lie so."""
        placed = self._image(layer, name)
        if placed.order is not None:
            self._copy(layer, name, *self._home(name))
            placed = self._placed[name] = self._at_home(name)
        return placed

    def _bytes(self, layer: Layer, name: str) -> None:
        """Nothing; MappingError unless an input of lane-wise work is int8."""
        fmt = self._tensor(name).fmt.name
        if fmt != "int8":
            raise _refuse(
                layer,
                f"its input {name} must be int8, not {fmt}, since it works lane by lane",
                "requantise it to int8",
            )

    # -- copies --------------------------------------------------------------------------------

    def _copy(self, layer: Layer, name: str, storage: int, offset: int) -> None:
        """Nothing; adds core layers that copy a tensor to `offset` in the pixels of `storage`, in order."""
        placed, bits = self._image(layer, name), self._tensor(name).fmt.bits
        if placed.order is not None and bits < 8:
            raise _refuse(
                layer,
                f"the shuffled channels of {name} must be copied one by one, which takes int8",
                "shuffle right after a dense convolution, or requantise to int8",
            )
        channels, height, width = placed.shape
        count = -(-channels * bits // 8)  # whole bytes, whatever they hold
        places = np.arange(count) if placed.order is None else placed.order
        pitch = self.storages[storage].pitch
        for start, length, step in _progressions(places):
            self._copies += 1
            shape = LayerShape(
                name=f"{layer.name}/copy{self._copies}",
                K=length, C=length, H=height, W=width, OY=height, OX=width,
                pe=PeKind.VECTOR, ones=True, alike=True,
                sources=(Place(placed.place.offset + start, placed.place.pitch),),
                result=Place(offset + int(places[start]), pitch, step),
            )  # fmt: skip
            self._append(shape, None, self._identity(length), (placed.storage,), storage)

    @staticmethod
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

    def _append(
        self,
        shape: LayerShape,
        weights: NDArray[np.int8] | None,
        post: Post,
        sources: tuple[int, ...],
        result: int,
        fill: int = 0,
    ) -> None:
        if weights is None:
            weights = np.broadcast_to(np.int8(1), (shape.K, 1, shape.FY, shape.FX))
        self.layers.append(
            CoreLayer(shape=shape, weights=weights, post=post, sources=sources, result=result, fill=fill)
        )

    # -- what follows a layer's sums -----------------------------------------------------------

    def _sole(self, name: str) -> Layer | None:
        """The one layer that takes a tensor; None if there are more, or the tensor is the output."""
        consumers = self._consumers[name]
        return consumers[0] if len(consumers) == 1 and name != self.network.output else None

    def _fold(self, layer: Layer) -> Layer:
        self._folded.add(layer.name)
        return layer

    def _tail(self, layer: Layer, bias: NDArray[np.int32], dense: bool) -> _Tail:
        """The layers after `layer` that run in its pass.

        Args:
            layer: makes the accumulators.
            bias: of each channel.
            dense: whether rows may take channels in any order.
        """
        after = self._sole(layer.output)
        if not isinstance(after, Requantize | Thresholds):
            raise _refuse(
                layer,
                f"its accumulators {layer.output} must go to one Requantize or Thresholds alone",
                "put one after it",
            )
        self._fold(after)
        out = self._tensor(after.output)
        self._check_format(after, f"its output {out.name}", out)
        if isinstance(after, Requantize):
            tail = _Tail(self._requantized(layer, after, bias, out), out, PostMode.REQUANTIZE)
        else:
            post = Post(bias=bias, thresholds=after.values, step=after.step, low=after.low, high=after.high)
            tail = _Tail(post, out, PostMode.THRESHOLDS)
        while (following := self._sole(tail.out.name)) is not None:
            if isinstance(following, Relu) and tail.mode is PostMode.REQUANTIZE:
                # A maximum commutes with the pool's maximum, so it may stand on either side.
                zero_point = tail.out.zero_point
                low, high = max(tail.post.low, zero_point), max(tail.post.high, zero_point)
                tail.post = replace(tail.post, low=low, high=high)
            elif isinstance(following, MaxPool) and tail.pool == (1, 1) and self._fits(following):
                if isinstance(layer, Add):
                    break
                tail.pool = following.kernel
            elif isinstance(following, Shuffle) and dense:
                order = self._shuffle_order(following)
                tail.order = order if tail.order is None else tail.order[order]
            else:
                break
            tail.out = self._tensor(self._fold(following).output)
        return tail

    @staticmethod
    def _fits(pool: MaxPool) -> bool:
        """Whether a pool's windows lie side by side, so that they can be taken from one tile."""
        return pool.stride == pool.kernel and not any(pool.padding) and max(pool.kernel) <= _POOL_MOST

    @staticmethod
    def _requantized(layer: Layer, after: Requantize, bias: NDArray[np.int32], out: Tensor) -> Post:
        total = bias.astype(np.int64)
        if after.bias is not None:
            total = total + after.bias
        if int(total.min()) < -(1 << 31) or int(total.max()) >= 1 << 31:
            raise _refuse(after, f"its bias and that of {layer.name} pass 32 bits", "lower one of them")
        return Post(
            bias=total.astype(np.int32),
            multiplier=after.multiplier,
            shift=after.shift,
            rounding=after.rounding,
            zero_point=out.zero_point,
            low=after.low,
            high=after.high,
        )

    def _shuffle_order(self, layer: Shuffle) -> Index:
        """The input channel that each output channel is."""
        count = self._tensor(layer.input).shape[0]
        return np.arange(count).reshape(layer.groups, -1).T.ravel()

    # -- layers with weights -------------------------------------------------------------------

    def _kind(self, layer: Conv | Linear) -> PeKind:
        source, record = self._tensor(layer.input), self.network.weights[layer.name]
        self._check_format(layer, f"its input {source.name}", source)
        kind = PeKind.of(record.fmt.name, source.fmt.name)
        if kind is None:
            served = [k.weight_format for k in PeKind if not k.lane_wise and k.act_format == source.fmt.name]
            raise _refuse(
                layer,
                f"on {source.fmt.name} activations its weights must be {', '.join(served)}, not "
                f"{record.fmt.name}",
                "quantise it to one of them",
            )
        return kind

    def _linear(self, layer: Layer) -> None:
        assert isinstance(layer, Linear)
        kind, record = self._kind(layer), self.network.weights[layer.name]
        placed = self._placed[layer.input]
        values = record.values.astype(np.int8)
        tail = self._tail(layer, record.bias_or_zero.astype(np.int32), dense=True)
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
        self._dense(layer, shape, weights, tail, placed.storage, 0)

    def _conv(self, layer: Layer) -> None:
        assert isinstance(layer, Conv)
        record, source = self.network.weights[layer.name], self._tensor(layer.input)
        values = record.values.astype(np.int8)
        channels, count = source.shape[0], len(values)
        fill = self._padding(layer, source)
        if layer.groups == channels == count and channels > 1:
            self._bytes(layer, layer.input)
            if record.fmt.name not in _ACTIVATIONS:
                raise _refuse(
                    layer,
                    f"its weights must be {', '.join(_ACTIVATIONS)}, not {record.fmt.name}",
                    "quantise it to one of them",
                )
            bias = record.bias_or_zero.astype(np.int32)
            shape = self._window(layer, layer.input, values, PeKind.VECTOR)
            self._lane_wise(layer, shape, values, bias, fill)
            return
        kind = self._kind(layer)
        parts = layer.groups
        depth, height = channels // parts, count // parts
        placed = self._placed[layer.input] if parts == 1 else self._in_order(layer, layer.input)
        if parts > 1 and depth * kind.act_bits % 8:
            raise _refuse(
                layer,
                f"a group's {depth} {kind.act_format} channels don't fill whole bytes",
                "use fewer groups or int8 activations",
            )
        tail = self._tail(layer, record.bias_or_zero.astype(np.int32), dense=parts == 1)
        if parts > 1:
            self._take_shuffle(layer, tail)
        shape = self._window(layer, layer.input, values, kind)
        if parts == 1:
            if placed.order is not None:
                values = values[:, placed.order]
            self._dense(layer, shape, values, tail, placed.storage, fill)
            return
        places = np.arange(count) if tail.order is None else _inverse(tail.order)
        for group in range(parts):
            rows = np.arange(group * height, (group + 1) * height)
            rows = rows[np.argsort(places[rows])]
            ((_, _, step),) = _progressions(places[rows])
            place = shape.places[0]
            part = replace(
                shape,
                name=f"{layer.name}/g{group}",
                K=height,
                C=depth,
                sources=(Place(place.offset + group * depth * kind.act_bits // 8, place.pitch),),
            )
            self._pass(
                layer, part, values[rows], tail, placed.storage, fill, rows, (int(places[rows[0]]), step)
            )
        self._placed[tail.out.name] = self._at_home(tail.out.name)

    def _take_shuffle(self, layer: Conv, tail: _Tail) -> None:
        """Nothing; folds a Shuffle after a grouped convolution if each group's channels then rise evenly."""
        after = self._sole(tail.out.name)
        if not isinstance(after, Shuffle) or tail.out.fmt.bits < 8:
            return
        order = self._shuffle_order(after)
        places, height = _inverse(order), len(order) // layer.groups
        groups = [np.sort(places[start : start + height]) for start in range(0, len(order), height)]
        if all(len(_progressions(group)) == 1 for group in groups):
            tail.order = order
            tail.out = self._tensor(self._fold(after).output)

    def _padding(self, layer: Conv, source: Tensor) -> int:
        """The byte that a convolution's padding is made of."""
        value = self.network.pad_value(layer)
        if source.fmt.name == "binary":
            if any(layer.padding) and value not in (-1, 1):
                raise _refuse(layer, "its binary input can't be padded with 0", "set pad_value to -1 or 1")
            return 0xFF if value == 1 else 0
        if source.fmt.name == "ternary":
            return (value & 3) * 0x55
        return value & 0xFF

    def _window(self, layer: Conv | AvgPool, name: str, values: NDArray[np.int8], kind: PeKind) -> LayerShape:
        """The loops of a sliding window over an input, channels as they are; outputs as many as fit."""
        placed = self._image(layer, name)
        channels, height, width = placed.shape
        if len(self._tensor(name).shape) != 3:
            raise _refuse(layer, "its input must be (C, H, W)", "leave out the Flatten")
        dilation = layer.dilation if isinstance(layer, Conv) else (1, 1)
        outputs = self._tensor(layer.output).shape
        return LayerShape(
            name=layer.name, K=len(values), C=channels, H=height, W=width,
            FY=values.shape[2], FX=values.shape[3], OY=outputs[1], OX=outputs[2],
            stride_y=layer.stride[0], stride_x=layer.stride[1],
            dilation_y=dilation[0], dilation_x=dilation[1],
            pad_top=layer.padding[0], pad_left=layer.padding[1],
            pe=kind, sources=(placed.place,),
        )  # fmt: skip

    def _dense(
        self,
        layer: Layer,
        shape: LayerShape,
        weights: NDArray[np.int8],
        tail: _Tail,
        source: int,
        fill: int,
    ) -> None:
        """Nothing; adds the pass of a layer whose rows may take channels in any order."""
        rows = np.arange(shape.K) if tail.order is None else tail.order
        self._pass(layer, shape, weights[rows], tail, source, fill, rows, (0, 1))
        self._placed[tail.out.name] = self._at_home(tail.out.name)

    def _pass(
        self,
        layer: Layer,
        shape: LayerShape,
        weights: NDArray[np.int8],
        tail: _Tail,
        source: int,
        fill: int,
        rows: Index,
        where: tuple[int, int],
    ) -> None:
        """Nothing; adds one pass whose rows are the channels `rows`, put at places start, start + step, …"""
        storage, offset = self._home(tail.out.name)
        start, step = where
        bits = tail.out.fmt.bits
        if start * bits % 8:
            raise _refuse(
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
            mode=tail.mode, levels=levels, out_bits=bits,
            result=Place(offset + start * bits // 8, self.storages[storage].pitch, step),
        )  # fmt: skip
        self._append(shape, np.ascontiguousarray(weights), post, (source,), storage, fill)

    # -- lane-wise layers ----------------------------------------------------------------------

    def _source(self, layer: Layer, name: str, out: str) -> _Placed:
        """Where a lane-wise layer's input lies: shuffled only if its output may lie so too."""
        placed = self._image(layer, name)
        if placed.order is not None and not self._alone_at_home(out):
            placed = self._in_order(layer, name)
        return placed

    def _lane_wise(
        self,
        layer: Conv | AvgPool,
        shape: LayerShape,
        weights: NDArray[np.int8],
        bias: NDArray[np.int32],
        fill: int,
    ) -> None:
        tail = self._tail(layer, bias, dense=False)
        placed = self._source(layer, layer.input, tail.out.name)
        rows = np.arange(shape.K) if placed.order is None else placed.order
        if isinstance(layer, AvgPool):
            multiplier, shift = tail.post.multiplier, tail.post.shift
            same = multiplier is not None and shift is not None
            if multiplier is not None and shift is not None:
                same = all(np.ptp(values) == 0 for values in (tail.post.bias, multiplier, shift))
            shape = replace(shape, ones=True, alike=same)
        shape = replace(shape, sources=(placed.place,))
        self._pass(layer, shape, weights[rows], tail, placed.storage, fill, rows, (0, 1))
        self._placed[tail.out.name] = self._at_home(tail.out.name, placed.order)

    def _avg_pool(self, layer: Layer) -> None:
        assert isinstance(layer, AvgPool)
        self._bytes(layer, layer.input)
        source = self._tensor(layer.input)
        ones = np.broadcast_to(np.int8(1), (source.shape[0], 1, *layer.kernel))
        shape = self._window(layer, layer.input, ones, PeKind.VECTOR)
        bias = np.zeros(source.shape[0], np.int32)
        self._lane_wise(layer, shape, ones, bias, source.zero_point & 0xFF)

    def _move(self, layer: MaxPool | Relu, low: int, **window: int) -> None:
        """Nothing; adds a pass that hands values on: the greatest of each window, `low` at least."""
        self._bytes(layer, layer.input)
        out = layer.output
        after = self._sole(out)
        if isinstance(after, Relu):
            low, out = max(low, self._tensor(out).zero_point), self._fold(after).output
        placed = self._source(layer, layer.input, out)
        storage, offset = self._home(out)
        channels, height, width = placed.shape
        shape = LayerShape(
            **({"OY": height, "OX": width} | window),
            name=layer.name, K=channels, C=channels, H=height, W=width,
            pe=PeKind.VECTOR, ones=True, alike=True, sources=(placed.place,),
            result=Place(offset, self.storages[storage].pitch),
        )  # fmt: skip
        # The least value never wins.
        self._append(shape, None, self._identity(channels, low), (placed.storage,), storage, 0x80)
        self._placed[out] = self._at_home(out, placed.order)

    def _max_pool(self, layer: Layer) -> None:
        assert isinstance(layer, MaxPool)
        (ky, kx), (sy, sx) = layer.kernel, layer.stride
        if max(ky, kx) > _POOL_MOST:
            raise _refuse(layer, f"its kernel is {layer.kernel}", f"use at most {_POOL_MOST} × {_POOL_MOST}")
        _, height, width = self._tensor(layer.output).shape
        aside = (sy, sx) == (ky, kx)
        self._move(
            layer, -128, OY=height * ky, OX=width * kx, pool_y=ky, pool_x=kx,
            pool_step_y=0 if aside else sy, pool_step_x=0 if aside else sx,
            pad_top=layer.padding[0], pad_left=layer.padding[1],
        )  # fmt: skip

    def _relu(self, layer: Layer) -> None:
        assert isinstance(layer, Relu)
        self._move(layer, self._tensor(layer.input).zero_point)

    def _add(self, layer: Layer) -> None:
        assert isinstance(layer, Add)
        for name in layer.inputs:
            self._bytes(layer, name)
        tail = self._tail(layer, np.zeros(self._tensor(layer.output).shape[0], np.int32), dense=False)
        post, after = tail.post, self._consumers[layer.output][0]
        if post.multiplier is None or post.shift is None:
            raise _refuse(layer, "Thresholds can't follow an add", "put a Requantize after it")
        if np.ptp(post.multiplier) or np.ptp(post.shift) or post.bias.any():
            raise _refuse(
                after,
                "after an add all channels must have the same multiplier and shift, and no bias",
                "requantise with one scale",
            )
        if post.rounding != layer.rounding:
            raise _refuse(
                after,
                f"its rounding {post.rounding.name} differs from that of {layer.name}, {layer.rounding.name}",
                "round alike",
            )
        first, second = (self._image(layer, name) for name in layer.inputs)
        same = first.order is second.order or (
            first.order is not None and second.order is not None and np.array_equal(first.order, second.order)
        )
        if not same or (first.order is not None and not self._alone_at_home(tail.out.name)):
            first, second = (self._in_order(layer, name) for name in layer.inputs)
        storage, offset = self._home(tail.out.name)
        channels, height, width = first.shape
        shape = LayerShape(
            name=layer.name, K=channels, C=channels, H=2 * height, W=width, OY=2 * height, OX=width,
            pool_y=2, pe=PeKind.VECTOR, mode=PostMode.ADD, ones=True, alike=True,
            out_bits=tail.out.fmt.bits, sources=(first.place, second.place),
            result=Place(offset, self.storages[storage].pitch),
        )  # fmt: skip
        zero_points = [self._tensor(name).zero_point for name in layer.inputs]
        post = replace(
            post,
            bias=-np.array(zero_points, np.int32),
            multiplier=layer.multiplier,
            shift=layer.shift,
            left=layer.left_shift,
            sum_multiplier=int(post.multiplier[0]),
            sum_shift=int(post.shift[0]),
        )
        self._append(shape, None, post, (first.storage, second.storage), storage)
        self._placed[tail.out.name] = self._at_home(tail.out.name, first.order)

    # -- layers that are addresses -------------------------------------------------------------

    def _flatten(self, layer: Layer) -> None:
        assert isinstance(layer, Flatten)
        placed = self._placed[layer.input]
        _, height, width = placed.shape
        flat = placed.flat or height * width > 1
        self._placed[layer.output] = replace(placed, flat=flat)

    def _shuffle(self, layer: Layer) -> None:
        assert isinstance(layer, Shuffle)
        placed = self._image(layer, layer.input)
        moved = _inverse(self._shuffle_order(layer))
        order = moved if placed.order is None else moved[placed.order]
        in_order = np.array_equal(order, np.arange(order.size))
        self._placed[layer.output] = replace(placed, order=None if in_order else order)

    def _concat(self, layer: Layer) -> None:
        assert isinstance(layer, Concat)
        self._check_format(layer, f"its output {layer.output}", self._tensor(layer.output))
        storage, start = self._home(layer.output)
        for index, name in enumerate(layer.inputs):
            placed, offset = self._image(layer, name), start + self._part_offset(layer, index)
            if (placed.storage, placed.place.offset) != (storage, offset) or placed.order is not None:
                self._copy(layer, name, storage, offset)
        self._placed[layer.output] = self._at_home(layer.output)

    def _alone(self, layer: Layer) -> None:
        raise _refuse(
            layer,
            f"a {layer.kind} can't stand here",
            "put it after a Conv, Linear, AvgPool or Add, one after each",
        )
