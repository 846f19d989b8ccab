"""Canonical Huffman codes of small numbers, the table of code lengths with them.

A plane of no numbers is no bytes. Else: the highest number that occurs (2 bytes), a code length of 4 bits for
each number up to it, the length of the coded bits in bytes (4 bytes), and the bits: codes one after another,
each with its first bit first, in the low bits of a byte first; the last byte filled up with zero bits. Codes
have at most 15 bits, and a lone number takes one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .byte_reader import ByteReader
from .code_lengths import canonical_codes, check_lengths, huffman_lengths
from .plane import pack_bits, unpack_bits

__all__ = ["LONGEST", "huffman_bits", "read_huffman", "table_bytes", "write_huffman"]

LONGEST = 15
"""Bits of the longest code."""
_LENGTH_BITS = 4
_AHEAD = 3
"""Bytes that the kernel may read beyond the last."""


def huffman_bits(numbers: NDArray[Any]) -> int:
    """The bits of numbers in their Huffman code, table apart."""
    counts = np.bincount(numbers.ravel())
    return int((counts * np.array(huffman_lengths(counts, LONGEST), np.int64)).sum())


def table_bytes(highest: int) -> int:
    """Bytes before the coded bits, where the highest number is `highest`."""
    return 2 + -(-(highest + 1) * _LENGTH_BITS // 8) + 4


def write_huffman(numbers: NDArray[Any]) -> bytes:
    """The table and the bits of unsigned numbers below 2^16.

    Raises:
        ValueError: more distinct numbers than codes of 15 bits tell apart.
    """
    flat = numbers.ravel()
    if not flat.size:
        return b""
    counts = np.bincount(flat)
    lengths = np.array(huffman_lengths(counts, LONGEST), np.int64)
    codes = canonical_codes(lengths)
    width = lengths[flat]
    ends = np.cumsum(width)
    bits = np.zeros(int(ends[-1]), np.uint8)
    begins, symbols = ends - width, flat
    for place in range(int(lengths.max())):
        longer = width > place
        if not longer.all():
            begins, symbols, width = begins[longer], symbols[longer], width[longer]
        bits[begins + place] = (codes[symbols] >> (width - 1 - place)) & 1
    coded = np.packbits(bits, bitorder="little").tobytes()
    head = (counts.size - 1).to_bytes(2, "little") + pack_bits(lengths, _LENGTH_BITS)
    return head + len(coded).to_bytes(4, "little") + coded


def read_huffman(reader: ByteReader, count: int, bits: int, what: str) -> NDArray[np.uint16]:
    """The next `count` numbers of at most `bits` bits.

    Raises:
        ValueError: a cut, also within a code; a table that is over-subscribed, incomplete or of too many
            numbers; bytes or bits after the last code that aren't expected.
    """
    if not count:
        return np.zeros(0, np.uint16)
    table = f"the Huffman table of {what}"
    highest = reader.number(2, table)
    if highest >= 1 << bits:
        raise ValueError(f"{table} must be of numbers up to {(1 << bits) - 1}, not {highest}")
    lengths = unpack_bits(reader, highest + 1, _LENGTH_BITS, table).astype(np.int64)
    check_lengths(lengths, LONGEST)
    if not lengths[-1]:
        raise ValueError(f"{table} ends with a number that has no code")
    size = reader.number(4, what)
    coded = reader.take(size, what)
    symbols, steps = _lookup(lengths)
    from .huffman_kernel import decode_symbols

    numbers = np.empty(_room(count, size, what), np.uint16)
    padded = np.concatenate([coded, np.zeros(_AHEAD, np.uint8)])
    used = int(decode_symbols(padded, size * 8, symbols, steps, int(lengths.max()), numbers))
    if used < 0:
        raise ValueError(f"{what}: number {-1 - used} of {count} is cut, or its bits are no code")
    if size != -(-used // 8):
        raise ValueError(f"{what} take {-(-used // 8)} bytes, not {size}")
    if used % 8 and int(coded[-1]) >> (used % 8):
        raise ValueError(f"the bits after the last of {what} must be zero")
    return numbers


def _room(count: int, size: int, what: str) -> int:
    """`count`, which can't be more than there are bits."""
    if count > size * 8:
        raise ValueError(f"{what}: {count} numbers take at least {-(-count // 8)} bytes, not {size}")
    return count


def _lookup(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By the next bits, as many as the longest code has, first in the lowest: (symbol, its length)."""
    longest = int(lengths.max())
    codes = canonical_codes(lengths)
    symbols, steps = np.zeros(1 << longest, np.int64), np.zeros(1 << longest, np.int64)
    for symbol in np.flatnonzero(lengths):
        length = int(lengths[symbol])
        start = int(format(codes[symbol], f"0{length}b")[::-1], 2)
        symbols[start :: 1 << length] = symbol
        steps[start :: 1 << length] = length
    return symbols, steps
