"""A walk over a protocol buffer's bytes, before a parser takes memory for what they claim."""

from __future__ import annotations

from typing import Any

__all__ = ["check_wire"]

_ENTRIES = 1 << 18
"""The most messages and texts that a file may hold; each takes some 100 bytes when parsed, however short."""
_DEPTH = 24
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MESSAGE = 11


def check_wire(data: bytes, descriptor: Any) -> None:
    """Nothing; `data` is a whole message of `descriptor`'s type with a bounded number of parts.

    Raises:
        ValueError: it is cut off, has fields of no known kind, too many or too deeply nested parts.
    """
    if not data:
        raise ValueError("it is empty")
    entries = 0
    # where a message ends, and what it is
    open_messages: list[tuple[int, Any]] = [(len(data), descriptor)]
    at = 0
    while open_messages:
        end, kind = open_messages[-1]
        if at >= end:
            open_messages.pop()
            continue
        key, at = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError("it is no ONNX file, or damaged: it holds field 0")
        if wire == _VARINT:
            _, at = _varint(data, at, end)
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        elif wire == _BYTES:
            length, at = _varint(data, at, end)
            if at + length > end:
                raise ValueError(f"it is cut off or damaged: {length} bytes follow byte {at}, of {end}")
            entries += 1
            if entries > _ENTRIES:
                raise ValueError(f"it has more than {_ENTRIES} parts")
            field = kind.fields_by_number.get(number)
            if field is not None and field.type == _MESSAGE:
                open_messages.append((at + length, field.message_type))
                if len(open_messages) > _DEPTH:
                    raise ValueError(f"its parts are nested more than {_DEPTH} deep")
            else:
                at += length
        else:
            raise ValueError(f"it is no ONNX file, or damaged: no field has the kind {wire}")
        if at > end:
            raise ValueError(f"it is cut off or damaged after byte {end}")


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError(f"it is cut off or damaged at byte {at}")
