"""Sparse codes as entries of a relative index and a code: how many zeros lie before, then what isn't zero.

A run of more zeros than an index counts takes *fillers*: entries with the largest index and code 0, each of
which stands for that many zeros and one more. Every tile begins anew, and ends with what isn't zero. An entry
is the index in its low bits and the code above; entries follow one another without gaps, first bits in the
low bits of a byte, the last byte filled up with zero bits. How many entries each tile has is apart from them.
Source: Han et al. 2016, EIE, section III B, with index and code of 4 bits and a column's part as the tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .byte_reader import ByteReader
from .plane import read_plane, write_plane

__all__ = [
    "RelativeIndexStream",
    "decode_relative",
    "encode_relative",
    "place_entries",
    "read_relative",
    "relative_entries",
    "write_relative",
]

_MOST_VALUES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RelativeIndexStream:
    """Encoded tiles of `length` values each. Nothing of the payload is trusted before it is decoded.

    Raises:
        ValueError: widths outside 1…16, counts that aren't whole and 0 or more, too many values, or a payload
            that isn't as long as its entries take.
    """

    index_bits: int
    code_bits: int
    length: int
    """Values of a tile."""
    counts: NDArray[np.int64]
    """Entries of each tile, shape (tiles,)."""
    payload: bytes

    def __post_init__(self) -> None:
        for key in ("index_bits", "code_bits"):
            if not 1 <= getattr(self, key) <= 16:
                raise ValueError(f"{key} must be from 1 to 16, not {getattr(self, key)}")
        if self.counts.ndim != 1 or self.counts.dtype.kind not in "iu":
            raise ValueError(f"counts must be whole numbers, one a tile, not {self.counts.dtype}")
        if self.length < 1 or self.length * max(1, self.counts.size) > _MOST_VALUES:
            raise ValueError(
                f"tiles must have at least 1 value and at most {_MOST_VALUES} together, not "
                f"{self.counts.size} of {self.length}"
            )
        wrong = (self.counts < 0) | (self.counts > self.length)
        if wrong.any():
            tile = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"tile {tile}: must have from 0 to {self.length} entries, not {int(self.counts[tile])}"
            )
        expected = -(-self.entries * self.entry_bits // 8)
        if len(self.payload) != expected:
            raise ValueError(
                f"the payload of {self.entries} entries must have {expected} bytes, not {len(self.payload)}"
            )

    @property
    def entry_bits(self) -> int:
        """Bits of one entry."""
        return self.index_bits + self.code_bits

    @property
    def entries(self) -> int:
        """Of all tiles, fillers included."""
        return int(self.counts.sum())


def relative_entries(
    codes: NDArray[Any], index_bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(zeros before, code) of all entries, tile after tile, and the entries of each tile.

    Args:
        codes: unsigned codes, shape (tiles, length).
    """
    tile, place = np.nonzero(codes)
    before = np.concatenate([[-1], place[:-1]])
    before[np.concatenate([[True], tile[1:] != tile[:-1]])[: tile.size]] = -1
    zeros = place - before[: tile.size] - 1
    fillers = zeros >> index_bits
    last = np.cumsum(fillers + 1) - 1  # where each code's own entry comes
    total = int(last[-1]) + 1 if last.size else 0
    gaps, entries = np.full(total, (1 << index_bits) - 1, np.int64), np.zeros(total, np.int64)
    gaps[last] = zeros & ((1 << index_bits) - 1)
    entries[last] = codes[tile, place]
    return gaps, entries, np.bincount(tile, fillers + 1, codes.shape[0]).astype(np.int64)


def place_entries(
    gaps: NDArray[Any], entries: NDArray[Any], counts: NDArray[np.int64], length: int, index_bits: int
) -> NDArray[np.uint16]:
    """The codes, shape (tiles, length), whose entries `relative_entries` gave.

    Raises:
        ValueError: a run past the end of its tile, a code 0 that is no filler or that ends a tile; names
            the tile. So a tile has one encoding only.
    """
    index, code = np.asarray(gaps, np.int64), entries
    tile = np.repeat(np.arange(counts.size), counts)
    end = np.cumsum(index + 1)
    begins = np.cumsum(counts) - counts
    offset = np.concatenate([[0], end])[begins]  # values before each tile's first entry
    place = end - 1 - offset[tile]
    _refuse(place >= length, tile, f"runs past the end of its {length} values")
    full = (1 << index_bits) - 1
    _refuse((code == 0) & (index != full), tile, "has a code 0 that is no filler")
    ends_tile = np.ones(index.size, bool)
    ends_tile[:-1] = tile[1:] != tile[:-1]
    _refuse((code == 0) & ends_tile, tile, "ends with a filler")
    codes = np.zeros((counts.size, length), np.uint16)
    codes[tile, place] = code
    return codes


def encode_relative(codes: NDArray[Any], *, index_bits: int = 4, code_bits: int = 4) -> RelativeIndexStream:
    """The stream of tiles of codes, of which 0 stands for a zero.

    Args:
        codes: unsigned codes, shape (tiles, length).

    Raises:
        ValueError: another shape, no integers, a code that doesn't fit, or widths outside 1…16.
    """
    if codes.ndim != 2 or codes.dtype.kind not in "iu" or not codes.shape[1]:
        raise ValueError(f"codes must be integers in tiles, not {codes.dtype} of shape {codes.shape}")
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < 1 << code_bits:
        raise ValueError(
            f"codes of {code_bits} bits must be from 0 to {(1 << code_bits) - 1}, not from {codes.min()} to "
            f"{codes.max()}"
        )
    gaps, entries, counts = relative_entries(codes, index_bits)
    width = index_bits + code_bits
    bits = ((gaps | (entries << index_bits))[:, None] >> np.arange(width)) & 1
    return RelativeIndexStream(
        index_bits=index_bits,
        code_bits=code_bits,
        length=codes.shape[1],
        counts=counts,
        payload=np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes(),
    )


def decode_relative(stream: RelativeIndexStream) -> NDArray[np.uint16]:
    """The codes, shape (tiles, length); exactly what was encoded.

    Raises:
        ValueError: as `place_entries`, or padding that isn't zero.
    """
    width, total = stream.entry_bits, stream.entries
    bits = np.unpackbits(np.frombuffer(stream.payload, np.uint8), bitorder="little")
    if bits[total * width :].any():
        raise ValueError("the bits after the last entry must be zero")
    weights = 1 << np.arange(width, dtype=np.int64)
    both = bits[: total * width].reshape(total, width) @ weights
    gaps, entries = both & ((1 << stream.index_bits) - 1), both >> stream.index_bits
    return place_entries(gaps, entries, stream.counts, stream.length, stream.index_bits)


def write_relative(codes: NDArray[Any], bits: int, *, index_bits: int, huffman: bool = False) -> bytes:
    """One tile of all codes with its entries in two planes, as Deep Compression's files have them.

    How many entries there are (4 bytes), their codes, then their gaps; each plane fills whole bytes.

    Source: Han et al. 2016, Deep Compression, and the layout of songhan/SqueezeNet-Deep-Compression.
    """
    gaps, entries, counts = relative_entries(codes.reshape(1, -1), index_bits)
    planes = write_plane(entries, bits, huffman=huffman) + write_plane(gaps, index_bits, huffman=huffman)
    return int(counts[0]).to_bytes(4, "little") + planes


def read_relative(
    reader: ByteReader, shape: tuple[int, int], bits: int, *, index_bits: int, huffman: bool = False
) -> NDArray[np.uint16]:
    """The codes that `write_relative` laid down, of that shape.

    Raises:
        ValueError: a cut, more entries than codes, or as `place_entries`.
    """
    size = shape[0] * shape[1]
    count = reader.number(4, "counts of entries")
    if count > size:
        raise ValueError(f"tile 0: must have from 0 to {size} entries, not {count}")
    entries = read_plane(reader, count, bits, "codes", huffman=huffman)
    gaps = read_plane(reader, count, index_bits, "gaps", huffman=huffman)
    return place_entries(gaps, entries, np.array([count]), size, index_bits).reshape(shape)


def _refuse(wrong: NDArray[np.bool_], tile: NDArray[np.int64], fault: str) -> None:
    if wrong.any():
        raise ValueError(f"tile {int(tile[np.flatnonzero(wrong)[0]])}: {fault}")
