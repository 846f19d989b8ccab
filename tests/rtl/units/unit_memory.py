"""Memory at the units' AXI side: contents that tell addresses apart, and the rules of a burst."""

from __future__ import annotations

import random
from collections.abc import Iterator

from bitwright.mapper.isa import Command
from bitwright.mapper.machine import Machine
from unit_stimulus import equal

PAGE = 4096
_BYTES = random.Random(20240607).randbytes(65521)
"""A prime many, so that an address with a wrong bit shows."""


def byte_at(address: int) -> int:
    return _BYTES[address % len(_BYTES)]


def beat_at(address: int, bus_bytes: int) -> int:
    return int.from_bytes(bytes(byte_at(address + i) for i in range(bus_bytes)), "little")


def check_burst(machine: Machine, address: int, beats: int) -> None:
    """AXI4's rules for a burst, and the core's: cut at multiples of the longest."""
    equal("the address's offset in a beat", address % machine.bus_bytes, 0)
    equal(f"1 to {machine.bus.max_burst} beats", 1 <= beats <= machine.bus.max_burst, True)
    last = address + beats * machine.bus_bytes - 1
    equal("the page of a burst's last byte", last // PAGE, address // PAGE)
    longest = machine.bus.max_burst * machine.bus_bytes
    equal("the block of a burst's last byte", last // longest, address // longest)


def rows_of(command: Command, near: str, near_start: int, far: str) -> Iterator[tuple[int, int]]:
    """(near, far) address of each row of a copy; `near` and `far` are prefixes of the stride fields."""
    for plane in range(command["planes"]):
        for row in range(command["rows"]):
            yield (
                near_start + plane * command[f"{near}_plane"] + row * command[f"{near}_row"],
                command["address"] + plane * command[f"{far}_plane"] + row * command[f"{far}_row"],
            )


def random_address(rng: random.Random, base: int) -> int:
    """An offset from `base` whose bytes lie below 2^31, half of them close before a page's end."""
    if rng.random() < 0.5:
        return rng.randrange(1 << 18) * PAGE + PAGE - rng.randrange(1, 80)
    return rng.randrange(1 << 30)
