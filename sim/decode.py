"""All commands of a program at once, as arrays: what the model reads instead of one by one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..mapper.isa import COMMAND_BYTES, FIELDS, SIGNED_FIELDS, Opcode
from ..mapper.program import Program, ProgramError

__all__ = ["Fields", "decode_fields"]

Fields = dict[str, NDArray[np.int64]]
"""By field name (int64, (commands,)); 0 where an opcode lacks the field."""

_WORD_BITS = 64


def decode_fields(program: Program) -> Fields:
    """The fields of all commands, read from where the core reads them: the image at address 0.

    Raises:
        ProgramError: the image is shorter than the commands, or has an unknown opcode among them.
    """
    count = len(program.commands)
    size = count * COMMAND_BYTES
    if count == 0 or program.image.size < size:
        raise ProgramError(
            f"{count} commands take {size} bytes of the image (at least END must be there), it has "
            f"{program.image.size}"
        )
    words = np.frombuffer(program.image[:size].tobytes(), "<u8").reshape(count, -1)
    opcodes = (words[:, 0] & 0xF).astype(np.int64)
    known = np.isin(opcodes, [int(opcode) for opcode in Opcode])
    if not known.all():
        index = int(np.flatnonzero(~known)[0])
        raise ProgramError(f"command {index}: unknown opcode {opcodes[index]}")
    names = {name for layout in FIELDS.values() for name, _ in layout}
    fields = {name: np.zeros(count, np.int64) for name in names}
    for opcode, layout in FIELDS.items():
        chosen = np.flatnonzero(opcodes == int(opcode))
        if not chosen.size:
            continue
        part = words[chosen]
        position = 0
        for name, width in layout:
            word, shift = divmod(position, _WORD_BITS)
            value = part[:, word] >> np.uint64(shift)
            if shift + width > _WORD_BITS:
                value = value | (part[:, word + 1] << np.uint64(_WORD_BITS - shift))
            number = (value & np.uint64((1 << width) - 1)).astype(np.int64)
            if name in SIGNED_FIELDS:
                number -= (number >> (width - 1)) << width
            fields[name][chosen] = number
            position += width
    return fields
