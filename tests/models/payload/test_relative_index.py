"""Relative indices: bits by hand, exact round trips, and streams that can't be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from bitwright.models.payload.relative_index import RelativeIndexStream, decode_relative, encode_relative


def entries_by_hand(tile: list[int], index_bits: int) -> list[tuple[int, int]]:
    """(zeros before, code) of one tile, counted value by value."""
    most, entries, zeros = (1 << index_bits) - 1, [], 0
    waiting: list[tuple[int, int]] = []
    for code in tile:
        if code:
            entries += [*waiting, (zeros, code)]
            waiting, zeros = [], 0
        elif zeros == most:
            waiting.append((most, 0))
            zeros = 0
        else:
            zeros += 1
    return entries


def test_a_run_of_sixteen_zeros_takes_a_filler_by_hand() -> None:
    codes = np.zeros((1, 40), np.uint8)
    codes[0, [2, 19, 35]] = [5, 1, 9]
    # 2 zeros; then 16: filler 15|0 stands for 16 values, 0 zeros are left; then 15, which fit
    stream = encode_relative(codes)
    assert stream.counts.tolist() == [4]
    assert stream.payload == bytes([0x52, 0x0F, 0x10, 0x9F])
    assert np.array_equal(decode_relative(stream), codes)


def test_entries_lie_without_gaps_across_bytes() -> None:
    codes = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 1]], np.uint8)
    stream = encode_relative(codes, index_bits=2, code_bits=1)
    # 3 bits each: (1, 1) = 101, then tile 2: (0, 1) = 100 and (1, 1) = 101; low bits first: 101 001 101
    assert stream.counts.tolist() == [1, 0, 2]
    assert stream.payload == bytes([0b01100101, 0b00000001])


@pytest.mark.parametrize("seed", range(40))
def test_what_is_encoded_is_decoded_and_has_the_entries_counted_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    index_bits, code_bits = int(rng.integers(1, 6)), int(rng.integers(1, 9))
    shape = (int(rng.integers(1, 12)), int(rng.integers(1, 90)))
    codes = rng.integers(1, 1 << code_bits, shape)
    codes[rng.random(shape) >= rng.choice([0.0, 0.03, 0.3, 1.0])] = 0
    stream = encode_relative(codes, index_bits=index_bits, code_bits=code_bits)
    expected = [entries_by_hand(tile, index_bits) for tile in codes.tolist()]
    assert stream.counts.tolist() == [len(entries) for entries in expected]
    bits = "".join(
        format(zeros | code << index_bits, f"0{index_bits + code_bits}b")[::-1]
        for entries in expected
        for zeros, code in entries
    )
    packed = int(bits[::-1] or "0", 2).to_bytes(-(-len(bits) // 8), "little")
    assert stream.payload == packed
    assert np.array_equal(decode_relative(stream), codes)


def stream_of(entries: list[tuple[int, int]], counts: list[int], length: int) -> RelativeIndexStream:
    payload = bytes(zeros | code << 4 for zeros, code in entries)
    return RelativeIndexStream(
        index_bits=4, code_bits=4, length=length, counts=np.array(counts, np.int64), payload=payload
    )


@pytest.mark.parametrize(
    ("entries", "counts", "length", "message"),
    [
        ([(3, 1), (8, 1)], [1, 1], 8, "tile 1: runs past the end of its 8 values"),
        ([(15, 0), (0, 1)], [2], 16, "tile 0: runs past the end of its 16 values"),
        ([(0, 1), (3, 0), (0, 1)], [1, 2], 16, "tile 1: has a code 0 that is no filler"),
        ([(15, 0), (0, 1)], [1, 1], 16, "tile 0: ends with a filler"),
        ([(0, 1), (15, 0)], [2], 32, "tile 0: ends with a filler"),
    ],
)
def test_a_damaged_stream_is_refused_with_its_tile(
    entries: list[tuple[int, int]], counts: list[int], length: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        decode_relative(stream_of(entries, counts, length))


def test_counts_and_payloads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="tile 1: must have from 0 to 8 entries, not -1"):
        stream_of([], [1, -1], 8)
    with pytest.raises(ValueError, match="tile 0: must have from 0 to 8 entries, not 9"):
        stream_of([], [9], 8)
    with pytest.raises(ValueError, match="the payload of 2 entries must have 2 bytes, not 1"):
        stream_of([(0, 1)], [2], 8)
    with pytest.raises(ValueError, match="tiles must have at least 1 value and at most"):
        stream_of([], [0], 1 << 31)
    with pytest.raises(ValueError, match="codes of 4 bits must be from 0 to 15, not from 0 to 16"):
        encode_relative(np.array([[0, 16]]))
    with pytest.raises(ValueError, match="codes must be integers in tiles, not float64"):
        encode_relative(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="index_bits must be from 1 to 16, not 0"):
        dataclasses.replace(stream_of([], [0], 8), index_bits=0)
    padded = encode_relative(np.array([[1]], np.uint8), index_bits=1, code_bits=1)
    with pytest.raises(ValueError, match="the bits after the last entry must be zero"):
        decode_relative(dataclasses.replace(padded, payload=bytes([padded.payload[0] | 0x80])))


def test_any_bytes_are_decoded_to_what_encodes_to_them_or_refused() -> None:
    rng = np.random.default_rng(5)
    decoded = 0
    for _ in range(400):
        counts = rng.integers(0, 4, 3)
        payload = rng.integers(0, 256, int(counts.sum()), np.uint8).tobytes()
        try:
            stream = RelativeIndexStream(index_bits=4, code_bits=4, length=30, counts=counts, payload=payload)
            codes = decode_relative(stream)
        except ValueError:
            continue
        decoded += 1
        again = encode_relative(codes)
        assert again.payload == payload and np.array_equal(again.counts, counts)
    assert decoded > 20
