"""What each command of a program does how often: accesses, operations, bytes at the port."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..mapper.isa import COMMAND_BYTES, LoadTarget, Opcode, PostMode
from ..mapper.machine import STEP_BITS
from ..mapper.pe import PeKind
from ..mapper.program import Program
from ..mapper.steps import group_lists
from .timing import Timing, in_force, read_slots

__all__ = ["MEMORIES", "OPERANDS", "Events", "count_events"]

OPERANDS = ("commands", "weights", "params", "inputs", "activations", "outputs")
"""What crosses the port: `inputs` and `outputs` are the network's, `activations` all between."""

MEMORIES = ("activation", "weight", "param", "output", "accumulators")
"""The memories on chip."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """Counts for each command, int64; the first axis is the command.

    Every issue cycle reads two activation words in every column (a read starts at any byte), so does
    each read of a STORE in the output buffer. A weight line is read once for each held word of a tile.
    An entry of a step list counts as bytes of the weight buffer.
    Every issue reads and writes one accumulator in every PE; POST reads accumulators and a parameter
    line, a threshold search one for each level.
    """

    products: NDArray[np.int64]
    """Lane products formed, useful or not, (n,)."""
    pe: NDArray[np.int64]
    """PeKind of the products, (n,)."""
    updates: NDArray[np.int64]
    """Accumulators that take a lane set's sum, (n,)."""
    rescales: NDArray[np.int64]
    """Numbers that POST rescales, the sums of residual adds among them, (n,)."""
    comparisons: NDArray[np.int64]
    """Accumulators that POST compares with a threshold, (n,)."""
    dram_read: NDArray[np.int64]
    """Bytes of R beats, (n, len(OPERANDS))."""
    dram_write: NDArray[np.int64]
    """Strobed bytes written, (n, len(OPERANDS))."""
    chip_read: NDArray[np.int64]
    """Bytes read, (n, len(MEMORIES))."""
    chip_write: NDArray[np.int64]
    """Bytes written, (n, len(MEMORIES))."""


def count_events(program: Program, timing: Timing) -> Events:
    """The events of every command, from its fields and the model's beats and cycles."""
    machine, array, f = program.machine, program.machine.array, timing.fields
    opcode, count = f["opcode"], len(program.commands)
    accumulator = -(-array.acc_bits // 8)
    dram_read = np.zeros((count, len(OPERANDS)), np.int64)
    dram_write = np.zeros((count, len(OPERANDS)), np.int64)
    chip_read = np.zeros((count, len(MEMORIES)), np.int64)
    chip_write = np.zeros((count, len(MEMORIES)), np.int64)

    # The port.
    loads, stores = opcode == Opcode.LOAD, opcode == Opcode.STORE
    into_bank = f["target"] == LoadTarget.ACTIVATION
    source, result = program.input, program.output
    first = (f["address"] >= source.address) & (f["address"] < source.address + source.size)
    final = (f["address"] >= result.address) & (f["address"] < result.address + result.size)
    run = np.where(stores, -(-((f["run"] << 3) >> f["pack"]) // 8), f["run"])
    moved = run * f["rows"] * f["planes"]
    read = timing.beats * machine.bus_bytes
    dram_read[:, OPERANDS.index("commands")] = COMMAND_BYTES
    for name, chosen in (
        ("weights", loads & np.isin(f["target"], (LoadTarget.WEIGHT, LoadTarget.STEPS))),
        ("params", loads & (f["target"] == LoadTarget.PARAM)),
        ("inputs", loads & into_bank & first),
        ("activations", loads & into_bank & ~first),
    ):
        dram_read[:, OPERANDS.index(name)] = np.where(chosen, read, 0)
    dram_write[:, OPERANDS.index("outputs")] = np.where(stores & final, moved, 0)
    dram_write[:, OPERANDS.index("activations")] = np.where(stores & ~final, moved, 0)

    # The memories on chip.
    act, weight, param, output, accumulators = range(len(MEMORIES))
    banks = np.bitwise_count(f["cols"]).astype(np.int64)
    filled = (loads & into_bank) | (opcode == Opcode.FILL)
    chip_write[:, act] = np.where(filled, moved * banks, 0)
    lists = f["target"] == LoadTarget.STEPS
    chip_write[:, weight] = np.where(loads & ((f["target"] == LoadTarget.WEIGHT) | lists), moved, 0)
    chip_write[:, param] = np.where(loads & (f["target"] == LoadTarget.PARAM), moved, 0)
    chip_read[:, output] = timing.gathers * (2 * machine.output_word_bytes)
    execs = opcode == Opcode.EXEC
    geometry, placed = in_force(f, Opcode.GEOMETRY), in_force(f, Opcode.OUTPUT)
    tile_y, tile_x = (np.maximum(f[name][geometry], 1) for name in ("tile_y", "tile_x"))
    steps = (f["fy"] * f["fx"] * f["sets"])[geometry]
    tiles = f["groups"] * -(-f["region_y"] // tile_y) * -(-f["region_x"] // tile_x)
    window = np.maximum((f["pool_y"] * f["pool_x"])[placed], 1)
    updates = timing.issue * (array.rows * array.cols)
    mode = np.where(execs & (placed >= 0), f["mode"][placed], PostMode.REQUANTIZE)
    levels = f["levels"][placed]
    reads = timing.post_reads // read_slots(mode, levels)
    taken = reads * machine.post.lanes
    searched = np.where(mode == PostMode.THRESHOLDS, levels, 0)
    # What is summed before it is written: two pixels of an add, the lane sets of planes.
    terms = np.where(mode == PostMode.ADD, 2, np.where(mode == PostMode.PLANES, f["planes"][placed], 1))
    terms = np.maximum(terms, 1)
    sums = np.isin(mode, (PostMode.ADD, PostMode.PLANES))
    rescales = np.where(searched > 0, 0, taken + np.where(sums, taken // terms, 0))
    chip_read[:, act] = timing.issue * (array.cols * 2 * machine.act_word_bytes)
    lanes = np.array([array.lanes(k) if k in array.kinds else 0 for k in PeKind], np.int64)
    words = np.array([array.sets_per_word(k) if k in array.kinds else 1 for k in PeKind], np.int64)
    pe = f["pe"][geometry]
    lines = -(-steps // words[pe])
    line_reads = tiles * lines
    for index, groups in group_lists(program).items():
        held = sum(-(-len(steps) // int(words[pe[index]])) for steps in groups)
        line_reads[index] = tiles[index] // len(groups) * held
        chip_read[index, weight] = tiles[index] // len(groups) * STEP_BITS // 8 * sum(map(len, groups))
    chip_read[:, weight] += np.where(execs, line_reads * (machine.weight_line_bits // 8), 0)
    chip_read[:, param] = reads * np.maximum(searched, 1) * (machine.param_line_bits // 8)
    chip_read[:, accumulators] = (updates + taken) * accumulator
    chip_write[:, accumulators] = updates * accumulator
    chip_write[:, output] = taken // np.maximum(window, terms)
    return Events(
        products=updates * lanes[pe],
        pe=pe,
        updates=updates,
        rescales=rescales,
        comparisons=taken * 3 * searched,
        dram_read=dram_read,
        dram_write=dram_write,
        chip_read=chip_read,
        chip_write=chip_write,
    )
