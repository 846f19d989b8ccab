"""The functional run against a naive one in plain Python integers."""

from __future__ import annotations

import random
import struct
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
from bitwright.mapper.isa import Command, Opcode
from bitwright.mapper.machine import Machine
from bitwright.mapper.program import Program, ProgramError
from bitwright.models.numerics import Rounding, rescale
from bitwright.sim.functional import FunctionalCore, run_memory
from bitwright.sim.post_kernel import count_thresholds_one, requantize_one


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _value(number: int, at: int, bits: int) -> int:
    """The value of `bits` bits at bit `at`: two's complement, a single bit −1 or 1."""
    raw = number >> at & (1 << bits) - 1
    if bits == 1:
        return (-1, 1)[raw]
    return raw - (1 << bits) if raw >> bits - 1 else raw


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
        self.list: dict[tuple[int, int], int] = {}
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
        into, lines = {
            1: (self.weight, m.weight_lines),
            2: (self.param, m.param_lines),
            3: (self.list, m.buffers.step_entries * 4 // m.bus_bytes),
        }[k["target"]]
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
        # int8; ternary and binary weights on int8; ternary, binary; lane by lane.
        w_bits, a_bits = ((8, 8), (2, 8), (1, 8), (2, 2), (1, 1), (8, 8))[g["pe"]]
        vector = g["pe"] == 5
        word = m.array.weight_word_bits
        lanes = 1 if vector else min(m.array.act_word_bits // a_bits, word // w_bits)
        per_word = word // (lanes * w_bits)
        entry, first_line = k["list"], k["weight"]
        for group in range(k["groups"]):
            # (bytes from the tile's first, lanes that count) of each step
            taps = [
                (fy * g["tap_y"] + fx * g["tap_x"] + s * lanes * a_bits // 8,
                 g["tail"] if s == g["sets"] - 1 else lanes)
                for fy in range(g["fy"])
                for fx in range(g["fx"])
                for s in range(g["sets"])
            ]  # fmt: skip
            if g["listed"]:
                taps, over = [], False
                while not over:
                    offset, cut, over = self.list_entry(entry)
                    taps.append((offset, g["tail"] if cut else lanes))
                    entry += 1
            else:
                first_line = k["weight"] + group * g["weight_group"]
            for iy, ty in enumerate(range(0, k["region_y"], g["tile_y"])):
                for ix, tx in enumerate(range(0, k["region_x"], g["tile_x"])):
                    th = min(g["tile_y"], k["region_y"] - ty)
                    tw = min(g["tile_x"], k["region_x"] - tx)
                    if k["first"]:
                        self.acc.clear()
                    for c in range(m.array.cols):
                        for r in range(m.array.rows):
                            for py in range(th):
                                for px in range(tw):
                                    total = self.acc.get((c, r, py * tw + px), 0)
                                    for step, (offset, count) in enumerate(taps):
                                        base = (
                                            k["act"] + c * g["act_col"] + group * g["act_group"]
                                            + iy * g["act_tile_y"]
                                            + ix * g["act_tile_x"] + py * g["pixel_y"]
                                            + px * g["pixel_x"] + offset
                                        )  # fmt: skip
                                        base = 8 * base + 8 * r * vector
                                        line = (first_line + step // per_word) % m.weight_lines
                                        inside = r * word + step % per_word * lanes * w_bits
                                        for n in range(1 if vector else count):
                                            w = self.weight_value(line, inside + n * w_bits, w_bits)
                                            total += w * self.act_value(c, base + n * a_bits, a_bits)
                                    self.acc[c, r, py * tw + px] = total
                    if k["last"]:
                        self.drain(k, g, o, group, iy, ix, th, tw)
            first_line += -(-len(taps) // per_word)

    def list_entry(self, number: int) -> tuple[int, int, int]:
        """Offset, whether the tail cuts the lanes, whether it is the list's last."""
        at = 4 * (number % self.m.buffers.step_entries)
        data = bytes(self.list.get(divmod(at + i, self.m.bus_bytes), 0) for i in range(4))
        word = struct.unpack("<I", data)[0]
        return word % 2**20, word >> 20 & 1, word >> 21 & 1

    def weight_value(self, line: int, bit: int, bits: int) -> int:
        return _value(self.weight.get((line, bit // 8), 0), bit % 8, bits)

    def act_value(self, col: int, bit: int, bits: int) -> int:
        byte = bit // 8 % self.m.buffers.activation_bytes
        return _value(self.bank[col].get(byte, 0), bit % 8, bits)

    def entry(self, line: int, lane: int) -> bytes:
        line %= self.m.param_lines
        return bytes(self.param.get((line, lane * 16 + i), 0) for i in range(16))

    def scaled(self, acc: int, line: int, lane: int, rounding: int) -> int:
        bias, multiplier, shift, left = struct.unpack("<iiBB6x", self.entry(line, lane))
        return exact_requantize((acc + bias) * 2**left, multiplier, shift, rounding)

    def search(self, acc: int, line: int, lane: int, node: int, levels: int) -> int:
        """Thresholds not above acc in the subtree of `node`, of which each child holds as many."""
        if levels == 0:
            return 0
        keys = struct.unpack("<iii4x", self.entry(line + node, lane))
        taken = len([key for key in keys if key <= acc])
        below = 4 ** (levels - 1)  # a child's thresholds and the key after it
        return taken * below + self.search(acc, line, lane, 4 * node + 1 + taken, levels - 1)

    def drain(
        self, k: Command, g: Command, o: Command, group: int, iy: int, ix: int, th: int, tw: int
    ) -> None:
        m = self.m
        last = group == k["groups"] - 1
        for wy in range(th // o["pool_y"]):
            for wx in range(tw // o["pool_x"]):
                for c in range(k["cols"]):
                    planes = o["planes"] if o["mode"] == 3 else 1
                    for r in range(k["rows_last"] if last else m.array.rows // planes):
                        q, lane = divmod(r, m.post.lanes)
                        q *= planes
                        line = k["param"] + group * o["param_group"] + q * o["param_set"]
                        rounding, low, high = o["rounding"], o["clamp_low"], o["clamp_high"]
                        row = q * m.post.lanes + lane
                        accs = [
                            self.acc[c, row, (wy * o["pool_y"] + jy) * tw + wx * o["pool_x"] + jx]
                            for jy in range(o["pool_y"])
                            for jx in range(o["pool_x"])
                        ]
                        if o["mode"] == 1:
                            result = max(
                                low + o["step"] * self.search(x, line, lane, 0, o["levels"]) for x in accs
                            )
                        else:
                            if o["mode"] == 0:
                                found = [self.scaled(x, line, lane, rounding) for x in accs]
                            else:
                                step = 1
                                if o["mode"] == 3:  # one pixel, its planes' rows
                                    step = o["param_set"]
                                    accs = [
                                        self.acc[c, row + p * m.post.lanes, wy * tw + wx]
                                        for p in range(planes)
                                    ]
                                both = sum(
                                    self.scaled(x, line + i * step, lane, rounding)
                                    for i, x in enumerate(accs)
                                )
                                found = [
                                    exact_requantize(both, o["sum_multiplier"], o["sum_shift"], rounding)
                                ]
                            result = max(min(max(y + o["zero_point"], low), high) for y in found)
                        to = (
                            k["out"] + c * o["col"] + group * o["group"] + iy * o["tile_y"]
                            + ix * o["tile_x"] + wy * o["pixel_y"] + wx * o["pixel_x"] + r
                        )  # fmt: skip
                        self.out[to % m.buffers.output_bytes] = result & 255

    def do_store(self, k: Command) -> None:
        bits = 8 >> k["pack"]
        for p in range(k["planes"]):
            for r in range(k["rows"]):
                row = ""  # the row's bits, the first on the right
                for i in range(k["run"]):
                    at = k["src"] + p * k["src_plane"] + r * k["src_row"] + i
                    byte = f"{self.out.get(at % self.m.buffers.output_bytes, 0):08b}"
                    row = (byte[-bits:] if bits > 1 else "10"[int(byte[0])]) + row
                to = k["address"] + p * k["dst_plane"] + r * k["dst_row"]
                while row:
                    self.memory[to], row, to = int(row[-8:], 2), row[:-8], to + 1


def _params(rng: np.random.Generator, channels: int) -> np.ndarray:
    cells = np.zeros((channels, 16), np.uint8)
    cells[:, 0:4] = rng.integers(-5000, 5000, channels, dtype=np.int32)[:, None].view(np.uint8)
    big = rng.integers(1 << 30, 1 << 31, channels, dtype=np.uint32)[:, None]
    cells[:, 4:8] = big.view(np.uint8)
    cells[:, 8] = rng.integers(3, 9, channels)
    cells[:, 9] = rng.integers(0, 4, channels)
    return cells.reshape(-1)


@pytest.mark.parametrize("seed", range(24))
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


@pytest.mark.parametrize("tail", [0, 1])
def test_lane_wise_rows_take_channels_of_their_own_and_weights_share_words(
    builder: ModuleType, tail: int
) -> None:
    machine = builder.make_machine()  # 4 rows, 2 columns, 4 steps in a weight word of 4 bytes
    core = FunctionalCore(machine, np.zeros(64, np.uint8))
    rng = np.random.default_rng(3)
    image = rng.integers(-128, 128, (2, 3, 3, 8))  # column, y, x, channel
    taps = rng.integers(-128, 128, (9, 8))  # a 3 × 3 filter for each channel
    core.banks[:, : image[0].size] = image.astype(np.int8).view(np.uint8).reshape(2, -1)
    for group in range(2):
        for step in range(9):
            for row in range(4):
                line = 5 + 3 * group + step // 4
                core.weights[line, 4 * row + step % 4] = taps[step, 4 * group + row] & 255
    geometry = {"pe": 5, "tile_x": 1, "tile_y": 1, "sets": 1, "fx": 3, "fy": 3, "tail": tail}
    strides = {"tap_x": 8, "tap_y": 24, "act_group": 4, "weight_group": 3}
    core.run(Command(Opcode.GEOMETRY, geometry | strides))
    found = []
    for group in range(2):
        run = {"region_x": 1, "region_y": 1, "groups": 1, "first": 1}
        core.run(Command(Opcode.EXEC, run | {"act": 4 * group, "weight": 5 + 3 * group}))
        found.append(core.accumulators[:, :, 0].copy())
    expected = np.einsum("pnk,nk->pk", image.reshape(2, 9, 8), taps)
    assert np.array_equal(np.concatenate(found, axis=1), expected)


def test_requantization_equals_exact_rationals_on_random_and_tie_values() -> None:
    rng = random.Random(7)
    for _ in range(3000):
        shift, rounding = rng.randint(0, 31), rng.randint(0, 3)
        multiplier = rng.choice([1 << 30, (1 << 31) - 1, rng.randint(0, (1 << 31) - 1)])
        x = rng.choice([rng.randint(-(2**31), 2**31 - 1), rng.randint(-64, 64) << min(shift, 24)])
        ours = requantize_one(x, 0, 0, multiplier, shift, rounding, 0, -(2**40), 2**40)
        assert ours == exact_requantize(x, multiplier, shift, rounding), (x, multiplier, shift)


def test_requantization_equals_the_library_s_numerics() -> None:
    rng = random.Random(11)
    for _ in range(2000):
        shift, rounding = rng.randint(0, 31), rng.randint(0, 3)
        multiplier, x = rng.randint(0, (1 << 31) - 1), rng.randint(-(2**31), 2**31 - 1)
        ours = requantize_one(x, 0, 0, multiplier, shift, rounding, 0, -(2**40), 2**40)
        theirs = int(rescale(np.array([x]), multiplier, shift, Rounding(rounding))[0])
        assert ours == theirs, (x, multiplier, shift, rounding)


def test_a_left_shift_multiplies_before_rounding() -> None:
    rng = random.Random(13)
    for _ in range(2000):
        left = rng.randint(0, 20)
        acc, bias = (rng.randint(-(2 ** (30 - left)), 2 ** (30 - left) - 1) for _ in range(2))
        multiplier, shift = rng.randint(0, (1 << 31) - 1), rng.randint(0, 31)
        rounding, zero = rng.randint(0, 3), rng.randint(-9, 9)
        ours = requantize_one(acc, bias, left, multiplier, shift, rounding, zero, -128, 127)
        exact = exact_requantize((acc + bias) * 2**left, multiplier, shift, rounding)
        assert ours == min(max(exact + zero, -128), 127), (acc, bias, left, multiplier, shift)


def _tree_lines(thresholds: list[int], levels: int) -> list[list[int]]:
    """A node's three keys for every node in level order: keys that divide its range into quarters."""
    missing = [2**31 - 1] * (4**levels - 1 - len(thresholds))
    ranges, nodes = [thresholds + missing], []
    while ranges and ranges[0]:
        below = []
        for part in ranges:
            quarter = (len(part) + 1) // 4
            nodes.append([part[i * quarter - 1] for i in (1, 2, 3)])
            below += [part[i * quarter : (i + 1) * quarter - 1] for i in range(4)]
        ranges = below
    return nodes


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_the_search_counts_the_thresholds_that_are_not_above_the_accumulator(levels: int) -> None:
    rng = random.Random(levels)
    for _ in range(30):
        wide = rng.choice([8, 400, 2**31 - 2])  # close together, they repeat
        count = rng.randint(0, 4**levels - 1)
        thresholds = sorted(rng.randint(-wide, wide) for _ in range(count))
        nodes = _tree_lines(thresholds, levels)
        assert len(nodes) == (4**levels - 1) // 3
        params = np.zeros((128, 32), np.uint8)  # two POST lanes; the tree is the second one's
        first = rng.randint(0, 127)
        for i, keys in enumerate(nodes):
            params[(first + i) % 128, 16:28] = np.array(keys, np.int32).view(np.uint8)
        for acc in (*thresholds, *(t - 1 for t in thresholds), -(2**31), 0, 2**31 - 2):
            found = count_thresholds_one(acc, params, first, 16, levels)
            assert found == sum(acc >= t for t in thresholds), (acc, thresholds)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": 3, "planes": 3}, "OUTPUT.planes must divide the 2 lane sets of a pixel, not be 3"),
        ({"mode": 3, "pool_y": 2}, "OUTPUT.pool_y and pool_x must be 1 in mode 3, not 2 and 1"),
        ({"mode": 1, "levels": 5}, "OUTPUT.levels must be from 1 to 4 in mode 1, not 5"),
        ({"mode": 2}, "OUTPUT.pool_y and pool_x must be 2 and 1 in mode 2, not 1 and 1"),
    ],
)
def test_what_post_does_not_do_is_refused(builder: ModuleType, changes: dict[str, int], message: str) -> None:
    commands = [
        Command(Opcode.GEOMETRY, {"tile_x": 1, "tile_y": 1, "sets": 1, "fx": 1, "fy": 1}),
        Command(Opcode.OUTPUT, {"pool_x": 1, "pool_y": 1, **changes}),
        Command(Opcode.EXEC, {"region_x": 1, "region_y": 1, "groups": 1, "first": 1, "last": 1}),
    ]
    program = builder.make_program(builder.make_machine(), commands)
    with pytest.raises(ProgramError, match=message):
        run_memory(program, program.image)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (Command(Opcode.STORE, {"pack": 3, "run": 1, "rows": 1, "planes": 1}), "STORE.pack must be 0"),
        (Command(Opcode.OUTPUT, {"mode": 2, "pool_y": 2, "pool_x": 1}), "mode 2 .* needs PE kind vector"),
        (Command(Opcode.GEOMETRY, {"pe": 4}), r"one of the machine's PE kinds 0 \(int8\), not 4"),
    ],
)
def test_what_an_int8_machine_lacks_is_refused(builder: ModuleType, command: Command, message: str) -> None:
    machine = builder.make_machine(pes=("int8",))
    ready = {
        Opcode.GEOMETRY: {"tile_x": 2, "tile_y": 2, "sets": 1, "fx": 1, "fy": 1},
        Opcode.OUTPUT: {"pool_x": 1, "pool_y": 1},
    }
    commands = [
        Command(opcode, fields | (dict(command.fields) if opcode == command.opcode else {}))
        for opcode, fields in ready.items()
    ]
    run = {"region_x": 2, "region_y": 2, "groups": 1, "first": 1, "last": 1}
    commands += [Command(Opcode.EXEC, run), command]
    program = builder.make_program(machine, commands)
    with pytest.raises(ProgramError, match=message):
        run_memory(program, program.image)


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
