"""From a program to the kernel's tables and back: times of every command, nothing priced yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..mapper.isa import TOKEN_COUNT_MAX, Opcode, PostMode, Unit, unit_of
from ..mapper.machine import Machine, MemoryTiming
from ..mapper.program import Program, ProgramError
from ..mapper.steps import group_lists
from .cycle_kernel import (
    COLUMNS,
    DEADLOCK,
    NO_BANK,
    STALLS,
    TIMES,
    TOKEN_OVERFLOW,
    run_cycles,
)
from .decode import Fields, decode_fields
from .port_memory import commands_given, port_channel

__all__ = [
    "Timing",
    "command_table",
    "core_table",
    "in_force",
    "memory_table",
    "read_slots",
    "time_program",
    "units_of",
]

_NEVER_STARTED = -1
_NO_UNIT = -1
_UNIT_OF = np.full(16, _NO_UNIT, np.int64)
for _opcode in Opcode:
    _unit = unit_of(_opcode)
    if _unit is not None:
        _UNIT_OF[_opcode] = _unit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timing:
    """When every command of a program started and ended, in cycles; arrays are (commands,) int64."""

    cycles: int
    """The cycle of the last B handshake."""
    read_beats: int
    array_idle_from: int
    """First cycle after the array's last work."""
    fields: Fields
    """The commands' fields."""
    dispatch: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    drain: NDArray[np.int64]
    """EXEC: POST's last write; STORE: last B; else as `end`."""
    issue: NDArray[np.int64]
    """Cycles in which the array issues."""
    post_reads: NDArray[np.int64]
    """Cycles that POST's reads of accumulators take."""
    beats: NDArray[np.int64]
    """R beats of a LOAD, W beats of a STORE."""
    gathers: NDArray[np.int64]
    """Reads of the output buffer by a STORE."""
    stalls: NDArray[np.int64]
    """(n, STALLS), see cycle_kernel."""
    dram: Mapping[str, int] | None
    """Commands that a DRAM part was given, by dram_kernel.COUNTS; None without a part."""


def core_table(machine: Machine) -> NDArray[np.int64]:
    """The kernel's CORE entries, int64."""
    return np.array(
        [
            machine.bus_bytes,
            machine.bus.max_burst,
            machine.bus.read_outstanding,
            machine.bus.write_outstanding,
            machine.queues.commands,
            machine.queues.fetch_commands,
            machine.queues.fetch_burst,
            machine.queues.row_descriptors,
            machine.row_groups,
            machine.timing.array_latency,
            machine.timing.post_latency,
            machine.timing.add_latency,
            machine.timing.store_latency,
            machine.timing.token_latency,
        ],
        np.int64,
    )


def memory_table(memory: MemoryTiming) -> NDArray[np.int64]:
    """The kernel's MEMORY entries, int64."""
    return np.array(
        [
            memory.read_latency,
            memory.write_latency,
            memory.beat_interval,
            memory.stall_rate,
            memory.stall_mask,
            memory.seed,
        ],
        np.int64,
    )


_POSITIVE = {
    Opcode.LOAD: ("run", "rows", "planes"),
    Opcode.FILL: ("run", "rows", "planes"),
    Opcode.STORE: ("run", "rows", "planes"),
    Opcode.EXEC: ("groups", "region_y", "region_x", "tile_y", "tile_x", "steps", "cols"),
}


def units_of(opcodes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The unit of each opcode, -1 for END."""
    return _UNIT_OF[opcodes]


def in_force(fields: Fields, opcode: Opcode) -> NDArray[np.int64]:
    """For each command the number of the last GEOMETRY or OUTPUT up to it, -1 for none."""
    numbers = np.arange(len(fields["opcode"]))
    return np.maximum.accumulate(np.where(fields["opcode"] == opcode, numbers, -1))


def read_slots(mode: NDArray[np.int64], levels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cycles of one POST read: 2 for each level of a threshold search with more than one, else 1."""
    searches = (mode == PostMode.THRESHOLDS) & (levels > 1)
    return np.where(searches, 2 * levels, 1)


def command_table(fields: Fields) -> NDArray[np.int64]:
    """The kernel's table of commands, (n, len(COLUMNS)) int64.

    Raises:
        ProgramError: END is missing or not last, or a command does nothing (a count of 0), which
            the core does not define; the message has the command's number.
    """
    opcode = fields["opcode"]
    count = len(opcode)
    table = np.zeros((count, len(COLUMNS)), np.int64)
    for column, name in enumerate(COLUMNS):
        if name in fields:
            table[:, column] = fields[name]
    reads = opcode == Opcode.LOAD
    table[:, COLUMNS.index("row")] = np.where(reads, fields["src_row"], fields["dst_row"])
    table[:, COLUMNS.index("plane")] = np.where(reads, fields["src_plane"], fields["dst_plane"])
    execs = opcode == Opcode.EXEC
    geometry = in_force(fields, Opcode.GEOMETRY)
    steps = fields["fy"] * fields["fx"] * fields["sets"]
    latched = {"tile_y": fields["tile_y"], "tile_x": fields["tile_x"], "steps": steps}
    for name, values in latched.items():
        table[:, COLUMNS.index(name)] = np.where(execs, values[geometry], 0)
    output = in_force(fields, Opcode.OUTPUT)
    placed = execs & (output >= 0)
    mode = np.where(placed, fields["mode"][output], PostMode.REQUANTIZE)
    table[:, COLUMNS.index("slots")] = np.where(execs, read_slots(mode, fields["levels"][output]), 0)
    table[:, COLUMNS.index("adds")] = (mode == PostMode.ADD) | (mode == PostMode.PLANES)
    table[:, COLUMNS.index("kept")] = -1
    misplaced = np.flatnonzero((opcode == Opcode.END) != (np.arange(count) == count - 1))
    if misplaced.size:
        raise ProgramError(f"command {misplaced[0]}: END must be the last command and only that")
    orphans = np.flatnonzero(execs & (geometry < 0))
    if orphans.size:
        raise ProgramError(f"command {orphans[0]}: EXEC before a GEOMETRY")
    for kind, names in _POSITIVE.items():
        for name in names:
            empty = np.flatnonzero((opcode == kind) & (table[:, COLUMNS.index(name)] < 1))
            if empty.size:
                raise ProgramError(f"command {empty[0]}: {kind.name}.{name} must not be 0")
    return table


def _check_served(machine: Machine, fields: Fields) -> None:
    """Nothing; refuses commands for which the machine has no hardware.

    Raises:
        ProgramError: with the command's number.
    """
    execs = fields["opcode"] == Opcode.EXEC
    geometry, output = in_force(fields, Opcode.GEOMETRY), in_force(fields, Opcode.OUTPUT)
    drains = execs & (fields["last"] > 0) & (output >= 0)
    kinds = [int(kind) for kind in machine.array.kinds]
    mode, levels = fields["mode"][output], fields["levels"][output]
    sums = (PostMode.ADD, PostMode.PLANES)
    modes = [int(mode) for mode in PostMode if mode not in sums or machine.adds]
    divisors = [n for n in range(1, machine.row_groups + 1) if machine.row_groups % n == 0]
    planes = drains & (mode == PostMode.PLANES)
    searches = drains & (mode == PostMode.THRESHOLDS)
    packs = range(4 if machine.packs else 1)
    for chosen, name, values, allowed in (
        (execs & (geometry >= 0), "GEOMETRY.pe", fields["pe"][geometry], kinds),
        (drains, "OUTPUT.mode", mode, modes),
        (searches, "OUTPUT.levels", levels, range(1, 5)),
        (planes, "OUTPUT.planes", fields["planes"][output], divisors),
        (fields["opcode"] == Opcode.STORE, "STORE.pack", fields["pack"], packs),
    ):
        wrong = np.flatnonzero(chosen & ~np.isin(values, list(allowed)))
        if wrong.size:
            raise ProgramError(
                f"command {wrong[0]}: {name} must be among {', '.join(map(str, allowed))} on machine "
                f"{machine.name}, not {values[wrong[0]]}"
            )


def _fault(program: Program, status: int, start: NDArray[np.int64]) -> ProgramError:
    """The error for a program that never ends, naming the first command that did not start."""
    if status == TOKEN_OVERFLOW:
        return ProgramError(
            f"a token counter is posted beyond what it holds ({TOKEN_COUNT_MAX}): "
            "posts and waits do not match"
        )
    if status == NO_BANK:
        return ProgramError(
            "an EXEC with `first` finds both accumulator banks in use for good: an EXEC with "
            "`first` but without `last` was never followed by one with `last`"
        )
    for index in np.flatnonzero(start == _NEVER_STARTED):
        command = program.commands[int(index)]
        if command.opcode != Opcode.END:
            layer = program.layers[program.layer_of[int(index)]] if program.layers else "?"
            return ProgramError(
                f"command {index} ({command.opcode.name}, layer {layer}) never starts: its tokens "
                "never come or its queue never empties (deadlock)"
            )
    return ProgramError("the program never ends (deadlock)")


def time_program(program: Program, memory: MemoryTiming, *, compiled: bool = True) -> Timing:
    """The times of every command of `program` on its machine with this memory.

    Args:
        compiled: False runs the kernel as plain Python, for tests.

    Raises:
        ProgramError: the program never ends, or a command is one that the core does not define.
        ValueError: the memory's DRAM part is unknown, or its clock does not fit.
    """
    fields = decode_fields(program)
    _check_served(program.machine, fields)
    table = command_table(fields)
    lists = group_lists(program)
    kept = np.array([len(steps) for groups in lists.values() for steps in groups], np.int64)
    starts = np.cumsum([0, *(len(groups) for groups in lists.values())])
    table[list(lists), COLUMNS.index("kept")] = starts[:-1]
    count = len(table)
    units = units_of(fields["opcode"])
    orders = np.zeros((len(Unit), count), np.int64)
    lengths = np.zeros(len(Unit), np.int64)
    for unit in Unit:
        mine = np.flatnonzero(units == unit)
        lengths[unit] = mine.size
        orders[unit, : mine.size] = mine
    times = np.full((count, len(TIMES)), _NEVER_STARTED, np.int64)
    times[:, TIMES.index("issue") :] = 0
    stalls = np.zeros((count, STALLS), np.int64)
    totals = np.zeros(3, np.int64)
    kernel = run_cycles if compiled else run_cycles.py_func
    core = core_table(program.machine)
    channel = port_channel(program.machine, memory)
    arguments = (
        table,
        units,
        kept,
        orders,
        lengths,
        core,
        memory_table(memory),
        channel,
        times,
        stalls,
        totals,
    )
    status = int(kernel(*arguments))
    if status:
        assert status in (DEADLOCK, TOKEN_OVERFLOW, NO_BANK)
        raise _fault(program, status, times[:, TIMES.index("start")])
    if totals[1] < 0:
        raise ProgramError("a program without a STORE has no cycle count: it ends with its last B")
    return Timing(
        cycles=int(totals[1]),
        read_beats=int(totals[0]),
        array_idle_from=int(totals[2]),
        fields=fields,
        stalls=stalls,
        dram=commands_given(channel, int(totals[1])) if memory.dram else None,
        **{name: np.ascontiguousarray(times[:, i]) for i, name in enumerate(TIMES)},
    )
