"""One program, three executions: reference, cycle model and RTL agree in bits, cycles and bytes."""

import pytest
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import Machine, MemoryTiming
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.mapper.pe import PeKind
from bitwright.models.zoo import random_input
from bitwright.reports.agreement import Job, compare, draw_memory, draw_network, verify_random

EVERY_PE = "array.pes=[" + ", ".join(f'"{kind.key}"' for kind in PeKind) + "]"


def require_agreement(result: dict) -> None:
    assert result["cases"] > 0
    assert not result["failures"], "\n".join(result["failures"])
    assert (result["mismatches"], result["cycle_difference"], result["byte_difference"]) == (0, 0, 0)


def require_jobs_agree(
    machine: Machine,
    memories: list[MemoryTiming],
    *,
    first_seed: int,
) -> None:
    """One random network of the machine's formats for each memory, all on one build of the machine."""
    jobs = []
    for seed, memory in enumerate(memories, start=first_seed):
        network = draw_network(seed, machine)
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


def test_random_networks_on_random_machines_agree() -> None:
    # Two machines: with int8 alone, with every PE kind. `make verify-all` runs 560 cases.
    result = verify_random(24, seed=1008, jobs=2)
    require_agreement(result)
    assert result["cases"] + result["unmapped"] == 24
    assert result["cases"] >= 20


def test_layers_of_every_kind_agree_on_one_core() -> None:
    # Every format of weights and activations, and the lane-wise layers, mixed in each program.
    machine = override_machine(load_machine("core-small"), [EVERY_PE])
    require_jobs_agree(machine, [draw_memory(seed) for seed in range(36)], first_seed=200)


@pytest.mark.slow
def test_sixteen_columns_agree() -> None:
    # Random machines have four at most; offsets of the last column settle latest.
    settings = ["array.cols=16", "array.rows=2", "buffers.activation_bytes=1024"]
    machine = override_machine(load_machine("core-small"), settings)
    require_jobs_agree(machine, [draw_memory(seed) for seed in range(6)], first_seed=40)


def test_core_small_agrees_under_every_kind_of_memory() -> None:
    memories = [
        MemoryTiming(read_latency=1, write_latency=1),
        MemoryTiming(read_latency=200, write_latency=100),
        MemoryTiming(beat_interval=5),
        MemoryTiming(stall_rate=255, stall_mask=15, seed=0xFFFF_FFFF),
        *(draw_memory(seed) for seed in range(4)),
    ]
    require_jobs_agree(load_machine("core-small"), memories, first_seed=500)
