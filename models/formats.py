"""Number formats: what values a tensor may hold, and how they lie densely packed in bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Format", "FormatKind"]


class FormatKind(StrEnum):
    """The families of formats; scale and zero point stand apart, with the tensor."""

    BINARY = "binary"
    """Bipolar: −1 stored as 0, +1 stored as 1."""
    TERNARY = "ternary"
    """−1, 0, +1 in 2-bit two's complement."""
    INT = "int"
    """Two's complement."""
    UINT = "uint"
    CODEBOOK = "codebook"
    """An unsigned index into a table of integers."""


_NAME = re.compile(r"(int|uint|codebook)([1-9][0-9]?)")
_WIDTHS = {
    FormatKind.BINARY: (range(1, 2), "1"),
    FormatKind.TERNARY: (range(2, 3), "2"),
    FormatKind.INT: ((*range(2, 17), 32), "2 to 16, or 32 for accumulators and bias"),
    FormatKind.UINT: (range(2, 17), "2 to 16"),
    FormatKind.CODEBOOK: (range(1, 9), "1 to 8"),
}


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of number and its width in bits.

    Raises:
        ValueError: a width that the kind doesn't have.
    """

    kind: FormatKind
    bits: int

    def __post_init__(self) -> None:
        allowed, text = _WIDTHS[self.kind]
        if self.bits not in allowed:
            raise ValueError(f"a {self.kind} format has {text} bits, not {self.bits}")

    @classmethod
    def parse(cls, name: str) -> Format:
        """The format called `name`: `binary`, `ternary`, `int8`, `uint4`, `int32`, `codebook4`, …

        Raises:
            ValueError: no format has this name.
        """
        if name == "binary":
            return cls(FormatKind.BINARY, 1)
        if name == "ternary":
            return cls(FormatKind.TERNARY, 2)
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(
                "a format is binary, ternary, int2 to int16, int32, uint2 to uint16 or codebook1 "
                f"to codebook8, not {name!r}"
            )
        return cls(FormatKind(match[1]), int(match[2]))

    @property
    def name(self) -> str:
        """What `parse` takes."""
        if self.kind in (FormatKind.BINARY, FormatKind.TERNARY):
            return self.kind.value
        return f"{self.kind.value}{self.bits}"

    @property
    def signed(self) -> bool:
        """Whether values below zero exist."""
        return self.kind in (FormatKind.BINARY, FormatKind.TERNARY, FormatKind.INT)

    @property
    def min(self) -> int:
        """The least value."""
        if self.kind in (FormatKind.BINARY, FormatKind.TERNARY):
            return -1
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        """The greatest value."""
        if self.kind in (FormatKind.BINARY, FormatKind.TERNARY):
            return 1
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest signed numpy type that holds every value."""
        return np.dtype(np.int8 if self.max <= 127 else np.int16 if self.max <= 32767 else np.int32)

    def packed_bytes(self, count: int) -> int:
        """Bytes that `count` values take, densely packed."""
        return (count * self.bits + 7) // 8

    def check(self, values: ArrayLike, what: str = "a value") -> NDArray[Any]:
        """`values` as an array of `dtype`.

        Raises:
            ValueError: values that aren't integers, or that the format doesn't have; `what` names them.
        """
        array = np.asarray(values)
        if array.dtype.kind not in "iu" and array.size:
            raise ValueError(f"{what} must be an integer, not {array.dtype}")
        if array.size:
            low, high = int(array.min()), int(array.max())
            if low < self.min or high > self.max:
                worst = low if low < self.min else high
                raise ValueError(
                    f"{what} of format {self.name} must be from {self.min} to {self.max}, not {worst}"
                )
            if self.kind == FormatKind.BINARY and not array.all():
                raise ValueError(f"{what} of format binary must be -1 or 1, not 0")
        return array.astype(self.dtype)

    def pack(self, values: ArrayLike) -> NDArray[np.uint8]:
        """The bytes of `values`, flattened in C order and densely packed.

        Value i takes the bits i·bits … (i + 1)·bits − 1, bit 0 being the lowest of the first byte;
        the last byte is filled up with zeros.

        Raises:
            ValueError: a value that the format doesn't have.
        """
        flat = self.check(values).ravel()
        if self.kind == FormatKind.BINARY:
            flat = (flat > 0).astype(np.int8)
        width = 8 if self.bits <= 8 else 16 if self.bits <= 16 else 32
        stored = np.ascontiguousarray(flat.astype(f"<i{max(width, flat.itemsize * 8) // 8}"))
        raw = stored.view(np.uint8).reshape(flat.size, stored.itemsize)[:, : width // 8]
        if self.bits == width:
            return np.ascontiguousarray(raw).ravel()
        bits = np.unpackbits(raw, axis=1, bitorder="little")[:, : self.bits]
        return np.packbits(bits.ravel(), bitorder="little")

    def unpack(self, data: bytes | NDArray[np.uint8], count: int) -> NDArray[Any]:
        """The `count` values that `data` holds, the inverse of `pack`; shape (count,), of `dtype`.

        Raises:
            ValueError: a length that isn't that of `count` values, bits set beyond the last value, or
                a bit pattern that is no value.
        """
        raw = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        if count < 0 or raw.size != self.packed_bytes(count):
            raise ValueError(
                f"{count} values of format {self.name} take {self.packed_bytes(max(count, 0))} "
                f"bytes, not {raw.size}"
            )
        width = 8 if self.bits <= 8 else 16 if self.bits <= 16 else 32
        if self.bits == width:
            stored = raw
        else:
            if count * self.bits % 8 and int(raw[-1]) >> (count * self.bits % 8):
                raise ValueError("bits beyond the last packed value must be 0")
            bits = np.unpackbits(raw, count=count * self.bits, bitorder="little")
            stored = np.packbits(bits.reshape(count, self.bits), axis=1, bitorder="little").ravel()
        unsigned = np.ascontiguousarray(stored).view(f"<u{width // 8}")
        if self.kind == FormatKind.BINARY:
            return (unsigned.astype(np.int8) * 2 - 1).astype(self.dtype)
        if not self.signed:
            return unsigned.astype(self.dtype)
        spare = width - self.bits
        signed: NDArray[Any] = (unsigned << np.array(spare, unsigned.dtype)).view(f"<i{width // 8}")
        values: NDArray[Any] = signed >> np.array(spare, signed.dtype)
        if self.kind == FormatKind.TERNARY and values.size and int(values.min()) < -1:
            raise ValueError("the bits 10 are no ternary value")
        return values.astype(self.dtype)
