"""Step lists: what a group keeps, by hand, and what leaving the rest out saves."""

from __future__ import annotations

import numpy as np
import pytest
from bitwright.mapper.check import check_program
from bitwright.mapper.isa import Opcode
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import Machine
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.mapper.mapping import MappingError
from bitwright.mapper.plan import plan_network, steps_to_leave_out
from bitwright.mapper.program import Program
from bitwright.mapper.steps import entries_worth, group_lists, kept_steps, pack_entries, weight_blocks
from bitwright.models.formats import Format
from bitwright.models.layers import Conv, PlaneSum, Requantize
from bitwright.models.network import Network
from bitwright.models.numerics import Rounding
from bitwright.models.reference import run_reference
from bitwright.models.tensor import Tensor
from bitwright.models.weights import WeightRecord
from bitwright.models.zoo import random_input
from bitwright.sim.cycle import simulate
from bitwright.sim.functional import run_functional
from bitwright.sim.timing import time_program

INT8, INT32 = Format.parse("int8"), Format.parse("int32")


def listing(entries: int = 1024) -> Machine:
    return override_machine(load_machine("core-medium"), [f"buffers.step_entries={entries}"])


def conv(weights: np.ndarray, side: int = 8) -> Network:
    """A padded convolution of a picture, requantised."""
    K, C, FY, FX = weights.shape
    size = (side, side)
    return Network(
        name="conv",
        input="x",
        output="y",
        tensors={
            "x": Tensor(name="x", shape=(C, *size), fmt=INT8, scale=1.0),
            "acc": Tensor(name="acc", shape=(K, *size), fmt=INT32),
            "y": Tensor(name="y", shape=(K, *size), fmt=INT8, scale=1.0),
        },
        layers=(
            Conv(name="conv", input="x", output="acc", padding=(FY // 2, FX // 2, FY // 2, FX // 2)),
            Requantize(
                name="post",
                input="acc",
                output="y",
                multiplier=np.full(K, 1 << 30),
                shift=np.full(K, 8),
                rounding=Rounding.TFLITE_DOUBLE,
                low=-128,
                high=127,
            ),
        ),
        weights={"conv": WeightRecord.dense(layer="conv", values=weights, fmt=INT8, scales=np.ones(K))},
    )


def issues(program: Program) -> int:
    """Cycles in which the array issues."""
    return int(time_program(program, program.machine.memory).issue.sum())


def test_a_group_keeps_the_steps_with_a_weight_other_than_zero() -> None:
    weights = np.zeros((3, 6, 1, 2), np.int8)  # groups of 2 channels: 0 and 1, then 2
    weights[1, 4, 0, 1] = 1  # at fx 1, channel 4: of 4 lanes the second set of the second run
    blocks = weight_blocks(weights, 2)
    assert blocks is not None and blocks.mask.sum() == 1
    kept = kept_steps(blocks, 2, 2, 4)
    # Two runs of two sets; the group without weights keeps its first.
    assert kept.mask.tolist() == [[False, False, False, True], [True, False, False, False]]
    assert kept.counts == (1, 1)
    # In one run of 12 values the weight is number 6 + 4 = 10, in the third of three sets.
    assert kept_steps(blocks, 1, 3, 4).mask.tolist() == [[False, False, True], [True, False, False]]


def test_weights_without_a_zero_block_have_no_lists() -> None:
    weights = np.zeros((4, 2, 1, 1), np.int8)
    weights[0, 0] = weights[3, 1] = 1
    assert weight_blocks(weights, 4) is None
    assert weight_blocks(weights, 2) is not None


def test_an_entry_holds_offset_tail_and_end() -> None:
    data = pack_entries(np.array([0, 300, 0xFFFFF]), np.array([False, True, False]))
    words = [int.from_bytes(data.tobytes()[i : i + 4], "little") for i in (0, 4, 8)]
    assert words == [0, 300 | 1 << 20, 0xFFFFF | 1 << 21]


def test_lists_are_left_out_where_they_cost_more_than_they_save() -> None:
    weights = np.ones((8, 320, 1, 1), np.int8)
    weights[:, :8] = 0  # 1 of 40 steps: 39 entries of 4 bytes for 64 bytes of weights
    blocks = weight_blocks(weights, 8)
    assert blocks is not None
    assert entries_worth(blocks, 8, 64) == 0
    weights[:, :24] = 0  # 3 of 40: 148 bytes for 192
    more = weight_blocks(weights, 8)
    assert more is not None
    assert entries_worth(more, 8, 64) == 74  # 37 entries, twice


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_skipped_block_costs_no_cycle_of_the_array_and_no_byte_of_weights(share: float) -> None:
    rng = np.random.default_rng(7)
    dense = rng.integers(1, 100, (32, 32, 3, 3)).astype(np.int8)
    # Blocks of 8 rows by 8 channels, which are those of core-medium: 4 groups of 9 taps by 4 sets.
    gone = rng.permutation(4 * 4 * 9).reshape(4, 4, 3, 3) < share * 4 * 4 * 9
    weights = np.where(gone.repeat(8, axis=0).repeat(8, axis=1), 0, dense).astype(np.int8)
    machine = listing()
    network = conv(weights)
    whole, sparse = map_network(conv(dense), machine), map_network(network, machine)
    check_program(sparse)
    # 8 × 8 pixels over 2 columns: 32 a column and step.
    assert issues(whole) == 32 * 4 * 36
    assert issues(sparse) == 32 * int((~gone).sum())
    (mapping,) = plan_network(network, machine).mappings
    commands = 32 * len(sparse.commands)
    assert simulate(sparse).read_bytes - commands == mapping.read_bytes
    # A step is 64 bytes of weights and 4 of its entry.
    assert simulate(sparse).traffic["weights"].read == (64 + 4) * int((~gone).sum())
    x = random_input(network, 3)[0]
    assert np.array_equal(run_functional(sparse, x), run_reference(network, x[np.newaxis])[0])


def test_a_layer_of_pruned_filters_still_makes_their_results() -> None:
    weights = np.random.default_rng(2).integers(1, 9, (24, 16, 3, 3)).astype(np.int8)
    weights[8:16] = 0
    network, machine = conv(weights, 6), listing()
    program = map_network(network, machine)
    lists = next(iter(group_lists(program).values()))
    assert [len(steps) for steps in lists] == [18, 1, 18]
    x = random_input(network, 1)[0]
    assert np.array_equal(run_functional(program, x), run_reference(network, x[np.newaxis])[0])


def test_a_machine_without_lists_runs_all_steps() -> None:
    weights = np.ones((16, 16, 3, 3), np.int8)
    weights[:8] = 0
    machine = override_machine(listing(), ["buffers.step_entries=0"])
    program = map_network(conv(weights), machine)
    assert not any(command["listed"] for command in program.commands if command.opcode is Opcode.GEOMETRY)


def test_the_entries_that_are_named_are_the_fewest_with_which_zero_steps_go() -> None:
    weights = np.ones((16, 160, 1, 1), np.int8)
    weights[:8, :56] = 0  # of two groups of 20 steps the first keeps 13
    network = conv(weights)
    without = override_machine(listing(), ["buffers.step_entries=0"])
    assert steps_to_leave_out(conv(np.ones_like(weights)), without) == ((), 0)
    names, entries = steps_to_leave_out(network, without)
    assert (names, entries) == (("conv",), 64)  # twice 20
    weights = np.tile(weights, (1, 2, 1, 1))
    network = conv(weights)
    names, entries = steps_to_leave_out(network, without)
    assert (names, entries) == (("conv",), 128)  # twice 40
    assert issues(map_network(network, listing(64))) == issues(map_network(network, without))
    assert issues(map_network(network, listing(entries))) < issues(map_network(network, without))


def test_more_planes_than_lane_sets_are_refused() -> None:
    network = conv(np.ones((16, 4, 1, 1), np.int8))
    summed = PlaneSum(
        name="sum",
        input="acc",
        output="total",
        planes=8,
        multiplier=np.full(16, 1 << 28),
        shift=np.zeros(16, np.int32),
        left_shift=4,
        rounding=Rounding.TFLITE_DOUBLE,
    )
    post = Requantize(
        name="post",
        input="total",
        output="y",
        multiplier=np.full(2, 1 << 30),
        shift=np.zeros(2, np.int32),
        rounding=Rounding.TFLITE_DOUBLE,
        low=-128,
        high=127,
    )
    tensors = {
        **network.tensors,
        "total": Tensor(name="total", shape=(2, 8, 8), fmt=INT32),
        "y": Tensor(name="y", shape=(2, 8, 8), fmt=INT8, scale=1.0),
    }
    planes = Network(
        name="planes", input="x", output="y", tensors=tensors, layers=(network.layers[0], summed, post),
        weights=network.weights,
    )  # fmt: skip
    with pytest.raises(MappingError, match=r"8 planes take 8 lane sets of a pixel, core-medium has 4"):
        map_network(planes, listing())
