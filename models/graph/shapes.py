"""Shapes and types of a graph's values, inferred node by node, and the few values that shapes depend on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .attributes import axis_of, flag, integer, integers
from .elementwise import ELEMENTWISE
from .evaluate import OPERATORS, run_node
from .graph import MAX_ELEMENTS, Node, Value
from .movement import MOVEMENT, padding, reshaped, resized, slices, split_sizes
from .quantised import channel_axis
from .window import window_of

__all__ = ["ShapeTracker", "infer_values"]

Shape = tuple[int, ...]
Operands = Sequence[Value | None]
Known = Sequence[NDArray[Any] | None]
Made = tuple[Shape, np.dtype[Any]]
Rule = Callable[[Node, Operands, Known], list[Made]]

_KNOWN_LIMIT = 4096
"""Values of more elements are never computed while shapes are inferred."""
_INT64, _BOOL, _INT32, _FLOAT = (np.dtype(t) for t in (np.int64, np.bool_, np.int32, np.float32))


class ShapeTracker:
    """Values of a graph that grows node by node, with the small ones that are known without running it.

    Weights that nodes make (ConstantOfShape) get their shapes without any memory being taken.
    """

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.known: dict[str, NDArray[Any]] = {}

    def add_value(self, value: Value, array: NDArray[Any] | None = None) -> None:
        """Takes an input of the graph, or with `array` a constant."""
        self.values[value.name] = value
        if array is not None and array.size <= _KNOWN_LIMIT:
            self.known[value.name] = array

    def add_node(self, node: Node) -> None:
        """Takes a node whose operands are known, and infers what it makes.

        Raises:
            ValueError: an unknown operator, or operands or attributes that it can't have; names the node.
        """
        if node.op not in _RULES:
            raise ValueError(f"node {node.name!r:.80}: the operator {node.op!r:.40} is not known")
        operands = [self.values[name] if name else None for name in node.inputs]
        arrays = [self.known.get(name) for name in node.inputs]
        try:
            made = _RULES[node.op](node, operands, arrays)
            if len(node.outputs) > len(made):
                raise ValueError(f"it makes {len(made)} values here, not {len(node.outputs)}")
            values = [
                Value(name=name, shape=tuple(int(n) for n in shape), dtype=np.dtype(dtype))
                for name, (shape, dtype) in zip(node.outputs, made, strict=False)
            ]
        except (ValueError, TypeError, IndexError, AttributeError, OverflowError) as fault:
            raise ValueError(f"node {node.name!r:.80} ({node.op}): {_line(fault)}") from None
        for value in values:
            if value.name:
                self.values[value.name] = value
        self._know(node, arrays, values)

    def _know(self, node: Node, arrays: list[NDArray[Any] | None], values: list[Value]) -> None:
        if node.op in ("Shape", "Size"):
            operand = self.values[node.inputs[0]]
            # a view of one value stands for the tensor, whose shape is all that is asked
            arrays = [np.broadcast_to(np.zeros((), operand.dtype), operand.shape)]
        elif node.op not in ELEMENTWISE and node.op not in MOVEMENT:
            return
        missing = any(array is None for name, array in zip(node.inputs, arrays, strict=True) if name)
        if missing or any(math.prod(value.shape) > _KNOWN_LIMIT for value in values):
            return
        for value, result in zip(values, run_node(node, arrays), strict=False):
            if value.name:
                self.known[value.name] = result


def _line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:300]


def infer_values(
    inputs: Iterable[Value], constants: Mapping[str, NDArray[Any]], nodes: Iterable[Node]
) -> dict[str, Value]:
    """Every value of a graph by name: what `Graph.values` wants.

    Raises:
        ValueError: as `ShapeTracker.add_node` says.
    """
    tracker = ShapeTracker()
    for value in inputs:
        tracker.add_value(value)
    for name, array in constants.items():
        tracker.add_value(Value(name=name, shape=array.shape, dtype=array.dtype), array)
    for node in nodes:
        tracker.add_node(node)
    return tracker.values


def _value(x: Operands, i: int = 0) -> Value:
    value = x[i] if i < len(x) else None
    if value is None:
        raise ValueError(f"its operand {i} is missing")
    return value


def _given(known: Known, i: int, what: str) -> NDArray[Any]:
    """A small operand that must be known for the result's shape to be."""
    array = known[i] if i < len(known) else None
    if array is None:
        raise ValueError(f"its {what} depend on the input's values, so the result's shape is dynamic")
    return array


def _same(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    return [(value.shape, value.dtype)]


def _broadcast(node: Node, x: Operands, known: Known) -> list[Made]:
    shapes = [value.shape for value in x if value is not None]
    return [(_broadcast_shapes(shapes), _value(x).dtype)]


def _broadcast_shapes(shapes: Sequence[Shape]) -> Shape:
    out: list[int] = []
    for i in range(1, max((len(s) for s in shapes), default=0) + 1):
        sizes = {s[-i] for s in shapes if len(s) >= i} - {1}
        if len(sizes) > 1:
            raise ValueError(f"the shapes {', '.join(map(str, shapes))} don't broadcast")
        out.insert(0, sizes.pop() if sizes else 1)
    return tuple(out)


def _compare(node: Node, x: Operands, known: Known) -> list[Made]:
    return [(_broadcast(node, x, known)[0][0], _BOOL)]


def _onto_first(node: Node, x: Operands, known: Known) -> list[Made]:
    """The first operand's shape, onto which the others must broadcast."""
    value = _value(x)
    for i in range(1, len(x)):
        if x[i] is not None and _broadcast_shapes([value.shape, _value(x, i).shape]) != value.shape:
            raise ValueError(f"operand {i}, {_value(x, i).shape}, doesn't broadcast to {value.shape}")
    return [(value.shape, value.dtype)]


def _where(node: Node, x: Operands, known: Known) -> list[Made]:
    return [(_broadcast(node, x, known)[0][0], _value(x, 1).dtype)]


def _along_axis(default: int) -> Rule:
    def rule(node: Node, x: Operands, known: Known) -> list[Made]:
        value = _value(x)
        axis_of(integer(node, "axis", default), len(value.shape))
        return [(value.shape, value.dtype)]

    return rule


def _reduce(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    rank = len(value.shape)
    given = x[1] if len(x) > 1 else None
    axes = [] if given is None else [axis_of(int(a), rank) for a in _given(known, 1, "axes").ravel()]
    if not axes:
        if flag(node, "noop_with_empty_axes"):
            return [(value.shape, value.dtype)]
        axes = list(range(rank))
    return [(_without(value.shape, axes, flag(node, "keepdims", True)), value.dtype)]


def _without(shape: Shape, axes: Sequence[int], keep: bool) -> Shape:
    if len(set(axes)) != len(axes):
        raise ValueError("an axis stands twice")
    if any(shape[a] == 0 for a in axes):
        raise ValueError("an axis without values can't be reduced")
    return tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes)


def _arg(node: Node, x: Operands, known: Known) -> list[Made]:
    shape = _value(x).shape
    axis = axis_of(integer(node, "axis", 0), len(shape))
    return [(_without(shape, [axis], flag(node, "keepdims", True)), _INT64)]


def _weights(x: Operands, group: int, at: int = 1) -> tuple[Shape, Shape]:
    """Shapes of the picture and of the weights (K, C / group, kernel), which must fit each other."""
    shape, weights = _value(x).shape, _value(x, at).shape
    if not 3 <= len(shape) <= 5 or len(weights) != len(shape):
        raise ValueError(f"it takes (N, C, …) and weights of as many axes, not {shape} and {weights}")
    if group < 1 or weights[1] * group != shape[1] or weights[0] % group or not math.prod(weights):
        raise ValueError(f"weights {weights} in {group} groups don't fit {shape}")
    return shape, weights


def _vector(x: Operands, i: int, size: int, what: str) -> None:
    if i < len(x) and x[i] is not None and _value(x, i).shape != (size,):
        raise ValueError(f"its {what} must have the shape ({size},), not {_value(x, i).shape}")


def _scalar_or_vector(x: Operands, i: int, size: int, what: str) -> None:
    if i < len(x) and x[i] is not None and _value(x, i).shape not in ((), (1,), (size,)):
        raise ValueError(f"its {what} must be one or {size} values, not of shape {_value(x, i).shape}")


def _conv_shape(node: Node, x: Operands, at: int = 1) -> Shape:
    shape, weights = _weights(x, integer(node, "group", 1), at)
    return (shape[0], weights[0], *window_of(node, shape[2:], weights[2:]).out)


def _conv(node: Node, x: Operands, known: Known) -> list[Made]:
    out = _conv_shape(node, x)
    _vector(x, 2, out[1], "bias")
    return [(out, _value(x).dtype)]


def _conv_integer(node: Node, x: Operands, known: Known) -> list[Made]:
    out = _conv_shape(node, x)
    _scalar_or_vector(x, 2, 1, "zero point")
    _scalar_or_vector(x, 3, out[1], "weights' zero point")
    return [(out, _INT32)]


def _qlinear_conv(node: Node, x: Operands, known: Known) -> list[Made]:
    out = _conv_shape(node, x, 3)
    for i, size in ((1, 1), (2, 1), (4, out[1]), (5, out[1]), (6, 1), (7, 1)):
        _scalar_or_vector(x, i, size, "scales and zero points")
    _vector(x, 8, out[1], "bias")
    return [(out, _value(x, 7).dtype)]


def _conv_transpose(node: Node, x: Operands, known: Known) -> list[Made]:
    shape, weights, group = _value(x).shape, _value(x, 1).shape, integer(node, "group", 1)
    rank = len(shape) - 2
    if rank not in (1, 2) or len(weights) != len(shape) or "output_shape" in node.attributes:
        raise ValueError("it takes one or two spatial axes and no output_shape")
    if group < 1 or weights[0] != shape[1] or shape[1] % group or not math.prod(weights):
        raise ValueError(f"weights {weights} in {group} groups don't fit {shape}")
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise ValueError("ConvTranspose with auto_pad is not supported: give pads")
    kernel = integers(node, "kernel_shape", weights[2:])
    strides, dilations = (integers(node, key, (1,) * rank) for key in ("strides", "dilations"))
    pads, extra = integers(node, "pads", (0,) * 2 * rank), integers(node, "output_padding", (0,) * rank)
    if kernel != weights[2:] or (len(strides), len(dilations), len(pads), len(extra)) != (
        rank, rank, 2 * rank, rank,
    ) or min(*strides, *dilations) < 1 or min(*pads, *extra) < 0:  # fmt: skip
        raise ValueError("kernel_shape, strides, dilations, pads or output_padding don't fit its operands")
    whole = [
        (n - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i] for i, n in enumerate(shape[2:])
    ]
    out = tuple(n - pads[i] - pads[rank + i] for i, n in enumerate(whole))
    if min(out) < 1 or math.prod(whole) > MAX_ELEMENTS:
        raise ValueError(f"its result would have the sizes {out}")
    _vector(x, 2, weights[1] * group, "bias")
    return [((shape[0], weights[1] * group, *out), _value(x).dtype)]


def _gemm(node: Node, x: Operands, known: Known) -> list[Made]:
    a, b = _value(x).shape, _value(x, 1).shape
    if len(a) != 2 or len(b) != 2:
        raise ValueError(f"it multiplies two matrices, not {a} and {b}")
    m, k = reversed(a) if flag(node, "transA") else a
    k2, n = reversed(b) if flag(node, "transB") else b
    if k != k2:
        raise ValueError(f"{a} and {b} can't be multiplied")
    if len(x) > 2 and x[2] is not None and _broadcast_shapes([(m, n), _value(x, 2).shape]) != (m, n):
        raise ValueError(f"its bias {_value(x, 2).shape} doesn't broadcast to {(m, n)}")
    return [((m, n), _value(x).dtype)]


def _product(a: Shape, b: Shape) -> Shape:
    if not a or not b:
        raise ValueError("a scalar can't be multiplied as a matrix")
    left, right = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    if left[-1] != right[-2]:
        raise ValueError(f"{a} and {b} can't be multiplied")
    out = (*_broadcast_shapes([left[:-2], right[:-2]]), left[-2], right[-1])
    out = out[:-1] if len(b) == 1 else out
    return out[:-2] + out[-1:] if len(a) == 1 and len(b) > 1 else out[:-1] if len(a) == 1 else out


def _matmul(node: Node, x: Operands, known: Known) -> list[Made]:
    return [(_product(_value(x).shape, _value(x, 1).shape), _value(x).dtype)]


def _matmul_integer(node: Node, x: Operands, known: Known) -> list[Made]:
    out = _product(_value(x).shape, _value(x, 1).shape)
    _scalar_or_vector(x, 2, _value(x).shape[-2] if len(_value(x).shape) == 2 else 1, "zero point")
    _scalar_or_vector(x, 3, _value(x, 1).shape[-1], "zero point")
    return [(out, _INT32)]


def _qlinear_matmul(node: Node, x: Operands, known: Known) -> list[Made]:
    out = _product(_value(x).shape, _value(x, 3).shape)
    for i, size in ((1, 1), (2, 1), (4, _value(x, 3).shape[-1]), (5, _value(x, 3).shape[-1]), (6, 1), (7, 1)):
        _scalar_or_vector(x, i, size, "scales and zero points")
    return [(out, _value(x, 7).dtype)]


def _pool(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    if not 3 <= len(value.shape) <= 5:
        raise ValueError(f"it takes (N, C, …) with one to three more axes, not {value.shape}")
    if "kernel_shape" not in node.attributes:
        raise ValueError("its attribute kernel_shape is missing")
    if len(node.outputs) > 1 and any(node.outputs[1:]):
        raise ValueError("the places of the maxima (its second output) are not supported")
    if flag(node, "storage_order"):
        raise ValueError("storage_order 1 is not supported")
    window = window_of(node, value.shape[2:])
    if any(pad >= size for pad, size in zip(window.begins, window.kernel, strict=True)) or any(
        pad >= (size - 1) * by + 1
        for pad, size, by in zip(window.ends, window.kernel, window.dilations, strict=True)
    ):
        raise ValueError(f"its padding {window.begins + window.ends} must be smaller than {window.kernel}")
    return [((*value.shape[:2], *window.out), value.dtype)]


def _global(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    if len(value.shape) < 3 or not math.prod(value.shape[2:]):
        raise ValueError(f"it takes (N, C, …) with at least one more axis, not {value.shape}")
    return [((*value.shape[:2], *[1] * (len(value.shape) - 2)), value.dtype)]


def _per_channel(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    if len(value.shape) < 2:
        raise ValueError(f"it takes (N, C, …), not {value.shape}")
    for i in range(1, len(x)):
        _vector(x, i, value.shape[1], "scale, shift, mean and variance")
    return [(value.shape, value.dtype)]


def _batch_norm(node: Node, x: Operands, known: Known) -> list[Made]:
    if flag(node, "training_mode") or any(node.outputs[1:]):
        raise ValueError("it is in training mode: export the network for inference")
    return _per_channel(node, x, known)


def _lrn(node: Node, x: Operands, known: Known) -> list[Made]:
    value, size = _value(x), integer(node, "size")
    if len(value.shape) < 2 or not 1 <= size <= 2 * value.shape[1]:
        raise ValueError(f"a window of {size} channels doesn't fit {value.shape}")
    return [(value.shape, value.dtype)]


def _concat(node: Node, x: Operands, known: Known) -> list[Made]:
    shapes = [_value(x, i).shape for i in range(len(x))]
    axis = axis_of(integer(node, "axis"), len(shapes[0]))
    if any(
        len(s) != len(shapes[0]) or s[:axis] != shapes[0][:axis] or s[axis + 1 :] != shapes[0][axis + 1 :]
        for s in shapes
    ):
        raise ValueError(f"the shapes {', '.join(map(str, shapes))!s:.200} differ beside axis {axis}")
    return [((*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :]), _value(x).dtype)]


def _sizes(array: NDArray[Any], what: str) -> Shape:
    sizes = tuple(int(n) for n in array.ravel())
    if any(n < 0 for n in sizes) or math.prod(sizes) > MAX_ELEMENTS:
        raise ValueError(f"{what} must be counts with at most 2^28 values in all, not {sizes!s:.80}")
    return sizes


def _constant_of_shape(node: Node, x: Operands, known: Known) -> list[Made]:
    fill = np.asarray(node.attributes.get("value", np.zeros(1, np.float32)))
    if fill.size != 1:
        raise ValueError("its value must be one value")
    return [(_sizes(_given(known, 0, "sizes"), "its sizes"), fill.dtype)]


def _expand(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    return [(_broadcast_shapes([value.shape, _sizes(_given(known, 1, "sizes"), "its sizes")]), value.dtype)]


def _tile(node: Node, x: Operands, known: Known) -> list[Made]:
    value, times = _value(x), _sizes(_given(known, 1, "repeats"), "its repeats")
    if len(times) != len(value.shape):
        raise ValueError(f"its repeats {times} must be one an axis of {value.shape}")
    return [(tuple(n * by for n, by in zip(value.shape, times, strict=True)), value.dtype)]


def _range(node: Node, x: Operands, known: Known) -> list[Made]:
    start, limit, delta = (float(_given(known, i, "limits").reshape(())) for i in range(3))
    count = (limit - start) / delta if delta else math.inf
    if not count <= _KNOWN_LIMIT:
        raise ValueError(f"a range from {start} to {limit} by {delta} has more than {_KNOWN_LIMIT} values")
    return [((max(0, math.ceil(count)),), _value(x).dtype)]


def _flatten(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    rank, axis = len(value.shape), integer(node, "axis", 1)
    if not -rank <= axis <= rank:
        raise ValueError(f"axis {axis} lies outside a tensor of {rank} axes")
    axis += rank if axis < 0 else 0
    return [((math.prod(value.shape[:axis]), math.prod(value.shape[axis:])), value.dtype)]


def _gather(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    axis = axis_of(integer(node, "axis", 0), len(value.shape))
    return [((*value.shape[:axis], *_value(x, 1).shape, *value.shape[axis + 1 :]), value.dtype)]


def _pad(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    given = [
        value_ if value_ is None else _given(known, i, "pads") if i in (1, 3) else None
        for i, value_ in enumerate(x)
    ]
    before, after = padding(value.shape, given)
    out = tuple(n + b + a for n, b, a in zip(value.shape, before, after, strict=True))
    if min(out, default=0) < 0:
        raise ValueError(f"padding {before}, {after} leaves nothing of {value.shape}")
    mode = node.attributes.get("mode", "constant")
    limits = [n - 1 if mode == "reflect" else n for n in value.shape]
    if mode != "constant" and any(max(b, a) > n for b, a, n in zip(before, after, limits, strict=True)):
        raise ValueError(f"{mode} padding of {before}, {after} needs more values than {value.shape} has")
    return [(out, value.dtype)]


def _reshape(node: Node, x: Operands, known: Known) -> list[Made]:
    value, wanted = _value(x), _given(known, 1, "sizes").ravel().tolist()
    return [(reshaped(value.shape, wanted, flag(node, "allowzero")), value.dtype)]


def _resize(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    given = [
        None if v is None or not math.prod(v.shape) or i < 2 else _given(known, i, "scales")
        for i, v in enumerate(x)
    ]
    if not math.prod(value.shape):
        raise ValueError(f"nothing can't be resized: {value.shape}")
    return [(tuple(resized(node, value.shape, given)[0]), value.dtype)]


def _shape_of(node: Node, x: Operands, known: Known) -> list[Made]:
    rank = len(_value(x).shape)
    return [((len(range(rank)[integer(node, "start", 0) : integer(node, "end", rank)]),), _INT64)]


def _slice(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    given = [v if v is None or not i else _given(known, i, "limits") for i, v in enumerate(x)]
    chosen = slices(value.shape, [None, *given[1:]])  # type: ignore[list-item]
    return [(tuple(len(range(n)[part]) for n, part in zip(value.shape, chosen, strict=True)), value.dtype)]


def _split(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    given = [None, None if len(x) < 2 or x[1] is None else _given(known, 1, "sizes")]
    axis = axis_of(integer(node, "axis", 0), len(value.shape))
    return [
        ((*value.shape[:axis], n, *value.shape[axis + 1 :]), value.dtype)
        for n in split_sizes(node, value.shape, given)
    ]


def _squeeze(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    if len(x) < 2 or x[1] is None:
        return [(tuple(n for n in value.shape if n != 1), value.dtype)]
    axes = {axis_of(int(a), len(value.shape)) for a in _given(known, 1, "axes").ravel()}
    if any(value.shape[a] != 1 for a in axes):
        raise ValueError(f"axes {sorted(axes)} of {value.shape} aren't all 1")
    return [(tuple(n for i, n in enumerate(value.shape) if i not in axes), value.dtype)]


def _unsqueeze(node: Node, x: Operands, known: Known) -> list[Made]:
    value, axes = _value(x), _given(known, 1, "axes").ravel().tolist()
    rank = len(value.shape) + len(axes)
    places = {axis_of(int(a), rank) for a in axes}
    if len(places) != len(axes) or rank > 16:
        raise ValueError(f"axes {axes!s:.40} can't be added to {value.shape}")
    rest = iter(value.shape)
    return [(tuple(1 if i in places else next(rest) for i in range(rank)), value.dtype)]


def _transpose(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    perm = integers(node, "perm", tuple(reversed(range(len(value.shape)))))
    if sorted(perm) != list(range(len(value.shape))):
        raise ValueError(f"perm {perm} doesn't order the axes of {value.shape}")
    return [(tuple(value.shape[p] for p in perm), value.dtype)]


def _blocks(node: Node, x: Operands, known: Known) -> list[Made]:
    value, block = _value(x), integer(node, "blocksize")
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
    return [(_value(x).shape, np.dtype(str(node.attributes.get("to"))))]


def _dropout(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _value(x)
    if len(x) > 2 and x[2] is not None and _given(known, 2, "training_mode").any():
        raise ValueError("it is in training mode: export the network for inference")
    return [(value.shape, value.dtype), (value.shape, _BOOL)]


def _quantised_axis(node: Node, x: Operands) -> Value:
    value, scale = _value(x), _value(x, 1).shape
    if integer(node, "block_size", 0):
        raise ValueError("scales a block are not supported")
    if math.prod(scale) != 1:
        size = value.shape[axis_of(integer(node, "axis", 1), len(value.shape))]
        if scale != (size,):
            raise ValueError(f"its scale must be one or {size} values, not of shape {scale}")
    if len(x) > 2 and x[2] is not None and math.prod(_value(x, 2).shape) != math.prod(scale):
        raise ValueError(f"its zero point {_value(x, 2).shape} and its scale {scale} differ in shape")
    return value


def _quantize_linear(node: Node, x: Operands, known: Known) -> list[Made]:
    value = _quantised_axis(node, x)
    return [(value.shape, np.dtype(np.uint8) if len(x) < 3 or x[2] is None else _value(x, 2).dtype)]


def _dequantize_linear(node: Node, x: Operands, known: Known) -> list[Made]:
    return [(_quantised_axis(node, x).shape, _value(x, 1).dtype)]


def _dynamic(node: Node, x: Operands, known: Known) -> list[Made]:
    return [(_value(x).shape, np.dtype(np.uint8)), ((), _FLOAT), ((), np.dtype(np.uint8))]


def _multi_threshold(node: Node, x: Operands, known: Known) -> list[Made]:
    value, thresholds = _value(x), _value(x, 1).shape
    channels = value.shape[channel_axis(node, len(value.shape))]
    if len(thresholds) != 2 or thresholds[0] not in (1, channels):
        raise ValueError(f"its thresholds must be (1 or {channels}, levels), not {thresholds}")
    return [(value.shape, value.dtype)]


_RULES: Mapping[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _same),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Sum", "Max", "Min", "Mean"), _broadcast),
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or"), _compare),
    **dict.fromkeys(("PRelu", "Clip", "Quant", "BipolarQuant", "Trunc"), _onto_first),
    **dict.fromkeys(("Softmax", "LogSoftmax", "LayerNormalization"), _along_axis(-1)),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"), _reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _blocks),
    "Where": _where,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "ConvInteger": _conv_integer,
    "ConvTranspose": _conv_transpose,
    "DequantizeLinear": _dequantize_linear,
    "Dropout": _dropout,
    "DynamicQuantizeLinear": _dynamic,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": _same,
    "InstanceNormalization": _per_channel,
    "LRN": _lrn,
    "MatMul": _matmul,
    "MatMulInteger": _matmul_integer,
    "MultiThreshold": _multi_threshold,
    "Pad": _pad,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize_linear,
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
assert set(_RULES) == set(OPERATORS)
