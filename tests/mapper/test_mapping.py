import dataclasses

import pytest
from bitwright.mapper.isa import LoadTarget, Opcode
from bitwright.mapper.lower import map_network, plan_network
from bitwright.mapper.machine import load_machine, override_machine
from bitwright.mapper.mapping import (
    ColumnMode,
    LayerShape,
    LoopOrder,
    MappingError,
    capacity_of,
)
from bitwright.mapper.sampling import random_machine
from bitwright.mapper.search import choose_mapping
from bitwright.models.zoo import random_network

HALVES = {"activations": 2, "weights": 2, "outputs": 2}


def read_bytes(program) -> int:
    """Bytes on the read channel for LOADs: whole beats, row by row."""
    beat, total = program.machine.bus_bytes, 0
    for command in program.commands:
        if command.opcode is not Opcode.LOAD:
            continue
        for plane in range(command["planes"]):
            for row in range(command["rows"]):
                start = command["address"] + plane * command["src_plane"] + row * command["src_row"]
                total += (start + command["run"] - 1) // beat - start // beat + 1
    return total * beat


@pytest.mark.parametrize("seed", range(40))
def test_the_mappings_count_of_dram_bytes_is_what_the_program_reads(seed):
    network, machine = random_network(seed), random_machine(seed)
    plan = plan_network(network, machine)
    program = map_network(network, machine)
    assert read_bytes(program) == sum(mapping.read_bytes for mapping in plan.mappings)
    written = sum(c["planes"] * c["rows"] * c["run"] for c in program.commands if c.opcode is Opcode.STORE)
    assert written == sum(mapping.write_bytes for mapping in plan.mappings)


def test_a_layer_that_fits_is_read_once():
    # 16 channels of 8×8, 3×3: activations 1024 bytes, weights 16·9·16, parameters 16·16.
    shape = LayerShape(name="conv", K=16, C=16, H=8, W=8, FY=3, FX=3, OY=8, OX=8, pad_top=1, pad_left=1)
    machine = load_machine("core-medium")
    mapping = choose_mapping(shape, machine, capacity_of(machine, HALVES))
    assert mapping.read_bytes == 1024 + 2304 + 256
    assert len(mapping.tiles) == 1


def test_the_operand_that_is_cheaper_to_read_again_is_in_the_inner_loop():
    machine = load_machine("core-small")
    capacity = capacity_of(machine, HALVES)
    # 64 KiB of weights in 8 KiB tiles; 12 KiB of activations in tiles of 8 KiB at most.
    deep = LayerShape(name="deep", K=256, C=256, H=6, W=8, OY=6, OX=8)
    mapping = choose_mapping(deep, machine, capacity)
    assert mapping.order is LoopOrder.WEIGHTS
    assert mapping.read_bytes == 256 * 256 + 16 * 256 + 6 * 8 * 256  # both tiles stay in the bank
    # 4 KiB of weights in two tiles, 64 KiB of activations.
    wide = LayerShape(name="wide", K=64, C=16, H=64, W=64, OY=64, OX=64)
    mapping = choose_mapping(wide, machine, capacity)
    assert mapping.read_bytes == 64 * 16 + 16 * 64 + 64 * 64 * 16


def test_columns_share_a_tile_or_split_it_where_the_bank_is_too_small():
    shape = LayerShape(name="conv", K=16, C=64, H=16, W=16, FY=3, FX=3, OY=16, OX=16, pad_top=1, pad_left=1)
    machine = load_machine("core-large")
    assert choose_mapping(shape, machine, capacity_of(machine, HALVES)).mode is ColumnMode.SHARED
    small = override_machine(machine, ["buffers.activation_bytes=16384"])
    mapping = choose_mapping(shape, small, capacity_of(small, HALVES))
    assert mapping.bank_bytes() <= 8192


def test_verify_names_layer_and_buffer():
    shape = LayerShape(name="conv3", K=64, C=64, H=8, W=8, FY=3, FX=3, OY=6, OX=6)
    machine = load_machine("core-small")
    capacity = capacity_of(machine, HALVES)
    mapping = choose_mapping(shape, machine, capacity)
    too_many = dataclasses.replace(mapping, groups=16)
    # 64 channels × 576 values = 36 864 bytes; half of 16 384.
    with pytest.raises(
        MappingError,
        match=r"layer conv3: a tile needs 36864 bytes of the weight buffer, which holds 8192 .*"
        "lower K below 64",
    ):
        too_many.verify(machine, capacity)
    with pytest.raises(MappingError, match="layer conv3: an accumulator tile has 6 × 6 pixels"):
        dataclasses.replace(mapping, acc_y=6, acc_x=6).verify(machine, capacity)


def test_a_pool_window_must_fit_the_accumulators():
    shape = LayerShape(name="conv", K=4, C=4, H=8, W=8, OY=5, OX=5, pool_y=5, pool_x=5)
    machine = load_machine("core-small")
    with pytest.raises(MappingError, match=r"layer conv: a pool window of 5 × 5.*acc_depth"):
        choose_mapping(shape, machine, capacity_of(machine, HALVES))


def test_a_parameter_buffer_below_one_group_is_named():
    machine = override_machine(load_machine("core-large"), ["buffers.param_channels=8", "post.lanes=2"])
    with pytest.raises(MappingError, match=r"parameter buffer.*raise buffers.param_channels"):
        map_network(random_network(1), machine)


def test_weights_that_pass_a_half_are_split_over_the_reduction():
    shape = LayerShape(name="conv", K=8, C=512, H=4, W=4, FY=3, FX=3, OY=2, OX=2)
    machine = load_machine("core-small")
    mapping = choose_mapping(shape, machine, capacity_of(machine, HALVES))
    assert mapping.weight_chunked and len(mapping.chunks) > 1
    assert sum(chunk.fy * chunk.fx * chunk.c for chunk in mapping.chunks) == 9 * 512


def test_no_load_touches_pixels_that_the_stride_skips():
    shape = LayerShape(name="conv", K=8, C=32, H=9, W=9, OY=5, OX=5, stride_y=2, stride_x=2)
    machine = load_machine("core-small")
    mapping = choose_mapping(shape, machine, capacity_of(machine, HALVES))
    assert mapping.skip_x
    assert mapping.read_bytes == 25 * 32 + 8 * 32 + 8 * 16


def test_targets_are_those_of_the_command_set():
    program = map_network(random_network(3), random_machine(3))
    targets = {c["target"] for c in program.commands if c.opcode is Opcode.LOAD}
    assert targets == {int(target) for target in LoadTarget}


def test_a_kernel_of_more_taps_than_the_command_set_counts_is_cut():
    # 300 taps, dilated, so that they aren't one run: GEOMETRY.fx holds 255.
    shape = LayerShape(name="long", K=2, C=1, H=1, W=1000, FX=300, OX=102, dilation_x=3)
    machine = load_machine("core-small")
    capacity = capacity_of(machine, HALVES)
    mapping = choose_mapping(shape, machine, capacity)
    walks = [mapping.geometry(chunk, machine) for chunk in mapping.chunks]
    assert sum(walk.fx * walk.fy for walk in walks) == 300
    assert max(walk.fx for walk in walks) <= 255
