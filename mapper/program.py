"""The program: commands, the memory image they run on, and where the tensors lie in it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .isa import COMMAND_BYTES, Command, decode, encode
from .machine import Machine

__all__ = ["Program", "ProgramError", "Region", "decode_commands", "encode_commands"]


class ProgramError(ValueError):
    """A program that a core could not run as meant: the message names the command and layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A piece of memory, in bytes from the base address."""

    name: str
    kind: str
    """`commands`, `weights`, `params`, `input`, `activations` or `output`."""
    address: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What one network is on one machine: the one thing that reference, model and RTL all run.

    `image` holds everything that lies in memory before the run, commands at address 0; its length is
    the memory that the run needs. The input tensor's bytes (HWC, a pixel in whole bytes) are written at
    `input.address`, the result is read from `output.address`.
    """

    machine: Machine
    network: str
    commands: tuple[Command, ...]
    layer_of: tuple[int, ...]
    """For each command, the index in `layers` of the core layer it works for (END: the last)."""
    layers: tuple[str, ...]
    macs: tuple[int, ...]
    """Useful multiply-accumulates of each core layer."""
    regions: tuple[Region, ...]
    input: Region
    output: Region
    input_shape: tuple[int, ...]
    """(C, H, W) or (N,) of the tensor that lies at `input` as HWC."""
    output_shape: tuple[int, ...]
    image: NDArray[np.uint8]
    input_format: str = "int8"
    """Of the values at `input`: int8, ternary or binary."""
    output_format: str = "int8"

    def digest(self) -> str:
        """Hash of the machine and the memory image: equal digests run alike."""
        mix = hashlib.sha256(self.machine.digest().encode())
        mix.update(self.image.tobytes())
        return mix.hexdigest()[:16]


def encode_commands(commands: tuple[Command, ...] | list[Command]) -> bytes:
    """The commands as they lie in memory: 32 bytes each, little-endian."""
    return b"".join(encode(c).to_bytes(COMMAND_BYTES, "little") for c in commands)


def decode_commands(data: bytes) -> tuple[Command, ...]:
    """The inverse of `encode_commands`.

    Raises:
        ProgramError: the length is no multiple of a command's, or a word has an unknown opcode; the
            message has the command's number.
    """
    if len(data) % COMMAND_BYTES:
        raise ProgramError(
            f"a program is a whole number of {COMMAND_BYTES}-byte commands, not {len(data)} bytes"
        )
    commands = []
    for start in range(0, len(data), COMMAND_BYTES):
        try:
            commands.append(decode(int.from_bytes(data[start : start + COMMAND_BYTES], "little")))
        except ValueError as fault:
            raise ProgramError(f"command {start // COMMAND_BYTES}: {fault}") from None
    return tuple(commands)
