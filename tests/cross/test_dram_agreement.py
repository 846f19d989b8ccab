"""Core machines on a DRAM part: the cycle model and the RTL, whose memory asks the same model, agree."""

from __future__ import annotations

import pytest
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import Machine, MemoryTiming
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.models.zoo import random_input
from bitwright.reports.agreement import Job, compare, draw_network
from bitwright.rtl.runner import RtlCase, run_cpp
from bitwright.sim.port_memory import PortMemory
from bitwright.sim.timing import time_program

# Clocks of parts over the machine's 100 MHz: 12.05, 8 and 15.87 cycles; 47 / 3 is within 5 % of the last.
MEMORIES = (
    MemoryTiming(dram="DDR4-2400", dram_cycles=12),
    MemoryTiming(dram="DDR3-1600", dram_cycles=8),
    MemoryTiming(dram="DDR4-3200", dram_cycles=47, core_cycles=3),
    MemoryTiming(dram="HBM2", dram_cycles=10),
    MemoryTiming(dram="LPDDR4-2400", dram_cycles=241, core_cycles=20),
)


def require_agreement(machine: Machine, first_seed: int, count: int) -> list[str]:
    """Names of the parts that jobs ran on, all of which must agree."""
    jobs = []
    for seed in range(first_seed, first_seed + count):
        network = draw_network(seed, machine)
        memory = MEMORIES[seed % len(MEMORIES)]
        jobs.append(
            Job(
                name=f"seed {seed} with {memory.dram}",
                network=network,
                program=map_network(network, machine),
                x=random_input(network, seed)[0],
                memory=memory,
            )
        )
    results = compare(machine, jobs)
    failures = [str(result) for result in results if not result.agrees]
    assert len(results) == count
    assert not failures, "\n".join(failures)
    return [job.memory.dram for job in jobs if job.memory]


def test_random_networks_agree_on_every_part() -> None:
    assert set(require_agreement(load_machine("core-small"), 700, 10)) == {m.dram for m in MEMORIES}


@pytest.mark.slow
def test_a_core_with_deeper_queues_agrees_on_every_part() -> None:
    settings = ["bus.read_outstanding=8", "bus.write_outstanding=2", "bus.max_burst=8", "bus.data_bits=128"]
    require_agreement(override_machine(load_machine("core-medium"), settings), 900, 60)


def test_a_dram_part_is_slower_than_none_and_its_refreshes_show() -> None:
    machine = load_machine("core-small")
    program = map_network(draw_network(700, machine), machine)
    simple, dram = (time_program(program, memory).cycles for memory in (MemoryTiming(), MEMORIES[0]))
    assert dram != simple
    compiled = time_program(program, MEMORIES[0])
    plain = time_program(program, MEMORIES[0], compiled=False)
    assert compiled.cycles == plain.cycles
    assert compiled.start.tolist() == plain.start.tolist()


@pytest.mark.slow
def test_a_port_that_fails_is_told_with_its_own_error() -> None:
    class Broken(PortMemory):
        def read(self, cycle: int, address: int, beats: int) -> list[int]:
            raise ArithmeticError(f"no idea what {beats} beats are")

    machine = load_machine("core-small")
    network = draw_network(700, machine)
    case = RtlCase(
        program=map_network(network, machine), memory=MEMORIES[0], port=Broken(machine, MEMORIES[0])
    )
    with pytest.raises(ArithmeticError, match="no idea what 16 beats are"):
        run_cpp(machine, case)


def test_a_case_on_a_part_without_a_port_is_refused() -> None:
    machine = load_machine("core-small")
    case = RtlCase(program=map_network(draw_network(700, machine), machine), memory=MEMORIES[0])
    with pytest.raises(ValueError, match="a part needs a `port`"):
        run_cpp(machine, case)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (MemoryTiming(dram="DDR9"), "unknown DRAM part 'DDR9'; known: DDR3-1600"),
        (MemoryTiming(dram="DDR4-2400", dram_cycles=3), r"within 5% of 12.05, the clock of DDR4-2400"),
    ],
)
def test_a_part_that_does_not_fit_the_machine_is_refused(memory: MemoryTiming, message: str) -> None:
    machine = load_machine("core-small")
    program = map_network(draw_network(700, machine), machine)
    with pytest.raises(ValueError, match=message):
        time_program(program, memory)


def test_a_part_and_stalls_exclude_each_other() -> None:
    with pytest.raises(ValueError, match=r"stall_rate must be 0 and memory.beat_interval 1 with memory.dram"):
        MemoryTiming(dram="DDR4-2400", stall_rate=3)
