"""Which buffer slot each tile gets, when it is loaded and when its slot is free again.

A buffer's slots are filled in turn, so the n-th tile of a kind waits for the release of the
(n − slots)-th. Counters only count: the n-th wait must be met by the n-th post, so releases are
posted in the order of the loads.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

__all__ = ["Residency", "TileLoad", "assign_slots"]


@dataclass(slots=True)
class TileLoad:
    """One tile brought into a slot, for the steps `first` … `release`."""

    key: Hashable
    slot: int
    first: int
    """The first step that uses it."""
    release: int
    """The step after which its slot may be overwritten."""
    waits: bool
    """Whether the slot was used before."""
    releases: bool
    """Whether a later load waits for the slot."""
    position: int
    """The step before which (== first) or after which (< first) the load stands in the program."""
    freed: int = -1
    """The step that frees its slot, −1 if the slot was never used; no load stands before it."""


@dataclass(frozen=True, slots=True)
class Residency:
    """The loads of one buffer, in order."""

    loads: list[TileLoad]
    of_step: list[int]
    """For each step, the load that it uses."""


def assign_slots(
    keys: Sequence[Hashable], slots: int, may_release: Sequence[bool] | None = None
) -> Residency:
    """The loads that steps with these tile keys need, with at most `slots` tiles held at once.

    Args:
        keys: each step's tile.
        slots: tiles that the buffer holds.
        may_release: for each step, whether it can post a release; all can by default.
    """
    loads: list[TileLoad] = []
    of_step: list[int] = []
    for step, key in enumerate(keys):
        held = range(max(0, len(loads) - slots), len(loads))
        index = next((i for i in held if loads[i].key == key), None)
        if index is None:
            index = len(loads)
            loads.append(TileLoad(key, index % slots, step, step, index >= slots, False, step))
        loads[index].release = step
        of_step.append(index)
    posted = -1
    for index, load in enumerate(loads):
        load.releases = index + slots < len(loads)
        # A command's mask counts a counter up once, so no two releases share a step.
        release = max(load.release, posted + 1)
        while load.releases and may_release is not None and release < len(keys) and not may_release[release]:
            release += 1
        load.release = posted = release
    for index, load in enumerate(loads):
        load.freed = loads[index - slots].release if load.waits else -1
        after_last = loads[index - 1].first + 1 if index else 0
        # Early enough to use LOAD's idle time, late enough not to hold up what is needed sooner;
        # never before the command that frees the slot, or the program could lock up.
        load.position = min(load.first, max(load.freed, after_last))
    return Residency(loads, of_step)
