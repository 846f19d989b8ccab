"""Random commands, which no mapper would write: functional run, cycle model and RTL agree."""

from __future__ import annotations

import random
from types import ModuleType

import numpy as np
from bitwright.mapper.isa import Command, LoadTarget, Opcode, PostMode
from bitwright.mapper.machine import Machine
from bitwright.mapper.pe import PeKind
from bitwright.mapper.program import Program
from bitwright.rtl.runner import RtlCase, case_image, run_cases
from bitwright.sim.cycle import simulate
from bitwright.sim.functional import FunctionalCore

DATA, PARAMS, DATA_END = 8192, 11776, 12288
"""Where random loads find their bytes, where the parameters lie, and where both end."""


def _without_minus_two(data: np.ndarray) -> np.ndarray:
    """The bytes with none of their fields of two bits at −2, which is no ternary value."""
    return data & ~((~data & 0x55) << 1)


def _params(rng: np.random.Generator, channels: int, mode: PostMode) -> np.ndarray:
    """Entries of a parameter buffer: nodes of ordered thresholds, or bias, multiplier, shift, left shift."""
    if mode == PostMode.THRESHOLDS:
        words = np.sort(rng.integers(-3000, 3000, (channels, 4)), axis=1)
    else:
        words = rng.integers(-5000, 5000, (channels, 4))
        words[:, 1] = rng.integers(1 << 30, 1 << 31, channels)
        words[:, 2] = rng.integers(3, 12, channels) | rng.integers(0, 4, channels) << 8
    return words.astype(np.int32).view(np.uint8).reshape(-1)


def _program(builder: ModuleType, machine: Machine, seed: int, mode: PostMode) -> Program:
    """A random program of one POST mode, without races, on values that a mapper could have written."""
    rng = random.Random(seed)
    made = builder.random_program(rng, machine, 5, ahead=1, modes=[mode])
    channels, unit = machine.buffers.param_channels, machine.bus_bytes
    load = {"target": int(LoadTarget.PARAM), "address": PARAMS, "run": 16 * channels, "rows": 1, "planes": 1}
    commands = [Command(Opcode.LOAD, load | {"wrap": machine.param_line_bits // 8 // unit})]
    for command in made.commands[:-1]:
        fields = dict(command.fields)
        if command.opcode == Opcode.FILL:
            fields["value"] = int(_without_minus_two(np.array(fields["value"])))
        if command.opcode == Opcode.GEOMETRY and fields["pe"] == PeKind.BINARY:
            # Weights beyond a run are zero bits where a mapper packs them; here they are random.
            fields["tail"] = machine.array.lanes(PeKind.BINARY)
        commands.append(Command(command.opcode, fields))
    data = _without_minus_two(made.image[DATA:DATA_END])
    data[PARAMS - DATA :] = _params(np.random.default_rng(seed), channels, mode)
    return builder.make_program(machine, commands, data)


def test_random_commands_agree_in_bytes_cycles_and_traffic(builder: ModuleType) -> None:
    machine = builder.make_machine(steps=64)
    cases = []
    for seed in range(48):
        program = _program(builder, machine, seed, PostMode(seed % 4))
        cases.append(RtlCase(program=program, memory=builder.random_memory(random.Random(seed))))
    # One run after the other on one core, whose buffers keep what lies in them.
    core = FunctionalCore(machine, np.zeros(0, np.uint8))
    failures = []
    for seed, (case, run) in enumerate(zip(cases, run_cases(machine, cases, check=False), strict=True)):
        program, result = case.program, simulate(case.program, case.memory)
        core.memory = case_image(case)
        for command in program.commands:
            core.run(command)
        expected = core.memory[
            program.output.address : program.output.address + program.output.size
        ].tobytes()
        ours = (result.cycles, result.read_bytes, result.write_bytes)
        theirs = (run.cycles, run.read_bytes, run.write_bytes)
        if run.faults or ours != theirs or run.output_bytes != expected:
            wrong = [i for i, (a, b) in enumerate(zip(run.output_bytes, expected, strict=True)) if a != b]
            failures.append(
                f"seed {seed}: {run.faults} model {ours}, RTL {theirs}, {len(wrong)} bytes differ {wrong[:5]}"
            )
    assert not failures, "\n".join(failures)
