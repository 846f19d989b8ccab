"""What the unit benches are built with; read by pytest, which builds, and by cocotb, which drives."""

from __future__ import annotations

from dataclasses import replace

from bitwright.mapper.machine import ArraySpec, BufferSpec, BusSpec, Machine, PostSpec, QueueSpec
from bitwright.mapper.pe import PeKind

# Two lane sets a weight word, four row groups, bursts and queues so short that all limits are met.
NARROW = Machine(
    name="narrow",
    array=ArraySpec(rows=4, cols=2, act_word_bits=32, weight_word_bits=64, acc_depth=16, acc_bits=32),
    buffers=BufferSpec(activation_bytes=256, weight_bytes=512, output_bytes=256, param_channels=16),
    post=PostSpec(lanes=1),
    bus=BusSpec(data_bits=32, max_burst=4, read_outstanding=2, write_outstanding=2),
    queues=QueueSpec(commands=2, fetch_commands=5, fetch_burst=4, row_descriptors=2),
)

# All PE kinds, one row group, few accumulator bits, vendor multipliers.
WIDE = Machine(
    name="wide",
    array=ArraySpec(
        rows=4,
        cols=4,
        act_word_bits=128,
        weight_word_bits=32,
        acc_depth=32,
        acc_bits=20,
        pes=("int8", "ternary_int8", "binary_int8"),
        multiplier="dsp",
    ),
    buffers=BufferSpec(activation_bytes=1024, weight_bytes=512, output_bytes=512, param_channels=32),
    post=PostSpec(lanes=4),
    bus=BusSpec(data_bits=64, max_burst=16, read_outstanding=4, write_outstanding=4),
    queues=QueueSpec(commands=8, fetch_commands=8, fetch_burst=4, row_descriptors=8),
)

# Every PE kind, so that POST adds and STORE packs; two row groups, room for a whole threshold tree of each.
FULL = Machine(
    name="full",
    array=ArraySpec(
        rows=8,
        cols=2,
        act_word_bits=128,
        weight_word_bits=64,
        acc_depth=32,
        acc_bits=32,
        pes=("int8", "ternary_int8", "binary_int8", "ternary", "binary", "vector"),
    ),
    buffers=BufferSpec(activation_bytes=1024, weight_bytes=2048, output_bytes=512, param_channels=1024),
    post=PostSpec(lanes=4),
    bus=BusSpec(data_bits=64, max_burst=8, read_outstanding=2, write_outstanding=3),
)

# A read of packed values is less than a byte; POST neither adds nor is the tree deeper than its buffer.
SLIM = replace(
    NARROW,
    name="slim",
    array=replace(NARROW.array, acc_bits=20, pes=("ternary_int8", "binary")),
    buffers=replace(NARROW.buffers, param_channels=512),
)

# A command is one beat of the bus.
BROAD = replace(
    WIDE,
    name="broad",
    array=replace(WIDE.array, act_word_bits=256, weight_word_bits=256),
    bus=BusSpec(data_bits=256, max_burst=16),
    queues=QueueSpec(fetch_commands=3, fetch_burst=2),
)

# The whole fetch FIFO is one burst.
EAGER = replace(NARROW, name="eager", queues=QueueSpec(fetch_commands=4, fetch_burst=4))

# Of the array and the core: all PE kinds, several lane sets a word, two POST lanes, multipliers for two rows.
PAIRED = replace(
    NARROW,
    name="paired",
    array=replace(NARROW.array, acc_bits=24, pes=FULL.array.pes, multiplier="pair"),
    post=PostSpec(lanes=2),
)


def _serving(name: str, *pes: str, act_word_bits: int = 128, weight_word_bits: int = 32) -> Machine:
    """A machine for a PE of these kinds."""
    array = replace(
        WIDE.array,
        act_word_bits=act_word_bits,
        weight_word_bits=weight_word_bits,
        pes=pes,
        multiplier="inferred",
    )
    return replace(WIDE, name=name, array=array)


# PEs of one kind and of mixtures: with and without multipliers, with one or both uses of the bit lanes.
PE_MACHINES = {
    machine.name: machine
    for machine in (
        NARROW,
        WIDE,
        _serving("binary", "binary", weight_word_bits=128),
        _serving("ternary", "ternary"),
        _serving("bits", "ternary", "binary", act_word_bits=64, weight_word_bits=64),
        _serving("low", "ternary_int8", "binary_int8", "binary", weight_word_bits=16),
        _serving("vector", "vector", "ternary"),
        _serving("all", *(kind.key for kind in PeKind)),
    )
}

MACHINES = {machine.name: machine for machine in (NARROW, WIDE, FULL, SLIM, BROAD, EAGER)}
SEQUENCER_MACHINES = (NARROW, WIDE, BROAD, EAGER)

BYTE_BUFFERS = {
    "byte_buffer_even": {"size_bytes": 64, "word_bytes": 8, "write_bytes": 8, "read_bytes": 8},
    "byte_buffer_reading": {"size_bytes": 64, "word_bytes": 16, "write_bytes": 4, "read_bytes": 16},
    "byte_buffer_writing": {"size_bytes": 32, "word_bytes": 4, "write_bytes": 4, "read_bytes": 1},
    "byte_buffer_least": {"size_bytes": 2, "word_bytes": 1, "write_bytes": 1, "read_bytes": 1},
}

LINE_BUFFERS = {
    "line_buffer_wide": {"lines": 16, "line_bits": 256, "unit_bits": 32},
    "line_buffer_odd": {"lines": 5, "line_bits": 192, "unit_bits": 64},
    "line_buffer_single": {"lines": 2, "line_bits": 32, "unit_bits": 32},
}

PARAM_BUFFERS = {
    "param_buffer_narrow": NARROW,  # 4 units a lane
    "param_buffer_wide": WIDE,  # 2 units a lane, 4 lanes
    "param_buffer_broad": BROAD,  # 2 lanes a unit
}

TOKEN_COUNTERS = {"takers": 3, "posters": 4}
CONTROL_IDENTITY = 0xC0FFEE42
ARBITER_BITS = 64
REQUANTIZERS = {
    "requantizer_32": {"acc_bits": 32},
    "requantizer_20": {"acc_bits": 20},
    "requantizer_up": {"acc_bits": 32, "scales_up": True},
}
POPCOUNTS = {
    **{f"popcount_plain_{lanes}": {"lanes": lanes} for lanes in (1, 3, 32)},
    **{f"popcount_trits_{lanes}": {"lanes": lanes, "ternary": True} for lanes in (1, 5)},
    **{
        f"popcount_{leaf}_{lanes}_{ternary:d}": {"lanes": lanes, "ternary": ternary, "leaf": leaf}
        for leaf in ("ecp5", "xilinx")
        for ternary in (False, True)
        for lanes in (1, 2, 3, 16, 70, 128)
    },
}
