"""Shapes of what operators make that move values, or that give sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .attributes import axis_of, flag, integer, integers
from .graph import Node
from .movement import padding, reshaped, resized, slices, split_sizes
from .operands import KNOWN_LIMIT, Known, Made, Operands, Rule, broadcast, known_operand, operand, sizes

__all__ = ["MOVE_RULES"]

_INT64, _BOOL = np.dtype(np.int64), np.dtype(np.bool_)


def _same(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    return [(value.shape, value.dtype)]


def _concat(node: Node, x: Operands, known: Known) -> list[Made]:
    shapes = [operand(x, i).shape for i in range(len(x))]
    axis = axis_of(integer(node, "axis"), len(shapes[0]))
    if any(
        len(s) != len(shapes[0]) or s[:axis] != shapes[0][:axis] or s[axis + 1 :] != shapes[0][axis + 1 :]
        for s in shapes
    ):
        raise ValueError(f"the shapes {', '.join(map(str, shapes))!s:.200} differ beside axis {axis}")
    return [((*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :]), operand(x).dtype)]


def _constant_of_shape(node: Node, x: Operands, known: Known) -> list[Made]:
    fill = np.asarray(node.attributes.get("value", np.zeros(1, np.float32)))
    if fill.size != 1:
        raise ValueError("its value must be one value")
    return [(sizes(known_operand(known, 0, "sizes"), "its sizes"), fill.dtype)]


def _expand(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    return [(broadcast([value.shape, sizes(known_operand(known, 1, "sizes"), "its sizes")]), value.dtype)]


def _tile(node: Node, x: Operands, known: Known) -> list[Made]:
    value, times = operand(x), sizes(known_operand(known, 1, "repeats"), "its repeats")
    if len(times) != len(value.shape):
        raise ValueError(f"its repeats {times} must be one an axis of {value.shape}")
    return [(tuple(n * by for n, by in zip(value.shape, times, strict=True)), value.dtype)]


def _range(node: Node, x: Operands, known: Known) -> list[Made]:
    start, limit, delta = (float(known_operand(known, i, "limits").reshape(())) for i in range(3))
    count = (limit - start) / delta if delta else math.inf
    if not count <= KNOWN_LIMIT:
        raise ValueError(f"a range from {start} to {limit} by {delta} has more than {KNOWN_LIMIT} values")
    return [((max(0, math.ceil(count)),), operand(x).dtype)]


def _flatten(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    rank, axis = len(value.shape), integer(node, "axis", 1)
    if not -rank <= axis <= rank:
        raise ValueError(f"axis {axis} lies outside a tensor of {rank} axes")
    axis += rank if axis < 0 else 0
    return [((math.prod(value.shape[:axis]), math.prod(value.shape[axis:])), value.dtype)]


def _gather(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    axis = axis_of(integer(node, "axis", 0), len(value.shape))
    size, indices = value.shape[axis], known[1] if len(known) > 1 else None
    if indices is not None and ((indices < -size).any() or (indices >= size).any()):
        raise ValueError(f"an index lies outside an axis of {size}")
    return [((*value.shape[:axis], *operand(x, 1).shape, *value.shape[axis + 1 :]), value.dtype)]


def _pad(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    given = [
        value_ if value_ is None else known_operand(known, i, "pads") if i in (1, 3) else None
        for i, value_ in enumerate(x)
    ]
    before, after = padding(value.shape, given)
    if len(x) > 2 and x[2] is not None and math.prod(operand(x, 2).shape) != 1:
        raise ValueError(f"it fills with one value, not with a tensor of shape {operand(x, 2).shape}")
    out = tuple(n + b + a for n, b, a in zip(value.shape, before, after, strict=True))
    if min(out, default=0) < 0:
        raise ValueError(f"padding {before}, {after} leaves nothing of {value.shape}")
    mode = node.attributes.get("mode", "constant")
    limits = [n - 1 if mode == "reflect" else n for n in value.shape]
    if mode != "constant" and any(max(b, a) > n for b, a, n in zip(before, after, limits, strict=True)):
        raise ValueError(f"{mode} padding of {before}, {after} needs more values than {value.shape} has")
    return [(out, value.dtype)]


def _reshape(node: Node, x: Operands, known: Known) -> list[Made]:
    value, wanted = operand(x), known_operand(known, 1, "sizes").ravel().tolist()
    return [(reshaped(value.shape, wanted, flag(node, "allowzero")), value.dtype)]


def _resize(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    given = [
        None if v is None or not math.prod(v.shape) or i < 2 else known_operand(known, i, "scales")
        for i, v in enumerate(x)
    ]
    if not math.prod(value.shape):
        raise ValueError(f"nothing can't be resized: {value.shape}")
    return [(tuple(resized(node, value.shape, given)[0]), value.dtype)]


def _shape_of(node: Node, x: Operands, known: Known) -> list[Made]:
    rank = len(operand(x).shape)
    return [((len(range(rank)[integer(node, "start", 0) : integer(node, "end", rank)]),), _INT64)]


def _slice(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    given = [v if v is None or not i else known_operand(known, i, "limits") for i, v in enumerate(x)]
    chosen = slices(value.shape, [None, *given[1:]])  # type: ignore[list-item]
    return [(tuple(len(range(n)[part]) for n, part in zip(value.shape, chosen, strict=True)), value.dtype)]


def _split(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    given = [None, None if len(x) < 2 or x[1] is None else known_operand(known, 1, "sizes")]
    axis = axis_of(integer(node, "axis", 0), len(value.shape))
    return [
        ((*value.shape[:axis], n, *value.shape[axis + 1 :]), value.dtype)
        for n in split_sizes(node, value.shape, given)
    ]


def _squeeze(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    if len(x) < 2 or x[1] is None:
        return [(tuple(n for n in value.shape if n != 1), value.dtype)]
    given = known_operand(known, 1, "axes").ravel().tolist()
    axes = {axis_of(a, len(value.shape)) for a in given}
    if len(axes) != len(given) or any(value.shape[a] != 1 for a in axes):
        raise ValueError(f"axes {sorted(axes)} of {value.shape} aren't all 1")
    return [(tuple(n for i, n in enumerate(value.shape) if i not in axes), value.dtype)]


def _unsqueeze(node: Node, x: Operands, known: Known) -> list[Made]:
    value, axes = operand(x), known_operand(known, 1, "axes").ravel().tolist()
    rank = len(value.shape) + len(axes)
    places = {axis_of(int(a), rank) for a in axes}
    if len(places) != len(axes) or rank > 16:
        raise ValueError(f"axes {axes!s:.40} can't be added to {value.shape}")
    rest = iter(value.shape)
    return [(tuple(1 if i in places else next(rest) for i in range(rank)), value.dtype)]


def _transpose(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    perm = integers(node, "perm", tuple(reversed(range(len(value.shape)))))
    if sorted(perm) != list(range(len(value.shape))):
        raise ValueError(f"perm {perm} doesn't order the axes of {value.shape}")
    return [(tuple(value.shape[p] for p in perm), value.dtype)]


def _blocks(node: Node, x: Operands, known: Known) -> list[Made]:
    value, block = operand(x), integer(node, "blocksize")
    if len(value.shape) != 4 or block < 1:
        raise ValueError(f"it takes four axes and a positive blocksize, not {value.shape} and {block}")
    n, c, h, w = value.shape
    if node.op == "SpaceToDepth":
        fits, out = h % block == w % block == 0, (n, c * block**2, h // block, w // block)
    else:
        fits, out = c % block**2 == 0, (n, c // block**2, h * block, w * block)
    if not fits:
        raise ValueError(f"{value.shape} has no whole blocks of {block}")
    return [(out, value.dtype)]


def _cast(node: Node, x: Operands, known: Known) -> list[Made]:
    return [(operand(x).shape, np.dtype(str(node.attributes.get("to"))))]


def _dropout(node: Node, x: Operands, known: Known) -> list[Made]:
    value = operand(x)
    if len(x) > 2 and x[2] is not None and known_operand(known, 2, "training_mode").any():
        raise ValueError("it is in training mode: export the network for inference")
    return [(value.shape, value.dtype), (value.shape, _BOOL)]


MOVE_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _blocks),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _same,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape_of,
    "Size": lambda node, x, known: [((), _INT64)],
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""By operator."""
