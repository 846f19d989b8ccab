"""From torch's operators that move values to ONNX's: joins, shapes, slices, padding, scaling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .torch_archive import Call, Ref
from .torch_lowering import Lower, Lowering, axis_of, number, operand, option

_END = (1 << 63) - 1
"""What a slice without an end has."""

__all__ = ["MOVES"]


def _concat(low: Lowering, call: Call) -> None:
    tensors = call.arguments.get("tensors")
    if not isinstance(tensors, list) or not tensors:
        raise ValueError("it must take tensors")
    axis = axis_of(option(call, "dim", 0), len(low.shape(tensors[0])))
    low.emit(call, "Concat", [low.value(ref) for ref in tensors], {"axis": axis})


def _reshape(low: Lowering, call: Call) -> None:
    x = operand(call)
    shape = list(low.sizes(call, "size" if "size" in call.arguments else "shape"))
    source = low.shape(x)
    rest = math.prod(n for n in shape if n != -1)
    if shape.count(-1) == 1 and rest > 0:
        shape[shape.index(-1)] = math.prod(source) // rest
    _to_shape(low, call, x, shape)


def _to_shape(low: Lowering, call: Call, x: Ref, shape: Sequence[int]) -> None:
    source = low.shape(x)
    if math.prod(shape) != math.prod(source) or any(n < 0 for n in shape):
        raise ValueError(f"{source} can't be reshaped to {tuple(shape)!s:.60}")
    if len(shape) == 2 and len(source) > 2 and shape[0] == source[0]:
        low.emit(call, "Flatten", [low.value(x)], {"axis": 1})
        return
    operands = [low.value(x), low.constant(call, "shape", shape)]
    low.emit(call, "Reshape", operands, {"allowzero": 1})


def _flatten(low: Lowering, call: Call) -> None:
    x = operand(call)
    shape = low.shape(x)
    first = axis_of(option(call, "start_dim", 0), len(shape))
    last = axis_of(option(call, "end_dim", -1), len(shape))
    if first > last:
        raise ValueError(f"it must flatten axes in order, not {first} to {last}")
    _to_shape(low, call, x, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


def _squeeze(low: Lowering, call: Call) -> None:
    x = operand(call)
    shape = low.shape(x)
    dims = low.sizes(call, "dim", None, list(range(len(shape))))
    gone = {axis_of(n, len(shape)) for n in dims}
    _to_shape(low, call, x, [n for i, n in enumerate(shape) if i not in gone or n != 1])


def _unsqueeze(low: Lowering, call: Call) -> None:
    x = operand(call)
    shape = list(low.shape(x))
    shape.insert(axis_of(call.arguments.get("dim"), len(shape) + 1), 1)
    _to_shape(low, call, x, shape)


def _permute(low: Lowering, call: Call) -> None:
    x = operand(call)
    rank = len(low.shape(x))
    if "dims" in call.arguments:
        perm = tuple(axis_of(n, rank) for n in low.sizes(call, "dims"))
    else:
        order = list(range(rank))
        left, right = (
            axis_of(option(call, key, default), rank) for key, default in (("dim0", 0), ("dim1", -1))
        )
        order[left], order[right] = order[right], order[left]
        perm = tuple(order)
    low.emit(call, "Transpose", [low.value(x)], {"perm": perm})


def _slice(low: Lowering, call: Call) -> None:
    x = operand(call)
    axis = axis_of(option(call, "dim", 0), len(low.shape(x)))
    start, end = option(call, "start", None), option(call, "end", None)
    first, last = (0 if start is None else low.size(start), _END if end is None else low.size(end))
    step = low.size(option(call, "step", 1))
    if first == 0 and last >= low.shape(x)[axis] and step == 1:
        low.same(call, x)
        return
    numbers = (("starts", first), ("ends", last), ("axes", axis), ("steps", step))
    low.emit(call, "Slice", [low.value(x), *(low.constant(call, word, [n]) for word, n in numbers)])


def _select(low: Lowering, call: Call) -> None:
    x = operand(call)
    axis = axis_of(option(call, "dim", 0), len(low.shape(x)))
    index = low.constant(call, "index", axis_of(call.arguments.get("index"), low.shape(x)[axis]))
    low.emit(call, "Gather", [low.value(x), index], {"axis": axis})


def _split(low: Lowering, call: Call) -> None:
    x = operand(call)
    axis = axis_of(option(call, "dim", 0), len(low.shape(x)))
    size = low.shape(x)[axis]
    if "split_sizes" in call.arguments:
        parts = list(low.sizes(call, "split_sizes"))
    else:
        chunks = low.size(option(call, "chunks", 1))
        step = low.size(option(call, "split_size", -(-size // max(1, chunks))))
        if step < 1:
            raise ValueError(f"a part must have at least one value, not {step}")
        parts = [min(step, size - at) for at in range(0, size, step)]
    operands = [low.value(x), low.constant(call, "sizes", parts)]
    low.emit(call, "Split", operands, {"axis": axis}, outputs=len(parts))


def _pad(low: Lowering, call: Call) -> None:
    x = operand(call)
    rank = len(low.shape(x))
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    mode = option(call, "mode", "constant")
    if mode not in modes:
        raise ValueError(f"a pad's mode must be one of {', '.join(modes)}, not {mode!r:.40}")
    given = low.sizes(call, "pad")
    if len(given) % 2 or len(given) > 2 * rank:
        raise ValueError(f"pad must be two numbers an axis, not {given!s:.60}")
    before, after = [0] * rank, [0] * rank
    for i in range(len(given) // 2):  # the last axis comes first
        before[rank - 1 - i], after[rank - 1 - i] = given[2 * i], given[2 * i + 1]
    value = 0.0 if option(call, "value", None) is None else number(call, "value", 0.0)
    operands = [low.value(x), low.constant(call, "pads", [*before, *after])]
    if mode == "constant":
        operands.append(low.constant(call, "value", value, low.dtype(x)))
    low.emit(call, "Pad", operands, {"mode": modes[mode]})


def _upsample(low: Lowering, call: Call) -> None:
    x = operand(call)
    shape = low.shape(x)
    inner = len(shape) - 2
    factors = call.arguments.get("scale_factors")
    if factors is None:
        factors = [
            f for key in ("scales", "scales_h", "scales_w") if (f := call.arguments.get(key)) is not None
        ]
    if factors:
        if len(factors) != inner or any(
            isinstance(f, bool) or not isinstance(f, int | float) for f in factors
        ):
            raise ValueError(f"scale factors must be {inner} numbers, not {factors!r:.60}")
        scales = low.constant(call, "scales", [1.0, 1.0, *factors], np.float32)
        operands = [low.value(x), "", scales]
    else:
        sizes = low.constant(call, "sizes", [*shape[:2], *low.sizes(call, "output_size", inner)])
        operands = [low.value(x), "", "", sizes]
    attributes = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    low.emit(call, "Resize", operands, attributes)


def _dropout(low: Lowering, call: Call) -> None:
    x = operand(call)
    if call.arguments.get("train") is not False:
        raise ValueError("its dropout is in training: export it after .eval()")
    ratio = low.constant(call, "ratio", number(call, "p", 0.5), np.float32)
    low.emit(call, "Dropout", [low.value(x), ratio])


def _channel_shuffle(low: Lowering, call: Call) -> None:
    x = operand(call)
    shape = low.shape(x)
    groups = low.size(option(call, "groups", 1))
    if len(shape) < 3 or groups < 1 or shape[1] % groups:
        raise ValueError(f"{groups} groups don't divide the channels of {shape}")
    apart = low.constant(call, "apart", [shape[0], groups, shape[1] // groups, *shape[2:]])
    split = low.emit(call, "Reshape", [low.value(x), apart], {"allowzero": 1}, step="split")
    perm = (0, 2, 1, *range(3, len(shape) + 1))
    swapped = low.emit(call, "Transpose", [split], {"perm": perm}, step="swapped")
    low.emit(call, "Reshape", [swapped, low.constant(call, "shape", shape)], {"allowzero": 1})


def _same(low: Lowering, call: Call) -> None:
    x = operand(call)
    made = low.declared_dtype(call.outputs[0]) if call.outputs else None
    if made != low.dtype(x):
        raise ValueError(f"a change of type from {low.dtype(x)} to {made} is not supported")
    low.same(call, x)


def _nothing(low: Lowering, call: Call) -> None:
    """An assertion of torch's own, which the importer's checks stand for."""


def _size_of(low: Lowering, call: Call) -> None:
    shape = low.shape(operand(call))
    low.set_size(call.outputs[0], shape[axis_of(call.arguments.get("dim"), len(shape))])


MOVES: Mapping[str, tuple[str, Lower]] = {
    "cat.default": ("Concat", _concat),
    **dict.fromkeys(("view.default", "reshape.default", "_unsafe_view.default"), ("Reshape", _reshape)),
    "flatten.using_ints": ("Flatten", _flatten),
    **dict.fromkeys(("squeeze.default", "squeeze.dim", "squeeze.dims"), ("Reshape", _squeeze)),
    "unsqueeze.default": ("Reshape", _unsqueeze),
    **dict.fromkeys(("permute.default", "transpose.int", "t.default"), ("Transpose", _permute)),
    "slice.Tensor": ("Slice", _slice),
    "select.int": ("Gather", _select),
    **dict.fromkeys(("chunk.default", "split.Tensor", "split_with_sizes.default"), ("Split", _split)),
    **dict.fromkeys(("pad.default", "constant_pad_nd.default"), ("Pad", _pad)),
    **dict.fromkeys(
        (
            "upsample_nearest1d.vec",
            "upsample_nearest2d.vec",
            "upsample_nearest1d.default",
            "upsample_nearest2d.default",
        ),
        ("Resize", _upsample),
    ),
    **dict.fromkeys(("dropout.default", "feature_dropout.default"), ("Dropout", _dropout)),
    "channel_shuffle.default": ("Transpose", _channel_shuffle),
    **dict.fromkeys(
        (
            "contiguous.default",
            "clone.default",
            "detach.default",
            "alias.default",
            "lift_fresh_copy.default",
            "to.dtype",
        ),
        ("", _same),
    ),
    "_assert_tensor_metadata.default": ("", _nothing),
    "sym_size.int": ("", _size_of),
}
"""Of `torch_operators.OPERATORS` those that compute nothing."""
