"""From a program to the kernel's tables and back: times of every command, nothing priced yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..mapper.isa import TOKEN_COUNT_MAX, Command, Opcode, unit_of
from ..mapper.machine import Machine, MemoryTiming
from ..mapper.program import Program, ProgramError
from .cycle_kernel import (
    COLUMNS,
    DEADLOCK,
    NO_BANK,
    STALLS,
    TIMES,
    TOKEN_OVERFLOW,
    run_cycles,
)

__all__ = ["Timing", "command_table", "core_table", "memory_table", "time_program"]

_NEVER_STARTED = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timing:
    """When every command of a program started and ended, in cycles; arrays are (commands,) int64."""

    cycles: int
    """The cycle of the last B handshake."""
    read_beats: int
    array_idle_from: int
    """First cycle after the array's last work."""
    commands: NDArray[np.int64]
    """The kernel's table, (n, len(COLUMNS))."""
    dispatch: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    drain: NDArray[np.int64]
    """EXEC: POST's last write; STORE: last B; else as `end`."""
    issue: NDArray[np.int64]
    """Cycles in which the array issues."""
    post_reads: NDArray[np.int64]
    """Cycles in which POST reads accumulators."""
    stalls: NDArray[np.int64]
    """(n, STALLS), see cycle_kernel."""


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
            machine.timing.buffer_read_latency,
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


def _row(command: Command, geometry: Command | None) -> list[int]:
    """One command's entries in the kernel's table."""
    values = dict.fromkeys(COLUMNS, 0)
    values["opcode"] = int(command.opcode)
    for name in ("wait", "post", "post_drain", "address", "run", "rows", "planes"):
        values[name] = command[name]
    for name in ("groups", "region_y", "region_x", "cols", "first", "last"):
        values[name] = command[name]
    if command.opcode == Opcode.STORE:
        values["row"], values["plane"] = command["dst_row"], command["dst_plane"]
    elif command.opcode == Opcode.LOAD:
        values["row"], values["plane"] = command["src_row"], command["src_plane"]
    elif command.opcode == Opcode.EXEC and geometry is not None:
        values["tile_y"], values["tile_x"] = geometry["tile_y"], geometry["tile_x"]
        values["steps"] = geometry["fy"] * geometry["fx"] * geometry["sets"]
    return list(values.values())


_POSITIVE = {
    Opcode.LOAD: ("run", "rows", "planes"),
    Opcode.FILL: ("run", "rows", "planes"),
    Opcode.STORE: ("run", "rows", "planes"),
    Opcode.EXEC: ("groups", "region_y", "region_x", "tile_y", "tile_x", "steps", "cols"),
}


def command_table(program: Program) -> NDArray[np.int64]:
    """The kernel's table of commands, (n, len(COLUMNS)) int64.

    Raises:
        ProgramError: END is missing or not last, or a command does nothing (a count of 0), which
            the core does not define; the message has the command's number.
    """
    rows = []
    geometry: Command | None = None
    final = len(program.commands) - 1
    for index, command in enumerate(program.commands):
        if (command.opcode == Opcode.END) != (index == final):
            raise ProgramError(f"command {index}: END must be the last command and only that")
        if command.opcode == Opcode.GEOMETRY:
            geometry = command
        if command.opcode == Opcode.EXEC and geometry is None:
            raise ProgramError(f"command {index}: EXEC before a GEOMETRY")
        rows.append(_row(command, geometry))
        for name in _POSITIVE.get(command.opcode, ()):
            if rows[-1][COLUMNS.index(name)] < 1:
                raise ProgramError(f"command {index}: {command.opcode.name}.{name} must not be 0")
    if not rows:
        raise ProgramError("a program has at least the command END")
    return np.array(rows, np.int64)


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
    """
    table = command_table(program)
    count = len(table)
    units = np.full(count, -1, np.int64)
    orders = np.zeros((3, count), np.int64)
    lengths = np.zeros(3, np.int64)
    for index, command in enumerate(program.commands):
        unit = unit_of(command.opcode)
        if unit is not None:
            units[index] = int(unit)
            orders[int(unit), lengths[int(unit)]] = index
            lengths[int(unit)] += 1
    times = np.full((count, len(TIMES)), _NEVER_STARTED, np.int64)
    times[:, TIMES.index("issue") :] = 0
    stalls = np.zeros((count, STALLS), np.int64)
    totals = np.zeros(3, np.int64)
    kernel = run_cycles if compiled else run_cycles.py_func
    core = core_table(program.machine)
    status = int(
        kernel(
            table, units, orders, lengths, core, memory_table(memory), times, stalls, totals
        )
    )
    if status:
        assert status in (DEADLOCK, TOKEN_OVERFLOW, NO_BANK)
        raise _fault(program, status, times[:, TIMES.index("start")])
    if totals[1] < 0:
        raise ProgramError("a program without a STORE has no cycle count: it ends with its last B")
    return Timing(
        cycles=int(totals[1]),
        read_beats=int(totals[0]),
        array_idle_from=int(totals[2]),
        commands=table,
        stalls=stalls,
        **{name: np.ascontiguousarray(times[:, i]) for i, name in enumerate(TIMES)},
    )
