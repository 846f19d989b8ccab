"""One program, three executions: reference, cycle model and RTL agree in bits, cycles and bytes."""

import pytest
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import MemoryTiming, load_machine
from bitwright.models.zoo import random_input, random_network
from bitwright.reports.agreement import Job, compare, draw_memory, verify_random


def require_agreement(result: dict) -> None:
    assert result["cases"] > 0
    assert not result["failures"], "\n".join(result["failures"])
    assert (result["mismatches"], result["cycle_difference"], result["byte_difference"]) == (0, 0, 0)


def test_random_networks_on_random_machines_agree() -> None:
    result = verify_random(24, seed=1000, jobs=2)
    require_agreement(result)
    assert result["cases"] + result["unmapped"] == 24


@pytest.mark.slow
def test_two_hundred_random_cases_agree() -> None:
    result = verify_random(208, seed=0, jobs=2)
    require_agreement(result)
    assert result["cases"] >= 200


def test_core_small_agrees_under_every_kind_of_memory() -> None:
    machine = load_machine("core-small")
    memories = [
        MemoryTiming(read_latency=1, write_latency=1),
        MemoryTiming(read_latency=200, write_latency=100),
        MemoryTiming(beat_interval=5),
        MemoryTiming(stall_rate=255, stall_mask=15, seed=0xFFFF_FFFF),
        *(draw_memory(seed) for seed in range(4)),
    ]
    jobs = []
    for seed, memory in enumerate(memories, start=500):
        network = random_network(seed)
        jobs.append(
            Job(
                name=f"seed {seed} with {memory}",
                network=network,
                program=map_network(network, machine),
                x=random_input(network, seed)[0],
                memory=memory,
            )
        )
    failures = [str(result) for result in compare(machine, jobs) if not result.agrees]
    assert not failures, "\n".join(failures)
