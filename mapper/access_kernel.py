"""How often each value moves: exact counts, bits, energy and cycles of a loop nest, ragged tiles included.

A nest is a chain of extents a loop: `ext[p, d]` values of loop d lie below position p. Positions run from
the PEs outwards: the axes below level 0, the loops of level 0, the axes below level 1, and so on. At each
position the extent above is cut into tiles of the extent below, the last of which may be smaller. Loops
are independent, so every count is a product of one count a loop; only the rows (and columns) of inputs join
two loops, output and filter row. docs/mapping.md states the rules.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.jit import njit

__all__ = [
    "FIRST_CHILD",
    "FIRST_PARENT",
    "FIRST_SHARE_CHILD",
    "FIRST_SHARE_PARENT",
    "MOVES",
    "PLACE",
    "VISIT_CHILD",
    "VISIT_PARENT",
    "VISIT_SHARE_CHILD",
    "VISIT_SHARE_PARENT",
    "cost_of",
    "count_all",
    "count_move",
    "count_steps",
    "evaluate_batch",
    "fill_extents",
    "tile_sizes",
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
_RAGGED = 16
"""Sizes that the tiles of one loop may have: one more than positions."""

_LACKING = (0, 3, 1, 2, 0, 0, 2, 2)
"""By loop: the operand that does not depend on it; 3 where all do."""

# Entries of `shape` after the eight extents: stride and dilation over their common divisor.
_SY, _SX, _DY, _DX = 8, 9, 10, 11


@njit
def _irrelevant(x: int, d: int) -> bool:
    """Whether operand x does not depend on loop d."""
    return _LACKING[d] == x


@njit
def fill_extents(tiles: Any, counts: Any, axis_level: Any, ext: Any, place: Any) -> int:
    """The number of positions; fills `ext` and `place`, the position of each level's loops."""
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
        place[level] = p
        p += 1
    return p


@njit
def tile_sizes(ext: Any, d: int, low: int, top: int, skip: int, sizes: Any, counts: Any) -> int:
    """How many sizes the tiles below position `low` have; fills `sizes` and `counts`, whole ones first.

    Of a position whose bit is set in `skip` only the first tile counts.
    """
    size, many, kinds = ext[top, d], 1, 1
    for p in range(top - 1, low - 1, -1):
        e = ext[p, d]
        if e == size and kinds == 1:
            continue
        left = 1
        if (skip >> p) & 1:
            for j in range(1, kinds):
                if sizes[j] >= e:
                    many += counts[j]
                else:
                    sizes[left], counts[left] = sizes[j], counts[j]
                    left += 1
        else:
            whole = size // e
            rest = size - whole * e
            total = many * whole
            for j in range(1, kinds):
                n = sizes[j] // e
                total += counts[j] * n
                r = sizes[j] - n * e
                if r:
                    sizes[left], counts[left] = r, counts[j]
                    left += 1
            if rest:
                sizes[left], counts[left] = rest, many
                left += 1
            many = total
        size, kinds = e, left
    sizes[0], counts[0] = size, many
    return kinds


@njit
def _tally(ext: Any, d: int, low: int, top: int, skip: int, values: bool, sizes: Any, counts: Any) -> int:
    """The number of tiles below `low` that are visited, or with `values` their summed sizes."""
    if values and skip == 0:
        return int(ext[top, d])
    kinds = tile_sizes(ext, d, low, top, skip, sizes, counts)
    total = 0
    for j in range(kinds):
        total += counts[j] * (sizes[j] if values else 1)
    return total


@njit
def distinct(a: int, f: int, stride: int, dilation: int) -> int:
    """Input rows that `a` output rows and `f` filter rows take; stride and dilation without common divisor.

    Of the a·f sums stride·i + dilation·j, (i, j) and (i + dilation, j − stride) are the same.
    """
    return int(a * f - max(0, a - dilation) * max(0, f - stride))


@njit
def _sweep(length: int, a: int, f: int, stride: int, dilation: int, filters: bool) -> int:
    """Input rows fetched while a tile slides over `length` by steps of its own extent.

    The first tile is fetched whole, of each later one what the one before did not have. `filters`: the loop
    over filter rows slides, a tile of `a` filter rows with `f` output rows.
    """
    if filters:
        stride, dilation = dilation, stride
    if length <= a:
        return int(distinct(length, f, stride, dilation))
    whole = length // a
    rest = length - whole * a
    one = distinct(a, f, stride, dilation)
    total = one + (whole - 1) * (distinct(2 * a, f, stride, dilation) - one)
    if rest:
        total += distinct(a + rest, f, stride, dilation) - one
    return int(total)


@njit
def _window(
    ext: Any, out: int, tap: int, stride: int, dilation: int,
    low: int, top: int, skip: int, slide: int, at: int, scratch: Any,
) -> int:  # fmt: skip
    """Input rows of all visited tiles along one axis of the picture: loops `out` and `tap` together.

    `slide` is the loop that slides, at position `at`, or −1.
    """
    slides = slide in (out, tap)
    main, other = (tap, out) if slide == tap else (out, tap)
    tile = ext[low, main]
    spans = tile_sizes(ext, main, at + 1 if slides else low, top, skip, scratch[0], scratch[1])
    others = tile_sizes(ext, other, low, top, skip, scratch[2], scratch[3])
    total = 0
    for i in range(spans):
        for j in range(others):
            if slides:
                rows = _sweep(scratch[0, i], tile, scratch[2, j], stride, dilation, slide == tap)
            else:
                rows = distinct(scratch[0, i], scratch[2, j], stride, dilation)
            total += scratch[1, i] * scratch[3, j] * rows
    return total


@njit
def _count(
    x: int, first: bool, low: int, top: int, held: Any, steps: int,
    irrelevant_axes: int, all_axes: int, slide: int, at: int, ext: Any, shape: Any, scratch: Any,
) -> int:  # fmt: skip
    """Values of operand x in all visited tiles below `low`.

    `held` has, by loop, the positions over which the tile stays; `irrelevant_axes` are skipped by the loops
    that x does not depend on, `all_axes` by all; `first`: of the first visits alone (`steps`: all loops).
    """
    total = 1
    for d in range(8):
        apart = _irrelevant(x, d)
        if (apart and ext[top, d] == ext[low, d]) or (x == _I and d >= _OY):
            continue
        skip = all_axes
        if apart:
            skip |= (steps if first else held[d]) | irrelevant_axes
        total *= _tally(ext, d, low, top, skip, not apart, scratch[0], scratch[1])
    if x == _I:
        for out in range(_OY, _FY):
            total *= _window(
                ext, out, out + 2, shape[out + 4], shape[out + 6], low, top, all_axes, slide, at, scratch
            )
    return total


@njit
def count_move(
    x: int, low: int, high: int, top: int, ext: Any, orders: Any, level_at: Any, axis_at: Any,
    multicast: Any, sliding: bool, shares: bool, shape: Any, scratch: Any, row: Any,
) -> None:  # fmt: skip
    """Nothing; fills `row` with the counts of a move.

    Args:
        x: the operand.
        low: the position above the tile; 0 for what the PEs take.
        high: the position of the loops of the level that the tile comes from.
        top: the number of positions.
        ext: extents, shape (top + 1, 8); those below `low` are not read.
        orders: loops of each level from the outer to the inner, shape (levels, 8).
        level_at: by position, its level where it has loops, else −1.
        axis_at: by position, its axis, else −1.
        multicast: by axis, whether one read serves all.
        sliding: whether the level keeps what consecutive tiles share.
        shares: whether the busiest instances' counts are wanted.
        shape: extents, then strides and dilations over their common divisors.
        scratch: int64, shape (5, 16) at least.
    """
    held = scratch[4]
    for d in range(8):
        held[d] = 0
    slide, at, steps = -1, -1, 0
    between, above, served = 0, 0, 0
    for p in range(low, top):
        if level_at[p] >= 0:
            steps |= 1 << p
            continue
        if p <= high:
            between |= 1 << p
            if multicast[axis_at[p]] or x == _O:
                served |= 1 << p
        else:
            above |= 1 << p
    if low:  # what a PE takes it takes anew each cycle
        running = True
        for p in range(low, top):
            if level_at[p] < 0:
                continue
            for j in range(7, -1, -1):
                d = orders[level_at[p], j]
                if ext[p + 1, d] == ext[p, d]:
                    continue
                if _irrelevant(x, d):
                    held[d] |= 1 << p
                    continue
                running = False
                # A window slides by its own extent: no axis may lie between.
                if x == _I and sliding and d >= _OY and ext[p, d] == ext[low, d]:
                    slide, at = d, p
                break
            if not running:
                break
    for j in range(MOVES if shares else VISIT_SHARE_CHILD):
        first, parent = (j & 2) > 0, (j & 1) > 0
        axes = 0
        if j >= VISIT_SHARE_CHILD:
            axes = above if parent else between | above
        if first and x != _O:
            row[j] = 0
        elif parent and served == 0 and (j < VISIT_SHARE_CHILD or between == 0):
            row[j] = row[j - 1]
        elif j >= VISIT_SHARE_CHILD and axes == 0:
            row[j] = row[j - 4]
        else:
            row[j] = _count(
                x, first, low, top, held, steps, served if parent else 0, axes, slide, at, ext, shape, scratch
            )


@njit
def _even_trips(ext: Any, top: int, trips: Any) -> bool:
    """Whether every extent divides the next; fills `trips`: steps of the loops that only W, I, O lack, and G.

    `trips` has shape (7, positions): products over (B, OY, OX), (K), (C, FY, FX), (G); then over the loops
    that W, I, O depend on.
    """
    for p in range(top):
        for group in range(4):
            trips[group, p] = 1
        for d in range(8):
            above, below = ext[p + 1, d], ext[p, d]
            if above == below:
                continue
            n = above // below
            if n * below != above:
                return False
            trips[_LACKING[d], p] *= n
        trips[4, p] = trips[1, p] * trips[2, p] * trips[3, p]
        trips[5, p] = trips[0, p] * trips[2, p] * trips[3, p]
        trips[6, p] = trips[0, p] * trips[1, p] * trips[3, p]
    return True


@njit
def _count_even(
    x: int, low: int, high: int, top: int, ext: Any, orders: Any, level_at: Any, axis_at: Any,
    multicast: Any, sliding: bool, shape: Any, trips: Any, row: Any,
) -> bool:  # fmt: skip
    """Whether `row` could be filled, as `count_move` would: where all divides and no window slides."""
    steps = kept = 1  # of temporal loops that x depends on; of those that it does not, but is fetched for
    rel_between = rel_above = same_between = same_above = apart = 1
    running = low > 0
    for p in range(low, top):
        irrelevant = trips[x, p]
        relevant = trips[4 + x, p]
        if level_at[p] < 0:
            if p <= high:
                rel_between *= relevant
                same_between *= irrelevant
                if x != _O and not multicast[axis_at[p]]:
                    apart *= irrelevant
            else:
                rel_above *= relevant
                same_above *= irrelevant
            continue
        steps *= relevant
        if running and relevant == 1:
            continue
        if running:
            running = False
            for j in range(7, -1, -1):
                d = orders[level_at[p], j]
                if ext[p + 1, d] == ext[p, d]:
                    continue
                if not _irrelevant(x, d):
                    if x == _I and sliding and d >= _OY and ext[p, d] == ext[low, d]:
                        return False
                    break
                irrelevant //= ext[p + 1, d] // ext[p, d]
        kept *= irrelevant
    e = ext[low]
    if x == _W:
        size = e[_G] * e[_K] * e[_C] * e[_FY] * e[_FX]
    elif x == _O:
        size = e[_B] * e[_G] * e[_K] * e[_OY] * e[_OX]
    else:
        size = e[_B] * e[_G] * e[_C] * distinct(e[_OY], e[_FY], shape[_SY], shape[_DY])
        size *= distinct(e[_OX], e[_FX], shape[_SX], shape[_DX])
    own = size * steps
    parent, whole = own * rel_between * apart, own * rel_between * rel_above * same_above
    row[VISIT_CHILD] = whole * same_between * kept
    row[VISIT_PARENT] = whole * apart * kept
    row[VISIT_SHARE_CHILD] = own * kept
    row[VISIT_SHARE_PARENT] = parent * kept
    if x == _O:
        row[FIRST_CHILD], row[FIRST_PARENT] = whole * same_between, whole * apart
        row[FIRST_SHARE_CHILD], row[FIRST_SHARE_PARENT] = own, parent
    else:
        row[FIRST_CHILD] = row[FIRST_PARENT] = 0
        row[FIRST_SHARE_CHILD] = row[FIRST_SHARE_PARENT] = 0
    return True


@njit
def count_steps(ext: Any, top: int, axes: int, scratch: Any) -> int:
    """Steps of the busiest PE, a product each; `axes` has the bits of the positions of axes."""
    total = 1
    for d in range(8):
        if ext[top, d] > 1:
            total *= _tally(ext, d, 0, top, axes, False, scratch[0], scratch[1])
    return total


@njit
def count_all(
    tiles: Any, counts: Any, orders: Any, keep: Any, axis_level: Any, multicast: Any, sliding: Any,
    shape: Any, shares: bool, ext: Any, place: Any, maps: Any, scratch: Any, moves: Any,
) -> int:  # fmt: skip
    """Steps of the busiest PE; fills `moves`, shape (levels, 3, MOVES).

    Row c + 1 is what passes into level c, row 0 into the PEs; 0 where the operand passes a level by.
    """
    n = tiles.shape[0]
    top = fill_extents(tiles, counts, axis_level, ext, place)
    level_at, axis_at = maps[0], maps[1]
    for p in range(top):
        level_at[p] = axis_at[p] = -1
    p = axes = 0
    for level in range(n):
        for a in range(axis_level.shape[0]):
            if axis_level[a] == level:
                axis_at[p] = a
                axes |= 1 << p
                p += 1
        level_at[p] = level
        p += 1
    trips = scratch[5:]
    even = _even_trips(ext, top, trips)
    for x in range(3):
        child = -1
        for level in range(n):
            if not keep[level, x]:
                if level + 1 < n:
                    moves[level + 1, x, :] = 0
                continue
            low = 0 if child < 0 else place[child] + 1
            slides = child >= 0 and sliding[child] > 0
            if not even or not _count_even(
                x, low, place[level], top, ext, orders, level_at, axis_at, multicast, slides, shape,
                trips, moves[child + 1, x],
            ):  # fmt: skip
                count_move(
                    x, low, place[level], top, ext, orders, level_at, axis_at, multicast, slides, shares,
                    shape, scratch, moves[child + 1, x],
                )  # fmt: skip
            child = level
    if not even:
        return int(count_steps(ext, top, axes, scratch))
    steps = 1
    for p in range(top):
        if level_at[p] >= 0:
            steps *= trips[0, p] * trips[4, p]
    return int(steps)


# Columns of `prices`, one row a level and operand: bits of a complete value and of a partial sum as they lie
# in the level; picojoules of a bit read and of a bit written; the level whose ports and energy it is, another
# one where the outermost level's operand lies on chip.
BITS, PARTIAL, READ, WRITE, PLACE = range(5)

# Columns of `ports`, one row a level: cycles of a bit read and of a bit written (0: no limit), whether both
# take turns, whether filling takes turns with use.
CYCLES_READ, CYCLES_WRITE, ONE_PORT, TURNS = range(4)


@njit
def cost_of(
    steps: int, macs: int, moves: Any, keep: Any, prices: Any, ports: Any, pe: Any, drains: bool,
    traffic: Any, cycles: Any, energy: Any,
) -> None:  # fmt: skip
    """Nothing; fills what a nest costs from its counts.

    Args:
        steps: of the busiest PE.
        macs: products of the layer.
        moves: as `count_all` fills them.
        keep: whether a level holds an operand, shape (levels, 3).
        prices: shape (levels, 3, 5).
        ports: shape (levels, 4).
        pe: cycles a step, picojoules a product.
        drains: whether results that leave a level cost its read energy.
        traffic: filled: bits (read down, filled, updated, drained), shape (levels, 3, 4).
        cycles: filled: latency, compute, then each level's read port, then each one's write port; shape
            (2 · levels + 2,).
        energy: filled: total, products, then each level's; shape (levels + 2,).
    """
    n = keep.shape[0]
    traffic[:] = 0.0
    cycles[:] = 0.0
    energy[:] = 0.0
    exposed = 0.0
    for child in range(-1, n - 1):
        inner_in = inner_out = outer_in = outer_out = 0.0
        for x in range(3):
            if child >= 0 and not keep[child, x]:
                continue
            parent = child + 1
            while not keep[parent, x]:
                parent += 1
            m = moves[child + 1, x]
            far = prices[parent, x]
            near = prices[child, x] if child >= 0 else far
            parent = int(far[PLACE])
            if x < 2:
                down, up, fill, drain = m[VISIT_PARENT] * far[BITS], 0.0, m[VISIT_CHILD] * near[BITS], 0.0
                s_down, s_up = m[VISIT_SHARE_PARENT] * far[BITS], 0.0
                s_fill, s_drain = m[VISIT_SHARE_CHILD] * near[BITS], 0.0
            else:
                # The PEs add to sums that are never complete; a level gives an output up once complete,
                # and each time before as a partial sum that comes back.
                done = far[BITS] if child >= 0 else far[PARTIAL]
                part = m[VISIT_PARENT] - m[FIRST_PARENT]
                down = part * far[PARTIAL]
                up = m[FIRST_PARENT] * done + part * far[PARTIAL]
                part = m[VISIT_CHILD] - m[FIRST_CHILD]
                fill = part * near[PARTIAL]
                drain = m[FIRST_CHILD] * done + part * near[PARTIAL]
                part = m[VISIT_SHARE_PARENT] - m[FIRST_SHARE_PARENT]
                s_down = part * far[PARTIAL]
                s_up = m[FIRST_SHARE_PARENT] * done + part * far[PARTIAL]
                part = m[VISIT_SHARE_CHILD] - m[FIRST_SHARE_CHILD]
                s_fill = part * near[PARTIAL]
                s_drain = m[FIRST_SHARE_CHILD] * done + part * near[PARTIAL]
            traffic[parent, x, 0] += down
            traffic[parent, x, 2] += up
            spent = down * far[READ] + up * far[WRITE]
            energy[parent + 2] += spent
            energy[0] += spent
            outer_in += s_up * ports[parent, CYCLES_WRITE]
            outer_out += s_down * ports[parent, CYCLES_READ]
            cycles[2 + parent] += s_down * ports[parent, CYCLES_READ]
            cycles[2 + n + parent] += s_up * ports[parent, CYCLES_WRITE]
            if child >= 0:
                traffic[child, x, 1] += fill
                traffic[child, x, 3] += drain
                spent = fill * near[WRITE] + (drain * near[READ] if drains else 0.0)
                energy[child + 2] += spent
                energy[0] += spent
                inner_in += s_fill * ports[child, CYCLES_WRITE]
                inner_out += s_drain * ports[child, CYCLES_READ]
                cycles[2 + child] += s_drain * ports[child, CYCLES_READ]
                cycles[2 + n + child] += s_fill * ports[child, CYCLES_WRITE]
        if child >= 0 and ports[child, TURNS] > 0:
            exposed += max(inner_in + inner_out, outer_in + outer_out)
    energy[1] = macs * pe[1]
    energy[0] += energy[1]
    cycles[1] = steps * pe[0]
    slowest = cycles[1]
    for level in range(n):
        reads, writes = cycles[2 + level], cycles[2 + n + level]
        slowest = max(slowest, reads + writes if ports[level, ONE_PORT] > 0 else max(reads, writes))
    cycles[0] = slowest + exposed


@njit
def evaluate_batch(
    tiles: Any, counts: Any, orders: Any, keep: Any, axis_level: Any, multicast: Any, sliding: Any,
    shape: Any, shares: bool, prices: Any, ports: Any, pe: Any, drains: bool,
    traffic: Any, cycles: Any, energy: Any,
) -> None:  # fmt: skip
    """Nothing; evaluates many nests of one layer, the arrays of nests and results with a first axis more.

    Every nest gets its exact latency, energy, and bits a level and operand.
    """
    n, axes = tiles.shape[1], counts.shape[1]
    ext = np.empty((n + axes + 1, 8), np.int64)
    place = np.empty(n, np.int64)
    maps = np.empty((2, n + axes), np.int64)
    scratch = np.empty((12, _RAGGED), np.int64)
    moves = np.empty((n, 3, MOVES), np.int64)
    macs = 1
    for d in range(8):
        macs *= shape[d]
    for i in range(tiles.shape[0]):
        steps = count_all(
            tiles[i], counts[i], orders[i], keep, axis_level, multicast, sliding, shape, shares,
            ext, place, maps, scratch, moves,
        )  # fmt: skip
        cost_of(steps, macs, moves, keep, prices, ports, pe, drains, traffic[i], cycles[i], energy[i])
