import itertools

import numpy as np
import pytest
from bitwright.models.importers.weight_histogram import weight_histogram
from bitwright.models.payload.code_lengths import huffman_lengths


def cheapest(counts: list[int]) -> int:
    """The fewest bits of any prefix code, by trying all lengths that Kraft's inequality allows."""
    used = [count for count in counts if count]
    return min(
        sum(count * length for count, length in zip(used, lengths, strict=True))
        for lengths in itertools.product(range(1, len(used)), repeat=len(used))
        if sum(2.0**-length for length in lengths) <= 1
    )


def test_the_textbook_example_has_its_lengths() -> None:
    # Cormen et al., Introduction to Algorithms, section 16.3: a to f, 224 thousand bits.
    counts = [45, 13, 12, 16, 9, 5]
    lengths = huffman_lengths(counts)
    assert lengths == [1, 3, 3, 3, 4, 4]
    assert sum(count * length for count, length in zip(counts, lengths, strict=True)) == 224


@pytest.mark.parametrize("seed", range(4))
def test_no_prefix_code_takes_fewer_bits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = [int(n) for n in rng.integers(0, 20, int(rng.integers(2, 5)))] + [1, 1]
    lengths = huffman_lengths(counts)
    assert sum(count * length for count, length in zip(counts, lengths, strict=True)) == cheapest(counts)
    assert sum(2.0**-length for length in lengths if length) == 1
    assert [length == 0 for length in lengths] == [count == 0 for count in counts]


def test_one_symbol_takes_a_bit_and_none_takes_none() -> None:
    assert huffman_lengths([0, 7, 0]) == [0, 1, 0]
    assert huffman_lengths([0, 0]) == [0, 0]
    with pytest.raises(ValueError, match="counts must be 0 or more, not -1"):
        huffman_lengths([2, -1])


def test_few_values_are_levels_of_their_own() -> None:
    # 8 × 0, 2 × -1, 2 × 1: code lengths 1, 2, 2; raw 2 bits each; a table of 3 lengths of 2 bits
    found = weight_histogram(np.array([0] * 8 + [-1, 1] * 2, np.int8))
    assert (found.levels, found.counts, found.exact) == ((-1.0, 0.0, 1.0), (2, 8, 2), True)
    assert (found.raw_bits, found.huffman_bits, found.table_bits) == (24, 16, 6)


def test_many_values_fall_into_32_equal_ranges() -> None:
    found = weight_histogram(np.arange(-128, 128))
    assert not found.exact
    assert found.counts == (8,) * 32
    # 32 ranges of (127 + 128) / 32 from -128 on; all alike, so the code has 5 bits, as the raw form
    assert found.levels[0] == pytest.approx(-128 + 255 / 64)
    assert (found.raw_bits, found.huffman_bits, found.table_bits) == (256 * 5, 256 * 5, 32 * 5)


def test_rare_values_late_in_a_layer_are_seen() -> None:
    values = np.zeros(10_000, np.float32)
    values[-40:] = np.arange(1, 41)
    found = weight_histogram(values)
    assert not found.exact
    assert sum(found.counts) == 10_000


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf]])
def test_weights_that_are_no_numbers_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="weights must be finite, and at least one"):
        weight_histogram(np.array(values))
