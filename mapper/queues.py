"""Queues of activations before PEs that walk an encoded matrix: what makes a machine run as EIE does."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Queues"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queues:
    """Activations that aren't zero are broadcast to a queue a PE; each PE walks its own encoded columns.

    Fully connected layers then run entry by entry of a relative index (`sim/sparse_fc.py`).

    Raises:
        ValueError: a value outside its range; names the key.
    """

    depth: int
    """Activations that a queue holds."""
    index_bits: int
    """Of the zeros before an entry; longer runs take fillers."""
    code_bits: int
    """Of an entry's weight."""

    def __post_init__(self) -> None:
        for key, high in (("depth", 1 << 16), ("index_bits", 16), ("code_bits", 16)):
            if not 1 <= getattr(self, key) <= high:
                raise ValueError(f"queues.{key} must be from 1 to {high}, not {getattr(self, key)}")
