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
    "count_operand",
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
    """Scratch of the counts on a machine: extents, the nest's table, the chains of its loops."""
    top = levels + axis_level.shape[0]
    ext, table = np.zeros((top + 1, 8), np.int64), np.zeros((top, _COLUMNS), np.int64)
    rows, columns = chain_width(top)
    chains = np.zeros((9, rows, columns), np.int64)
    p = 0
    for level in range(levels):
        for a in range(axis_level.shape[0]):
            if axis_level[a] == level:
                table[p, _LEVEL], table[p, _SERVED] = -1, int(multicast[a] > 0)
                p += 1
        table[p, _LEVEL] = level
        p += 1
    return ext, table, chains


@njit(forceinline=True)
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


@njit(forceinline=True)
def distinct(a: int, f: int, stride: int, dilation: int) -> int:
    """Input rows that `a` output rows and `f` filter rows take; stride and dilation without common divisor.

    Of the a·f sums stride·i + dilation·j, (i, j) and (i + dilation, j − stride) are the same.
    """
    return int(a * f - max(0, a - dilation) * max(0, f - stride))


@njit(error_model="numpy", forceinline=True)
def survey(orders: Any, shape: Any, slides: bool, ext: Any, table: Any, chains: Any) -> int:
    """The loops that are listed, a bit each; fills the table and the chains of these from the extents.

    Listed are loops with an extent that does not divide the next, and the other loop of a picture's axis with
    one; with `slides`, all loops of windows that may slide.
    """
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
                cut_chain(ext, d, chains)
                for p in range(top):
                    table[p, d] = 1
    for p in range(top):
        w, i, o = (
            table[p, _B] * table[p, _OY] * table[p, _OX],
            table[p, _K],
            table[p, _C] * table[p, _FY] * table[p, _FX],
        )
        table[p, _SAME], table[p, _SAME + 1], table[p, _SAME + 2] = w, i, o
        table[p, _ON], table[p, _ON + 1], table[p, _ON + 2] = (
            i * o * table[p, _G],
            w * o * table[p, _G],
            w * i * table[p, _G],
        )
        if table[p, _LEVEL] < 0:
            continue
        level, moved = table[p, _LEVEL], table[p, _MOVED]
        in_w = in_i = in_o = 0
        open_w = open_i = open_o = 255
        stop = -1
        for j in range(7, -1, -1):
            d = orders[level, j]
            bit = 1 << d
            hit = bit & moved
            stop = d if hit & _ON_I & open_i else stop
            open_w = 0 if hit & _ON_W else open_w
            open_i = 0 if hit & _ON_I else open_i
            open_o = 0 if hit & _ON_O else open_o
            in_w |= bit & open_w
            in_i |= bit & open_i
            in_o |= bit & open_o
        table[p, _INSIDE], table[p, _INSIDE + 1], table[p, _INSIDE + 2], table[p, _STOP] = (
            in_w,
            in_i,
            in_o,
            stop,
        )
        fresh = table[p, _B] if not in_w & 1 << _B else 1
        fresh *= table[p, _OY] if not in_w & 1 << _OY else 1
        table[p, _FRESH] = fresh * (table[p, _OX] if not in_w & 1 << _OX else 1)
        table[p, _FRESH + 1] = table[p, _K] if not in_i & 1 << _K else 1
        fresh = table[p, _C] if not in_o & 1 << _C else 1
        fresh *= table[p, _FY] if not in_o & 1 << _FY else 1
        table[p, _FRESH + 2] = fresh * (table[p, _FX] if not in_o & 1 << _FX else 1)
    return listed


@njit(forceinline=True)
def _unlisted(ext: Any, p: int, d: int, listed: int) -> int:
    return 1 if (listed >> d) & 1 else int(ext[p, d])


@njit(forceinline=True)
def _tile(x: int, low: int, listed: int, ext: Any, shape: Any) -> int:
    """Values of a whole tile below `low`, listed loops left aside."""
    size: int = _unlisted(ext, low, _G, listed)
    if x != _O:
        size *= _unlisted(ext, low, _C, listed)
    if x != _I:
        size *= _unlisted(ext, low, _K, listed)
    if x == _W:
        size *= _unlisted(ext, low, _FY, listed) * _unlisted(ext, low, _FX, listed)
        return size
    size *= _unlisted(ext, low, _B, listed)
    if x == _O:
        size *= _unlisted(ext, low, _OY, listed) * _unlisted(ext, low, _OX, listed)
        return size
    for axis in range(2):
        if not (listed >> (_OY + axis)) & 1:
            size *= distinct(ext[low, _OY + axis], ext[low, _FY + axis], shape[_SY + axis], shape[_DY + axis])
    return int(size)


@njit
def _window(axis: int, low: int, skip: int, slide: int, at: int, shape: Any, chains: Any, ext: Any) -> int:
    """Input rows of all tiles along one axis of the picture; `slide` is the loop that slides, at `at`.

    Rows are a·f − (a − dilation)⁺·(f − stride)⁺: each term is a product of a sum a loop. The rows that are
    new while a loop slides are in the same way linear in those of the other loop.
    """
    out, tap = _OY + axis, _FY + axis
    stride, dilation = shape[_SY + axis], shape[_DY + axis]
    outs = taps = low
    tile_out = tile_tap = 0
    if slide == out:
        outs, tile_out = at + 1, ext[low, out]
    elif slide == tap:
        taps, tile_tap = at + 1, ext[low, tap]
    a = sum_tiles(chains, out, outs, skip, 0, 0)
    f = sum_tiles(chains, tap, taps, skip, 0, 0)
    again = sum_tiles(chains, tap, taps, skip, stride, tile_tap)
    if again:
        again *= sum_tiles(chains, out, outs, skip, dilation, tile_out)
    return int(a * f - again)


@njit
def _count_listed(
    x: int, low: int, listed: int, depends: int, held: int, at: int, steps_at: int, between: int,
    above: int, served: int, sliding: bool, shares: bool, shape: Any, ext: Any, table: Any, chains: Any,
    moves: Any, level: int,
) -> None:  # fmt: skip
    """Nothing; multiplies the counts of a move by what the listed loops add.

    `held` has the positions over which the tile stays whatever the loop, `at` that over which it stays for
    the loops inside of the one that ends it alone; `steps_at`, `between`, `above` and `served` those of
    loops, of axes below and above the level that the tile comes from, and of those that one read serves.
    """
    top, last = table.shape[0], chains.shape[1] - 1
    axes, row = between | above, moves[level, x]
    inside = table[at, _INSIDE + x] if at >= 0 else 0
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
                        visits
                        if not bits & above
                        else _window(axis, low, above, slide, at, shape, chains, ext)
                    )
                row[VISIT_SHARE_PARENT] *= child
        listed &= 15
    for d in range(8):
        if not (listed >> d) & 1 or ext[low, d] == ext[top, d] == 1:
            continue
        bits = chains[d, last, 1] >> low << low
        if (depends >> d) & 1:
            visits = ext[top, d]
            child = parent = visits
            if shares:
                if bits & axes:
                    child = sum_tiles(chains, d, low, bits & axes, 0, 0)
                if bits & above:
                    parent = child
                    if bits & between:
                        parent = sum_tiles(chains, d, low, bits & above, 0, 0)
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
        stays = held | 1 << at if (inside >> d) & 1 else held
        stays &= bits
        visits = sum_tiles(chains, d, low, stays, -1, 0)
        row[VISIT_CHILD] *= visits
        skip = stays | served & bits
        seen = visits if skip == stays else sum_tiles(chains, d, low, skip, -1, 0)
        row[VISIT_PARENT] *= seen
        if shares:
            alone = stays | axes & bits
            child = visits if alone == stays else sum_tiles(chains, d, low, alone, -1, 0)
            row[VISIT_SHARE_CHILD] *= child
            alone = skip | above & bits
            row[VISIT_SHARE_PARENT] *= seen if alone == skip else sum_tiles(chains, d, low, alone, -1, 0)
        if x == _O and bits & axes:
            # The first visits alone: loops count once, and all axes between are served.
            steps = steps_at & bits
            row[FIRST_CHILD] *= sum_tiles(chains, d, low, steps, -1, 0)
            if bits & above:
                row[FIRST_PARENT] *= sum_tiles(chains, d, low, steps | between & bits, -1, 0)


@njit(forceinline=True)
def count_operand(
    x: int, innermost: int, listed: int, keep: Any, sliding: Any, shares: bool, shape: Any,
    ext: Any, table: Any, chains: Any, moves: Any,
) -> None:  # fmt: skip
    """Nothing; fills `moves[:, x]` with the counts of an operand's moves, after `survey`.

    From the outermost level inwards, so that what lies outside a tile is multiplied once for all levels.

    Args:
        x: the operand.
        innermost: the last level whose row is wanted; -1 for those of the PEs, too.
        listed: as `survey` says.
        keep: whether a level holds an operand, shape (levels, 3); the outermost does.
        sliding: by level, whether it keeps what consecutive tiles share.
        shares: whether the busiest instances' counts are wanted.
        shape: extents, then strides and dilations over their common divisors.
        ext, table, chains: as `new_work` makes them.
        moves: filled: shape (levels, 3, MOVES).
    """
    depends = _ON_W if x == _W else _ON_I if x == _I else _ON_O
    n, p = keep.shape[0], table.shape[0]
    # Positions, a bit each: loops; those over which the tile stays; axes by where they lie.
    steps_at = held = between = above = served = 0
    at = -1
    # Steps of loops that x depends on; of those that it does not; of these, where it is fetched for them.
    steps = same_steps = kept = 1
    on_between = on_above = same_between = same_above = apart = 1
    for child in range(n - 1, innermost - 1, -1):
        if child < 0:  # what a PE takes it takes anew each cycle
            kept, held, at = same_steps, 0, -1
        if child < n - 1:
            if child >= 0 and not keep[child, x]:
                for j in range(MOVES):
                    moves[child + 1, x, j] = 0
            else:
                own = _tile(x, p, listed, ext, shape) * steps
                parent, whole = own * on_between * apart, own * on_between * on_above * same_above
                moves[child + 1, x, VISIT_CHILD] = whole * same_between * kept
                moves[child + 1, x, VISIT_PARENT] = whole * apart * kept
                moves[child + 1, x, VISIT_SHARE_CHILD] = own * kept
                moves[child + 1, x, VISIT_SHARE_PARENT] = parent * kept
                first = x == _O
                moves[child + 1, x, FIRST_CHILD] = whole * same_between if first else 0
                moves[child + 1, x, FIRST_PARENT] = whole * apart if first else 0
                moves[child + 1, x, FIRST_SHARE_CHILD] = own if first else 0
                moves[child + 1, x, FIRST_SHARE_PARENT] = parent if first else 0
                if listed:
                    _count_listed(
                        x, p, listed, depends, held, at, steps_at, between, above, served,
                        child >= 0 and sliding[child] > 0, shares, shape, ext, table, chains, moves,
                        child + 1,
                    )  # fmt: skip
                above |= between
                on_above *= on_between
                same_above *= same_between
                between = served = 0
                on_between = same_between = apart = 1
        if child <= innermost:
            break
        p -= 1
        same = table[p, _SAME + x]
        if table[p, _MOVED] & depends:
            kept, held, at = table[p, _FRESH + x] * same_steps, 0, p
        else:
            held |= 1 << p
        steps_at |= 1 << p
        steps *= table[p, _ON + x]
        same_steps *= same
        while p > 0 and table[p - 1, _LEVEL] < 0:
            p -= 1
            between |= 1 << p
            on_between *= table[p, _ON + x]
            same_between *= table[p, _SAME + x]
            if x == _O or table[p, _SERVED]:
                served |= 1 << p
            else:
                apart *= table[p, _SAME + x]


@njit(forceinline=True)
def count_all(
    tiles: Any, counts: Any, orders: Any, keep: Any, axis_level: Any, sliding: Any,
    shape: Any, shares: bool, ext: Any, table: Any, chains: Any, moves: Any,
) -> int:  # fmt: skip
    """Steps of the busiest PE; fills `moves`, shape (levels, 3, MOVES).

    Row c + 1 is what passes into level c, row 0 into the PEs; 0 where the operand passes a level by.
    """
    n, top = tiles.shape[0], table.shape[0]
    fill_extents(tiles, counts, axis_level, ext)
    slides = False
    for level in range(n):
        slides = slides or sliding[level] > 0
    listed = survey(orders, shape, slides, ext, table, chains)
    for x in range(3):
        count_operand(x, -1, listed, keep, sliding, shares, shape, ext, table, chains, moves)
    steps, axes = 1, 0
    for p in range(top):
        if table[p, _LEVEL] < 0:
            axes |= 1 << p
        else:
            steps *= table[p, _SAME] * table[p, _ON]
    if listed:
        for d in range(8):
            if (listed >> d) & 1:
                steps *= sum_tiles(chains, d, 0, axes, -1, 0)
    return int(steps)
