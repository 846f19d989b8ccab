"""What all unit tests share: a unit's ports, one seed a test, the cycle."""

from __future__ import annotations

import functools
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import cocotb
from amaranth.lib.data import StructLayout
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly

SEED = int(Path("seed.txt").read_text())

# Of 1: how often a valid, a ready or a grant is there. A test runs through all of them.
PACES = (1.0, 0.5, 0.15, 0.85)


class Ports:
    """The ports of one unit. A cycle is: drive, `settle`, get, `edge`.

    Driven at the falling edge and read when all has settled, so that nothing hangs on the simulator's
    order of events at the rising edge.
    """

    def __init__(self, dut: Any, unit: str) -> None:
        self._dut = dut
        self._unit = unit
        self._handles: dict[str, Any] = {}
        self._driven: dict[str, int] = {}
        self.cycle = 0

    def _handle(self, name: str) -> Any:
        handle = self._handles.get(name)
        if handle is None:
            handle = self._handles[name] = getattr(self._dut, f"{self._unit}_{name}")
        return handle

    def drive(self, **values: int) -> None:
        for name, value in values.items():
            if self._driven.get(name) != value:
                self._handle(name).value = value
                self._driven[name] = value

    def driven(self, name: str) -> int:
        return self._driven[name]

    def get(self, name: str) -> int:
        return int(self._handle(name).value)

    def many(self, names: Iterable[str]) -> tuple[int, ...]:
        return tuple(self.get(name) for name in names)

    async def settle(self) -> None:
        await ReadOnly()

    async def edge(self) -> None:
        await FallingEdge(self._dut.clk)
        self.cycle += 1

    async def reset(self, **values: int) -> None:
        """Drive all inputs that the test uses, then two cycles of reset."""
        self.drive(**values)
        self._dut.rst.value = 1
        await self.edge()
        await self.edge()
        self._dut.rst.value = 0
        self.cycle = 0


def _built(units: tuple[str, ...]) -> list[str]:
    """Those of `units` that the executable has: all, unless `units.txt` beside the seed names some."""
    chosen = Path("units.txt")
    if not chosen.is_file():
        return list(units)
    names = chosen.read_text(encoding="utf-8").split()
    return [unit for unit in units if unit in names]


def unit_test(*units: str) -> Callable[[Callable[[Ports, random.Random, str], Awaitable[None]]], Any]:
    """A cocotb test for each of `units`: `function(ports, rng, unit)`. A failure tells the seed."""

    def decorate(function: Callable[[Ports, random.Random, str], Awaitable[None]]) -> Any:
        @functools.wraps(function)
        async def run(dut: Any, unit: str) -> None:
            seed = f"{SEED}/{function.__name__}/{unit}"
            Clock(dut.clk, 10, unit="ns").start(start_high=False)
            ports = Ports(dut, unit)
            await FallingEdge(dut.clk)
            try:
                await function(ports, random.Random(seed), unit)
            except AssertionError as fault:
                raise AssertionError(f"seed {seed}, cycle {ports.cycle}: {fault}") from fault

        del run.__wrapped__  # type: ignore[attr-defined]  # cocotb looks at the signature
        return cocotb.test()(cocotb.parametrize(unit=_built(units))(run))

    return decorate


def equal(what: str, came: object, expected: object) -> None:
    """Raise unless equal; pytest's assertions don't reach into the simulator."""
    if came != expected:
        raise AssertionError(f"{what} must be {_shown(expected)}, not {_shown(came)}")


def _shown(value: object) -> str:
    return hex(value) if isinstance(value, int) and not isinstance(value, bool) else repr(value)


def pack(layout: StructLayout, values: Mapping[str, int]) -> int:
    """The word of a layout's fields; of a value that needs more bits, the low ones."""
    return sum((values[name] & ((1 << field.width) - 1)) << field.offset for name, field in layout)


def unpack(layout: StructLayout, word: int) -> dict[str, int]:
    """Unsigned values of a layout's fields."""
    return {str(name): word >> field.offset & ((1 << field.width) - 1) for name, field in layout}


def to_signed(value: int, bits: int) -> int:
    """A two's complement number of `bits` bits."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def chance(rng: random.Random, pace: float) -> int:
    return int(rng.random() < pace)
