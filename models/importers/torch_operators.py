"""From torch's operators to ONNX's: one function a kind, and the table of what is accepted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Node, Value
from ..graph.shapes import ShapeTracker
from .torch_archive import Call, Program, Ref, SizeRef

__all__ = ["OPERATORS", "Lowering"]

_END = (1 << 63) - 1
"""What a slice without an end has."""


class Lowering:
    """The nodes of a program, call by call.

    Raises:
        ValueError: from `add`, of an operator or option that isn't accepted; names the call.
    """

    def __init__(self, program: Program) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._program = program
        self._sizes: dict[str, int] = {}
        self._tracker = ShapeTracker()
        for value in program.inputs:
            self._tracker.add_value(value)
        self._now = {value.name: value.name for value in program.inputs}
        """The value that a name of the program stands for."""
        self._memory = dict(self._now)
        """Names that are views of one tensor, by the first of them: what writes to one changes all."""
        self._stale: set[str] = set()
        self._names: set[str] = set()

    def add(self, call: Call) -> None:
        """Nothing; adds the nodes of one call."""
        try:
            self._add(call)
        except ValueError as fault:
            raise ValueError(f"call {call.name!r:.80}: {fault}") from None

    def _add(self, call: Call) -> None:
        prefix, _, operator = call.target.partition("torch.ops.aten.")
        word, _, overload = operator.partition(".")
        if prefix or not operator:
            raise ValueError(f"the operator {call.target!r:.80} is none of torch's own (aten)")
        in_place = word.endswith("_") and not word.endswith("__")
        key = f"{word.rstrip('_')}.{overload}" if in_place else operator
        if key not in OPERATORS:
            raise ValueError(f"the operator aten.{operator:.80} is not supported")
        source = call.arguments.get("self", call.arguments.get("input"))
        OPERATORS[key][1](self, call)
        if key in _VIEWS and isinstance(source, Ref):
            for name in call.outputs:
                self._memory[name] = self._memory.get(source.name, source.name)
        if in_place and isinstance(source, Ref):
            self._written(source.name, call.outputs[0])

    def _written(self, name: str, made: str) -> None:
        """Nothing; a call wrote over a tensor: its name means what was made, its views mean nothing."""
        memory = self._memory.get(name, name)
        if memory in self._program.constants:
            raise ValueError(f"it changes the program's state {memory!r:.80}: export it after .eval()")
        self._stale |= {view for view, first in self._memory.items() if first == memory} - {name}
        self._stale.discard(made)
        self._now[name] = self._now[made]
        self._memory[name] = self._memory[made] = memory

    # What operators ask for and do

    def shape(self, ref: Ref) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._tracker.values[self.value(ref)].shape

    def dtype(self, ref: Ref) -> np.dtype[Any]:
        """The type of a tensor."""
        return self._tracker.values[self.value(ref)].dtype

    def declared_dtype(self, name: str) -> np.dtype[Any] | None:
        """The type that the file declares of what a call makes; None where NumPy lacks it."""
        return self._program.dtypes.get(name)

    @property
    def values(self) -> dict[str, Value]:
        """Every value so far, with its shape."""
        return self._tracker.values

    def value(self, ref: Any) -> str:
        """The graph's name of a tensor that a call takes; '' for None."""
        if ref is None:
            return ""
        if not isinstance(ref, Ref):
            raise ValueError(f"an operand must be a tensor, not {ref!r:.40}")
        if ref.name in self._stale:
            raise ValueError(f"{ref.name!r:.80} is a view of a tensor that an operator wrote over")
        if ref.name in self._program.constants:
            name, values = self._program.constants[ref.name]
            if name not in self.constants:
                self._add_constant(name, values)
            return name
        if ref.name not in self._now:
            raise ValueError(f"its operand {ref.name!r:.80} is made by no call before it")
        return self._now[ref.name]

    def constant(self, call: Call, word: str, values: Any, dtype: Any = np.int64) -> str:
        """A new constant of a call."""
        name = f"{call.name}.{word}"
        self._add_constant(name, np.asarray(values, dtype))
        return name

    def size(self, value: Any) -> int:
        """A size that a call takes, computed where the program computes it."""
        if isinstance(value, SizeRef):
            if value.name not in self._sizes:
                raise ValueError(f"the size {value.name!r:.80} depends on the input")
            return self._sizes[value.name]
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"a size must be an integer, not {value!r:.40}")
        return value

    def sizes(self, call: Call, key: str, rank: int | None = None, default: Any = None) -> tuple[int, ...]:
        """A list of sizes; one alone stands for `rank` of them."""
        value = call.arguments.get(key, default)
        found = tuple(self.size(n) for n in (value if isinstance(value, list | tuple) else [value]))
        if rank is not None and len(found) == 1:
            found *= rank
        if rank is not None and len(found) != rank:
            raise ValueError(f"{key} must be {rank} integers, not {found}")
        return found

    def set_size(self, name: str, size: int) -> None:
        """Nothing; a call computed a size."""
        self._sizes[name] = size

    def same(self, call: Call, ref: Any) -> None:
        """Nothing; a call's result is its operand."""
        self._now[call.outputs[0]] = self.value(ref)

    def emit(
        self,
        call: Call,
        op: str,
        operands: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
        *,
        step: str = "",
        outputs: int = 1,
    ) -> str:
        """Adds a node; returns its first result, which is the call's own unless it is a `step` on the way."""
        made = tuple(f"{call.name}.{step}" if step else name for name in call.outputs[:outputs])
        if len(made) != outputs or "" in made:
            raise ValueError(f"it must make {outputs} tensors")
        operands = tuple(operands)
        while operands and not operands[-1]:
            operands = operands[:-1]
        weight = operands[1] if op in ("Conv", "Gemm", "BatchNormalization", "PRelu") else ""
        # A layer is called as its module is.
        layer = weight.removesuffix(".weight") if weight.endswith(".weight") else ""
        name = made[0] if not layer or layer in self._names else layer
        self._names.add(name)
        node = Node(op=op, name=name, inputs=operands, outputs=made, attributes=dict(attributes or {}))
        for value in made:
            self._check_new(value)
            self._now[value] = value
        self.nodes.append(node)
        self._tracker.add_node(node)
        return made[0]

    def _add_constant(self, name: str, values: NDArray[Any]) -> None:
        self._check_new(name)
        self.constants[name] = values
        self._tracker.add_value(Value(name=name, shape=values.shape, dtype=values.dtype), values)

    def _check_new(self, name: str) -> None:
        if name in self._tracker.values:
            raise ValueError(f"the name {name!r:.80} stands twice")


_Lower = Callable[[Lowering, Call], None]


def _x(call: Call) -> Ref:
    ref = call.arguments.get("self", call.arguments.get("input"))
    if not isinstance(ref, Ref):
        raise ValueError("its operand must be a tensor")
    return ref


def _option(call: Call, key: str, default: Any) -> Any:
    value = call.arguments.get(key, default)
    if isinstance(value, float) and not math.isfinite(value) and key not in ("min", "max"):
        raise ValueError(f"{key} must be finite, not {value}")
    return value


def _number(call: Call, key: str, default: float) -> float:
    value = _option(call, key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} must be a number, not {value!r:.40}")
    return float(value)


def _axis(value: Any, rank: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -rank <= value < rank:
        raise ValueError(f"axis {value!r:.40} lies outside a tensor of {rank} axes")
    return value % rank


def _refuse(call: Call, **expected: Any) -> None:
    """Nothing; raises ValueError where an option is not as expected."""
    for key, wanted in expected.items():
        if _option(call, key, wanted) != wanted:
            raise ValueError(f"{key} must be {wanted}, not {call.arguments[key]!r:.40}")


def _conv(low: Lowering, call: Call) -> None:
    weight = call.arguments.get("weight")
    if not isinstance(weight, Ref) or not 3 <= len(low.shape(weight)) <= 4:
        raise ValueError("convolutions of one or two axes are supported")
    _refuse(call, transposed=False)
    kernel = low.shape(weight)[2:]
    rank = len(kernel)
    strides, dilations = low.sizes(call, "stride", rank, 1), low.sizes(call, "dilation", rank, 1)
    padding = _option(call, "padding", 0)
    if padding == "same":
        around = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        pads = (*(n // 2 for n in around), *(n - n // 2 for n in around))
    else:
        pads = ((0,) * rank if padding == "valid" else low.sizes(call, "padding", rank, 0)) * 2
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "group": low.size(_option(call, "groups", 1)),
    }
    operands = [low.value(_x(call)), low.value(weight), low.value(call.arguments.get("bias"))]
    low.emit(call, "Conv", operands, attributes)


def _linear(low: Lowering, call: Call) -> None:
    x, weight, bias = _x(call), call.arguments.get("weight"), call.arguments.get("bias")
    operands = [low.value(x), low.value(weight)]
    if len(low.shape(x)) == 2:
        low.emit(call, "Gemm", [*operands, low.value(bias)], {"transB": 1})
        return
    turned = low.emit(call, "Transpose", operands[1:], {"perm": (1, 0)}, step="turned")
    if bias is None:
        low.emit(call, "MatMul", [operands[0], turned])
        return
    product = low.emit(call, "MatMul", [operands[0], turned], step="product")
    low.emit(call, "Add", [product, low.value(bias)])


def _addmm(low: Lowering, call: Call) -> None:
    operands = [low.value(call.arguments.get(key)) for key in ("mat1", "mat2", "self")]
    low.emit(call, "Gemm", operands, {key: _number(call, key, 1.0) for key in ("alpha", "beta")})


def _matmul(low: Lowering, call: Call) -> None:
    other = call.arguments.get("other", call.arguments.get("mat2"))
    low.emit(call, "MatMul", [low.value(_x(call)), low.value(other)])


def _batch_norm(low: Lowering, call: Call) -> None:
    if _option(call, "training", False) is not False:
        raise ValueError("its batch norm is in training: export it after .eval()")
    x = _x(call)
    count = low.shape(x)[1]
    names = []
    for key, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", None), ("running_var", None)):
        ref = call.arguments.get(key)
        if ref is None and value is None:
            raise ValueError("a batch norm without running statistics is not supported")
        names.append(
            low.constant(call, key, np.full(count, value), low.dtype(x)) if ref is None else low.value(ref)
        )
    attributes = {"epsilon": _number(call, "eps", 1e-5)}
    low.emit(call, "BatchNormalization", [low.value(x), *names], attributes)


def _unary(op: str, **constant: Any) -> _Lower:
    def lower(low: Lowering, call: Call) -> None:
        low.emit(call, op, [low.value(_x(call))], constant)

    return lower


def _leaky(low: Lowering, call: Call) -> None:
    low.emit(call, "LeakyRelu", [low.value(_x(call))], {"alpha": _number(call, "negative_slope", 0.01)})


def _prelu(low: Lowering, call: Call) -> None:
    x, weight = _x(call), call.arguments.get("weight")
    slope = low.value(weight)
    if isinstance(weight, Ref) and (inner := len(low.shape(x)) - 2) > 0 and low.shape(weight) != (1,):
        # One slope a channel stands at axis 1, where ONNX aligns at the last.
        axes = low.constant(call, "axes", range(1, inner + 1))
        slope = low.emit(call, "Unsqueeze", [slope, axes], step="slope")
    low.emit(call, "PRelu", [low.value(x), slope])


def _clip(low_key: str, high_key: str, low_default: Any, high_default: Any) -> _Lower:
    def lower(low: Lowering, call: Call) -> None:
        x = _x(call)
        bounds = []
        for word, key, default in (("low", low_key, low_default), ("high", high_key, high_default)):
            bound = call.arguments.get(key, default) if key else default
            if bound is None:
                bounds.append("")
            elif isinstance(bound, bool) or not isinstance(bound, int | float) or math.isnan(bound):
                raise ValueError(f"a bound must be a number, not {bound!r:.40}")
            else:
                bounds.append(low.constant(call, word, bound, low.dtype(x)))
        low.emit(call, "Clip", [low.value(x), *bounds])

    return lower


def _silu(low: Lowering, call: Call) -> None:
    x = low.value(_x(call))
    low.emit(call, "Mul", [x, low.emit(call, "Sigmoid", [x], step="gate")])


def _softmax(op: str) -> _Lower:
    def lower(low: Lowering, call: Call) -> None:
        x = _x(call)
        _refuse(call, dtype=None, half_to_float=False)
        axis = _axis(call.arguments.get("dim"), len(low.shape(x)))
        low.emit(call, op, [low.value(x)], {"axis": axis})

    return lower


def _pool(op: str) -> _Lower:
    def lower(low: Lowering, call: Call) -> None:
        x = _x(call)
        rank = len(low.shape(x)) - 2
        kernel = low.sizes(call, "kernel_size", rank)
        attributes: dict[str, Any] = {
            "kernel_shape": kernel,
            "strides": low.sizes(call, "stride", rank) if call.arguments.get("stride") else kernel,
            "pads": low.sizes(call, "padding", rank, 0) * 2,
            "ceil_mode": int(_option(call, "ceil_mode", False) is True),
        }
        if op == "MaxPool":
            attributes["dilations"] = low.sizes(call, "dilation", rank, 1)
        else:
            _refuse(call, divisor_override=None)
            attributes["count_include_pad"] = int(_option(call, "count_include_pad", True) is True)
        low.emit(call, op, [low.value(x)], attributes)

    return lower


def _adaptive(op: str) -> _Lower:
    def lower(low: Lowering, call: Call) -> None:
        x = _x(call)
        inner = low.shape(x)[2:]
        wanted = low.sizes(call, "output_size", len(inner))
        if all(n == 1 for n in wanted):
            low.emit(call, f"Global{op}", [low.value(x)])
            return
        if any(n < 1 or size % n for size, n in zip(inner, wanted, strict=True)):
            raise ValueError(f"an adaptive pool from {inner} to {wanted} has windows of different sizes")
        kernel = tuple(size // n for size, n in zip(inner, wanted, strict=True))
        low.emit(call, op, [low.value(x)], {"kernel_shape": kernel, "strides": kernel})

    return lower


def _reduce(op: str) -> _Lower:
    def lower(low: Lowering, call: Call) -> None:
        x = _x(call)
        rank = len(low.shape(x))
        _refuse(call, dtype=None)
        keep = _option(call, "keepdim", False) is True
        axes = tuple(sorted({_axis(n, rank) for n in low.sizes(call, "dim")}))
        if op == "ReduceMean" and rank > 2 and axes == tuple(range(2, rank)):
            if keep:
                low.emit(call, "GlobalAveragePool", [low.value(x)])
            else:
                pooled = low.emit(call, "GlobalAveragePool", [low.value(x)], step="pooled")
                low.emit(call, "Flatten", [pooled], {"axis": 1})
            return
        low.emit(call, op, [low.value(x), low.constant(call, "axes", axes)], {"keepdims": int(keep)})

    return lower


def _binary(op: str, *, reverse: bool = False) -> _Lower:
    def lower(low: Lowering, call: Call) -> None:
        x, other = _x(call), call.arguments.get("other")
        _refuse(call, alpha=1, rounding_mode=None)
        if isinstance(other, Ref):
            right = low.value(other)
        elif isinstance(other, bool) or not isinstance(other, int | float):
            raise ValueError(f"an operand must be a tensor or a number, not {other!r:.40}")
        elif low.dtype(x).kind != "f":
            raise ValueError(f"a number beside a tensor of {low.dtype(x)} is not supported")
        else:
            right = low.constant(call, "number", _number(call, "other", 0), low.dtype(x))
        operands = [low.value(x), right]
        low.emit(call, op, operands[::-1] if reverse else operands)

    return lower


def _concat(low: Lowering, call: Call) -> None:
    tensors = call.arguments.get("tensors")
    if not isinstance(tensors, list) or not tensors:
        raise ValueError("it must take tensors")
    axis = _axis(_option(call, "dim", 0), len(low.shape(tensors[0])))
    low.emit(call, "Concat", [low.value(ref) for ref in tensors], {"axis": axis})


def _reshape(low: Lowering, call: Call) -> None:
    x = _x(call)
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
    x = _x(call)
    shape = low.shape(x)
    first = _axis(_option(call, "start_dim", 0), len(shape))
    last = _axis(_option(call, "end_dim", -1), len(shape))
    if first > last:
        raise ValueError(f"it must flatten axes in order, not {first} to {last}")
    _to_shape(low, call, x, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


def _squeeze(low: Lowering, call: Call) -> None:
    x = _x(call)
    shape = low.shape(x)
    dims = low.sizes(call, "dim", None, list(range(len(shape))))
    gone = {_axis(n, len(shape)) for n in dims}
    _to_shape(low, call, x, [n for i, n in enumerate(shape) if i not in gone or n != 1])


def _unsqueeze(low: Lowering, call: Call) -> None:
    x = _x(call)
    shape = list(low.shape(x))
    shape.insert(_axis(call.arguments.get("dim"), len(shape) + 1), 1)
    _to_shape(low, call, x, shape)


def _permute(low: Lowering, call: Call) -> None:
    x = _x(call)
    rank = len(low.shape(x))
    if "dims" in call.arguments:
        perm = tuple(_axis(n, rank) for n in low.sizes(call, "dims"))
    else:
        order = list(range(rank))
        left, right = (
            _axis(_option(call, key, default), rank) for key, default in (("dim0", 0), ("dim1", -1))
        )
        order[left], order[right] = order[right], order[left]
        perm = tuple(order)
    low.emit(call, "Transpose", [low.value(x)], {"perm": perm})


def _slice(low: Lowering, call: Call) -> None:
    x = _x(call)
    axis = _axis(_option(call, "dim", 0), len(low.shape(x)))
    start, end = _option(call, "start", None), _option(call, "end", None)
    first, last = (0 if start is None else low.size(start), _END if end is None else low.size(end))
    step = low.size(_option(call, "step", 1))
    if first == 0 and last >= low.shape(x)[axis] and step == 1:
        low.same(call, x)
        return
    numbers = (("starts", first), ("ends", last), ("axes", axis), ("steps", step))
    low.emit(call, "Slice", [low.value(x), *(low.constant(call, word, [n]) for word, n in numbers)])


def _select(low: Lowering, call: Call) -> None:
    x = _x(call)
    axis = _axis(_option(call, "dim", 0), len(low.shape(x)))
    index = low.constant(call, "index", _axis(call.arguments.get("index"), low.shape(x)[axis]))
    low.emit(call, "Gather", [low.value(x), index], {"axis": axis})


def _split(low: Lowering, call: Call) -> None:
    x = _x(call)
    axis = _axis(_option(call, "dim", 0), len(low.shape(x)))
    size = low.shape(x)[axis]
    if "split_sizes" in call.arguments:
        parts = list(low.sizes(call, "split_sizes"))
    else:
        chunks = low.size(_option(call, "chunks", 1))
        step = low.size(_option(call, "split_size", -(-size // max(1, chunks))))
        if step < 1:
            raise ValueError(f"a part must have at least one value, not {step}")
        parts = [min(step, size - at) for at in range(0, size, step)]
    operands = [low.value(x), low.constant(call, "sizes", parts)]
    low.emit(call, "Split", operands, {"axis": axis}, outputs=len(parts))


def _pad(low: Lowering, call: Call) -> None:
    x = _x(call)
    rank = len(low.shape(x))
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    mode = _option(call, "mode", "constant")
    if mode not in modes:
        raise ValueError(f"a pad's mode must be one of {', '.join(modes)}, not {mode!r:.40}")
    given = low.sizes(call, "pad")
    if len(given) % 2 or len(given) > 2 * rank:
        raise ValueError(f"pad must be two numbers an axis, not {given!s:.60}")
    before, after = [0] * rank, [0] * rank
    for i in range(len(given) // 2):  # the last axis comes first
        before[rank - 1 - i], after[rank - 1 - i] = given[2 * i], given[2 * i + 1]
    value = 0.0 if _option(call, "value", None) is None else _number(call, "value", 0.0)
    operands = [low.value(x), low.constant(call, "pads", [*before, *after])]
    if mode == "constant":
        operands.append(low.constant(call, "value", value, low.dtype(x)))
    low.emit(call, "Pad", operands, {"mode": modes[mode]})


def _upsample(low: Lowering, call: Call) -> None:
    x = _x(call)
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
    x = _x(call)
    if call.arguments.get("train") is not False:
        raise ValueError("its dropout is in training: export it after .eval()")
    ratio = low.constant(call, "ratio", _number(call, "p", 0.5), np.float32)
    low.emit(call, "Dropout", [low.value(x), ratio])


def _channel_shuffle(low: Lowering, call: Call) -> None:
    x = _x(call)
    shape = low.shape(x)
    groups = low.size(_option(call, "groups", 1))
    if len(shape) < 3 or groups < 1 or shape[1] % groups:
        raise ValueError(f"{groups} groups don't divide the channels of {shape}")
    apart = low.constant(call, "apart", [shape[0], groups, shape[1] // groups, *shape[2:]])
    split = low.emit(call, "Reshape", [low.value(x), apart], {"allowzero": 1}, step="split")
    perm = (0, 2, 1, *range(3, len(shape) + 1))
    swapped = low.emit(call, "Transpose", [split], {"perm": perm}, step="swapped")
    low.emit(call, "Reshape", [swapped, low.constant(call, "shape", shape)], {"allowzero": 1})


def _same(low: Lowering, call: Call) -> None:
    x = _x(call)
    made = low.declared_dtype(call.outputs[0]) if call.outputs else None
    if made != low.dtype(x):
        raise ValueError(f"a change of type from {low.dtype(x)} to {made} is not supported")
    low.same(call, x)


def _nothing(low: Lowering, call: Call) -> None:
    """An assertion of torch's own, which the importer's checks stand for."""


def _size_of(low: Lowering, call: Call) -> None:
    shape = low.shape(_x(call))
    low.set_size(call.outputs[0], shape[_axis(call.arguments.get("dim"), len(shape))])


OPERATORS: Mapping[str, tuple[str, _Lower]] = {
    **dict.fromkeys(
        ("conv1d.default", "conv1d.padding", "conv2d.default", "conv2d.padding", "convolution.default"),
        ("Conv", _conv),
    ),
    "linear.default": ("Gemm", _linear),
    "addmm.default": ("Gemm", _addmm),
    **dict.fromkeys(("matmul.default", "mm.default"), ("MatMul", _matmul)),
    **dict.fromkeys(
        ("batch_norm.default", "_native_batch_norm_legit_no_training.default"),
        ("BatchNormalization", _batch_norm),
    ),
    "relu.default": ("Relu", _unary("Relu")),
    "relu6.default": ("Clip", _clip("", "", 0.0, 6.0)),
    "clamp.default": ("Clip", _clip("min", "max", None, None)),
    "clip.default": ("Clip", _clip("min", "max", None, None)),
    "clamp_min.default": ("Clip", _clip("min", "", None, None)),
    "clamp_max.default": ("Clip", _clip("", "max", None, None)),
    "hardtanh.default": ("Clip", _clip("min_val", "max_val", -1.0, 1.0)),
    "leaky_relu.default": ("LeakyRelu", _leaky),
    "prelu.default": ("PRelu", _prelu),
    "sigmoid.default": ("Sigmoid", _unary("Sigmoid")),
    "tanh.default": ("Tanh", _unary("Tanh")),
    "hardswish.default": ("HardSwish", _unary("HardSwish")),
    "hardsigmoid.default": ("HardSigmoid", _unary("HardSigmoid", alpha=1 / 6, beta=0.5)),
    "silu.default": ("Mul", _silu),
    **dict.fromkeys(("softmax.int", "_softmax.default"), ("Softmax", _softmax("Softmax"))),
    **dict.fromkeys(("log_softmax.int", "_log_softmax.default"), ("LogSoftmax", _softmax("LogSoftmax"))),
    **dict.fromkeys(
        ("max_pool1d.default", "max_pool2d.default", "max_pool2d_with_indices.default"),
        ("MaxPool", _pool("MaxPool")),
    ),
    **dict.fromkeys(("avg_pool1d.default", "avg_pool2d.default"), ("AveragePool", _pool("AveragePool"))),
    **dict.fromkeys(
        ("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default"),
        ("AveragePool", _adaptive("AveragePool")),
    ),
    **dict.fromkeys(
        ("adaptive_max_pool1d.default", "adaptive_max_pool2d.default"), ("MaxPool", _adaptive("MaxPool"))
    ),
    "mean.dim": ("ReduceMean", _reduce("ReduceMean")),
    "sum.dim_IntList": ("ReduceSum", _reduce("ReduceSum")),
    **dict.fromkeys(("add.Tensor", "add.Scalar"), ("Add", _binary("Add"))),
    **dict.fromkeys(("sub.Tensor", "sub.Scalar"), ("Sub", _binary("Sub"))),
    "rsub.Scalar": ("Sub", _binary("Sub", reverse=True)),
    **dict.fromkeys(("mul.Tensor", "mul.Scalar"), ("Mul", _binary("Mul"))),
    **dict.fromkeys(("div.Tensor", "div.Scalar"), ("Div", _binary("Div"))),
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
"""By operator of torch's aten: the ONNX operator that does its work ('' for none), and what makes it."""

_VIEWS = {
    key
    for key, (op, _) in OPERATORS.items()
    if op in ("Reshape", "Flatten", "Transpose", "Slice", "Split", "Dropout")
    or key in ("contiguous.default", "detach.default", "alias.default", "to.dtype")
} - {"channel_shuffle.default"}
"""Operators whose result may be the same memory as their operand."""
