"""The kernel of a buffer that keeps the values that entered it last: which accesses it misses."""

from __future__ import annotations

from typing import Any

from ..models.jit import njit

__all__ = ["NEVER", "touch"]

NEVER = -(1 << 62)
"""Of a value that hasn't entered yet."""


@njit
def touch(addresses: Any, entered: Any, inserted: int, capacity: int) -> int:
    """How many addresses a buffer of `capacity` values, first in first out, doesn't hold when they come.

    Args:
        addresses: int32 (cycles, ports) in order of cycle and port, −1 where a port is idle.
        entered: int64 by address: how many values had entered before it did, or NEVER; updated.
        inserted: how many values have entered so far.

    A value leaves when `capacity` others have entered after it, so no queue need be kept.
    """
    misses = 0
    for n in range(addresses.shape[0]):
        for p in range(addresses.shape[1]):
            address = addresses[n, p]
            if address >= 0 and inserted + misses - entered[address] > capacity:
                entered[address] = inserted + misses
                misses += 1
    return misses
