"""Sequencer against queues in Python: credits, order, back-pressure, END or none, and unknown opcodes."""

from __future__ import annotations

import random
from collections import deque

from bitwright.mapper.isa import COMMAND_BITS, COMMAND_BYTES, Opcode, Unit, unit_of
from bitwright.mapper.machine import Machine
from bitwright.rtl.commands import used_places
from unit_machines import MACHINES
from unit_stimulus import PACES, Ports, chance, equal, unit_test

SINKS = {Unit.LOAD: "load", Unit.EXEC: "execute", Unit.STORE: "store"}
KNOWN = [int(op) for op in Opcode if op is not Opcode.END]
UNKNOWN = sorted(set(range(16)) - {int(op) for op in Opcode})
LIMIT = 5000
QUIET = 20
RUNS = 40


def _program(rng: random.Random) -> tuple[list[int], int, bool]:
    """Words, index of the one that ends the program (past the last: none does), and whether by error."""
    length = rng.choice([1, 2, 3, 4, 5, 8, 12, rng.randint(1, 40)])
    words = [rng.getrandbits(COMMAND_BITS - 4) << 4 | rng.choice(KNOWN) for _ in range(length)]
    if rng.random() < 0.2:
        return words, length, True
    broken = rng.random() < 0.5
    ends = rng.randrange(length) if broken or rng.random() < 0.2 else length - 1
    words[ends] = words[ends] >> 4 << 4 | (rng.choice(UNKNOWN) if broken else Opcode.END)
    return words, ends, broken


@unit_test("sequencer_narrow", "sequencer_wide", "sequencer_broad", "sequencer_eager")
async def commands_reach_their_units_in_order(ports: Ports, rng: random.Random, unit: str) -> None:
    machine = MACHINES[unit.removeprefix("sequencer_")]
    sinks = {f"{name}_ready": 0 for name in SINKS.values()}
    await ports.reset(start=0, base=0, length=0, ar_grant=0, r_valid=0, r_data=0, **sinks)
    for number in range(RUNS):
        pace = PACES[number % len(PACES)]
        words, ends, broken = _program(rng)
        base = rng.getrandbits(20) << 12
        ports.drive(start=1, base=base, length=len(words), ar_grant=0, r_valid=0)
        await ports.settle()
        equal("idle before a start", ports.get("idle"), 1)
        await ports.edge()
        ports.drive(start=0)
        run = Run(machine, words, base)
        quiet = 0
        for _ in range(LIMIT):
            await run.cycle(ports, rng, pace)
            quiet = quiet + 1 if run.over() else 0
            if quiet == QUIET:
                break
        equal("commands that were dispatched", run.number, min(ends + 1, len(words)))
        equal("error, error_command", ports.many(("error", "error_command")), (broken, ends * broken))


class Run:
    """One program: memory's side, and what the sequencer must be doing."""

    def __init__(self, machine: Machine, words: list[int], base: int) -> None:
        self.words = words
        self.depth = self.credits = machine.queues.fetch_commands
        self.burst = machine.queues.fetch_burst
        self.data_bits = data_bits = machine.bus.data_bits
        self.room = machine.queues.commands
        self.queues: dict[Unit, deque[int]] = {unit: deque() for unit in SINKS}
        self.seen = {unit: sum(1 << place for place in used_places(unit, machine)) for unit in SINKS}
        self.error = False
        self.beats_a_command = COMMAND_BITS // data_bits
        self.address = base
        self.fetched = 0  # commands asked for
        self.beats: deque[int] = deque()
        self.arrived = 0  # beats of the command that is coming
        self.index = 0  # of the command that is coming
        self.fifo: deque[int] = deque()
        self.running = True
        self.asking = True
        self.number = 0

    def over(self) -> bool:
        return not (self.running or any(self.queues.values())) and self.credits == self.depth

    async def cycle(self, ports: Ports, rng: random.Random, pace: float) -> None:
        grant, readies = chance(rng, pace), {unit: chance(rng, pace) for unit in SINKS}
        beat = self.beats[0] if self.beats and chance(rng, pace) else None
        noise = rng.getrandbits(self.data_bits)
        ports.drive(ar_grant=grant, r_valid=int(beat is not None), r_data=noise if beat is None else beat)
        ports.drive(**{f"{name}_ready": readies[unit] for unit, name in SINKS.items()})
        await ports.settle()

        # Requests: after the end, none may be granted any more.
        count = min(self.burst, len(self.words) - self.fetched)
        asked = ports.get("ar_request")
        if self.running:
            equal("ar_request", asked, int(count > 0 and self.credits >= count))
        else:
            equal("ar_request after the program's end", asked, 0)
        if asked:
            shape = ports.many(("ar_address", "ar_beats"))
            equal("the request", shape, (self.address, count * self.beats_a_command))
        equal("idle", ports.get("idle"), int(self.over()))

        # The queues' heads, of which a unit sees the bits that it uses; after an error they are dropped.
        for unit, name in SINKS.items():
            queue = self.queues[unit]
            valid, payload = ports.many((f"{name}_valid", f"{name}_payload"))
            equal(f"{name}_valid", valid, int(bool(queue) and not self.error))
            if valid:
                equal(f"the command of {name}", payload, queue[0] & self.seen[unit])

        # Dispatch, with the credit registered.
        head = self.fifo[0] if self.fifo else None
        opcode = None if head is None or not self.running else head & 15
        sink = unit_of(Opcode(opcode)) if opcode is not None and opcode not in UNKNOWN else None
        stopping = opcode is not None and sink is None
        wanting = self.running and self.credits == self.depth and self.fetched == len(self.words)
        room = sink is not None and len(self.queues[sink]) < self.room
        leaves = head is not None and (not self.running or stopping or room)
        for unit, queue in self.queues.items():
            if queue and (self.error or readies[unit]):
                queue.popleft()
        if room and sink is not None and head is not None:
            self.queues[sink].append(head)
        self.error |= wanting or (stopping and opcode != Opcode.END)

        if asked and grant:
            for word in self.words[self.fetched : self.fetched + count]:
                mask = (1 << self.data_bits) - 1
                self.beats.extend(word >> at & mask for at in range(0, COMMAND_BITS, self.data_bits))
            self.fetched += count
            self.address += count * COMMAND_BYTES
            self.credits -= count
        if leaves:
            self.fifo.popleft()
            self.credits += 1
            self.number += self.running
        if stopping or wanting:
            self.running = False
        if beat is not None:
            self.beats.popleft()
            self.arrived += 1
            if self.arrived == self.beats_a_command:
                self.fifo.append(self.words[self.index])
                self.index += 1
                self.arrived = 0
        await ports.edge()
