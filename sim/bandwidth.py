"""Bytes at the memory port over the time of a run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["spread"]


def spread(
    start: NDArray[np.int64], end: NDArray[np.int64], moved: NDArray[np.int64], cycles: int, parts: int
) -> NDArray[np.float64]:
    """Bytes moved in each of `parts` equal stretches of a run, shape (parts, operands).

    A command's bytes are spread evenly over its span: the sums are exact, their place within a span is an
    estimate.

    Args:
        start, end: first cycle of each command and the cycle after its last, shape (n,); end > start.
        moved: bytes of each command by operand, shape (n, operands).
        cycles: of the run.
        parts: at least 1.

    Raises:
        ValueError: an empty span, or no part.
    """
    if parts < 1:
        raise ValueError(f"parts must be at least 1, not {parts}")
    if np.any(end <= start):
        raise ValueError("each command must last at least a cycle")
    # What has moved by a time is linear between the commands' ends: its slope changes at each by the rate.
    times = np.concatenate([[0], start, end])
    rates = moved / (end - start)[:, None]
    changes = np.concatenate([np.zeros((1, moved.shape[1])), rates, -rates])
    order = np.argsort(times, kind="stable")
    times, slopes = times[order], np.cumsum(changes[order], axis=0)
    risen = np.cumsum(np.diff(times)[:, None] * slopes[:-1], axis=0)
    by_then = np.concatenate([np.zeros((1, moved.shape[1])), risen])
    edges = np.linspace(0, max(cycles, int(times[-1])), parts + 1)
    at_edges = [np.interp(edges, times, by_then[:, i]) for i in range(moved.shape[1])]
    return np.diff(np.stack(at_edges, axis=1), axis=0)
