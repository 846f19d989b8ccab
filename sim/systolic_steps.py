"""A systolic array stepped through every cycle: what each port carries, in blocks of cycles.

Memory stays bounded by the block and by the address tables, whatever the number of cycles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..models.topology import TopologyLayer
from .systolic import OPERANDS, Compat, Dataflow, Folds, SystolicArray, fold_layer
from .systolic_kernel import COUNTS, remap, step_output_stationary, step_stationary

__all__ = ["BLOCK_CYCLES", "CycleBlock", "Int64", "picture_values", "step_layer"]

BLOCK_CYCLES = 1024
"""Of a block, unless asked otherwise: the ports of a 32 × 32 array then fit a cache."""
_MOST_VALUES = 1 << 28
"""Of one operand: tables go by its addresses."""

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CycleBlock:
    """Consecutive cycles of a group. Arrays are used again for the next block: copy what is to stay.

    Addresses count an operand's values from 0, group after group: ifmap by row, column, channel; filter by
    filter, row, column, channel; ofmap by pixel, filter. −1 stands at idle ports.
    """

    first_cycle: int
    ifmap: Int64
    """(cycles, rows), or (cycles, cols) with inputs stationary."""
    filters: Int64
    """(cycles, cols), or (cycles, rows) with inputs stationary."""
    ofmap: Int64
    """(cycles, cols)."""
    counts: Int64
    """(cycles, 5): values of ifmap and filter read, of ofmap written and read; PEs that multiply."""


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
    """Every cycle of a layer in order, in blocks of at most `block_cycles`; groups come one after the other.

    Raises:
        ValueError: a block of no cycles, or an operand of more than 2^28 values; names layer and operand.
    """
    if block_cycles < 1:
        raise ValueError(f"block_cycles must be at least 1, not {block_cycles}")
    folds = fold_layer(layer, array, compat)
    _check_sizes(layer, folds)
    tables = _Addresses.of(layer, folds, compat)
    across = array.dataflow is not Dataflow.INPUT_STATIONARY
    ifmap, filters, ofmap = (
        np.empty((block_cycles, ports), np.int64)
        for ports in (
            array.rows if across else array.cols,
            array.cols if across else array.rows,
            array.cols,
        )
    )
    counts = np.empty((block_cycles, len(COUNTS)), np.int64)
    shape = np.array(
        [
            array.rows, array.cols, folds.spatial_rows, folds.spatial_cols, folds.temporal, folds.row_folds,
            compat is Compat.SCALESIM,
        ],
        np.int64,
    )  # fmt: skip
    cycle = 0
    for group in range(layer.groups):
        position = np.zeros(2, np.int64)
        operands = tables.operands(array.dataflow, group, bottom_first=compat is Compat.SCALESIM)
        for first in range(0, folds.cycles, block_cycles):
            size = min(block_cycles, folds.cycles - first)
            block = CycleBlock(
                first_cycle=cycle,
                ifmap=ifmap[:size],
                filters=filters[:size],
                ofmap=ofmap[:size],
                counts=counts[:size],
            )
            if array.dataflow is Dataflow.OUTPUT_STATIONARY:
                step_output_stationary(
                    shape, position, *operands, block.ifmap, block.filters, block.ofmap, block.counts
                )
            elif across:
                step_stationary(
                    shape, position, *operands, block.filters, block.ifmap, block.ofmap, block.counts, 1
                )
            else:
                step_stationary(
                    shape, position, *operands, block.ifmap, block.filters, block.ofmap, block.counts, 0
                )
            if tables.inside is not None:
                remap(block.ifmap, tables.inside, block.counts[:, 0])
                block.ifmap[block.ifmap >= 0] += group * picture_values(layer)
            yield block
            cycle += size


def _check_sizes(layer: TopologyLayer, folds: Folds) -> None:
    sizes = (picture_values(layer), folds.window * folds.filters, folds.pixels * folds.filters)
    for operand, size in zip(OPERANDS, sizes, strict=True):
        if size * layer.groups > _MOST_VALUES:
            raise ValueError(
                f"layer {layer.name!r:.80}: stepping takes at most {_MOST_VALUES} values of an operand, not "
                f"{size * layer.groups} of {operand}: take the closed form"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Addresses:
    """The parts that an operand's addresses are sums of, for one group."""

    ifmap_pixel: Int64
    """Of the window's first value, by pixel of the result."""
    ifmap_window: Int64
    """From there on, by value of the window."""
    inside: Int64 | None
    """Where windows reach beyond the picture: by an address of what they see, the real one or −1."""
    picture: int
    """Values of a group's picture."""
    pixels: int
    window: int
    filters: int

    @classmethod
    def of(cls, layer: TopologyLayer, folds: Folds, compat: Compat) -> _Addresses:
        height, width = layer.outputs(round_up=compat is Compat.SCALESIM)
        seen_h = max(layer.ifmap_h, (height - 1) * layer.stride_h + layer.filter_h)
        seen_w = max(layer.ifmap_w, (width - 1) * layer.stride_w + layer.filter_w)
        lines = np.arange(height, dtype=np.int64)[:, None] * (layer.stride_h * seen_w)
        pixel = (lines + np.arange(width) * layer.stride_w) * layer.channels
        lines = np.arange(layer.filter_h, dtype=np.int64)[:, None] * (seen_w * layer.channels)
        window = lines + np.arange(layer.filter_w * layer.channels)
        inside = None
        if (seen_h, seen_w) != (layer.ifmap_h, layer.ifmap_w):
            seen = np.full((seen_h, seen_w, layer.channels), -1, np.int64)
            real = np.arange(picture_values(layer)).reshape(layer.ifmap_h, layer.ifmap_w, layer.channels)
            seen[: layer.ifmap_h, : layer.ifmap_w] = real
            inside = seen.ravel()
        return cls(
            ifmap_pixel=pixel.ravel(),
            ifmap_window=window.ravel(),
            inside=inside,
            picture=picture_values(layer),
            pixels=folds.pixels,
            window=folds.window,
            filters=folds.filters,
        )

    def operands(self, dataflow: Dataflow, group: int, *, bottom_first: bool) -> tuple[Int64, ...]:
        """The kernel's base and series of each operand, in its order."""
        pixel = self.ifmap_pixel + (0 if self.inside is not None else group * self.picture)
        weight = np.arange(self.window, dtype=np.int64)
        first_weight = (np.arange(self.filters, dtype=np.int64) + group * self.filters) * self.window
        result = np.arange(self.filters, dtype=np.int64) + group * self.pixels * self.filters
        first_result = np.arange(self.pixels, dtype=np.int64) * self.filters
        if dataflow is Dataflow.OUTPUT_STATIONARY:
            results = first_result if bottom_first else _reversed(first_result)
            windows = (_reversed(self.ifmap_window), _reversed(weight))
            return pixel, windows[0], first_weight, windows[1], result, results
        if dataflow is Dataflow.WEIGHT_STATIONARY:
            held, moving = (first_weight, weight), (self.ifmap_window, _reversed(pixel))
            return *held, *moving, result, _reversed(first_result)
        held, moving = (pixel, self.ifmap_window), (weight, _reversed(first_weight))
        return *held, *moving, first_result, _reversed(result)


def _reversed(series: Int64) -> Int64:
    return np.ascontiguousarray(series[::-1])
