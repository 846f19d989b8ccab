"""The functional run of a program: what comes out, byte for byte, without time.

Commands act on byte buffers of the sizes the machine has, in an order that the tokens allow.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..mapper.isa import TOKENS, Command, LoadTarget, Opcode, PostMode, Unit, unit_of
from ..mapper.machine import Machine
from ..mapper.pe import PeKind
from ..mapper.program import Program, ProgramError
from ..mapper.tensors import pack_input, unpack_output
from .functional_kernel import accumulate_tile, copy_rows, fill_rows, load_lines, pack_rows
from .post_kernel import drain_tile

__all__ = ["FunctionalCore", "run_functional", "run_memory"]

_LIMIT_TOKENS = 63


class FunctionalCore:
    """The buffers of one core and what each command does to them.

    Args:
        machine: gives the sizes.
        memory: uint8 bytes from the base address on; changed in place by STORE.
    """

    def __init__(self, machine: Machine, memory: NDArray[np.uint8]) -> None:
        self.machine = machine
        self.memory = memory
        array, buffers = machine.array, machine.buffers
        self.banks = np.zeros((array.cols, buffers.activation_bytes), np.uint8)
        self.weights = np.zeros((machine.weight_lines, machine.weight_line_bits // 8), np.uint8)
        self.params = np.zeros((machine.param_lines, machine.param_line_bits // 8), np.uint8)
        self.steps = np.zeros((machine.step_lines, machine.bus_bytes), np.uint8)
        self.output = np.zeros(buffers.output_bytes, np.uint8)
        self.accumulators = np.zeros((array.cols, array.rows, array.acc_depth), np.int64)
        self._geometry: Command | None = None
        self._output: Command | None = None

    def run(self, command: Command) -> None:
        """Nothing; does what `command` says.

        Raises:
            ProgramError: an address outside memory, or an EXEC that the core cannot run.
        """
        if command.opcode == Opcode.LOAD:
            self._load(command)
        elif command.opcode == Opcode.FILL:
            self._fill(command)
        elif command.opcode == Opcode.GEOMETRY:
            self._geometry = command
        elif command.opcode == Opcode.OUTPUT:
            self._output = command
        elif command.opcode == Opcode.EXEC:
            self._exec(command)
        elif command.opcode == Opcode.STORE:
            self._store(command)

    def _check_span(self, command: Command, row: int, plane: int, run: int) -> None:
        rows, planes = command["rows"], command["planes"]
        end = command["address"] + (planes - 1) * plane + (rows - 1) * row + run
        if min(run, rows, planes) > 0 and end > self.memory.size:
            raise ProgramError(
                f"{command.opcode.name} reaches byte {end} of memory, the program's image has "
                f"{self.memory.size}"
            )

    def _load(self, command: Command) -> None:
        self._check_span(command, command["src_row"], command["src_plane"], command["run"])
        if command["target"] == LoadTarget.ACTIVATION:
            for col in range(self.machine.array.cols):
                if command["cols"] >> col & 1:
                    copy_rows(
                        self.memory, command["address"], command["src_row"], command["src_plane"],
                        self.banks[col], command["dst"], command["dst_row"], command["dst_plane"],
                        command["run"], command["rows"], command["planes"],
                    )  # fmt: skip
            return
        lines = {
            LoadTarget.WEIGHT: self.weights,
            LoadTarget.PARAM: self.params,
            LoadTarget.STEPS: self.steps,
        }[LoadTarget(command["target"])]
        if not lines.size:
            raise ProgramError(f"LOAD.target 3 needs buffers.step_entries on machine {self.machine.name}")
        unit = self.machine.bus_bytes
        if command["address"] % unit or command["run"] % unit:
            raise ProgramError(
                f"a LOAD of weights or parameters needs address and run in multiples of {unit}, "
                f"not {command['address']} and {command['run']}"
            )
        if not 1 <= command["wrap"] <= lines.shape[1] // unit:
            raise ProgramError(f"LOAD.wrap must be from 1 to {lines.shape[1] // unit}, not {command['wrap']}")
        load_lines(
            self.memory, command["address"], lines, command["dst"], command["run"], unit,
            command["wrap"],
        )  # fmt: skip

    def _fill(self, command: Command) -> None:
        for col in range(self.machine.array.cols):
            if command["cols"] >> col & 1:
                fill_rows(
                    self.banks[col], command["dst"], command["dst_row"], command["dst_plane"],
                    command["run"], command["rows"], command["planes"], command["value"] & 0xFF,
                )  # fmt: skip

    def _store(self, command: Command) -> None:
        bits = 8 >> command["pack"]
        if bits < 8 and not self.machine.packs:
            raise ProgramError(
                f"STORE.pack must be 0 on machine {self.machine.name}, none of whose PE kinds takes "
                f"activations below 8 bits, not {command['pack']}"
            )
        run = -(-command["run"] * bits // 8)
        self._check_span(command, command["dst_row"], command["dst_plane"], run)
        copy = (
            self.output, command["src"], command["src_row"], command["src_plane"],
            self.memory, command["address"], command["dst_row"], command["dst_plane"],
            command["run"], command["rows"], command["planes"],
        )  # fmt: skip
        if bits == 8:
            copy_rows(*copy)
        else:
            pack_rows(*copy, bits)

    def _exec(self, command: Command) -> None:
        geometry, output = self._geometry, self._output
        if geometry is None or (output is None and command["last"]):
            raise ProgramError("EXEC before GEOMETRY and OUTPUT")
        tile_y, tile_x = geometry["tile_y"], geometry["tile_x"]
        if not 0 < tile_y * tile_x <= self.machine.array.acc_depth:
            raise ProgramError(
                f"a tile must have from 1 to {self.machine.array.acc_depth} pixels, not {tile_y} × {tile_x}"
            )
        one_tile = command["region_y"] <= tile_y and command["region_x"] <= tile_x
        if not (command["first"] and command["last"]) and not (command["groups"] == 1 and one_tile):
            raise ProgramError("EXEC with first 0 or last 0 needs one group and one tile")
        kind = self._kind(geometry)
        entry, line = command["list"], command["weight"]
        for group in range(command["groups"]):
            if geometry["listed"]:
                offsets, cut = self._listed(entry)
            else:
                offsets, cut = self._looped(geometry, kind)
                line = command["weight"] + group * geometry["weight_group"]
            for ty in range(0, command["region_y"], tile_y):
                for tx in range(0, command["region_x"], tile_x):
                    height = min(tile_y, command["region_y"] - ty)
                    width = min(tile_x, command["region_x"] - tx)
                    act = command["act"] + group * geometry["act_group"]
                    act += ty // tile_y * geometry["act_tile_y"] + tx // tile_x * geometry["act_tile_x"]
                    self._tile(command, geometry, kind, act, line, (offsets, cut), height, width)
                    if command["last"]:
                        assert output is not None
                        self._drain(command, output, group, ty // tile_y, tx // tile_x, height, width)
            entry += len(offsets)
            line += -(-len(offsets) // self.machine.array.sets_per_word(kind))

    def _kind(self, geometry: Command) -> PeKind:
        """The PE kind that GEOMETRY names."""
        array = self.machine.array
        kind = next((kind for kind in array.kinds if kind == geometry["pe"]), None)
        if kind is None:
            served = ", ".join(f"{int(kind)} ({kind.key})" for kind in array.kinds)
            raise ProgramError(
                f"GEOMETRY.pe must be one of the machine's PE kinds {served}, not {geometry['pe']}"
            )
        return kind

    def _looped(self, geometry: Command, kind: PeKind) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(bytes from the tile's first to each step's operands, whether `tail` cuts it) of the loops."""
        fy, fx, sets = (np.arange(geometry[name]) for name in ("fy", "fx", "sets"))
        runs = fy[:, None, None] * geometry["tap_y"] + fx[:, None] * geometry["tap_x"]
        offsets = runs + sets * self.machine.array.lane_bytes(kind)
        return offsets.ravel(), np.broadcast_to(sets == sets.size - 1, offsets.shape).ravel()

    def _listed(self, first: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The same of the list that begins at entry `first`."""
        entries = self.steps.reshape(-1).view("<u4").astype(np.int64)
        if not entries.size:
            raise ProgramError(
                f"GEOMETRY.listed needs buffers.step_entries, which machine {self.machine.name} has none of"
            )
        turned = np.roll(entries, -first)
        ends = np.flatnonzero(turned >> 21 & 1)
        if not ends.size:
            raise ProgramError(f"no entry ends the step list at {first}")
        taken = turned[: int(ends[0]) + 1]
        return taken & 0xFFFFF, (taken >> 20 & 1).astype(np.bool_)

    def _tile(
        self,
        command: Command,
        geometry: Command,
        kind: PeKind,
        act: int,
        line: int,
        steps: tuple[NDArray[np.int64], NDArray[np.bool_]],
        height: int,
        width: int,
    ) -> None:
        if command["first"]:
            self.accumulators[:] = 0
        array = self.machine.array
        accumulate_tile(
            self.banks, self.weights, self.accumulators, kind.lane_wise, array.lanes(kind),
            kind.weight_bits, kind.act_bits, geometry["tail"], act, geometry["act_col"], line,
            height, width, geometry["pixel_y"], geometry["pixel_x"], *steps, array.acc_bits,
        )  # fmt: skip

    def _drain(
        self, command: Command, output: Command, group: int, iy: int, ix: int, height: int, width: int
    ) -> None:
        self._check_output(output)
        if height % output["pool_y"] or width % output["pool_x"]:
            raise ProgramError(
                f"a tile of {height} × {width} pixels is no multiple of the pool window "
                f"{output['pool_y']} × {output['pool_x']}"
            )
        rows = self.machine.array.rows
        if output["mode"] == PostMode.PLANES:
            rows //= output["planes"]
        valid = command["rows_last"] if group == command["groups"] - 1 else rows
        out = command["out"] + group * output["group"]
        drain_tile(
            self.accumulators, self.params, self.output, command["cols"], self.machine.post.lanes,
            command["param"] + group * output["param_group"], output["param_set"], valid,
            out + iy * output["tile_y"] + ix * output["tile_x"], output["col"], height, width,
            output["pool_y"], output["pool_x"], output["pixel_y"], output["pixel_x"], output["mode"],
            output["rounding"], output["zero_point"], output["clamp_low"], output["clamp_high"],
            output["levels"], output["step"], output["sum_multiplier"], output["sum_shift"],
            output["planes"],
        )  # fmt: skip

    def _check_output(self, output: Command) -> None:
        """Nothing; refuses what POST does not do on this machine."""
        mode, window = output["mode"], (output["pool_y"], output["pool_x"])
        if mode not in tuple(PostMode):
            raise ProgramError(f"OUTPUT.mode must be from 0 to {max(PostMode)}, not {mode}")
        if mode == PostMode.THRESHOLDS and not 1 <= output["levels"] <= 4:
            raise ProgramError(f"OUTPUT.levels must be from 1 to 4 in mode 1, not {output['levels']}")
        if mode in (PostMode.ADD, PostMode.PLANES) and not self.machine.adds:
            raise ProgramError(
                f"OUTPUT.mode {mode} (a sum) needs PE kind {PeKind.VECTOR.key} in array.pes of machine "
                f"{self.machine.name}"
            )
        if mode == PostMode.ADD and window != (2, 1):
            raise ProgramError(
                f"OUTPUT.pool_y and pool_x must be 2 and 1 in mode 2, not {window[0]} and {window[1]}"
            )
        if mode == PostMode.PLANES:
            if window != (1, 1):
                raise ProgramError(
                    f"OUTPUT.pool_y and pool_x must be 1 in mode 3, not {window[0]} and {window[1]}"
                )
            if not output["planes"] or self.machine.row_groups % output["planes"]:
                raise ProgramError(
                    f"OUTPUT.planes must divide the {self.machine.row_groups} lane sets of a pixel, not be "
                    f"{output['planes']}"
                )


def run_memory(program: Program, memory: NDArray[np.uint8], seed: int | None = None) -> NDArray[np.uint8]:
    """The memory after the run, uint8 like `memory`, which itself stays as it is.

    Args:
        program: its commands are taken from `program.commands`.
        memory: the image with the input in place.
        seed: units whose next command may start are served LOAD, EXEC, STORE in turn; with a seed in
            random order, which brings out programs whose tokens do not order what they must.

    Raises:
        ProgramError: the tokens leave every unit waiting, or a command cannot be run; the message
            has the command's number.
    """
    memory = memory.copy()
    core = FunctionalCore(program.machine, memory)
    queues: dict[Unit, deque[int]] = {unit: deque() for unit in Unit}
    for index, command in enumerate(program.commands):
        unit = unit_of(command.opcode)
        if unit is None:
            break
        queues[unit].append(index)
    tokens = [0] * TOKENS
    shuffle = None if seed is None else random.Random(seed)
    while any(queues.values()):
        units: list[Unit] = list(Unit)
        if shuffle is not None:
            shuffle.shuffle(units)
        moved = False
        for unit in units:
            while queues[unit]:
                index = queues[unit][0]
                command = program.commands[index]
                if any(command["wait"] >> t & 1 and not tokens[t] for t in range(TOKENS)):
                    break
                queues[unit].popleft()
                try:
                    core.run(command)
                except ProgramError as fault:
                    raise _at(program, index, str(fault)) from None
                for t in range(TOKENS):
                    tokens[t] -= command["wait"] >> t & 1
                    tokens[t] += command["post"] >> t & 1
                    if command.opcode == Opcode.EXEC:
                        tokens[t] += command["post_drain"] >> t & 1
                    if tokens[t] > _LIMIT_TOKENS:
                        raise _at(program, index, f"token {t} passes {_LIMIT_TOKENS}")
                moved = True
                if shuffle is not None and shuffle.random() < 0.5:
                    break
        if not moved:
            index = min(queue[0] for queue in queues.values() if queue)
            raise _at(program, index, "waits for tokens that nothing posts any more (deadlock)")
    return memory


def run_functional(program: Program, x: NDArray[Any], *, seed: int | None = None) -> NDArray[np.int8]:
    """The network's output for one input, int8 of `program.output_shape`.

    Args:
        program: from `mapper.lower.map_network`.
        x: int8 values of `program.input_shape`, (C, H, W) or (N,).
        seed: as in `run_memory`.

    Raises:
        ProgramError: as `run_memory`.
        ValueError: `x` has another shape.
    """
    memory = program.image.copy()
    packed = np.frombuffer(pack_input(program, x), np.uint8)
    memory[program.input.address : program.input.address + packed.size] = packed
    after = run_memory(program, memory, seed)
    start = program.output.address
    return unpack_output(program, after[start : start + program.output.size].tobytes())


def _at(program: Program, index: int, text: str) -> ProgramError:
    """The error with the command's number and its layer before the text."""
    command = program.commands[index]
    layer = program.layers[program.layer_of[index]] if program.layers else "?"
    return ProgramError(f"command {index} ({command.opcode.name}, layer {layer}): {text}")
