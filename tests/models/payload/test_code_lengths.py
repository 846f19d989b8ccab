"""Code lengths against all lengths that Kraft's inequality allows, and canonical codes by hand."""

import itertools
import math

import numpy as np
import pytest
from bitwright.models.payload.code_lengths import canonical_codes, check_lengths, huffman_lengths


def cheapest(counts: list[int], longest: int) -> int:
    """The fewest bits of any prefix code whose codes have at most `longest` bits, by trying all."""
    return min(
        sum(count * length for count, length in zip(counts, lengths, strict=True))
        for lengths in itertools.product(range(1, longest + 1), repeat=len(counts))
        if sum(2.0**-length for length in lengths) <= 1
    )


@pytest.mark.parametrize("longest", [3, 4, 5])
@pytest.mark.parametrize("seed", range(4))
def test_limited_lengths_cost_what_the_best_of_all_codes_costs(seed: int, longest: int) -> None:
    rng = np.random.default_rng(seed)
    counts = (rng.integers(1, 4, 6) ** rng.integers(1, 9, 6)).tolist()
    lengths = huffman_lengths(counts, longest)
    assert max(lengths) <= longest
    check_lengths(np.array(lengths), longest)
    assert sum(c * n for c, n in zip(counts, lengths, strict=True)) == cheapest(counts, longest)


def test_fibonacci_counts_are_cut_to_the_limit() -> None:
    counts = [1, 1]
    while len(counts) < 30:
        counts.append(counts[-1] + counts[-2])
    assert max(huffman_lengths(counts)) == 29
    lengths = np.array(huffman_lengths(counts, 15))
    assert lengths.max() == 15
    check_lengths(lengths, 15)
    free = np.array(huffman_lengths(counts))
    assert (lengths * counts).sum() < 1.001 * (free * counts).sum()


@pytest.mark.parametrize("seed", range(6))
def test_a_huffman_code_lies_between_the_entropy_and_a_bit_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.geometric(rng.choice([0.02, 0.3, 0.9]), int(rng.integers(2, 200)))
    share = counts / counts.sum()
    entropy = -(share * np.log2(share)).sum()
    mean = (share * huffman_lengths(counts)).sum()
    assert entropy - 1e-9 <= mean < entropy + 1


def test_powers_of_two_are_coded_at_their_entropy_exactly() -> None:
    counts = [2**n for n in range(14, -1, -1)] + [1]
    total = sum(counts)
    lengths = huffman_lengths(counts)
    assert lengths == [int(math.log2(total // count)) for count in counts]


def test_canonical_codes_follow_length_and_symbol_by_hand() -> None:
    # RFC 1951, section 3.2.2: A to H with lengths 3 3 3 3 3 2 4 4
    codes = canonical_codes(np.array([3, 3, 3, 3, 3, 2, 4, 4]))
    assert [format(c, "b") for c in codes] == ["10", "11", "100", "101", "110", "0", "1110", "1111"]


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([1, 1, 1], "over-subscribed: its codes take 1.5 of 1"),
        ([1, 2], "incomplete: its codes take 0.75 of 1"),
        ([2], "incomplete: its codes take 0.25 of 1"),
        ([], "incomplete"),
        ([1, 16], "from 0 to 15, not 16"),
    ],
)
def test_lengths_that_are_no_code_are_refused(lengths: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_lengths(np.array(lengths, np.int64), 15)
    check_lengths(np.array([0, 1]), 15)  # a lone symbol


def test_more_symbols_than_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="codes of at most 3 bits tell 8 symbols apart, not 9"):
        huffman_lengths([1] * 9, 3)
    with pytest.raises(ValueError, match="counts must be 0 or more, not -1"):
        huffman_lengths([2, -1], 3)
