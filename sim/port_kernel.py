"""The core's memory port in front of a DRAM channel: core cycles in, core cycles out.

A burst at the port is served when its address is taken (a read) or its last data are (a write), one
access after the other for each block of the channel that it touches. The channel's clock runs from the
port's first address on, `dram_cycles` to every `core_cycles`; a request and its answer take `crossing`
core cycles each to change clocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.jit import njit
from .dram_kernel import CONSTRAINTS, serve

__all__ = ["PORT", "access", "read_beats", "read_ready", "write_burst"]

_BURST_BITS = CONSTRAINTS.index("burst_bits")

# Entries of `port`; `first` is the cycle of the port's first address, -1 before it.
PORT = ("dram", "dram_cycles", "core_cycles", "crossing", "base", "bus_bytes", "first")
_DRAM, _FAST, _SLOW, _CROSSING, _BASE, _BUS, _FIRST = range(7)

# Not Python's own, of which each value is a type by itself: `serve` would be compiled for both.
_READS, _WRITES = np.bool_(False), np.bool_(True)


@njit
def access(channel: Any, block: int, write: bool, cycle: int) -> int:
    """The core cycle from which an access that the port makes in `cycle` is answered."""
    port, part, banks, groups, ranks, refresh, counts, bus, mapping = channel
    if port[_FIRST] < 0:
        port[_FIRST] = cycle
    arrives = cycle - port[_FIRST] + port[_CROSSING]
    made = (arrives * port[_FAST] + port[_SLOW] - 1) // port[_SLOW]
    address = block << part[_BURST_BITS]
    answer = serve(part, banks, groups, ranks, refresh, counts, bus, mapping, address, write, made + 1)
    back = (answer * port[_SLOW] + port[_FAST] - 1) // port[_FAST]
    return int(port[_FIRST] + back + port[_CROSSING])


@njit
def read_ready(channel: Any, cycle: int, beat: int, beats: int, ready: Any) -> None:
    """Nothing; `ready`, (beats,), becomes the first cycle in which each beat may be presented.

    Args:
        cycle: of the burst's address handshake.
        beat: the first beat's address over the bus's bytes.
    """
    port, part = channel[0], channel[1]
    block, answer = -1, 0
    for k in range(beats):
        of_beat = (beat + k) * port[_BUS] >> part[_BURST_BITS]
        if of_beat != block:
            block = of_beat
            answer = access(channel, block, _READS, cycle)
        ready[k] = answer


@njit
def read_beats(channel: Any, cycle: int, beat: int, beats: int, head: int, read: Any, last: Any) -> int:
    """The handshake cycle of the last of a burst's R beats, which follow `read`: (last handshake, beats).

    Args:
        cycle: of the address handshake; `beat`: see `read_ready`, from the program's first byte on.
        head: first cycle in which the core takes them.
        last: int64, (n,), filled with the handshake of each `beats / n` beats, or (0,).
    """
    ready = np.empty(beats, np.int64)
    read_ready(channel, cycle, channel[0][_BASE] // channel[0][_BUS] + beat, beats, ready)
    for k in range(beats):
        read[0] = max(ready[k], read[0] + 1, head)
        if last.shape[0]:
            last[k * last.shape[0] // beats] = read[0]
    read[1] += beats
    return int(read[0])


@njit
def write_burst(channel: Any, cycle: int, beat: int, beats: int) -> int:
    """The first cycle in which a burst's B may come, whose last data were taken in `cycle`."""
    port, part = channel[0], channel[1]
    first = beat * port[_BUS] >> part[_BURST_BITS]
    final = ((beat + beats) * port[_BUS] - 1) >> part[_BURST_BITS]
    answer = 0
    for block in range(first, final + 1):
        answer = max(answer, access(channel, block, _WRITES, cycle))
    return answer
