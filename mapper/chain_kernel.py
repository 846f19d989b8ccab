"""How a loop is cut: the chain of its extents from the PEs outwards, and sums over the tiles that come of it.

At each position the extent above is cut into tiles of the extent below, and the last tile may be smaller. A
rest is cut on by all positions further in, so a sum over tiles is, from the inside outwards,

    sum(length above) = whole tiles · sum(extent below) + sum(rest),

where what the rest leaves at each position on its way in is the same for every sum: it is divided once a
nest. Of a position that is skipped only the first tile counts.
"""

from __future__ import annotations

from typing import Any

from ..models.jit import njit

__all__ = ["POSITION", "SIZE", "chain_width", "cut_chain", "sum_tiles"]

# Columns of a chain, one row a cut from the inside outwards: its position and the extent below it; then the
# pieces of each extent further in, from the one below on inwards, that its rest (its whole length, for the
# first) has, and what these leave. The row after the last cut has the whole extent; the very last row the
# number of cuts and the positions, a bit each.
POSITION, SIZE, _PIECES = 0, 1, 2


@njit
def chain_width(top: int) -> tuple[int, int]:
    """Rows and columns of the chain of a loop over `top` positions."""
    return top + 2, 2 * top + 2


@njit(error_model="numpy")
def cut_chain(ext: Any, d: int, chains: Any) -> None:
    """Nothing; fills the chain of loop d.

    Args:
        ext: extents, shape (top + 1, 8).
        d: the loop.
        chains: int64, shape (9, rows, columns), the latter as `chain_width(top)` says: by loop its chain,
            filled for d, and scratch of `sum_tiles`.
    """
    top = ext.shape[0] - 1
    cuts = bits = 0
    size = ext[0, d]
    for p in range(top):
        above = ext[p + 1, d]
        if above == size:
            continue
        chains[d, cuts, POSITION], chains[d, cuts, SIZE] = p, size
        bits |= 1 << p
        left = above
        for j in range(cuts, -1, -1):
            e = chains[d, j, SIZE]
            n = int(float(left) / float(e))  # exact up to 2⁵³, then next to it
            left -= n * e
            while left < 0:
                n, left = n - 1, left + e
            while left >= e:
                n, left = n + 1, left - e
            chains[d, cuts, _PIECES + 2 * j], chains[d, cuts, _PIECES + 2 * j + 1] = n, left
            if left == 0:
                break
        size = above
        cuts += 1
    chains[d, cuts, POSITION], chains[d, cuts, SIZE] = top, size
    last = chains.shape[1] - 1
    chains[d, last, 0], chains[d, last, 1] = cuts, bits


@njit
def _slid(length: int, tile: int, clip: int) -> int:
    """What `max(0, rows − clip)` grows by while a tile slides over `length` by its own extent, in all."""
    if length <= tile:
        return max(0, length - clip)
    whole = length // tile
    rest = length - whole * tile
    one = max(0, tile - clip)
    total = one + (whole - 1) * (max(0, 2 * tile - clip) - one)
    if rest:
        total += max(0, tile + rest - clip) - one
    return int(total)


@njit(forceinline=True)
def _of_tile(size: int, clip: int, tile: int) -> int:
    if clip < 0:
        return 1
    if tile:
        return int(_slid(size, tile, clip))
    return max(0, size - clip)


@njit
def sum_tiles(chains: Any, d: int, low: int, skip: int, clip: int, tile: int) -> int:
    """The sum of `max(0, size − clip)` over all tiles below position `low`; their number for a clip below 0.

    Args:
        chains: as `cut_chain` fills it.
        d: the loop.
        low: the position above the tiles.
        skip: positions, a bit each, of which only the first tile counts.
        clip: what is taken off each.
        tile: if not 0, an extent that slides over each tile: rows that are new at each step are clipped.
    """
    last = chains.shape[1] - 1
    cuts, bits = chains[d, last, 0], chains[d, last, 1] >> low << low
    inner = 0
    while chains[d, inner, POSITION] < low:
        inner += 1
    size = chains[d, inner, SIZE]
    skip &= bits
    if skip == 0 and (clip == 0 or (clip < 0 and size == 1)):
        return int(chains[d, cuts, SIZE])
    if tile == 0 and 0 < size <= clip:
        return 0
    total = _of_tile(size, clip, tile)
    if skip == bits:
        return int(total)
    scratch = chains.shape[0] - 1
    for i in range(inner, cuts):
        chains[scratch, 0, i] = total
        if (skip >> chains[d, i, POSITION]) & 1:
            continue
        total *= chains[d, i, _PIECES + 2 * i]
        left = chains[d, i, _PIECES + 2 * i + 1]
        j = i - 1
        while left and j >= inner:
            n = chains[d, i, _PIECES + 2 * j]
            if (skip >> chains[d, j, POSITION]) & 1:
                if n:
                    total += chains[scratch, 0, j]
                    left = 0
            else:
                total += n * chains[scratch, 0, j]
                left = chains[d, i, _PIECES + 2 * j + 1]
            j -= 1
        if left:
            total += _of_tile(left, clip, tile)
    return int(total)
