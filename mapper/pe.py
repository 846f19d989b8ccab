"""PE kinds: which operand formats a processing element multiplies, and how the command set names it."""

from __future__ import annotations

import enum

__all__ = ["PeKind"]


class PeKind(enum.IntEnum):
    """Operand formats that an array can serve; the value is GEOMETRY's `pe`.

    To add one: its formats here, its lanes in `rtl/pe.py` (docs/architecture.md tells the way).
    """

    INT8 = 0
    """int8 weights, int8 activations."""
    TERNARY_INT8 = 1
    """Weights −1, 0, 1 in two's complement of 2 bits, int8 activations."""
    BINARY_INT8 = 2
    """Weights −1, 1 as bits 0, 1, int8 activations."""

    @property
    def key(self) -> str:
        """The name in machine files, e.g. `ternary_int8`."""
        return self.name.lower()

    @property
    def weight_format(self) -> str:
        """Name of the weights' format, see `models.formats.Format`."""
        return ("int8", "ternary", "binary")[self]

    @property
    def act_format(self) -> str:
        """Name of the activations' format."""
        return "int8"

    @property
    def weight_bits(self) -> int:
        """Bits of a weight."""
        return (8, 2, 1)[self]

    @property
    def act_bits(self) -> int:
        """Bits of an activation."""
        return 8

    @classmethod
    def of(cls, weight_format: str, act_format: str) -> PeKind | None:
        """The kind that serves these formats, None if there is none."""
        for kind in cls:
            if (kind.weight_format, kind.act_format) == (weight_format, act_format):
                return kind
        return None
