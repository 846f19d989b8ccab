"""PE kinds: which operand formats a processing element multiplies, and how the command set names it."""

from __future__ import annotations

import enum

__all__ = ["PeKind"]


class PeKind(enum.IntEnum):
    """Operand formats that an array can serve; the value is GEOMETRY's `pe`.

    To add one: its formats here, its lanes in `rtl/` (docs/architecture.md, "Adding a PE kind").
    """

    INT8 = 0
    """int8 weights, int8 activations."""
    TERNARY_INT8 = 1
    """Weights −1, 0, 1 in two's complement of 2 bits, int8 activations."""
    BINARY_INT8 = 2
    """Weights −1, 1 as bits 0, 1, int8 activations."""
    TERNARY = 3
    """Ternary weights, ternary activations."""
    BINARY = 4
    """Binary weights, binary activations: XNOR and population count."""
    VECTOR = 5
    """int8 weights, int8 activations, lane by lane: row r takes channel r of a group alone."""

    @property
    def key(self) -> str:
        """The name in machine files, e.g. `ternary_int8`."""
        return self.name.lower()

    @property
    def weight_format(self) -> str:
        """Name of the weights' format, see `models.formats.Format`."""
        return ("int8", "ternary", "binary", "ternary", "binary", "int8")[self]

    @property
    def act_format(self) -> str:
        """Name of the activations' format."""
        return ("int8", "int8", "int8", "ternary", "binary", "int8")[self]

    @property
    def weight_bits(self) -> int:
        """Bits of a weight."""
        return (8, 2, 1, 2, 1, 8)[self]

    @property
    def act_bits(self) -> int:
        """Bits of an activation."""
        return (8, 8, 8, 2, 1, 8)[self]

    @property
    def product(self) -> str:
        """What a product is: `multiply`, `negate`, or bits counted, `ternary` and `xnor`."""
        return ("multiply", "negate", "negate", "ternary", "xnor", "multiply")[self]

    @property
    def lane_wise(self) -> bool:
        """Whether a row takes one channel instead of summing over a lane set."""
        return self is PeKind.VECTOR

    @classmethod
    def of(cls, weight_format: str, act_format: str) -> PeKind | None:
        """The kind that sums over lanes of these formats, None if there is none."""
        for kind in cls:
            if not kind.lane_wise and (kind.weight_format, kind.act_format) == (weight_format, act_format):
                return kind
        return None
