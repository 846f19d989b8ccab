"""How often each value moves: exact counts of a loop nest, ragged tiles included.

A nest is a chain of extents a loop: `ext[p, d]` values of loop d lie below position p. Positions run from
the PEs outwards: the axes below level 0, the loops of level 0, the axes below level 1, and so on. At each
position the extent above is cut into tiles of the extent below, the last of which may be smaller. Loops
are independent, so every count is a product of one factor a loop; only the rows (and columns) of inputs join
two loops, output and filter row. Loops whose extents divide each other are counted together, position by
position; the others (`listed`) each by its chain (`chain_kernel`). docs/mapping.md states the rules.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.jit import njit
from .chain_kernel import chain_width, cut_chain, sum_tiles

__all__ = [
    "FIRST_CHILD",
    "FIRST_PARENT",
    "FIRST_SHARE_CHILD",
    "FIRST_SHARE_PARENT",
    "MOVES",
    "VISIT_CHILD",
    "VISIT_PARENT",
    "VISIT_SHARE_CHILD",
    "VISIT_SHARE_PARENT",
    "count_all",
    "count_move",
    "distinct",
    "fill_extents",
    "new_work",
    "survey",
]

# Columns of a move, in values. A move is what passes between a level (or the PEs) and the next level out
# that holds the operand. VISIT: of all tiles; FIRST: of those that an output starts with. CHILD: summed over
# all instances of the inner one; PARENT: as the outer one sees it, after multicast and reduction; SHARE: of
# its busiest instance.
MOVES = 8
(
    VISIT_CHILD, VISIT_PARENT, FIRST_CHILD, FIRST_PARENT,
    VISIT_SHARE_CHILD, VISIT_SHARE_PARENT, FIRST_SHARE_CHILD, FIRST_SHARE_PARENT,
) = range(8)  # fmt: skip

_B, _G, _K, _C, _OY, _OX, _FY, _FX = range(8)
_W, _I, _O = range(3)

# By operand: the loops that it depends on, a bit each.
_ON_W = 1 << _G | 1 << _K | 1 << _C | 1 << _FY | 1 << _FX
_ON_I = 255 - (1 << _K)
_ON_O = 255 - (1 << _C | 1 << _FY | 1 << _FX)

# Entries of `shape` after the eight extents: stride and dilation over their common divisor.
_SY, _SX, _DY, _DX = 8, 9, 10, 11

# Columns of the table of a nest, one row a position. 0 to 7: steps of each loop, 1 for those that are listed.
# Then by operand: steps of the loops that it does not depend on; of those that it does; the loops inside of
# the innermost that it depends on and that has steps, a bit each; steps of the others among the first. Then
# the loops that have steps, a bit each; the innermost that inputs depend on; the level whose loops these are,
# -1 for an axis; whether one read serves an axis.
_SAME, _ON, _INSIDE, _FRESH, _MOVED, _STOP, _LEVEL, _SERVED = 8, 11, 14, 17, 20, 21, 22, 23
_COLUMNS = 24


@njit
def new_work(levels: int, axis_level: Any, multicast: Any) -> Any:
    """Scratch of the counts on a machine: extents, each level's position, the nest's table, the chains."""
    top = levels + axis_level.shape[0]
    rows, columns = top + 2, 2 * top + 2
    ext, place = np.zeros((top + 1, 8), np.int64), np.zeros(levels, np.int64)
    table, chains = np.zeros((top, _COLUMNS), np.int64), np.zeros((9, rows, columns), np.int64)
    p = 0
    for level in range(levels):
        for a in range(axis_level.shape[0]):
            if axis_level[a] == level:
                table[p, _LEVEL], table[p, _SERVED] = -1, int(multicast[a] > 0)
                p += 1
        table[p, _LEVEL] = level
        place[level] = p
        p += 1
    return ext, place, table, chains


@njit
def fill_extents(tiles: Any, counts: Any, axis_level: Any, ext: Any) -> None:
    """Nothing; fills the extents below each position."""
    p = 0
    for d in range(8):
        ext[0, d] = 1
    for level in range(tiles.shape[0]):
        for a in range(axis_level.shape[0]):
            if axis_level[a] == level:
                for d in range(8):
                    ext[p + 1, d] = min(tiles[level, d], ext[p, d] * counts[a, d])
                p += 1
        for d in range(8):
            ext[p + 1, d] = tiles[level, d]
        p += 1


@njit
def distinct(a: int, f: int, stride: int, dilation: int) -> int:
    """Input rows that `a` output rows and `f` filter rows take; stride and dilation without common divisor.

    Of the a·f sums stride·i + dilation·j, (i, j) and (i + dilation, j − stride) are the same.
    """
    return int(a * f - max(0, a - dilation) * max(0, f - stride))


@njit(error_model="numpy")
def survey(orders: Any, shape: Any, slides: bool, work: Any) -> int:
    """The loops that are listed, a bit each; fills the table and the chains of these from the extents.

    Listed are loops with an extent that does not divide the next, and the other loop of a picture's axis with
    one; with `slides`, all loops of windows that may slide.
    """
    ext, _, table, chains = work
    top = table.shape[0]
    listed = 0
    for p in range(top):
        moved = 0
        for d in range(8):
            above, below = ext[p + 1, d], ext[p, d]
            # Exact where it divides: the product tells, however large they are.
            n = int(float(above) / float(below))
            table[p, d] = n
            moved |= int(above != below) << d
            listed |= int(n * below != above) << d
        table[p, _MOVED] = moved
    if listed or slides:
        for axis in range(2):
            pair = 1 << (_OY + axis) | 1 << (_FY + axis)
            windows = slides and shape[_OY + axis] > 1 and shape[_FY + axis] > 1
            if windows or listed & pair:
                listed |= pair
        for d in range(8):
            if (listed >> d) & 1:
                cut_chain(ext, d, top, chains[d])
                for p in range(top):
                    table[p, d] = 1
    for p in range(top):
        row = table[p]
        w, i, o = row[_B] * row[_OY] * row[_OX], row[_K], row[_C] * row[_FY] * row[_FX]
        row[_SAME], row[_SAME + 1], row[_SAME + 2] = w, i, o
        row[_ON], row[_ON + 1], row[_ON + 2] = i * o * row[_G], w * o * row[_G], w * i * row[_G]
        if row[_LEVEL] < 0:
            continue
        order, moved = orders[row[_LEVEL]], row[_MOVED]
        in_w = in_i = in_o = 0
        open_w = open_i = open_o = 255
        stop = -1
        for j in range(7, -1, -1):
            d = order[j]
            bit = 1 << d
            hit = bit & moved
            stop = d if hit & _ON_I & open_i else stop
            open_w = 0 if hit & _ON_W else open_w
            open_i = 0 if hit & _ON_I else open_i
            open_o = 0 if hit & _ON_O else open_o
            in_w |= bit & open_w
            in_i |= bit & open_i
            in_o |= bit & open_o
        row[_INSIDE], row[_INSIDE + 1], row[_INSIDE + 2], row[_STOP] = in_w, in_i, in_o, stop
        fresh = row[_B] if not in_w & 1 << _B else 1
        fresh *= row[_OY] if not in_w & 1 << _OY else 1
        row[_FRESH] = fresh * (row[_OX] if not in_w & 1 << _OX else 1)
        row[_FRESH + 1] = row[_K] if not in_i & 1 << _K else 1
        fresh = row[_C] if not in_o & 1 << _C else 1
        fresh *= row[_FY] if not in_o & 1 << _FY else 1
        row[_FRESH + 2] = fresh * (row[_FX] if not in_o & 1 << _FX else 1)
    return listed


@njit
def _unlisted(ext: Any, p: int, d: int, listed: int) -> int:
    return 1 if (listed >> d) & 1 else int(ext[p, d])


@njit
def _tile(x: int, low: int, listed: int, ext: Any, shape: Any) -> int:
    """Values of a whole tile below `low`, listed loops left aside."""
    size = _unlisted(ext, low, _G, listed)
    if x != _O:
        size *= _unlisted(ext, low, _C, listed)
    if x != _I:
        size *= _unlisted(ext, low, _K, listed)
    if x == _W:
        return size * _unlisted(ext, low, _FY, listed) * _unlisted(ext, low, _FX, listed)
    size *= _unlisted(ext, low, _B, listed)
    if x == _O:
        return size * _unlisted(ext, low, _OY, listed) * _unlisted(ext, low, _OX, listed)
    for axis in range(2):
        if not (listed >> (_OY + axis)) & 1:
            size *= distinct(
                ext[low, _OY + axis], ext[low, _FY + axis], shape[_SY + axis], shape[_DY + axis]
            )
    return int(size)


@njit
def _window(
    axis: int, low: int, skip: int, slide: int, at: int, shape: Any, chains: Any, ext: Any
) -> int:
    """Input rows of all tiles along one axis of the picture; `slide` is the loop that slides, at `at`.

    Rows are a·f − (a − dilation)⁺·(f − stride)⁺: each term is a product of a sum a loop. The rows that are
    new while a loop slides are in the same way linear in those of the other loop.
    """
    out, tap = _OY + axis, _FY + axis
    stride, dilation, sums = shape[_SY + axis], shape[_DY + axis], chains[8, 0]
    outs = taps = low
    tile_out = tile_tap = 0
    if slide == out:
        outs, tile_out = at + 1, ext[low, out]
    elif slide == tap:
        taps, tile_tap = at + 1, ext[low, tap]
    a = sum_tiles(chains[out], outs, skip, 0, 0, sums)
    f = sum_tiles(chains[tap], taps, skip, 0, 0, sums)
    again = sum_tiles(chains[tap], taps, skip, stride, tile_tap, sums)
    if again:
        again *= sum_tiles(chains[out], outs, skip, dilation, tile_out, sums)
    return int(a * f - again)


@njit
def count_move(
    x: int, low: int, high: int, listed: int, sliding: bool, shares: bool, shape: Any, work: Any, row: Any
) -> None:
    """Nothing; fills `row` with the counts of a move, after `survey`.

    Args:
        x: the operand.
        low: the position above the tile; 0 for what the PEs take.
        high: the position of the loops of the level that the tile comes from.
        listed: as `survey` says.
        sliding: whether the level keeps what consecutive tiles share.
        shares: whether the busiest instances' counts are wanted.
        shape: extents, then strides and dilations over their common divisors.
        work: as `new_work` makes it.
    """
    ext, _, table, chains = work
    top = table.shape[0]
    depends = _ON_W if x == _W else _ON_I if x == _I else _ON_O
    held = inside = steps_at = between = above = served = 0  # positions (and loops), a bit each
    at = -1
    # Steps of temporal loops that x depends on; of those that it does not, but is fetched for.
    steps = kept = 1
    on_between = on_above = same_between = same_above = apart = 1
    running = low > 0  # what a PE takes it takes anew each cycle
    for p in range(low, top):
        same, on = table[p, _SAME + x], table[p, _ON + x]
        if table[p, _LEVEL] < 0:
            if p <= high:
                between |= 1 << p
                on_between *= on
                same_between *= same
                if x == _O or table[p, _SERVED]:
                    served |= 1 << p
                else:
                    apart *= same
            else:
                above |= 1 << p
                on_above *= on
                same_above *= same
            continue
        steps_at |= 1 << p
        steps *= on
        if running:
            if not table[p, _MOVED] & depends:
                held |= 1 << p
                continue
            running, at = False, p
            inside, same = table[p, _INSIDE + x], table[p, _FRESH + x]
        kept *= same
    own = _tile(x, low, listed, ext, shape) * steps
    parent, whole = own * on_between * apart, own * on_between * on_above * same_above
    row[VISIT_CHILD] = whole * same_between * kept
    row[VISIT_PARENT] = whole * apart * kept
    row[VISIT_SHARE_CHILD] = own * kept
    row[VISIT_SHARE_PARENT] = parent * kept
    row[FIRST_CHILD] = row[FIRST_PARENT] = row[FIRST_SHARE_CHILD] = row[FIRST_SHARE_PARENT] = 0
    if x == _O:
        row[FIRST_CHILD], row[FIRST_PARENT] = whole * same_between, whole * apart
        row[FIRST_SHARE_CHILD], row[FIRST_SHARE_PARENT] = own, parent
    if listed:
        _count_listed(
            x, low, listed, depends, held, inside, at, steps_at, between, above, served, sliding, shares,
            shape, work, row,
        )  # fmt: skip


@njit
def _count_listed(
    x: int, low: int, listed: int, depends: int, held: int, inside: int, at: int, steps_at: int,
    between: int, above: int, served: int, sliding: bool, shares: bool, shape: Any, work: Any, row: Any,
) -> None:  # fmt: skip
    """Nothing; multiplies the counts of a move by what the listed loops add.

    `held` has the positions over which the tile stays whatever the loop, `at` that over which it stays for
    the loops `inside` alone; `steps_at`, `between`, `above` and `served` those of loops, of axes below and
    above the level that the tile comes from, and of those that one read serves.
    """
    ext, _, table, chains = work
    top, last, sums = table.shape[0], chains.shape[1] - 1, chains[8, 0]
    axes = between | above
    if x == _I:
        slide = -1
        if sliding and at >= 0:
            d = table[at, _STOP]
            # A window slides by its own extent: no axis may lie between.
            if d >= _OY and ext[at, d] == ext[low, d]:
                slide = d
        for axis in range(2):
            if not (listed >> (_OY + axis)) & 1:
                continue
            bits = chains[_OY + axis, last, 1] | chains[_FY + axis, last, 1]
            visits = _window(axis, low, 0, slide, at, shape, chains, ext)
            row[VISIT_CHILD] *= visits
            row[VISIT_PARENT] *= visits
            if shares:
                child = visits if not bits & axes else _window(axis, low, axes, slide, at, shape, chains, ext)
                row[VISIT_SHARE_CHILD] *= child
                if bits & above != bits & axes:
                    child = (
                        visits if not bits & above else _window(axis, low, above, slide, at, shape, chains, ext)
                    )
                row[VISIT_SHARE_PARENT] *= child
        listed &= 15
    for d in range(8):
        if not (listed >> d) & 1 or ext[low, d] == ext[top, d] == 1:
            continue
        chain = chains[d]
        bits = chain[last, 1] >> low << low
        if (depends >> d) & 1:
            visits = ext[top, d]
            child = parent = visits
            if shares:
                if bits & axes:
                    child = sum_tiles(chain, low, bits & axes, 0, 0, sums)
                if bits & above:
                    parent = child
                    if bits & between:
                        parent = sum_tiles(chain, low, bits & above, 0, 0, sums)
            row[VISIT_CHILD] *= visits
            row[VISIT_PARENT] *= visits
            row[VISIT_SHARE_CHILD] *= child
            row[VISIT_SHARE_PARENT] *= parent
            if x == _O:
                row[FIRST_CHILD] *= visits
                row[FIRST_PARENT] *= visits
                row[FIRST_SHARE_CHILD] *= child
                row[FIRST_SHARE_PARENT] *= parent
            continue
        if not bits:
            continue
        stays = held | 1 << at if at >= 0 and (inside >> d) & 1 else held
        stays &= bits
        visits = sum_tiles(chain, low, stays, -1, 0, sums)
        row[VISIT_CHILD] *= visits
        skip = stays | served & bits
        seen = visits if skip == stays else sum_tiles(chain, low, skip, -1, 0, sums)
        row[VISIT_PARENT] *= seen
        if shares:
            alone = stays | axes & bits
            child = visits if alone == stays else sum_tiles(chain, low, alone, -1, 0, sums)
            row[VISIT_SHARE_CHILD] *= child
            alone = skip | above & bits
            row[VISIT_SHARE_PARENT] *= seen if alone == skip else sum_tiles(chain, low, alone, -1, 0, sums)
        if x == _O and bits & axes:
            # The first visits alone: loops count once, and all axes between are served.
            steps = steps_at & bits
            row[FIRST_CHILD] *= sum_tiles(chain, low, steps, -1, 0, sums)
            if bits & above:
                row[FIRST_PARENT] *= sum_tiles(chain, low, steps | between & bits, -1, 0, sums)


@njit
def count_all(
    tiles: Any, counts: Any, orders: Any, keep: Any, axis_level: Any, sliding: Any,
    shape: Any, shares: bool, work: Any, moves: Any,
) -> int:  # fmt: skip
    """Steps of the busiest PE; fills `moves`, shape (levels, 3, MOVES).

    Row c + 1 is what passes into level c, row 0 into the PEs; 0 where the operand passes a level by.
    """
    ext, place, table, chains = work
    n, top = tiles.shape[0], table.shape[0]
    fill_extents(tiles, counts, axis_level, ext)
    slides = False
    for level in range(n):
        slides = slides or sliding[level] > 0
    listed = survey(orders, shape, slides, work)
    for x in range(3):
        child = -1
        for level in range(n):
            if not keep[level, x]:
                if level + 1 < n:
                    moves[level + 1, x, :] = 0
                continue
            low = 0 if child < 0 else place[child] + 1
            count_move(
                x, low, place[level], listed, child >= 0 and sliding[child] > 0, shares, shape, work,
                moves[child + 1, x],
            )  # fmt: skip
            child = level
    steps, axes = 1, 0
    for p in range(top):
        if table[p, _LEVEL] < 0:
            axes |= 1 << p
        else:
            steps *= table[p, _SAME] * table[p, _ON]
    if listed:
        for d in range(8):
            if (listed >> d) & 1:
                steps *= sum_tiles(chains[d], 0, axes, -1, 0, chains[8, 0])
    return int(steps)
