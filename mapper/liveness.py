"""Where the tensors of a network lie in one memory: addresses by lifetimes, dead tensors' room used again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["MemoryMap", "Placed", "place_tensors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A tensor's place in memory and the steps from which to which it is needed, both included."""

    name: str
    address: int
    """Of its first byte."""
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMap:
    """Tensors by address; no two that live at once overlap."""

    tensors: tuple[Placed, ...]
    peak_bytes: int
    """The byte behind the highest one."""
    bound_bytes: int
    """The most that lives at once: no map has a lower peak."""


def place_tensors(
    sizes: Mapping[str, int], lives: Mapping[str, tuple[int, int]], *, alignment: int = 64
) -> MemoryMap:
    """The map of tensors in one memory, largest first, each in the smallest gap that it fits in.

    Args:
        sizes: bytes by name, at least 1.
        lives: by name, the first and last step that touch it, both included.
        alignment: bytes; every tensor starts at a multiple and takes a multiple.

    Raises:
        ValueError: a size or alignment below 1, or a life that ends before it begins; names the tensor.
    """
    if alignment < 1:
        raise ValueError(f"alignment must be at least 1 byte, not {alignment}")
    for name, size in sizes.items():
        first, last = lives[name]
        if size < 1 or last < first:
            raise ValueError(
                f"tensor {name!r:.80} must have at least 1 byte and live from a step to the same or a later "
                f"one, not {size} and {first} to {last}"
            )
    room = {name: -(-size // alignment) * alignment for name, size in sizes.items()}
    start: dict[str, int] = {}
    for name in sorted(sizes, key=lambda x: (-room[x], lives[x], x)):
        first, last = lives[name]
        taken = sorted(
            (start[x], start[x] + room[x]) for x in start if lives[x][0] <= last and first <= lives[x][1]
        )
        gaps, end = [], 0
        for low, high in taken:
            if low - end >= room[name]:
                gaps.append((low - end, end))
            end = max(end, high)
        start[name] = min(gaps)[1] if gaps else end
    steps = sorted({lives[name][0] for name in sizes})
    alive = [sum(room[x] for x in sizes if lives[x][0] <= step <= lives[x][1]) for step in steps]
    placed = [
        Placed(
            name=name, address=start[name], size_bytes=sizes[name], first=lives[name][0], last=lives[name][1]
        )
        for name in sizes
    ]
    return MemoryMap(
        tensors=tuple(sorted(placed, key=lambda row: (row.address, row.first, row.name))),
        peak_bytes=max((start[x] + room[x] for x in sizes), default=0),
        bound_bytes=max(alive, default=0),
    )
