"""Steps of the search for the best nest: candidates below a tile by their bounds, then their exact costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..models.jit import njit
from .access_kernel import MOVES, count_all, count_operand, fill_extents, new_work, survey
from .cost_kernel import PLACE, cost_of
from .lattice_kernel import FAR, NEAR, STATES, first_share, move_least, visits_least

__all__ = [
    "BEST", "bound_candidates", "finish_below", "finish_candidates", "least_turns", "prune",
    "settle_candidates",
]  # fmt: skip

_W, _I, _O = range(3)
_K = 2

# Entries of `best`: energy and latency of the best nest so far, the objective (0 energy, 1 latency, then
# energy, 2 their product), the most cycles allowed, evaluations, nests found.
BEST = ("energy", "latency", "objective", "cap", "evaluated", "found")
_ENERGY, _LATENCY, _OBJECTIVE, _CAP, _EVALUATED, _FOUND = range(6)
_KINDS = 6
"""Sizes of tiles along a loop that are told apart; a nest has one more than levels that cut it."""
_SLACK = 1 - 1e-9
"""Bounds are sums in another order: a nest that is better by less than this share counts as equal."""


@njit
def prune(energy: float, latency: float, best: Any) -> bool:
    """Whether a nest of at least this energy and latency cannot be better than the best."""
    if latency > best[_CAP]:
        return True
    if best[_OBJECTIVE] == 0:
        return bool(energy >= best[_ENERGY] * _SLACK)
    if best[_OBJECTIVE] == 1:
        return bool(
            latency > best[_LATENCY] or (latency == best[_LATENCY] and energy >= best[_ENERGY] * _SLACK)
        )
    return bool(energy * latency >= best[_ENERGY] * best[_LATENCY] * _SLACK)


@njit
def _rank(energy: float, latency: float, best: Any) -> float:
    if best[_OBJECTIVE] == 2:
        return energy * latency
    return energy


@njit
def bound_candidates(
    pairs: Any, bases: Any, cells: Any, coords: Any, sizes: Any, shape: Any, options: Any, steps: Any,
    shared: Any, extra: Any, wide: Any, coef: Any, kept: Any, slides: bool, inner: Any, whole: Any,
    above: Any, full: Any, others: Any, share: float, spent: float, latency: float, best: Any,
    low: float, high: float, out_rank: Any, out: Any,
) -> int:  # fmt: skip
    """How many (axes, tile, stationary operand) below `above` may be better; fills `out` and their ranks.

    Args:
        pairs: option · tiles + tile, by rising `bases`, the least cost inside.
        bases: see `pairs`.
        cells, coords, sizes, shape, options, shared, extra, wide, coef, kept, slides, inner, whole: see
            `lattice_kernel.build_stage`.
        steps: by option, the least cycles of the PEs.
        above: extents of the tile around.
        full: by loop the sizes, and how often each, of the tiles `above` that the busiest PE works on.
        others: instances along axes further in at the most, by loop.
        share: cycles a step.
        spent: cost of all moves so far.
        latency: least cycles so far.
        best: see `BEST`.
        low, high: ranks that are wanted.
        out_rank, out: filled, as far as there is room; the count may be larger.
    """
    u, far, tile = np.empty(8, np.int64), np.empty(8, np.int64), np.empty(8, np.int64)
    found = 0
    cost = np.empty((3, 3))
    soonest = latency
    if steps.shape[0]:
        soonest = max(latency, steps.min())
    for j in range(pairs.shape[0]):
        if prune(spent + bases[j], soonest, best) or _rank(spent + bases[j], soonest, best) >= high:
            break
        o, cell = pairs[j] // cells.shape[0], cells[pairs[j] % cells.shape[0]]
        slowest = max(latency, steps[o])
        if prune(spent + bases[j], slowest, best):
            continue
        least = np.inf
        for s in range(STATES):
            least = min(least, extra[o] + inner[cell, s])
        fits, turns = True, 1.0
        for d in range(8):
            size = sizes[d, coords[cell, d]]
            if size > above[d] or (options[o, d] - 1) * size >= above[d]:
                fits = False
                break
            tile[d] = size
            u[d] = min(above[d], options[o, d] * size)
            turn = 0
            for k in range(_KINDS):
                if full[d, 1, k] == 0:
                    break
                turn += full[d, 1, k] * first_share(full[d, 0, k], size, options[o, d])
            turns *= max(1.0, turn / others[d])
        if not fits:
            continue
        slowest = max(slowest, math.ceil(turns * share - 1e-9))
        if prune(spent + bases[j], slowest, best):
            continue
        for x in range(3):
            own, apart = shared[o, x, 0], shared[o, x, 1]
            end = whole[x] if x == _O else 0.0
            still = True
            for d in range(8):
                far[d] = min(shape[d], u[d] * wide[x, d])
                irrelevant = (
                    (x == _W and d in (0, 4, 5)) or (x == _I and d == 2) or (x == _O and d in (3, 6, 7))
                )
                still = still and (irrelevant or u[d] == above[d])
            for kind in range(3):
                cost[x, kind] = 0.0
                if not kept[x]:
                    continue
                if still:
                    cost[x, kind] = move_least(x, whole[x], whole[x], own, apart, coef[x], end)
                    continue
                if x not in (_I, kind) and kind > 0 and not (x == _W and kind == 1):
                    cost[x, kind] = cost[x, 0 if x == _O else 1]
                    continue
                if kind == x:
                    if x == _I:
                        near = visits_least(x, shape, u, slides, kind) / -(-shape[_K] // u[_K])
                        near *= -(-shape[_K] // above[_K])
                        v = visits_least(x, shape, far, slides, kind) / -(-shape[_K] // far[_K])
                        v *= -(-shape[_K] // min(shape[_K], above[_K] * wide[x, _K]))
                    else:
                        near = visits_least(x, shape, above, slides, kind)
                        for d in range(8):
                            far[d] = min(shape[d], above[d] * wide[x, d])
                        v = visits_least(x, shape, far, slides, kind)
                        for d in range(8):
                            far[d] = min(shape[d], u[d] * wide[x, d])
                else:
                    near = visits_least(x, shape, u, slides, kind)
                    v = visits_least(x, shape, far, slides, kind)
                cost[x, kind] = move_least(x, v if x == _O else near, v, own, apart, coef[x], end)
        for kind in range(3):
            total = spent + max(bases[j], least + cost[0, kind] + cost[1, kind] + cost[2, kind])
            if prune(total, slowest, best):
                continue
            rank = _rank(total, slowest, best)
            if low <= rank < high:
                if found < out.shape[0]:
                    out_rank[found] = rank
                    out[found, 0], out[found, 1], out[found, 2] = o, cell, kind
                found += 1
    return found


@njit
def tile_sizes(ext: Any, d: int, low: int, skip: int, sizes: Any, counts: Any) -> int:
    """How many sizes the tiles below position `low` have; fills `sizes` and `counts`, whole ones first.

    Of a position whose bit is set in `skip` only the first tile counts.
    """
    top = ext.shape[0] - 1
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
def _price(x: int, row: Any, coef: Any) -> float:
    if x < 2:
        return float(row[0] * coef[NEAR] + row[1] * coef[FAR])
    near, far = row[0] - row[2], row[1] - row[3]
    return float(near * coef[NEAR] + far * coef[FAR] + row[2] * coef[2] + row[3] * coef[3])


@njit
def least_turns(full: Any, ways: Any, unrolled: Any) -> int:
    """Steps of the busiest PE at the least, whatever is unrolled further in.

    Of n instances that share a tile one takes at least the n-th part of it, rounded up.

    Args:
        full: by loop the sizes, and how often each, of the tiles that the busiest PE works on.
        ways: instances that a loop may be split over, by loop, 0 after the last.
        unrolled: what axes may unroll together, as columns of `ways`, shape (options, 8).
    """
    turns = np.zeros(ways.shape, np.int64)
    for d in range(8):
        for j in range(ways.shape[1]):
            if ways[d, j] == 0:
                break
            for k in range(_KINDS):
                if full[d, 1, k] == 0:
                    break
                turns[d, j] += full[d, 1, k] * -(-full[d, 0, k] // ways[d, j])
    least = np.iinfo(np.int64).max
    for o in range(unrolled.shape[0]):
        steps = 1
        for d in range(8):
            steps *= turns[d, unrolled[o, d]]
        least = min(least, steps)
    return int(least)


@njit
def settle_candidates(
    c: int, picked: Any, coords: Any, sizes: Any, details: Any, boundary: Any, classes: Any,
    tiles: Any, counts: Any, orders: Any, keep: Any, axis_level: Any, multicast: Any, sliding: Any,
    shape: Any, shares: bool, coef: Any, inner: Any, pending: Any, whole: Any, steps: Any, extra: Any,
    ways: Any, unrolled: Any, share: float, spent: float, latency: float, prices: Any, ports: Any,
    busy: Any, best: Any, out_bound: Any, out_spent: Any, out_busy: Any, out_full: Any,
) -> None:  # fmt: skip
    """Nothing; fills the exact cost of moves into level c of each candidate, and its bounds.

    Args:
        c: the level whose tile the candidates choose.
        picked: candidates (option, cell, order), shape (candidates, 3).
        coords, sizes: the lattice.
        details: counts of each option by axis, shape (options, axes, 8).
        boundary: by axis, whether it lies above level c.
        classes: the orders of loops to choose from, shape (orders, 8).
        tiles, counts, orders: the nest so far, levels above c filled; scratch below.
        keep, axis_level, multicast, sliding, shape, shares, prices, ports: see `access_kernel`.
        coef, inner, pending, whole: see `lattice_kernel`.
        steps: by option, the least steps of a PE.
        extra: by option, what the PEs take through its axes, at the least.
        ways, unrolled: of the axes further in, as `least_turns` takes them.
        share: cycles a step.
        spent: cost of all moves into levels above c.
        latency: least latency so far.
        busy: cycles of read ports, of write ports, and exposed, of the moves so far; shape (2, levels + 1).
        best: see `BEST`.
        out_bound, out_spent, out_busy, out_full: filled: (energy, latency) at the least, `spent` and `busy`
            below, and sizes and counts of the tiles that the busiest PE has along each loop.
    """
    n, axes = tiles.shape[0], counts.shape[0]
    ext, table, chains = new_work(n, axis_level, multicast)
    moves = np.empty((n, 3, MOVES), np.int64)
    scratch = np.empty((2, ext.shape[0]), np.int64)
    skip, low, p, slides = 0, 0, 0, False
    for level in range(n):
        for a in range(axes):
            if axis_level[a] == level:
                skip |= 1 << p
                p += 1
        p += 1
        slides = slides or (level >= c and sliding[level] > 0)
        if level == c:
            low = p
    for level in range(c):
        tiles[level, :] = 1
    for i in range(picked.shape[0]):
        o, cell, order = picked[i, 0], picked[i, 1], picked[i, 2]
        for d in range(8):
            tiles[c, d] = sizes[d, coords[cell, d]]
            orders[c + 1, d] = classes[order, d]
        for a in range(axes):
            if axis_level[a] <= c:
                counts[a, :] = 1
            elif boundary[a]:
                counts[a, :] = details[o, a]
        fill_extents(tiles, counts, axis_level, ext)
        listed = survey(orders, shape, slides, ext, table, chains)
        for d in range(8):
            kinds = tile_sizes(ext, d, low, skip, scratch[0], scratch[1])
            out_full[i, d] = 0
            for k in range(min(kinds, _KINDS)):
                out_full[i, d, 0, k], out_full[i, d, 1, k] = scratch[0, k], scratch[1, k]
        cost, seen = extra[o], whole.copy()
        out_busy[i] = busy
        into = out_busy[i]
        inner_in = inner_out = outer_in = outer_out = 0.0
        for x in range(3):
            if not keep[c, x]:
                continue
            parent = c + 1
            while not keep[parent, x]:
                parent += 1
            count_operand(x, c, listed, keep, sliding, shares, shape, ext, table, chains, moves)
            row = moves[c + 1, x]
            cost += _price(x, row, coef[x])
            seen[x] = row[1]
            if shares:
                near, far = prices[c, x], prices[parent, x]
                parent = int(far[PLACE])
                s_fill, s_down = row[4] * near[0], row[5] * far[0]
                s_drain = s_up = 0.0
                if x == _O:
                    s_fill, s_down = (row[4] - row[6]) * near[1], (row[5] - row[7]) * far[1]
                    s_drain, s_up = row[6] * far[0] + s_fill, row[7] * far[0] + s_down
                into[0, c] += s_drain * ports[c, 0]
                into[1, c] += s_fill * ports[c, 1]
                into[0, parent] += s_down * ports[parent, 0]
                into[1, parent] += s_up * ports[parent, 1]
                inner_in += s_fill * ports[c, 1]
                inner_out += s_drain * ports[c, 0]
                outer_in += s_up * ports[parent, 1]
                outer_out += s_down * ports[parent, 0]
        if ports[c, 3] > 0:
            into[0, n] += max(inner_in + inner_out, outer_in + outer_out)
        least = inner[cell, 0]
        for s in range(1, STATES):
            total = inner[cell, s]
            for x in range(3):
                if s == x + 1:
                    end = whole[x] if x == _O else 0.0
                    total += (pending[x, 0] + pending[x, 1]) * max(0.0, seen[x] - end)
            least = min(least, total)
        slow = max(latency, steps[o], least_turns(out_full[i], ways, unrolled) * share)
        for level in range(n):
            reads, writes = into[0, level], into[1, level]
            slow = max(slow, reads + writes if ports[level, 2] > 0 else max(reads, writes))
        slow = math.ceil(slow + into[0, n] - 1e-9)
        out_spent[i] = spent + cost
        out_bound[i, 0] = spent + cost + least
        out_bound[i, 1] = slow


@njit
def finish_candidates(
    ranks: Any, picked: Any, coords: Any, sizes: Any, details: Any, boundary: Any, classes: Any,
    lanes: Any, lane_details: Any, lane_axes: Any,
    tiles: Any, counts: Any, orders: Any, keep: Any, axis_level: Any, multicast: Any, sliding: Any,
    shape: Any, shares: bool, prices: Any, ports: Any, pe: Any, drains: bool, best: Any,
    best_tiles: Any, best_counts: Any, best_orders: Any,
) -> int:  # fmt: skip
    """How many candidates were taken; evaluates each whole nest exactly and keeps the best.

    Candidates come by rising rank; it stops at the first that can't be better.
    """
    n, axes = tiles.shape[0], counts.shape[0]
    ext, table, chains = new_work(n, axis_level, multicast)
    moves, traffic = np.empty((n, 3, MOVES), np.int64), np.empty((n, 3, 4))
    cycles, energy = np.empty(2 * n + 2), np.empty(n + 2)
    macs = 1
    for d in range(8):
        macs *= shape[d]
    for i in range(picked.shape[0]):
        if best[_OBJECTIVE] == 0 and ranks[i] >= best[_ENERGY] * _SLACK:
            return i
        if best[_OBJECTIVE] == 2 and ranks[i] >= best[_ENERGY] * best[_LATENCY] * _SLACK:
            return i
        o, cell, order = picked[i, 0], picked[i, 1], picked[i, 2]
        for d in range(8):
            tiles[0, d] = sizes[d, coords[cell, d]]
            orders[1, d] = classes[order, d]
        for a in range(axes):
            if boundary[a]:
                counts[a, :] = details[o, a]
        for lane in range(lanes.shape[0]):
            fits = True
            for d in range(8):
                fits = fits and lanes[lane, d] <= tiles[0, d]
            if not fits:
                continue
            for a in range(axes):
                if lane_axes[a]:
                    counts[a, :] = lane_details[lane, a]
            steps = count_all(
                tiles, counts, orders, keep, axis_level, sliding, shape, shares,
                ext, table, chains, moves,
            )  # fmt: skip
            cost_of(steps, macs, moves, keep, prices, ports, pe, drains, traffic, cycles, energy)
            best[_EVALUATED] += 1
            slow = math.ceil(cycles[0] - 1e-9)
            if not prune(energy[0], slow, best):
                best[_ENERGY], best[_LATENCY] = energy[0], slow
                best[_FOUND] += 1
                best_tiles[:] = tiles
                best_counts[:] = counts
                best_orders[:] = orders
    return int(picked.shape[0])


@njit
def finish_below(
    turn: Any, settled: Any, bounds: Any, costs: Any, fulls: Any, unrolled: Any, unrolled_axes: Any,
    pairs: Any, bases: Any, cells: Any, coords: Any, sizes: Any, options: Any, steps: Any, shared: Any,
    extra: Any, wide: Any, coef: Any, inner: Any, whole: Any, others: Any, details: Any, boundary: Any,
    classes: Any, of_class: Any, lanes: Any, lane_details: Any, lane_axes: Any, tiles: Any, counts: Any,
    orders: Any, keep: Any, axis_level: Any, multicast: Any, sliding: Any, shape: Any, shares: bool,
    prices: Any, ports: Any, pe: Any, drains: bool, best: Any, best_tiles: Any, best_counts: Any,
    best_orders: Any, ranks: Any, out: Any, looked: Any,
) -> int:  # fmt: skip
    """How many of `turn` were gone below: the tiles of level 0 by their bounds, then each whole nest.

    It stops before one that has more candidates than `ranks` has room for.

    Args:
        turn: numbers of settled candidates of level 1, in the order in which to take them.
        settled, bounds, costs, fulls: as `settle_candidates` takes and fills them.
        unrolled, unrolled_axes: its `details` and `boundary`.
        pairs, bases, cells, coords, sizes, options, steps, shared, extra, wide, coef, inner, whole, others:
            as `bound_candidates` takes them, of level 0.
        details, boundary, classes, lanes, lane_details, lane_axes, best_tiles, best_counts, best_orders: as
            `finish_candidates` takes them.
        of_class: by operand that stays, its orders, -1 after the last.
        tiles, counts, orders: the nest so far, levels above 1 filled; scratch below.
        ranks, out: scratch.
        looked: raised by the candidates of level 0, shape (1,).
    """
    axes = counts.shape[0]
    picked = np.empty((of_class.shape[1] * out.shape[0], 3), np.int64)
    for t in range(turn.shape[0]):
        i = turn[t]
        if prune(bounds[i, 0], bounds[i, 1], best):
            continue
        for d in range(8):
            tiles[1, d] = sizes[d, coords[settled[i, 1], d]]
            orders[2, d] = classes[settled[i, 2], d]
        for a in range(axes):
            if unrolled_axes[a]:
                counts[a, :] = unrolled[settled[i, 0], a]
        found = bound_candidates(
            pairs, bases, cells, coords, sizes, shape, options, steps, shared, extra, wide, coef, keep[0],
            sliding[0] > 0, inner, whole, tiles[1], fulls[i], others, pe[0], costs[i], bounds[i, 1], best,
            -np.inf, np.inf, ranks, out,
        )  # fmt: skip
        if found > ranks.shape[0]:
            return t
        looked[0] += found
        by_rank = np.argsort(ranks[:found], kind="mergesort")
        rank = np.empty(of_class.shape[1] * found)
        many = 0
        for j in by_rank:
            for k in range(of_class.shape[1]):
                order = of_class[out[j, 2], k]
                if order >= 0:
                    picked[many, 0], picked[many, 1], picked[many, 2] = out[j, 0], out[j, 1], order
                    rank[many] = ranks[j]
                    many += 1
        finish_candidates(
            rank[:many], picked[:many], coords, sizes, details, boundary, classes, lanes, lane_details,
            lane_axes, tiles, counts, orders, keep, axis_level, multicast, sliding, shape, shares, prices,
            ports, pe, drains, best, best_tiles, best_counts, best_orders,
        )  # fmt: skip
    return int(turn.shape[0])
