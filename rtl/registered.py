"""A unit between registers, so that a placer times all of its paths."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib.wiring import Component, Flow, In, Out

from .verilog import flat_ports

__all__ = ["Registered"]


class Registered(Component):
    """A unit with a register at each port, ports flat by name: one more cycle in, one more out."""

    def __init__(self, unit: Any) -> None:
        self.unit = unit
        self._inputs = [
            "_".join(map(str, path))
            for path, member, _ in unit.signature.flatten(unit)
            if member.flow is Flow.In
        ]
        self._inner = flat_ports(unit)
        super().__init__(
            {
                name: In(len(signal)) if name in self._inputs else Out(len(signal))
                for name, signal in self._inner.items()
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unit = self.unit
        for name, inner in self._inner.items():
            outer: Signal = getattr(self, name)
            pair: tuple[Value, Value] = (inner, outer) if name in self._inputs else (outer, inner)
            m.d.sync += pair[0].eq(pair[1])
        return m
