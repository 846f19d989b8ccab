"""Command layouts in hardware, made from the one table in `mapper/isa.py`."""

from __future__ import annotations

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib.data import StructLayout

from ..mapper.isa import FIELDS, SIGNED_FIELDS, Opcode

__all__ = ["command_layout"]


def command_layout(opcode: Opcode) -> StructLayout:
    """The fields of a command as a layout of its low bits."""

    def shape(name: str, width: int) -> Shape:
        return signed(width) if name in SIGNED_FIELDS else unsigned(width)

    return StructLayout({name: shape(name, width) for name, width in FIELDS[opcode]})
