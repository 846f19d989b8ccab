"""Product and residual quantisation: sub-vectors of a layer's rows from codebooks.

A layer is a matrix (K, N), a row an output channel. Its columns are cut into segments of `length`; the rows'
parts in a segment are clustered by k-means. Residual quantisation clusters again what is left over.
Source: Gong et al. 2014, sections 3.3 and 3.4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .weight_codes import ProductCode

__all__ = ["lloyd", "product_quantize"]

_STEP = 1 << 22
"""Distances that are held at once."""
_MOST_ROUNDS = 300


def _nearest(points: NDArray[np.float64], centroids: NDArray[np.float64]) -> NDArray[np.int64]:
    norms = (centroids * centroids).sum(axis=1)
    step = max(1, _STEP // len(centroids))
    parts = [
        (norms - 2 * points[i : i + step] @ centroids.T).argmin(axis=1) for i in range(0, len(points), step)
    ]
    return np.concatenate(parts)


def lloyd(
    points: NDArray[Any], centroids: NDArray[Any], *, rounds: int = _MOST_ROUNDS
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(centroids, index of each point's), when nothing changes any more.

    An empty cluster takes the point that lies farthest from its own centroid.

    Args:
        points: shape (points, length).
        centroids: to begin with, shape (values, length).
        rounds: after which it ends even so.

    Raises:
        ValueError: shapes that don't fit, or numbers that aren't finite.
    """
    data, table = np.asarray(points, np.float64), np.array(centroids, np.float64)
    if (
        data.ndim != 2
        or table.ndim != 2
        or data.shape[1:] != table.shape[1:]
        or 0 in data.shape + table.shape
    ):
        raise ValueError(f"points and centroids must be rows of one length, not {data.shape}, {table.shape}")
    if not (np.isfinite(data).all() and np.isfinite(table).all()):
        raise ValueError("points and centroids must be finite")
    own = _nearest(data, table)
    for _ in range(rounds):
        sizes = np.bincount(own, minlength=len(table))
        sums = np.stack([np.bincount(own, column, len(table)) for column in data.T], axis=1)
        empty = np.flatnonzero(sizes == 0)
        if empty.size and len(data) > len(table):
            far = np.argsort(((data - table[own]) ** 2).sum(axis=1), kind="stable")[-empty.size :]
            np.subtract.at(sums, own[far], data[far])
            np.subtract.at(sizes, own[far], 1)
            sums[empty], sizes[empty] = data[far], 1
        table = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], table)
        moved = _nearest(data, table)
        if np.array_equal(moved, own):
            break
        own = moved
    return table, own


def product_quantize(
    weights: NDArray[Any], *, length: int, values: int, stages: int = 1, seed: int = 0
) -> ProductCode:
    """The weights as sub-vectors of codebooks, one codebook a segment and stage.

    Args:
        weights: shape (K, …); all but the first axis are flattened, and filled up to whole segments with 0.
        length: columns of a segment.
        values: sub-vectors of a codebook, at most K.
        stages: 1 is product quantisation; of more, each quantises what those before leave over.

    Raises:
        ValueError: fewer output channels than values, counts below 1, or weights that aren't finite.
    """
    array = np.asarray(weights, np.float64)
    if array.ndim < 2 or not np.isfinite(array).all():
        raise ValueError(f"weights must be finite, shape (K, …), not {array.shape}")
    rows = array.reshape(len(array), -1)
    if min(length, values, stages) < 1 or values > len(rows) or length > rows.shape[1]:
        raise ValueError(
            f"a codebook must have 1 to {len(rows)} sub-vectors (the output channels) of 1 to "
            f"{rows.shape[1]} columns in 1 stage or more, not {values} of {length} in {stages}"
        )
    segments = -(-rows.shape[1] // length)
    left = np.zeros((len(rows), segments * length))
    left[:, : rows.shape[1]] = rows
    rng = np.random.default_rng(seed)
    indices = np.empty((stages, segments, len(rows)), np.int64)
    centroids = np.empty((stages, segments, values, length), np.float32)
    for stage in range(stages):
        for segment in range(segments):
            part = left[:, segment * length : (segment + 1) * length]
            first = part[rng.choice(len(part), values, replace=False)]
            table, own = lloyd(part, first)
            centroids[stage, segment], indices[stage, segment] = table.astype(np.float32), own
            part -= centroids[stage, segment][own]
    return ProductCode(indices=indices, centroids=centroids, shape=array.shape)
