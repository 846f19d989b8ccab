"""Results of whole programs: sums that must hold, hand-counted events, mapped networks."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bitwright.mapper.isa import Command, Opcode
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import MemoryTiming
from bitwright.mapper.machine_file import load_machine
from bitwright.mapper.program import Program
from bitwright.models.reference import run_reference
from bitwright.models.zoo import random_input, random_network
from bitwright.sim.cycle import simulate
from bitwright.sim.energy import COMPONENTS
from bitwright.sim.functional import run_functional
from bitwright.sim.result import Result, load_result
from bitwright.sim.timing import time_program

PRESETS = ("core-small", "core-medium", "core-large")


def _mapped(seed: int) -> tuple[object, Program]:
    network = random_network(seed, max_image=10, max_channels=20)
    return network, map_network(network, load_machine(PRESETS[seed % 3]))


@pytest.mark.parametrize("seed", range(9))
def test_a_mapped_network_computes_what_the_reference_does_in_any_order_of_units(seed: int) -> None:
    network, program = _mapped(seed)
    x = random_input(network, seed)[0]
    expected = run_reference(network, x[np.newaxis])[0]
    assert np.array_equal(run_functional(program, x), expected)
    for order in range(4):
        assert np.array_equal(run_functional(program, x, seed=order), expected)


@pytest.mark.parametrize("seed", range(9))
def test_a_mapped_network_takes_the_cycles_of_the_stepped_twin(
    builder: ModuleType, stepped: ModuleType, seed: int
) -> None:
    _, program = _mapped(seed)
    memory = builder.random_memory(random.Random(seed))
    timing = time_program(program, memory)
    if timing.cycles > 40_000:
        pytest.fail("a network this long makes the twin slow: choose a smaller one")
    twin = stepped.Stepped(program, memory).run()
    assert timing.cycles == twin.cycles
    assert timing.read_beats == twin.read_beats
    for name in ("dispatch", "start", "end"):
        ours = getattr(timing, name)
        assert {i: int(ours[i]) for i in getattr(twin, name)} == getattr(twin, name), name


def _check_sums(program: Program, result: Result) -> None:
    assert sum(layer.cycles for layer in result.layers) == result.cycles
    for layer in result.layers:
        assert layer.busy_cycles + sum(layer.stall_cycles.values()) == layer.cycles
        assert all(n > 0 for n in layer.stall_cycles.values())
    assert sum(result.stalls.values()) + result.busy_cycles == result.cycles
    for total, part in ((result.read_bytes, "read"), (result.write_bytes, "write")):
        assert sum(getattr(moved, part) for moved in result.traffic.values()) == total
        assert sum(getattr(layer, f"{part}_bytes") for layer in result.layers) == total
    by_layer = sum(layer.energy_pj for layer in result.layers)
    assert by_layer == pytest.approx(result.total_energy_pj)
    assert result.energy_rows.keys() == result.energy_pj.keys() == set(COMPONENTS)


@pytest.mark.parametrize("seed", range(6))
def test_layers_sum_to_the_whole_run_in_cycles_stalls_bytes_and_energy(
    builder: ModuleType, seed: int
) -> None:
    rng = random.Random(seed)
    made = builder.random_program(rng, builder.random_machine(rng))
    _check_sums(made, simulate(made, builder.random_memory(rng)))
    _, mapped = _mapped(seed)
    result = simulate(mapped)
    _check_sums(mapped, result)
    assert result.traffic["outputs"].write == mapped.output.size
    assert result.busy_cycles * mapped.machine.array.rows >= 1
    assert 0 < result.utilization <= 1


def test_accesses_and_traffic_of_one_command_each_are_those_of_hand_counting(
    builder: ModuleType,
) -> None:
    # 4 rows, 2 columns, 4 lanes, activation words of 16 bytes, bus 8, POST 2 lanes.
    commands = [
        Command(Opcode.GEOMETRY, {"tile_x": 4, "tile_y": 2, "sets": 2, "fx": 1, "fy": 3}),
        Command(Opcode.OUTPUT, {"pool_x": 2, "pool_y": 2}),
        Command(Opcode.LOAD, {"address": 8195, "run": 10, "rows": 3, "planes": 1, "src_row": 16,
                              "cols": 3}),
        Command(Opcode.LOAD, {"target": 1, "address": 9216, "run": 32, "rows": 1, "planes": 1,
                              "wrap": 2}),
        Command(Opcode.LOAD, {"target": 2, "address": 9216, "run": 64, "rows": 1, "planes": 1,
                              "wrap": 4}),
        Command(Opcode.FILL, {"run": 5, "rows": 2, "planes": 2, "cols": 1}),
        Command(Opcode.EXEC, {"region_x": 8, "region_y": 2, "groups": 3, "cols": 2, "rows_last": 4,
                              "first": 1, "last": 1, "post_drain": 16}),
        Command(Opcode.STORE, {"wait": 16, "address": 12291, "run": 6, "rows": 2, "planes": 1,
                               "dst_row": 8}),
    ]  # fmt: skip
    program = builder.make_program(builder.make_machine(), commands)
    result = simulate(program)
    # 2 tiles × 3 groups of 8 pixels × 6 steps: 288 issues; POST reads 48 pixels × 2 columns × 2.
    issues, reads = 288, 192
    moved = {name: (m.read, m.write) for name, m in result.accesses.items()}
    assert result.busy_cycles == issues
    assert moved == {
        "activation": (issues * 2 * 2 * 16, 2 * 30 + 20),
        "weight": (6 * 6 * 16, 32),  # 6 held words a tile, lines of 4 rows × 4 bytes
        "param": (reads * 32, 64),
        "output": (2 * 2 * 2 * 8, reads * 2 // 4),  # two beats a row, two words of 8 bytes each
        "accumulators": (issues * 8 * 4 + reads * 2 * 4, issues * 8 * 4),
    }
    # Bytes 3…12 of a row touch two beats; the nine commands are 32 bytes each.
    traffic = {name: (m.read, m.write) for name, m in result.traffic.items()}
    assert traffic == {
        "commands": (9 * 32, 0),
        "weights": (32, 0),
        "params": (64, 0),
        "inputs": (3 * 2 * 8, 0),
        "activations": (0, 0),
        "outputs": (0, 12),
    }
    assert result.energy_pj["multiply"] == pytest.approx(issues * 8 * 4 * 0.2)
    assert result.energy_pj["post"] == pytest.approx(reads * 2 * 3.3)
    assert result.energy_pj["dram"] == pytest.approx((9 * 32 + 32 + 64 + 48 + 12) * 64)


@pytest.mark.parametrize(
    ("pe", "component", "lanes", "additions"),
    [  # 4 rows × 2 columns; words of 128 (activations) and 32 bits (weights)
        (0, "multiply", 4, 4),
        (1, "negate", 16, 16),
        (2, "negate", 16, 16),
        (3, "ternary", 16, 1),
        (4, "xnor", 32, 1),
        (5, "multiply", 1, 1),
    ],
)
def test_products_are_laid_to_their_kind(
    builder: ModuleType, pe: int, component: str, lanes: int, additions: int
) -> None:
    geometry = {"pe": pe, "tile_x": 2, "tile_y": 2, "sets": 3, "tail": 1, "fx": 1, "fy": 1}
    run = {"region_x": 2, "region_y": 2, "groups": 1, "cols": 2, "rows_last": 4, "first": 1, "last": 1}
    commands = [
        Command(Opcode.GEOMETRY, geometry),
        Command(Opcode.OUTPUT, {"pool_x": 1, "pool_y": 1, "mode": 1, "levels": 2}),
        Command(Opcode.EXEC, {**run, "post_drain": 16}),
        Command(Opcode.STORE, {"wait": 16, "address": 12288, "run": 21, "rows": 2, "planes": 1,
                               "dst_row": 64, "pack": 2}),
    ]  # fmt: skip
    program = builder.make_program(builder.make_machine(), commands)
    result = simulate(program)
    issues, reads = 12, 16
    products = {"multiply": 0.2, "negate": 0.03, "ternary": 0.015, "xnor": 0.0075}
    for name, value in products.items():
        count = issues * 8 * lanes if name == component else 0
        assert result.energy_pj[name] == pytest.approx(count * value), name
    assert result.energy_pj["add"] == pytest.approx(issues * 8 * additions * 0.1)
    assert result.energy_pj["post"] == 0
    assert result.energy_pj["compare"] == pytest.approx(reads * 2 * 2 * 3 * 0.1)
    assert result.accesses["param"].read == reads * 2 * 32  # a line of two entries for each level
    assert result.accesses["accumulators"].read == (issues * 8 + reads * 2) * 4
    # A row is 21 values of 2 bits: 6 bytes, one beat, 3 reads of two words of 8 bytes.
    assert result.accesses["output"].read == 2 * 3 * 2 * 8
    assert result.traffic["outputs"].write == 2 * 6
    # One MAC against the run's cycles with the products that this kind forms in each.
    assert result.utilization == pytest.approx(1 / (result.cycles * 8 * lanes))


def test_a_residual_add_rescales_two_operands_and_their_sum(builder: ModuleType) -> None:
    commands = [
        Command(Opcode.GEOMETRY, {"pe": 5, "tile_x": 4, "tile_y": 2, "sets": 1, "fx": 1, "fy": 1}),
        Command(Opcode.OUTPUT, {"pool_x": 1, "pool_y": 2, "mode": 2}),
        Command(Opcode.EXEC, {"region_x": 4, "region_y": 2, "groups": 1, "cols": 1, "rows_last": 4,
                              "first": 1, "last": 1, "post_drain": 16}),
        Command(Opcode.STORE, {"wait": 16, "address": 12288, "run": 16, "rows": 1, "planes": 1}),
    ]  # fmt: skip
    result = simulate(builder.make_program(builder.make_machine(), commands))
    # 4 sums of 4 rows from 8 pixels: 32 operands and 16 sums, each an int32 product, two additions.
    assert result.energy_pj["post"] == pytest.approx(48 * 3.3)
    assert result.energy_pj["compare"] == 0
    assert result.accesses["output"].write == 16


def test_a_slower_memory_changes_stalls_but_no_bytes_and_no_work() -> None:
    _, program = _mapped(0)
    quick = simulate(program, MemoryTiming(read_latency=1))
    slow = simulate(program, MemoryTiming(read_latency=200, beat_interval=4))
    assert slow.cycles > quick.cycles
    assert slow.traffic == quick.traffic
    assert slow.busy_cycles == quick.busy_cycles


def test_a_saved_result_is_read_back_equal_with_its_time_line(tmp_path: Path) -> None:
    _, program = _mapped(1)
    result = simulate(program)
    result.save(tmp_path / "r.json", timeline=True)
    loaded = load_result(tmp_path / "r.json")
    assert loaded == result
    for unit, spans in result.timeline.items():
        assert np.array_equal(loaded.timeline[unit], spans)
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "r.json: Expecting"),
        ("[]", "r.json: not a simulation result"),
        ('{"kind": "result", "version": 99}', "version must be 1, not 99"),
        ('{"kind": "result", "version": 1}', "incomplete or damaged: 'total'"),
    ],
)
def test_a_damaged_result_is_refused_with_the_file_s_name(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_result(tmp_path / "r.json")


def test_another_machine_clock_changes_no_cycle() -> None:
    _, program = _mapped(2)
    machine = dataclasses.replace(program.machine, clock_hz=1e9)
    assert simulate(dataclasses.replace(program, machine=machine)).cycles == simulate(program).cycles
