"""Bitmap: a bit for each code that says whether it is 0, and then the codes that aren't."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .byte_reader import ByteReader
from .plane import pack_bits, read_plane, unpack_bits, write_plane

__all__ = ["read_bitmap", "write_bitmap"]


def write_bitmap(codes: NDArray[Any], bits: int, *, huffman: bool = False) -> bytes:
    """The bitmap in C order, filled up to whole bytes, then the plane of codes that aren't 0."""
    there = codes.ravel() != 0
    return pack_bits(there, 1) + write_plane(codes.ravel()[there], bits, huffman=huffman)


def read_bitmap(
    reader: ByteReader, shape: tuple[int, int], bits: int, *, huffman: bool = False
) -> NDArray[np.uint16]:
    """The codes that `write_bitmap` laid down, of that shape.

    Raises:
        ValueError: a cut, bits after the last that aren't 0, or a code 0 where the bitmap says that one is.
    """
    size = shape[0] * shape[1]
    there = unpack_bits(reader, size, 1, "bits of the bitmap") != 0
    kept = read_plane(reader, int(np.count_nonzero(there)), bits, "codes", huffman=huffman)
    if not kept.all():
        raise ValueError(f"code {int(np.flatnonzero(kept == 0)[0])} that the bitmap calls non-zero is 0")
    codes = np.zeros(size, np.uint16)
    codes[there] = kept
    return codes.reshape(shape)
