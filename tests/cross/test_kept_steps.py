"""Layers whose weights are zero in blocks: reference, functional run, cycle model and RTL agree."""

from __future__ import annotations

from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import Machine, load_machine, override_machine
from bitwright.models.zoo import random_input, random_network
from bitwright.models.zoo_blocks import with_zero_blocks
from bitwright.reports.agreement import Job, compare, draw_memory

EVERY_PE = 'array.pes=["int8", "ternary_int8", "binary_int8", "ternary", "binary", "vector"]'


def listing(name: str, *settings: str) -> Machine:
    return override_machine(load_machine(name), ["buffers.step_entries=1024", *settings])


def test_networks_with_zero_blocks_agree_with_the_rtl() -> None:
    machine, jobs = listing("core-small", EVERY_PE), []
    formats = [("int8", "int8"), ("ternary", "int8"), ("ternary", "ternary"), ("binary", "int8")]
    for seed in range(800, 812):
        network = random_network(seed, formats=formats, vector=True, max_channels=24)
        network = with_zero_blocks(network, seed)
        program, x = map_network(network, machine), random_input(network, seed)[0]
        if any(command["listed"] for command in program.commands):
            jobs.append(
                Job(name=f"seed {seed}", network=network, program=program, x=x, memory=draw_memory(seed))
            )
    assert len(jobs) >= 5
    failures = [str(result) for result in compare(machine, jobs) if not result.agrees]
    assert not failures, "\n".join(failures)
