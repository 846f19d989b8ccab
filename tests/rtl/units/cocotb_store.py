"""Store against a naive copy: memory's bytes, strobes, bursts and responses."""

from __future__ import annotations

import random
from collections import deque

from bitwright.mapper.isa import TOKENS, Command, Opcode, encode
from bitwright.mapper.machine import Machine
from unit_machines import MACHINES
from unit_memory import check_burst, random_address, rows_of
from unit_stimulus import PACES, Ports, chance, equal, unit_test

COMMANDS = 90
LIMIT = 40000
AW = ("axi_awid", "axi_awaddr", "axi_awlen", "axi_awsize", "axi_awburst")
W = ("axi_wdata", "axi_wstrb", "axi_wlast")
INPUTS = dict.fromkeys(
    (
        *("base", "command_payload", "command_valid", "present", "read_data"),
        *("axi_awready", "axi_wready", "axi_bid", "axi_bresp", "axi_bvalid"),
    ),
    0,
)


def _command(rng: random.Random, machine: Machine, base: int) -> Command:
    return Command(
        Opcode.STORE,
        {
            "wait": rng.choice([0, 0, rng.getrandbits(TOKENS)]),
            "post": rng.randrange(1, 1 << TOKENS),
            "src": rng.getrandbits(20),
            "src_row": rng.choice([rng.randrange(64), rng.getrandbits(20)]),
            "src_plane": rng.choice([rng.randrange(256), rng.getrandbits(20)]),
            "address": random_address(rng, base),
            "dst_row": rng.choice([rng.randrange(64), rng.getrandbits(24)]),
            "dst_plane": rng.choice([rng.randrange(4096), rng.getrandbits(28)]),
            "run": rng.choice([1, machine.bus_bytes, rng.randint(1, 40), rng.randint(1, 300)]),
            "rows": rng.choice([1, 1, 2, 5]),
            "planes": rng.choice([1, 1, 2, 3]),
            "pack": rng.randrange(4) if machine.packs else 0,
        },
    )


def _row(command: Command, values: bytes) -> bytes:
    """A row as it lies in memory: the low bits of each value, or its inverted sign."""
    width = 8 >> command["pack"]
    word = 0
    for i, value in enumerate(values):
        code = 1 - (value >> 7) if width == 1 else value & ((1 << width) - 1)
        word |= code << (i * width)
    return word.to_bytes((len(values) * width + 7) // 8, "little")


class ReadPort:
    """The output buffer: latency 3."""

    def __init__(self, rng: random.Random, machine: Machine) -> None:
        self.content = rng.randbytes(machine.buffers.output_bytes)
        self.width = machine.bus_bytes
        self.fetched = self.aligned = self.result = 0

    def word(self, address: int) -> int:
        size = len(self.content)
        return int.from_bytes(bytes(self.content[(address + i) % size] for i in range(self.width)), "little")

    def edge(self, ports: Ports) -> None:
        self.result, self.aligned = self.aligned, self.fetched
        self.fetched = self.word(ports.get("read_addr"))


class Memory:
    """AW, W and B with their rules, and the bytes that the strobes let through."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.bytes: dict[int, int] = {}
        self.waiting: dict[str, tuple[int, ...]] = {}
        """Payload of a channel whose valid met no ready in the cycle before."""
        self.address = self.left = 0
        self.unanswered = 0
        """Bursts on AW without their B."""
        self.complete = 0
        """Bursts with their last W, without their B."""
        self.offered = False
        self.most = 0

    def drive(self, ports: Ports, rng: random.Random, pace: float) -> None:
        self.offered = self.complete > 0 and (self.offered or chance(rng, pace / 2) == 1)
        ports.drive(axi_awready=chance(rng, pace), axi_wready=chance(rng, pace), axi_bvalid=int(self.offered))

    def _handshake(self, ports: Ports, channel: str, names: tuple[str, ...]) -> tuple[int, ...] | None:
        valid, ready = ports.get(f"axi_{channel}valid"), ports.driven(f"axi_{channel}ready")
        payload = ports.many(names) if valid else None
        if channel in self.waiting:
            equal(f"{channel}'s payload while it waits", payload, self.waiting.pop(channel))
        if payload is not None and not ready:
            self.waiting[channel] = payload
        return payload if ready else None

    def edge(self, ports: Ports) -> None:
        bus_bytes = self.machine.bus_bytes
        answered = self.offered and ports.get("axi_bready") == 1
        equal("responded", ports.get("responded"), int(answered))
        data = self._handshake(ports, "w", W)
        if data is not None:
            value, strobes, last = data
            equal("a beat of an open burst", self.left > 0, True)
            equal("wlast", last, int(self.left == 1))
            for i in range(bus_bytes):
                if strobes >> i & 1:
                    self.bytes[self.address + i] = value >> (8 * i) & 255
            self.address += bus_bytes
            self.left -= 1
            self.complete += last
        request = self._handshake(ports, "aw", AW)
        if request is not None:
            _, address, length, size, burst = request
            equal("beats that the burst before still lacks", self.left, 0)
            equal("awsize, awburst", (1 << size, burst), (bus_bytes, 1))
            check_burst(self.machine, address, length + 1)
            self.address, self.left = address, length + 1
            self.unanswered += 1
            self.most = max(self.most, self.unanswered)
            equal(
                "bursts without B within the limit",
                self.unanswered <= self.machine.bus.write_outstanding,
                True,
            )
        if answered:
            self.offered = False
            self.complete -= 1
            self.unanswered -= 1


@unit_test("store_narrow", "store_slim", "store_wide", "store_full")
async def memory_holds_what_a_naive_copy_gives(ports: Ports, rng: random.Random, unit: str) -> None:
    """STORE packed and not, at every alignment, across pages, under stalls of commands, AW, W and B."""
    machine = MACHINES[unit.removeprefix("store_")]
    base = rng.getrandbits(18) << 12
    source, memory = ReadPort(rng, machine), Memory(machine)
    queue = deque(_command(rng, machine, base) for _ in range(COMMANDS))
    running: Command | None = None
    offered = False
    await ports.reset(**INPUTS)
    ports.drive(base=base)
    for _ in range(LIMIT):
        if not queue and running is None:
            break
        pace = PACES[(COMMANDS - len(queue)) // 8 % len(PACES)]
        offered = bool(queue) and (offered or chance(rng, pace) == 1)
        head = queue[0] if offered else None
        present = rng.choice([(1 << TOKENS) - 1, rng.getrandbits(TOKENS)])
        ports.drive(command_valid=int(offered), present=present, read_data=source.result)
        if head is not None:
            ports.drive(command_payload=encode(head))
        memory.drive(ports, rng, pace)
        await ports.settle()

        took = head is not None and ports.get("command_ready") == 1
        equal("take", ports.get("take"), head["wait"] if took and head is not None else 0)
        equal("idle", ports.get("idle"), int(not offered and running is None))
        post = ports.get("post")
        equal("post", post, running["post"] if post and running is not None else 0)
        if post and running is not None:
            expected: dict[int, int] = {}
            for src, dst in rows_of(running, "src", running["src"], "dst"):
                size = len(source.content)
                values = bytes(source.content[(src + i) % size] for i in range(running["run"]))
                for i, byte in enumerate(_row(running, values)):
                    expected[base + dst + i] = byte
            equal(f"the bytes that {running} wrote", memory.bytes, expected)
            equal("bursts without B at the post", (memory.unanswered, memory.left), (0, 0))
            memory.bytes = {}
            running = None
        if took and head is not None:
            equal("tokens of a command that was taken", present & head["wait"], head["wait"])
            equal("a command that runs still", running, None)
            running = queue.popleft()
            offered = False
        memory.edge(ports)
        source.edge(ports)
        await ports.edge()
    equal("commands left", (len(queue), running), (0, None))
    equal("the most bursts without B", memory.most, machine.bus.write_outstanding)
