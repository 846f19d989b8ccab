"""The memory port on a DRAM part, in hand-worked cycles; the energy of a run on it."""

from __future__ import annotations

import dataclasses

import pytest
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import MemoryTiming
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.models.zoo import random_network
from bitwright.sim.cycle import simulate
from bitwright.sim.port_memory import PortMemory
from bitwright.sim.timing import time_program

DDR4 = MemoryTiming(dram="DDR4-2400", dram_cycles=12)


def test_a_read_crosses_to_the_drams_clock_and_back() -> None:
    # The first address sets the DRAM's clock going. It is there after 4 core cycles, 48 of the DRAM: ACT 49,
    # RD 66, data 87, answered in 88; 88 / 12 is 8 core cycles, rounded up, and 4 to cross: 16 in all. The bus
    # has 8 bytes, so 8 beats are one access; the next one's RD comes tCCD_L 6 later, answered in 94.
    port = PortMemory(load_machine("core-small"), DDR4)
    assert port.read(1000, 0, 12) == [1000 + 8 + 4] * 12
    # Much later: at 2000 its request is there in (1000 + 4) · 12 = 12048, behind refreshes of 4679 (of
    # rank 0, which closed the row) and 9359: ACT 12049, RD 12066, answered in 12088: 1007.33, so 1008.
    assert port.read(2000, 64, 8) == [1000 + 1008 + 4] * 8


def test_a_read_that_begins_within_an_access_takes_it_whole() -> None:
    # Byte 56 is the last beat of the first access, byte 64 the first of the second: two accesses, two beats.
    port = PortMemory(load_machine("core-small"), DDR4)
    apart = port.read(0, 56, 2)
    assert apart == [12, 12]  # 88 and 94 of the DRAM's cycles


def test_a_write_is_answered_when_its_data_are_through() -> None:
    # The read as above at 0; the write's last data in 20: there in 24 · 12 = 288, WR 289, data 305, seen in
    # 306: 25.5, so 26, and 4 to cross.
    port = PortMemory(load_machine("core-small"), DDR4)
    port.read(0, 0, 1)
    assert port.write(20, 128, 8) == 26 + 4


def test_a_memory_without_a_part_needs_no_port() -> None:
    with pytest.raises(ValueError, match=r"memory\.dram must name a part"):
        PortMemory(load_machine("core-small"))


def test_a_runs_dram_energy_is_that_of_its_accesses_commands() -> None:
    # The prices of DDR4-2400 are in test_dram_energy: a mA and cycle is 1.2 · 0.83 · 8 pJ.
    program = map_network(random_network(3, max_layers=2, max_image=8), load_machine("core-small"))
    counts = time_program(program, DDR4).dram
    assert counts is not None and counts["act"] > 0 and counts["hits"] > counts["act"]
    charge = 433 * counts["act"] + 368 * counts["read"] + 320 * counts["write"]
    result = simulate(program, DDR4)
    assert result.energy_pj["dram"] == pytest.approx(charge * 1.2 * 0.83 * 8)
    assert result.energy_rows["dram"].status == "derived"
    assert sum(layer.energy_pj for layer in result.layers) == pytest.approx(result.total_energy_pj)


def test_a_machines_file_can_price_its_part_by_the_bit() -> None:
    program = map_network(random_network(3, max_layers=2, max_image=8), load_machine("core-small"))
    machine = override_machine(program.machine, ["energy.dram_DDR4-2400=5"])
    row = simulate(dataclasses.replace(program, machine=machine), DDR4).energy_rows["dram"]
    assert (row.value_pj, row.per, row.status) == (40, "byte", "assumed")
