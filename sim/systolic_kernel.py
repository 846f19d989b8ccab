"""The systolic array's kernel: which address stands at which port in every cycle, and how many.

An operand's address is a sum of two parts, one by the index that a port stands for, one by the index
that time runs over: `base[port] + series[time]`. A skewed stream, in which each port lags a cycle behind
the port before it, reads `series` along the ports backwards; so series are kept reversed where time
would run forwards, and a cycle's addresses are a sum of two contiguous runs, which compilers vectorise.

A fold is one placement of a part of the operands on the array. docs/systolic.md draws both kinds.
"""

from __future__ import annotations

from typing import Any

from ..models.jit import njit

__all__ = [
    "COUNTS",
    "SHAPE",
    "active_pes",
    "remap",
    "step_output_stationary",
    "step_stationary",
    "touch",
]

SHAPE = ("rows", "cols", "spatial_rows", "spatial_cols", "temporal", "row_folds", "bottom_first")
"""Entries of `shape`: the array; the sizes along its rows, its columns and time; how many folds lie along
the rows; whether an output-stationary column sends its last row first."""
_ROWS, _COLS, _SPATIAL_ROWS, _SPATIAL_COLS, _TEMPORAL, _ROW_FOLDS, _BOTTOM_FIRST = range(7)

COUNTS = ("ifmap_reads", "filter_reads", "ofmap_writes", "ofmap_reads", "macs")
"""Columns of `counts`."""


@njit(inline="always")
def _stream(out: Any, low: int, high: int, base: Any, first: int, series: Any, at: int) -> None:
    """Ports low ≤ p < high carry base[first + p] + series[at + p], the others −1."""
    if high <= low:
        out[:] = -1
        return
    out[:low] = -1
    out[high:] = -1
    carried = out[low:high]  # slices start at 0, so no index can wrap and the loop vectorises
    bases = base[first + low : first + high]
    steps = series[at + low : at + high]
    for p in range(carried.shape[0]):
        carried[p] = bases[p] + steps[p]


@njit
def active_pes(x: int, rows: int, cols: int) -> int:
    """How many of the positions r < rows, c < cols have r + c ≤ x."""
    total = 0
    for cut, sign in ((0, 1), (rows, -1), (cols, -1), (rows + cols, 1)):
        n = x + 1 - cut
        if n > 0:
            total += sign * (n * (n + 1) // 2)
    return total


@njit
def step_output_stationary(
    shape: Any, position: Any, ifmap_base: Any, ifmap_series: Any, filter_base: Any, filter_series: Any,
    ofmap_base: Any, ofmap_series: Any, ifmap: Any, filters: Any, ofmap: Any, counts: Any,
) -> None:  # fmt: skip
    """Nothing; fills ports and counts of as many cycles as `counts` has rows, going on from `position`.

    Row port r carries pixel r's value k in cycle k + r of a fold, column port c filter c's weight k in
    cycle k + c, so both meet at PE (r, c) in cycle k + r + c. In the cycle of its last product the PE puts
    its sum on its column's result bus.

    Args:
        shape: int64, as SHAPE; rows hold pixels, columns filters, time the window.
        position: int64 (2,), fold and cycle in it; left at the cycle after the last one filled.
        ifmap_base, ifmap_series: addresses by pixel, and by value of the window in reverse.
        filter_base, filter_series: by filter, and by value in reverse.
        ofmap_base, ofmap_series: by filter, and by pixel: in order with `bottom_first`, else in reverse.
        ifmap, filters, ofmap: int64 (cycles, ports), −1 where a port is idle.
        counts: int64 (cycles, len(COUNTS)).
    """
    rows, cols, temporal = shape[_ROWS], shape[_COLS], shape[_TEMPORAL]
    fold_cycles = temporal + rows + cols - 2
    fold, t = position[0], position[1]
    for n in range(counts.shape[0]):
        first_row = (fold % shape[_ROW_FOLDS]) * rows
        first_col = (fold // shape[_ROW_FOLDS]) * cols
        used_rows = min(rows, shape[_SPATIAL_ROWS] - first_row)
        used_cols = min(cols, shape[_SPATIAL_COLS] - first_col)

        low, high = max(0, t - temporal + 1), min(used_rows, t + 1)
        _stream(ifmap[n], low, high, ifmap_base, first_row, ifmap_series, temporal - 1 - t)
        counts[n, 0] = max(0, high - low)
        low, high = max(0, t - temporal + 1), min(used_cols, t + 1)
        _stream(filters[n], low, high, filter_base, first_col, filter_series, temporal - 1 - t)
        counts[n, 1] = max(0, high - low)

        late = t - (temporal - 1)  # column c sends its sum number late − c
        if shape[_BOTTOM_FIRST]:
            late -= rows - used_rows
            at = first_row + used_rows - 1 - late
        else:
            at = shape[_SPATIAL_ROWS] - 1 - first_row - late
        low, high = max(0, late - used_rows + 1), min(used_cols, late + 1)
        _stream(ofmap[n], low, high, ofmap_base, first_col, ofmap_series, at)
        counts[n, 2] = max(0, high - low)
        counts[n, 3] = 0
        counts[n, 4] = active_pes(t, used_rows, used_cols) - active_pes(t - temporal, used_rows, used_cols)

        t += 1
        if t == fold_cycles:
            t = 0
            fold += 1
    position[0] = fold
    position[1] = t


@njit
def step_stationary(
    shape: Any, position: Any, held_base: Any, held_series: Any, moving_base: Any, moving_series: Any,
    ofmap_base: Any, ofmap_series: Any, held: Any, moving: Any, ofmap: Any, counts: Any, held_column: int,
) -> None:  # fmt: skip
    """Nothing; as `step_output_stationary` for arrays that hold weights, or inputs.

    In the first `rows` cycles of a fold the held operand enters at the columns' ports, last row first. Then
    row port r carries value r of vector m in cycle rows + m + r; PE (r, c) multiplies it in cycle
    rows + m + r + c and hands the sum down, so column c's sum m leaves the last row in cycle
    2·rows − 1 + m + c, where accumulators take it: from the second row fold on they read what they hold.

    Args:
        shape: int64, as SHAPE; rows hold the window, columns filters or pixels, time the other of these.
        held_base, held_series: addresses by column, and by value of the window.
        moving_base, moving_series: by value of the window, and by time in reverse.
        ofmap_base, ofmap_series: by column, and by time in reverse.
        held, moving, ofmap: int64 (cycles, cols), (cycles, rows) and (cycles, cols).
        held_column: which column of `counts` has reads of the held operand: 0 ifmap, 1 filter.
    """
    rows, cols, temporal = shape[_ROWS], shape[_COLS], shape[_TEMPORAL]
    fold_cycles = temporal + 2 * rows + cols - 2
    fold, t = position[0], position[1]
    for n in range(counts.shape[0]):
        row_fold = fold % shape[_ROW_FOLDS]
        first_row = row_fold * rows
        first_col = (fold // shape[_ROW_FOLDS]) * cols
        used_rows = min(rows, shape[_SPATIAL_ROWS] - first_row)
        used_cols = min(cols, shape[_SPATIAL_COLS] - first_col)

        row = rows - 1 - t
        if 0 <= row < used_rows:
            held[n, :used_cols] = held_base[first_col : first_col + used_cols] + held_series[first_row + row]
            held[n, used_cols:] = -1
            counts[n, held_column] = used_cols
        else:
            held[n, :] = -1
            counts[n, held_column] = 0

        since = t - rows
        low, high = max(0, since - temporal + 1), min(used_rows, since + 1)
        _stream(moving[n], low, high, moving_base, first_row, moving_series, temporal - 1 - since)
        counts[n, 1 - held_column] = max(0, high - low)

        late = t - (2 * rows - 1)
        low, high = max(0, late - temporal + 1), min(used_cols, late + 1)
        _stream(ofmap[n], low, high, ofmap_base, first_col, ofmap_series, temporal - 1 - late)
        counts[n, 2] = max(0, high - low)
        counts[n, 3] = counts[n, 2] if row_fold else 0
        counts[n, 4] = active_pes(since, used_rows, used_cols) - active_pes(
            since - temporal, used_rows, used_cols
        )

        t += 1
        if t == fold_cycles:
            t = 0
            fold += 1
    position[0] = fold
    position[1] = t


@njit
def remap(addresses: Any, table: Any, carried: Any) -> None:
    """Nothing; replaces each address by table[address], and counts a cycle's ports that then carry one.

    Args:
        addresses: int64 (cycles, ports), −1 where a port is idle.
        table: int64, −1 for an address that doesn't exist.
        carried: int64 (cycles,).
    """
    for n in range(addresses.shape[0]):
        count = 0
        for p in range(addresses.shape[1]):
            if addresses[n, p] >= 0:
                found = table[addresses[n, p]]
                addresses[n, p] = found
                count += found >= 0
        carried[n] = count


@njit
def touch(addresses: Any, entered: Any, inserted: int, capacity: int) -> int:
    """The number of addresses that a buffer of `capacity` values, first in first out, doesn't hold.

    Args:
        addresses: int64 (cycles, ports) in order of cycle and port, −1 where a port is idle.
        entered: int64 by address: how many values had entered before it did; far below 0 if never.
        inserted: how many values have entered so far.

    A value leaves when `capacity` others have entered after it, so that no queue need be kept.
    """
    misses = 0
    for n in range(addresses.shape[0]):
        for p in range(addresses.shape[1]):
            address = addresses[n, p]
            if address >= 0 and inserted + misses - entered[address] > capacity:
                entered[address] = inserted + misses
                misses += 1
    return misses
