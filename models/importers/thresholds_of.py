"""Exact thresholds of a function that was written in float, found by bisection over its accumulators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FoundThresholds", "Levels", "find_thresholds"]

Levels = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""Takes accumulators, shape (P, K), and gives the integers that they become, of the same shape."""

_PROBES = 257
_INT32_MAX = (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundThresholds:
    """level = low + step · (how many of the channel's thresholds t have acc ≥ t), for every accumulator."""

    values: NDArray[np.int64]
    """Shape (K, T), no row decreases; of channels that fall, thresholds of −acc."""
    low: int
    step: int
    falls: NDArray[np.bool_]
    """Shape (K,): where the function decreases, so that the channel's weights must change sign."""


def find_thresholds(
    levels: Levels, least: NDArray[np.int64], most: NDArray[np.int64], *, low: int, high: int, step: int = 1
) -> FoundThresholds:
    """The thresholds that make of every accumulator what `levels` makes of it.

    Args:
        levels: never decreases along a channel's accumulators, or never increases; either way by channel.
        least: of each channel's accumulators, shape (K,).
        most: of each channel's accumulators, shape (K,).
        low: the least integer that `levels` may give.
        high: the greatest.
        step: what integers differ by, 1 or 2.

    Raises:
        ValueError: a function that isn't monotone, gives an integer that it may not, takes more than 255
            thresholds, or has accumulators beyond int32.
    """
    if int(least.min()) <= -_INT32_MAX or int(most.max()) >= _INT32_MAX:
        raise ValueError("its accumulators must fit int32")
    ends = levels(np.stack([least, most]))
    falls = ends[0] > ends[1]
    sign = np.where(falls, -1, 1)
    first, last = np.where(falls, -most, least), np.where(falls, -least, most)
    starts, stops = ends.min(axis=0), ends.max(axis=0)
    if (high - low) // step > 15:  # leave out the levels that no channel has
        low, high = int(starts.min()), max(int(stops.max()), int(starts.min()) + step)
        if high > 127:  # all is one level, the greatest there is
            low, high = low - step, low
    count = (high - low) // step
    if count > 255:
        raise ValueError(f"it makes {count + 1} levels, the core's thresholds at most 256")
    wanted = (low + step * np.arange(1, count + 1))[:, None]
    under = np.broadcast_to(first, (count, first.size)).copy()
    over = np.broadcast_to(last + 1, (count, first.size)).copy()
    while np.any(under < over):
        middle = (under + over) >> 1
        reached = (levels(np.minimum(middle, last) * sign) >= wanted) | (middle > last)
        over = np.where(reached, middle, over)
        under = np.where(reached, under, middle + 1)
    values = under.T
    _check(levels, values, first, last, sign, low, step)
    return FoundThresholds(values=values, low=low, step=step, falls=falls)


def _check(
    levels: Levels,
    values: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    sign: NDArray[Any],
    low: int,
    step: int,
) -> None:
    """Nothing; ValueError where thresholds and function differ on a threshold, beside it or in between."""
    if np.any(np.diff(values, axis=1) < 0):
        raise ValueError("it must rise or fall with the accumulators, not do both")
    spread = np.linspace(0, 1, _PROBES)[:, None]
    between = np.floor(first + spread * (last - first)).astype(np.int64)
    probes = np.clip(np.concatenate([between, values.T, values.T - 1]), first, last)
    expected = levels(probes * sign)
    found = np.empty_like(expected)
    for channel, row in enumerate(values):
        found[:, channel] = low + step * np.searchsorted(row, probes[:, channel], side="right")
    if not np.array_equal(found, expected):
        raise ValueError(
            "it must rise or fall with the accumulators, by levels that lie evenly from "
            f"{low} on, {step} apart"
        )
