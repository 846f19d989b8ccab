"""The nodes of a torch program as they come to be, and what its calls ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Node, Value
from ..graph.shapes import ShapeTracker
from .torch_archive import Call, Program, Ref, SizeRef

__all__ = ["Lower", "Lowering", "axis_of", "expect", "number", "operand", "option"]


class Lowering:
    """The nodes of a program, call by call.

    Raises:
        ValueError: from `add`, of an operator or option that isn't accepted; names the call.
    """

    def __init__(self, program: Program, operators: Mapping[str, tuple[str, Lower]], views: Set[str]) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._program = program
        self._operators, self._views = operators, views
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
        if key not in self._operators:
            raise ValueError(f"the operator aten.{operator:.80} is not supported")
        source = call.arguments.get("self", call.arguments.get("input"))
        self._operators[key][1](self, call)
        if key in self._views and isinstance(source, Ref):
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


Lower = Callable[[Lowering, Call], None]
"""Adds what a call of one operator becomes."""


def operand(call: Call) -> Ref:
    """The tensor that a call works on."""
    ref = call.arguments.get("self", call.arguments.get("input"))
    if not isinstance(ref, Ref):
        raise ValueError("its operand must be a tensor")
    return ref


def option(call: Call, key: str, default: Any) -> Any:
    """An option of a call; ValueError where it is not finite."""
    value = call.arguments.get(key, default)
    if isinstance(value, float) and not math.isfinite(value) and key not in ("min", "max"):
        raise ValueError(f"{key} must be finite, not {value}")
    return value


def number(call: Call, key: str, default: float) -> float:
    """An option that must be a number."""
    value = option(call, key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} must be a number, not {value!r:.40}")
    return float(value)


def axis_of(value: Any, rank: int) -> int:
    """An axis counted from 0; ValueError where a tensor of `rank` axes lacks it."""
    if isinstance(value, bool) or not isinstance(value, int) or not -rank <= value < rank:
        raise ValueError(f"axis {value!r:.40} lies outside a tensor of {rank} axes")
    return value % rank


def expect(call: Call, **expected: Any) -> None:
    """Nothing; raises ValueError where an option is not as expected."""
    for key, wanted in expected.items():
        if option(call, key, wanted) != wanted:
            raise ValueError(f"{key} must be {wanted}, not {call.arguments[key]!r:.40}")
