"""Groups of weights that are kept or cut at once, and what each is worth.

| granularity | a group is |
| --- | --- |
| element | a weight |
| vector | a row of a kernel: (k, c, y) |
| kernel | a kernel: (k, c) |
| filter | all that makes an output channel: k |
| channel | all that reads an input channel: c |
| column | a position of all filters, a column of the im2col matrix: (c, y, x) |
| block | `rows` filters by `lanes` input channels at a position, as an array of rows × lanes takes them |

Source of vector to filter: Mao et al. 2017, Exploring the Regularity of Sparse Structure in Convolutional
Neural Networks, section 3. Column: Lebedev and Lempitsky 2016, Fast ConvNets Using Group-wise Brain Damage.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GROUPINGS", "group_norms", "groups_of", "spread"]

GROUPINGS = ("element", "vector", "kernel", "filter", "channel", "column", "block")


def groups_of(shape: tuple[int, ...], granularity: str, block: tuple[int, int] = (1, 1)) -> NDArray[np.int64]:
    """The number of the group that each weight belongs to, shape of the weights, 0 … groups − 1.

    Args:
        shape: (K, C, FY, FX) or (K, N).
        granularity: see the module; of linear layers element, filter, channel, column and block.
        block: (rows, lanes) of blocks; those at the end may be smaller.

    Raises:
        ValueError: an unknown granularity, or one that linear layers don't have.
    """
    if granularity not in GROUPINGS:
        raise ValueError(f"granularity must be one of {', '.join(GROUPINGS)}, not {granularity!r}")
    if len(shape) == 2 and granularity in ("vector", "kernel"):
        raise ValueError(
            f"a linear layer has no {granularity}s: select conv, or take element, filter, column or block"
        )
    k, c, *window = np.indices(shape)
    size = list(shape)
    if granularity == "block":
        parts, sizes = (
            [k // block[0], c // block[1], *window],
            [
                -(-shape[0] // block[0]),
                -(-shape[1] // block[1]),
                *shape[2:],
            ],
        )
    else:
        axes = {
            "element": range(len(shape)),
            "vector": range(3),
            "kernel": range(2),
            "filter": range(1),
            "channel": range(1, 2),
            "column": range(1, len(shape)),
        }[granularity]
        parts, sizes = [(k, c, *window)[axis] for axis in axes], [size[axis] for axis in axes]
    found: NDArray[np.int64] = np.ravel_multi_index(tuple(parts), tuple(sizes)).astype(np.int64)
    return found


def group_norms(values: NDArray[Any], groups: NDArray[np.int64], norm: str = "l1") -> NDArray[np.float64]:
    """What each group is worth, shape (groups,): its mean size (l1) or its root mean square (l2).

    Means, so that groups at the end of a layer, which may be smaller, aren't cut for that.
    """
    flat, places = values.astype(np.float64).ravel(), groups.ravel()
    counts = np.bincount(places)
    if norm == "l1":
        return np.asarray(np.bincount(places, np.abs(flat)) / counts)
    return np.asarray(np.sqrt(np.bincount(places, flat**2) / counts))


def spread(kept: NDArray[np.bool_], groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The mask of weights, shape of `groups`, that a mask of groups stands for."""
    found: NDArray[np.bool_] = kept[groups]
    return found
