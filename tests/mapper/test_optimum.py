"""The search's optimum against brute force over the whole space, and what it says of itself."""

import itertools
import math
import random

import numpy as np
import pytest
import stepped_nest
from bitwright.mapper import cost_kernel as kernel
from bitwright.mapper import optimum_kernel
from bitwright.mapper.evaluation import machine_arrays
from bitwright.mapper.hierarchy import AbstractMachine, Axis, Level, PeMode
from bitwright.mapper.mapping import MappingError
from bitwright.mapper.optimum import search, search_pareto
from bitwright.mapper.problem import DIMS, IRRELEVANT, OPERANDS, Problem
from bitwright.mapper.tile_space import axis_options, tile_extents

MOST = 400_000


def _room(level: Level, problem: Problem, tiles: np.ndarray) -> np.ndarray:
    """Whether tiles, shape (tiles, 8), fit a level."""
    s = tiles.astype(object)
    fits = np.ones(len(tiles), bool)
    total = np.zeros(len(tiles), object)
    for x in level.operands:
        if x == "I":
            rows = [
                len({i * problem.stride_y + j * problem.dilation_y for i in range(a) for j in range(b)})
                for a, b in s[:, [4, 6]]
            ]
            columns = [
                len({i * problem.stride_x + j * problem.dilation_x for i in range(a) for j in range(b)})
                for a, b in s[:, [5, 7]]
            ]
            values = s[:, 0] * s[:, 1] * s[:, 3] * np.array(rows) * np.array(columns)
        else:
            values = np.prod(s[:, [j for j, d in enumerate(DIMS) if d not in IRRELEVANT[x]]], axis=1)
        total = total + values * (problem.partial_bits if x == "O" else problem.bits(x))
    return fits & (total <= (level.size_bits or 0) // (2 if level.buffering == "double" else 1))


def brute_force(
    machine: AbstractMachine, problem: Problem, full: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """(energies, latencies) of every nest of the space with every order of loops; None if too many."""
    lattice = np.array(list(itertools.product(*(tile_extents(n) for n in problem.sizes))), np.int64)
    n = len(machine.levels)
    legal = [lattice[_room(level, problem, lattice)] for level in machine.levels[:-1]]
    options = [axis_options(machine, problem, level, full=full) for level in range(n)]
    whole = np.array(problem.sizes, np.int64)
    nests: list[tuple[list[np.ndarray], np.ndarray, list[tuple[int, ...]]]] = []
    for chosen in itertools.product(*options):
        counts = np.prod(np.array(chosen), axis=0) if machine.axes else np.ones((0, 8), np.int64)
        unroll = [np.prod(rows, axis=0) if len(rows) else np.ones(8, np.int64) for rows in chosen]
        chains: list[list[np.ndarray]] = [[np.ones(8, np.int64)]]
        for level in range(n):
            grown = []
            for chain in chains:
                above = legal[level] if level < n - 1 else whole[None]
                low = chain[-1]
                fit = np.all((above >= low) & ((unroll[level] - 1) * low < above), axis=1)
                if level == 0:
                    fit = np.all(above >= unroll[0], axis=1)
                grown += [[*chain, tile] for tile in above[fit]]
            chains = grown
            if len(chains) > 20_000:
                return None
        for chain in chains:
            per_level = []
            for level in range(1, n):
                inner = np.minimum(chain[level] * unroll[level], chain[level + 1])
                active = [j for j in range(8) if chain[level + 1][j] > inner[j]]
                rest = [j for j in range(8) if j not in active]
                per_level.append([(*rest, *order) for order in itertools.permutations(active)])
            if math.prod(map(len, per_level)) + len(nests) > MOST:
                return None
            for orders in itertools.product(*per_level):
                nests.append((chain[1:], counts, [tuple(range(8)), *orders]))
    if not nests:
        return np.empty(0), np.empty(0)
    a = machine_arrays(machine, problem)
    tiles = np.array([nest[0] for nest in nests], np.int64)
    counts = np.array([nest[1] for nest in nests], np.int64)
    orders = np.array([nest[2] for nest in nests], np.int64)
    many = len(nests)
    cycles, energy = np.zeros((many, 2 * n + 2)), np.zeros((many, n + 2))
    kernel.evaluate_batch(
        tiles, counts, orders, a.keep, a.axis_level, a.multicast, a.sliding, a.shape, a.shares, a.prices,
        a.ports, a.pe, a.drains, np.zeros((many, n, 3, 4)), cycles, energy,
    )  # fmt: skip
    return energy[:, 0], np.ceil(cycles[:, 0] - 1e-9)


def _case(seed: int) -> tuple[AbstractMachine, Problem, np.ndarray, np.ndarray]:
    """A random machine and layer whose space is small enough to be walked."""
    rng = random.Random(seed)
    while True:
        machine = stepped_nest.random_machine(rng, limited=rng.random() < 0.5)
        problem = stepped_nest.random_problem(rng, rng.choice((16, 40, 120)))
        for full in (True, False):
            walked = brute_force(machine, problem, full)
            if walked is None:
                break
            if len(walked[0]):
                return machine, problem, *walked


def _confirm(seed: int) -> None:
    machine, problem, energy, latency = _case(seed)
    least = search(machine, problem, objective="energy")
    assert least.optimal
    assert least.evaluation.energy_pj == pytest.approx(energy.min(), rel=1e-8), (machine, problem)
    fastest = search(machine, problem, objective="latency")
    assert fastest.evaluation.latency_cycles == latency.min(), (machine, problem)
    among = energy[latency == latency.min()].min()
    assert fastest.evaluation.energy_pj == pytest.approx(among, rel=1e-8), (machine, problem)
    product = search(machine, problem, objective="edp")
    assert product.evaluation.edp == pytest.approx((energy * latency).min(), rel=1e-8), (machine, problem)


@pytest.mark.parametrize("seed", range(40))
def test_no_nest_of_the_whole_space_is_better(seed: int) -> None:
    _confirm(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1240))
def test_no_nest_of_the_whole_space_is_better_on_more_layers_and_machines(seed: int) -> None:
    _confirm(seed)


def test_bounds_of_a_search_that_is_cut_short_hold() -> None:
    machine, problem, energy, _ = _case(3)
    cut = search(machine, problem, time_limit_s=1e-9)
    assert not cut.optimal
    assert cut.bound <= energy.min() * (1 + 1e-9)
    assert cut.evaluation.energy_pj >= energy.min() * (1 - 1e-9)
    assert cut.gap >= 0


@pytest.mark.parametrize("seed", [5, 11, 17])
def test_the_pareto_set_is_that_of_brute_force(seed: int) -> None:
    machine, problem, energy, latency = _case(seed)
    front: list[tuple[float, float]] = []
    for cycles in np.unique(latency):
        least = energy[latency <= cycles].min()
        if not front or least < front[-1][1] * (1 - 1e-8):
            front.append((cycles, least))
    found = search_pareto(machine, problem, points=100)
    points = [(p.evaluation.latency_cycles, p.evaluation.energy_pj) for p in found][::-1]
    assert [p[0] for p in points] == [p[0] for p in front]
    assert [p[1] for p in points] == pytest.approx([p[1] for p in front], rel=1e-8)


def _level(name: str, **keys: object) -> Level:
    return Level(name=name, operands=OPERANDS, **keys)  # type: ignore[arg-type]


def test_a_buffer_that_cannot_hold_one_value_says_by_how_much() -> None:
    machine = AbstractMachine(name="m", levels=(_level("tiny", size_bits=40), _level("dram")))
    with pytest.raises(MappingError, match="layer x: level tiny is 8 bits short of one value of W, I, O"):
        search(machine, Problem(name="x", K=4))  # 8 + 8 + a partial sum of 32 bits


def test_a_filled_array_that_does_not_fit_the_buffer_above_is_filled_less() -> None:
    # 8 PEs would take 8 weights, 8 sums of 32 bits: more than the 200 bits of the buffer that feeds them.
    axis = Axis(name="cols", size=8, below="buffer", loops=("K",))
    machine = AbstractMachine(
        name="m", levels=(_level("file", size_bits=48), _level("buffer", size_bits=200), _level("dram")),
        axes=(axis,),
    )  # fmt: skip
    found = search(machine, Problem(name="x", K=8), objective="latency")
    assert found.evaluation.active_pes == 4  # 4 · (8 + 32) + 8 = 168 bits


def test_a_layer_within_a_cap_that_nothing_meets_is_refused() -> None:
    machine = AbstractMachine(name="m", levels=(_level("file", size_bits=480), _level("dram")))
    with pytest.raises(MappingError, match="layer x: no nest takes at most 5 cycles on m"):
        search(machine, Problem(name="x", K=8), latency_cap=5)


def test_a_matrix_product_on_a_square_array_takes_its_ideal_cycles() -> None:
    # 64³ products on 16 × 16 PEs: 64³ / 256 = 1024 cycles.
    machine = AbstractMachine(
        name="m",
        levels=(_level("file", size_bits=480), _level("buffer", size_bits=1 << 18), _level("dram")),
        axes=(
            Axis(name="rows", size=16, below="buffer", loops=("C",)),
            Axis(name="cols", size=16, below="buffer", loops=("K",)),
        ),
        pes=(PeMode(name="mac", weight_bits=8, input_bits=8),),
    )
    found = search(machine, Problem(name="x", K=64, C=64, OX=64), objective="latency")
    assert found.evaluation.latency_cycles == 1024
    assert found.optimal
    assert found.evaluation.utilization == 1.0


def test_extents_are_the_most_even_cuts() -> None:
    assert tile_extents(12) == [1, 2, 3, 4, 6, 12]
    assert tile_extents(7) == [1, 2, 3, 4, 7]
    for n in (1, 30, 97):
        assert tile_extents(n) == sorted({-(-n // m) for m in range(1, n + 1)})


def test_unknown_objectives_are_refused() -> None:
    machine = AbstractMachine(name="m", levels=(_level("file", size_bits=480), _level("dram")))
    with pytest.raises(ValueError, match="objective must be one of energy, latency, edp, not 'speed'"):
        search(machine, Problem(name="x", K=8), objective="speed")


def test_the_least_steps_of_a_busiest_pe_are_those_of_splitting_each_piece_evenly() -> None:
    # 7 pixels in pieces of 4 and 3: split over 4 PEs they take 1 + 1 steps, over 2 PEs 2 + 2; 6 channels
    # (one piece) take 6 of one PE, 2 of 3 PEs. 4 x 1 takes 2 * 6 = 12 steps, 2 x 3 takes 4 * 2 = 8.
    full = np.zeros((8, 2, 6), np.int64)
    full[:, :, 0] = 1
    full[5, :, :2] = [[4, 3], [1, 1]]
    full[2, 0, 0] = 6
    ways = np.zeros((8, 2), np.int64)
    ways[:, 0] = 1
    ways[5], ways[2] = (2, 4), (1, 3)
    unrolled = np.zeros((2, 8), np.int64)
    unrolled[0, 5], unrolled[1, 2] = 1, 1
    for run in (optimum_kernel.least_turns, optimum_kernel.least_turns.py_func):
        assert run(full, ways, unrolled) == 8
        assert run(full, ways, unrolled[:1]) == 12


@pytest.mark.parametrize("objective", ["energy", "edp"])
def test_nests_below_many_tiles_are_those_of_the_plain_function(
    objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = AbstractMachine(
        name="m",
        levels=(
            _level("file", size_bits=480),
            _level("buffer", size_bits=1 << 12, read_pj=2.0, write_pj=2.0),
            _level("dram", read_pj=50.0, write_pj=50.0, read_bits_per_cycle=16.0),
        ),
        axes=(Axis(name="rows", size=4, below="buffer", loops=("C", "OX")),),
        pes=(PeMode(name="mac", weight_bits=8, input_bits=8),),
    )
    compiled = optimum_kernel.finish_below
    after: list[list[np.ndarray]] = []

    def both(*given: object) -> int:
        plain = [v.copy() if isinstance(v, np.ndarray) else v for v in given]
        done = int(compiled(*given))
        assert compiled.py_func(*plain) == done
        changed = [-1, -4, -5, -6, -7]  # looked, then the best nest's orders, counts, tiles and costs
        for i in changed:
            np.testing.assert_array_equal(given[i], plain[i])
        after.append([np.copy(given[i]) for i in changed])
        return done

    monkeypatch.setattr(optimum_kernel, "finish_below", both)
    found = search(machine, Problem(name="x", K=12, C=10, OX=14, FX=3), objective=objective)
    assert found.optimal
    assert after  # and they found the nest
    assert after[-1][-1][0] == pytest.approx(found.evaluation.energy_pj)
