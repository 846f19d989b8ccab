"""A systolic array in closed form: cycles, port accesses and traffic of a layer, by its sizes.

docs/systolic.md has the rules. `systolic_run` gets the same figures by stepping through every cycle.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from ..models.topology import TopologyLayer

__all__ = [
    "HELD_WHOLE",
    "OPERANDS",
    "Accesses",
    "Compat",
    "Dataflow",
    "Folds",
    "SystolicArray",
    "SystolicResult",
    "closed_form",
    "fold_layer",
    "in_bytes",
]

OPERANDS = ("ifmap", "filter", "ofmap")
_MAX_SIDE = 1 << 14
HELD_WHOLE = "each value crosses once: buffers hold every operand whole"


class Dataflow(enum.Enum):
    """What stays in a PE: a sum, a weight or an input."""

    OUTPUT_STATIONARY = "os"
    WEIGHT_STATIONARY = "ws"
    INPUT_STATIONARY = "is"


class Compat(enum.Enum):
    """Whose conventions hold: our own, or those of SCALE-Sim 3.0.0, odd ones among them."""

    NONE = "none"
    SCALESIM = "scalesim"
    """Reports the number of a layer's last cycle, counted from 0, instead of how many there are; counts
    windows that the picture cuts off; output-stationary columns send their last row first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystolicArray:
    """PEs in rows and columns, each handing on what it gets, and the words of the buffers around them.

    Raises:
        ValueError: a side outside 1…2^14, or words of fewer than 1 byte; names the key.
    """

    rows: int
    cols: int
    dataflow: Dataflow
    ifmap_word_bytes: int = 1
    filter_word_bytes: int = 1
    ofmap_word_bytes: int = 1
    """Of results, and of sums that wait for their other parts."""

    def __post_init__(self) -> None:
        for key in ("rows", "cols"):
            if not 1 <= getattr(self, key) <= _MAX_SIDE:
                raise ValueError(f"array.{key} must be from 1 to {_MAX_SIDE}, not {getattr(self, key)}")
        if not isinstance(self.dataflow, Dataflow):
            raise ValueError(f"array.dataflow must be os, ws or is, not {self.dataflow!r}")
        for operand in OPERANDS:
            if not 1 <= self.word_bytes(operand) <= 64:
                raise ValueError(
                    f"array.{operand}_word_bytes must be from 1 to 64, not {self.word_bytes(operand)}"
                )

    def word_bytes(self, operand: str) -> int:
        """Bytes of one value of an operand."""
        return int(getattr(self, f"{operand}_word_bytes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accesses:
    """Reads and writes, in values or in bytes as the place says."""

    reads: int
    writes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """How one group of a layer lies on an array."""

    pixels: int
    window: int
    filters: int
    spatial_rows: int
    """Size along the array's rows: pixels (os) or the window."""
    spatial_cols: int
    """Along its columns: filters (os, ws) or pixels (is)."""
    temporal: int
    """Along time: the window (os), pixels (ws) or filters (is)."""
    row_folds: int
    col_folds: int
    cycles_each: int
    """Of one fold, whether it fills the array or not."""

    @property
    def count(self) -> int:
        """All folds: for one part of the columns after the other, those of the rows."""
        return self.row_folds * self.col_folds

    @property
    def cycles(self) -> int:
        """Of all folds, one after the other."""
        return self.count * self.cycles_each


@dataclass(frozen=True, slots=True, kw_only=True)
class SystolicResult:
    """What a layer comes to on a systolic array whose operands are always there in time."""

    layer: str
    array: SystolicArray
    compat: Compat
    method: str
    """`closed form` or `stepped`."""
    cycles: int
    """As the compatibility mode reports them."""
    macs: int
    """Cycles of PEs that multiply, summed up."""
    folds: int
    ports: Mapping[str, Accesses]
    """Values at the array's ports by operand; reads of the ofmap are sums taken up again."""
    buffer_bytes: Mapping[str, Accesses]
    """The same in bytes: what the buffers around the array serve."""
    dram_bytes: Mapping[str, Accesses]
    dram_rule: str
    """What `dram_bytes` rests on."""
    peak_ports: Mapping[str, int]
    """The most values of an operand in one cycle; a stepped run counts them, in closed form it is empty."""
    fidelity: str = "modelled"

    @property
    def utilization(self) -> float:
        """PEs that multiply, of all, on average over the cycles."""
        return self.macs / (max(1, self.cycles) * self.array.rows * self.array.cols)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        maps = ("ports", "buffer_bytes", "dram_bytes")
        return {
            "layer": self.layer,
            "array": {**asdict(self.array), "dataflow": self.array.dataflow.value},
            "compat": self.compat.value,
            "method": self.method,
            "cycles": self.cycles,
            "macs": self.macs,
            "utilization": self.utilization,
            "folds": self.folds,
            **{name: {key: asdict(value) for key, value in getattr(self, name).items()} for name in maps},
            "dram_rule": self.dram_rule,
            "peak_ports": dict(self.peak_ports),
            "fidelity": self.fidelity,
        }


def fold_layer(layer: TopologyLayer, array: SystolicArray, compat: Compat = Compat.NONE) -> Folds:
    """How one group of the layer lies on the array.

    A fold takes temporal + rows + cols − 2 cycles where sums stay (the last PE gets its last pair that late),
    and rows more where an operand stays, which must be loaded first. Folds don't overlap.

    Raises:
        ValueError: a dilated convolution; names the layer.
    Source: Samajdar et al. 2020, ISPASS, for the folds; docs/systolic.md for each term.
    """
    if (layer.dilation_h, layer.dilation_w) != (1, 1):
        raise ValueError(
            f"layer {layer.name!r:.80}: a systolic array's streams have no dilation, not "
            f"{layer.dilation_h}×{layer.dilation_w}: map it on a machine without array.dataflow"
        )
    height, width = layer.outputs(round_up=compat is Compat.SCALESIM)
    pixels, window, filters = height * width, layer.window, layer.filters
    spatial_rows, spatial_cols, temporal = {
        Dataflow.OUTPUT_STATIONARY: (pixels, filters, window),
        Dataflow.WEIGHT_STATIONARY: (window, filters, pixels),
        Dataflow.INPUT_STATIONARY: (window, pixels, filters),
    }[array.dataflow]
    load = 0 if array.dataflow is Dataflow.OUTPUT_STATIONARY else array.rows
    return Folds(
        pixels=pixels,
        window=window,
        filters=filters,
        spatial_rows=spatial_rows,
        spatial_cols=spatial_cols,
        temporal=temporal,
        row_folds=-(-spatial_rows // array.rows),
        col_folds=-(-spatial_cols // array.cols),
        cycles_each=load + temporal + array.rows + array.cols - 2,
    )


def closed_form(layer: TopologyLayer, array: SystolicArray, compat: Compat = Compat.NONE) -> SystolicResult:
    """Cycles and accesses of a layer, without stepping; DRAM traffic as if buffers held all operands.

    Raises:
        ValueError: as `fold_layer`, or more cycles than 63 bits count; names the layer.
    """
    folds = fold_layer(layer, array, compat)
    cycles = layer.groups * folds.cycles
    if cycles >= 1 << 63:
        raise ValueError(f"layer {layer.name!r:.80}: {cycles} cycles are more than 63 bits count")
    held = _held_values(layer, compat)
    weights, results = folds.window * folds.filters, folds.pixels * folds.filters
    partial = 0
    if array.dataflow is Dataflow.OUTPUT_STATIONARY:
        ifmap, filters, writes = held * folds.col_folds, weights * folds.row_folds, results
    else:
        writes, partial = results * folds.row_folds, results * (folds.row_folds - 1)
        weight_stationary = array.dataflow is Dataflow.WEIGHT_STATIONARY
        ifmap = held * (folds.col_folds if weight_stationary else 1)
        filters = weights * (1 if weight_stationary else folds.col_folds)
    ports = {
        "ifmap": Accesses(reads=layer.groups * ifmap, writes=0),
        "filter": Accesses(reads=layer.groups * filters, writes=0),
        "ofmap": Accesses(reads=layer.groups * partial, writes=layer.groups * writes),
    }
    dram = {
        "ifmap": Accesses(reads=layer.groups * _footprint(layer, compat), writes=0),
        "filter": Accesses(reads=layer.groups * weights, writes=0),
        "ofmap": Accesses(reads=0, writes=layer.groups * results),
    }
    return SystolicResult(
        layer=layer.name,
        array=array,
        compat=compat,
        method="closed form",
        cycles=cycles - (layer.groups if compat is Compat.SCALESIM else 0),
        macs=layer.groups * folds.pixels * weights,
        folds=layer.groups * folds.count,
        ports=MappingProxyType(ports),
        buffer_bytes=in_bytes(ports, array),
        dram_bytes=in_bytes(dram, array),
        dram_rule=HELD_WHOLE,
        peak_ports=MappingProxyType({}),
    )


def in_bytes(values: Mapping[str, Accesses], array: SystolicArray) -> Mapping[str, Accesses]:
    """Counts of values as bytes of the array's words, by operand."""
    return MappingProxyType(
        {
            operand: Accesses(
                reads=count.reads * array.word_bytes(operand), writes=count.writes * array.word_bytes(operand)
            )
            for operand, count in values.items()
        }
    )


def _cut(size: int, side: int, stride: int, outputs: int) -> int:
    """Values inside the picture that `outputs` windows have along one axis, counted once a window."""
    whole = (size - side) // stride + 1
    return min(outputs, whole) * side + max(0, outputs - whole) * max(0, size - whole * stride)


def _held_values(layer: TopologyLayer, compat: Compat) -> int:
    """Values that all windows of a group take from the picture: pixels · window, less what is cut off."""
    height, width = layer.outputs(round_up=compat is Compat.SCALESIM)
    return (
        _cut(layer.ifmap_h, layer.filter_h, layer.stride_h, height)
        * _cut(layer.ifmap_w, layer.filter_w, layer.stride_w, width)
        * layer.channels
    )


def _footprint(layer: TopologyLayer, compat: Compat) -> int:
    """Values of a group's picture that any window takes."""
    outputs = layer.outputs(round_up=compat is Compat.SCALESIM)
    return layer.channels * math.prod(
        _covered(size, side, stride, count)
        for size, side, stride, count in zip(
            (layer.ifmap_h, layer.ifmap_w),
            (layer.filter_h, layer.filter_w),
            (layer.stride_h, layer.stride_w),
            outputs,
            strict=True,
        )
    )


def _covered(size: int, side: int, stride: int, outputs: int) -> int:
    """Places along one axis that some window covers."""
    if stride < side:
        return min(size, (outputs - 1) * stride + side)
    return (outputs - 1) * side + max(0, min(side, size - (outputs - 1) * stride))
