"""FINN's published binary networks with the folding that they were published with, and what was measured.

Source of every PE and SIMD: Xilinx/BNN-PYNQ, bnn/src/network/lfcW1A1/hw/config.h and cnvW1A1/hw/config.h,
whose `Ext Latency` of each layer is what `MatrixVectorUnit.cycles` must come to. The first layer of LFC is
padded from 784 to 832 inputs there, the last ones of both from 10 to 64 outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from .streaming import MatrixVectorUnit, Pipeline, StreamingResult

__all__ = ["MLPERF_TINY_CNV", "PUBLISHED", "Measured", "cnv_w1a1", "explain_gap", "lfc_w1a1"]

_SOURCE = "Xilinx/BNN-PYNQ, bnn/src/network/{}/hw/config.h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A throughput that somebody measured; nothing here is fitted to it."""

    network: str
    images_per_second: float
    clock_hz: float
    source: str

    @property
    def cycles(self) -> float:
        """Clock cycles an image."""
        return self.clock_hz / self.images_per_second


MLPERF_TINY_CNV = Measured(
    network="CNV-W1A1",
    images_per_second=661.5,
    clock_hz=100e6,
    source="MLPerf Tiny, image classification on a Pynq-Z2 (Borras et al. 2022, arXiv:2206.11791)",
)


def lfc_w1a1(clock_hz: float = 100e6) -> Pipeline:
    """LFC-W1A1: 784 inputs (padded to 832), three layers of 1,024, 10 outputs (padded to 64)."""
    sizes = ((1024, 832, 32, 64), (1024, 1024, 64, 32), (1024, 1024, 32, 64), (64, 1024, 16, 8))
    units = tuple(
        MatrixVectorUnit(name=f"fc{number}", mh=mh, mw=mw, pe=pe, simd=simd)
        for number, (mh, mw, pe, simd) in enumerate(sizes, 1)
    )
    return Pipeline(name="LFC-W1A1", units=units, clock_hz=clock_hz, source=_SOURCE.format("lfcW1A1"))


def cnv_w1a1(clock_hz: float = 100e6) -> Pipeline:
    """CNV-W1A1 on 32 × 32: six 3 × 3 convolutions, two pools, three fully connected layers."""
    # channels in and out, side of the picture, PEs, lanes, pool
    convolutions = (
        (3, 64, 32, 16, 3, 1),
        (64, 64, 30, 32, 32, 2),
        (64, 128, 14, 16, 32, 1),
        (128, 128, 12, 16, 32, 2),
        (128, 256, 5, 4, 32, 1),
        (256, 256, 3, 1, 32, 1),
    )
    units = [
        MatrixVectorUnit(
            name=f"conv{number}",
            mh=made,
            mw=9 * taken,
            pe=pe,
            simd=simd,
            picture=side,
            kernel=3,
            pool=pool,
        )
        for number, (taken, made, side, pe, simd, pool) in enumerate(convolutions, 1)
    ]
    units += [
        MatrixVectorUnit(name=f"fc{number}", mh=mh, mw=mw, pe=pe, simd=simd)
        for number, (mh, mw, pe, simd) in enumerate(((512, 256, 1, 4), (512, 512, 1, 8), (64, 512, 4, 1)), 1)
    ]
    return Pipeline(name="CNV-W1A1", units=tuple(units), clock_hz=clock_hz, source=_SOURCE.format("cnvW1A1"))


PUBLISHED = {"lfc": lfc_w1a1, "cnv": cnv_w1a1}
"""By the zoo's names."""


def explain_gap(result: StreamingResult, measured: Measured) -> list[str]:
    """Lines that put a measured throughput beside what is modelled, and say what lies between them."""
    work = sum(unit.cycles for unit in result.units)
    beyond = measured.cycles - result.latency_cycles
    return [
        f"measured: {measured.images_per_second:g} images/s, {measured.cycles:,.0f} cycles an image at "
        f"{measured.clock_hz / 1e6:g} MHz ({measured.source})",
        f"modelled back to back: {result.initiation_interval:,} cycles an image, the slowest unit's; the "
        f"measured figure is {measured.cycles / result.initiation_interval:.2f} times that",
        f"modelled alone in the pipeline: {result.latency_cycles:,} cycles an image (all units' work, one "
        f"after the other, would be {work:,})",
        "MLPerf Tiny sends an image when the one before has been answered, so the latency is what compares: "
        f"{abs(beyond):,.0f} cycles ({abs(beyond) / measured.cycles:.0%} of the measured figure) "
        + ("lie beyond it" if beyond > 0 else "fewer were measured")
        + ": the host's driver, DMA and the units' own pipelines, none of which is modelled, and a folding "
        "of the measured build that may differ from the published one; nothing is fitted",
    ]
