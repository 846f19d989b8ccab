"""Planes: the codes, or the gaps, of a stream, each in as many bits or in a Huffman code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats import Format, FormatKind
from .byte_reader import ByteReader

__all__ = ["pack_bits", "read_plane", "unpack_bits", "write_plane"]

_STEP = 1 << 22
"""Numbers packed at once, which bounds the memory that their bits take."""


def pack_bits(numbers: NDArray[Any], bits: int) -> bytes:
    """Unsigned numbers of `bits` bits each, first in the low bits; the last byte filled up with zeros."""
    if bits == 1:
        return np.packbits(numbers.astype(bool).ravel(), bitorder="little").tobytes()
    fmt = Format(FormatKind.UINT, bits)
    flat = numbers.ravel()  # steps of whole bytes
    return b"".join(fmt.pack(flat[i : i + _STEP]).tobytes() for i in range(0, flat.size, _STEP))


def unpack_bits(reader: ByteReader, count: int, bits: int, what: str) -> NDArray[np.uint16]:
    """The next `count` numbers that `pack_bits` laid down.

    Raises:
        ValueError: a cut, or bits beyond the last that aren't 0.
    """
    raw = reader.take(-(-count * bits // 8), what)
    if count * bits % 8 and int(raw[-1]) >> (count * bits % 8):
        raise ValueError(f"the bits after the last of {what} must be zero")
    if bits == 1:
        return np.unpackbits(raw, count=count, bitorder="little").astype(np.uint16)
    fmt = Format(FormatKind.UINT, bits)
    numbers = np.empty(count, np.uint16)
    for i in range(0, count, _STEP):
        part = min(_STEP, count - i)
        start = i * bits // 8
        numbers[i : i + part] = fmt.unpack(raw[start : start + fmt.packed_bytes(part)], part)
    return numbers


def write_plane(numbers: NDArray[Any], bits: int, *, huffman: bool) -> bytes:
    """The bytes of unsigned numbers of up to `bits` bits, 1…16.

    Raises:
        ValueError: with Huffman, more distinct numbers than its codes tell apart.
    """
    if not huffman:
        return pack_bits(numbers, bits)
    from .huffman import write_huffman

    return write_huffman(numbers)


def read_plane(reader: ByteReader, count: int, bits: int, what: str, *, huffman: bool) -> NDArray[np.uint16]:
    """The next `count` numbers that `write_plane` laid down.

    Raises:
        ValueError: a cut, bits after the last that aren't 0, or a Huffman table that is none.
    """
    if not huffman:
        return unpack_bits(reader, count, bits, what)
    from .huffman import read_huffman

    return read_huffman(reader, count, bits, what)
