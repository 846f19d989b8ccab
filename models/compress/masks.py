"""Which of many weights are kept: by how many, by a threshold, within a layer or over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["greatest", "greatest_of_all", "kept_count", "quality_mask"]

_Array = NDArray[Any]


def kept_count(size: int, density: float) -> int:
    """How many of `size` are kept: the nearest whole number, at least 1."""
    return max(1, round(size * density))


def greatest(scores: _Array, count: int, among: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """A mask of the `count` greatest scores; of equal ones the first.

    Args:
        scores: of any shape.
        count: how many are kept.
        among: what may be kept at all, the shape of `scores`; None is everything.
    """
    flat = scores.astype(np.float64).ravel()
    allowed = np.ones(flat.size, np.bool_) if among is None else among.ravel()
    places = np.flatnonzero(allowed)
    order = places[np.argsort(-flat[places], kind="stable")]
    kept = np.zeros(flat.size, np.bool_)
    kept[order[:count]] = True
    return kept.reshape(scores.shape)


def greatest_of_all(
    scores: Mapping[str, _Array], count: int, among: Mapping[str, NDArray[np.bool_]]
) -> dict[str, NDArray[np.bool_]]:
    """By layer, a mask of the `count` greatest scores over all layers; each layer keeps its greatest."""
    names = list(scores)
    flat = np.concatenate([scores[name].astype(np.float64).ravel() for name in names])
    allowed = np.concatenate([among[name].ravel() for name in names])
    first = 0
    for name in names:  # a layer with nothing left would cut the network in two
        part = np.where(among[name].ravel(), scores[name].ravel(), -np.inf)
        flat[first + int(part.argmax())] = np.inf
        first += scores[name].size
    kept = greatest(flat, max(count, len(names)), allowed)
    made: dict[str, NDArray[np.bool_]] = {}
    first = 0
    for name in names:
        made[name] = kept[first : first + scores[name].size].reshape(scores[name].shape)
        first += scores[name].size
    return made


def quality_mask(weights: _Array, quality: float) -> NDArray[np.bool_]:
    """A mask of the weights whose size is at least `quality` standard deviations of what isn't 0.

    Source: Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks, section 3.
    """
    alive = weights[weights != 0]
    if not alive.size:
        return np.zeros(weights.shape, np.bool_)
    kept: NDArray[np.bool_] = (weights != 0) & (np.abs(weights) >= quality * float(alive.std()))
    return kept
