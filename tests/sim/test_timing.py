"""The cycle model against a twin that steps every unit in every cycle."""

from __future__ import annotations

import random
from types import ModuleType

import numpy as np
import pytest
from bitwright.mapper.isa import Command, Opcode
from bitwright.mapper.machine import MemoryTiming
from bitwright.mapper.program import ProgramError
from bitwright.sim.cycle_kernel import stall_cycles
from bitwright.sim.timing import Timing, memory_table, time_program


def _compare(timing: Timing, twin: object, commands: tuple[Command, ...]) -> None:
    expected = twin.__dict__
    assert timing.cycles == expected["cycles"]
    assert timing.read_beats == expected["read_beats"]
    assert int(timing.issue.sum()) == expected["issue_cycles"]
    assert int(timing.post_reads.sum()) == expected["post_reads"]
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


def test_a_single_store_takes_the_cycles_that_hand_counting_gives(builder: ModuleType) -> None:
    # Bus 8 bytes, fetch bursts of 2 commands, 4 beats each. FETCH asks at 2, arvalid 3, handshake 3;
    # beats from 3 + 20 = 23 on, the STORE complete at 26: FIFO head 27, dispatched 27, taken 28,
    # ROW 29, AW 30; data from 29 + 1 + 2 = 32 on, W 32 (2 beats: 32, 33), B 33 + 8 = 41.
    machine = builder.make_machine()
    store = Command(Opcode.STORE, {"address": 12288, "run": 16, "rows": 1, "planes": 1})
    timing = time_program(builder.make_program(machine, [store]), MemoryTiming())
    assert int(timing.dispatch[0]) == 27
    assert int(timing.start[0]) == 28
    assert timing.cycles == 41
    assert int(timing.end[0]) == 42
    assert timing.read_beats == 8


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
