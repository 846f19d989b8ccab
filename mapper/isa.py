"""The command set of the core: one table of fields from which encoder, decoder and RTL are made.

A command is 256 bits, little-endian, the fields packed from bit 0 up in the order given here. Every
command starts with its opcode and the token masks; docs/architecture.md tells what each does.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "COMMAND_BITS",
    "COMMAND_BYTES",
    "FIELDS",
    "PACKED_BITS",
    "TOKENS",
    "TOKEN_COUNT_MAX",
    "Command",
    "LoadTarget",
    "Opcode",
    "PostMode",
    "Token",
    "Unit",
    "decode",
    "encode",
    "unit_of",
]

COMMAND_BITS = 256
COMMAND_BYTES = COMMAND_BITS // 8
TOKENS = 8
"""Token counters in the core."""
PACKED_BITS = (8, 4, 2, 1)
"""Bits of a value in memory, by STORE's `pack`."""
TOKEN_COUNT_MAX = 63
"""The most that one token counter holds (6 bits)."""


class Opcode(enum.IntEnum):
    """What a command does; 0 is no command, so a cleared memory is never run."""

    LOAD = 1
    FILL = 2
    GEOMETRY = 3
    OUTPUT = 4
    EXEC = 5
    STORE = 6
    END = 7


class Unit(enum.IntEnum):
    """The three units that run at once, each on a queue of its own."""

    LOAD = 0
    EXEC = 1
    STORE = 2


class LoadTarget(enum.IntEnum):
    """The buffer that a LOAD writes."""

    ACTIVATION = 0
    WEIGHT = 1
    PARAM = 2
    STEPS = 3
    """The step lists: 32 bits an entry, see `steps.py`."""


class PostMode(enum.IntEnum):
    """What POST does with accumulators; the value is OUTPUT's `mode`."""

    REQUANTIZE = 0
    """Bias, left shift, multiplier, shift, zero point, clamp; the maximum of the pool window."""
    THRESHOLDS = 1
    """`clamp_low` + `step` · the number of the channel's thresholds that are not above it."""
    ADD = 2
    """The pool window's pixels, each rescaled by parameters of its own, summed and rescaled again."""
    PLANES = 3
    """As ADD, of `planes` lane sets that follow each other: what rows of several weight planes sum up."""


class Token(enum.IntEnum):
    """What the mapper uses each token counter for; the RTL gives them no meaning."""

    ACT_FULL = 0
    ACT_FREE = 1
    WEIGHT_FULL = 2
    WEIGHT_FREE = 3
    OUT_FULL = 4
    OUT_FREE = 5
    PARAM_FREE = 6
    TENSOR_DONE = 7


_HEADER = (("opcode", 4), ("wait", TOKENS), ("post", TOKENS))
"""`wait`: a bit a counter, each is taken down by one when the command starts. `post`: each goes up
by one when the command has ended (for EXEC: when the array has read its last operand)."""

FIELDS: dict[Opcode, tuple[tuple[str, int], ...]] = {
    # 3-D copy from memory: planes × rows × run. Activations: bytes anywhere. Weights and parameters:
    # one row, run a multiple of the bus width, written unit by unit; after `wrap` units a line is done.
    Opcode.LOAD: (
        *_HEADER,
        ("target", 2),
        ("cols", 16),  # mask of column banks that take the data (activations)
        ("dst", 20),  # byte (activations), line (weights, parameters)
        ("dst_row", 20),  # bytes from a row to the next
        ("dst_plane", 20),
        ("address", 32),  # bytes from the base register
        ("src_row", 24),
        ("src_plane", 28),
        ("run", 20),  # bytes
        ("rows", 12),
        ("planes", 12),
        ("wrap", 11),  # bus units that are valid in a line (weights, parameters)
    ),
    # Write `value` to activation banks: planes × rows × run bytes. Takes memory's place on LOAD's
    # data side, bus-width bytes a cycle.
    Opcode.FILL: (
        *_HEADER,
        ("target", 2),  # ACTIVATION always
        ("cols", 16),
        ("dst", 20),
        ("dst_row", 20),
        ("dst_plane", 20),
        ("value", 32),  # low byte
        ("src_row", 24),  # unused, so that LOAD and FILL share one layout
        ("src_plane", 28),
        ("run", 20),
        ("rows", 12),
        ("planes", 12),
        ("wrap", 11),
    ),
    # Loop bounds and strides of the array, latched until the next GEOMETRY.
    Opcode.GEOMETRY: (
        *_HEADER,
        ("pe", 4),  # PeKind
        ("tile_x", 9),  # output pixels of an accumulator tile
        ("tile_y", 9),
        ("sets", 14),  # lane sets in a contiguous run
        ("tail", 9),  # valid lanes of a run's last lane set
        ("fx", 8),  # runs in a filter row
        ("fy", 8),  # filter rows
        ("pixel_x", 16),  # bytes from an output pixel's first operand to the next's
        ("pixel_y", 20),
        ("tap_x", 16),  # bytes from a run to the next (fx)
        ("tap_y", 20),  # bytes from a filter row to the next (fy)
        ("act_tile_x", 20),  # tile_x * pixel_x
        ("act_tile_y", 20),  # tile_y * pixel_y
        ("act_col", 20),  # bytes from a column's first operand to the next column's
        ("act_group", 16),  # bytes from a group's first operand to the next group's
        ("weight_group", 16),  # weight buffer lines of a group of `rows` output channels
        ("listed", 1),  # the steps of a group are those of its list, the weights of the next group follow
    ),
    # How POST makes and places results, latched until the next OUTPUT.
    Opcode.OUTPUT: (
        *_HEADER,
        ("rounding", 2),
        ("zero_point", 9),  # two's complement
        ("clamp_low", 9),  # two's complement
        ("clamp_high", 9),  # two's complement
        ("pool_x", 4),  # 1 = no pool
        ("pool_y", 4),
        ("pixel_x", 16),  # bytes from a written pixel to the next
        ("pixel_y", 20),
        ("tile_x", 20),  # bytes from an accumulator tile's first written pixel to the next tile's
        ("tile_y", 20),
        ("group", 16),  # bytes from a group of `rows` channels to the next
        ("col", 20),  # bytes from a column's first written pixel to the next column's
        ("mode", 2),  # PostMode
        ("levels", 3),  # THRESHOLDS: of the search tree, 1 … 4
        ("step", 2),  # THRESHOLDS: from a result to the next, 1 or 2
        ("param_set", 7),  # parameter lines from a lane set's first to the next lane set's
        ("param_group", 12),  # parameter lines from a group's first to the next group's
        ("sum_multiplier", 32),  # ADD, PLANES: of the sum, Q0.31
        ("sum_shift", 5),  # ADD, PLANES: of the sum
        ("planes", 4),  # PLANES: lane sets that are one result's
    ),
    # Run the array over region_y × region_x output pixels a column and `groups` × rows channels.
    Opcode.EXEC: (
        *_HEADER,
        ("post_drain", TOKENS),  # up by one when POST has written the last result
        ("act", 20),
        ("weight", 16),  # line
        ("param", 12),  # line
        ("out", 20),
        ("region_x", 12),
        ("region_y", 12),
        ("groups", 12),
        ("cols", 5),  # columns that POST drains
        ("rows_last", 7),  # valid rows of the last group
        ("first", 1),  # start accumulators at zero
        ("last", 1),  # drain them afterwards
        ("list", 16),  # first entry of the first group's step list (GEOMETRY.listed)
    ),
    # 3-D copy from the output buffer to memory: planes × rows × run values, a byte each in the buffer
    # and densely packed in memory.
    Opcode.STORE: (
        *_HEADER,
        ("pack", 2),  # a value takes 8 >> pack bits in memory
        ("src", 20),
        ("src_row", 20),
        ("src_plane", 20),
        ("address", 32),
        ("dst_row", 24),
        ("dst_plane", 28),
        ("run", 20),  # values; a row's last byte is filled up with zero bits
        ("rows", 12),
        ("planes", 12),
    ),
    # The program is over: `done` rises when every unit is idle.
    Opcode.END: _HEADER,
}

SIGNED_FIELDS = frozenset({"zero_point", "clamp_low", "clamp_high"})

_UNITS = {
    Opcode.LOAD: Unit.LOAD,
    Opcode.FILL: Unit.LOAD,
    Opcode.GEOMETRY: Unit.EXEC,
    Opcode.OUTPUT: Unit.EXEC,
    Opcode.EXEC: Unit.EXEC,
    Opcode.STORE: Unit.STORE,
}

for _opcode, _fields in FIELDS.items():
    assert sum(width for _, width in _fields) <= COMMAND_BITS, _opcode


def unit_of(opcode: Opcode) -> Unit | None:
    """The unit that runs commands of this opcode; None for END, which the sequencer keeps."""
    return _UNITS.get(opcode)


@dataclass(frozen=True, slots=True)
class Command:
    """One command: an opcode and the values of its fields (absent ones are 0)."""

    opcode: Opcode
    fields: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.fields.get(name, 0)


def encode(command: Command) -> int:
    """The 256-bit word of `command`.

    Raises:
        ValueError: a field the opcode doesn't have, or a value that its field can't hold.
    """
    layout = FIELDS[command.opcode]
    unknown = set(command.fields) - {name for name, _ in layout}
    if unknown:
        raise ValueError(f"{command.opcode.name} has no field {', '.join(sorted(unknown))}")
    word = position = 0
    for name, width in layout:
        value = int(command.opcode) if name == "opcode" else int(command[name])
        signed = name in SIGNED_FIELDS
        low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
        if not low <= value <= high:
            raise ValueError(f"{command.opcode.name}.{name} must be from {low} to {high}, not {value}")
        word |= (value & ((1 << width) - 1)) << position
        position += width
    return word


def decode(word: int) -> Command:
    """The command of a 256-bit word; the inverse of `encode`.

    Raises:
        ValueError: the opcode is unknown.
    """
    number = word & 0xF
    try:
        opcode = Opcode(number)
    except ValueError:
        raise ValueError(f"unknown opcode {number}") from None
    values: dict[str, int] = {}
    position = 0
    for name, width in FIELDS[opcode]:
        value = (word >> position) & ((1 << width) - 1)
        if name in SIGNED_FIELDS and value >> (width - 1):
            value -= 1 << width
        if name != "opcode":
            values[name] = value
        position += width
    return Command(opcode, values)
