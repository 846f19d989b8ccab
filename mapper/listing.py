"""The program as text: one line a command, with number, layer, tokens by name and fields."""

from __future__ import annotations

from .isa import FIELDS, Command, LoadTarget, Opcode, Token
from .program import Program

__all__ = ["list_command", "list_program"]

_TOKEN_FIELDS = ("wait", "post", "post_drain")
_NOT_SHOWN = {"opcode", *_TOKEN_FIELDS, "target"}


def list_command(command: Command) -> str:
    """A command's opcode, tokens by name and fields that aren't 0, on one line."""
    parts = [command.opcode.name]
    if command.opcode is Opcode.LOAD:
        target = command["target"]
        known = target in tuple(LoadTarget)
        parts.append(LoadTarget(target).name if known else f"target={target}")
    for name, _ in FIELDS[command.opcode]:
        if name in _NOT_SHOWN or not command[name]:
            continue
        value = command[name]
        mask = name == "cols" and command.opcode is not Opcode.EXEC  # EXEC's is a count
        parts.append(f"{name}={value:#x}" if mask or name == "address" else f"{name}={value}")
    for name in _TOKEN_FIELDS:
        held = [token.name for token in Token if command[name] >> token & 1]
        if held:
            parts.append(f"{name}:{'+'.join(held)}")
    return " ".join(parts)


def list_program(program: Program) -> str:
    """All commands, each on a line after its number and its layer's name; ends with a newline."""
    digits = len(str(len(program.commands) - 1))
    width = max(len(name) for name in program.layers)
    return "".join(
        f"{index:>{digits}}  {program.layers[layer]:<{width}}  {list_command(command)}\n"
        for index, (command, layer) in enumerate(zip(program.commands, program.layer_of, strict=True))
    )
