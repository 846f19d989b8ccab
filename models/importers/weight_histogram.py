"""Histograms of weights and the bits that a Huffman code of them takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..payload.code_lengths import huffman_lengths

__all__ = ["LEVELS", "WeightHistogram", "weight_histogram"]

LEVELS = 32
"""How many values or ranges of values a histogram tells apart at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightHistogram:
    """How often a layer's weights lie at each level, and what writing them down as levels takes."""

    levels: tuple[float, ...]
    """Ascending: the distinct values where there are at most 32, else the middles of 32 equal ranges."""
    counts: tuple[int, ...]
    exact: bool
    """Whether the levels are the values themselves."""
    raw_bits: int
    """All weights with a level number of ⌈log2 levels⌉ bits each, at least 1."""
    huffman_bits: int
    """All weights in a Huffman code of the levels; the code's table is not in it."""
    table_bits: int
    """The table of a canonical code, which is a length a level: ⌈log2 levels⌉ bits each."""


def weight_histogram(values: NDArray[Any]) -> WeightHistogram:
    """How a layer's weights spread over at most 32 levels.

    Args:
        values: integer or float weights, any shape, at least one.

    Raises:
        ValueError: no values, or some that aren't finite.
    """
    flat = np.asarray(values).ravel()
    if not flat.size or not np.isfinite(flat).all():
        raise ValueError("weights must be finite, and at least one")
    # A part of the weights tells most often that there are many values, without sorting them all.
    exact = np.unique(flat[:4096]).size <= LEVELS
    if exact:
        distinct, found = np.unique(flat, return_counts=True)
        exact = distinct.size <= LEVELS
    if exact:
        levels, counts = [float(v) for v in distinct], [int(n) for n in found]
    else:
        # In double, so that the span of float32's or int32's extremes is finite.
        found, edges = np.histogram(flat.astype(np.float64), LEVELS)
        levels = [float(v) for v in (edges[:-1] + edges[1:]) / 2]
        counts = [int(n) for n in found]
    width = max(1, math.ceil(math.log2(len(levels))))
    lengths = huffman_lengths(counts)
    return WeightHistogram(
        levels=tuple(levels),
        counts=tuple(counts),
        exact=exact,
        raw_bits=flat.size * width,
        huffman_bits=sum(count * length for count, length in zip(counts, lengths, strict=True)),
        table_bits=len(levels) * width,
    )
