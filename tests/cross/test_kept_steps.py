"""Weights that are zero in blocks and layers of several planes: model, functional run and RTL agree."""

from __future__ import annotations

from bitwright.mapper.isa import Opcode, PostMode
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.models.zoo import random_input, random_network
from bitwright.models.zoo_blocks import with_zero_blocks
from bitwright.reports.agreement import Job, compare, draw_memory
from bitwright.reports.core_mapping import map_for

SETTINGS = [
    'array.pes=["int8", "ternary_int8", "binary_int8", "ternary", "binary", "vector"]',
    "buffers.step_entries=256",
]


def test_step_lists_and_sums_of_planes_agree_with_the_rtl() -> None:
    machine, jobs = override_machine(load_machine("core-small"), SETTINGS), []
    formats = [("int8", "int8"), ("ternary", "int8"), ("binary", "int8"), ("ternary", "ternary")]
    listed = summed = 0
    for seed in range(800, 812):
        network = random_network(seed, formats=formats, vector=True, max_channels=24, planes=4)
        if seed % 3:
            network = with_zero_blocks(network, seed)
        program, x = map_network(network, machine), random_input(network, seed)[0]
        listed += any(command["listed"] for command in program.commands)
        summed += any(
            command["mode"] == PostMode.PLANES
            for command in program.commands
            if command.opcode is Opcode.OUTPUT
        )
        jobs.append(Job(name=f"seed {seed}", network=network, program=program, x=x, memory=draw_memory(seed)))
    assert listed >= 4 and summed >= 4
    failures = [str(result) for result in compare(machine, jobs) if not result.agrees]
    assert not failures, "\n".join(failures)


def test_layers_on_step_lists_are_mapped_with_the_cycle_model_as_judge() -> None:
    machine = override_machine(load_machine("core-medium"), ["buffers.step_entries=1024"])

    programs = [
        map_for(with_zero_blocks(random_network(seed, max_channels=64), seed), machine) for seed in range(4)
    ]

    assert any(command["listed"] for program in programs for command in program.commands)
