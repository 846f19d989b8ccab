"""Constrained spaces of even nests, walked to their end: Timeloop's."""

import dataclasses
import math

import pytest
from bitwright.mapper.evaluation import evaluate
from bitwright.mapper.factor_space import FactorSpace, factor_chains, walk_space
from bitwright.mapper.hierarchy import AbstractMachine, Level
from bitwright.mapper.loop_nest import parse_nest
from bitwright.mapper.mapping import MappingError
from bitwright.mapper.problem import OPERANDS, Problem
from timeloop_machine import EYERISS256, LAYER, NEST, SPACE


def test_the_walk_of_timeloops_space_sees_all_its_mappings() -> None:
    found = walk_space(EYERISS256, LAYER, SPACE)
    assert found.evaluated + found.partial == 178_200
    # Timeloop's best by energy-delay product is a nest of the space; ours costs no more and is as fast.
    best = evaluate(EYERISS256, LAYER, parse_nest(EYERISS256, LAYER, *NEST))
    assert found.evaluation.energy_pj <= best.energy_pj * (1 + 1e-12)
    product = walk_space(EYERISS256, LAYER, SPACE, objective="edp")
    assert product.evaluation.edp <= best.edp * (1 + 1e-12)
    assert product.evaluation.latency_cycles == 9_633_792


def test_the_optimum_of_timeloops_space_is_no_worse_than_its_own() -> None:
    # Its printed prices are rounded to 0.01 pJ: by its own columns (2.029, 1.011, 0.997 pJ a product over
    # 20,020,224, 9,805,824 and 9,841,664 accesses of each of 192 files) they are 0.9763, 0.9933 and 0.9759.
    per_file = {"outputs": (2.029, 20_020_224), "weights": (1.011, 9_805_824), "inputs": (0.997, 9_841_664)}
    levels = []
    for level in EYERISS256.levels:
        pj = level.read_pj
        if level.name in per_file:
            share, accesses = per_file[level.name]
            pj = share * LAYER.macs / (192 * accesses)
            assert pj == pytest.approx(level.read_pj, abs=0.005)
        levels.append(dataclasses.replace(level, read_pj=pj, write_pj=pj))
    machine = dataclasses.replace(EYERISS256, levels=tuple(levels))
    found = walk_space(machine, LAYER, SPACE, objective="edp")
    assert found.evaluation.energy_pj / LAYER.macs <= 6.047 + 5e-4


def test_chains_of_factors_are_all_of_them() -> None:
    # 2^8 over five places: 12 choose 4; over three: 10 choose 2; 56 over two: its 8 divisors.
    assert len(factor_chains(256, 5)) == math.comb(12, 4)
    assert len(factor_chains(256, 3)) == math.comb(10, 2)
    assert len(factor_chains(56, 2)) == 8
    assert all(math.prod(chain) == 60 for chain in factor_chains(60, 3))


def test_a_space_without_a_legal_nest_says_so() -> None:
    machine = AbstractMachine(
        name="m",
        levels=(
            Level(name="file", operands=OPERANDS, size_bits=64),
            Level(name="dram", operands=OPERANDS),
        ),
    )
    with pytest.raises(MappingError, match="layer x: none of the space's 1 nests fits m"):
        walk_space(machine, Problem(name="x", K=64), FactorSpace(places={"K": ("file",)}, orders={}))
    with pytest.raises(MappingError, match="layer x: loop C has 2 steps and no place"):
        walk_space(machine, Problem(name="x", C=2), FactorSpace(places={}, orders={}))
    with pytest.raises(MappingError, match="layer x: 'cache' is no level or axis of m"):
        walk_space(machine, Problem(name="x"), FactorSpace(places={"K": ("cache",)}, orders={}))
    with pytest.raises(ValueError, match="a loop is one of B, G, K, C, OY, OX, FY, FX, not 'P'"):
        FactorSpace(places={"P": ("dram",)}, orders={})
