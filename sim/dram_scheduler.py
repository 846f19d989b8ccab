"""A DRAM controller that chooses: first ready, first come, from a queue for each bank.

Accesses enter a transaction queue, one a cycle; each cycle the first whose bank's queue has room moves
there. Bank queues are looked at in turn, from the one after that which was served last; in a queue the
first access whose next command may come is served. A row is closed only for the queue's first access,
and not while others wait for it, unless it has served `_HIT_LIMIT`. Cycles in which nothing can happen
are skipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.jit import njit
from .dram_kernel import CONSTRAINTS, finish, issue, locate, ready, refresh_next, refresh_step

__all__ = ["schedule"]

_NEVER = 1 << 62
_HIT_LIMIT = 4

_GROUPS = CONSTRAINTS.index("groups")
_BANKS = CONSTRAINTS.index("banks")
_BURST_BITS = CONSTRAINTS.index("burst_bits")
_INTERVAL = CONSTRAINTS.index("refresh_interval")
_READ_DELAY = CONSTRAINTS.index("read_delay")
_WRITE_DELAY = CONSTRAINTS.index("write_delay")
_TWO_BUSES = CONSTRAINTS.index("two_buses")
_ROW, _HITS = 0, 1
_DUE, _TURN = 0, 1
_ACT, _PRE, _READ, _WRITE = range(4)


@njit
def _held_back(queue: Any, place: int, blocks: Any, writes: Any) -> bool:
    """Whether an earlier access of the queue has the same address and one of the two writes."""
    mine = queue[place]
    for k in range(place):
        other = queue[k]
        if blocks[other] == blocks[mine] and (writes[other] or writes[mine]):
            return True
    return False


@njit
def _row_wanted(queue: Any, length: int, rows: Any, row: int) -> bool:
    """Whether an access of the queue finds `row` open."""
    found = False
    for k in range(length):
        found = found or rows[queue[k]] == row
    return found


@njit
def _choose(
    part: Any, banks: Any, groups: Any, ranks: Any,
    bank: int, queue: Any, length: int, rows: Any, blocks: Any, writes: Any, now: int,
) -> Any:  # fmt: skip
    """(command, place in the queue, cycle) of a bank's next command; command -1 if none may come now.

    The cycle is the first in which one could come as things stand, `_NEVER` if that is not a matter of
    time.
    """
    group = bank // part[_BANKS]
    rank = group // part[_GROUPS]
    open_row = banks[bank, _ROW]
    if open_row < 0:
        at = ready(banks, groups, ranks, _ACT, rank, group, bank)
        return (_ACT if at <= now else -1), 0, at
    soon = _NEVER
    for place in range(length):
        i = queue[place]
        if rows[i] == open_row:
            if _held_back(queue, place, blocks, writes):
                continue
            command = _WRITE if writes[i] else _READ
        elif place == 0:
            if banks[bank, _HITS] < _HIT_LIMIT and _row_wanted(queue, length, rows, open_row):
                continue
            command = _PRE
        else:
            continue
        at = ready(banks, groups, ranks, command, rank, group, bank)
        if at <= now:
            return command, place, at
        soon = min(soon, at)
    return -1, 0, soon


@njit
def schedule(
    part: Any, banks: Any, groups: Any, ranks: Any, refresh: Any, counts: Any,
    mapping: Any, addresses: Any, writes: Any, outstanding: int, depth: int, bank_depth: int, answers: Any,
) -> None:  # fmt: skip
    """Nothing; all accesses are served, made one a cycle as soon as there is room for them.

    A read of an address that a read waits for already is answered with it.

    Args:
        addresses: int64, (n,), of bytes. `writes`: uint8, (n,).
        outstanding: accesses in flight at most, 0 for as many as the queues hold.
        depth: places in the transaction queue; `bank_depth`: in each bank's.
        answers: int64, (n,), filled in.
    """
    count = addresses.shape[0]
    bank_of = np.empty(count, np.int64)
    rows = np.empty(count, np.int64)
    blocks = np.empty(count, np.int64)  # what makes two accesses the same
    following = np.full(count, -1, np.int64)  # the next read that is answered with this one
    last = np.empty(count, np.int64)
    waiting = np.empty(depth, np.int64)
    queues = np.empty((banks.shape[0], bank_depth), np.int64)
    lengths = np.zeros(banks.shape[0], np.int64)
    # Before that cycle a bank need not be looked at: only its own commands and arrivals make one possible
    # earlier, those of others later.
    look = np.full(banks.shape[0], _NEVER, np.int64)
    done_reads, done_writes = np.empty(count, np.int64), np.empty(count, np.int64)
    reads_head = reads_tail = writes_head = writes_tail = 0
    waits = made = answered = in_flight = 0
    turn = 0
    per_rank = part[_GROUPS] * part[_BANKS]
    now = latest = 0
    while answered < count:
        moved = False
        soon = _NEVER
        while reads_head < reads_tail and done_reads[reads_head] <= now:
            reads_head += 1
            in_flight -= 1
        while writes_head < writes_tail and done_writes[writes_head] <= now:
            writes_head += 1
            in_flight -= 1
        if made < count and waits < depth:
            if outstanding == 0 or in_flight < outstanding:
                _, _, bank, row = locate(mapping, part, addresses[made])
                bank_of[made], rows[made] = bank, row
                blocks[made] = addresses[made] >> part[_BURST_BITS]
                last[made] = made
                twin = -1
                if writes[made] == 0:
                    for k in range(lengths[bank]):
                        if addresses[queues[bank, k]] == addresses[made]:
                            twin = queues[bank, k]
                    for k in range(waits):
                        if addresses[waiting[k]] == addresses[made]:
                            twin = waiting[k]
                if twin >= 0 and writes[twin] == 0:
                    following[last[twin]] = made
                    last[twin] = made
                else:
                    waiting[waits] = made
                    waits += 1
                made += 1
                in_flight += 1
                moved = True
            else:
                if reads_head < reads_tail:
                    soon = min(soon, done_reads[reads_head])
                if writes_head < writes_tail:
                    soon = min(soon, done_writes[writes_head])

        # One command a cycle, a refresh's first; with two buses a row and a column command.
        row_bus = column_bus = True
        blocked = -1
        if part[_INTERVAL]:
            if refresh[_DUE] <= now:
                blocked = refresh[_TURN]
                when, bank = refresh_next(part, banks, ranks, refresh, now)
                if when <= now:
                    refresh_step(part, banks, groups, ranks, refresh, counts, now, bank)
                    if bank >= 0 and lengths[bank]:
                        look[bank] = now
                    row_bus, column_bus = False, part[_TWO_BUSES] > 0
                    moved = True
                else:
                    soon = min(soon, when)
            else:
                soon = min(soon, refresh[_DUE])
        for _ in range(2):
            if not (row_bus or column_bus):
                break
            served = False
            for step in range(banks.shape[0]):
                bank = turn + 1 + step
                if bank >= banks.shape[0]:
                    bank -= banks.shape[0]
                if look[bank] > now:
                    soon = min(soon, look[bank])
                    continue
                if bank // per_rank == blocked:
                    continue
                command, place, at = _choose(
                    part, banks, groups, ranks, bank, queues[bank], lengths[bank], rows, blocks, writes, now
                )
                if command < 0:
                    look[bank] = at
                    soon = min(soon, at)
                    continue
                turn = bank
                served = True
                break
            if not served:
                break
            is_column = command >= _READ
            if not (column_bus if is_column else row_bus):
                break
            i = queues[bank, place]
            group = bank // part[_BANKS]
            issue(
                part, banks, groups, ranks, counts, command, group // part[_GROUPS], group, bank, rows[i], now
            )
            look[bank] = now
            moved = True
            if is_column:
                for k in range(place, lengths[bank] - 1):
                    queues[bank, k] = queues[bank, k + 1]
                lengths[bank] -= 1
                if lengths[bank] == 0:
                    look[bank] = _NEVER
                done = now + part[_READ_DELAY if command == _READ else _WRITE_DELAY] + 1
                latest = max(latest, done)
                while i >= 0:
                    answers[i] = done
                    answered += 1
                    if command == _READ:
                        done_reads[reads_tail] = done
                        reads_tail += 1
                    else:
                        done_writes[writes_tail] = done
                        writes_tail += 1
                    i = following[i]
            if not part[_TWO_BUSES]:
                break
            row_bus, column_bus = row_bus and is_column, column_bus and not is_column

        for k in range(waits):
            i = waiting[k]
            bank = bank_of[i]
            if lengths[bank] < bank_depth:
                queues[bank, lengths[bank]] = i
                lengths[bank] += 1
                look[bank] = now
                for rest in range(k, waits - 1):
                    waiting[rest] = waiting[rest + 1]
                waits -= 1
                moved = True
                break
        now = now + 1 if moved else max(now + 1, soon)
    finish(ranks, counts, latest)
