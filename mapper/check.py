"""The static check of a program: fields, bounds, tokens, races; what passes, a core can run."""

from __future__ import annotations

from .hazards import check_hazards, stored_bytes
from .isa import COMMAND_BYTES, Command, LoadTarget, Opcode, PostMode
from .pe import PeKind
from .program import Program, ProgramError, encode_commands
from .tokens import describe, trace_tokens

__all__ = ["check_program"]


def check_program(program: Program) -> None:
    """Nothing, if a core can run `program` and every order of its units gives the same bytes.

    Checked are the command words in the image, the range of every field and address, deadlock with
    the machine's queues, token counts, and that tokens order every read after its write.

    Raises:
        ProgramError: naming the commands and the layer at fault.
    """
    _check_stream(program)
    checks = {
        Opcode.LOAD: _check_load,
        Opcode.FILL: _check_fill,
        Opcode.GEOMETRY: _check_geometry,
        Opcode.OUTPUT: _check_output,
        Opcode.STORE: _check_store,
    }
    for index, command in enumerate(program.commands):
        if command.opcode in checks:
            checks[command.opcode](program, index, command)
    _check_executions(program)
    check_hazards(program, trace_tokens(program))


def _fault(program: Program, index: int, text: str) -> ProgramError:
    return ProgramError(f"{describe(program, index)}: {text}")


def _check_stream(program: Program) -> None:
    commands = program.commands
    if not commands or commands[-1].opcode is not Opcode.END:
        raise ProgramError("a program's last command must be END")
    if len(program.layer_of) != len(commands):
        raise ProgramError(
            f"layer_of must have one entry a command ({len(commands)}), not {len(program.layer_of)}"
        )
    if not all(0 <= layer < len(program.layers) for layer in program.layer_of):
        raise ProgramError(f"layer_of must name layers from 0 to {len(program.layers) - 1}")
    for index, command in enumerate(commands[:-1]):
        if command.opcode is Opcode.END:
            raise _fault(program, index, "END stands before the last command")
    for index, command in enumerate(commands):
        start = index * COMMAND_BYTES
        try:
            word = encode_commands([command])
        except ValueError as fault:
            raise _fault(program, index, str(fault)) from None
        if program.image[start : start + COMMAND_BYTES].tobytes() != word:
            raise _fault(program, index, "the image holds another word for it")
    for region in program.regions:
        if region.address + region.size > program.image.size:
            raise ProgramError(
                f"region {region.name} ends at byte {region.address + region.size}, the image has "
                f"{program.image.size}"
            )


def _check_counts(program: Program, index: int, command: Command, *names: str) -> None:
    for name in names:
        if not command[name]:
            raise _fault(program, index, f"{name} must be at least 1, not 0")


def _span(command: Command, row: str, plane: str) -> int:
    """Bytes from the first to one past the last of one side of a copy."""
    return (command["planes"] - 1) * command[plane] + (command["rows"] - 1) * command[row] + command["run"]


def _check_region(program: Program, index: int, address: int, span: int, kinds: tuple[str, ...]) -> None:
    for region in program.regions:
        if region.address <= address and address + span <= region.address + region.size:
            if region.kind in kinds:
                return
            raise _fault(program, index, f"it must touch {' or '.join(kinds)}, not region {region.name}")
    raise _fault(
        program,
        index,
        f"bytes {address} to {address + span - 1} lie in no single region of memory",
    )


def _check_buffer(program: Program, index: int, end: int, size: int, what: str) -> None:
    if end > size:
        raise _fault(program, index, f"it reaches {what} {end - 1}, the buffer has {size}")


def _check_load(program: Program, index: int, command: Command) -> None:
    machine = program.machine
    if command["target"] == LoadTarget.ACTIVATION:
        _check_bank(program, index, command)
        span = _span(command, "src_row", "src_plane")
        _check_region(program, index, command["address"], span, ("input", "activations", "output"))
        return
    if command["target"] == LoadTarget.STEPS and not machine.step_lines:
        raise _fault(program, index, "target 3 needs buffers.step_entries, of which the machine has none")
    _check_counts(program, index, command, "run", "rows", "planes", "wrap")
    beat = machine.bus_bytes
    bits, size = {
        LoadTarget.WEIGHT: (machine.weight_line_bits, machine.weight_lines),
        LoadTarget.PARAM: (machine.param_line_bits, machine.param_lines),
        LoadTarget.STEPS: (machine.bus.data_bits, machine.step_lines),
    }[LoadTarget(command["target"])]
    if command["rows"] != 1 or command["planes"] != 1:
        raise _fault(program, index, "a LOAD of weights or parameters has one row")
    if command["address"] % beat or command["run"] % beat:
        raise _fault(
            program,
            index,
            f"address and run must be multiples of {beat}, not {command['address']} and {command['run']}",
        )
    if command["wrap"] * machine.bus.data_bits > bits:
        raise _fault(
            program,
            index,
            f"wrap must be from 1 to {bits // machine.bus.data_bits}, not {command['wrap']}",
        )
    lines = -(-command["run"] // (command["wrap"] * beat))
    _check_buffer(program, index, command["dst"] + lines, size, "line")
    kind = "params" if command["target"] == LoadTarget.PARAM else "weights"
    _check_region(program, index, command["address"], command["run"], (kind,))


def _check_fill(program: Program, index: int, command: Command) -> None:
    if command["target"] != LoadTarget.ACTIVATION:
        raise _fault(program, index, "FILL writes activation banks only: target must be 0")
    _check_bank(program, index, command)


def _check_bank(program: Program, index: int, command: Command) -> None:
    machine = program.machine
    _check_counts(program, index, command, "run", "rows", "planes", "cols")
    if command["cols"] >> machine.array.cols:
        raise _fault(
            program,
            index,
            f"cols must name banks from 0 to {machine.array.cols - 1}, not {command['cols']:#x}",
        )
    end = command["dst"] + _span(command, "dst_row", "dst_plane")
    _check_buffer(program, index, end, machine.buffers.activation_bytes, "activation byte")


def _check_geometry(program: Program, index: int, command: Command) -> None:
    _check_counts(program, index, command, "tile_x", "tile_y", "sets", "fx", "fy")
    depth = program.machine.array.acc_depth
    if command["tile_x"] * command["tile_y"] > depth:
        raise _fault(
            program,
            index,
            f"a tile of {command['tile_y']} × {command['tile_x']} pixels passes array.acc_depth ({depth})",
        )
    array = program.machine.array
    codes = [int(kind) for kind in array.kinds]
    if command["pe"] not in codes:
        raise _fault(program, index, f"pe must be one of {codes}, not {command['pe']}")
    lanes = array.lanes(PeKind(command["pe"]))
    if not 1 <= command["tail"] <= lanes:
        raise _fault(program, index, f"tail must be from 1 to {lanes}, not {command['tail']}")


def _check_output(program: Program, index: int, command: Command) -> None:
    _check_counts(program, index, command, "pool_x", "pool_y")
    if command["mode"] == PostMode.THRESHOLDS:
        for name, most in (("levels", 4), ("step", 2)):
            if not 1 <= command[name] <= most:
                raise _fault(program, index, f"{name} must be from 1 to {most}, not {command[name]}")
    if command["mode"] in (PostMode.ADD, PostMode.PLANES) and not program.machine.adds:
        raise _fault(
            program, index, f"mode {command['mode']} (a sum) needs {PeKind.VECTOR.key!r} in array.pes"
        )
    if command["mode"] == PostMode.PLANES:
        _check_planes(program, index, command)
    if command["mode"] == PostMode.ADD and (command["pool_y"], command["pool_x"]) != (2, 1):
        raise _fault(
            program,
            index,
            f"an add's window must be 2 × 1 pixels, not {command['pool_y']} × {command['pool_x']}",
        )
    low, high = command["clamp_low"], command["clamp_high"]
    if not -128 <= low <= high <= 127:
        raise _fault(program, index, f"the clamp must lie within -128 … 127, low first, not {low} … {high}")


def _check_planes(program: Program, index: int, command: Command) -> None:
    """Nothing; ProgramError unless the lane sets of a pixel are whole results."""
    sets = program.machine.row_groups
    if not command["planes"] or sets % command["planes"]:
        raise _fault(
            program, index, f"planes must divide the {sets} lane sets of a pixel, not be {command['planes']}"
        )
    if (command["pool_y"], command["pool_x"]) != (1, 1):
        raise _fault(
            program,
            index,
            f"the window of a sum of planes must be 1 × 1 pixels, not {command['pool_y']} × "
            f"{command['pool_x']}",
        )


def _check_store(program: Program, index: int, command: Command) -> None:
    _check_counts(program, index, command, "run", "rows", "planes")
    end = command["src"] + _span(command, "src_row", "src_plane")
    size = program.machine.buffers.output_bytes
    _check_buffer(program, index, end, size, "output byte")
    if command["pack"] and not program.machine.packs:
        raise _fault(
            program, index, "pack must be 0 where no kind in array.pes takes activations below 8 bits"
        )
    span = _span(command, "dst_row", "dst_plane") - command["run"] + stored_bytes(command)
    _check_region(program, index, command["address"], span, ("activations", "output"))


def _check_executions(program: Program) -> None:
    """Nothing; ProgramError for an EXEC that its GEOMETRY, OUTPUT or the EXEC before doesn't allow."""
    latched: dict[Opcode, Command] = {}
    opened: tuple[int, Command] | None = None
    for index, command in enumerate(program.commands):
        if command.opcode in (Opcode.GEOMETRY, Opcode.OUTPUT):
            latched[command.opcode] = command
        if command.opcode is not Opcode.EXEC:
            continue
        if len(latched) < 2:
            raise _fault(program, index, "GEOMETRY and OUTPUT must come before the first EXEC")
        _check_exec(program, index, command, latched[Opcode.GEOMETRY], latched[Opcode.OUTPUT])
        if command["first"] and opened is not None:
            raise _fault(program, index, f"it drops the accumulators that command {opened[0]} left")
        if not command["first"]:
            if opened is None:
                raise _fault(program, index, "first is 0, but no EXEC left accumulators")
            same = ("region_x", "region_y", "cols", "rows_last")
            if any(command[name] != opened[1][name] for name in same):
                raise _fault(program, index, f"it must have the region, cols and rows of command {opened[0]}")
        opened = None if command["last"] else (index, command)
    if opened is not None:
        raise _fault(program, opened[0], "no EXEC drains its accumulators")


def _check_exec(program: Program, index: int, command: Command, walk: Command, output: Command) -> None:
    machine = program.machine
    _check_counts(program, index, command, "region_x", "region_y", "groups", "cols", "rows_last")
    planes = output["planes"] if output["mode"] == PostMode.PLANES else 1
    for name, most in (("cols", machine.array.cols), ("rows_last", machine.array.rows // planes)):
        if command[name] > most:
            raise _fault(program, index, f"{name} must be from 1 to {most}, not {command[name]}")
    for axis in ("x", "y"):
        region, tile, pool = command[f"region_{axis}"], walk[f"tile_{axis}"], output[f"pool_{axis}"]
        if command["last"] and (region % pool or (region > tile and tile % pool)):
            raise _fault(
                program,
                index,
                f"region_{axis} {region} and tile_{axis} {tile} must be whole pool windows of {pool}",
            )
        if not (command["first"] and command["last"]) and region > tile:
            raise _fault(program, index, "first 0 or last 0 needs a region within one tile")
    if not (command["first"] and command["last"]) and command["groups"] != 1:
        raise _fault(program, index, f"first 0 or last 0 needs 1 group, not {command['groups']}")
    if not command["last"] and command["post_drain"]:
        raise _fault(program, index, "post_drain needs last 1: nothing is drained")
    if command["act"] >= machine.buffers.activation_bytes:
        raise _fault(program, index, f"act {command['act']} lies outside the activation bank")
    if walk["listed"]:
        if not machine.step_lines:
            raise _fault(program, index, "listed 1 needs buffers.step_entries, of which the machine has none")
        if command["list"] >= machine.buffers.step_entries:
            raise _fault(
                program,
                index,
                f"list {command['list']} lies outside the {machine.buffers.step_entries} step entries",
            )
