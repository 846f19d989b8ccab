"""Races of a program: bytes that one unit writes while another may still read them, and the reverse.

What orders two commands are the tokens alone, as `tokens.trace_tokens` found. Lanes past a run's end
and rows that no STORE takes read what happens to lie there; that is no race, their results are void.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .isa import Command, LoadTarget, Opcode, PostMode
from .machine import STEP_BITS
from .pe import PeKind
from .program import Program, ProgramError
from .steps import group_lists
from .tokens import ARRAY, LOAD, POST, STORE, Trace, describe

__all__ = ["check_hazards", "copy_bytes", "stored_bytes"]

_Index = NDArray[np.int64]

_LINES = {
    LoadTarget.WEIGHT: "weights",
    LoadTarget.PARAM: "parameters",
    LoadTarget.STEPS: "step lists",
}
"""What lies in lines, as messages name it."""


def stored_bytes(command: Command) -> int:
    """Bytes in memory of a STORE's run of values."""
    return -(-command["run"] * (8 >> command["pack"]) // 8)


def copy_bytes(command: Command, base: str, row: str, plane: str, run_bytes: int = 0) -> _Index:
    """Addresses of all bytes of a 3-D copy's one side, int64, in the order of the copy.

    Args:
        command: the copy.
        base: names the first address; `row` and `plane` name the strides.
        run_bytes: of a run, if it isn't `run`.
    """
    planes = np.arange(command["planes"], dtype=np.int64) * command[plane]
    rows = np.arange(command["rows"], dtype=np.int64) * command[row]
    run = np.arange(run_bytes or command["run"], dtype=np.int64)
    return np.asarray(
        command[base] + planes[:, None, None] + rows[None, :, None] + run[None, None, :]
    ).ravel()


class _Hazards:
    """Who last wrote and who last read each byte or line, as command numbers, −1 for nobody."""

    def __init__(self, program: Program, trace: Trace) -> None:
        machine = program.machine
        self.program, self.trace = program, trace

        def table(*shape: int) -> NDArray[np.int32]:
            return np.full(shape, -1, np.int32)

        self.bank_writer = table(machine.array.cols, machine.buffers.activation_bytes)
        self.bank_reader = self.bank_writer.copy()
        self.line_writer = {
            LoadTarget.WEIGHT: table(machine.weight_lines),
            LoadTarget.PARAM: table(machine.param_lines),
            LoadTarget.STEPS: table(machine.step_lines),
        }
        self.line_reader = {target: lines.copy() for target, lines in self.line_writer.items()}
        self.out_writer = table(machine.buffers.output_bytes)
        self.out_pixel = self.out_writer.copy()
        self.out_reader = self.out_writer.copy()
        self.memory_writer = table(program.image.size)
        self.memory_reader = self.memory_writer.copy()
        self.needed: dict[int, NDArray[np.bool_]] = {}
        """For each EXEC that drains, which of its (column, row, pixel) a STORE takes."""
        self.latched: dict[Opcode, Command] = {}
        self.lists = group_lists(program)

    def fail(self, index: int, other: int, text: str) -> ProgramError:
        """The error that names both commands."""
        return ProgramError(
            f"{describe(self.program, index)} {text} {describe(self.program, other)}, and no token "
            "orders them"
        )

    def ordered(
        self, index: int, others: NDArray[np.int32], agent: int, text: str, nobody: str | None = None
    ) -> None:
        """Nothing; ProgramError unless all `others` are over on `agent` when `index` starts."""
        if not others.size:
            return
        if nobody is not None and int(others.min()) < 0:
            raise ProgramError(f"{describe(self.program, index)} {nobody}")
        # Commands of one unit end in order, so the latest stands for all.
        latest = int(others.max())
        if latest >= 0 and self.trace.start[index][agent] <= self.trace.number[latest]:
            raise self.fail(index, latest, text)

    # -- outputs: which results are needed -----------------------------------------------------

    def drain(self, index: int, command: Command) -> None:
        """Nothing; the writes of an EXEC's results."""
        walk, output = self.latched[Opcode.GEOMETRY], self.latched[Opcode.OUTPUT]
        pool_y, pool_x = output["pool_y"], output["pool_x"]

        def places(region: int, tile: int, pool: int, step: int, pixel: int) -> _Index:
            position = np.arange(region // pool, dtype=np.int64)
            size = max(1, tile // pool)
            return np.asarray(position // size * step + position % size * pixel)

        rows = self.program.machine.array.rows
        if output["mode"] == PostMode.PLANES:
            rows //= output["planes"]
        channels = [
            g * output["group"] + np.arange(rows if g < command["groups"] - 1 else last)
            for last in (command["rows_last"],)
            for g in range(command["groups"])
        ]
        y = places(command["region_y"], walk["tile_y"], pool_y, output["tile_y"], output["pixel_y"])
        x = places(command["region_x"], walk["tile_x"], pool_x, output["tile_x"], output["pixel_x"])
        column = np.arange(command["cols"], dtype=np.int64) * output["col"]
        pixels = column[:, None, None] + y[None, :, None] + x[None, None, :]
        written = command["out"] + pixels.ravel()[:, None] + np.concatenate(channels)[None, :]
        if int(written.max()) >= self.out_writer.size:
            raise ProgramError(
                f"{describe(self.program, index)} writes output byte {int(written.max())}, the "
                f"buffer has {self.out_writer.size}"
            )
        self.ordered(index, self.out_reader[written], STORE, "overwrites results of")
        self.out_writer[written] = index
        self.out_pixel[written] = np.arange(pixels.size, dtype=np.int32)[:, None]
        self.needed[index] = np.zeros(pixels.shape, np.bool_)

    def store(self, index: int, command: Command) -> None:
        """Nothing; the reads and writes of a STORE."""
        read = copy_bytes(command, "src", "src_row", "src_plane")
        writers = self.out_writer[read]
        self.ordered(index, writers, POST, "reads results of", "reads results that no EXEC wrote")
        self.out_reader[read] = index
        pixels = self.out_pixel[read]
        for writer in np.unique(writers).tolist():
            self.needed[writer].reshape(-1)[pixels[writers == writer]] = True
        target = copy_bytes(command, "address", "dst_row", "dst_plane", stored_bytes(command))
        self.ordered(index, self.memory_reader[target], LOAD, "overwrites a tensor read by")
        self.memory_writer[target] = index

    def memory_load(self, index: int, command: Command, tensors: set[int]) -> None:
        """Nothing; an activation LOAD's reads of memory."""
        read = copy_bytes(command, "address", "src_row", "src_plane")
        nobody = "reads a tensor's bytes before any STORE writes them"
        from_store = command["address"] in tensors
        self.ordered(
            index,
            self.memory_writer[read],
            STORE,
            "reads a tensor written by",
            None if from_store else nobody,
        )
        self.memory_reader[read] = index

    # -- operands ------------------------------------------------------------------------------

    def bank_write(self, index: int, command: Command) -> None:
        """Nothing; the writes of a FILL or an activation LOAD."""
        written = copy_bytes(command, "dst", "dst_row", "dst_plane")
        for col in range(self.bank_writer.shape[0]):
            if command["cols"] >> col & 1:
                readers = self.bank_reader[col][written]
                self.ordered(index, readers, ARRAY, "overwrites activations read by")
                self.bank_writer[col][written] = index

    def line_write(self, index: int, command: Command) -> None:
        """Nothing; the writes of a weight or parameter LOAD."""
        target = LoadTarget(command["target"])
        line = command["wrap"] * self.program.machine.bus_bytes
        lines = slice(command["dst"], command["dst"] - -command["run"] // line)
        agent = POST if target is LoadTarget.PARAM else ARRAY
        what = _LINES[target]
        self.ordered(index, self.line_reader[target][lines], agent, f"overwrites {what} read by")
        self.line_writer[target][lines] = index

    def _line_read(self, index: int, target: LoadTarget, start: int, stop: int) -> None:
        what = _LINES[target]
        writers = self.line_writer[target]
        if stop > writers.size:
            raise ProgramError(
                f"{describe(self.program, index)} reads {what} line {stop - 1}, the buffer has "
                f"{writers.size} lines"
            )
        self.ordered(
            index,
            writers[start:stop],
            LOAD,
            f"reads {what} written by",
            f"reads {what} that no LOAD wrote",
        )
        self.line_reader[target][start:stop] = index

    def _param_read(self, index: int, command: Command) -> None:
        output = self.latched[Opcode.OUTPUT]
        lines = 1
        if output["mode"] == PostMode.THRESHOLDS:
            lines = (4 ** output["levels"] - 1) // 3
        elif output["mode"] == PostMode.ADD:
            lines = 2
        for group in range(command["groups"]):
            for lane_set in range(self.program.machine.row_groups):
                start = command["param"] + group * output["param_group"] + lane_set * output["param_set"]
                self._line_read(index, LoadTarget.PARAM, start, start + lines)

    def _lists_read(self, index: int, command: Command, counts: list[int], per_word: int) -> None:
        """Nothing; an EXEC's reads of step lists and of the weights that they name."""
        per_line = self.program.machine.bus.data_bits // STEP_BITS
        start = command["list"]
        self._line_read(index, LoadTarget.STEPS, start // per_line, (start + sum(counts) - 1) // per_line + 1)
        lines = sum(-(-count // per_word) for count in counts)
        self._line_read(index, LoadTarget.WEIGHT, command["weight"], command["weight"] + lines)

    def _list_reach(self, index: int, walk: Command, last: int, whole: int) -> int:
        """Bytes from a pixel's first operand to one past those of its list's farthest step.

        A list names steps of the loops in GEOMETRY, so it reaches no farther than they do.
        """
        if last >= whole:
            raise ProgramError(
                f"{describe(self.program, index)} has a step list that reaches byte {last}, past the "
                f"{whole} of GEOMETRY's loops"
            )
        kind = PeKind(walk["pe"])
        return min(whole, last + self.program.machine.array.lane_bytes(kind))

    def execute(self, index: int, command: Command, drains: int) -> None:
        """Nothing; the reads of an EXEC whose accumulators the EXEC `drains` drains."""
        walk = self.latched[Opcode.GEOMETRY]
        needed = self.needed[drains]
        if not needed.any():
            raise ProgramError(f"{describe(self.program, drains)} makes results that no STORE takes")
        array, kind = self.program.machine.array, PeKind(walk["pe"])
        per_word = array.sets_per_word(kind)
        lists = self.lists.get(index)
        if lists is None:
            lines = -(-walk["fy"] * walk["fx"] * walk["sets"] // per_word)
            for group in range(command["groups"]):
                start = command["weight"] + group * walk["weight_group"]
                self._line_read(index, LoadTarget.WEIGHT, start, start + lines)
        else:
            self._lists_read(index, command, [len(offsets) for offsets in lists], per_word)
        if command["last"]:
            self._param_read(index, command)

        def places(valid: NDArray[np.bool_], region: int, axis: str) -> _Index:
            pool = region // valid.size
            position = np.flatnonzero(np.repeat(valid, pool))
            tile = walk[f"tile_{axis}"]
            return np.asarray(
                position // tile * walk[f"act_tile_{axis}"] + position % tile * walk[f"pixel_{axis}"]
            )

        # The last byte that meets a weight: of a run's last lane set the valid lanes.
        reach = (walk["fy"] - 1) * walk["tap_y"] + (walk["fx"] - 1) * walk["tap_x"]
        reach += (walk["sets"] - 1) * array.lane_bytes(kind) + -(-walk["tail"] * kind.act_bits // 8)
        if lists is not None:
            reach = self._list_reach(index, walk, max(int(offsets.max()) for offsets in lists), reach)
        if kind.lane_wise:  # a row takes a channel of its own, a group those after the one before
            reach += (command["groups"] - 1) * walk["act_group"] + command["rows_last"] - 1
        for col in range(needed.shape[0]):
            if not needed[col].any():
                continue
            y = places(needed[col].any(axis=1), command["region_y"], "y")
            x = places(needed[col].any(axis=0), command["region_x"], "x")
            base = command["act"] + col * walk["act_col"]
            start = base + int(y.min()) + int(x.min())
            stop = base + int(y.max()) + int(x.max()) + reach
            if stop > self.bank_writer.shape[1]:
                raise ProgramError(
                    f"{describe(self.program, index)} reads activation byte {stop - 1} for a stored "
                    f"result, a bank has {self.bank_writer.shape[1]}"
                )
            self.ordered(
                index,
                self.bank_writer[col, start:stop],
                LOAD,
                "reads activations written by",
                "reads activations that no LOAD or FILL wrote",
            )
            self.bank_reader[col, start:stop] = index


def check_hazards(program: Program, trace: Trace) -> None:
    """Nothing, if tokens order every two commands that touch the same bytes.

    Raises:
        ProgramError: a race, or a read of bytes that nothing wrote; the message names the commands.
    """
    state = _Hazards(program, trace)
    commands = program.commands
    # Tensors that are there before the run.
    start, stop = program.input.address, program.input.address + program.input.size
    state.latched.clear()
    for index in trace.order:
        command = commands[index]
        if command.opcode in (Opcode.GEOMETRY, Opcode.OUTPUT):
            state.latched[command.opcode] = command
        elif command.opcode is Opcode.EXEC and command["last"]:
            state.drain(index, command)
        elif command.opcode is Opcode.STORE:
            state.store(index, command)
        elif command.opcode is Opcode.LOAD and command["target"] == LoadTarget.ACTIVATION:
            given = {command["address"]} if start <= command["address"] < stop else set()
            state.memory_load(index, command, given)
    end = program.output.address + program.output.size
    if int(state.memory_writer[program.output.address : end].min()) < 0:
        raise ProgramError(f"network {program.network}: no STORE writes some bytes of its output")

    drains: dict[int, int] = {}
    waiting: list[int] = []
    for index in trace.order:
        if commands[index].opcode is Opcode.EXEC:
            waiting.append(index)
            if commands[index]["last"]:
                drains.update(dict.fromkeys(waiting, index))
                waiting = []
    for index in trace.order:
        command = commands[index]
        if command.opcode in (Opcode.GEOMETRY, Opcode.OUTPUT):
            state.latched[command.opcode] = command
        elif command.opcode is Opcode.EXEC:
            state.execute(index, command, drains[index])
        elif command.opcode is Opcode.FILL or (
            command.opcode is Opcode.LOAD and command["target"] == LoadTarget.ACTIVATION
        ):
            state.bank_write(index, command)
        elif command.opcode is Opcode.LOAD:
            state.line_write(index, command)
