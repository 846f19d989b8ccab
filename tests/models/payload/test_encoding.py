"""Encodings: bytes by hand, exact round trips in streams, sizes by naive counts, damage."""

import math

import numpy as np
import pytest
from bitwright.models.payload.encoding import Encoding, decode_codes, encode_codes, stream_sizes

NAMES = [
    f"{kind}{huffman}"
    for kind in ("dense", "bitmap", "relative1", "relative4", "relative16", "csc", "csc2", "csc5")
    for huffman in ("", "+huffman")
]


def random_codes(rng: np.random.Generator, bits: int) -> np.ndarray:
    shape = (int(rng.integers(1, 20)), int(rng.integers(1, 60)))
    codes = rng.integers(0, 1 << bits, shape)
    codes[rng.random(shape) >= rng.choice([0.0, 0.05, 0.4, 1.0])] = 0
    return codes


@pytest.mark.parametrize("name", NAMES)
def test_every_payload_decodes_to_its_codes_in_any_number_of_streams(name: str) -> None:
    encoding = Encoding.parse(name)
    assert encoding.name == name
    rng = np.random.default_rng(11)
    for _ in range(25):
        bits = int(rng.integers(1, 11))
        codes = random_codes(rng, bits)
        streams = int(rng.integers(1, codes.shape[0] + 1))
        payload = encode_codes(codes, bits, encoding, streams)
        assert np.array_equal(decode_codes(payload, codes.shape, bits, encoding, streams), codes)
        assert sum(stream_sizes(payload, streams)) == len(payload) - (4 * streams if streams > 1 else 0)


CODES = np.array([[0, 3, 0, 0], [1, 0, 0, 0], [0, 0, 2, 0]])
# flat: 0 3 0 0 | 1 0 0 0 | 0 0 2 0: gaps 1, 2, 5 before the codes 3, 1, 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # 2 bits each, first lowest: 00 11 00 00 | 01 00 00 00 | 00 00 10 00
        ("dense", [0b00001100, 0b00000001, 0b00100000]),
        ("bitmap", [0b00010010, 0b0100, 0b100111]),  # bits 1, 4 and 10, then 3 1 2
        ("relative4", [3, 0, 0, 0, 0b100111, 0x21, 0x05]),
        # gaps of 2 bits: 5 is a filler (3, code 0), which stands for 4, and 1
        ("relative2", [4, 0, 0, 0, 0b10000111, 0b01111001]),
        # columns 0: row 1; 1: row 0; 2: row 2; 3: none; starts 0 1 2 3; codes 1 3 2; rows 1 0 2
        ("csc", [3, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3, 0, 0b101101, 0b100001]),
        # gaps of 1 bit: column 2 has 2 zeros before: a filler, then 0; codes 1 3 0 2, gaps 1 0 1 0
        ("csc1", [4, 0, 0, 0, 0, 0, 1, 0, 2, 0, 4, 0, 0b10001101, 0b0101]),
    ],
)
def test_bytes_by_hand(name: str, expected: list[int]) -> None:
    assert list(encode_codes(CODES, 2, Encoding.parse(name))) == expected


def test_streams_have_every_so_many_rows_behind_a_header_of_lengths() -> None:
    # stream 0 has rows 0 and 2, stream 1 row 1; dense, 2 bits each
    payload = encode_codes(CODES, 2, Encoding.parse("dense"), 2)
    assert list(payload) == [2, 0, 0, 0, 1, 0, 0, 0, 0b00001100, 0b00100000, 0b00000001]
    assert stream_sizes(payload, 2) == (2, 1)


def test_the_bytes_of_sparse_codes_are_those_counted_naively() -> None:
    rng = np.random.default_rng(4)
    codes = random_codes(rng, 5)
    codes[0, 0] = 7
    kept = np.count_nonzero(codes)
    entries, run = 0, 0
    for code in codes.ravel().tolist():
        run += 1
        if code:
            entries += math.ceil(run / 16)  # a filler for each 16 zeros that a code can't tell
            run = 0
    assert len(encode_codes(codes, 5, Encoding.parse("bitmap"))) == -(-codes.size // 8) + -(-kept * 5 // 8)
    assert len(encode_codes(codes, 5, Encoding.parse("relative4"))) == (
        4 + -(-entries * 5 // 8) + -(-entries * 4 // 8)
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_cut_and_every_surplus_is_noticed(name: str) -> None:
    encoding = Encoding.parse(name)
    codes = random_codes(np.random.default_rng(8), 4)
    for streams in (1, 2):
        payload = encode_codes(codes, 4, encoding, streams)
        for size in range(len(payload)):
            with pytest.raises(ValueError):
                decode_codes(payload[:size], codes.shape, 4, encoding, streams)
        with pytest.raises(ValueError, match="bytes"):
            decode_codes(payload + b"\0", codes.shape, 4, encoding, streams)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_bytes_are_refused_or_decode_to_what_has_other_codes(name: str) -> None:
    encoding = Encoding.parse(name)
    rng = np.random.default_rng(6)
    codes = random_codes(rng, 4)
    payload = encode_codes(codes, 4, encoding)
    refused = 0
    for _ in range(150):
        damaged = bytearray(payload)
        bit = int(rng.integers(0, len(payload) * 8))
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert not np.array_equal(decode_codes(bytes(damaged), codes.shape, 4, encoding), codes)
        except ValueError:
            refused += 1
    # any bits are dense codes; what has an index or a table refuses many
    assert refused or name == "dense"


@pytest.mark.parametrize(
    ("name", "payload", "message"),
    [
        ("relative4", [3, 0, 0, 0, 0b100111, 0x21, 0x08], "tile 0: runs past the end of its 12 values"),
        ("relative4", [13, 0, 0, 0], "must have from 0 to 12 entries, not 13"),
        ("relative4", [3, 0, 0, 0, 0b1100111, 0x21, 0x05], "the bits after the last of codes must be zero"),
        ("bitmap", [0b00010010, 0b0100, 0b000111], "code 2 that the bitmap calls non-zero is 0"),
        ("bitmap", [0b00010010, 0b10100, 0b100111], "the bits after the last of bits of the bitmap"),
        (
            "csc",
            [3, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3, 0, 0b101101, 0b110001],
            "column 2: rows must ascend below 3",
        ),
        ("csc", [3, 0, 0, 0, 0, 0, 2, 0, 1, 0, 3, 0, 0b101101, 0b100001], "column pointers must rise"),
        ("csc", [3, 0, 0, 0, 1, 0, 1, 0, 2, 0, 3, 0, 0b101101, 0b100001], "column pointers must rise"),
        ("csc", [13, 0, 0, 0], "must have no more entries, not 13"),
        ("csc1", [4, 0, 0, 0, 0, 0, 1, 0, 2, 0, 4, 0, 0b10001101, 0b1101], "column 2: runs past the end of"),
    ],
)
def test_a_payload_that_is_none_says_what_is_wrong(name: str, payload: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_codes(bytes(payload), (3, 4), 2, Encoding.parse(name))


def test_a_damaged_stream_is_named() -> None:
    payload = bytearray(encode_codes(CODES, 2, Encoding.parse("relative4"), 3))
    payload[12 + 6] = 9  # the entries of stream 1 (of 6 bytes each)
    with pytest.raises(ValueError, match="stream 1: tile 0: must have from 0 to 4 entries, not 9"):
        decode_codes(bytes(payload), (3, 4), 2, Encoding.parse("relative4"), 3)
    with pytest.raises(ValueError, match="3 streams must have 17 bytes in all, not 18"):
        stream_sizes(bytes(payload[:-1]), 3)


@pytest.mark.parametrize(
    "name", ["", "huffman", "relative", "relative0", "relative17", "bitmap4", "Dense", "csc+"]
)
def test_names_of_no_encoding_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"an encoding is|index bits"):
        Encoding.parse(name)


def test_codes_and_streams_that_do_not_fit_are_refused() -> None:
    dense = Encoding.parse("dense")
    with pytest.raises(ValueError, match="codes must be integers from 0 to 3, not int64 from 0 to 4"):
        encode_codes(np.array([[0, 4]]), 2, dense)
    with pytest.raises(ValueError, match="streams must be from 1 to the 3 output channels, not 4"):
        encode_codes(CODES, 2, dense, 4)
    with pytest.raises(ValueError, match="from 1 to 16 bits, not 17"):
        encode_codes(CODES, 17, dense)
    with pytest.raises(ValueError, match="shape"):
        encode_codes(CODES.ravel(), 2, dense)
