"""The cycle model against a twin that steps every unit in every cycle."""

from __future__ import annotations

import random
from types import ModuleType

import numpy as np
import pytest
from bitwright.mapper.isa import Command, Opcode
from bitwright.mapper.machine import MemoryTiming
from bitwright.mapper.program import ProgramError
from bitwright.sim.cycle_kernel import STALL_POST, stall_cycles
from bitwright.sim.timing import Timing, memory_table, time_program


def _compare(timing: Timing, twin: object, commands: tuple[Command, ...]) -> None:
    expected = twin.__dict__
    assert timing.cycles == expected["cycles"]
    assert timing.read_beats == expected["read_beats"]
    assert int(timing.issue.sum()) == expected["issue_cycles"]
    assert int(timing.post_reads.sum()) == expected["post_reads"]
    assert int(timing.gathers.sum()) == expected["gathers"]
    for name in ("dispatch", "start", "end", "drain"):
        ours = getattr(timing, name)
        differing = {i: (int(ours[i]), c) for i, c in expected[name].items() if ours[i] != c}
        assert not differing, name
    assert len(expected["end"]) == len(commands) - 1


@pytest.mark.parametrize("seed", range(120))
def test_every_command_starts_and_ends_in_the_same_cycle_as_in_the_stepped_twin(
    builder: ModuleType, stepped: ModuleType, seed: int
) -> None:
    rng = random.Random(seed)
    machine = builder.random_machine(rng)
    program = builder.random_program(rng, machine)
    memory = builder.random_memory(rng)
    timing = time_program(program, memory)
    _compare(timing, stepped.Stepped(program, memory).run(), program.commands)


def test_the_compiled_kernel_equals_its_python(builder: ModuleType) -> None:
    rng = random.Random(99)
    machine = builder.random_machine(rng)
    program = builder.random_program(rng, machine)
    memory = MemoryTiming(stall_rate=90, seed=0xFFFF_FFFF, beat_interval=2)
    fast, plain = (time_program(program, memory, compiled=c) for c in (True, False))
    assert fast.cycles == plain.cycles
    for name in ("dispatch", "start", "end", "drain", "issue", "post_reads", "stalls"):
        assert np.array_equal(getattr(fast, name), getattr(plain, name)), name


def test_stalls_equal_the_hash_of_the_architecture_text(stepped: ModuleType) -> None:
    memory = MemoryTiming(stall_rate=128, stall_mask=255, seed=0xDEADBEEF)
    table = memory_table(memory)
    for channel, name in enumerate(("AR", "R", "AW", "W")):
        for i in (0, 1, 2, 77, 2**31, 2**32 - 1):
            assert stall_cycles(table, channel, i) == stepped.stall(memory, name, i)


def test_array_cycles_are_all_laid_to_a_cause(builder: ModuleType) -> None:
    rng = random.Random(5)
    machine = builder.random_machine(rng)
    timing = time_program(builder.random_program(rng, machine), MemoryTiming())
    assert int(timing.stalls.sum() + timing.issue.sum()) == timing.array_idle_from


def test_a_wait_is_laid_to_what_was_seen_last(builder: ModuleType) -> None:
    # The last OUTPUT waits for the FILL's token, seen two cycles after its post, and for the drain
    # before it, over one cycle after its last write. The FILL gets longer by a cycle each time.
    gaps = set()
    for beats in range(40, 80):
        commands = [
            Command(Opcode.GEOMETRY, {"tile_x": 2, "tile_y": 2, "sets": 3, "fx": 1, "fy": 1}),
            Command(Opcode.OUTPUT, {"pool_x": 1, "pool_y": 1}),
            Command(Opcode.FILL, {"run": 8 * beats, "rows": 1, "planes": 1, "cols": 1, "post": 1}),
            Command(
                Opcode.EXEC, {"region_x": 2, "region_y": 2, "groups": 1, "cols": 2, "first": 1, "last": 1}
            ),
            Command(Opcode.OUTPUT, {"wait": 1, "pool_x": 1, "pool_y": 1}),
            Command(Opcode.STORE, {"address": 12288, "run": 8, "rows": 1, "planes": 1}),
        ]
        timing = time_program(builder.make_program(builder.make_machine(), commands), MemoryTiming())
        token, drain = int(timing.end[2]) + 2, int(timing.drain[3]) + 1
        assert int(timing.start[4]) == max(token, drain)
        cause, other = (0, STALL_POST) if token > drain else (STALL_POST, 0)
        assert int(timing.stalls[4, cause]) > 0
        assert int(timing.stalls[4, other]) == 0
        gaps.add(token - drain)
    assert {0, 1} < gaps


def test_a_single_store_takes_the_cycles_that_hand_counting_gives(builder: ModuleType) -> None:
    # Bus 8 bytes, fetch bursts of 2 commands, 4 beats each. FETCH asks at 2, arvalid 3, handshake 3;
    # beats from 3 + 20 = 23 on, the STORE complete at 26: FIFO head 27, dispatched 27, taken 28,
    # ROW 29, AW 30; data from 29 + 5 = 34 on, W 34 (2 beats: 34, 35), B 35 + 8 = 43.
    machine = builder.make_machine()
    store = Command(Opcode.STORE, {"address": 12288, "run": 16, "rows": 1, "planes": 1})
    timing = time_program(builder.make_program(machine, [store]), MemoryTiming())
    assert int(timing.dispatch[0]) == 27
    assert int(timing.start[0]) == 28
    assert timing.cycles == 43
    assert int(timing.end[0]) == 44
    assert timing.read_beats == 8


def test_a_packed_store_waits_for_the_reads_of_each_beat(builder: ModuleType) -> None:
    # As above to ROW 29. 200 bits are 25 bytes, 4 beats of 64, 64, 64 and 8 values: 8, 8, 8, 1 reads.
    # Data from 29 + 5 + 8 = 42 on, W 42, 50, 58, 59, B 59 + 8 = 67.
    store = Command(Opcode.STORE, {"address": 12288, "run": 200, "rows": 1, "planes": 1, "pack": 3})
    timing = time_program(builder.make_program(builder.make_machine(), [store]), MemoryTiming())
    assert timing.cycles == 67
    assert (int(timing.beats[0]), int(timing.gathers[0])) == (4, 25)


def test_a_token_is_seen_two_cycles_after_its_post(builder: ModuleType) -> None:
    # As above the FILL is taken at 28, ROW 29, head 30; 64 bytes are 8 beats, the last at 37.
    commands = [
        Command(Opcode.FILL, {"run": 64, "rows": 1, "planes": 1, "cols": 1, "post": 1}),
        Command(Opcode.STORE, {"wait": 1, "address": 12288, "run": 8, "rows": 1, "planes": 1}),
    ]
    timing = time_program(builder.make_program(builder.make_machine(), commands), MemoryTiming())
    assert (int(timing.end[0]), int(timing.start[1])) == (37, 39)


@pytest.mark.parametrize(
    ("output", "reads"),
    [
        # 4 pixels × 2 columns × 4 rows / 2 POST lanes are 16 reads.
        ({"mode": 0}, 16),
        ({"mode": 1, "levels": 1}, 16),
        ({"mode": 1, "levels": 3}, 16 * 6),
        ({"mode": 2, "pool_y": 2}, 16),
    ],
)
def test_a_drain_takes_the_cycles_of_its_mode(
    builder: ModuleType, output: dict[str, int], reads: int
) -> None:
    commands = [
        Command(Opcode.GEOMETRY, {"tile_x": 2, "tile_y": 2, "sets": 3, "fx": 1, "fy": 1}),
        Command(Opcode.OUTPUT, {"pool_x": 1, "pool_y": 1, **output}),
        Command(
            Opcode.EXEC,
            {"region_x": 2, "region_y": 2, "groups": 1, "cols": 2, "first": 1, "last": 1, "post_drain": 16},
        ),
        Command(Opcode.STORE, {"wait": 16, "address": 12288, "run": 8, "rows": 1, "planes": 1}),
    ]
    machine = builder.make_machine()
    timing = time_program(builder.make_program(machine, commands), MemoryTiming())
    last = machine.timing.add_latency if output["mode"] == 2 else machine.timing.post_latency
    assert int(timing.post_reads[2]) == reads
    assert int(timing.drain[2] - timing.end[2]) == machine.timing.array_latency + reads + last
    assert int(timing.start[3] - timing.drain[2]) == 2


def _last_run(pe: int, **output: int) -> list[Command]:
    return [
        Command(Opcode.GEOMETRY, {"tile_x": 1, "tile_y": 1, "sets": 1, "fx": 1, "fy": 1, "pe": pe}),
        Command(Opcode.OUTPUT, {"pool_x": 1, "pool_y": 1, **output}),
        Command(Opcode.EXEC, {"region_x": 1, "region_y": 1, "groups": 1, "first": 1, "last": 1, "cols": 1}),
    ]


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        (_last_run(4), r"command 2: GEOMETRY.pe must be among 0 on machine tiny, not 4"),
        (_last_run(0, mode=2), r"command 2: OUTPUT.mode must be among 0, 1 on machine tiny, not 2"),
        (_last_run(0, mode=1), r"command 2: OUTPUT.levels must be among 1, 2, 3, 4 on machine tiny, not 0"),
        (
            [Command(Opcode.STORE, {"pack": 1, "run": 1, "rows": 1, "planes": 1})],
            r"command 0: STORE.pack must be among 0 on machine tiny, not 1",
        ),
    ],
)
def test_what_the_machine_has_no_hardware_for_is_refused(
    builder: ModuleType, commands: list[Command], message: str
) -> None:
    program = builder.make_program(builder.make_machine(pes=("int8",)), commands)
    with pytest.raises(ProgramError, match=message):
        time_program(program, MemoryTiming())


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        (
            [Command(Opcode.STORE, {"wait": 2, "run": 1, "rows": 1, "planes": 1})],
            r"command 0 \(STORE, layer layer0\) never starts",
        ),
        ([Command(Opcode.FILL, {"run": 1, "rows": 1, "planes": 1})], "without a STORE"),
        ([Command(Opcode.FILL, {"run": 1, "rows": 0, "planes": 1})], "FILL.rows must not be 0"),
        ([Command(Opcode.EXEC, {})], "EXEC before a GEOMETRY"),
        ([Command(Opcode.END, {})], "END must be the last"),
        (
            [
                Command(Opcode.GEOMETRY, {"tile_y": 1, "tile_x": 1, "fy": 1, "fx": 1, "sets": 1}),
                *[
                    Command(
                        Opcode.EXEC,
                        {"first": 1, "groups": 1, "region_x": 1, "region_y": 1, "cols": 1},
                    )
                ]
                * 3,
            ],
            "both accumulator banks in use for good",
        ),
    ],
)
def test_a_program_that_never_ends_is_refused_with_its_reason(
    builder: ModuleType, commands: list[Command], message: str
) -> None:
    program = builder.make_program(builder.make_machine(), commands)
    with pytest.raises(ProgramError, match=message):
        time_program(program, MemoryTiming())
