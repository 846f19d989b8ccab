"""Dense: every code in as many bits, or in a Huffman code of all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .byte_reader import ByteReader
from .plane import read_plane, write_plane

__all__ = ["read_dense", "write_dense"]


def write_dense(codes: NDArray[Any], bits: int, *, huffman: bool = False) -> bytes:
    """The plane of all codes in C order."""
    return write_plane(codes, bits, huffman=huffman)


def read_dense(
    reader: ByteReader, shape: tuple[int, int], bits: int, *, huffman: bool = False
) -> NDArray[np.uint16]:
    """The codes that `write_dense` laid down, of that shape.

    Raises:
        ValueError: a cut, or bits after the last that aren't 0.
    """
    return read_plane(reader, shape[0] * shape[1], bits, "codes", huffman=huffman).reshape(shape)
