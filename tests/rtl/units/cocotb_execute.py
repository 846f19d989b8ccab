"""Execute against the loop nest of docs/architecture.md: every issue, every job, every token."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from bitwright.mapper.isa import TOKENS, Command, Opcode, encode
from bitwright.mapper.machine import Machine
from bitwright.mapper.pe import PeKind
from bitwright.rtl.commands import command_layout
from bitwright.rtl.execute import job_layout
from unit_machines import MACHINES
from unit_stimulus import PACES, Ports, chance, equal, pack, to_signed, unit_test, unpack

WORK = 40
LIMIT = 60000


@dataclass(frozen=True)
class Issue:
    """One cycle of the array."""

    act: int
    line: int
    weight_set: int
    fresh: bool
    index: int


@dataclass
class Tile:
    """The issues between two TILE states, and the job that they end with."""

    first: bool
    """Opens an accumulator bank."""
    issues: list[Issue] = field(default_factory=list)
    job: dict[str, int] | None = None
    """Without its bank."""
    post: int = 0
    """Tokens with the last issue."""


def _geometry(rng: random.Random, machine: Machine) -> Command:
    tile_x = rng.randint(1, 6)
    fields = {
        "wait": rng.choice([0, rng.getrandbits(TOKENS)]),
        "tile_x": tile_x,
        "tile_y": rng.randint(1, max(1, machine.array.acc_depth // tile_x)),
        "pe": int(rng.choice(machine.array.kinds)),
        "sets": rng.choice([1, 1, 2, 3, 5]),
        "tail": rng.randint(1, 4),
        "fx": rng.choice([1, 1, 2, 3]),
        "fy": rng.choice([1, 1, 2, 3]),
        **{name: rng.getrandbits(16) for name in ("pixel_x", "tap_x", "weight_group", "act_group")},
        **{name: rng.getrandbits(20) for name in ("pixel_y", "tap_y", "act_tile_x", "act_tile_y", "act_col")},
    }
    return Command(Opcode.GEOMETRY, fields)


def _output(rng: random.Random) -> Command:
    signed = {name: rng.randint(-256, 255) for name in ("zero_point", "clamp_low", "clamp_high")}
    narrow = {"rounding": rng.randrange(4), "pool_x": rng.randint(1, 15), "pool_y": rng.randint(1, 15)}
    narrow |= {"param_group": rng.getrandbits(12), "param_set": rng.getrandbits(7)}
    strides = {name: rng.getrandbits(20) for name in ("pixel_y", "tile_x", "tile_y", "col")}
    strides |= {name: rng.getrandbits(16) for name in ("pixel_x", "group")}
    return Command(
        Opcode.OUTPUT, {"wait": rng.choice([0, rng.getrandbits(TOKENS)]), **narrow, **signed, **strides}
    )


def _exec(rng: random.Random, machine: Machine, **fixed: int) -> Command:
    fields = {
        "wait": rng.choice([0, 0, rng.getrandbits(TOKENS)]),
        "post": rng.getrandbits(TOKENS),
        "post_drain": rng.getrandbits(TOKENS),
        "act": rng.getrandbits(20),
        "weight": rng.getrandbits(16),
        "param": rng.getrandbits(12),
        "out": rng.getrandbits(20),
        "region_x": rng.randint(1, 9),
        "region_y": rng.randint(1, 6),
        "groups": rng.choice([1, 1, 2, 3]),
        "cols": rng.randint(1, machine.array.cols),
        "rows_last": rng.randint(1, machine.array.rows),
        "first": 1,
        "last": 1,
    }
    return Command(Opcode.EXEC, fields | fixed)


def _program(rng: random.Random, machine: Machine) -> list[Command]:
    commands: list[Command] = [_output(rng)]
    for _ in range(WORK):
        geometry = _geometry(rng, machine)
        commands.append(geometry)
        if rng.random() < 0.3:
            commands.append(_output(rng))
        for _ in range(rng.choice([1, 1, 2, 4])):
            if rng.random() < 0.6:
                commands.append(_exec(rng, machine))
                continue
            # Accumulators that live through several EXECs: one group, one tile, which other strides may walk.
            one = {
                "region_x": rng.randint(1, geometry["tile_x"]),
                "region_y": rng.randint(1, geometry["tile_y"]),
            }
            parts = rng.randint(2, 4)
            for part in range(parts):
                run = {"first": int(part == 0), "last": int(part == parts - 1), "groups": 1}
                commands.append(_exec(rng, machine, **one, **run))
    return commands


def _nest(machine: Machine, geometry: Command, output: Command, run: Command) -> Iterator[Tile]:
    """docs/architecture.md, EXEC."""
    g_, o_ = geometry, output
    kind = PeKind(g_["pe"])
    lane_bytes, sets_a_word = machine.array.lane_bytes(kind), machine.array.sets_per_word(kind)
    for group in range(run["groups"]):
        for ty in range(0, run["region_y"], g_["tile_y"]):
            for tx in range(0, run["region_x"], g_["tile_x"]):
                th, tw = min(g_["tile_y"], run["region_y"] - ty), min(g_["tile_x"], run["region_x"] - tx)
                down, right = ty // g_["tile_y"], tx // g_["tile_x"]
                tile = Tile(bool(run["first"]))
                step = 0
                for fy in range(g_["fy"]):
                    for fx in range(g_["fx"]):
                        for s in range(g_["sets"]):
                            line = run["weight"] + group * g_["weight_group"] + step // sets_a_word
                            for py in range(th):
                                for px in range(tw):
                                    act = run["act"] + group * g_["act_group"]
                                    act += down * g_["act_tile_y"] + right * g_["act_tile_x"]
                                    act += py * g_["pixel_y"] + px * g_["pixel_x"]
                                    act += fy * g_["tap_y"] + fx * g_["tap_x"] + s * lane_bytes
                                    tile.issues.append(
                                        Issue(
                                            act % machine.buffers.activation_bytes,
                                            line % machine.weight_lines,
                                            step % sets_a_word,
                                            bool(run["first"]) and step == 0,
                                            py * tw + px,
                                        )
                                    )
                            step += 1
                last_group = group == run["groups"] - 1
                last = last_group and ty + th == run["region_y"] and tx + tw == run["region_x"]
                if run["last"]:
                    out = run["out"] + group * o_["group"] + down * o_["tile_y"] + right * o_["tile_x"]
                    tile.job = {
                        "tile_x": tw,
                        "tile_y": th,
                        "out": out % machine.buffers.output_bytes,
                        "param": (run["param"] + group * o_["param_group"]) % machine.param_lines,
                        "cols": run["cols"],
                        "rows": run["rows_last"] if last_group else machine.array.rows,
                        "post": run["post_drain"] if last else 0,
                    }
                tile.post = run["post"] if last else 0
                yield tile


class Drains:
    """POST's part: takes jobs, tells when one is read and when it is written."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.waiting: deque[tuple[int, dict[str, int]]] = deque()  # cycle of the last issue, job
        self.open_banks: set[int] = set()
        self.reading: int | None = None  # bank
        self.reads_left = 0
        self.writes: deque[int] = deque()  # cycles of `finished`

    def pending(self) -> int:
        return len(self.waiting) + len(self.writes) + (self.reading is not None)

    def drive(self, ports: Ports, rng: random.Random, pace: float) -> None:
        self.ready = self.reading is None and chance(rng, pace) == 1
        self.drained = self.reading is not None and self.reads_left == 1
        self.finished = bool(self.writes) and self.writes[0] == ports.cycle
        ports.drive(job_ready=int(self.ready), drained=int(self.drained), finished=int(self.finished))

    def edge(self, ports: Ports, rng: random.Random) -> None:
        valid = ports.get("job_valid")
        complete = (
            bool(self.waiting) and ports.cycle >= self.waiting[0][0] + self.machine.timing.array_latency
        )
        equal("job_valid", valid, int(complete))
        if self.reading is not None:
            if self.drained:
                self.open_banks.discard(self.reading)
                self.writes.append(ports.cycle + self.machine.timing.post_latency)
                self.reading = None
            self.reads_left -= 1
        if self.finished:
            self.writes.popleft()
        if valid and self.ready:
            _, job = self.waiting.popleft()
            equal("the job", unpack(job_layout(self.machine), ports.get("job_payload")), job)
            self.reading, self.reads_left = job["bank"], rng.choice([1, 2, 10, 60])


@unit_test("execute_narrow", "execute_wide", "execute_full")
async def issues_and_jobs_follow_the_loop_nest(ports: Ports, rng: random.Random, unit: str) -> None:
    """Ragged tiles, lane sets, groups and accumulators kept, while POST is slow or quick."""
    machine = MACHINES[unit.removeprefix("execute_")]
    queue = deque(_program(rng, machine))
    total = len(queue)
    drains = Drains(machine)
    tiles: deque[Tile] = deque()  # of the EXEC that runs
    position = 0  # in the first of them
    geometry = output = None
    line = None  # that the weight buffer's port holds
    bank = 0
    offered = False
    overlapped = 0
    names = ("command_payload", "command_valid", "present", "job_ready", "drained", "finished")
    await ports.reset(**dict.fromkeys(names, 0))
    for _ in range(LIMIT):
        if not queue and not tiles and not drains.pending():
            break
        pace = PACES[(total - len(queue)) // 15 % len(PACES)]
        offered = bool(queue) and (offered or chance(rng, 0.8) == 1)
        head = queue[0] if offered else None
        present = rng.choice([(1 << TOKENS) - 1, rng.getrandbits(TOKENS)])
        ports.drive(command_valid=int(offered), present=present)
        if head is not None:
            ports.drive(command_payload=encode(head))
        drains.drive(ports, rng, pace)
        await ports.settle()

        posted = 0
        issuing = ports.get("acc_en")
        equal("weight_en without an issue", ports.get("weight_en") and not issuing, 0)
        if issuing:
            equal("an issue, of an EXEC that runs", bool(tiles), True)
            tile = tiles[0]
            if position == 0 and tile.first:
                equal("the bank that a tile opens is free", bank not in drains.open_banks, True)
                drains.open_banks.add(bank)
            if ports.get("weight_en"):
                line = ports.get("weight_line")
            issue = tile.issues[position]
            act, weight_set, fresh, index = ports.many(("act_addr", "weight_set", "acc_fresh", "acc_index"))
            came = Issue(act, -1 if line is None else line, weight_set, bool(fresh), index)
            equal(f"issue {position} of {len(tile.issues)}", came, issue)
            equal("acc_bank", ports.get("acc_bank"), bank)
            assert geometry is not None
            equal("act_col", ports.get("act_col"), geometry["act_col"] % machine.buffers.activation_bytes)
            overlapped += drains.reading is not None
            position += 1
            if position == len(tile.issues):
                posted = tile.post
                tiles.popleft()
                position = 0
        equal("post", ports.get("post"), posted)
        equal("idle", ports.get("idle") and (offered or bool(tiles) or bool(drains.pending())), 0)
        drains.edge(ports, rng)
        if issuing and position == 0 and tile.job is not None:
            drains.waiting.append((ports.cycle, {"bank": bank, **tile.job}))
            bank = 1 - bank
        if output is not None and drains.pending():
            _check_output(ports, machine, output)

        took = head is not None and ports.get("command_ready") == 1
        equal("take", ports.get("take"), head["wait"] if took and head is not None else 0)
        if took and head is not None:
            equal("tokens of a command that was taken", present & head["wait"], head["wait"])
            equal("issues of the EXEC before", (len(tiles), position), (0, 0))
            queue.popleft()
            offered = False
            if head.opcode is Opcode.EXEC:
                assert geometry is not None and output is not None
                tiles.extend(_nest(machine, geometry, output, head))
            else:
                held = drains.pending() + drains.finished  # seen by the unit in the next cycle
                equal(f"drains under {head.opcode.name}", held, 0)
                geometry = head if head.opcode is Opcode.GEOMETRY else geometry
                output = head if head.opcode is Opcode.OUTPUT else output
        await ports.edge()
    equal("commands and tiles left", (len(queue), len(tiles)), (0, 0))
    await ports.settle()
    equal("idle at the end", ports.get("idle"), 1)
    equal("issues while POST was reading", overlapped > 200, True)


def _check_output(ports: Ports, machine: Machine, output: Command) -> None:
    layout = command_layout(Opcode.OUTPUT, machine)
    word = ports.get("output")
    values = {str(name): output[str(name)] for name, _ in layout}
    equal("the OUTPUT that POST sees", word, pack(layout, values | {"opcode": int(Opcode.OUTPUT)}))
    equal("its zero point", to_signed(word >> layout["zero_point"].offset, 9), output["zero_point"])
