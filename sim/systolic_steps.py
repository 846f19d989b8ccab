"""A systolic array stepped through every cycle: what each port carries, in blocks of cycles.

An operand's address is a sum of two parts: one by the index that a port stands for, its *base*, and one by
the index that time runs over, its *series*. In a skewed stream each port lags a cycle behind the port before
it, so cycle t and port p meet at series[t − p]: a view of the series whose strides are one value forwards
along time and one backwards along ports. A block is then one sum of a base and such a view; where either
doesn't exist it is far below 0, and so is the sum. That runs at the speed of memory without a compiler, in
the memory of a block and of the address tables, whatever the number of cycles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..models.topology import TopologyLayer
from .systolic import Compat, Dataflow, Folds, SystolicArray, fold_layer

__all__ = ["BLOCK_CYCLES", "COUNTS", "CycleBlock", "picture_values", "step_layer"]

BLOCK_CYCLES = 4096
"""Of a block, unless asked otherwise: a 32 × 32 array's ports then fit a cache, and calls cost little."""
COUNTS = ("ifmap_reads", "filter_reads", "ofmap_writes", "ofmap_reads", "macs")
"""Columns of a block's counts."""

_BLOCK_PORTS = 1 << 20
"""Of all cycles of a block; each takes 4 bytes."""
_MOST_VALUES = 1 << 28
_MOST_PICTURE = 1 << 26
"""Of addresses, so that sums of two parts stay within 32 bits; windows may see up to four pictures."""
_IDLE = -(1 << 29)
"""A part that doesn't exist: below 0 with any other part."""
_NONE = np.int32(-1)

Int32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CycleBlock:
    """Consecutive cycles. Arrays are used again for the next block: copy what is to stay.

    Addresses count an operand's values from 0, group after group: ifmap by row, column, channel; filter by
    filter, row, column, channel; ofmap by pixel, filter. −1 stands at idle ports.
    """

    first_cycle: int
    ifmap: Int32
    """(cycles, rows), or (cycles, cols) with inputs stationary."""
    filters: Int32
    """(cycles, cols), or (cycles, rows) with inputs stationary."""
    ofmap: Int32
    """(cycles, cols)."""
    counts: Int32
    """(cycles, 5), as COUNTS: values of ifmap and filter read, of ofmap written and read again; PEs that
    multiply."""


def picture_values(layer: TopologyLayer) -> int:
    """Values of one group's picture."""
    return layer.ifmap_h * layer.ifmap_w * layer.channels


def step_layer(
    layer: TopologyLayer,
    array: SystolicArray,
    compat: Compat = Compat.NONE,
    *,
    block_cycles: int = BLOCK_CYCLES,
) -> Iterator[CycleBlock]:
    """Every cycle of a layer in order, in blocks of at most `block_cycles`; groups come one after another.

    A block holds whole folds, or a part of one that is longer; on large arrays fewer cycles than asked for,
    so that it never takes more than some megabytes.

    Raises:
        ValueError: a block of no cycles, or an operand with too many values; names layer and operand.
    """
    if block_cycles < 1:
        raise ValueError(f"block_cycles must be at least 1, not {block_cycles}")
    block_cycles = max(1, min(block_cycles, _BLOCK_PORTS // (array.rows + 2 * array.cols)))
    folds = fold_layer(layer, array, compat)
    _check_sizes(layer, folds)
    addresses = _Addresses.of(layer, folds, compat)
    at_once = max(1, min(folds.count, block_cycles // folds.cycles_each))
    size = min(block_cycles, folds.cycles_each) * at_once
    buffers = [np.empty(size * ports, np.int32) for ports in (array.rows, array.cols, array.cols)]
    counts = np.empty((len(COUNTS), size), np.int32)
    inputs_held = array.dataflow is Dataflow.INPUT_STATIONARY
    cycle = 0
    for group in range(layer.groups):
        ports = _Ports(addresses, folds, array, compat, group)
        for first in range(0, folds.count, at_once):
            fold = np.arange(first, min(first + at_once, folds.count))
            for start in range(0, folds.cycles_each, block_cycles):
                stop = min(start + block_cycles, folds.cycles_each)
                cycles = fold.size * (stop - start)
                across, down, out = (
                    buffer[: cycles * width].reshape(fold.size, stop - start, width)
                    for buffer, width in zip(buffers, (array.rows, array.cols, array.cols), strict=True)
                )
                ports.fill(fold, start, across, down, out)
                block_counts = counts[:, :cycles]
                ports.count(fold, start, stop, block_counts)
                ifmap, filters = (down, across) if inputs_held else (across, down)
                if addresses.inside is not None:
                    addresses.keep_inside(ifmap, group)
                    block_counts[0] = np.count_nonzero(ifmap >= 0, axis=2).ravel()
                yield CycleBlock(
                    first_cycle=cycle,
                    ifmap=ifmap.reshape(cycles, -1),
                    filters=filters.reshape(cycles, -1),
                    ofmap=out.reshape(cycles, -1),
                    counts=block_counts.T,
                )
                cycle += cycles


def _check_sizes(layer: TopologyLayer, folds: Folds) -> None:
    for operand, size, most in (
        ("ifmap", picture_values(layer), _MOST_PICTURE),
        ("filter", folds.window * folds.filters, _MOST_VALUES),
        ("ofmap", folds.pixels * folds.filters, _MOST_VALUES),
    ):
        if size * layer.groups > most:
            raise ValueError(
                f"layer {layer.name!r:.80}: stepping takes at most {most} values of {operand}, not "
                f"{size * layer.groups}: take the closed form"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Addresses:
    """The parts that the picture's addresses are sums of, for one group."""

    pixel: Int32
    """Of the window's first value, by pixel of the result."""
    window: Int32
    """From there on, by value of the window."""
    inside: Int32 | None
    """Where windows reach beyond the picture: by an address of what they see, the real one or −1."""
    picture: int
    """Values of a group's picture."""

    @classmethod
    def of(cls, layer: TopologyLayer, folds: Folds, compat: Compat) -> _Addresses:
        height, width = layer.outputs(round_up=compat is Compat.SCALESIM)
        # A window that begins at or beyond the picture's end sees nothing of it, however far it is.
        rows = np.minimum(np.arange(height) * layer.stride_h, layer.ifmap_h)
        cols = np.minimum(np.arange(width) * layer.stride_w, layer.ifmap_w)
        seen_h = max(layer.ifmap_h, int(rows[-1]) + layer.filter_h)
        seen_w = max(layer.ifmap_w, int(cols[-1]) + layer.filter_w)
        window = np.arange(layer.filter_h)[:, None] * (seen_w * layer.channels) + np.arange(
            layer.filter_w * layer.channels
        )
        inside = None
        if (seen_h, seen_w) != (layer.ifmap_h, layer.ifmap_w):
            seen = np.full((seen_h, seen_w, layer.channels), _NONE, np.int32)
            real = np.arange(picture_values(layer)).reshape(layer.ifmap_h, layer.ifmap_w, layer.channels)
            seen[: layer.ifmap_h, : layer.ifmap_w] = real
            inside = seen.ravel()
        return cls(
            pixel=((rows[:, None] * seen_w + cols) * layer.channels).ravel().astype(np.int32),
            window=window.ravel().astype(np.int32),
            inside=inside,
            picture=picture_values(layer),
        )

    def keep_inside(self, ifmap: Int32, group: int) -> None:
        """Nothing; what the windows see becomes what there is. Idle ports' −1 is the last corner, outside."""
        assert self.inside is not None
        np.take(self.inside, ifmap, out=ifmap, mode="wrap")
        ifmap[ifmap >= 0] += group * self.picture


class _Ports:
    """What the array's ports carry in one group: across along the rows, down along the columns, and out."""

    def __init__(
        self, addresses: _Addresses, folds: Folds, array: SystolicArray, compat: Compat, group: int
    ) -> None:
        self._folds, self._array = folds, array
        self._sums_stay = array.dataflow is Dataflow.OUTPUT_STATIONARY
        self._inputs_held = array.dataflow is Dataflow.INPUT_STATIONARY
        self._bottom_first = compat is Compat.SCALESIM
        self._known: dict[tuple[int, int, bool], Int32] = {}
        picture = 0 if addresses.inside is not None else group * addresses.picture
        # Parts of addresses; a group's offset stands in one of the two.
        pixel: Int32 = addresses.pixel + np.int32(picture)
        weight: Int32 = np.arange(folds.window, dtype=np.int32)
        filters: Int32 = np.arange(folds.filters, dtype=np.int32)
        first_weight: Int32 = (filters + group * folds.filters) * folds.window
        results = np.arange(folds.pixels, dtype=np.int32)
        first_result: Int32 = (results + group * folds.pixels) * folds.filters
        rows, cols, steps = array.rows, array.cols, folds.cycles_each
        if self._sums_stay:
            self._across = self._tiles(pixel, rows, folds.row_folds)
            self._across_series = _series(addresses.window, rows, 0, steps)
            self._down = self._tiles(first_weight, cols, folds.col_folds)
            self._down_series = _series(weight, cols, 0, steps)
            self._out = self._tiles(filters, cols, folds.col_folds)
            self._out_rows = self._tiles(first_result, rows, folds.row_folds)
            return
        if self._inputs_held:
            moving, over_time = weight, first_weight
            held, held_rows = pixel, addresses.window
            out, out_series = first_result, filters
        else:
            moving, over_time = addresses.window, pixel
            held, held_rows = first_weight, weight
            out, out_series = filters, first_result
        self._across = self._tiles(moving, rows, folds.row_folds)
        self._across_series = _series(over_time, rows, rows, steps)
        self._down = self._tiles(held, cols, folds.col_folds)
        self._down_rows = self._tiles(held_rows, rows, folds.row_folds)
        self._out = self._tiles(out, cols, folds.col_folds)
        self._out_series = _series(out_series, cols, 2 * rows - 1, steps)

    @staticmethod
    def _tiles(parts: Int32, side: int, folds: int) -> Int32:
        """Shape (folds, side): each fold's part of an array, idle where it ends before the fold does."""
        tiles = np.full(folds * side, _IDLE, np.int32)
        tiles[: parts.size] = parts
        return tiles.reshape(folds, side)

    def fill(self, fold: NDArray[np.int64], start: int, across: Int32, down: Int32, out: Int32) -> None:
        """Nothing; writes these folds' addresses from cycle `start` of each on, by fold, cycle and port."""
        row, col = fold % self._folds.row_folds, fold // self._folds.row_folds
        rows, cols = self._array.rows, self._array.cols
        lead = 0 if self._sums_stay else rows
        _stream(self._across[row], self._across_series, start, self._steady(lead, rows), across)
        if not self._sums_stay:
            _stream(self._out[col], self._out_series, start, self._steady(2 * rows - 1, cols), out)
            self._load(row, col, start, down)
            return
        _stream(self._down[col], self._down_series, start, self._steady(0, cols), down)
        # Sums leave in a fold's last cycles; which pixels they are of differs from fold to fold.
        out.fill(_NONE)
        skip = max(0, self._folds.temporal - 1 - start)
        since = start + skip - (self._folds.temporal - 1)
        results = self._out_rows[row]
        if self._bottom_first:
            results = results[:, ::-1]
        padded = np.full((fold.size, 2 * (cols - 1) + rows), _IDLE, np.int32)
        padded[:, cols - 1 : cols - 1 + rows] = results
        part = out[:, skip:]
        if part.shape[1]:
            along, step = padded.strides
            first = (cols - 1 + since) * step
            skewed = np.ndarray(part.shape, np.int32, padded, first, (along, step, -step))
            np.add(skewed, self._out[col][:, None, :], out=part)
            np.maximum(part, _NONE, out=part)

    def _steady(self, lead: int, ports: int) -> tuple[int, int]:
        """The cycles of a fold in which all ports of a stream that begins `lead` late carry something."""
        return lead + ports - 1, lead + self._folds.temporal

    def _load(self, row: NDArray[np.int64], col: NDArray[np.int64], start: int, down: Int32) -> None:
        """Nothing; the held operand enters in a fold's first cycles, last row first."""
        down.fill(_NONE)
        part = down[:, : max(0, self._array.rows - start)]
        rows = self._down_rows[row][:, ::-1][:, start : start + part.shape[1]]
        np.add(rows[:, :, None], self._down[col][:, None, :], out=part)
        np.maximum(part, _NONE, out=part)

    def count(self, fold: NDArray[np.int64], start: int, stop: int, counts: Int32) -> None:
        """Nothing; writes how many ports carry something, and how many PEs multiply, (5, folds · cycles)."""
        folds, array = self._folds, self._array
        row, col = fold % folds.row_folds, fold // folds.row_folds
        used_rows = np.minimum(array.rows, folds.spatial_rows - row * array.rows)
        used_cols = np.minimum(array.cols, folds.spatial_cols - col * array.cols)
        lead = array.rows + array.cols - 2 + (0 if self._sums_stay else array.rows)
        steady = lead < start and stop < folds.temporal
        whole = (start, stop) == (0, folds.cycles_each)
        each = stop - start
        for n, key in enumerate(zip(used_rows.tolist(), used_cols.tolist(), (row > 0).tolist(), strict=True)):
            part = counts[:, n * each : (n + 1) * each]
            if steady:
                part[:] = self._counted(*key, start, start + 1)
            elif not whole:
                part[:] = self._counted(*key, start, stop)
            else:
                if key not in self._known:
                    self._known[key] = self._counted(*key, start, stop)
                part[:] = self._known[key]

    def _counted(self, used_rows: int, used_cols: int, again: bool, start: int, stop: int) -> Int32:
        """The counts of one fold that uses so much of the array; `again` if its sums go on."""
        rows, temporal = self._array.rows, self._folds.temporal
        t = np.arange(start, stop)
        counts = np.zeros((len(COUNTS), stop - start), np.int32)
        if self._sums_stay:
            counts[0] = _carried(t, temporal, used_rows)
            counts[1] = _carried(t, temporal, used_cols)
            late = rows - used_rows if self._bottom_first else 0
            counts[2] = _carried(t - (temporal - 1) - late, used_rows, used_cols)
            since = t
        else:
            since = t - rows
            across, down = (1, 0) if self._inputs_held else (0, 1)
            counts[across] = _carried(since, temporal, used_rows)
            counts[down] = np.where((t >= rows - used_rows) & (t < rows), used_cols, 0)
            counts[2] = _carried(since - (rows - 1), temporal, used_cols)
            if again:
                counts[3] = counts[2]
        # PEs with r + c ≤ x, by x + 1: anti-diagonals summed up
        x = np.arange(used_rows + used_cols - 1)
        diagonal = np.minimum(np.minimum(x + 1, used_rows + used_cols - 1 - x), min(used_rows, used_cols))
        reached = np.concatenate([[0], np.cumsum(diagonal)])
        counts[4] = reached[np.clip(since + 1, 0, x.size)]
        counts[4] -= reached[np.clip(since - temporal + 1, 0, x.size)].astype(np.int32)
        return counts


def _carried(t: NDArray[np.int64], length: int, ports: int) -> NDArray[np.int64]:
    """How many ports p < `ports` of a skewed stream carry something: 0 ≤ t − p < length."""
    found: NDArray[np.int64] = np.minimum(ports, t + 1) - np.maximum(0, t - length + 1)
    return found.clip(0)


def _series(parts: Int32, ports: int, lead: int, cycles: int) -> Int32:
    """A stream's series with idle cycles before its first value, `lead` cycles late, and after its last."""
    series = np.full(ports - 1 + cycles, _IDLE, np.int32)
    series[ports - 1 + lead : ports - 1 + lead + parts.size] = parts
    return series


def _stream(base: Int32, series: Int32, start: int, steady: tuple[int, int], out: Int32) -> None:
    """Nothing; port p of cycle start + t carries base[fold, p] + series[start + t − p], or −1.

    In the cycles from steady[0] to steady[1] of a fold no port that its base serves is idle.
    """
    cycles, ports = out.shape[1:]
    step = series.itemsize
    first_port = (ports - 1 + start) * step
    skewed = np.ndarray((cycles, ports), np.int32, series, first_port, (step, -step))
    np.add(skewed, base[:, None, :], out=out)
    first, last = (min(max(0, cycle - start), cycles) for cycle in steady)
    if last <= first or base.min() < 0:
        np.maximum(out, _NONE, out=out)
        return
    for ramp in (out[:, :first], out[:, last:]):
        np.maximum(ramp, _NONE, out=ramp)
