"""The core where a program goes wrong: an unknown opcode stops it cleanly, and the next program runs."""

from __future__ import annotations

import random

from bitwright.mapper.isa import COMMAND_BITS, COMMAND_BYTES, Command, LoadTarget, Opcode, encode
from unit_machines import PAIRED
from unit_stimulus import Ports, equal, unit_test

CONTROL, STATUS, BASE, LENGTH = 0x00, 0x04, 0x08, 0x0C
BUSY, DONE, ERROR = 1, 2, 4
LIMIT = 4000
QUIET = 100
SOURCE, TARGET = 0x4000, 0x5000
"""From the program's base on."""
ROUNDS = 12
BUS_BYTES = PAIRED.bus_bytes
CTRL = ("awvalid", "awaddr", "wvalid", "wdata", "wstrb", "bready", "arvalid", "araddr", "rready")
READ = ("arready", "rid", "rdata", "rresp", "rlast", "rvalid")
WRITE = ("awready", "wready", "bid", "bresp", "bvalid")


class Memory:
    """Bytes behind the AXI4 port; a burst of each kind at a time, beats when chance lets them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.bytes: dict[int, int] = {}
        self.reads: list[tuple[int, int, int]] = []  # address, beats left, ID
        self.writes: list[int] = []  # addresses
        self.owed = 0
        self.answering = False
        self.beating = False
        self.read_beats = 0

    def place(self, address: int, data: bytes) -> None:
        self.bytes |= {address + i: byte for i, byte in enumerate(data)}

    def take(self, address: int, size: int) -> bytes:
        return bytes(self.bytes.get(address + i, 0) for i in range(size))

    def drive(self, ports: Ports) -> None:
        self.beating = bool(self.reads) and (self.beating or self.rng.random() < 0.6)
        self.answering = self.owed > 0 and (self.answering or self.rng.random() < 0.3)
        ports.drive(
            read_arready=int(self.rng.random() < 0.7),
            read_rvalid=int(self.beating),
            write_awready=int(len(self.writes) == 0),
            write_wready=int(bool(self.writes) and self.rng.random() < 0.7),
            write_bvalid=int(self.answering),
        )
        if self.beating:
            address, left, name = self.reads[0]
            word = int.from_bytes(self.take(address, BUS_BYTES), "little")
            ports.drive(read_rdata=word, read_rlast=int(left == 1), read_rid=name)

    def edge(self, ports: Ports) -> None:
        if self.beating and ports.get("read_rready"):
            address, left, name = self.reads.pop(0)
            if left > 1:
                self.reads.insert(0, (address + BUS_BYTES, left - 1, name))
            self.beating = False
            self.read_beats += 1
        if ports.get("read_arvalid") and ports.driven("read_arready"):
            address, length, name = ports.many(("read_araddr", "read_arlen", "read_arid"))
            self.reads.append((address, length + 1, name))
        if ports.get("write_wvalid") and ports.driven("write_wready"):
            data, strobes, last = ports.many(("write_wdata", "write_wstrb", "write_wlast"))
            for i in range(BUS_BYTES):
                if strobes >> i & 1:
                    self.bytes[self.writes[0] + i] = data >> (8 * i) & 255
            self.writes[0] += BUS_BYTES
            if last:
                self.writes.pop()
                self.owed += 1
        if ports.get("write_awvalid") and ports.driven("write_awready"):
            self.writes.append(ports.get("write_awaddr"))
        if self.answering and ports.get("write_bready"):
            self.owed -= 1
            self.answering = False


class Host:
    """One register access at a time, while memory goes on."""

    def __init__(self, ports: Ports, memory: Memory) -> None:
        self.ports = ports
        self.memory = memory

    async def cycle(self) -> None:
        self.memory.drive(self.ports)
        await self.ports.settle()
        self.memory.edge(self.ports)

    async def write(self, address: int, data: int) -> None:
        ports = self.ports
        ports.drive(ctrl_awvalid=1, ctrl_awaddr=address, ctrl_wvalid=1, ctrl_wdata=data, ctrl_wstrb=15)
        for _ in range(20):
            await self.cycle()
            taken = ports.get("ctrl_awready")
            await ports.edge()
            if taken:
                ports.drive(ctrl_awvalid=0, ctrl_wvalid=0)
                return
        raise AssertionError(f"no answer to a write of register {address:#x}")

    async def read(self, address: int) -> int:
        ports = self.ports
        ports.drive(ctrl_arvalid=1, ctrl_araddr=address)
        for _ in range(20):
            await self.cycle()
            valid, data, ready = ports.many(("ctrl_rvalid", "ctrl_rdata", "ctrl_arready"))
            await ports.edge()
            if ready:
                ports.drive(ctrl_arvalid=0)
            if valid:
                return data
        raise AssertionError(f"no answer to a read of register {address:#x}")

    async def run(self, base: int, words: list[int]) -> int:
        """STATUS of a program after its end."""
        program = b"".join(word.to_bytes(COMMAND_BYTES, "little") for word in words)
        self.memory.place(base, program)
        await self.write(BASE, base)
        await self.write(LENGTH, len(words))
        await self.write(CONTROL, 1)
        for _ in range(LIMIT):
            status = await self.read(STATUS)
            if status & DONE:
                return status
        raise AssertionError(f"a program that is not done, STATUS {status:#x}")


def _load(rng: random.Random, **fields: int) -> Command:
    """Of some rows of activations."""
    shape = {"cols": 3, "run": rng.randint(1, 60), "rows": rng.randint(1, 4), "planes": 1, "src_row": 64}
    return Command(
        Opcode.LOAD,
        {"target": int(LoadTarget.ACTIVATION), "address": SOURCE, "dst_row": 16, **shape, **fields},
    )


def _store(rng: random.Random, **fields: int) -> Command:
    run = rng.randint(1, 40)
    return Command(Opcode.STORE, {"address": TARGET, "run": run, "rows": 1, "planes": 1, **fields})


def _broken(rng: random.Random) -> tuple[list[int], int, bool]:
    """A program that ends with an unknown opcode amid work, its place, and whether it stores before."""
    waiting = [
        _load(rng, wait=1 << 2),
        _store(rng, wait=1 << 3, address=TARGET + 0x800),
        Command(Opcode.EXEC, {"wait": 1 << 4, "region_x": 1, "region_y": 1, "groups": 1}),
    ]
    rng.shuffle(waiting)
    stores = rng.random() < 0.5
    before = [_load(rng, post=1), *([_store(rng)] if stores else []), _load(rng)]
    commands = before + waiting[: rng.randint(0, 3)]
    # Behind a unit that waits for a token that never comes, as its queue holds another.
    if len(commands) > len(before):
        opcode = commands[-1].opcode
        commands += [_store(rng, address=TARGET + 0xC00)] if opcode is Opcode.STORE else []
    words = [encode(command) for command in commands]
    bad = rng.getrandbits(COMMAND_BITS) >> 4 << 4 | rng.choice([0, *range(8, 16)])
    after = [encode(_store(rng, address=TARGET + 0xE00)) for _ in range(rng.randint(0, 3))]
    return [*words, bad, *after], len(words), stores


@unit_test("core_paired")
async def an_unknown_opcode_stops_the_core_cleanly(ports: Ports, rng: random.Random, _unit: str) -> None:
    """Units that wait for tokens drop what they hold; those at work end it; the next program is whole."""
    inputs = [f"ctrl_{name}" for name in CTRL]
    inputs += [f"read_{name}" for name in READ] + [f"write_{name}" for name in WRITE]
    await ports.reset(**dict.fromkeys(inputs, 0))
    ports.drive(ctrl_bready=1, ctrl_rready=1)
    memory = Memory(rng)
    host = Host(ports, memory)
    for number in range(ROUNDS):
        base = 0x10000 * (number + 1)
        words, place, stores = _broken(rng)
        target = base + TARGET
        for address in range(target, target + 0x1000):
            memory.bytes.pop(address, None)
        status = await host.run(base, words)
        equal("STATUS after an unknown opcode", status, place << 8 | ERROR | DONE)
        written = sorted(a for a in memory.bytes if target <= a < target + 0x1000)
        equal("bytes of the commands that had begun", bool(written), stores)
        equal("bytes of dropped commands", [a for a in written if a >= target + 0x800], [])
        beats = memory.read_beats
        for _ in range(QUIET):
            await host.cycle()
            await ports.edge()
        equal("reads after the end", (memory.read_beats, memory.reads), (beats, []))

        # The same queues, counters and units serve a whole program; no token is left over.
        whole = [
            _load(rng, post=1 << 2),
            _load(rng, wait=1 << 2, post=1 << 3),
            _store(rng, wait=1 << 3, run=24, address=TARGET + 0x400),
            Command(Opcode.END, {}),
        ]
        status = await host.run(base, [encode(command) for command in whole])
        equal("STATUS after a whole program", status, DONE)
        written = sorted(a for a in memory.bytes if target + 0x400 <= a < target + 0x800)
        equal("bytes of the whole program's STORE", written, list(range(target + 0x400, target + 0x418)))
