"""Post against windows, requantisation and addresses computed one by one."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

import numpy as np
from bitwright.mapper.isa import TOKENS, Command, Opcode, encode
from bitwright.mapper.machine import Machine
from bitwright.models.numerics import Rounding, requantize
from unit_machines import MACHINES
from unit_stimulus import PACES, Ports, chance, equal, unit_test

OUTPUTS = 24
JOBS = 6
LIMIT = 60000
WORD = 1 << 20
JOB = (("bank", 1), ("tile_x", 9), ("tile_y", 9), ("out", 20), ("param", 12))
JOB += (("cols", 5), ("rows", 7), ("post", TOKENS))


@dataclass(frozen=True)
class Param:
    """Of one channel."""

    bias: int
    multiplier: int
    shift: int

    def word(self) -> int:
        return (self.bias & 0xFFFFFFFF) | self.multiplier << 32 | self.shift << 64


@dataclass(frozen=True)
class Read:
    """One cycle of a drain."""

    index: int
    param: int
    write: tuple[int, int, int] | None
    """Address, mask, data; None within a pool window."""


class State:
    """Accumulators and parameters, random, as Post's neighbours hold them."""

    def __init__(self, rng: random.Random, machine: Machine) -> None:
        self.machine = machine
        array, bits = machine.array, machine.array.acc_bits
        # acc + bias stays within int32, as the mapper proves of a program.
        self.accs = [
            [
                [[_centred(rng, bits - 1) for _ in range(array.rows)] for _ in range(array.cols)]
                for _ in range(array.acc_depth)
            ]
            for _ in range(2)
        ]
        self.params = [[_param(rng) for _ in range(machine.post.lanes)] for _ in range(machine.param_lines)]

    def line(self, number: int) -> int:
        return sum(param.word() << (128 * lane) for lane, param in enumerate(self.params[number]))


def _centred(rng: random.Random, bits: int) -> int:
    """Signed, of any magnitude below 2^(bits − 1)."""
    return rng.choice([-1, 1]) * rng.getrandbits(rng.randint(1, bits - 1))


def _param(rng: random.Random) -> Param:
    return Param(_centred(rng, 30), rng.randint(1 << 30, (1 << 31) - 1), rng.choice([0, *range(10, 26)]))


def _output(rng: random.Random) -> Command:
    low = rng.randint(-256, 255)
    high = rng.randint(low, 255)
    if rng.random() < 0.7:
        low, high = rng.choice([(-128, 127), (0, 255), (-256, 255)])
    return Command(
        Opcode.OUTPUT,
        {
            "rounding": rng.randrange(4),
            "zero_point": rng.randint(-256, 255),
            "clamp_low": low,
            "clamp_high": high,
            "pool_x": rng.choice([1, 1, 2, 3]),
            "pool_y": rng.choice([1, 1, 2, 3]),
            **{name: rng.getrandbits(16) for name in ("pixel_x", "group")},
            **{name: rng.getrandbits(20) for name in ("pixel_y", "tile_x", "tile_y", "col")},
        },
    )


def _job(rng: random.Random, machine: Machine, output: Command) -> dict[str, int]:
    pool_x, pool_y = output["pool_x"], output["pool_y"]
    windows_x = rng.randint(1, 3)
    windows_y = rng.randint(1, max(1, machine.array.acc_depth // (windows_x * pool_x * pool_y)))
    if windows_x * pool_x * windows_y * pool_y > machine.array.acc_depth:
        windows_x = windows_y = 1
    return {
        "bank": rng.getrandbits(1),
        "tile_x": windows_x * pool_x,
        "tile_y": windows_y * pool_y,
        "out": rng.getrandbits(20),
        "param": rng.getrandbits(12),
        "cols": rng.randint(1, machine.array.cols),
        "rows": rng.randint(1, machine.array.rows),
        "post": rng.getrandbits(TOKENS),
    }


def _drain(state: State, output: Command, job: dict[str, int]) -> list[Read]:
    """docs/architecture.md, the drain of a tile."""
    machine = state.machine
    lanes, size = machine.post.lanes, machine.buffers.output_bytes
    reads: list[Read] = []
    for wy in range(job["tile_y"] // output["pool_y"]):
        for wx in range(job["tile_x"] // output["pool_x"]):
            best: dict[tuple[int, int], int] = {}  # (column, row) → the window's maximum
            for iy in range(output["pool_y"]):
                for ix in range(output["pool_x"]):
                    py, px = wy * output["pool_y"] + iy, wx * output["pool_x"] + ix
                    index = py * job["tile_x"] + px
                    last = iy == output["pool_y"] - 1 and ix == output["pool_x"] - 1
                    for col in range(job["cols"]):
                        for q in range(machine.row_groups):
                            line = (job["param"] + q) % machine.param_lines
                            rows = range(q * lanes, (q + 1) * lanes)
                            accs = [state.accs[job["bank"]][index][col][row] for row in rows]
                            for row, value in zip(
                                rows, _results(accs, state.params[line], output), strict=True
                            ):
                                best[col, row] = max(value, best.get((col, row), value))
                            address = job["out"] + col * output["col"] + q * lanes
                            address += wy * output["pixel_y"] + wx * output["pixel_x"]
                            mask = sum((row < job["rows"]) << n for n, row in enumerate(rows))
                            data = sum((best[col, row] & 255) << (8 * n) for n, row in enumerate(rows))
                            write = (address % size, mask, _masked(data, mask, lanes)) if last else None
                            reads.append(Read(index, line, write))
    return reads


def _results(accs: list[int], params: list[Param], output: Command) -> list[int]:
    values: list[int] = requantize(
        np.array(accs),
        bias=np.array([param.bias for param in params]),
        multiplier=np.array([param.multiplier for param in params]),
        shift=np.array([param.shift for param in params]),
        rounding=Rounding(output["rounding"]),
        zero_point=output["zero_point"],
        low=output["clamp_low"],
        high=output["clamp_high"],
    ).tolist()
    return values


def _masked(data: int, mask: int, lanes: int) -> int:
    return sum(data & 255 << (8 * n) for n in range(lanes) if mask >> n & 1)


def _packed(job: dict[str, int]) -> int:
    word = position = 0
    for name, width in JOB:
        word |= job[name] << position
        position += width
    return word


class Neighbours:
    """The array's chains and the parameter buffer's port."""

    def __init__(self, rng: random.Random, state: State) -> None:
        self.rng = rng
        self.state = state
        self.chain: list[int] = []
        self.param = 0

    def drive(self, ports: Ports) -> None:
        machine = self.state.machine
        bits, lanes = machine.array.acc_bits, machine.post.lanes
        values = (self.chain + [self.rng.getrandbits(bits) for _ in range(lanes)])[:lanes]
        heads = sum((value & ((1 << bits) - 1)) << (bits * n) for n, value in enumerate(values))
        ports.drive(heads=heads, param_data=self.param)

    def edge(self, ports: Ports) -> None:
        load, bank, index = ports.many(("drain_load", "drain_bank", "drain_index"))
        if load:
            # Past the tile Post may point beyond what there is; nothing looks at it.
            cells = self.state.accs[bank][index % self.state.machine.array.acc_depth]
            self.chain = [value for col in cells for value in col]
        else:
            self.chain = self.chain[self.state.machine.post.lanes :]
        if ports.get("param_en"):
            self.param = self.state.line(ports.get("param_line"))


@unit_test("post_narrow", "post_wide")
async def written_bytes_are_the_pooled_results(ports: Ports, rng: random.Random, unit: str) -> None:
    """Every rounding, pool windows, ragged rows and columns; reads, writes and tokens in their cycles."""
    machine = MACHINES[unit.removeprefix("post_")]
    state = State(rng, machine)
    neighbours = Neighbours(rng, state)
    await ports.reset(job_valid=0, job_payload=0, output=0, heads=0, param_data=0)
    for number in range(OUTPUTS):
        output = _output(rng)
        jobs = deque(_job(rng, machine, output) for _ in range(rng.randint(1, JOBS)))
        # OUTPUT changes only while no drain is pending.
        ports.drive(output=encode(output))
        await _run_jobs(ports, rng, neighbours, output, jobs, PACES[number % len(PACES)])


async def _run_jobs(
    ports: Ports,
    rng: random.Random,
    neighbours: Neighbours,
    output: Command,
    jobs: deque[dict[str, int]],
    pace: float,
) -> None:
    state = neighbours.state
    latency = state.machine.timing.post_latency
    reads: deque[Read] = deque()  # of the job that is being read
    tokens = bank = 0
    writes: dict[int, tuple[int, int, int]] = {}  # cycle → write
    finishes: dict[int, int] = {}  # cycle → tokens
    offered = False
    for _ in range(LIMIT):
        if not jobs and not reads and not finishes:
            return
        offered = bool(jobs) and (offered or chance(rng, pace) == 1)
        ports.drive(job_valid=int(offered), job_payload=_packed(jobs[0]) if offered else rng.getrandbits(71))
        neighbours.drive(ports)
        await ports.settle()

        cycle, lanes = ports.cycle, state.machine.post.lanes
        ready = ports.get("job_ready")
        equal("job_ready", ready, int(not reads))
        equal("param_en", ports.get("param_en"), int(bool(reads)))
        equal("drained", ports.get("drained"), int(len(reads) == 1))
        if reads:
            read = reads.popleft()
            equal("param_line", ports.get("param_line"), read.param)
            if ports.get("drain_load"):
                equal(
                    "drain_bank, drain_index", ports.many(("drain_bank", "drain_index")), (bank, read.index)
                )
            if read.write is not None:
                writes[cycle + latency] = read.write
            if not reads:
                finishes[cycle + latency] = tokens
        write = None
        if ports.get("w_en"):
            address, mask, data = ports.many(("w_addr", "w_mask", "w_data"))
            write = address, mask, _masked(data, mask, lanes)
        equal("the write: address, mask, data", write, writes.pop(cycle, None))
        expected = finishes.pop(cycle, None)
        equal("finished, post", ports.many(("finished", "post")), (int(expected is not None), expected or 0))
        if offered and ready:
            job = jobs.popleft()
            tokens, bank = job["post"], job["bank"]
            reads.extend(_drain(state, output, job))
            offered = False
        neighbours.edge(ports)
        await ports.edge()
    equal("jobs left", len(jobs), 0)
