"""Optimal Brain Surgeon: weights cut one by one, the others moved so that the loss rises least.

Source: Hassibi and Stork 1993, Second Order Derivatives for Network Pruning: Optimal Brain Surgeon, eq. 5
(L_q and δw) and eq. 10 (the inverse Hessian by rank-one updates). Rows of a layer that share a Hessian are
cut in the order in which one row's next weight costs least, as in Frantar and Alistarh 2022.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cut_together", "elimination_order", "inverse_hessian", "surgeon_cut"]

_Array = NDArray[np.float64]


def inverse_hessian(rows: _Array, damping: float) -> _Array:
    """The inverse of H = α 1 + Σ x xᵀ / P, shape (N, N), by a rank-one update a sample (Woodbury).

    Args:
        rows: samples x, shape (P, N).
        damping: α, above 0: what the inverse starts from.
    """
    count, size = rows.shape
    inverse = np.eye(size) / damping
    for row in rows:
        product = inverse @ row
        inverse -= np.outer(product, product / (count + row @ product))
    return inverse


def elimination_order(
    weights: _Array, inverse: _Array, free: NDArray[np.bool_], most: int
) -> tuple[NDArray[np.int64], _Array]:
    """The weights in the order in which they are cut, and what each cut costs: L_q = w_q² / (2 [H⁻¹]_qq).

    Args:
        weights: shape (N,); 0 where an earlier cut has been.
        inverse: H⁻¹, shape (N, N).
        free: what may be cut, shape (N,).
        most: at most so many are cut.
    """
    current, left = weights.copy(), inverse.copy()
    open_ = free & (weights != 0)
    for q in np.flatnonzero(free & (weights == 0)):
        left -= np.outer(left[:, q], left[q] / left[q, q])
    count = min(most, int(open_.sum()))
    order, costs = np.zeros(count, np.int64), np.zeros(count)
    for step in range(count):
        diagonal = np.where(open_, left.diagonal(), 1.0)
        loss = np.where(open_, current**2 / (2.0 * diagonal), np.inf)
        least = int(loss.argmin())
        order[step], costs[step] = least, loss[least]
        current -= current[least] / left[least, least] * left[:, least]
        left -= np.outer(left[:, least], left[least] / left[least, least])
        open_[least] = False
    return order, costs


def cut_together(weights: _Array, inverse: _Array, cut: NDArray[np.bool_]) -> _Array:
    """The weights once all of `cut` are 0 and the others have moved to where the quadratic loss is least.

    δw = −H⁻¹_{:,P} (H⁻¹_{P,P})⁻¹ w_P, what the cuts one by one come to in any order.
    """
    places = np.flatnonzero(cut)
    moved = weights - inverse[:, places] @ np.linalg.solve(inverse[np.ix_(places, places)], weights[places])
    moved[places] = 0.0
    return moved


def surgeon_cut(
    weights: NDArray[Any], inverse: _Array, free: NDArray[np.bool_], keep: int
) -> tuple[_Array, NDArray[np.bool_]]:
    """The moved weights and the mask of those kept, shape (K, N) both.

    Args:
        weights: rows that share the Hessian, (K, N).
        inverse: H⁻¹, (N, N).
        free: what may be cut, (N,); the rest (a bias) moves, but always stays.
        keep: how many free weights stay, over all rows.
    """
    rows = weights.astype(np.float64)
    to_cut = max(0, int(((rows != 0) & free).sum()) - keep)
    orders = [elimination_order(row, inverse, free, to_cut) for row in rows]
    queue = [(float(costs[0]), k, 0) for k, (order, costs) in enumerate(orders) if len(order)]
    heapq.heapify(queue)
    kept = np.where(free, rows != 0, True)
    for _ in range(to_cut):
        _, k, step = heapq.heappop(queue)
        order, costs = orders[k]
        kept[k, order[step]] = False
        if step + 1 < len(order):
            heapq.heappush(queue, (float(costs[step + 1]), k, step + 1))
    moved = np.stack([cut_together(row, inverse, ~mask) for row, mask in zip(rows, kept, strict=True)])
    return moved, kept
