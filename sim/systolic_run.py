"""A layer on a systolic array cycle by cycle: counts at the ports, DRAM traffic of its buffers, a trace."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ..models.topology import TopologyLayer
from .systolic import (
    HELD_WHOLE,
    OPERANDS,
    Accesses,
    Compat,
    SystolicArray,
    SystolicResult,
    closed_form,
    fold_layer,
    in_bytes,
)
from .systolic_steps import BLOCK_CYCLES, COUNTS, CycleBlock, picture_values, step_layer

__all__ = ["Buffers", "run_stepped"]

_MOST_VALUES = 1 << 25
"""Of one operand; each takes 8 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffers:
    """Bytes of the three buffers between the array and DRAM, each one half in use and one half being filled.

    A half keeps the values that entered it last, first in first out. Raises ValueError for a size below 2.
    """

    ifmap_bytes: int
    filter_bytes: int
    ofmap_bytes: int

    def __post_init__(self) -> None:
        for operand in OPERANDS:
            size = getattr(self, f"{operand}_bytes")
            if size < 2:
                raise ValueError(
                    f"buffers.{operand}_bytes must be at least 2, a value for each half, not {size}"
                )

    def values(self, operand: str, array: SystolicArray) -> int:
        """Values of an operand that half of its buffer holds.

        Raises:
            ValueError: not even one.
        """
        size, word = getattr(self, f"{operand}_bytes"), array.word_bytes(operand)
        if size // 2 < word:
            raise ValueError(
                f"buffers.{operand}_bytes must be at least {2 * word}, a value of {word} bytes for each "
                f"half, not {size}"
            )
        return int(size // 2 // word)


def run_stepped(
    layer: TopologyLayer,
    array: SystolicArray,
    compat: Compat = Compat.NONE,
    *,
    buffers: Buffers | None = None,
    trace: Path | None = None,
    block_cycles: int = BLOCK_CYCLES,
) -> SystolicResult:
    """What the layer's streams come to, counted cycle by cycle.

    Args:
        buffers: DRAM traffic is what they miss; without them each value crosses once.
        trace: a folder that gets `ifmap.csv`, `filter.csv` and `ofmap.csv`, a line a cycle: its number and
            each port's address, −1 for idle ones.

    Raises:
        ValueError: as `step_layer` and `Buffers.values`.
        OSError: the folder can't be written.
    """
    expected = closed_form(layer, array, compat)
    totals = np.zeros(len(COUNTS), np.int64)
    peaks = np.zeros(len(COUNTS), np.int64)
    cycles = 0
    traffic = None if buffers is None else _Traffic(layer, array, compat, buffers)
    with contextlib.ExitStack() as stack:
        files: list[IO[str]] = []
        if trace is not None:
            trace.mkdir(parents=True, exist_ok=True)
            files = [
                stack.enter_context(open(trace / f"{operand}.csv", "w", encoding="ascii"))
                for operand in OPERANDS
            ]
        for block in step_layer(layer, array, compat, block_cycles=block_cycles):
            cycles += len(block.counts)
            totals += block.counts.sum(0, dtype=np.int64)
            np.maximum(peaks, block.counts.max(0), out=peaks)
            if traffic is not None:
                traffic.take(block)
            numbers = np.arange(block.first_cycle, cycles)[:, None]
            for file, carried in zip(files, (block.ifmap, block.filters, block.ofmap), strict=False):
                np.savetxt(file, np.hstack([numbers, carried]), fmt="%d", delimiter=",")
    count = dict(zip(COUNTS, totals.tolist(), strict=True))
    ports = {
        "ifmap": Accesses(reads=count["ifmap_reads"], writes=0),
        "filter": Accesses(reads=count["filter_reads"], writes=0),
        "ofmap": Accesses(reads=count["ofmap_reads"], writes=count["ofmap_writes"]),
    }
    return SystolicResult(
        layer=layer.name,
        array=array,
        compat=compat,
        method="stepped",
        cycles=cycles - (layer.groups if compat is Compat.SCALESIM else 0),
        macs=count["macs"],
        folds=expected.folds,
        ports=MappingProxyType(ports),
        buffer_bytes=in_bytes(ports, array),
        dram_bytes=expected.dram_bytes if traffic is None else in_bytes(traffic.values(), array),
        dram_rule=HELD_WHOLE if traffic is None else "half of each buffer serves, first in first out",
        peak_ports=MappingProxyType(dict(zip(OPERANDS, peaks[:3].tolist(), strict=True))),
    )


class _Traffic:
    """DRAM traffic of a layer's streams: values that the buffers don't hold when they are needed."""

    def __init__(self, layer: TopologyLayer, array: SystolicArray, compat: Compat, buffers: Buffers) -> None:
        from .fifo_kernel import NEVER, touch  # what needs no buffers needs no compiler

        self._miss = touch
        folds = fold_layer(layer, array, compat)
        sizes = (
            picture_values(layer),
            folds.window * folds.filters,
            folds.pixels * folds.filters,
        )
        for operand, size in zip(OPERANDS, sizes, strict=True):
            if size * layer.groups > _MOST_VALUES:
                raise ValueError(
                    f"layer {layer.name!r:.80}: buffers are followed for at most {_MOST_VALUES} values of an "
                    f"operand, not {size * layer.groups} of {operand}: leave them out"
                )
        self._capacity = [buffers.values(operand, array) for operand in OPERANDS]
        self._entered = [np.full(layer.groups * size, NEVER, np.int64) for size in sizes]
        self._misses = [0, 0, 0]
        self._again = 0

    def take(self, block: CycleBlock) -> None:
        """Nothing; counts the block's misses. A sum that left its buffer is read back before it grows on."""
        self._touch(0, block.ifmap)
        self._touch(1, block.filters)
        grows = block.counts[:, 3] > 0
        changes = (np.flatnonzero(np.diff(grows)) + 1).tolist()
        for first, stop in itertools.pairwise([0, *changes, grows.size]):
            missed = self._touch(2, block.ofmap[first:stop])
            self._again += missed * bool(grows[first])

    def _touch(self, number: int, addresses: NDArray[np.int32]) -> int:
        missed = int(
            self._miss(addresses, self._entered[number], self._misses[number], self._capacity[number])
        )
        self._misses[number] += missed
        return missed

    def values(self) -> Mapping[str, Accesses]:
        """Values read from and written to DRAM so far, by operand; all results end up there."""
        ifmap, filters, ofmap = self._misses
        return {
            "ifmap": Accesses(reads=ifmap, writes=0),
            "filter": Accesses(reads=filters, writes=0),
            "ofmap": Accesses(reads=self._again, writes=ofmap),
        }
