"""Sums of many values as registered, balanced trees."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value

__all__ = ["add_levels", "sum_pipelined"]


def sum_pipelined(
    m: Module, values: Sequence[Value], *, stages: int, name: str, carries: Sequence[Value] = ()
) -> Value:
    """The sum of `values` and `carries` after `stages` registers, a tree's levels spread evenly over them.

    Args:
        carries: single bits. Each adder takes one as its carry in, in turn; those too many count as values.

    Raises:
        ValueError: no value, or no stage.
    """
    if not values or stages < 1:
        raise ValueError(f"a sum needs values and at least one stage, not {len(values)} and {stages}")
    values, carries = list(values), list(carries)
    while len(carries) >= len(values):
        values.append(carries.pop())
    levels = (len(values) - 1).bit_length()
    spread = [levels * (stage + 1) // stages - levels * stage // stages for stage in range(stages)]
    (total,), _ = add_levels(m, values, carries, levels=spread, name=name)
    return total


def add_levels(
    m: Module, values: Sequence[Value], carries: Sequence[Value], *, levels: Sequence[int], name: str
) -> tuple[list[Value], list[Value]]:
    """What is left of `values` and `carries`, as `sum_pipelined` takes them, registered after some levels.

    Args:
        levels: of each stage; a register follows.
    """
    values, carries = list(values), list(carries)
    for stage, count in enumerate(levels):
        for _ in range(count):
            values = _level(values, carries)
        values = [_registered(m, value, f"{name}_{stage}_{n}") for n, value in enumerate(values)]
        carries = [_registered(m, bit, f"{name}_carry_{stage}_{n}") for n, bit in enumerate(carries)]
    return values, carries


def _level(values: list[Value], carries: list[Value]) -> list[Value]:
    """The sums of pairs; the carries that they take are used up."""
    sums = []
    for a, b in zip(values[::2], values[1::2], strict=False):
        if carries:
            # A place below the lowest gives the carry: one adder, where a third operand takes synthesis two.
            total = Value.cast(_widened(Const(1, 1), a) + _widened(carries.pop(0), b))
            sums.append(total.shift_right(1))
        else:
            sums.append(a + b)
    return sums + values[len(values) - len(values) % 2 :]


def _widened(low: Value, value: Value) -> Value:
    word = Cat(low, value)
    return word.as_signed() if _shape(value).signed else word


def _registered(m: Module, value: Value, name: str) -> Signal:
    register = Signal(_shape(value), name=name)
    m.d.sync += register.eq(value)
    return register


def _shape(value: Value) -> Shape:
    return Value.cast(value).shape()
