"""CSC, compressed sparse columns: where each column begins, and the rows and codes of what isn't 0.

A column is what all rows, which are output channels, do with one input. Rows are numbered (plain CSC), or
given by the zeros before them in as few bits as one likes, with fillers (EIE, whose PEs are the streams).
Layout: how many entries there are (4 bytes); the entry at which each column begins (2 bytes each, 4 where
there are 2^16 entries or more); the codes; the rows or gaps.
Source: Han et al. 2016, EIE, section III B.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .byte_reader import ByteReader
from .plane import read_plane, write_plane
from .relative_index import place_entries, relative_entries

__all__ = ["read_csc", "write_csc"]


def write_csc(
    codes: NDArray[Any], bits: int, *, index_bits: int | None = None, huffman: bool = False
) -> bytes:
    """The bytes of codes of shape (rows, columns); gaps of `index_bits`, or row numbers where it is None."""
    columns = np.ascontiguousarray(codes.T)
    if index_bits is None:
        column, index = np.nonzero(columns)
        entries = columns[column, index]
        counts = np.bincount(column, minlength=len(columns)).astype(np.int64)
    else:
        index, entries, counts = relative_entries(columns, index_bits)
    starts = (np.cumsum(counts) - counts).astype("<u2" if entries.size < 1 << 16 else "<u4")
    width = _row_bits(codes.shape[0]) if index_bits is None else index_bits
    planes = write_plane(entries, bits, huffman=huffman) + write_plane(index, width, huffman=huffman)
    return int(entries.size).to_bytes(4, "little") + starts.tobytes() + planes


def read_csc(
    reader: ByteReader,
    shape: tuple[int, int],
    bits: int,
    *,
    index_bits: int | None = None,
    huffman: bool = False,
) -> NDArray[np.uint16]:
    """The codes that `write_csc` laid down, of that shape.

    Raises:
        ValueError: a cut, columns that don't begin in order, rows that don't ascend or don't exist, a code 0
            that is no filler, or a run past the end of a column; names the column.
    """
    rows, columns = shape
    total = reader.number(4, "counts of entries")
    if total > rows * columns:
        raise ValueError(f"a layer of {rows * columns} codes must have no more entries, not {total}")
    wide = 2 if total < 1 << 16 else 4
    starts = reader.take(columns * wide, "column pointers").view(f"<u{wide}").astype(np.int64)
    counts = np.diff(starts, append=total)
    if starts[0] or (counts < 0).any() or (counts > rows).any():
        raise ValueError(f"column pointers must rise from 0 to {total} by at most {rows}")
    entries = read_plane(reader, total, bits, "codes", huffman=huffman)
    if index_bits is not None:
        gaps = read_plane(reader, total, index_bits, "gaps", huffman=huffman)
        try:
            return np.ascontiguousarray(place_entries(gaps, entries, counts, rows, index_bits).T)
        except ValueError as fault:
            raise ValueError(str(fault).replace("tile", "column", 1)) from None
    index = read_plane(reader, total, _row_bits(rows), "rows", huffman=huffman).astype(np.int64)
    column = np.repeat(np.arange(columns), counts)
    place = column * rows + index
    wrong = (index >= rows) | (entries == 0)
    wrong[1:] |= place[1:] <= place[:-1]
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"column {int(column[at])}: rows must ascend below {rows} with codes that aren't 0")
    codes = np.zeros(rows * columns, np.uint16)
    codes[place] = entries
    return np.ascontiguousarray(codes.reshape(columns, rows).T)


def _row_bits(rows: int) -> int:
    if rows > 1 << 16:
        raise ValueError(f"rows are numbered in at most 16 bits: {rows} must be at most {1 << 16}")
    return max(1, (rows - 1).bit_length())
