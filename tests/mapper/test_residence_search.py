"""The search's optimum where operands lie on chip, against every nest of its tiles and orders."""

import itertools
from dataclasses import replace

import pytest
from bitwright.mapper.evaluation import evaluate
from bitwright.mapper.hierarchy import AbstractMachine, Level, Residence
from bitwright.mapper.loop_nest import LoopNest
from bitwright.mapper.mapping import MappingError
from bitwright.mapper.optimum import search
from bitwright.mapper.problem import DIMS, OPERANDS, Problem
from bitwright.mapper.tile_space import tile_extents
from small_search import INNERMOST, buffer_machine

LAYER = Problem(name="x", K=3, C=2, OY=4, partial_bits=16)
ORDERS = [(*(d for d in DIMS if d not in group), *group) for group in INNERMOST]


def _exhausted(machine: AbstractMachine, objective: str) -> float:
    lattice = list(itertools.product(*(tile_extents(n) for n in LAYER.sizes)))
    best = float("inf")
    for tile in lattice:
        for order in ORDERS:
            between = (LAYER.sizes,) * (len(machine.levels) - 2)
            loops = (DIMS, order, *(DIMS for _ in between))
            nest = LoopNest(tiles=(tile, *between, LAYER.sizes), spatial=(), orders=loops)
            try:
                found = evaluate(machine, LAYER, nest)
            except MappingError:
                continue
            best = min(best, {"energy": found.energy_pj, "latency": found.latency_cycles}[objective])
    return best


@pytest.mark.parametrize("objective", ["energy", "latency"])
@pytest.mark.parametrize(
    "residence",
    [
        Residence(level="buffer", in_place=("I",)),
        Residence(level="buffer", in_place=("O",)),
        Residence(level="buffer", in_place=("I", "O")),
        Residence(level="buffer", in_place=("I",), through_tile=True),
        Residence(level="buffer", through_tile=True),
    ],
)
def test_the_search_is_certified_with_operands_on_chip(residence: Residence, objective: str) -> None:
    machine = replace(buffer_machine(100), residence=residence)
    found = search(machine, LAYER, objective=objective)
    assert found.optimal
    assert found.objective_value == pytest.approx(_exhausted(machine, objective), rel=1e-9)


@pytest.mark.parametrize("objective", ["energy", "latency"])
def test_a_level_whose_operands_all_lie_there_whole_has_no_loops_of_its_own(objective: str) -> None:
    file = Level(name="file", operands=OPERANDS, size_bits=90, buffering="shadow", read_pj=0.1, write_pj=0.1)
    buffer, dram = buffer_machine(100).levels
    machine = replace(
        buffer_machine(100),
        levels=(file, replace(buffer, operands=("I", "O")), dram),
        residence=Residence(level="buffer", in_place=("I", "O")),
    )
    found = search(machine, LAYER, objective=objective)
    assert found.mapping.tiles[1] == LAYER.sizes
    assert found.objective_value == pytest.approx(_exhausted(machine, objective), rel=1e-9)
