"""Least cost inside a tile, for every tile at once: tables over the lattice of extents, built outwards.

Given which operand stays while the innermost loops of a level run, the values that pass into the level below
depend on the tile below alone, or on the tile above alone (docs/mapping.md, "Bounds"). So the least cost of
all that lies inside a tile is a running minimum over the smaller tiles of the lattice. Ragged pieces are
counted as if a tile cut the layer directly, which is never more than the nest pays: the tables are bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.jit import njit
from .access_kernel import distinct

__all__ = [
    "CLASSES",
    "STATES",
    "build_stage",
    "first_share",
    "least_visits",
    "move_least",
    "resolve_stage",
    "running_minimum",
    "visits_least",
    "window_least",
]

CLASSES = 6
"""Of a level's loops: 0, 1, 2: the innermost are those that W, I, O do not depend on, and some loop that it
depends on has steps; 3, 4, 5: none has, so the operand stays longer still (a level without loops is of all
three)."""
STATES = 4
"""What is still to pay: nothing; what passes of W, I or O into the level below."""

_W, _I, _O = range(3)
_B, _G, _K, _C, _OY, _OX, _FY, _FX = range(8)


@njit
def window_least(whole_out: int, whole_tap: int, out: int, tap: int, stride: int, dilation: int) -> int:
    """Input rows of all tiles where output rows are cut by `out`, filter rows by `tap`; no nest has fewer."""
    n, m = whole_out // out, whole_tap // tap
    r, q = whole_out - n * out, whole_tap - m * tap
    total = n * m * distinct(out, tap, stride, dilation)
    if r:
        total += m * distinct(r, tap, stride, dilation)
    if q:
        total += n * distinct(out, q, stride, dilation)
        if r:
            total += distinct(r, q, stride, dilation)
    return int(total)


@njit
def visits_least(x: int, shape: Any, u: Any, slides: bool, kind: int) -> float:
    """Values of operand x in all tiles u, each fetched anew, or slid along the best loop of a class."""
    if x != _I:
        total = 1.0
        for d in range(8):
            apart = d in (_B, _OY, _OX) if x == _W else d in (_C, _FY, _FX)
            if apart:
                total *= -(-shape[d] // u[d])
            elif x == _O or d not in (_B, _OY, _OX):
                total *= shape[d]
        return float(total)
    y = window_least(shape[_OY], shape[_FY], u[_OY], u[_FY], shape[8], shape[10])
    z = window_least(shape[_OX], shape[_FX], u[_OX], u[_FX], shape[9], shape[11])
    best = float(y) * float(z)
    if slides:
        if kind in (_W, _I, 3, 4):
            y2 = window_least(shape[_OY], shape[_FY], shape[_OY], u[_FY], shape[8], shape[10])
            z2 = window_least(shape[_OX], shape[_FX], shape[_OX], u[_FX], shape[9], shape[11])
            best = min(best, float(y2) * float(z), float(y) * float(z2))
        if kind in (_I, _O, 4, 5):
            y2 = window_least(shape[_OY], shape[_FY], u[_OY], shape[_FY], shape[8], shape[10])
            z2 = window_least(shape[_OX], shape[_FX], u[_OX], shape[_FX], shape[9], shape[11])
            best = min(best, float(y2) * float(z), float(y) * float(z2))
    return float(best * float(shape[_B] * shape[_G] * shape[_C]) * -(-shape[_K] // u[_K]))


@njit
def fill_pieces(shape: Any, sizes: Any, count: Any, option: Any, wide: Any, pieces: Any, rows: Any) -> None:
    """Nothing; fills what each extent costs when `option` of it lie side by side.

    Args:
        shape, sizes, count: the layer and the lattice.
        option: instances along each loop.
        wide: by operand and loop, further instances that the operand's tiles are widened by.
        pieces: filled: pieces that a loop is cut into, shape (8, most); each for the operand that does not
            depend on the loop.
        rows: filled: input rows (0) and columns (1) of all tiles, shape (2, most, most), by output extent
            and filter extent.
    """
    for d in range(8):
        x = _W if d in (_B, _OY, _OX) else _I if d == _K else _O
        for j in range(count[d]):
            u = min(shape[d], option[d] * sizes[d, j] * wide[x, d])
            pieces[d, j] = -(-shape[d] // u)
    for axis in range(2):
        out, tap = _OY + axis, _FY + axis
        for i in range(count[out]):
            a = min(shape[out], option[out] * sizes[out, i] * wide[_I, out])
            for j in range(count[tap]):
                b = min(shape[tap], option[tap] * sizes[tap, j] * wide[_I, tap])
                rows[axis, i, j] = window_least(
                    shape[out], shape[tap], a, b, shape[8 + axis], shape[10 + axis]
                )


@njit
def _seen(
    at: Any, count: Any, whole: Any, base: float, pieces: Any, rows: Any, slides: bool, out: Any
) -> None:
    """Nothing; fills `out`, shape (3, 4): values that visit by operand and class of sliding.

    Class 0, 1, 2: of the loops above, as `CLASSES`; 3: none slides. `at`: the tile's indices; `base`: the
    inputs of a picture without its rows and columns.
    """
    w = whole[_W] * pieces[_B, at[_B]] * pieces[_OY, at[_OY]] * pieces[_OX, at[_OX]]
    o = whole[_O] * pieces[_C, at[_C]] * pieces[_FY, at[_FY]] * pieces[_FX, at[_FX]]
    y, z = rows[0, at[_OY], at[_FY]], rows[1, at[_OX], at[_FX]]
    i = base * pieces[_K, at[_K]]
    for kind in range(4):
        out[_W, kind], out[_O, kind], out[_I, kind] = w, o, i * y * z
    if slides:
        y2, z2 = rows[0, count[_OY] - 1, at[_FY]], rows[1, count[_OX] - 1, at[_FX]]
        y3, z3 = rows[0, at[_OY], count[_FY] - 1], rows[1, at[_OX], count[_FX] - 1]
        outs, taps = min(y * z, y2 * z, y * z2), min(y * z, y3 * z, y * z3)
        out[_I, 0], out[_I, 1], out[_I, 2] = i * outs, i * min(outs, taps), i * taps


# Columns of `coefs`, one row a level and operand: picojoules of a value that visits, at the level and at the
# level that it comes from; of an output's last visit at both.
NEAR, FAR, NEAR_LAST, FAR_LAST = range(4)


@njit
def move_least(
    x: int, visits_near: float, visits_far: float, own_near: float, own_far: float, coef: Any, end: float
) -> float:
    """Cost of a move: visits times `own`, the instances that share a value; `end` of them are last ones."""
    if x < 2:
        return float(own_near * visits_near * coef[NEAR] + own_far * visits_far * coef[FAR])
    near, far = own_near * (visits_near - end), own_far * (visits_far - end)
    return float(
        near * coef[NEAR] + far * coef[FAR] + end * (own_near * coef[NEAR_LAST] + own_far * coef[FAR_LAST])
    )


@njit
def first_share(length: int, tile: int, many: int) -> int:
    """Values of a loop that the first of `many` instances takes: of each `many` tiles the first.

    No nest gives it fewer: of all stretches of a length, one that starts with its tile has the most of them.
    """
    turns = length // (tile * many)
    return int(turns * tile + min(tile, length - turns * tile * many))


@njit
def build_stage(
    cells: Any, coords: Any, sizes: Any, strides: Any, count: Any, shape: Any, options: Any,
    shared: Any, wide: Any, coef: Any, kept: Any, slides: bool, inner: Any, whole: Any, floor: Any,
    extra: Any, pending: Any, wide_inner: Any, slides_inner: bool, span: Any, others: Any,
    table: Any, bases: Any,
) -> None:  # fmt: skip
    """Nothing; lowers `table` to the least cost of what is inside each tile that the axes above a level make.

    Args:
        cells: the level's legal tiles, as lattice cells.
        coords: indices of every cell, shape (cells, 8).
        sizes: extents by loop and index, shape (8, most).
        strides: of a cell's number, by loop.
        count: extents a loop has, by loop.
        shape: as `access_kernel` takes it.
        options: what the axes above the level may unroll, shape (options, 8).
        shared: by option and operand, instances that get the same value, and those that are read apart.
        wide: by operand and loop, what axes further out may serve with the same read, shape (3, 8).
        coef: prices of the moves into the level, shape (3, 4).
        kept: whether the level holds an operand.
        slides: whether it keeps what windows share.
        inner: costs inside the level's tile by state, shape (cells, STATES).
        whole: values of each operand.
        floor: values of each operand that visit at the least while it stays over the loops above.
        extra: by option, what the PEs take through its axes, at the least.
        pending: prices (near, far) of a visit of what is still to pay into the level below, shape (3, 2).
        wide_inner: `wide` of the level below.
        slides_inner: `slides` of the level below.
        span: steps of a PE, above which and up to which a tile on its axes counts.
        others: by loop, instances along axes below other levels at the most.
        table: shape (cells, CLASSES).
        bases: filled: the least of each option and tile, whatever the loops above, shape (options, cells).
    """
    most = sizes.shape[1]
    low, high = np.empty(8, np.int64), np.empty(8, np.int64)
    at, walk = np.empty(8, np.int64), np.empty(8, np.int64)
    lows, highs = np.empty((8, most), np.int64), np.empty((8, most), np.int64)
    pieces, rows = np.empty((4, 8, most)), np.empty((4, 2, most, most))
    first = np.empty((8, most))
    near, far = np.empty((3, 4)), np.empty((3, 4))
    near_in, far_in = np.empty((3, 4)), np.empty((3, 4))
    now, stay, due = np.zeros((3, 4)), np.empty(3), np.zeros((3, 4))
    plain, ones = np.ones((3, 8), np.int64), np.ones(8, np.int64)
    base = float(shape[_B] * shape[_G] * shape[_C])
    widens, owing = False, False
    for x in range(3):
        owing = owing or pending[x, 0] + pending[x, 1] > 0
        for d in range(8):
            widens = widens or wide[x, d] > 1
    if owing:
        fill_pieces(shape, sizes, count, ones, plain, pieces[2], rows[2])
        fill_pieces(shape, sizes, count, ones, wide_inner, pieces[3], rows[3])
    for o in range(options.shape[0]):
        fill_pieces(shape, sizes, count, options[o], plain, pieces[0], rows[0])
        fill_pieces(shape, sizes, count, options[o], wide, pieces[1], rows[1])
        for d in range(8):
            for j in range(count[d]):
                need = max(sizes[d, j], (options[o, d] - 1) * sizes[d, j] + 1)
                lows[d, j] = -1
                first[d, j] = first_share(shape[d], sizes[d, j], options[o, d]) / others[d]
                if need > shape[d]:
                    continue
                k = j
                while sizes[d, k] < need:
                    k += 1
                lows[d, j] = k
                while k + 1 < count[d] and sizes[d, k + 1] <= options[o, d] * sizes[d, j]:
                    k += 1
                highs[d, j] = k
        for i in range(cells.shape[0]):
            cell = cells[i]
            bases[o, i] = np.inf
            fits, target, steps = True, 0, 1.0
            for d in range(8):
                j = coords[cell, d]
                steps *= max(1.0, first[d, j])
                at[d], low[d], high[d] = j, lows[d, j], highs[d, j]
                fits = fits and low[d] >= 0
                target += low[d] * strides[d]
            if not fits or steps <= span[0] or steps > span[1]:
                continue
            _seen(at, count, whole, base, pieces[0], rows[0], slides, near)
            if widens:
                _seen(at, count, whole, base, pieces[1], rows[1], slides, far)
            else:
                far[:] = near
            if owing:
                _seen(at, count, whole, base, pieces[2], rows[2], slides_inner, near_in)
                _seen(at, count, whole, base, pieces[3], rows[3], slides_inner, far_in)
            keys = (pieces[0, _K, at[_K]], pieces[1, _K, at[_K]])
            for x in range(3):
                stay[x] = 0.0
                end = whole[x] if x == _O else 0.0
                own, apart = shared[o, x, 0], shared[o, x, 1]
                for kind in range(4):
                    now[x, kind] = due[x, kind] = 0.0
                    if kept[x]:
                        v = far[x, kind] if x == _O else near[x, kind]
                        now[x, kind] = move_least(x, v, far[x, kind], own, apart, coef[x], end)
                    if owing:
                        v = far_in[x, kind] if x == _O else near_in[x, kind]
                        due[x, kind] = pending[x, 0] * (v - end) + pending[x, 1] * (far_in[x, kind] - end)
                if kept[x]:
                    f = floor[x]
                    stay[x] = move_least(x, f, f, own, apart, coef[x], end)
                    stay[x] -= move_least(x, f, f, 1.0, 1.0, coef[x], end)
            for kind in range(CLASSES):
                held = kind if kind < 3 else kind - 3
                slide = held
                total = inner[cell, 0]
                for s in range(1, STATES):
                    if inner[cell, s] < total:
                        cost = inner[cell, s]
                        for x in range(3):
                            if s == x + 1:
                                end = whole[x] if x == _O else 0.0
                                if held == x:
                                    cost += (pending[x, 0] + pending[x, 1]) * (whole[x] - end)
                                else:
                                    cost += due[x, slide]
                        total = min(total, cost)
                for x in range(3):
                    if held == x:
                        if kind == _I and x == _I and kept[x]:
                            total += move_least(
                                x, near[x, kind] / keys[0], far[x, kind] / keys[1],
                                shared[o, x, 0], shared[o, x, 1], coef[x], 0.0,
                            )  # fmt: skip
                        else:
                            total += stay[x]
                            if kind > 2 and x == _O and kept[x]:
                                total += whole[x] * (coef[x, NEAR_LAST] + coef[x, FAR_LAST])
                    else:
                        total += now[x, slide]
                _scatter(kind, total + extra[o], target, low, high, walk, strides, options[o], table)
                if kind < 3 and kept[kind] and kind != _I:
                    end = whole[kind] if kind == _O else 0.0
                    total += move_least(kind, floor[kind], floor[kind], 1.0, 1.0, coef[kind], end)
                bases[o, i] = min(bases[o, i], total + extra[o])


@njit
def sizes_of(sizes: Any, coords: Any, cell: int, out: Any) -> Any:
    """`out`, filled with the extents of a cell."""
    for d in range(8):
        out[d] = sizes[d, coords[cell, d]]
    return out


@njit
def _equal(kind: int, d: int) -> bool:
    """Whether a level of this class has no steps of loop d."""
    if kind == 3:
        return d not in (_B, _OY, _OX)
    if kind == 4:
        return d != _K
    if kind == 5:
        return d not in (_C, _FY, _FX)
    return False


@njit
def _scatter(
    kind: int, value: float, target: int, low: Any, high: Any, at: Any, strides: Any, option: Any, table: Any
) -> None:
    """Nothing; lowers the least tiles above that these ones fit into (all where loops may have no steps)."""
    table[target, kind] = min(table[target, kind], value)
    if kind < 3:
        return
    for d in range(8):
        at[d] = low[d]
    while True:
        d = 7
        while d >= 0:
            if option[d] > 1 and _equal(kind, d) and at[d] < high[d]:
                at[d] += 1
                break
            at[d] = low[d]
            d -= 1
        if d < 0:
            return
        cell = 0
        for j in range(8):
            cell += at[j] * strides[j]
        table[cell, kind] = min(table[cell, kind], value)


@njit
def running_minimum(table: Any, coords: Any, strides: Any) -> None:
    """Nothing; makes each entry the least of the smaller tiles, along the loops that may have steps."""
    for d in range(8):
        step = strides[d]
        for cell in range(table.shape[0]):
            if coords[cell, d]:
                for kind in range(CLASSES):
                    if not _equal(kind, d) and table[cell - step, kind] < table[cell, kind]:
                        table[cell, kind] = table[cell - step, kind]


@njit
def resolve_stage(
    coords: Any, sizes: Any, count: Any, shape: Any, wide: Any, coef: Any, kept: Any, slides: bool,
    cells: Any, whole: Any, table: Any, inner: Any,
) -> None:  # fmt: skip
    """Nothing; fills `inner` of the level above: least costs inside its tiles by state, from the table."""
    most = sizes.shape[1]
    pieces, rows = np.empty((2, 8, most)), np.empty((2, 2, most, most))
    near, far, ones = np.empty((3, 4)), np.empty((3, 4)), np.ones(8, np.int64)
    fill_pieces(shape, sizes, count, ones, np.ones((3, 8), np.int64), pieces[0], rows[0])
    fill_pieces(shape, sizes, count, ones, wide, pieces[1], rows[1])
    base = float(shape[_B] * shape[_G] * shape[_C])
    for i in range(cells.shape[0]):
        cell = cells[i]
        at = coords[cell]
        _seen(at, count, whole, base, pieces[0], rows[0], slides, near)
        _seen(at, count, whole, base, pieces[1], rows[1], slides, far)
        best = np.inf
        for x in range(3):
            cost = table[cell, x]
            if cost < np.inf and kept[x]:
                v, w = near[x, x], far[x, x]
                if x == _I:
                    # Its products with the tile below are split: n·y ≥ y + (n − 1)·y(above).
                    v -= v / pieces[0, _K, at[_K]]
                    w -= w / pieces[1, _K, at[_K]]
                    cost += move_least(x, v, w, 1.0, 1.0, coef[x], 0.0)
                else:
                    end = whole[x] if x == _O else 0.0
                    cost += move_least(x, w if x == _O else v, w, 1.0, 1.0, coef[x], end)
            best = min(best, cost)
            inner[cell, x + 1] = table[cell, x + 3]
        inner[cell, 0] = best


@njit
def least_visits(
    cells: Any,
    coords: Any,
    sizes: Any,
    count: Any,
    shape: Any,
    wide: Any,
    slides: bool,
    whole: Any,
    found: Any,
) -> None:
    """Nothing; fills the values of each operand that visit at the least while it stays over these tiles."""
    most = sizes.shape[1]
    pieces, rows, seen = np.empty((8, most)), np.empty((2, most, most)), np.empty((3, 4))
    fill_pieces(shape, sizes, count, np.ones(8, np.int64), wide, pieces, rows)
    base = float(shape[_B] * shape[_G] * shape[_C])
    found[:] = np.inf
    for i in range(cells.shape[0]):
        _seen(coords[cells[i]], count, whole, base, pieces, rows, slides, seen)
        for x in range(3):
            found[x] = min(found[x], seen[x, x])
