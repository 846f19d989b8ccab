"""Code lengths of Huffman codes, limited or not, and the canonical codes that lengths stand for."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["canonical_codes", "check_lengths", "huffman_lengths"]


def huffman_lengths(counts: Sequence[int] | NDArray[Any], longest: int | None = None) -> list[int]:
    """The code length of each symbol in a Huffman code; 0 where the count is 0, 1 for a lone symbol.

    The lengths alone give the canonical code. Of equal counts, those of symbols come before those of
    joined ones, in their order, so the longest code is as short as it can be. Where a code would be longer
    than `longest` bits, all lengths are those of the best code that isn't.

    Raises:
        ValueError: a count is below 0, or more symbols than codes of `longest` bits.
    Source: Huffman 1952; canonical form: Schwartz and Kallick 1964; limited: Larmore and Hirschberg 1990
        (package-merge).
    """
    numbers = [int(count) for count in counts]
    if any(count < 0 for count in numbers):
        raise ValueError(f"counts must be 0 or more, not {min(numbers)}")
    used = [symbol for symbol, count in enumerate(numbers) if count]
    if longest is not None and len(used) > 1 << longest:
        raise ValueError(
            f"codes of at most {longest} bits tell {1 << longest} symbols apart, not {len(used)}: "
            "use fewer values"
        )
    lengths = [0] * len(numbers)
    if len(used) == 1:
        lengths[used[0]] = 1
    if len(used) < 2:
        return lengths
    found = _tree_lengths([numbers[symbol] for symbol in used])
    if longest is not None and max(found) > longest:
        found = _merged_lengths(np.array([numbers[symbol] for symbol in used], np.int64), longest)
    for symbol, length in zip(used, found, strict=True):
        lengths[symbol] = length
    return lengths


def _tree_lengths(counts: list[int]) -> list[int]:
    """Depths of the leaves of Huffman's tree; at least two counts, all above 0."""
    heap = [(count, number) for number, count in enumerate(counts)]
    heapq.heapify(heap)
    parents = [0] * (2 * len(counts) - 1)
    for joined in range(len(counts), len(parents)):
        first, left = heapq.heappop(heap)
        second, right = heapq.heappop(heap)
        parents[left] = parents[right] = joined
        heapq.heappush(heap, (first + second, joined))
    depths = [0] * len(parents)
    for node in range(len(parents) - 2, -1, -1):
        depths[node] = depths[parents[node]] + 1
    return depths[: len(counts)]


def _merged_lengths(counts: NDArray[np.int64], longest: int) -> list[int]:
    """Package-merge: `longest` lists, each of the symbols and the pairs of the list before."""
    order = np.argsort(counts, kind="stable")
    leaves = counts[order]
    row, kinds = leaves, [np.ones(leaves.size, bool)]
    for _ in range(longest - 1):
        pairs = row[: row.size // 2 * 2].reshape(-1, 2).sum(axis=1)
        both = np.concatenate([leaves, pairs])
        place = np.argsort(both, kind="stable")
        row = both[place]
        kinds.append(place < leaves.size)
    lengths = np.zeros(counts.size, np.int64)
    taken = 2 * counts.size - 2
    for is_leaf in reversed(kinds):  # a taken pair takes two of the list before
        chosen = int(np.count_nonzero(is_leaf[:taken]))
        lengths[order[:chosen]] += 1
        taken = 2 * (taken - chosen)
    return [int(length) for length in lengths]


def check_lengths(lengths: NDArray[Any], longest: int) -> None:
    """Nothing; the lengths are those of a complete prefix code, or of one symbol with 1 bit.

    Raises:
        ValueError: lengths outside 0…longest, more codes than fit (over-subscribed), or bits that no code
            begins with (incomplete).
    """
    used = np.asarray(lengths)[np.asarray(lengths) != 0].astype(np.int64)
    if used.size and not 1 <= used.min() <= used.max() <= longest:
        raise ValueError(f"code lengths must be from 0 to {longest}, not {int(used.max())}")
    taken, room = int((1 << (longest - used)).sum()), 1 << longest
    if taken > room:
        raise ValueError(f"the Huffman table is over-subscribed: its codes take {taken / room:.4g} of 1")
    if taken < room and not (used.size == 1 and used[0] == 1):
        raise ValueError(f"the Huffman table is incomplete: its codes take {taken / room:.4g} of 1")


def canonical_codes(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """The canonical code of each symbol as a number, first bit on top; by length, then by symbol.

    Args:
        lengths: a prefix code's, shape (symbols,); 0 where a symbol has none, whose code is 0.
    """
    codes = np.zeros(len(lengths), np.int64)
    code = previous = 0
    for symbol in np.argsort(lengths, kind="stable"):
        length = int(lengths[symbol])
        if length:
            code <<= length - previous
            codes[symbol], previous = code, length
            code += 1
    return codes
