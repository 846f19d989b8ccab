"""A naive DRAM controller: a cycle at a time, and each command held against all commands before it.

Written from the data sheets' rules, not from the kernels: it keeps no first cycles, only the history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ACT, PRE, RD, WR, REF = "ACT", "PRE", "RD", "WR", "REF"
DEPTH, BANK_DEPTH, HIT_LIMIT = 32, 8, 4


@dataclass(frozen=True)
class Command:
    kind: str
    cycle: int
    rank: int
    group: int
    bank: int
    row: int = -1


@dataclass
class Access:
    number: int
    address: int
    write: bool
    rank: int
    group: int
    bank: int
    row: int


def gap(part: Any, before: Command, kind: str, rank: int, group: int, bank: int) -> int:
    """Cycles from `before` to a command of `kind` to this bank; 0 if they don't concern each other."""
    p = part
    burst = p.bl // 2
    same_rank = before.rank == rank
    same_bank = same_rank and (before.group, before.bank) == (group, bank)
    same_group = same_rank and before.group == group
    long = same_group and p.bankgroups > 1
    rl, wl = p.al + p.cl, p.al + p.cwl
    if before.kind in (RD, WR) and kind in (RD, WR):
        if before.kind == kind:
            return max(burst, p.tccd_l if long else p.tccd_s) if same_rank else burst + p.trtrs
        if before.kind == RD:
            return rl + burst + p.trtrs - wl
        if same_rank:
            return wl + burst + (p.twtr_l if long else p.twtr_s)
        return max(1, wl + burst + burst + p.trtrs - rl - burst)
    if not same_rank:
        return 0
    times = {
        (ACT, ACT): p.tras + p.trp if same_bank else p.trrd_l if long else p.trrd_s,
        (ACT, RD): p.trcd - p.al if same_bank else 0,
        (ACT, WR): p.trcd - p.al if same_bank else 0,
        (ACT, PRE): p.tras if same_bank else 0,
        (RD, PRE): p.al + p.trtp if same_bank else 0,
        (WR, PRE): wl + burst + p.twr if same_bank else 0,
        (PRE, ACT): p.trp if same_bank else 0,
        (PRE, PRE): 0 if same_bank else p.tppd,
        (PRE, REF): p.trp,
        (REF, ACT): p.trfc,
        (REF, REF): p.trfc,
    }
    return times.get((before.kind, kind), 0)


class Controller:
    def __init__(self, part: Any, refresh: bool) -> None:
        self.part = part
        self.history: list[Command] = []
        self.open: dict[tuple[int, int, int], int] = {}
        self.hits: dict[tuple[int, int, int], int] = {}
        self.interval = part.trefi // part.ranks if refresh else 0
        self.due: list[int] = []
        self.next_rank = 0

    def locate(self, number: int, address: int, write: bool) -> Access:
        p = self.part
        sizes = {
            "ch": 1, "ra": p.ranks, "bg": p.bankgroups, "ba": p.banks_per_group, "ro": p.rows,
            "co": p.columns * (2 if p.protocol == "HBM" else 1) // p.bl,
        }  # fmt: skip
        rest = address // (p.bus_width // 8 * p.bl)
        found = {}
        for i in range(10, -1, -2):
            name = p.address_mapping[i : i + 2]
            rest, found[name] = divmod(rest, sizes[name])
        return Access(number, address, write, found["ra"], found["bg"], found["ba"], found["ro"])

    def may(self, kind: str, rank: int, group: int, bank: int, now: int) -> bool:
        recent = self.history[-80:] + [c for c in self.history if c.kind in (REF, PRE)][-40:]
        for before in recent:
            cycles = gap(self.part, before, kind, rank, group, bank)
            if cycles and now < before.cycle + cycles:
                return False
        acts = [c.cycle for c in self.history if c.kind == ACT and c.rank == rank]
        return not (kind == ACT and len(acts) >= 4 and now < acts[-4] + self.part.tfaw)

    def give(self, kind: str, rank: int, group: int, bank: int, row: int, now: int) -> None:
        self.history.append(Command(kind, now, rank, group, bank, row))
        key = (rank, group, bank)
        if kind == ACT:
            assert key not in self.open
            self.open[key], self.hits[key] = row, 0
        elif kind == PRE:
            del self.open[key]
        elif kind == REF:
            assert not any(k[0] == rank for k in self.open)
        else:
            assert self.open[key] == row
            self.hits[key] += 1

    def step_refresh(self, now: int) -> bool:
        """Whether a refresh took the command bus in this cycle."""
        if self.interval and (now + 1) % self.interval == 0:
            self.due.append(self.next_rank)
            self.next_rank = (self.next_rank + 1) % self.part.ranks
        if not self.due:
            return False
        rank = self.due[0]
        mine = sorted(key for key in self.open if key[0] == rank)
        for key in mine:
            if self.may(PRE, *key, now):
                self.give(PRE, *key, -1, now)
                return True
        if not mine and self.may(REF, rank, 0, 0, now):
            self.give(REF, rank, 0, 0, -1, now)
            self.due.pop(0)
            return True
        return False

    def wants(self, access: Access) -> str:
        key = (access.rank, access.group, access.bank)
        if key not in self.open:
            return ACT
        if self.open[key] != access.row:
            return PRE
        return WR if access.write else RD


def run(part: Any, addresses: list[int], writes: list[bool], limit: int, refresh: bool) -> Any:
    """(answers, commands) of a trace with at most `limit` accesses in flight, 0 for no limit."""
    control = Controller(part, refresh)
    waiting: list[Access] = []
    keys = [
        (r, g, b)
        for r in range(part.ranks)
        for g in range(part.bankgroups)
        for b in range(part.banks_per_group)
    ]
    queues: dict[tuple[int, int, int], list[Access]] = {key: [] for key in keys}
    answers: dict[int, int] = {}
    partners: dict[int, list[int]] = {}
    turn = 0
    made = now = 0
    bytes_a_burst = part.bus_width // 8 * part.bl
    while len(answers) < len(addresses):
        flying = made - sum(1 for done in answers.values() if done <= now)
        if made < len(addresses) and len(waiting) < DEPTH and (limit == 0 or flying < limit):
            access = control.locate(made, addresses[made], writes[made])
            queue = queues[access.rank, access.group, access.bank]
            same = [a for a in [*queue, *waiting] if a.address == access.address]
            if same and not access.write and not same[-1].write:
                partners[same[-1].number].append(made)
            else:
                partners[made] = [made]
                waiting.append(access)
            made += 1
        refreshing = control.step_refresh(now)
        blocked = control.due[0] if control.due else -1
        if not refreshing:
            order = keys[turn + 1 :] + keys[: turn + 1]
            for key in order:
                chosen = _choose(control, queues[key], now, bytes_a_burst) if key[0] != blocked else None
                if chosen is None:
                    continue
                access, kind = chosen
                turn = keys.index(key)
                control.give(kind, *key, access.row, now)
                if kind in (RD, WR):
                    queues[key].remove(access)
                    delay = part.al + (part.cl if kind == RD else part.cwl) + part.bl // 2
                    for number in partners[access.number]:
                        answers[number] = now + delay + 1
                break
        for access in waiting:
            queue = queues[access.rank, access.group, access.bank]
            if len(queue) < BANK_DEPTH:
                queue.append(access)
                waiting.remove(access)
                break
        now += 1
    return [answers[i] for i in range(len(addresses))], control.history


def run_in_order(part: Any, arrivals: list[int], addresses: list[int], writes: list[bool]) -> list[int]:
    """Answers of accesses made in these cycles; rows are opened in order, columns are taken in order."""
    control = Controller(part, refresh=False)
    answers = []
    last = {True: -1, False: -1}  # cycle of the last column and of the last row command
    for number, made in enumerate(arrivals):
        access = control.locate(number, addresses[number], writes[number])
        kind = ""
        while kind not in (RD, WR):
            kind = control.wants(access)
            column = kind in (RD, WR)
            now = max(made, last[column]) + 1
            while not control.may(kind, access.rank, access.group, access.bank, now):
                now += 1
            control.give(kind, access.rank, access.group, access.bank, access.row, now)
            last[column] = now
        delay = part.al + (part.cwl if access.write else part.cl) + part.bl // 2
        answers.append(now + delay + 1)
    return answers


def _choose(control: Controller, queue: list[Access], now: int, burst: int) -> Any:
    for place, access in enumerate(queue):
        kind = control.wants(access)
        key = (access.rank, access.group, access.bank)
        if kind == PRE:
            wanted = any(a.row == control.open[key] for a in queue)
            if place > 0 or (wanted and control.hits[key] < HIT_LIMIT):
                continue
        elif kind in (RD, WR) and any(
            a.address // burst == access.address // burst and (a.write or access.write) for a in queue[:place]
        ):
            continue
        if control.may(kind, *key, now):
            return access, kind
        if kind == ACT:
            return None
    return None
