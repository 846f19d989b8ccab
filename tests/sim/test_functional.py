"""The functional run against a naive one in plain Python integers."""

from __future__ import annotations

import random
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
from bitwright.mapper.isa import Command, Opcode
from bitwright.mapper.machine import Machine
from bitwright.mapper.program import Program, ProgramError
from bitwright.models.numerics import Rounding, rescale
from bitwright.sim.functional import FunctionalCore, run_memory
from bitwright.sim.functional_kernel import requantize_one


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _round_half_away(value: Fraction) -> int:
    whole = int(abs(value) + Fraction(1, 2))
    return whole if value >= 0 else -whole


def exact_requantize(x: int, multiplier: int, shift: int, rounding: int) -> int:
    """POST's table in rationals: floor, ties and halves as the table words them."""
    p = Fraction(x * multiplier)
    if rounding == 0:
        high = (p / 2**31 + Fraction(1, 2)).__floor__()
        return _round_half_away(Fraction(high, 2**shift))
    if rounding == 1:
        return (p / 2 ** (31 + shift) + Fraction(1, 2)).__floor__()
    if rounding == 2:
        return round(p / 2 ** (31 + shift))  # Fraction rounds half to even
    return (p / 2 ** (31 + shift)).__floor__()


class NaiveCore:
    """The same commands on dictionaries of bytes, one operand at a time."""

    def __init__(self, machine: Machine, memory: np.ndarray) -> None:
        self.m = machine
        self.memory = [int(b) for b in memory]
        self.bank: list[dict[int, int]] = [{} for _ in range(machine.array.cols)]
        self.weight: dict[tuple[int, int], int] = {}
        self.param: dict[tuple[int, int], int] = {}
        self.out: dict[int, int] = {}
        self.acc: dict[tuple[int, int, int], int] = {}

    def run(self, k: Command) -> None:
        getattr(self, f"do_{k.opcode.name.lower()}", lambda _: None)(k)

    def do_load(self, k: Command) -> None:
        m = self.m
        if k["target"] == 0:
            for p in range(k["planes"]):
                for r in range(k["rows"]):
                    for i in range(k["run"]):
                        byte = self.memory[k["address"] + p * k["src_plane"] + r * k["src_row"] + i]
                        at = k["dst"] + p * k["dst_plane"] + r * k["dst_row"] + i
                        for c in range(m.array.cols):
                            if k["cols"] >> c & 1:
                                self.bank[c][at % m.buffers.activation_bytes] = byte
            return
        into, lines = (self.weight, m.weight_lines) if k["target"] == 1 else (self.param, m.param_lines)
        for i in range(k["run"]):
            line, inside = divmod(i, k["wrap"] * m.bus_bytes)
            into[(k["dst"] + line) % lines, inside] = self.memory[k["address"] + i]

    def do_fill(self, k: Command) -> None:
        for p in range(k["planes"]):
            for r in range(k["rows"]):
                for i in range(k["run"]):
                    at = k["dst"] + p * k["dst_plane"] + r * k["dst_row"] + i
                    for c in range(self.m.array.cols):
                        if k["cols"] >> c & 1:
                            self.bank[c][at % self.m.buffers.activation_bytes] = k["value"] & 255

    def do_geometry(self, k: Command) -> None:
        self.g = k

    def do_output(self, k: Command) -> None:
        self.o = k

    def do_exec(self, k: Command) -> None:
        m, g, o = self.m, self.g, self.o
        lanes = min(m.array.act_word_bits, m.array.weight_word_bits) // 8
        word = m.array.weight_word_bits // 8
        for group in range(k["groups"]):
            for iy, ty in enumerate(range(0, k["region_y"], g["tile_y"])):
                for ix, tx in enumerate(range(0, k["region_x"], g["tile_x"])):
                    th = min(g["tile_y"], k["region_y"] - ty)
                    tw = min(g["tile_x"], k["region_x"] - tx)
                    if k["first"]:
                        self.acc.clear()
                    taps = [
                        (fy, fx, s)
                        for fy in range(g["fy"])
                        for fx in range(g["fx"])
                        for s in range(g["sets"])
                    ]
                    for c in range(m.array.cols):
                        for r in range(m.array.rows):
                            for py in range(th):
                                for px in range(tw):
                                    total = self.acc.get((c, r, py * tw + px), 0)
                                    for step, (fy, fx, s) in enumerate(taps):
                                        base = (
                                            k["act"] + c * g["act_col"] + iy * g["act_tile_y"]
                                            + ix * g["act_tile_x"] + py * g["pixel_y"]
                                            + px * g["pixel_x"] + fy * g["tap_y"]
                                            + fx * g["tap_x"] + s * lanes
                                        )  # fmt: skip
                                        line = k["weight"] + group * g["weight_group"]
                                        line += step // (word // lanes)
                                        inside = r * word + step % (word // lanes) * lanes
                                        for n in range(g["tail"] if s == g["sets"] - 1 else lanes):
                                            at = (base + n) % m.buffers.activation_bytes
                                            w = self.weight.get((line % m.weight_lines, inside + n), 0)
                                            a = self.bank[c].get(at, 0)
                                            total += _signed(a) * _signed(w)
                                    self.acc[c, r, py * tw + px] = total
                    if k["last"]:
                        self.drain(k, g, o, group, iy, ix, th, tw)

    def drain(
        self, k: Command, g: Command, o: Command, group: int, iy: int, ix: int, th: int, tw: int
    ) -> None:
        m = self.m
        last = group == k["groups"] - 1
        for wy in range(th // o["pool_y"]):
            for wx in range(tw // o["pool_x"]):
                for c in range(k["cols"]):
                    for r in range(k["rows_last"] if last else m.array.rows):
                        q, lane = divmod(r, m.post.lanes)
                        line = k["param"] + group * (m.array.rows // m.post.lanes) + q
                        cell = [self.param.get((line % m.param_lines, lane * 16 + i), 0) for i in range(16)]
                        bias = int.from_bytes(bytes(cell[0:4]), "little", signed=True)
                        multiplier = int.from_bytes(bytes(cell[4:8]), "little", signed=True)
                        values = []
                        for jy in range(o["pool_y"]):
                            for jx in range(o["pool_x"]):
                                at = (wy * o["pool_y"] + jy) * tw + wx * o["pool_x"] + jx
                                x = self.acc[c, r, at] + bias
                                y = exact_requantize(x, multiplier, cell[8], o["rounding"])
                                y += o["zero_point"]
                                values.append(min(max(y, o["clamp_low"]), o["clamp_high"]))
                        to = (
                            k["out"] + c * o["col"] + group * o["group"] + iy * o["tile_y"]
                            + ix * o["tile_x"] + wy * o["pixel_y"] + wx * o["pixel_x"] + r
                        )  # fmt: skip
                        self.out[to % m.buffers.output_bytes] = max(values) & 255

    def do_store(self, k: Command) -> None:
        for p in range(k["planes"]):
            for r in range(k["rows"]):
                for i in range(k["run"]):
                    at = k["src"] + p * k["src_plane"] + r * k["src_row"] + i
                    to = k["address"] + p * k["dst_plane"] + r * k["dst_row"] + i
                    self.memory[to] = self.out.get(at % self.m.buffers.output_bytes, 0)


def _params(rng: np.random.Generator, channels: int) -> np.ndarray:
    cells = np.zeros((channels, 16), np.uint8)
    cells[:, 0:4] = rng.integers(-5000, 5000, channels, dtype=np.int32)[:, None].view(np.uint8)
    big = rng.integers(1 << 30, 1 << 31, channels, dtype=np.uint32)[:, None]
    cells[:, 4:8] = big.view(np.uint8)
    cells[:, 8] = rng.integers(3, 9, channels)
    return cells.reshape(-1)


@pytest.mark.parametrize("seed", range(12))
def test_every_command_changes_the_same_bytes_as_the_naive_core(builder: ModuleType, seed: int) -> None:
    rng = random.Random(seed)
    machine = builder.random_machine(rng)
    program = builder.random_program(rng, machine, 4)
    memory = program.image.copy()
    channels = machine.buffers.param_channels
    memory[16000 - 16 * channels : 16000] = _params(np.random.default_rng(seed), channels)
    unit = machine.bus_bytes
    params = Command(
        Opcode.LOAD,
        {
            "target": 2, "address": 16000 - 16 * channels, "run": 16 * channels, "rows": 1,
            "planes": 1, "wrap": machine.param_line_bits // 8 // unit,
        },
    )  # fmt: skip
    fast, naive = FunctionalCore(machine, memory.copy()), NaiveCore(machine, memory)
    for command in (params, *program.commands):
        fast.run(command)
        naive.run(command)
    assert fast.memory.tolist() == naive.memory
    written = {at: int(fast.output[at]) for at in naive.out}
    assert written == naive.out
    assert len(set(written.values())) > 1


def test_requantization_equals_exact_rationals_on_random_and_tie_values() -> None:
    rng = random.Random(7)
    for _ in range(3000):
        shift, rounding = rng.randint(0, 31), rng.randint(0, 3)
        multiplier = rng.choice([1 << 30, (1 << 31) - 1, rng.randint(0, (1 << 31) - 1)])
        x = rng.choice([rng.randint(-(2**31), 2**31 - 1), rng.randint(-64, 64) << min(shift, 24)])
        ours = requantize_one(x, 0, multiplier, shift, rounding, 0, -(2**40), 2**40)
        assert ours == exact_requantize(x, multiplier, shift, rounding), (x, multiplier, shift)


def test_requantization_equals_the_library_s_numerics() -> None:
    rng = random.Random(11)
    for _ in range(2000):
        shift, rounding = rng.randint(0, 31), rng.randint(0, 3)
        multiplier, x = rng.randint(0, (1 << 31) - 1), rng.randint(-(2**31), 2**31 - 1)
        ours = requantize_one(x, 0, multiplier, shift, rounding, 0, -(2**40), 2**40)
        theirs = int(rescale(np.array([x]), multiplier, shift, Rounding(rounding))[0])
        assert ours == theirs, (x, multiplier, shift, rounding)


def _copy_program(builder: ModuleType, waits: dict[str, int]) -> Program:
    machine = builder.make_machine()
    store = Command(Opcode.STORE, {"address": 12288, "run": 8, "rows": 1, "planes": 1, **waits})
    return builder.make_program(machine, [store])


def test_a_wait_that_nothing_posts_is_named_as_a_deadlock(builder: ModuleType) -> None:
    program = _copy_program(builder, {"wait": 2})
    with pytest.raises(ProgramError, match=r"command 0 \(STORE, layer layer0\): .*deadlock"):
        run_memory(program, program.image)


def test_an_address_outside_memory_is_refused(builder: ModuleType) -> None:
    program = _copy_program(builder, {"rows": 2, "dst_row": 9000})
    with pytest.raises(ProgramError, match="reaches byte 21296 of memory"):
        run_memory(program, program.image)


def test_tokens_order_units_whatever_the_order_in_which_they_are_served(
    builder: ModuleType,
) -> None:
    machine = builder.make_machine()
    commands = [
        Command(Opcode.GEOMETRY, {"tile_x": 1, "tile_y": 1, "sets": 1, "fx": 1, "fy": 1}),
        Command(Opcode.OUTPUT, {"clamp_high": 127, "clamp_low": -128, "pool_x": 1, "pool_y": 1,
                                "zero_point": 5}),
    ]  # fmt: skip
    for i in range(4):
        commands += [
            Command(Opcode.EXEC, {"region_x": 1, "region_y": 1, "groups": 1, "cols": 1,
                                  "rows_last": 4, "first": 1, "last": 1, "out": 0,
                                  "post_drain": 16, "wait": 32 if i else 0}),
            Command(Opcode.STORE, {"wait": 16, "post": 32, "run": 4, "rows": 1, "planes": 1,
                                   "address": 12288 + 4 * i}),
        ]  # fmt: skip
    program = builder.make_program(machine, commands)
    plain = run_memory(program, program.image)
    assert plain[12288 : 12288 + 16].tolist() == [5] * 16
    for seed in range(5):
        assert np.array_equal(run_memory(program, program.image, seed), plain)
