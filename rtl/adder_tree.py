"""Sums of many values as registered, balanced trees."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Shape, Signal, Value

__all__ = ["sum_pipelined"]


def sum_pipelined(m: Module, values: Sequence[Value], *, stages: int, name: str) -> list[Value]:
    """The partial sums of `values` that are left after `stages` registers, a tree's levels spread evenly.

    One value is left, the sum itself, unless `values` are so many that the tree is deeper than the stages:
    then each stage takes several levels.

    Raises:
        ValueError: no value, or no stage.
    """
    if not values or stages < 1:
        raise ValueError(f"a sum needs values and at least one stage, not {len(values)} and {stages}")
    values = list(values)
    levels = (len(values) - 1).bit_length()
    for stage in range(stages):
        for _ in range(levels * (stage + 1) // stages - levels * stage // stages):
            values = _level(values)
        registers = [Signal(_shape(v), name=f"{name}_{stage}_{n}") for n, v in enumerate(values)]
        m.d.sync += [register.eq(value) for register, value in zip(registers, values, strict=True)]
        values = list(registers)
    return values


def _level(values: list[Value]) -> list[Value]:
    pairs = [values[i] + values[i + 1] for i in range(0, len(values) - 1, 2)]
    return pairs + values[len(values) - len(values) % 2 :]


def _shape(value: Value) -> Shape:
    return Value.cast(value).shape()
