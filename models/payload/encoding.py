"""Encodings by name, and the streams that a layer's codes are split into.

| name | codes lie as |
| --- | --- |
| `dense` | all codes, each in as many bits |
| `bitmap` | a bit each, and the codes that aren't 0 |
| `relative1` … `relative16` | (code, zeros before it in so many bits) with fillers; a stream is one tile |
| `csc` | columns: codes and row numbers |
| `csc1` … `csc16` | columns: codes and zeros between rows in so many bits, with fillers |

`+huffman` behind a name puts codes, and gaps or rows, into a canonical Huffman code each. A layer is a matrix
(output channels, all others): of S streams, stream s has the rows s, s + S, s + 2S, … For S above 1, the
streams' lengths in bytes come first, 4 bytes each.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bitmap import read_bitmap, write_bitmap
from .byte_reader import ByteReader
from .csc import read_csc, write_csc
from .dense import read_dense, write_dense
from .relative_index import read_relative, write_relative

__all__ = ["Encoding", "decode_codes", "encode_codes", "stream_sizes"]

_NAME = re.compile(r"(dense|bitmap|relative|csc)([1-9][0-9]?)?(\+huffman)?")
_WRITERS: dict[str, Callable[..., bytes]] = {
    "dense": write_dense, "bitmap": write_bitmap, "relative": write_relative, "csc": write_csc
}  # fmt: skip
_READERS: dict[str, Callable[..., NDArray[np.uint16]]] = {
    "dense": read_dense, "bitmap": read_bitmap, "relative": read_relative, "csc": read_csc
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How codes lie in memory. Made with `parse`.

    Raises:
        ValueError: index bits where the kind has none, none where it needs them, or outside 1…16.
    """

    kind: str
    """dense, bitmap, relative or csc."""
    index_bits: int | None = None
    """Of a gap; of csc None is row numbers."""
    huffman: bool = False

    def __post_init__(self) -> None:
        if self.kind not in _WRITERS:
            raise ValueError(f"an encoding is one of {', '.join(_WRITERS)}, not {self.kind!r:.40}")
        if self.index_bits is None:
            fits = self.kind != "relative"
        else:
            fits = self.kind in ("relative", "csc") and 1 <= self.index_bits <= 16
        if not fits:
            raise ValueError(
                f"relative has 1 to 16 index bits, csc may, others don't; not {self.kind} with "
                f"{self.index_bits}"
            )

    @classmethod
    def parse(cls, name: str) -> Encoding:
        """The encoding called `name`: `dense`, `relative4+huffman`, …

        Raises:
            ValueError: no encoding has this name.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(
                "an encoding is dense, bitmap, relative1 to relative16, csc or csc1 to csc16, with or "
                f"without +huffman, not {name!r:.40}"
            )
        return cls(
            kind=match[1], index_bits=None if match[2] is None else int(match[2]), huffman=bool(match[3])
        )

    @property
    def name(self) -> str:
        """What `parse` takes."""
        bits = "" if self.index_bits is None else str(self.index_bits)
        return f"{self.kind}{bits}{'+huffman' if self.huffman else ''}"

    @property
    def options(self) -> dict[str, Any]:
        """What the encoder of this kind takes besides codes and their bits."""
        given: dict[str, Any] = {"huffman": self.huffman}
        if self.kind in ("relative", "csc"):
            given["index_bits"] = self.index_bits
        return given


def _checked(shape: tuple[int, ...], bits: int, streams: int) -> None:
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"codes must have the shape (rows, columns), both at least 1, not {shape}")
    if not 1 <= bits <= 16:
        raise ValueError(f"codes must have from 1 to 16 bits, not {bits}")
    if isinstance(streams, bool) or not isinstance(streams, int) or not 1 <= streams <= shape[0]:
        raise ValueError(f"streams must be from 1 to the {shape[0]} output channels, not {streams}")


def encode_codes(codes: NDArray[Any], bits: int, encoding: Encoding, streams: int = 1) -> bytes:
    """The payload of unsigned codes of `bits` bits, shape (rows, columns).

    Raises:
        ValueError: another shape, codes that don't fit, more streams than rows, or what the encoder refuses.
    """
    _checked(codes.shape, bits, streams)
    if codes.dtype.kind not in "iu" or not 0 <= int(codes.min()) <= int(codes.max()) < 1 << bits:
        raise ValueError(
            f"codes must be integers from 0 to {(1 << bits) - 1}, not {codes.dtype} from {codes.min()} to "
            f"{codes.max()}"
        )
    write = _WRITERS[encoding.kind]
    if streams == 1:
        return write(codes, bits, **encoding.options)
    parts = [write(codes[s::streams], bits, **encoding.options) for s in range(streams)]
    return b"".join([len(part).to_bytes(4, "little") for part in parts] + parts)


def stream_sizes(payload: bytes | NDArray[np.uint8], streams: int) -> tuple[int, ...]:
    """Bytes of each stream, by the header; of one stream all bytes.

    Raises:
        ValueError: the header is cut, or its lengths aren't those of the rest.
    """
    size = len(payload)
    if streams == 1:
        return (size,)
    reader = ByteReader(payload)
    sizes = tuple(reader.number(4, f"lengths of {streams} streams") for _ in range(streams))
    if sum(sizes) != size - 4 * streams:
        raise ValueError(f"{streams} streams must have {size - 4 * streams} bytes in all, not {sum(sizes)}")
    return sizes


def decode_codes(
    payload: bytes | NDArray[np.uint8],
    shape: tuple[int, int],
    bits: int,
    encoding: Encoding,
    streams: int = 1,
) -> NDArray[np.uint16]:
    """The codes, exactly as `encode_codes` took them.

    Raises:
        ValueError: whatever isn't a payload of these codes: cuts, surplus bytes, runs past a tile, tables
            that are none; where there are several streams, the stream is named.
    """
    _checked(shape, bits, streams)
    data = np.frombuffer(payload, np.uint8) if isinstance(payload, bytes) else payload
    read = _READERS[encoding.kind]
    sizes = stream_sizes(data, streams)
    codes = np.empty(shape, np.uint16)
    begin = 4 * streams if streams > 1 else 0
    for s, size in enumerate(sizes):
        reader = ByteReader(data[begin : begin + size])
        begin += size
        try:
            part = codes[s::streams]
            part[...] = read(reader, part.shape, bits, **encoding.options)
            reader.end()
        except ValueError as fault:
            raise ValueError(f"stream {s}: {fault}" if streams > 1 else str(fault)) from None
    return codes
