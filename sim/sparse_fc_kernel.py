"""The kernel of a sparse layer over PEs with queues: cycle by cycle, who works, who waits, who is full."""

from __future__ import annotations

from typing import Any

from ..models.jit import njit

__all__ = ["PE_CYCLES", "run_queues"]

PE_CYCLES = ("entries", "empty", "starved", "finished")
"""Columns of `spent`: cycles with an entry; with a column that has none; without an activation in the queue
while more are to come; after the last one."""
_ENTRIES, _EMPTY, _STARVED, _FINISHED = range(4)


@njit
def run_queues(counts: Any, depth: int, spent: Any, state: Any) -> tuple[int, int]:
    """(cycles, cycles in which a full queue held the broadcast up).

    In each cycle the next activation goes to all queues, if each has had room when the cycle began; it is
    seen there in the next cycle. A PE that is done with an activation takes the next from its queue and works
    on its first entry in the same cycle; a column without entries takes one cycle too.

    Args:
        counts: int64 (activations, PEs): entries of each PE's part of the activation's column.
        depth: activations that a queue holds, besides the one at work.
        spent: int64 (PEs, len(PE_CYCLES)), zeros; filled.
        state: int64 (PEs, 2): activations taken, and entries left of the last one; zeros.
    """
    activations, pes = counts.shape
    sent = 0
    cycles = 0
    held_up = 0
    done = 0
    while done < pes and activations:
        slowest = activations
        for p in range(pes):
            slowest = min(slowest, state[p, 0])
        send = sent < activations and sent - slowest < depth
        if sent < activations and not send:
            held_up += 1
        done = 0
        for p in range(pes):
            if state[p, 1] == 0 and state[p, 0] < sent:
                left = counts[state[p, 0], p]
                state[p, 0] += 1
                if left == 0:
                    spent[p, _EMPTY] += 1
                else:
                    spent[p, _ENTRIES] += 1
                    state[p, 1] = left - 1
            elif state[p, 1] > 0:
                spent[p, _ENTRIES] += 1
                state[p, 1] -= 1
            elif state[p, 0] < activations:
                spent[p, _STARVED] += 1
            else:
                spent[p, _FINISHED] += 1
            if state[p, 0] == activations and state[p, 1] == 0:
                done += 1
        if send:
            sent += 1
        cycles += 1
    return cycles, held_up
