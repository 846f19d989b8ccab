"""Huffman planes: bytes by hand, a bit-by-bit twin, the kernel as Python and compiled, damage."""

import numpy as np
import pytest
from bitwright.models.payload.byte_reader import ByteReader
from bitwright.models.payload.code_lengths import canonical_codes, huffman_lengths
from bitwright.models.payload.huffman import (
    LONGEST,
    _lookup,
    huffman_bits,
    read_huffman,
    table_bytes,
    write_huffman,
)
from bitwright.models.payload.huffman_kernel import decode_symbols


def twin(payload: bytes, count: int) -> list[int]:
    """The numbers of a plane, read bit by bit into a dictionary of codes."""
    highest = int.from_bytes(payload[:2], "little")
    table = -(-(highest + 1) // 2)
    lengths = [payload[2 + i // 2] >> 4 * (i % 2) & 15 for i in range(highest + 1)]
    book, code = {}, 0
    for length in range(1, 16):
        code <<= 1
        for symbol, own in enumerate(lengths):
            if own == length:
                book[format(code, f"0{length}b")] = symbol
                code += 1
    bits = "".join(format(byte, "08b")[::-1] for byte in payload[2 + table + 4 :])
    found, begin = [], 0
    for _ in range(count):
        end = begin + 1
        while bits[begin:end] not in book:
            end += 1
        found.append(book[bits[begin:end]])
        begin = end
    assert "1" not in bits[begin:] and len(bits) - begin < 8
    return found


def read(payload: bytes, count: int, bits: int = 8) -> list[int]:
    reader = ByteReader(payload)
    numbers = read_huffman(reader, count, bits, "codes")
    reader.end()
    return numbers.tolist()


def test_a_plane_by_hand() -> None:
    # counts 3, 1, 1 of the numbers 0, 1, 3: codes 0, 10, 11; highest 3; lengths 1 2 0 2, low nibble first;
    # the bits 0 10 0 11 0 lie from the lowest: 0|01|0|11|0 read upwards = 0b00110010
    plane = write_huffman(np.array([0, 1, 0, 3, 0], np.uint16))
    assert plane == bytes([3, 0, 0x21, 0x20, 1, 0, 0, 0, 0b0110010])
    assert read(plane, 5) == [0, 1, 0, 3, 0]
    assert write_huffman(np.zeros(0, np.uint16)) == b"" and read(b"", 0) == []


@pytest.mark.parametrize("seed", range(12))
def test_a_twin_reads_the_same_bits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = int(rng.integers(1, 13))
    numbers = np.minimum(rng.geometric(rng.choice([0.01, 0.2, 0.99]), 600) - 1, (1 << bits) - 1)
    plane = write_huffman(numbers)
    assert twin(plane, 600) == numbers.tolist() == read(plane, 600, bits)
    assert len(plane) == table_bytes(int(numbers.max())) + -(-huffman_bits(numbers) // 8)


def test_the_compiled_kernel_does_what_its_python_does() -> None:
    rng = np.random.default_rng(3)
    for cut in (0, 0, 7, 40):
        numbers = np.minimum(rng.geometric(0.1, 300), 60)
        lengths = np.array(huffman_lengths(np.bincount(numbers), LONGEST), np.int64)
        coded = np.frombuffer(write_huffman(numbers), np.uint8)[table_bytes(int(numbers.max())) :]
        symbols, steps = _lookup(lengths)
        padded = np.concatenate([coded, np.zeros(3, np.uint8)])
        found = []
        for kernel in (decode_symbols, decode_symbols.py_func):
            out = np.zeros(300, np.uint16)
            end = kernel(padded, coded.size * 8 - cut, symbols, steps, int(lengths.max()), out)
            found.append((int(end), out.tolist()))
        assert found[0] == found[1]
        if not cut:
            assert found[0] == (huffman_bits(numbers), numbers.tolist())


def test_the_table_of_next_bits_has_each_code_at_every_end() -> None:
    lengths = np.array([2, 1, 3, 3])
    symbols, steps = _lookup(lengths)
    codes = canonical_codes(lengths)
    for ahead in range(8):
        bits = format(ahead, "03b")[::-1]
        fits = [s for s in range(4) if bits.startswith(format(codes[s], f"0{lengths[s]}b"))]
        assert fits == [symbols[ahead]] and steps[ahead] == lengths[fits[0]]


GOOD = bytes([3, 0, 0x21, 0x20, 1, 0, 0, 0, 0b0110010])


@pytest.mark.parametrize(
    ("plane", "count", "message"),
    [
        (GOOD[:1], 5, "the Huffman table of codes take 2 bytes, 1 are left"),
        (GOOD[:3], 5, "the Huffman table of codes take 2 bytes, 1 are left"),
        (GOOD[:-1], 5, "codes take 1 bytes, 0 are left"),
        (GOOD, 8, "number 6 of 8 is cut"),
        (GOOD, 9, "9 numbers take at least 2 bytes, not 1"),
        (GOOD[:-1] + bytes([0b10110010]), 5, "bits after the last of codes must be zero"),
        (GOOD[:4] + bytes([2, 0, 0, 0, 0b110010, 0]), 5, "codes take 1 bytes, not 2"),
        (bytes([3, 0, 0x11, 0x10, 1, 0, 0, 0, 0]), 5, "over-subscribed"),
        (bytes([3, 0, 0x32, 0x20, 1, 0, 0, 0, 0]), 5, "incomplete"),
        (bytes([3, 0, 0x11, 0x00, 1, 0, 0, 0, 0]), 5, "ends with a number that has no code"),
        (bytes([0, 1]) + bytes(200), 5, "must be of numbers up to 255, not 256"),
        (bytes([0, 0, 1, 1, 0, 0, 0, 0b10]), 2, "number 1 of 2 is cut, or its bits are no code"),
    ],
)
def test_a_plane_that_is_none_is_refused(plane: bytes, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(plane, count)


def test_a_lone_number_takes_a_bit_each() -> None:
    plane = write_huffman(np.full(9, 2, np.uint16))
    assert plane == bytes([2, 0, 0x00, 0x01, 2, 0, 0, 0, 0, 0]) and read(plane, 9) == [2] * 9
