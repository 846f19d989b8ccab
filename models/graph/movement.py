"""Operators that move values without arithmetic on them: shapes, slices, padding, resizing, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .attributes import axis_of, choice, flag, integer, integers
from .graph import MAX_ELEMENTS, Node

__all__ = [
    "MOVEMENT",
    "PAD_MODES",
    "RESIZE_COORDINATES",
    "RESIZE_MODES",
    "RESIZE_NEAREST",
    "padding",
    "reshaped",
    "resized",
    "slices",
    "split_sizes",
]

Array = NDArray[Any]
Operands = Sequence[Array]
Results = Array | tuple[Array, ...]


def reshaped(shape: Sequence[int], wanted: Sequence[int], allow_zero: bool) -> tuple[int, ...]:
    """The shape that Reshape makes of `shape`: 0 keeps an axis, −1 takes what is left.

    Raises:
        ValueError: the number of values differs.
    """
    size = math.prod(shape)
    out = []
    for i, n in enumerate(wanted):
        keeps = n == 0 and not allow_zero
        if keeps and i >= len(shape):
            raise ValueError(f"axis {i} of {tuple(wanted)!s:.60} keeps an axis that {shape} lacks")
        out.append(shape[i] if keeps else int(n))
    rest = math.prod(n for n in out if n != -1)
    if out.count(-1) == 1 and rest > 0 and size % rest == 0:
        out[out.index(-1)] = size // rest
    if any(n < 0 for n in out) or math.prod(out) != size:
        raise ValueError(f"{tuple(shape)} can't be reshaped to {tuple(int(n) for n in wanted)!s:.60}")
    return tuple(out)


def slices(shape: Sequence[int], x: Sequence[Array | None]) -> tuple[slice, ...]:
    """What Slice takes of a tensor of `shape`, from its operands starts, ends, axes and steps.

    Raises:
        ValueError: lists of different lengths, an axis twice or outside, a step of 0.
    """
    starts, ends = (np.asarray(x[i]).ravel().tolist() for i in (1, 2))
    axes = list(range(len(starts))) if len(x) < 4 or x[3] is None else x[3].ravel().tolist()
    steps = [1] * len(starts) if len(x) < 5 or x[4] is None else x[4].ravel().tolist()
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ValueError("starts, ends, axes and steps must be equally long")
    chosen = [slice(None)] * len(shape)
    seen: set[int] = set()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = axis_of(axis, len(shape))
        if place in seen or step == 0:
            raise ValueError(f"axis {axis} is sliced twice, or with step 0")
        seen.add(place)
        size = shape[place]
        low, high = (n + size if n < 0 else n for n in (start, end))
        if step > 0:
            chosen[place] = slice(min(max(low, 0), size), min(max(high, 0), size), step)
        else:
            high = min(max(high, -1), size - 1)
            chosen[place] = slice(min(max(low, 0), size - 1), None if high < 0 else high, step)
    return tuple(chosen)


def resized(node: Node, shape: Sequence[int], x: Sequence[Array | None]) -> tuple[list[int], list[float]]:
    """Sizes and scales, one an axis, of Resize, from its operands scales or sizes.

    Raises:
        ValueError: neither or both are given, wrong lengths, scales that aren't positive and finite.
    """
    scales = x[2] if len(x) > 2 and x[2] is not None and x[2].size else None
    sizes = x[3] if len(x) > 3 and x[3] is not None and x[3].size else None
    if (scales is None) == (sizes is None):
        raise ValueError("either scales or sizes must be given")
    policy = choice(node, "keep_aspect_ratio_policy", "stretch", ("stretch",))
    given = scales if scales is not None else sizes
    rank = len(shape)
    axes = [axis_of(a, rank) for a in integers(node, "axes", tuple(range(rank)))]
    if given is None or given.shape != (len(axes),) or len(set(axes)) != len(axes):
        raise ValueError(f"scales or sizes must be one an axis ({policy})")
    out, factors = list(shape), [1.0] * rank
    for axis, n in zip(axes, given.tolist(), strict=True):
        if scales is not None:
            if not (math.isfinite(n) and n > 0) or shape[axis] * n > MAX_ELEMENTS:
                raise ValueError(f"a scale must be positive and finite, not {n}")
            out[axis], factors[axis] = int(np.floor(np.float32(shape[axis]) * np.float32(n))), n
        else:
            if n < 1:
                raise ValueError(f"a size must be positive, not {n}")
            out[axis] = int(n)
            factors[axis] = n / shape[axis] if shape[axis] else 1.0
    return out, factors


PAD_MODES = ("constant", "reflect", "edge", "wrap")
RESIZE_MODES = ("nearest", "linear")
RESIZE_NEAREST: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "round_prefer_floor": lambda place: np.ceil(place - np.float32(0.5)),
    "round_prefer_ceil": lambda place: np.floor(place + np.float32(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}
RESIZE_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
)


def _places(mode: str, size: int, out: int, scale: float) -> NDArray[np.float32]:
    """Where each of `out` values lies among `size` ones, in float32 as ONNX Runtime computes it."""
    at = np.arange(out, dtype=np.float32)
    factor, half = np.float32(scale), np.float32(0.5)
    if mode == "asymmetric":
        return at / factor
    if mode == "align_corners":
        return at * np.float32(size - 1) / np.float32(out - 1) if out > 1 else np.zeros(out, np.float32)
    if mode == "pytorch_half_pixel" and out <= 1:
        return np.zeros(out, np.float32)
    place = (at + half) / factor - half
    if mode == "half_pixel_symmetric":
        adjust = np.float32(out) / (factor * np.float32(size))
        place = place + np.float32(size / 2) * (1 - adjust)
    return np.asarray(place, np.float32)


def _resize(node: Node, x: Operands) -> Array:
    sizes, scales = resized(node, x[0].shape, x)
    mode = choice(node, "mode", "nearest", RESIZE_MODES)
    where = choice(node, "coordinate_transformation_mode", "half_pixel", RESIZE_COORDINATES)
    nearest = choice(node, "nearest_mode", "round_prefer_floor", tuple(RESIZE_NEAREST))
    if flag(node, "antialias"):
        raise ValueError("Resize with antialias is not supported")
    value = x[0]
    for axis, (out, scale) in enumerate(zip(sizes, scales, strict=True)):
        size = value.shape[axis]
        if out == size and scale == 1:
            continue
        place = _places(where, size, out, scale)
        if mode == "nearest":
            rounded = RESIZE_NEAREST[nearest](place)
            value = np.take(value, np.clip(rounded, 0, size - 1).astype(np.int64), axis)
            continue
        place = np.clip(place, 0, size - 1)
        low = np.floor(place).astype(np.int64)
        part = (place - low).reshape([-1 if i == axis else 1 for i in range(value.ndim)])
        left, right = np.take(value, low, axis), np.take(value, np.minimum(low + 1, size - 1), axis)
        value = (left * (1 - part) + right * part).astype(x[0].dtype)
    return value


def _pad(node: Node, x: Operands) -> Array:
    mode = choice(node, "mode", "constant", PAD_MODES)
    before, after = padding(x[0].shape, x)
    fill = x[2] if len(x) > 2 and x[2] is not None else np.zeros((), x[0].dtype)
    value = x[0][
        tuple(slice(max(0, -b), n - max(0, -a)) for n, b, a in zip(x[0].shape, before, after, strict=True))
    ]
    pads = [(max(0, b), max(0, a)) for b, a in zip(before, after, strict=True)]
    if mode == "constant":
        return np.pad(value, pads, constant_values=fill.reshape(()))
    return np.pad(value, pads, mode=mode)  # type: ignore[call-overload,no-any-return]


def padding(shape: Sequence[int], x: Sequence[Array | None]) -> tuple[list[int], list[int]]:
    """Values before and after each axis that Pad adds to a tensor of `shape`; negative ones cut.

    Raises:
        ValueError: the operand has the wrong length, or an axis stands twice.
    """
    pads = np.asarray(x[1]).ravel().tolist()
    rank = len(shape)
    axes = range(rank) if len(x) < 4 or x[3] is None else [axis_of(a, rank) for a in x[3].ravel().tolist()]
    if len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise ValueError(f"pads must be two an axis, not {len(pads)} for {len(axes)} axes")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[len(axes) + i]
    return before, after


def _split(node: Node, x: Operands) -> Results:
    axis = integer(node, "axis", 0)
    sizes = split_sizes(node, x[0].shape, x)
    return tuple(np.split(x[0], np.cumsum(sizes)[:-1].tolist(), axis))


def split_sizes(node: Node, shape: Sequence[int], x: Sequence[Array | None]) -> list[int]:
    """The sizes along its axis of what Split makes, one an output.

    Raises:
        ValueError: they don't add up to the axis.
    """
    size = shape[axis_of(integer(node, "axis", 0), len(shape))]
    count = len(node.outputs)
    if len(x) > 1 and x[1] is not None:
        sizes = [int(n) for n in x[1].ravel().tolist()]
    else:
        step = -(-size // count)
        sizes = [min(step, size - i * step) for i in range(count)]
    if len(sizes) != count or any(n < 0 for n in sizes) or sum(sizes) != size:
        raise ValueError(f"an axis of {size} can't be split into {count} parts of {sizes!s:.60}")
    return sizes


def _gather(node: Node, x: Operands) -> Array:
    axis = axis_of(integer(node, "axis", 0), x[0].ndim)
    size = x[0].shape[axis]
    if np.any(x[1] < -size) or np.any(x[1] >= size):
        raise ValueError(f"an index lies outside an axis of {size}")
    return np.take(x[0], x[1], axis)


def _shape(node: Node, x: Operands) -> Array:
    rank = x[0].ndim
    return np.asarray(x[0].shape, np.int64)[integer(node, "start", 0) : integer(node, "end", rank)]


def _squeeze(node: Node, x: Operands) -> Array:
    if len(x) < 2 or x[1] is None:
        return np.squeeze(x[0])
    return np.squeeze(x[0], tuple(int(a) for a in x[1].ravel()))


def _unsqueeze(node: Node, x: Operands) -> Array:
    return np.expand_dims(x[0], tuple(int(a) for a in x[1].ravel()))


def _flatten(node: Node, x: Operands) -> Array:
    axis = integer(node, "axis", 1)
    axis = axis + x[0].ndim if axis < 0 else axis
    return x[0].reshape(math.prod(x[0].shape[:axis]), math.prod(x[0].shape[axis:]))


def _constant_of_shape(node: Node, x: Operands) -> Array:
    fill = np.asarray(node.attributes.get("value", np.zeros(1, np.float32)))
    return np.full(tuple(x[0].ravel().tolist()), fill.reshape(()), fill.dtype)


def _expand(node: Node, x: Operands) -> Array:
    shape = np.broadcast_shapes(x[0].shape, tuple(x[1].ravel().tolist()))
    return np.broadcast_to(x[0], shape)


def _range(node: Node, x: Operands) -> Array:
    start, limit, delta = (value.reshape(()) for value in x)
    count = max(0, math.ceil((float(limit) - float(start)) / float(delta)))
    return np.asarray(start + np.arange(count).astype(start.dtype) * delta)


def _blocks(node: Node, x: Operands) -> Array:
    block = integer(node, "blocksize")
    n, c, h, w = x[0].shape
    if node.op == "SpaceToDepth":
        value = x[0].reshape(n, c, h // block, block, w // block, block).transpose(0, 3, 5, 1, 2, 4)
        return value.reshape(n, c * block * block, h // block, w // block)
    if choice(node, "mode", "DCR", ("DCR", "CRD")) == "DCR":
        value = x[0].reshape(n, block, block, c // block**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        value = x[0].reshape(n, c // block**2, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    return value.reshape(n, c // block**2, h * block, w * block)


def _dropout(node: Node, x: Operands) -> Results:
    return (x[0], np.ones(x[0].shape, np.bool_)) if len(node.outputs) > 1 else x[0]


MOVEMENT: Mapping[str, Callable[[Node, Operands], Results]] = {
    "Cast": lambda node, x: x[0].astype(np.dtype(str(node.attributes["to"]))),
    "Concat": lambda node, x: np.concatenate(x, axis=integer(node, "axis")),
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _blocks,
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": lambda node, x: x[0],
    "Pad": _pad,
    "Range": _range,
    "Reshape": lambda node, x: x[0].reshape(
        reshaped(x[0].shape, x[1].ravel().tolist(), flag(node, "allowzero"))
    ),
    "Resize": _resize,
    "Shape": _shape,
    "Size": lambda node, x: np.asarray(x[0].size, np.int64),
    "Slice": lambda node, x: x[0][slices(x[0].shape, x)],
    "SpaceToDepth": _blocks,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": lambda node, x: np.tile(x[0], tuple(x[1].ravel().tolist())),
    "Transpose": lambda node, x: x[0].transpose(integers(node, "perm", tuple(reversed(range(x[0].ndim))))),
    "Unsqueeze": _unsqueeze,
}
"""By operator of ONNX: its results from its operands."""
