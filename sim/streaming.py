"""A streaming pipeline in the manner of FINN: a matrix-vector unit a layer, all at work at once.

A unit of PE × SIMD products a cycle takes (MH / PE) · (MW / SIMD) cycles for each pixel of its MH × MW matrix
(Umuroglu et al. 2017, FINN, section 4.2). The slowest unit sets the initiation interval: how many cycles lie
between two images. Latency, how long one image takes alone, comes from when values arrive at each unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.topology import TopologyLayer

__all__ = ["MatrixVectorUnit", "Pipeline", "StreamingResult", "UnitResult", "stream_pipeline"]

ASSUMPTIONS = (
    "inputs are there when asked for",
    "queues between units never fill",
    "a convolution begins a window when all of its pixels are there",
    "a pool takes no cycles of its own",
)
"""What latency rests on; layer cycles and initiation interval rest on none but the queues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixVectorUnit:
    """One layer's engine: `pe` rows and `simd` columns of its matrix at a time.

    Raises:
        ValueError: a size below 1, PEs that don't divide the rows, lanes that don't divide the columns,
            or windows that don't fit the picture; names unit and key.
    """

    name: str
    mh: int
    """Rows of the matrix: output channels, as the unit has them (with padding)."""
    mw: int
    """Columns: values of a window."""
    pe: int
    simd: int
    picture: int = 1
    """Side of the square input, in pixels; 1 for a fully connected layer."""
    kernel: int = 1
    pool: int = 1
    """Side of the max pool's square windows behind it, which don't overlap."""

    def __post_init__(self) -> None:
        for key in ("mh", "mw", "pe", "simd", "picture", "kernel", "pool"):
            if getattr(self, key) < 1:
                raise ValueError(f"unit {self.name}: {key} must be at least 1, not {getattr(self, key)}")
        for key, whole, of in (("pe", "mh", self.mh), ("simd", "mw", self.mw)):
            if of % getattr(self, key):
                raise ValueError(
                    f"unit {self.name}: {key} must divide {whole} ({of}), not be {getattr(self, key)}"
                )
        if self.kernel > self.picture:
            raise ValueError(
                f"unit {self.name}: kernel must be at most picture ({self.picture}), not {self.kernel}"
            )
        if self.side % self.pool:
            raise ValueError(f"unit {self.name}: pool must divide {self.side} results, not be {self.pool}")

    @classmethod
    def of_layer(cls, layer: TopologyLayer, *, pe: int, simd: int) -> MatrixVectorUnit:
        """The unit of a square convolution with stride 1, or of a product with one row.

        Raises:
            ValueError: another layer; as for the class.
        """
        square = layer.ifmap_h == layer.ifmap_w and layer.filter_h == layer.filter_w
        row = layer.is_product and layer.ifmap_h == 1
        steps = (layer.stride_h, layer.stride_w, layer.dilation_h, layer.dilation_w, layer.groups)
        if not row and (not square or steps != (1,) * 5):
            raise ValueError(
                f"layer {layer.name!r:.80}: a streaming unit takes square convolutions of stride 1 in one "
                "group, not dilated, and products with one row"
            )
        return cls(
            name=layer.name,
            mh=layer.filters,
            mw=layer.window,
            pe=pe,
            simd=simd,
            picture=1 if row else layer.ifmap_h,
            kernel=1 if row else layer.filter_h,
        )

    @property
    def side(self) -> int:
        """Side of the square result before the pool."""
        return self.picture - self.kernel + 1

    @property
    def pixel_cycles(self) -> int:
        """Cycles of one pixel: the matrix, part by part."""
        return (self.mh // self.pe) * (self.mw // self.simd)

    @property
    def cycles(self) -> int:
        """Cycles of one image."""
        return self.pixel_cycles * self.side**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Units in a row, and where their folding comes from.

    Raises:
        ValueError: no units, a clock that isn't above 0, or a unit whose picture isn't what the one before
            makes.
    """

    name: str
    units: tuple[MatrixVectorUnit, ...]
    clock_hz: float
    source: str
    """Of the folding."""

    def __post_init__(self) -> None:
        if not self.units:
            raise ValueError(f"pipeline {self.name} has no units")
        if not 0 < self.clock_hz < 1e12:
            raise ValueError(
                f"pipeline {self.name}: clock_hz must be above 0 and below 1e12, not {self.clock_hz}"
            )
        for before, unit in zip(self.units, self.units[1:], strict=False):
            if unit.picture not in (1, before.side // before.pool):
                raise ValueError(
                    f"unit {unit.name}: picture must be {before.side // before.pool}, what {before.name} "
                    f"makes, or 1 for all of it, not {unit.picture}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitResult:
    """What one unit does with one image."""

    name: str
    cycles: int
    """Of work: (MH / PE) · (MW / SIMD) · pixels."""
    done_cycle: int
    """When its last result is there, if the pipeline was empty before."""
    utilization: float
    """Its work in each initiation interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamingResult:
    """What a pipeline comes to; measured figures stand beside it, never in it."""

    pipeline: str
    source: str
    clock_hz: float
    units: tuple[UnitResult, ...]
    initiation_interval: int
    """Cycles between two images when they come back to back."""
    latency_cycles: int
    """Cycles of one image through an empty pipeline."""
    assumptions: tuple[str, ...] = ASSUMPTIONS
    fidelity: str = "modelled"

    @property
    def images_per_second(self) -> float:
        """Back to back."""
        return self.clock_hz / self.initiation_interval

    @property
    def single_images_per_second(self) -> float:
        """One after the other, each alone in the pipeline."""
        return self.clock_hz / self.latency_cycles

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "pipeline": self.pipeline,
            "source": self.source,
            "clock_hz": self.clock_hz,
            "units": [
                {
                    "name": unit.name,
                    "cycles": unit.cycles,
                    "done_cycle": unit.done_cycle,
                    "utilization": unit.utilization,
                }
                for unit in self.units
            ],
            "initiation_interval": self.initiation_interval,
            "latency_cycles": self.latency_cycles,
            "images_per_second": self.images_per_second,
            "single_images_per_second": self.single_images_per_second,
            "assumptions": list(self.assumptions),
            "fidelity": self.fidelity,
        }


def stream_pipeline(pipeline: Pipeline) -> StreamingResult:
    """Cycles of each unit, initiation interval and latency.

    A unit goes through its matrix in MH / PE passes over a window of MW / SIMD steps. In the first pass a
    fully connected layer takes values as they come, so it ends a cycle after the last of them; a convolution
    waits for the whole window. Then the other passes follow, on the values that the unit has kept.
    """
    interval = max(unit.cycles for unit in pipeline.units)
    arrived: NDArray[np.int64] = np.zeros((1, 1), np.int64)
    found = []
    for unit in pipeline.units:
        arrived = _results(unit, _windows(unit, arrived))
        found.append(
            UnitResult(
                name=unit.name,
                cycles=unit.cycles,
                done_cycle=int(arrived.max()),
                utilization=unit.cycles / interval,
            )
        )
    return StreamingResult(
        pipeline=pipeline.name,
        source=pipeline.source,
        clock_hz=pipeline.clock_hz,
        units=tuple(found),
        initiation_interval=interval,
        latency_cycles=found[-1].done_cycle,
    )


def _windows(unit: MatrixVectorUnit, arrived: NDArray[np.int64]) -> Sequence[int]:
    """When the last value of each window is there, in order of the windows."""
    if arrived.shape == (1, 1) or unit.picture == 1:
        return [int(arrived.max())] * unit.side**2
    # Pixels arrive in order, so a window's last corner is the last of it.
    corner = unit.kernel - 1
    last: list[int] = arrived[corner:, corner:].ravel().tolist()
    return last


def _results(unit: MatrixVectorUnit, windows: Sequence[int]) -> NDArray[np.int64]:
    """When each pixel behind the pool is there, shape (rows, cols)."""
    steps = unit.mw // unit.simd
    streams = unit.picture == 1
    done, end = [], 0
    for there in windows:
        first_pass = max(end + steps, there + 1) if streams else max(end, there) + steps
        end = first_pass + unit.pixel_cycles - steps
        done.append(end)
    pooled = np.array(done, np.int64).reshape(unit.side, unit.side)[unit.pool - 1 :: unit.pool]
    return pooled[:, unit.pool - 1 :: unit.pool]
