"""Post against windows, requantisation, thresholds, sums and addresses computed one by one."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from bitwright.mapper.isa import FIELDS, TOKENS, Command, Opcode, PostMode
from bitwright.mapper.machine import Machine
from bitwright.models.numerics import Rounding, rescale
from bitwright.rtl.commands import command_layout
from bitwright.rtl.execute import job_layout
from unit_machines import MACHINES
from unit_stimulus import PACES, Ports, chance, equal, pack, unit_test

OUTPUTS = 48
JOBS = 5
LIMIT = 60000
NO_THRESHOLD = (1 << 31) - 1

SUMS = (PostMode.ADD, PostMode.PLANES)


@dataclass(frozen=True)
class Param:
    """Of one channel, or of one operand of a sum."""

    bias: int
    multiplier: int
    shift: int
    left: int

    def word(self) -> int:
        return (self.bias & 0xFFFFFFFF) | self.multiplier << 32 | self.shift << 64 | self.left << 72


@dataclass(frozen=True)
class Read:
    """One cycle of a drain."""

    index: int
    param: int | None
    """The line that all lanes read; None where each searches its own."""
    write: tuple[int, int, int] | None
    """Address, mask, data; None within a pool window."""


class State:
    """Accumulators and parameters of one OUTPUT, random, as Post's neighbours hold them."""

    def __init__(self, rng: random.Random, machine: Machine, output: Command) -> None:
        self.machine = machine
        array, lanes = machine.array, machine.post.lanes
        # (acc + bias) · 2^left stays within int32, as the mapper proves of a program.
        size = rng.choice([10, 18, array.acc_bits - 1])
        left_most = max(0, 30 - size) if machine.adds else 0
        self.accs = [
            [
                [[_centred(rng, size) for _ in range(array.rows)] for _ in range(array.cols)]
                for _ in range(array.acc_depth)
            ]
            for _ in range(2)
        ]
        self.params = [
            [_param(rng, size, left_most) for _ in range(lanes)] for _ in range(machine.param_lines)
        ]
        self.words = [[param.word() for param in line] for line in self.params]
        self.thresholds: dict[int, list[list[int]]] = {}
        """First line of a tree → its lanes' thresholds in order."""
        if output["mode"] == PostMode.THRESHOLDS:
            tree = (4 ** output["levels"] - 1) // 3
            every = [acc for cell in self.accs[0] + self.accs[1] for col in cell for acc in col]
            for first in range(0, machine.param_lines - tree + 1, tree):
                self.thresholds[first] = [_thresholds(rng, every, output["levels"]) for _ in range(lanes)]
                for lane, values in enumerate(self.thresholds[first]):
                    _plant(self.words, first, 0, lane, values)


def _thresholds(rng: random.Random, accs: list[int], levels: int) -> list[int]:
    """In order, some of them equal to an accumulator or next to one; the last ones may be none."""
    most = 4**levels - 1
    used = rng.choice([most, rng.randint(1, most)])
    values = sorted(rng.choice(accs) + rng.choice([-1, 0, 0, 1]) for _ in range(used))
    return values + [NO_THRESHOLD] * (most - used)


def _plant(words: list[list[int]], first: int, node: int, lane: int, values: list[int]) -> None:
    """The search tree of `values` into a lane's lines: three of them here, the four parts between below."""
    part = (len(values) - 3) // 4
    at = [part, 2 * part + 1, 3 * part + 2]
    words[first + node][lane] = sum((values[i] & 0xFFFFFFFF) << (32 * n) for n, i in enumerate(at))
    if part:
        for child, start in enumerate([0, *(i + 1 for i in at)]):
            _plant(words, first, 4 * node + 1 + child, lane, values[start : start + part])


def _centred(rng: random.Random, bits: int) -> int:
    """Signed, of any magnitude below 2^(bits − 1)."""
    return rng.choice([-1, 1]) * rng.getrandbits(rng.randint(1, bits - 1))


def _param(rng: random.Random, size: int, left_most: int) -> Param:
    left = rng.randint(0, left_most)
    shift = rng.choice([0, *range(10, 26)]) if left + size > 20 else rng.randrange(10)
    return Param(_centred(rng, min(size, 30)), rng.randint(1 << 30, (1 << 31) - 1), shift, left)


def _output(rng: random.Random, machine: Machine) -> Command:
    modes = [mode for mode in PostMode if machine.adds or mode not in SUMS]
    mode = rng.choice(modes)
    low = rng.randint(-256, 255)
    high = rng.randint(low, 255)
    if rng.random() < 0.7:
        low, high = rng.choice([(-128, 127), (0, 255), (-256, 255)])
    pool_x, pool_y = rng.choice([1, 1, 2, 3]), rng.choice([1, 1, 2, 3])
    room = machine.param_lines // machine.row_groups
    levels = rng.choice([1, *(depth for depth in range(1, 5) if (4**depth - 1) // 3 <= room)])
    step, param_set = rng.choice([1, 2]), rng.randrange(4)
    if mode is PostMode.ADD:
        pool_x, pool_y = 1, 2
    planes = rng.choice([n for n in (1, 2, 4) if n <= machine.row_groups])
    if mode is PostMode.PLANES:
        pool_x, pool_y = 1, 1
    if mode is PostMode.THRESHOLDS:
        param_set = (4**levels - 1) // 3
        step = 1 if levels == 4 else step
        low = rng.randint(-256, 255 - step * (4**levels - 1))
    return Command(
        Opcode.OUTPUT,
        {
            "mode": int(mode),
            "levels": levels,
            "step": step,
            "param_set": param_set,
            "sum_multiplier": rng.randint(1 << 30, (1 << 31) - 1),
            "sum_shift": rng.choice([0, *range(6, 26)]),
            "rounding": rng.randrange(4),
            "zero_point": rng.randint(-256, 255),
            "clamp_low": low,
            "clamp_high": high,
            "pool_x": pool_x,
            "pool_y": pool_y,
            "planes": planes if machine.adds else 0,
            **{name: rng.getrandbits(16) for name in ("pixel_x", "group")},
            **{name: rng.getrandbits(20) for name in ("pixel_y", "tile_x", "tile_y", "col")},
        },
    )


def _job(rng: random.Random, state: State, output: Command) -> dict[str, int]:
    machine = state.machine
    pool_x, pool_y = output["pool_x"], output["pool_y"]
    windows_x = rng.randint(1, 3)
    windows_y = rng.randint(1, max(1, machine.array.acc_depth // (windows_x * pool_x * pool_y)))
    if windows_x * pool_x * windows_y * pool_y > machine.array.acc_depth:
        windows_x = windows_y = 1
    param = rng.getrandbits(12)
    if output["mode"] == PostMode.THRESHOLDS:  # all lane sets' trees lie below the buffer's end
        param = rng.choice(sorted(state.thresholds)[: len(state.thresholds) - machine.row_groups + 1])
    return {
        "bank": rng.getrandbits(1),
        "tile_x": windows_x * pool_x,
        "tile_y": windows_y * pool_y,
        "out": rng.getrandbits(20),
        "param": param,
        "cols": rng.randint(1, machine.array.cols),
        "rows": rng.randint(1, machine.array.rows),
        "post": rng.getrandbits(TOKENS),
    }


def _drain(state: State, output: Command, job: dict[str, int]) -> list[Read]:
    """docs/architecture.md, the drain of a tile."""
    machine = state.machine
    lanes, size = machine.post.lanes, machine.buffers.output_bytes
    searching = output["mode"] == PostMode.THRESHOLDS and output["levels"] > 1
    planes = output["planes"] if output["mode"] == PostMode.PLANES else 1
    reads: list[Read] = []
    for wy in range(job["tile_y"] // output["pool_y"]):
        for wx in range(job["tile_x"] // output["pool_x"]):
            window: dict[tuple[int, int], list[int]] = {}  # (column, row) → its pixels
            for iy in range(output["pool_y"]):
                for ix in range(output["pool_x"]):
                    py, px = wy * output["pool_y"] + iy, wx * output["pool_x"] + ix
                    index = py * job["tile_x"] + px
                    last = iy == output["pool_y"] - 1 and ix == output["pool_x"] - 1
                    for col in range(job["cols"]):
                        for q in range(machine.row_groups):
                            line = job["param"] + q * output["param_set"]
                            line += iy * (output["mode"] == PostMode.ADD)
                            line %= machine.param_lines
                            # Lane sets that are planes of one result make that of one lane set.
                            rows = range(q // planes * lanes, (q // planes + 1) * lanes)
                            for lane, row in enumerate(rows):
                                acc = state.accs[job["bank"]][index][col][q * lanes + lane]
                                value = _value(state, output, line, lane, acc)
                                window.setdefault((col, row), []).append(value)
                            address = job["out"] + col * output["col"] + q // planes * lanes
                            address += wy * output["pixel_y"] + wx * output["pixel_x"]
                            mask = sum((row < job["rows"]) << n for n, row in enumerate(rows))
                            write = None
                            if last and q % planes == planes - 1:
                                bytes_ = [_combined(output, window[col, row]) & 255 for row in rows]
                                data = sum(byte << (8 * n) for n, byte in enumerate(bytes_))
                                write = address % size, mask, _masked(data, mask, lanes)
                            waits = 2 * output["levels"] - 1 if searching else 0
                            reads += [Read(index, None, None)] * waits
                            reads.append(Read(index, None if searching else line, write))
    return reads


def _value(state: State, output: Command, line: int, lane: int, acc: int) -> int:
    """What an accumulator becomes, before its window is combined."""
    if output["mode"] == PostMode.THRESHOLDS:
        count = sum(acc >= threshold for threshold in state.thresholds[line][lane])
        return output["clamp_low"] + output["step"] * count
    param = state.params[line][lane]
    x = (acc + param.bias) << param.left
    scaled = int(rescale(x, param.multiplier, param.shift, Rounding(output["rounding"])))
    return scaled if output["mode"] in SUMS else _clamped(output, scaled)


def _combined(output: Command, pixels: list[int]) -> int:
    if output["mode"] not in SUMS:
        return max(pixels)
    rounding = Rounding(output["rounding"])
    return _clamped(
        output, int(rescale(sum(pixels), output["sum_multiplier"], output["sum_shift"], rounding))
    )


def _clamped(output: Command, value: int) -> int:
    return min(max(value + output["zero_point"], output["clamp_low"]), output["clamp_high"])


def _values(command: Command) -> dict[str, int]:
    """Of all fields of a command, those that are not given too."""
    return {name: command[name] for name, _ in FIELDS[command.opcode]}


def _masked(data: int, mask: int, lanes: int) -> int:
    return sum(data & 255 << (8 * n) for n in range(lanes) if mask >> n & 1)


class Neighbours:
    """The array's chains and the parameter buffer's ports."""

    def __init__(self, rng: random.Random, state: State) -> None:
        self.rng = rng
        self.state = state
        self.chain: list[int] = []
        self.heads: list[int] = []
        self.param = self.fetched = 0

    def drive(self, ports: Ports) -> None:
        machine = self.state.machine
        bits, lanes = machine.array.acc_bits, machine.post.lanes
        values = (self.heads + [self.rng.getrandbits(bits) for _ in range(lanes)])[:lanes]
        heads = sum((value & ((1 << bits) - 1)) << (bits * n) for n, value in enumerate(values))
        ports.drive(heads=heads, param_data=self.param)

    def edge(self, ports: Ports) -> None:
        self.heads = self.chain
        enable, load, bank, index = ports.many(("drain_en", "drain_load", "drain_bank", "drain_index"))
        if enable and load:
            # Past the tile Post may point beyond what there is; nothing looks at it.
            cells = self.state.accs[bank][index % self.state.machine.array.acc_depth]
            self.chain = [value for col in cells for value in col]
        elif enable:
            self.chain = self.chain[self.state.machine.post.lanes :]
        self.param = self.fetched
        if ports.get("param_en"):
            words = self.state.words
            lines = [ports.get(f"param_line_{n}") for n in range(self.state.machine.post.lanes)]
            self.fetched = sum(words[line][n] << (128 * n) for n, line in enumerate(lines))


@unit_test("post_narrow", "post_slim", "post_wide", "post_full")
async def written_bytes_are_the_pooled_results(ports: Ports, rng: random.Random, unit: str) -> None:
    """Modes, roundings, pool windows, ragged rows and columns; reads, writes and tokens in their cycles."""
    machine = MACHINES[unit.removeprefix("post_")]
    await ports.reset(job_valid=0, job_payload=0, output=0, heads=0, param_data=0)
    for number in range(OUTPUTS):
        output = _output(rng, machine)
        state = State(rng, machine, output)
        jobs = deque(_job(rng, state, output) for _ in range(rng.randint(1, JOBS)))
        neighbours = Neighbours(rng, state)
        # OUTPUT changes only while no drain is pending.
        ports.drive(output=pack(command_layout(Opcode.OUTPUT, machine), _values(output)))
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
    timing, layout = state.machine.timing, job_layout(state.machine)
    latency = timing.add_latency if output["mode"] in SUMS else timing.post_latency
    reads: deque[Read] = deque()  # of the job that is being read
    tokens = bank = 0
    writes: dict[int, tuple[int, int, int]] = {}  # cycle → write
    finishes: dict[int, int] = {}  # cycle → tokens
    offered = False
    for _ in range(LIMIT):
        if not jobs and not reads and not finishes:
            return
        offered = bool(jobs) and (offered or chance(rng, pace) == 1)
        ports.drive(
            job_valid=int(offered),
            job_payload=pack(layout, jobs[0]) if offered else rng.getrandbits(layout.size),
        )
        neighbours.drive(ports)
        await ports.settle()

        cycle, lanes = ports.cycle, state.machine.post.lanes
        ready = ports.get("job_ready")
        equal("job_ready", ready, int(not reads))
        equal("param_en", ports.get("param_en"), int(bool(reads)))
        equal("drained", ports.get("drained"), int(len(reads) == 1))
        if reads:
            read = reads.popleft()
            if read.param is not None:
                lines = ports.many(f"param_line_{lane}" for lane in range(lanes))
                equal("param_line of all lanes", lines, (read.param,) * lanes)
            if ports.get("drain_en") and ports.get("drain_load"):
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
        equal(f"the write (address, mask, data) of {output}", write, writes.pop(cycle, None))
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
