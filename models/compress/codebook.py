"""Scalar codebooks: weights that share a few values, found by k-means.

Where weights were pruned, index 0 stands for 0 and is kept apart: only what is kept is clustered, into one
value fewer. Each iteration is Lloyd's exactly; an empty cluster takes the weight that lies farthest from its
own value, as scikit-learn's does.
Source: Han et al. 2016, Deep Compression, section 3; Gong et al. 2014, section 3.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .weight_codes import CodebookCode

__all__ = ["INITS", "first_centroids", "fit_codebook", "integer_codebook", "lloyd_scalar"]

INITS = ("linear", "density", "random")
"""Where centroids begin: evenly over the range, at quantiles, at weights drawn."""
_MOST_ROUNDS = 1000


def first_centroids(weights: NDArray[Any], count: int, init: str, *, seed: int = 0) -> NDArray[np.float64]:
    """Ascending starting values, shape (count,).

    Args:
        init: linear (evenly from the least to the greatest weight: few but large weights keep their own),
            density (at equal steps of the cumulative distribution) or random (weights drawn, none twice).

    Raises:
        ValueError: an unknown way, or fewer weights than values.
    """
    flat = np.asarray(weights, np.float64).ravel()
    if init not in INITS:
        raise ValueError(f"a codebook begins {', '.join(INITS)}, not {init!r:.40}")
    if not 1 <= count <= flat.size or not np.isfinite(flat).all():
        raise ValueError(f"{count} values need finite weights, at least as many: there are {flat.size}")
    if init == "linear":
        return np.linspace(flat.min(), flat.max(), count)
    if init == "density":
        return np.quantile(flat, (np.arange(count) + 0.5) / count)
    return np.sort(np.random.default_rng(seed).choice(flat, count, replace=False))


def lloyd_scalar(
    weights: NDArray[Any], centroids: NDArray[Any], *, rounds: int = _MOST_ROUNDS
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(centroids, ascending; index of each weight's, shape of the weights), when nothing changes any more.

    Args:
        rounds: after which it ends even so.

    Raises:
        ValueError: no centroids, or numbers that aren't finite.
    """
    flat = np.asarray(weights, np.float64).ravel()
    table = np.sort(np.asarray(centroids, np.float64).ravel())
    if not table.size or not np.isfinite(table).all() or not np.isfinite(flat).all():
        raise ValueError("weights and centroids must be finite, and there must be a centroid")
    order = np.argsort(flat, kind="stable")
    row = flat[order]
    sums = np.concatenate([[0.0], np.cumsum(row)])
    cuts = np.searchsorted(row, (table[1:] + table[:-1]) / 2, side="right")
    for _ in range(rounds):
        bounds = np.concatenate([[0], cuts, [row.size]])
        sizes, totals = np.diff(bounds), np.diff(sums[bounds])
        empty = np.flatnonzero(sizes == 0)
        if empty.size and row.size > table.size:
            owner = np.repeat(np.arange(table.size), sizes)
            far = np.argsort(np.abs(row - table[owner]), kind="stable")[-empty.size :]
            np.subtract.at(totals, owner[far], row[far])
            np.subtract.at(sizes, owner[far], 1)
            totals[empty], sizes[empty] = row[far], 1
        table = np.sort(np.where(sizes > 0, totals / np.maximum(sizes, 1), table))
        moved = np.searchsorted(row, (table[1:] + table[:-1]) / 2, side="right")
        if np.array_equal(moved, cuts):
            break
        cuts = moved
    indices = np.empty(row.size, np.int64)
    indices[order] = np.repeat(np.arange(table.size), np.diff(np.concatenate([[0], cuts, [row.size]])))
    return table, indices.reshape(np.shape(weights))


def fit_codebook(
    weights: NDArray[Any],
    bits: int,
    *,
    kept: NDArray[np.bool_] | None = None,
    init: str = "linear",
    seed: int = 0,
) -> CodebookCode:
    """The weights as indices of `bits` bits into values found by k-means.

    Args:
        kept: where weights weren't pruned, their shape; index 0 is then 0, and 2^bits − 1 values are free.

    Raises:
        ValueError: bits outside 1…8, weights that aren't finite, a mask of another shape, or nothing kept.
    """
    array = np.asarray(weights, np.float64)
    if not 1 <= bits <= 8:
        raise ValueError(f"a codebook's index must have from 1 to 8 bits, not {bits}")
    if kept is not None and (kept.shape != array.shape or not kept.any()):
        raise ValueError(f"what is kept must be some of weights of shape {array.shape}, not {kept.shape}")
    there = np.ones(array.shape, bool) if kept is None else kept
    apart = 0 if there.all() else 1
    free = min((1 << bits) - apart, np.unique(array[there]).size)
    table, own = lloyd_scalar(array[there], first_centroids(array[there], free, init, seed=seed))
    indices = np.zeros(array.shape, np.int64)
    indices[there] = own + apart
    return CodebookCode(
        indices=indices, centroids=np.concatenate([np.zeros(apart), table]).astype(np.float32)
    )


def integer_codebook(
    code: CodebookCode, most: int = 127
) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """(integer weights, their distinct table with 0 first where it occurs, scale) of a codebook.

    The largest centroid becomes `most`; centroids that round to the same integer become one, so the table
    may be shorter. The three are what `WeightRecord.encoded` takes as values, codebook and scale.
    """
    scale = float(np.abs(code.centroids).max()) / most or 1.0
    integers = np.rint(code.centroids.astype(np.float64) / scale).astype(np.int64)
    values = integers[code.indices]
    table = np.unique(values)
    return values, np.concatenate([table[table == 0], table[table != 0]]), scale
