"""Counts of loop nests: Timeloop's published ones, hand arithmetic, and a twin that walks every step."""

import dataclasses
import math
import random

import numpy as np
import pytest
import stepped_nest
from bitwright.mapper import access_kernel as kernel
from bitwright.mapper.evaluation import evaluate, machine_arrays, nest_arrays
from bitwright.mapper.hierarchy import AbstractMachine, Axis, Level, PeMode
from bitwright.mapper.loop_nest import LoopNest, parse_nest
from bitwright.mapper.mapping import MappingError
from bitwright.mapper.problem import OPERANDS, Problem
from timeloop_machine import EYERISS256, LAYER, NEST


def test_timeloops_mapping_has_its_cycles_and_every_access_count() -> None:
    # ../shared/reference/timeloop_eyeriss256.md, Timeloop 3.0.3. Per file: its table gives one of 192.
    nest = parse_nest(EYERISS256, LAYER, *NEST)
    found = evaluate(EYERISS256, LAYER, nest)
    assert found.latency_cycles == 9_633_792
    assert found.active_pes == 192
    table = {
        ("outputs", "O"): (9_608_704, 9_633_792, 777_728),
        ("weights", "W"): (9_633_792, 0, 172_032),
        ("inputs", "I"): (9_633_792, 0, 207_872),
    }
    for (level, operand), counts in table.items():
        row = found.at(level, operand)
        assert (row.reads, row.updates, row.fills) == tuple(192 * n for n in counts)
    whole = {
        ("buffer", "I"): (9_977_856, 0, 2_078_720),
        ("buffer", "O"): (24_887_296, 25_690_112, 0),
        ("dram", "W"): (4_128_768, 0, 0),
        ("dram", "I"): (2_078_720, 0, 0),
        ("dram", "O"): (0, 802_816, 0),
    }
    for (level, operand), counts in whole.items():
        row = found.at(level, operand)
        assert (row.reads, row.updates, row.fills) == counts


def test_timeloops_energy_is_met_within_the_rounding_of_its_printed_prices() -> None:
    # Its prices are printed to 0.01 pJ. 5.26 accesses of files a product (outputs 2.08, weights 1.02, inputs
    # 1.02) may err by 0.005 pJ each, the buffer's 0.034 by as much: 0.021 pJ a product in all.
    found = evaluate(EYERISS256, LAYER, parse_nest(EYERISS256, LAYER, *NEST))
    per_mac = {name: value / found.macs for name, value in found.energy_by_level.items()}
    assert per_mac["dram"] == pytest.approx(0.758, abs=5e-4)
    assert per_mac["buffer"] == pytest.approx(0.251, abs=5e-4)
    assert per_mac["mac"] == pytest.approx(1.0)
    assert found.energy_pj / found.macs == pytest.approx(6.047, abs=0.021)


MEMORY = Level(name="dram", operands=OPERANDS, word_bits=8, read_pj=10, write_pj=20)


def _machine(*levels: Level, axes: tuple[Axis, ...] = ()) -> AbstractMachine:
    return AbstractMachine(
        name="small", levels=(*levels, MEMORY), axes=axes,
        pes=(PeMode(name="mac", weight_bits=8, input_bits=8, mac_pj=1.0),),
    )  # fmt: skip


def test_a_ragged_tile_moves_its_own_values_only() -> None:
    # K 5 in tiles of 2: 2 + 2 + 1, inside 3 columns.
    machine = _machine(Level(name="buffer", operands=OPERANDS, size_bits=4096))
    layer = Problem(name="x", K=5, OX=3)
    nest = parse_nest(machine, layer, {"dram": "OX3 K3", "buffer": "K2"})
    found = evaluate(machine, layer, nest)
    assert found.at("dram", "W").reads == 3 * 5  # OX outside: weights come again for each column
    assert found.at("dram", "I").reads == 3  # K innermost: each input stays while K passes
    assert found.at("dram", "O").updates == 15
    assert found.compute_cycles == 15


def test_a_sliding_window_fetches_new_columns_only() -> None:
    # OX 4, FX 3, stride 1, a tile of one output: 3 columns, then 1 more a step: 6 in all, without sliding 12.
    layer = Problem(name="x", OX=4, FX=3)
    for sliding, reads in ((True, 6), (False, 12)):
        machine = _machine(Level(name="buffer", operands=OPERANDS, size_bits=4096, sliding=sliding))
        nest = parse_nest(machine, layer, {"dram": "OX4", "buffer": "FX3"})
        assert evaluate(machine, layer, nest).at("dram", "I").reads == reads


def test_an_axis_without_multicast_reads_once_an_instance() -> None:
    # 4 PEs share each weight along OX: 6 weights read once with multicast, 24 times without.
    layer = Problem(name="x", K=6, OX=4)
    for multicast, reads in ((True, 6), (False, 24)):
        axis = Axis(name="cols", size=4, below="dram", loops=("OX",), multicast=multicast)
        machine = _machine(Level(name="file", operands=OPERANDS, size_bits=512), axes=(axis,))
        nest = parse_nest(machine, layer, {"file": "K6"}, {"cols": "OX4"})
        found = evaluate(machine, layer, nest)
        assert found.at("dram", "W").reads == reads
        assert found.at("file", "W").fills == 24


def test_latency_is_that_of_the_slowest_port() -> None:
    # 8 weights + 8 inputs + 1 output of 8 bits; DRAM reads 4 bits a cycle: 128 / 4 = 32 cycles, 8 products.
    dram = Level(name="dram", operands=OPERANDS, read_bits_per_cycle=4, write_bits_per_cycle=4)
    layer = Problem(name="x", C=8)
    for buffering, ports, latency in (
        ("shadow", 2, 32),  # reads hide products and the 8 / 4 cycles of writing
        ("shadow", 1, 34),  # reads and writes take turns
        ("single", 2, 32 + 32 + 2),  # filling the buffer (32), emptying it (2), then what overlaps in DRAM
    ):
        machine = AbstractMachine(
            name="m",
            levels=(
                Level(name="buffer", operands=OPERANDS, size_bits=4096, buffering=buffering),
                Level(
                    name="dram", operands=OPERANDS, read_bits_per_cycle=dram.read_bits_per_cycle,
                    write_bits_per_cycle=dram.write_bits_per_cycle, ports=ports,
                ),
            ),
        )  # fmt: skip
        found = evaluate(machine, layer, parse_nest(machine, layer, {"buffer": "C8"}))
        assert found.latency_cycles == latency
        assert found.fill_cycles == 34  # both operands, then the output
    assert found.compute_cycles == 8


def test_low_bit_weights_take_fewer_bytes_and_a_faster_mode_fewer_cycles() -> None:
    layer = Problem(name="x", K=8, C=8, weight_bits=2)
    machine = AbstractMachine(
        name="m",
        levels=(Level(name="buffer", operands=OPERANDS, size_bits=1 << 14), MEMORY),
        pes=(
            PeMode(name="int8", weight_bits=8, input_bits=8),
            PeMode(name="int2", weight_bits=2, input_bits=8, macs_per_cycle=4),
        ),
    )
    found = evaluate(machine, layer, parse_nest(machine, layer, {"buffer": "K8 C8"}))
    assert found.at("dram", "W").read_bytes == 16  # 64 weights of 2 bits
    assert found.compute_cycles == 16  # 64 products, 4 a cycle


def test_encoded_weights_move_their_payload_and_skipped_zeros_take_no_cycle() -> None:
    layer = Problem(
        name="x", K=8, C=8, weight_ratio=0.5, weight_density=0.25, input_density=0.5, imbalance=1.5
    )
    machine = AbstractMachine(
        name="m",
        levels=(
            Level(name="buffer", operands=OPERANDS, size_bits=1 << 14),
            Level(name="dram", operands=OPERANDS, compressed=("W",)),
        ),
        pes=(PeMode(name="mac", weight_bits=8, input_bits=8, mac_pj=1, skips=("W",), gates=("I",)),),
    )
    found = evaluate(machine, layer, parse_nest(machine, layer, {"buffer": "K8 C8"}))
    assert found.at("dram", "W").read_bytes == 32  # half of 64
    assert found.at("buffer", "W").fill_bytes == 64  # dense in the buffer
    assert found.compute_cycles == 24  # 64 products · 0.25 · 1.5
    assert found.energy_by_level["mac"] == pytest.approx(64 * 0.25 * 0.5)


def _twin(rng: random.Random) -> tuple[AbstractMachine, Problem, LoopNest]:
    while True:
        machine = stepped_nest.random_machine(rng)
        problem = stepped_nest.random_problem(rng, 150)
        nest = stepped_nest.random_nest(rng, machine, problem)
        if nest is not None:
            return machine, problem, nest


def _check_against_twin(
    machine: AbstractMachine, problem: Problem, nest: LoopNest, plain: bool = False
) -> None:
    """Counts of the kernel, compiled or as plain Python, against the walk of all steps."""
    a = machine_arrays(machine, problem)
    tiles, counts, orders = nest_arrays(nest, len(machine.axes))
    n = len(machine.levels)
    moves = np.zeros((n, 3, kernel.MOVES), np.int64)
    count_all = kernel.count_all.py_func if plain else kernel.count_all
    steps = count_all(
        tiles, counts, orders, a.keep, a.axis_level, a.sliding, a.shape, True,
        *kernel.new_work(n, a.axis_level, a.multicast), moves,
    )  # fmt: skip
    assert steps == stepped_nest.busy_steps(machine, problem, nest)
    for j, x in enumerate(OPERANDS):
        child = -1
        for parent in range(n):
            if x not in machine.levels[parent].operands:
                continue
            walked = stepped_nest.walk(machine, problem, nest, x, child, parent)
            expected = [
                walked.visit_child, walked.visit_parent, walked.first_child, walked.first_parent,
                *(walked.share[key] for key in ("vc", "vp", "fc", "fp")),
            ]  # fmt: skip
            assert moves[child + 1, j].tolist() == expected, (x, child, parent, nest, problem, machine)
            child = parent


@pytest.mark.parametrize("seed", range(60))
def test_counts_equal_those_of_a_nest_walked_step_by_step(seed: int) -> None:
    _check_against_twin(*_twin(random.Random(seed)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 700))
def test_counts_equal_those_of_more_nests_walked_step_by_step(seed: int) -> None:
    _check_against_twin(*_twin(random.Random(seed)))


@pytest.mark.parametrize("seed", range(3))
def test_the_kernels_plain_python_counts_alike(seed: int) -> None:
    _check_against_twin(*_twin(random.Random(seed)), plain=True)


def test_a_tile_that_is_too_large_says_by_how_much() -> None:
    machine = _machine(Level(name="buffer", operands=("W",), size_bits=64))
    with pytest.raises(
        MappingError, match="layer x: level buffer has 64 bits, its tile takes 72: 8 too many"
    ):
        parse_nest(machine, Problem(name="x", K=9), {"buffer": "K9"})


def test_a_loop_on_an_axis_that_does_not_take_it_is_refused() -> None:
    axis = Axis(name="rows", size=4, below="dram", loops=("K",))
    machine = _machine(Level(name="buffer", operands=("W",), size_bits=64), axes=(axis,))
    with pytest.raises(MappingError, match="layer x: axis rows unrolls K, not C"):
        parse_nest(machine, Problem(name="x", C=4), {}, {"rows": "C4"})
    with pytest.raises(MappingError, match="axis rows has 4 places, the nest unrolls"):
        parse_nest(machine, Problem(name="x", K=8), {}, {"rows": "K8"})


def test_counts_past_64_bits_are_refused_before_they_overflow() -> None:
    with pytest.raises(ValueError, match=r"layer x: its .* products pass what 64 bits can count"):
        Problem(name="x", K=1 << 20, C=1 << 20, OX=1 << 20)
    assert math.isfinite(Problem(name="x", K=1 << 16, C=1 << 16, OX=1 << 12).macs)


def _even(rng: random.Random) -> tuple[AbstractMachine, Problem, LoopNest]:
    """A nest whose tiles all divide: counted by products alone."""
    while True:
        machine = stepped_nest.random_machine(rng)
        problem = stepped_nest.random_problem(rng, 300)
        sizes = [rng.choice((1, 1, 2, 4)) for _ in range(8)]
        names = ("B", "G", "K", "C", "OY", "OX", "FY", "FX")
        problem = dataclasses.replace(problem, **dict(zip(names, sizes, strict=True)))
        nest = stepped_nest.random_nest(rng, machine, problem)
        if nest is None:
            continue
        inner, even = [1] * 8, True
        for i, tile in enumerate(nest.tiles):
            for axis, counts in zip(machine.axes, nest.spatial, strict=True):
                if axis.below == machine.levels[i].name:
                    inner = [a * b for a, b in zip(inner, counts, strict=True)]
            even = even and all(b % a == 0 for a, b in zip(inner, tile, strict=True))
            inner = list(tile)
        if even:
            return machine, problem, nest


@pytest.mark.parametrize("seed", range(40))
def test_even_nests_count_as_those_walked_step_by_step(seed: int) -> None:
    _check_against_twin(*_even(random.Random(seed)))
