"""Product codes corrected for a layer's responses: what counts is the error of outputs, not of weights.

Inputs come in twice: as the uncompressed network has them, which gives the responses to meet, and as the
network has them whose layers before are quantised already, which are what the codes will see. Codebooks and
indices are bettered one segment at a time, the other segments held: for given indices a codebook is a least
squares fit, for a given codebook each output channel takes the sub-vector with the least error.
Source: Wu et al. 2016, Quantized Convolutional Neural Networks, sections 3.2 and 3.3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .weight_codes import ProductCode

__all__ = ["correct_responses", "response_error"]

_Matrix = NDArray[np.float64]


def _matrix(code: ProductCode) -> _Matrix:
    """The code's weights with the columns that fill up the last segment, shape (K, segments · length)."""
    (_, segments, rows), length = code.indices.shape, code.centroids.shape[3]
    parts = [code.centroids[0, s].astype(np.float64)[code.indices[0, s]] for s in range(segments)]
    return np.concatenate(parts, axis=1).reshape(rows, segments * length)


def response_error(
    weights: NDArray[Any], code: ProductCode, inputs: NDArray[Any], seen: NDArray[Any]
) -> float:
    """The mean square of what the coded layer's responses miss.

    Args:
        weights: the layer's own, shape (K, …), flattened to (K, N).
        inputs: of the uncompressed network, shape (samples, N); a convolution's are its im2col rows.
        seen: of the network whose layers before are quantised, the same shape.
    """
    rows = np.asarray(weights, np.float64).reshape(len(weights), -1)
    coded = code.weights().astype(np.float64).reshape(rows.shape)
    missed = np.asarray(inputs, np.float64) @ rows.T - np.asarray(seen, np.float64) @ coded.T
    return float((missed * missed).mean())


def correct_responses(
    weights: NDArray[Any],
    code: ProductCode,
    inputs: NDArray[Any],
    seen: NDArray[Any] | None = None,
    *,
    rounds: int = 10,
) -> ProductCode:
    """The code, with codebooks and indices fitted to the layer's responses; never worse by `response_error`.

    Args:
        weights: the layer's own, shape (K, …).
        inputs: of the uncompressed network, shape (samples, N).
        seen: of the network whose layers before are quantised; None where none is.
        rounds: over all segments; ends before, once no index changes and the error falls by less than 1e-9.

    Raises:
        ValueError: a code of several stages, or shapes that don't fit.
    """
    rows = np.asarray(weights, np.float64).reshape(len(weights), -1)
    first = np.asarray(inputs, np.float64)
    second = first if seen is None else np.asarray(seen, np.float64)
    if code.indices.shape[0] != 1:
        raise ValueError(f"responses correct codes of 1 stage, not {code.indices.shape[0]}")
    if first.shape != second.shape or first.ndim != 2 or first.shape[1] != rows.shape[1]:
        raise ValueError(
            f"inputs must have the shape (samples, {rows.shape[1]}), not {first.shape} and {second.shape}"
        )
    length, segments = code.centroids.shape[3], code.indices.shape[1]
    padded = np.zeros((len(second), segments * length))
    padded[:, : rows.shape[1]] = second
    gram = padded.T @ padded
    wanted = padded.T @ (first @ rows.T)  # (N, K): inputs against the responses to meet
    power = float(((first @ rows.T) ** 2).sum())
    indices, centroids = code.indices.copy(), code.centroids.astype(np.float64)
    coded = _matrix(code).T
    error = _error(gram, wanted, power, coded)
    for _ in range(rounds):
        before, changed = error, False
        for s in range(segments):
            place = slice(s * length, (s + 1) * length)
            own = gram[place, place]
            others = gram[place] @ coded - own @ coded[place]
            target = wanted[place] - others  # of this segment alone
            table, index = _fit(own, target, centroids[0, s], indices[0, s])
            changed |= not np.array_equal(index, indices[0, s])
            centroids[0, s], indices[0, s] = table, index
            coded[place] = table[index].T
        error = _error(gram, wanted, power, coded)
        if not changed and before - error <= 1e-9 * power:
            break
    return ProductCode(indices=indices, centroids=centroids.astype(np.float32), shape=code.shape)


def _error(gram: _Matrix, wanted: _Matrix, power: float, coded: _Matrix) -> float:
    """The square of what responses miss, from the normal equations."""
    return power + float((coded * (gram @ coded)).sum() - 2 * (coded * wanted).sum())


def _fit(
    own: _Matrix, target: _Matrix, table: _Matrix, index: NDArray[np.int64]
) -> tuple[_Matrix, NDArray[np.int64]]:
    """One step for a segment: its codebook by least squares, then each output channel's index."""
    sizes = np.bincount(index, minlength=len(table))
    sums = np.stack([np.bincount(index, line, len(table)) for line in target])
    means = sums / np.maximum(sizes, 1)
    # Where inputs leave a direction open, the sub-vector keeps what it had.
    fitted = table.T + np.linalg.pinv(own, rcond=1e-10, hermitian=True) @ (means - own @ table.T)
    better = np.where(sizes > 0, fitted, table.T).T
    costs = ((better @ own) * better).sum(axis=1)[:, None] - 2 * better @ target
    return better, costs.argmin(axis=0)
