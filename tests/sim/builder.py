"""Hand-made and random programs for the tests of sim; they need no mapper."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from bitwright.mapper.isa import COMMAND_BYTES, Command, LoadTarget, Opcode, PostMode
from bitwright.mapper.machine import (
    ArraySpec,
    BufferSpec,
    BusSpec,
    Machine,
    MemoryTiming,
    PostSpec,
    QueueSpec,
)
from bitwright.mapper.pe import PeKind
from bitwright.mapper.program import Program, Region, encode_commands

_ALL_KINDS = tuple(kind.key for kind in PeKind)


def make_machine(pes: tuple[str, ...] = _ALL_KINDS, **changes: int) -> Machine:
    """A tiny machine; keys are those of the sections below."""
    size = {
        "rows": 4, "cols": 2, "act": 128, "weight": 32, "depth": 16, "acc_bits": 32,
        "act_bytes": 1024, "weight_bytes": 2048, "output_bytes": 512, "channels": 32, "post": 2,
        "bus": 64, "burst": 4, "reads": 2, "writes": 2,
        "queue": 4, "fetch": 4, "fetch_burst": 2, "descriptors": 2, "steps": 0,
    } | changes  # fmt: skip
    return Machine(
        name="tiny",
        array=ArraySpec(
            rows=size["rows"],
            cols=size["cols"],
            act_word_bits=size["act"],
            weight_word_bits=size["weight"],
            acc_depth=size["depth"],
            acc_bits=size["acc_bits"],
            pes=pes,
        ),
        buffers=BufferSpec(
            activation_bytes=size["act_bytes"],
            weight_bytes=size["weight_bytes"],
            output_bytes=size["output_bytes"],
            param_channels=size["channels"],
            step_entries=size["steps"],
        ),
        post=PostSpec(lanes=size["post"]),
        bus=BusSpec(
            data_bits=size["bus"],
            max_burst=size["burst"],
            read_outstanding=size["reads"],
            write_outstanding=size["writes"],
        ),
        queues=QueueSpec(
            commands=size["queue"],
            fetch_commands=size["fetch"],
            fetch_burst=size["fetch_burst"],
            row_descriptors=size["descriptors"],
        ),
    )


def make_program(
    machine: Machine,
    commands: list[Command],
    data: np.ndarray | None = None,
    *,
    layer_of: list[int] | None = None,
    size: int = 16384,
) -> Program:
    """A program of these commands (END is added); `data` lies at byte 8192."""
    commands = [*commands, Command(Opcode.END, {})]
    image = np.zeros(size, np.uint8)
    text = np.frombuffer(encode_commands(commands), np.uint8)
    assert text.size <= 8192
    image[: text.size] = text
    if data is not None:
        image[8192 : 8192 + data.size] = data
    layers = (layer_of or [0] * (len(commands) - 1)).copy()
    layers.append(max(layers, default=0))
    count = max(layers) + 1
    source = Region(name="x", kind="input", address=8192, size=4096)
    target = Region(name="y", kind="output", address=12288, size=size - 12288)
    return Program(
        machine=machine,
        network="made",
        commands=tuple(commands),
        layer_of=tuple(layers),
        layers=tuple(f"layer{i}" for i in range(count)),
        macs=(1,) * count,
        regions=(
            Region(name="commands", kind="commands", address=0, size=len(commands) * COMMAND_BYTES),
            source,
            target,
        ),
        input=source,
        output=target,
        input_shape=(4096,),
        output_shape=(size - 12288,),
        image=image,
    )


def random_machine(rng: random.Random) -> Machine:
    """A small machine of random widths, depths and limits."""
    bus = rng.choice([32, 64, 128])
    rows = rng.choice([4, 8])
    return make_machine(
        rows=rows,
        cols=rng.choice([1, 2, 4]),
        act=128,
        weight=rng.choice([32, 64]),
        post=rng.choice([1, 2, 4]),
        bus=bus,
        burst=rng.choice([1, 2, 4, 16]),
        reads=rng.randint(1, 4),
        writes=rng.randint(1, 4),
        queue=rng.randint(1, 4),
        fetch=(fetch := rng.choice([1, 2, 3, 4, 8])),
        fetch_burst=rng.choice([n for n in (1, 2, 4) if n <= fetch]),
        descriptors=rng.randint(1, 4),
        steps=64,
    )


def random_memory(rng: random.Random) -> MemoryTiming:
    """Random latencies, intervals and stalls."""
    return MemoryTiming(
        read_latency=rng.choice([1, 2, 5, 20]),
        write_latency=rng.choice([1, 3, 8]),
        beat_interval=rng.choice([1, 1, 2, 3]),
        stall_rate=rng.choice([0, 0, 40, 200]),
        stall_mask=rng.choice([0, 1, 7]),
        seed=rng.getrandbits(32),
    )


def _load(rng: random.Random, machine: Machine, **masks: int) -> Command:
    target = rng.choice([LoadTarget.ACTIVATION, LoadTarget.ACTIVATION, LoadTarget.WEIGHT])
    if target == LoadTarget.WEIGHT:
        unit = machine.bus_bytes
        shape = {
            "run": unit * rng.randint(1, 12),
            "rows": 1,
            "planes": 1,
            "address": 8192 + unit * rng.randint(0, 200),
            "wrap": machine.weight_line_bits // 8 // unit,
        }
    else:
        shape = {
            "run": rng.randint(1, 60),
            "rows": rng.randint(1, 4),
            "planes": rng.randint(1, 2),
            "address": 8192 + rng.randint(0, 3000),
            "cols": rng.randint(1, (1 << machine.array.cols) - 1),
            "dst": rng.randint(0, 500),
            "dst_row": 64,
            "dst_plane": 256,
            "src_row": rng.randint(1, 90),
            "src_plane": rng.randint(1, 300),
        }
    return Command(Opcode.LOAD, {"target": int(target), **shape, **masks})


def _fill(rng: random.Random, machine: Machine, **masks: int) -> Command:
    shape = {
        "run": rng.randint(1, 100),
        "rows": rng.randint(1, 4),
        "planes": rng.randint(1, 2),
        "cols": rng.randint(1, (1 << machine.array.cols) - 1),
        "dst": rng.randint(0, 900),
        "dst_row": rng.randint(1, 90),
        "value": rng.randint(0, 255),
    }
    return Command(Opcode.FILL, {**shape, **masks})


def _results(
    rng: random.Random, machine: Machine, mode: PostMode, tile_y: int, tile_x: int
) -> dict[str, int]:
    """OUTPUT's mode with what only that mode reads, and its window."""
    levels = rng.randint(1, 4)
    fields = {
        "mode": int(mode),
        "levels": levels,
        "step": 1 if levels == 4 else rng.randint(1, 2),  # results stay within 8 bits
        "param_set": rng.randint(0, 5),
        "param_group": rng.randint(0, 9),
        "sum_multiplier": rng.randint(1 << 30, (1 << 31) - 1),
        "sum_shift": rng.randint(0, 3),
    }
    if mode == PostMode.ADD:
        return {**fields, "pool_y": 2, "pool_x": 1}
    if mode == PostMode.PLANES:
        planes = rng.choice([n for n in (1, 2, 4) if n <= machine.row_groups])
        return {**fields, "pool_y": 1, "pool_x": 1, "planes": planes}
    return {
        **fields,
        "pool_y": rng.choice([1, tile_y]),
        "pool_x": rng.choice([1, 2 if tile_x % 2 == 0 else 1]),
    }


def _geometry(rng: random.Random, machine: Machine, modes: Sequence[PostMode]) -> tuple[Command, Command]:
    mode = rng.choice(modes)
    tiles = [(2, 2), (2, 4), (4, 4), (2, 8)] + [(1, 1), (1, 8)] * (mode != PostMode.ADD)
    tile_y, tile_x = rng.choice(tiles)
    kind = rng.choice(list(PeKind))
    geometry = {
        "pe": int(kind),
        "tile_x": tile_x,
        "tile_y": tile_y,
        "sets": rng.randint(1, 3),
        # Lane-wise products take no notice of the tail.
        "tail": rng.randint(0, 3) if kind.lane_wise else rng.randint(1, machine.array.lanes(kind)),
        "fx": rng.randint(1, 2),
        "fy": rng.randint(1, 3),
        "pixel_x": rng.randint(0, 9),
        "pixel_y": rng.randint(0, 40),
        "tap_x": rng.randint(0, 20),
        "tap_y": rng.randint(0, 40),
        "act_tile_x": rng.randint(0, 60),
        "act_tile_y": rng.randint(0, 60),
        "act_col": rng.randint(0, 60),
        "act_group": rng.randint(0, 60),
        "weight_group": rng.randint(0, 9),
        "listed": int(machine.step_lines > 0 and rng.random() < 0.4),
    }
    output = {
        "rounding": rng.randint(0, 3),
        "zero_point": rng.randint(-20, 20),
        "clamp_low": -128,
        "clamp_high": 127,
        "pixel_x": machine.array.rows,
        "pixel_y": rng.randint(0, 60),
        "tile_x": rng.randint(0, 60),
        "tile_y": rng.randint(0, 60),
        "group": rng.randint(0, 60),
        "col": rng.randint(0, 60),
        **_results(rng, machine, mode, tile_y, tile_x),
    }
    return Command(Opcode.GEOMETRY, geometry), Command(Opcode.OUTPUT, output)


def _execs(
    rng: random.Random, machine: Machine, geometry: Command, output: Command, masks: dict[str, int]
) -> list[Command]:
    py, px = output["pool_y"], output["pool_x"]
    common = {
        "act": rng.randint(0, 900),
        "weight": rng.randint(0, 20),
        "param": rng.randint(0, 7),
        "out": rng.randint(0, 400),
        "cols": rng.randint(1, machine.array.cols),
        "rows_last": rng.randint(1, machine.array.rows // (output["planes"] or 1)),
        "list": rng.randint(0, 2 * machine.buffers.step_entries),
    }
    if rng.random() < 0.3:  # accumulators kept over two or three commands
        count = rng.randint(2, 3)
        shape = {
            "groups": 1,
            "region_x": px * rng.randint(1, geometry["tile_x"] // px),
            "region_y": py * rng.randint(1, geometry["tile_y"] // py),
        }
        parts = []
        for i in range(count):
            ends = {"first": int(i == 0), "last": int(i == count - 1)}
            tokens = {"wait": masks["wait"] if i == 0 else 0}
            if i == count - 1:
                tokens |= {"post": masks["post"], "post_drain": masks["post_drain"]}
            parts.append(Command(Opcode.EXEC, {**common, **shape, **ends, **tokens}))
        return parts
    shape = {
        "groups": rng.randint(1, 3),
        "region_x": px * rng.randint(1, 6),
        "region_y": py * rng.randint(1, 3),
    }
    return [Command(Opcode.EXEC, {**common, **shape, "first": 1, "last": 1, **masks})]


def _store(rng: random.Random, **masks: int) -> Command:
    pack = rng.choice([0, 0, 1, 2, 3])
    shape = {
        "pack": pack,
        "src": rng.randint(0, 500),
        "src_row": rng.randint(1, 60),
        "src_plane": rng.randint(1, 60),
        "address": 12288 + rng.randint(0, 2000),
        "dst_row": rng.randint(60, 90),
        "dst_plane": rng.randint(300, 400),
        "run": rng.randint(1, 60 << pack),
        "rows": rng.randint(1, 4),
        "planes": rng.randint(1, 2),
    }
    return Command(Opcode.STORE, {**shape, **masks})


def random_program(
    rng: random.Random,
    machine: Machine,
    blocks: int = 6,
    *,
    ahead: int = 2,
    modes: Sequence[PostMode] = tuple(PostMode),
) -> Program:
    """A program of random loads, fills, execs and stores held together by tokens.

    Units may be `ahead` blocks ahead of the next one: with 1 what is read is never overwritten before.
    Token 0: loads to execs, 1: execs back to loads, 4: execs to stores, 5: stores back to execs.
    """
    commands: list[Command] = []
    layer_of: list[int] = []
    geometry, output = _geometry(rng, machine, modes)
    if machine.step_lines:  # any bytes make lists
        lists = {"address": 8192, "run": machine.step_lines * machine.bus_bytes, "rows": 1, "planes": 1}
        commands.append(Command(Opcode.LOAD, {"target": int(LoadTarget.STEPS), "wrap": 1, **lists}))
    for block in range(blocks):
        for i in range(loads := rng.randint(1, 3)):
            masks = {"post": 1 if i == loads - 1 else 0}
            if i == 0 and block >= ahead:
                masks["wait"] = 1 << 1
            make = _fill if rng.random() < 0.4 else _load
            commands.append(make(rng, machine, **masks))
        if block == 0 or rng.random() < 0.4:
            geometry, output = _geometry(rng, machine, modes)
            commands += rng.sample([geometry, output], 2)
        wait = 1 | ((1 << 5) if block >= ahead else 0)
        tokens = {"wait": wait, "post": 1 << 1, "post_drain": 1 << 4}
        commands += _execs(rng, machine, geometry, output, tokens)
        for i in range(stores := rng.randint(1, 2)):
            masks = {}
            if i == 0:
                masks["wait"] = 1 << 4
            if i == stores - 1:
                masks["post"] = 1 << 5
            commands.append(_store(rng, **masks))
        layer_of += [block // 2] * (len(commands) - len(layer_of))
    data = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, 4096, dtype=np.uint8)
    return make_program(machine, commands, data, layer_of=layer_of)
