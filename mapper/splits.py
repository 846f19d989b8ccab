"""Sizes to cut a layer's loops into, and what the command set's fields hold of them."""

from __future__ import annotations

from .machine import Machine
from .shape import Chunk, LayerShape

__all__ = ["FIELD_REGION", "FIELD_SETS", "FIELD_TAPS", "field_fits", "pixel_skips", "splits"]

FIELD_REGION = 4095
"""What EXEC.region_y and .region_x hold."""
FIELD_TAPS = 255
"""What GEOMETRY.fy and .fx hold."""
FIELD_SETS = (1 << 14) - 1
"""What GEOMETRY.sets holds."""
_FIELD_GROUPS = 4095
_FIELD_PIXEL = 65535


def splits(size: int) -> list[int]:
    """Part sizes that cut `size` into 1, 2, 3, … nearly equal parts, each once, falling."""
    return sorted({-(-size // parts) for parts in range(1, size + 1)}, reverse=True)


def field_fits(shape: LayerShape, groups: int, rows: int) -> bool:
    """Whether EXEC.groups and OUTPUT.pixel_x hold a K tile of that many groups of `rows` channels."""
    return groups <= _FIELD_GROUPS and min(groups * rows, shape.K) <= _FIELD_PIXEL


def pixel_skips(shape: LayerShape, part: Chunk, machine: Machine) -> list[bool]:
    """Whether leaving out pixels that the x stride skips is possible, and whether it may pay."""
    if shape.stride_x == 1:
        return [False]
    if part.c < shape.C or shape.places[0].pitch > shape.act_bytes(shape.C):
        return [True]
    # Separate pixels cost at least a beat each: with little to skip a whole run is cheaper.
    return [False, True] if machine.bus_bytes <= shape.act_bytes(shape.C) else [False]
