import dataclasses

import pytest
from bitwright.mapper.isa import LoadTarget, Opcode
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.mapper.mapping import (
    ColumnMode,
    LoopOrder,
    MappingError,
    capacity_of,
)
from bitwright.mapper.objective import Objective
from bitwright.mapper.pe import PeKind
from bitwright.mapper.plan import plan_network
from bitwright.mapper.sampling import random_machine
from bitwright.mapper.search import choose_mapping
from bitwright.mapper.shape import LayerShape, Place
from bitwright.models.zoo import FORMATS, random_network

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


ALL_PES = tuple(kind.key for kind in PeKind)


@pytest.mark.parametrize("seed", range(24))
def test_the_mappings_count_of_dram_bytes_is_what_the_program_of_a_graph_moves(seed):
    network = random_network(seed, formats=FORMATS, vector=True, max_layers=2)
    try:
        plan = plan_network(network, random_machine(seed, ALL_PES))
    except MappingError as fault:
        assert fault.buffer is not None  # nothing but a buffer's size stands in the way
        return
    program = map_network(network, random_machine(seed, ALL_PES))
    assert read_bytes(program) == sum(mapping.read_bytes for mapping in plan.mappings)
    written = sum(
        c["planes"] * c["rows"] * -(-c["run"] * (8 >> c["pack"]) // 8)
        for c in program.commands
        if c.opcode is Opcode.STORE
    )
    assert written == sum(mapping.write_bytes for mapping in plan.mappings)


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
    mapping = choose_mapping(shape, machine, capacity_of(machine, HALVES), Objective.BYTES)
    assert mapping.read_bytes == 1024 + 2304 + 256
    assert len(mapping.tiles) == 1


def test_the_operand_that_is_cheaper_to_read_again_is_in_the_inner_loop():
    machine = load_machine("core-small")
    capacity = capacity_of(machine, HALVES)
    # 64 KiB of weights in 8 KiB tiles; 12 KiB of activations in tiles of 8 KiB at most.
    deep = LayerShape(name="deep", K=256, C=256, H=6, W=8, OY=6, OX=8)
    mapping = choose_mapping(deep, machine, capacity, Objective.BYTES)
    assert mapping.order is LoopOrder.WEIGHTS
    assert mapping.read_bytes == 256 * 256 + 16 * 256 + 6 * 8 * 256  # both tiles stay in the bank
    # 4 KiB of weights in two tiles, 64 KiB of activations.
    wide = LayerShape(name="wide", K=64, C=16, H=64, W=64, OY=64, OX=64)
    mapping = choose_mapping(wide, machine, capacity, Objective.BYTES)
    assert mapping.read_bytes == 64 * 16 + 16 * 64 + 64 * 64 * 16


def test_packed_pixels_take_whole_bytes_and_are_read_once():
    # 10 binary channels of 6×6: 2 bytes a pixel; 12 results of 1 bit: 2 bytes a pixel too.
    shape = LayerShape(
        name="conv", K=12, C=10, H=6, W=6, FY=3, FX=3, OY=4, OX=4, pe=PeKind.BINARY, out_bits=1
    )
    machine = override_machine(load_machine("core-small"), ['array.pes=["binary"]'])
    mapping = choose_mapping(shape, machine, capacity_of(machine, HALVES), Objective.BYTES)
    # A tap is a run of 10 lanes in sets of 32: 9 steps of a 4-byte word in each of 12 rows.
    assert mapping.read_bytes == 6 * 6 * 2 + 12 * 9 * 4 + 12 * 16
    assert mapping.write_bytes == 4 * 4 * 2
    walk = mapping.geometry(shape.whole, machine)
    assert (walk.fx, walk.fy, walk.sets, walk.tail, walk.tap_x) == (3, 3, 1, 10, 2)


def test_taps_that_fill_whole_bytes_are_one_run():
    shape = LayerShape(name="conv", K=4, C=16, H=6, W=6, FY=3, FX=3, OY=4, OX=4, pe=PeKind.BINARY)
    machine = override_machine(load_machine("core-small"), ['array.pes=["binary"]'])
    mapping = choose_mapping(shape, machine, capacity_of(machine, HALVES))
    # 3 taps of 16 channels: 48 lanes are 2 sets of 32, the second with 16.
    walk = mapping.geometry(shape.whole, machine)
    assert (walk.fx, walk.sets, walk.tail) == (1, 2, 16)


def test_a_packed_k_tile_starts_at_a_whole_byte():
    # Two rows, so that a tile of a group would end within a byte of binary results.
    shape = LayerShape(name="conv", K=30, C=64, H=8, W=8, OY=8, OX=8, pe=PeKind.BINARY_INT8, out_bits=1)
    settings = ['array.pes=["binary_int8"]', "array.rows=2", "buffers.output_bytes=256"]
    machine = override_machine(load_machine("core-small"), settings)
    mapping = choose_mapping(shape, machine, capacity_of(machine, HALVES))
    assert len(mapping.k_tiles) > 1
    assert all(first * 2 % 8 == 0 for first, _ in mapping.k_tiles)


def test_a_part_of_a_tensor_is_read_pixel_by_pixel():
    # 8 of 24 channels, from byte 8 on: a beat of 8 bytes for each of 16 pixels.
    shape = LayerShape(name="conv", K=4, C=8, H=4, W=4, OY=4, OX=4, sources=(Place(8, 24),))
    machine = load_machine("core-small")
    mapping = choose_mapping(shape, machine, capacity_of(machine, HALVES))
    assert mapping.read_bytes == 16 * 8 + 4 * 8 + 4 * 16


def test_lane_wise_work_reads_each_channel_once():
    # 4 channels a group on core-small; a bank of half of 1 KiB holds 5 of 40 channels of 10×10 at once.
    shape = LayerShape(name="depth", K=40, C=40, H=10, W=10, FY=3, FX=3, OY=8, OX=8, pe=PeKind.VECTOR)
    settings = ['array.pes=["vector"]', "buffers.activation_bytes=1024", "bus.data_bits=32"]
    machine = override_machine(load_machine("core-small"), settings)
    mapping = choose_mapping(shape, machine, capacity_of(machine, HALVES), Objective.BYTES)
    assert mapping.bank_bytes() <= 512
    rows = sum(window.y.count for tile in mapping.tiles for _, window in mapping.windows(tile, shape.whole))
    # 9 taps a channel in words of 4 bytes; parameters.
    assert mapping.read_bytes == rows * 10 * 40 + 40 * 12 + 40 * 16


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
    assert targets == {int(target) for target in LoadTarget} - {LoadTarget.STEPS}


def test_a_kernel_of_more_taps_than_the_command_set_counts_is_cut():
    # 300 taps, dilated, so that they aren't one run: GEOMETRY.fx holds 255.
    shape = LayerShape(name="long", K=2, C=1, H=1, W=1000, FX=300, OX=102, dilation_x=3)
    machine = load_machine("core-small")
    capacity = capacity_of(machine, HALVES)
    mapping = choose_mapping(shape, machine, capacity)
    walks = [mapping.geometry(chunk, machine) for chunk in mapping.chunks]
    assert sum(walk.fx * walk.fy for walk in walks) == 300
    assert max(walk.fx for walk in walks) <= 255
