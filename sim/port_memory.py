"""A core machine's DRAM as its memory port sees it: for the cycle model's kernel and for the RTL's bench.

Both put the same requests in the same order to the same functions, so they get the same cycles.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..mapper.machine import CROSSING_CYCLES, PROGRAM_BASE, Machine, MemoryTiming
from .dram import Channel, mapping_table, new_channel
from .dram_kernel import COUNTS, finish
from .dram_part import load_dram_part
from .port_kernel import PORT, read_ready, write_burst

__all__ = ["PortMemory", "commands_given", "port_channel"]

_CLOCK_TOLERANCE = 0.05
_ARRAYS = ("constraints", "banks", "groups", "ranks", "refresh", "counts")


def port_channel(machine: Machine, memory: MemoryTiming, *, base: int = PROGRAM_BASE) -> Any:
    """The kernels' `channel` of a memory, its state as before the first request.

    Without a DRAM part the arrays are there, too, and never used.

    Raises:
        ValueError: the part is unknown, or the ratio of clocks is not that of the part and the machine.
    """
    part = load_dram_part(memory.dram or "DDR4-2400")
    if memory.dram:
        wanted = 1e9 / part.tck / machine.clock_hz
        ratio = memory.dram_cycles / memory.core_cycles
        if not abs(ratio / wanted - 1) <= _CLOCK_TOLERANCE:
            raise ValueError(
                f"memory.dram_cycles / memory.core_cycles must be within {_CLOCK_TOLERANCE:.0%} of "
                f"{wanted:.4g}, the clock of {part.name} over clock_hz, not {memory.dram_cycles} / "
                f"{memory.core_cycles}"
            )
    channel: Channel = new_channel(part)
    values = {
        "dram": int(bool(memory.dram)),
        "dram_cycles": memory.dram_cycles,
        "core_cycles": memory.core_cycles,
        "crossing": CROSSING_CYCLES,
        "base": base,
        "bus_bytes": machine.bus_bytes,
        "first": -1,
    }
    port = np.array([values[name] for name in PORT], np.int64)
    return (port, *channel.arrays, np.zeros(2, np.int64), mapping_table(part))


def commands_given(channel: Any, cycle: int) -> dict[str, int]:
    """What a channel has counted up to a core cycle, by the names of COUNTS."""
    port = dict(zip(PORT, channel[0].tolist(), strict=True))
    if port["first"] >= 0:
        end = -(-(cycle - port["first"]) * port["dram_cycles"] // port["core_cycles"])
        finish(channel[1 + _ARRAYS.index("ranks")], channel[1 + _ARRAYS.index("counts")], end)
    return dict(zip(COUNTS, channel[1 + _ARRAYS.index("counts")].tolist(), strict=True))


class PortMemory:
    """The memory that a bench asks: when a burst's beats may come, when a write is answered.

    Cycles are the core's, in any count that does not stop between requests.
    """

    def __init__(self, machine: Machine, memory: MemoryTiming | None = None) -> None:
        memory = machine.memory if memory is None else memory
        if not memory.dram:
            raise ValueError("memory.dram must name a part: a memory without one needs no PortMemory")
        self._bus_bytes = machine.bus_bytes
        self._channel = port_channel(machine, memory)

    def read(self, cycle: int, address: int, beats: int) -> list[int]:
        """The first cycle in which each beat may come of a burst whose address was taken in `cycle`."""
        ready = np.empty(beats, np.int64)
        read_ready(self._channel, cycle, address // self._bus_bytes, beats, ready)
        return [int(at) for at in ready]

    def write(self, cycle: int, address: int, beats: int) -> int:
        """The first cycle in which a burst may be answered whose last data were taken in `cycle`."""
        return int(write_burst(self._channel, cycle, address // self._bus_bytes, beats))
