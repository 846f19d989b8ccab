"""The loop nest of a mapped layer: its EXECs in order, each with the tiles that it works on."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from .mapping import LoopOrder, Mapping, Tile

__all__ = ["Step", "steps_of"]


@dataclass(frozen=True, slots=True)
class Step:
    """One EXEC and the tiles that it works on."""

    plan: int
    tile: Tile
    k_tile: int
    chunk: int
    group: int
    groups: int
    sub_y: int
    """First row of the region within a column's rows; `sub_x` likewise."""
    sub_x: int
    region_y: int
    region_x: int
    first: bool
    last: bool
    act: Hashable
    weight: Hashable
    param: Hashable
    out: Hashable


def steps_of(index: int, mapping: Mapping) -> Iterator[Step]:
    """The EXECs of a layer in the order of its loops; `index` is the layer's."""
    tiles, k_tiles = mapping.tiles, mapping.k_tiles
    if mapping.order is LoopOrder.WEIGHTS:
        pairs = [(p, k) for k in range(len(k_tiles)) for p in range(len(tiles))]
    else:
        pairs = [(p, k) for p in range(len(tiles)) for k in range(len(k_tiles))]
    for p, k in pairs:
        tile, (first_group, groups) = tiles[p], k_tiles[k]
        rows = min(mapping.column_rows, tile.height)
        shape, out = mapping.shape, (index, p, k)
        act: tuple[int, ...] = (index, p, k) if shape.pe.lane_wise else (index, p)
        param = (index, 0) if shape.alike else (index, k)
        if len(mapping.chunks) == 1:
            yield Step(
                index, tile, k, 0, first_group, groups, 0, 0, rows, tile.width, True, True,
                act, param, param, out,
            )  # fmt: skip
            continue
        for sub_y in range(0, rows, mapping.acc_y):
            for sub_x in range(0, tile.width, mapping.acc_x):
                for group in range(first_group, first_group + groups):
                    for chunk in range(len(mapping.chunks)):
                        yield Step(
                            index, tile, k, chunk, group, 1, sub_y, sub_x,
                            min(mapping.acc_y, rows - sub_y), min(mapping.acc_x, tile.width - sub_x),
                            chunk == 0, chunk == len(mapping.chunks) - 1,
                            (*act, chunk) if mapping.act_chunked else act,
                            (index, group, chunk) if mapping.weight_chunked else param,
                            param, out,
                        )  # fmt: skip
