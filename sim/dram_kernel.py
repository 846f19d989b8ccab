"""A DRAM channel's state in arrays: when a command may come next, and what it changes.

A command waits for its bank, its bank group, its rank and, on the data bus, the other ranks. Each
keeps the first cycle in which a command of a kind may come; issuing one moves them on. Requests are
served in the order in which they come (`serve`); scheduling among many waits in dram_scheduler.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.jit import njit

__all__ = [
    "BANK",
    "CONSTRAINTS",
    "COUNTS",
    "GROUP",
    "MAPPING",
    "RANK",
    "REFRESH",
    "closed_loop",
    "finish",
    "issue",
    "locate",
    "ready",
    "refresh_next",
    "refresh_step",
    "serve",
]

_NEVER = 1 << 62

# Entries of `part`: sizes (`burst_bits`: address bits within one access) and, in cycles, how long after
# the first command the second may come.
# `_group`: within the bank group, `_rank`: within the rank, `_other`: in another rank.
CONSTRAINTS = (
    "ranks", "groups", "banks", "burst_bits",
    "act_to_act", "act_to_act_group", "act_to_act_rank", "four_acts", "act_to_column", "act_to_pre",
    "read_to_read_group", "read_to_read_rank", "read_to_read_other", "read_to_write", "read_to_pre",
    "write_to_write_group", "write_to_write_rank", "write_to_write_other",
    "write_to_read_group", "write_to_read_rank", "write_to_read_other", "write_to_pre",
    "pre_to_act", "pre_to_pre", "refresh_to_act", "refresh_interval", "read_delay", "write_delay",
    "closes", "two_buses",
)  # fmt: skip
(
    _RANKS, _GROUPS, _BANKS, _,
    _ACT_ACT, _ACT_ACT_G, _ACT_ACT_R, _FOUR_ACTS, _ACT_COLUMN, _ACT_PRE,
    _READ_READ_G, _READ_READ_R, _READ_READ_O, _READ_WRITE, _READ_PRE,
    _WRITE_WRITE_G, _WRITE_WRITE_R, _WRITE_WRITE_O,
    _WRITE_READ_G, _WRITE_READ_R, _WRITE_READ_O, _WRITE_PRE,
    _PRE_ACT, _PRE_PRE, _REFRESH_ACT, _INTERVAL, _READ_DELAY, _WRITE_DELAY,
    _CLOSES, _TWO_BUSES,
) = range(30)  # fmt: skip

# Columns of `banks`, `groups` and `ranks`: the open row (-1: none), accesses since it was opened, and first
# cycles. `act0`…`act3` are when the fourth-last activate leaves the window, a ring at `act_slot`;
# `open` counts open banks, since `open_since`.
BANK = ("row", "hits", "act", "column", "pre")
_ROW, _HITS, _B_ACT, _B_COLUMN, _B_PRE = range(5)
GROUP = ("act", "read", "write")
_G_ACT, _G_READ, _G_WRITE = range(3)
RANK = (
    "act", "read", "write", "pre", "refresh", "act0", "act1", "act2", "act3", "act_slot",
    "open", "open_since",
)  # fmt: skip
_R_ACT, _R_READ, _R_WRITE, _R_PRE, _R_REFRESH, _R_ACTS, _, _, _, _R_SLOT, _R_OPEN, _R_SINCE = range(12)

# Entries of `refresh`: the cycle in which the next one falls due, the rank whose turn it is, and the cycle
# of the last command of a refresh.
REFRESH = ("due", "rank", "last")
_DUE, _TURN, _LAST = range(3)

# Entries of `counts`: commands, accesses that found their row open after another, and cycles in which a rank
# has an open bank, over all ranks.
COUNTS = ("act", "pre", "read", "write", "refresh", "hits", "open_cycles")
_N_ACT, _N_PRE, _N_READ, _N_WRITE, _N_REFRESH, _N_HITS, _N_OPEN = range(7)

# Commands, numbered as in `counts`.
_ACT, _PRE, _READ, _WRITE, _REF = range(5)

# Entries of `mapping`: lowest bit and mask of each of these fields of an address.
MAPPING = ("ra", "bg", "ba", "ro")


@njit
def locate(mapping: Any, part: Any, address: int) -> Any:
    """Rank, group and bank, counted through the channel, and row of a byte address."""
    rank = (address >> mapping[0]) & mapping[1]
    group = rank * part[_GROUPS] + ((address >> mapping[2]) & mapping[3])
    bank = group * part[_BANKS] + ((address >> mapping[4]) & mapping[5])
    return rank, group, bank, (address >> mapping[6]) & mapping[7]


@njit
def ready(banks: Any, groups: Any, ranks: Any, command: int, rank: int, group: int, bank: int) -> int:
    """The first cycle in which a command to a bank may come (ACT, PRE, READ or WRITE)."""
    if command == _READ:
        return int(max(banks[bank, _B_COLUMN], groups[group, _G_READ], ranks[rank, _R_READ]))
    if command == _WRITE:
        return int(max(banks[bank, _B_COLUMN], groups[group, _G_WRITE], ranks[rank, _R_WRITE]))
    if command == _PRE:
        return int(max(banks[bank, _B_PRE], ranks[rank, _R_PRE]))
    window = ranks[rank, _R_ACTS + ranks[rank, _R_SLOT]]
    return int(max(banks[bank, _B_ACT], groups[group, _G_ACT], ranks[rank, _R_ACT], window))


@njit
def _close(part: Any, banks: Any, ranks: Any, counts: Any, rank: int, bank: int, cycle: int) -> None:
    """Nothing; the bank's row is closed by a precharge in `cycle`."""
    banks[bank, _ROW] = -1
    banks[bank, _HITS] = 0
    banks[bank, _B_ACT] = max(banks[bank, _B_ACT], cycle + part[_PRE_ACT])
    ranks[rank, _R_REFRESH] = max(ranks[rank, _R_REFRESH], banks[bank, _B_ACT])
    ranks[rank, _R_OPEN] -= 1
    if ranks[rank, _R_OPEN] == 0:
        counts[_N_OPEN] += max(0, cycle - ranks[rank, _R_SINCE])


@njit
def issue(
    part: Any, banks: Any, groups: Any, ranks: Any, counts: Any,
    command: int, rank: int, group: int, bank: int, row: int, cycle: int,
) -> None:  # fmt: skip
    """Nothing; the command comes in `cycle`. A closed page follows READ and WRITE with a precharge."""
    counts[command] += 1
    if command in (_READ, _WRITE):
        if command == _READ:
            read_g, read_r, read_o = part[_READ_READ_G], part[_READ_READ_R], part[_READ_READ_O]
            write_g, write_r, write_o = part[_READ_WRITE], part[_READ_WRITE], part[_READ_WRITE]
            pre = cycle + part[_READ_PRE]
        else:
            read_g, read_r, read_o = part[_WRITE_READ_G], part[_WRITE_READ_R], part[_WRITE_READ_O]
            write_g, write_r, write_o = part[_WRITE_WRITE_G], part[_WRITE_WRITE_R], part[_WRITE_WRITE_O]
            pre = cycle + part[_WRITE_PRE]
        groups[group, _G_READ] = max(groups[group, _G_READ], cycle + read_g)
        groups[group, _G_WRITE] = max(groups[group, _G_WRITE], cycle + write_g)
        for other in range(part[_RANKS]):
            gap_read = read_r if other == rank else read_o
            gap_write = write_r if other == rank else write_o
            ranks[other, _R_READ] = max(ranks[other, _R_READ], cycle + gap_read)
            ranks[other, _R_WRITE] = max(ranks[other, _R_WRITE], cycle + gap_write)
        if banks[bank, _HITS] > 0:
            counts[_N_HITS] += 1
        banks[bank, _HITS] += 1
        banks[bank, _B_PRE] = max(banks[bank, _B_PRE], pre)
        if part[_CLOSES]:
            _close(part, banks, ranks, counts, rank, bank, banks[bank, _B_PRE])
            counts[_N_PRE] += 1
    elif command == _ACT:
        banks[bank, _ROW] = row
        banks[bank, _B_ACT] = cycle + part[_ACT_ACT]
        banks[bank, _B_COLUMN] = cycle + part[_ACT_COLUMN]
        banks[bank, _B_PRE] = max(banks[bank, _B_PRE], cycle + part[_ACT_PRE])
        groups[group, _G_ACT] = cycle + part[_ACT_ACT_G]
        ranks[rank, _R_ACT] = cycle + part[_ACT_ACT_R]
        slot = ranks[rank, _R_SLOT]
        ranks[rank, _R_ACTS + slot] = cycle + part[_FOUR_ACTS]
        ranks[rank, _R_SLOT] = (slot + 1) & 3
        if ranks[rank, _R_OPEN] == 0:
            ranks[rank, _R_SINCE] = cycle
        ranks[rank, _R_OPEN] += 1
    else:
        _close(part, banks, ranks, counts, rank, bank, cycle)
        ranks[rank, _R_PRE] = cycle + part[_PRE_PRE]


@njit
def refresh_next(part: Any, banks: Any, ranks: Any, refresh: Any, now: int) -> Any:
    """(cycle, bank) of the next command of the refresh whose turn it is, not before `now`.

    A bank that is open is precharged first, the first that can be; bank -1 is the refresh itself, once
    all are closed.
    """
    rank = refresh[_TURN]
    per_rank = part[_GROUPS] * part[_BANKS]
    if ranks[rank, _R_OPEN] == 0:
        return max(now, ranks[rank, _R_REFRESH]), -1
    cycle, chosen = _NEVER, -1
    for bank in range(rank * per_rank, (rank + 1) * per_rank):
        if banks[bank, _ROW] >= 0:
            at = max(now, banks[bank, _B_PRE], ranks[rank, _R_PRE])
            if at < cycle:
                cycle, chosen = at, bank
    return cycle, chosen


@njit
def refresh_step(
    part: Any, banks: Any, groups: Any, ranks: Any, refresh: Any, counts: Any, cycle: int, bank: int
) -> None:
    """Nothing; the command that `refresh_next` has named comes in `cycle`."""
    rank = refresh[_TURN]
    refresh[_LAST] = cycle
    if bank >= 0:
        # Typed as in `serve`, or the function is compiled once more.
        command, row = np.int64(_PRE), np.int64(-1)
        issue(part, banks, groups, ranks, counts, command, rank, bank // part[_BANKS], bank, row, cycle)
        return
    counts[_N_REFRESH] += 1
    ranks[rank, _R_ACT] = max(ranks[rank, _R_ACT], cycle + part[_REFRESH_ACT])
    ranks[rank, _R_REFRESH] = cycle + part[_REFRESH_ACT]
    refresh[_DUE] += part[_INTERVAL]
    refresh[_TURN] = (rank + 1) % part[_RANKS]


@njit
def serve(
    part: Any, banks: Any, groups: Any, ranks: Any, refresh: Any, counts: Any, bus: Any,
    mapping: Any, address: int, write: bool, earliest: int,
) -> int:  # fmt: skip
    """The cycle in which one access is answered, whose first command may come at `earliest`.

    Accesses are served in the order of calls: columns in order, rows in order, a row command of one
    before the column command of another where both allow it. Refreshes that fall due up to a command
    come before it: no command to their rank until they are done, and first on the command bus.

    Args:
        bus: int64, (2,), first cycle for the next row and for the next column command.
    """
    rank, group, bank, row = locate(mapping, part, address)
    column = _WRITE if write else _READ
    while True:
        if banks[bank, _ROW] == row:
            command = column
        elif banks[bank, _ROW] < 0:
            command = _ACT
        else:
            command = _PRE
        lane = 1 if command == column else 0
        at = max(earliest, bus[lane], ready(banks, groups, ranks, command, rank, group, bank))
        if part[_INTERVAL] and refresh[_DUE] <= at:
            first = max(refresh[_DUE], refresh[_LAST] + 1)
            when, which = refresh_next(part, banks, ranks, refresh, first)
            if when <= at or refresh[_TURN] == rank:
                refresh_step(part, banks, groups, ranks, refresh, counts, when, which)
                if when == at and (lane == 0 or not part[_TWO_BUSES]):
                    bus[lane] = at + 1
                continue
        issue(part, banks, groups, ranks, counts, command, rank, group, bank, row, at)
        bus[lane] = at + 1
        if command == column:
            return int(at + part[_WRITE_DELAY if write else _READ_DELAY] + 1)


@njit
def closed_loop(
    part: Any, banks: Any, groups: Any, ranks: Any, refresh: Any, counts: Any,
    mapping: Any, addresses: Any, writes: Any, answers: Any,
) -> None:  # fmt: skip
    """Nothing; one access after the other, each made in the cycle that answers the one before.

    An access made in cycle c has its first command in c + 1 at the earliest.

    Args:
        addresses: int64, (n,), of bytes. `writes`: uint8, (n,), or (0,) where all are reads.
        answers: int64, (n,), filled in.
    """
    bus = np.zeros(2, np.int64)
    cycle = 0
    for i in range(addresses.shape[0]):
        write = writes.shape[0] > 0 and writes[i] > 0
        cycle = serve(
            part, banks, groups, ranks, refresh, counts, bus, mapping, addresses[i], write, cycle + 1
        )
        answers[i] = cycle
    finish(ranks, counts, cycle)


@njit
def finish(ranks: Any, counts: Any, cycle: int) -> None:
    """Nothing; counts the cycles up to `cycle` of ranks that still have an open bank."""
    for rank in range(ranks.shape[0]):
        if ranks[rank, _R_OPEN] > 0:
            counts[_N_OPEN] += max(0, cycle - ranks[rank, _R_SINCE])
            ranks[rank, _R_SINCE] = cycle
