"""Which input channels a layer can do without, and the weights that make up for the others.

| what | chooses | then |
| --- | --- | --- |
| `greedy_channels` | ThiNet: those whose sums together come to least | a least-squares factor a channel |
| `lasso_channels` | by the least λ at which the LASSO keeps few enough | least squares of all weights |
| `combinations` | (given) | channels that go as linear combinations of those that stay |

Sources: Luo, Wu and Lin 2017, ThiNet, algorithm 1 and eq. 7; He, Zhang and Sun 2017, Channel Pruning for
Accelerating Very Deep Neural Networks, eq. 1–3; Polyak and Wolf 2015, Channel-level Acceleration of Deep
Face Representations, section 3.2 (reduce and reuse).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "combinations",
    "greedy_channels",
    "lasso_channels",
    "lasso_weights",
    "least_squares_scales",
    "refitted_weights",
]

_Array = NDArray[np.float64]
_RIDGE = 1e-6
"""Added to normal equations, in parts of their mean diagonal: channels may be copies of each other."""


def greedy_channels(parts: _Array, keep: int) -> NDArray[np.bool_]:
    """The channels that stay, (C,): one after the other goes that leaves Σ (Σ of those gone)² least.

    Args:
        parts: what each channel adds to some of the layer's sums, (samples, C).
        keep: how many stay.
    """
    gram = parts.T @ parts
    count = len(gram)
    gone = np.zeros(count, np.bool_)
    for _ in range(count - keep):
        rise = gram.diagonal() + 2.0 * gram[:, gone].sum(axis=1)
        gone[int(np.where(gone, np.inf, rise).argmin())] = True
    return ~gone


def _solve(gram: _Array, target: _Array) -> _Array:
    ridge = _RIDGE * float(np.trace(gram)) / len(gram)
    return np.asarray(np.linalg.solve(gram + max(ridge, 1e-30) * np.eye(len(gram)), target))


def least_squares_scales(parts: _Array, kept: NDArray[np.bool_]) -> _Array:
    """A factor for each channel that stays, so that their sum comes nearest to that of all."""
    chosen = parts[:, kept]
    return _solve(chosen.T @ chosen, chosen.T @ parts.sum(axis=1))


def lasso_weights(gram: _Array, target: _Array, penalty: float, start: _Array) -> _Array:
    """β that minimises ½ βᵀ G β − tᵀ β + penalty · Σ |β|, by coordinate descent from `start`."""
    beta, slope = start.copy(), gram @ start
    for _ in range(1000):
        most = 0.0
        for c in range(len(beta)):
            size = gram[c, c]
            if size <= 0:
                continue
            free = target[c] - slope[c] + size * beta[c]
            new = np.sign(free) * max(abs(free) - penalty, 0.0) / size
            if new != beta[c]:
                slope += gram[:, c] * (new - beta[c])
                most = max(most, abs(new - beta[c]))
                beta[c] = new
        if most < 1e-6:
            break
    return beta


def lasso_channels(reads: _Array, weights: _Array, keep: int) -> NDArray[np.bool_]:
    """The channels that stay, (C,): those with a β other than 0 at the λ, by bisection, that leaves `keep`.

    Args:
        reads: (samples, C, positions).
        weights: (K, C, positions); channel c adds reads[:, c] · weights[:, c] to the layer's sums.
        keep: how many stay; where no λ gives just so many, those of greatest |β| · norm of the next more.
    """
    samples, count, positions = reads.shape
    flat = reads.reshape(samples, -1)
    spread = weights.reshape(len(weights), -1)
    # Sums over samples and outputs of every two channels' products, without the (samples · K, C) matrix.
    both = (flat.T @ flat) * (spread.T @ spread)
    gram = both.reshape(count, positions, count, positions).sum(axis=(1, 3)) / samples
    target = gram.sum(axis=1)
    beta = np.ones(count)
    low, high = 0.0, float(np.abs(target).max())
    best = beta
    for _ in range(40):
        middle = 0.5 * (low + high)
        beta = lasso_weights(gram, target, middle, best)
        alive = int((beta != 0).sum())
        if alive >= keep:
            low, best = middle, beta
        else:
            high = middle
        if alive == keep:
            break
    worth = np.abs(best) * np.sqrt(np.maximum(gram.diagonal(), 0.0))
    kept = np.zeros(count, np.bool_)
    kept[np.argsort(-worth, kind="stable")[:keep]] = True
    return kept


def refitted_weights(reads: _Array, weights: _Array, kept: NDArray[np.bool_]) -> _Array:
    """Weights, (K, C, positions), 0 for channels that go, whose sums come nearest to those of `weights`."""
    samples = len(reads)
    flat = reads.reshape(samples, -1)
    wanted = flat @ weights.reshape(len(weights), -1).T
    chosen = reads[:, kept].reshape(samples, -1)
    solved = _solve(chosen.T @ chosen, chosen.T @ wanted)
    fitted = np.zeros(weights.shape)
    fitted[:, kept] = solved.T.reshape(len(weights), int(kept.sum()), -1)
    return fitted


def combinations(maps: _Array, kept: NDArray[np.bool_]) -> _Array:
    """A, (C, kept channels): channel c is nearest to Σ A[c, j] · kept channel j; kept ones are themselves.

    Args:
        maps: what the channels are, (samples, C).
    """
    chosen = maps[:, kept]
    made = np.zeros((maps.shape[1], int(kept.sum())))
    made[kept] = np.eye(int(kept.sum()))
    made[~kept] = _solve(chosen.T @ chosen, chosen.T @ maps[:, ~kept]).T
    return made
