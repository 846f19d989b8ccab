"""The search over one layer's tiles: every candidate bounded, those that may win estimated: kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.jit import njit
from .pipeline_kernel import (
    C_ARRAY_LATENCY,
    C_BUS,
    C_COMMAND,
    C_POST_LATENCY,
    C_READ_LATENCY,
    C_ROW_GROUPS,
    C_TOKEN,
    L_ALIKE,
    L_GROUPS,
    L_K,
    L_LANE_WISE,
    L_LAST_LINE,
    L_LINE,
    L_LINES,
    L_ONES,
    L_OVERLAPS,
    L_OX,
    L_PARAMS,
    L_POOL_X,
    L_POOL_Y,
    L_ROWS,
    L_SLOTS,
    L_STEPS,
    T_ACCUMULATORS,
    T_BEATS,
    T_COLUMNS,
    T_COMMANDS,
    T_DRAIN,
    T_HEIGHT,
    T_ISSUE,
    T_LAST,
    T_LOAD,
    T_PIXELS,
    T_WIDTH,
    T_WRITTEN,
    pixel_tiles,
    run_pipeline,
    store_cost,
    transfer_cycles,
)

__all__ = [
    "BASE",
    "BYTES",
    "EDP",
    "ENERGY",
    "FOUND",
    "LATENCY",
    "LIMIT",
    "PRICE",
    "accumulator_tile",
    "least_bound",
    "search",
]

LATENCY, ENERGY, EDP, BYTES = range(4)

BASE = (
    "y_from", "y_to", "x_from", "x_to", "split", "step_y", "step_x", "column_rows", "tile_x", "held",
    "pixels", "reads", "tiles", "tile_columns", "positions",
)  # fmt: skip
"""Columns of `bases`, a choice of pixel tiles each: its rows in `ys` and `xs`; `held` positions of a bank;
over all tiles pixels of a column, and of all columns that are used; tiles; columns of a full tile; input
positions copied from memory for all tiles."""
(
    B_Y0, B_Y1, B_X0, B_X1, B_SPLIT, B_STEP_Y, B_STEP_X, B_ROWS, B_WIDTH, B_HELD,
    B_PIXELS, B_READS, B_TILES, B_COLUMNS, B_POSITIONS,
) = range(15)  # fmt: skip

LIMIT = ("act_bytes", "out_bytes", "act_slots", "weight_slots", "out_slots", "depth", "size")
"""Entries of `limits`: bytes of a slot, slots, accumulators; bytes held of a pixel by work that sums over
channels."""
M_ACT, M_OUT, M_ACT_SLOTS, M_WEIGHT_SLOTS, M_OUT_SLOTS, M_DEPTH, M_SIZE = range(7)

PRICE = (
    "issue", "weight_lines", "reads", "act_write", "weight_write", "param_write", "gathers", "dram", "fixed"
)  # fmt: skip
"""Entries of `prices`, picojoules: of an issue cycle, of reading a group's weight lines, of a POST read,
of a byte written, of a read by STORE, of a byte at the port; of what no mapping changes."""
P_ISSUE, P_LINES, P_READ, P_ACT, P_WEIGHT, P_PARAM, P_GATHER, P_DRAM, P_FIXED = range(9)

FOUND = ("score", "then", "base", "groups", "order", "cycles", "energy_pj", "bytes")
"""Columns of `found`, float64; `order` 1 has weights in the outer loop."""


@njit
def accumulator_tile(layer: Any, rows: int, width: int, depth: int, acc: Any) -> int:
    """The number of accumulator tiles that cover rows × width, as few as there can be; `acc` takes (y, x)."""
    pool_y, pool_x = layer[L_POOL_Y], layer[L_POOL_X]
    if layer[L_OVERLAPS]:
        acc[0], acc[1] = pool_y, pool_x
        return int(rows // pool_y * (width // pool_x))
    least = 0
    for y in range(pool_y, rows + 1, pool_y):
        x = min(width, depth // y // pool_x * pool_x)
        if x < pool_x:
            break
        count = (rows + y - 1) // y * ((width + x - 1) // x)
        if least == 0 or count < least:
            least = count
            acc[0], acc[1] = y, x
    return least


@njit
def _score(objective: int, cycles: float, energy: float, size: float) -> float:
    if objective == LATENCY:
        return cycles
    if objective == ENERGY:
        return energy
    return energy * cycles if objective == EDP else size


@njit
def _constant_weights(layer: Any) -> int:
    """Bytes of all weights in memory."""
    last = 0 if layer[L_ONES] else layer[L_GROUPS] - 1
    return int(layer[L_LINES] * (last * layer[L_LINE] + layer[L_LAST_LINE]))


@njit
def _base_bound(core: Any, layer: Any, base: Any, limits: Any, prices: Any, acc: Any, bound: Any) -> None:
    """Nothing; `bound` takes (cycles, energy, bytes) that no mapping with these pixel tiles goes below."""
    groups = layer[L_GROUPS]
    width = min(base[B_WIDTH], layer[L_OX])
    accumulator_tile(layer, base[B_ROWS], width, limits[M_DEPTH], acc)
    pixels, reads = base[B_PIXELS], base[B_READS]
    accumulators = max(base[B_TILES], (pixels + acc[0] * acc[1] - 1) // (acc[0] * acc[1]))
    weights = 0 if layer[L_ALIKE] else _constant_weights(layer)
    issue = groups * (pixels * layer[L_STEPS] + accumulators) + 2 * base[B_TILES]
    drain = groups * (reads * core[C_ROW_GROUPS] * layer[L_SLOTS] + accumulators)
    held = layer[L_K] if layer[L_LANE_WISE] else limits[M_SIZE]
    activations = base[B_POSITIONS] * held
    bound[0] = max(issue, drain, (weights + activations) // core[C_BUS] + base[B_TILES] * core[C_COMMAND])
    bound[1] = prices[P_FIXED] + weights * (prices[P_DRAM] + prices[P_WEIGHT]) + activations * prices[P_DRAM]
    bound[1] += groups * (
        pixels * layer[L_STEPS] * prices[P_ISSUE]
        + accumulators * prices[P_LINES]
        + reads * core[C_ROW_GROUPS] * prices[P_READ]
    )
    bound[2] = weights + activations


@njit
def least_bound(core: Any, layer: Any, bases: Any, limits: Any, prices: Any, objective: int) -> float:
    """The least score that the bounds of all choices of pixel tiles allow."""
    acc = np.zeros(2, np.int64)
    bound = np.zeros(3)
    least = np.inf
    for i in range(len(bases)):
        _base_bound(core, layer, bases[i], limits, prices, acc, bound)
        least = min(least, _score(objective, bound[0], bound[1], bound[2]))
    return float(least)


@njit
def _passes(layer: Any, limits: Any, tiles: int, k_tiles: int, weights_outer: bool, times: Any) -> None:
    """Nothing; `times` takes how often activations, weights and parameters are read as a whole."""
    again = 1 if weights_outer or k_tiles <= limits[M_WEIGHT_SLOTS] else tiles
    times[0], times[1], times[2] = 1, again, again
    if layer[L_LANE_WISE]:
        if layer[L_ALIKE]:
            times[2] = 1
        if layer[L_ONES]:
            times[1] = 1 if layer[L_ALIKE] else again * k_tiles
    elif weights_outer and tiles > limits[M_ACT_SLOTS]:
        times[0] = k_tiles


@njit
def search(
    core: Any, layer: Any, offsets: Any, ys: Any, xs: Any, bases: Any, k_groups: Any, limits: Any,
    prices: Any, objective: int, slack: float, tiles: Any, found: Any, counts: Any,
) -> None:  # fmt: skip
    """Nothing; the best candidate of each K tile and loop order in `found`, what was done in `counts`.

    Args:
        core: CORE of pipeline_kernel.
        layer: LAYER of pipeline_kernel.
        offsets: see `pixel_tiles`; of lane-wise work those of its first channel.
        ys: see `pixel_tiles`.
        xs: likewise.
        bases: (n, len(BASE)), the choices of pixel tiles.
        k_groups: groups of the K tiles to choose from.
        limits: LIMIT.
        prices: PRICE, float64.
        objective: LATENCY, ENERGY, EDP or BYTES.
        slack: how many times the best score a candidate may have that is still estimated, at least 1.
        tiles: room for the tiles of any choice.
        found: (2 · K tiles, len(FOUND)), filled with infinity by the caller.
        counts: int64: candidates estimated, candidates that a bound ruled out.
    """
    bounds = np.zeros((len(bases), 4))
    bound = np.zeros(3)
    acc = np.zeros(2, np.int64)
    slots = limits[M_ACT_SLOTS:M_DEPTH]
    times = np.zeros(3, np.int64)
    steps = np.zeros(2, np.int64)
    row = np.zeros(len(FOUND))
    weight_cycles = np.zeros(2, np.int64)
    store_found = np.zeros(2, np.int64)
    stores = np.zeros((len(tiles), 2), np.int64)
    for i in range(len(bases)):
        _base_bound(core, layer, bases[i], limits, prices, acc, bound)
        for part in range(3):  # slices are dear to compile
            bounds[i, part] = bound[part]
        bounds[i, 3] = _score(objective, bound[0], bound[1], bound[2])
    best, then = np.inf, np.inf
    total = layer[L_GROUPS]
    weights = _constant_weights(layer)
    first_beat = core[C_READ_LATENCY] + 4
    for i in np.argsort(bounds[:, 3], kind="mergesort"):
        base = bases[i]
        if bounds[i, 3] > best * slack:
            counts[1] += 2 * len(k_groups)
            continue
        width = min(base[B_WIDTH], layer[L_OX])
        accumulator_tile(layer, base[B_ROWS], width, limits[M_DEPTH], acc)
        steps[0], steps[1] = base[B_STEP_Y], base[B_STEP_X]
        ys_of, xs_of = ys[base[B_Y0] : base[B_Y1]], xs[base[B_X0] : base[B_X1]]
        count = 0
        for g in range(len(k_groups)):
            groups = k_groups[g]
            k_tiles = (total + groups - 1) // groups
            channels = min(groups * layer[L_ROWS], layer[L_K])
            size = channels if layer[L_LANE_WISE] else limits[M_SIZE]
            results = base[B_COLUMNS] * (base[B_ROWS] // layer[L_POOL_Y]) * (width // layer[L_POOL_X])
            if base[B_HELD] * size > limits[M_ACT] or results * channels > limits[M_OUT]:
                continue
            if count == 0 or layer[L_LANE_WISE]:
                count = pixel_tiles(
                    core, layer, offsets, ys_of, xs_of, steps, base[B_SPLIT] == 1, size, acc, base[B_ROWS],
                    tiles,
                )  # fmt: skip
                load = issue = drain = beats = written = commands = accumulators = pixels = reads = 0
                for p in range(count):
                    load += tiles[p, T_LOAD]
                    issue += tiles[p, T_ISSUE]
                    drain += tiles[p, T_DRAIN]
                    beats += tiles[p, T_BEATS]
                    written += tiles[p, T_WRITTEN]
                    commands += tiles[p, T_COMMANDS]
                    accumulators += tiles[p, T_ACCUMULATORS]
                    pixels += tiles[p, T_PIXELS]
                    reads += tiles[p, T_PIXELS] * tiles[p, T_COLUMNS]
            last_groups = total - (k_tiles - 1) * groups
            last_channels = layer[L_K] - (k_tiles - 1) * groups * layer[L_ROWS]
            store_found[:] = 0
            store = 0
            for p in range(count):
                high, wide = tiles[p, T_HEIGHT], tiles[p, T_WIDTH]
                before = store_found[0], store_found[1]
                stores[p, 0] = store_cost(core, layer, high, wide, channels, store_found)
                made = store_found[0] - before[0], store_found[1] - before[1]
                store_found[0] = before[0] + made[0] * (k_tiles - 1)
                store_found[1] = before[1] + made[1] * (k_tiles - 1)
                stores[p, 1] = store_cost(core, layer, high, wide, last_channels, store_found)
                store += stores[p, 0] * (k_tiles - 1) + stores[p, 1]
            for k in range(2):
                of = last_groups if k else groups
                lines = layer[L_LINES] * (1 if layer[L_ONES] else of)
                read = lines * layer[L_LINE] + (0 if layer[L_ALIKE] else of) * layer[L_PARAMS]
                if k:
                    read += layer[L_LINES] * (layer[L_LAST_LINE] - layer[L_LINE])
                bursts = read // core[C_BUS] // 16 + 2
                weight_cycles[k] = transfer_cycles(core, 0, read // core[C_BUS], bursts, 2, 2)
            params = total * layer[L_PARAMS]
            if layer[L_ALIKE]:
                params = layer[L_PARAMS]
            for order in range(2):
                weights_outer = order == 1
                _passes(layer, limits, count, k_tiles, weights_outer, times)
                lane_tiles = k_tiles if layer[L_LANE_WISE] else 1
                act_reads = times[0] * lane_tiles
                read = act_reads * beats * core[C_BUS] + times[1] * weights + times[2] * params
                number = act_reads * commands + count * k_tiles + store_found[0]
                number += 2 * k_tiles * times[1] + 2
                energy = (
                    total * pixels * layer[L_STEPS] * prices[P_ISSUE]
                    + total * accumulators * prices[P_LINES]
                    + total * reads * core[C_ROW_GROUPS] * prices[P_READ]
                    + act_reads * written * prices[P_ACT]
                    + times[1] * weights * prices[P_WEIGHT]
                    + times[2] * params * prices[P_PARAM]
                    + store_found[1] * prices[P_GATHER]
                    + (read + 32 * number) * prices[P_DRAM]
                    + prices[P_FIXED]
                )
                last = stores[count - 1, 1]
                start = first_beat + tiles[0, T_LOAD] + core[C_TOKEN]
                end = core[C_ARRAY_LATENCY] + core[C_POST_LATENCY] + core[C_TOKEN]
                least = max(
                    start + total * issue + 2 * count * k_tiles + tiles[count - 1, T_LAST] + end + last,
                    start + total * drain + end + last,
                    start + end + store,
                    first_beat + act_reads * load + last,
                )
                counts[1] += 1
                lowest = _score(objective, least, energy, read)
                if lowest > best * slack:
                    continue
                if slack == 1.0 and objective != LATENCY and lowest == best and least >= then:
                    continue
                counts[0] += 1
                counts[1] -= 1
                cycles = run_pipeline(
                    core, layer, tiles, count, weights_outer, groups, slots, weight_cycles, stores
                )
                row[0] = _score(objective, cycles, energy, read)
                row[1] = read if objective == LATENCY else cycles
                row[2], row[3], row[4] = i, groups, order
                row[5], row[6], row[7] = cycles, energy, read
                kept = found[2 * g + order]
                if (row[0], row[1]) < (kept[0], kept[1]):
                    for part in range(len(row)):
                        kept[part] = row[part]
                if row[0] < best or (row[0] == best and row[1] < then):
                    best, then = row[0], row[1]
