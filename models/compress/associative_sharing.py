"""What filters of signs share: additions that are left when each is computed from the one most like it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SharingTree", "sharing_tree"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharingTree:
    """From which filter each is computed, and what that costs; filters are rows of ±1, t columns.

    A filter that agrees with its parent but in h columns, or with its negative, takes h additions: the inputs
    of those columns, twice, onto the parent's sum. The root takes t − 1.
    """

    order: NDArray[np.int64]
    """Shape (n,): filters, each after its parent."""
    parents: NDArray[np.int64]
    """Shape (n,): by filter; −1 for the root."""
    signs: NDArray[np.int8]
    """Shape (n,): −1 where a filter is computed from its parent's negative."""
    additions: int
    """Of all filters, computed along the tree."""
    plain: int
    """Of all filters, each computed by itself."""


def sharing_tree(filters: NDArray[np.int8]) -> SharingTree:
    """The tree of fewest additions: a minimum spanning tree over distances to a filter or its negative.

    Grown from filter 0 by Prim's rule, n² distances in memory.

    Args:
        filters: ±1, shape (n, t); all see the same inputs.

    Raises:
        ValueError: no filter, or values other than ±1.

    Source: Guo et al. 2017, Network Sketching, section 4 (the associative implementation); that a doubling is
    free, as a shift is, is our reading.
    """
    if filters.ndim != 2 or not filters.size or not np.all(np.abs(filters) == 1):
        raise ValueError(f"filters must be ±1, shape (n, t), n and t above 0, not shape {filters.shape}")
    n, t = filters.shape
    agreement = filters.astype(np.float32) @ filters.astype(np.float32).T
    distance = ((t - np.abs(agreement)) / 2).astype(np.int64)
    parents, signs = np.full(n, -1, np.int64), np.ones(n, np.int8)
    order, nearest, source = [0], distance[0].copy(), np.zeros(n, np.int64)
    outside = np.ones(n, np.bool_)
    outside[0] = False
    additions = t - 1
    for _ in range(n - 1):
        chosen = int(np.flatnonzero(outside)[np.argmin(nearest[outside])])
        parents[chosen] = source[chosen]
        signs[chosen] = 1 if agreement[chosen, source[chosen]] >= 0 else -1
        additions += int(nearest[chosen])
        order.append(chosen)
        outside[chosen] = False
        closer = distance[chosen] < nearest
        nearest[closer], source[closer] = distance[chosen][closer], chosen
    return SharingTree(
        order=np.array(order, np.int64), parents=parents, signs=signs, additions=additions, plain=n * (t - 1)
    )
