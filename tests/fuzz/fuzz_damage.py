"""Files made wrong: cut off, flipped bits, spliced parts, and fields set to what no honest writer would.

Every function takes the bytes of a file and a random generator, and returns the bytes of a damaged one.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["Random", "damage"]

Random = np.random.Generator
Damage = Callable[[bytes, Random], bytes]

HUGE = (-1, 0, 1, 2, 3, 255, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 62), -(1 << 63))
FLOATS = (float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e38, 1e-45)
TEXTS = (
    "",
    "../../etc/passwd",
    "/etc/passwd",
    "a\nb",
    "\x1b[31m",
    "NoSuchOp",
    "\udcff",
    "x" * 5000,
    "{}",
    "input",
)
_WORDS = (0, 1, 2, 3, 0x7F, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000, 1 << 28)


def _pick(rng: Random, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def truncate(data: bytes, rng: Random) -> bytes:
    return data[: int(rng.integers(len(data)))]


def flip_bits(data: bytes, rng: Random) -> bytes:
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        found[int(rng.integers(len(found)))] ^= 1 << int(rng.integers(8))
    return bytes(found)


def overwrite(data: bytes, rng: Random) -> bytes:
    found = bytearray(data)
    start, length = int(rng.integers(len(found))), int(rng.integers(1, 65))
    fill = _pick(rng, (b"\0" * length, b"\xff" * length, rng.bytes(length)))
    found[start : start + length] = fill[: len(found) - start]
    return bytes(found)


def splice(data: bytes, rng: Random) -> bytes:
    """A part of the file put in, or over, another place."""
    length = int(rng.integers(1, min(513, len(data) + 1)))
    start, place = (int(rng.integers(len(data) - length + 1)) for _ in range(2))
    over = place + length if rng.integers(2) else place
    return data[:place] + data[start : start + length] + data[over:]


def set_word(data: bytes, rng: Random) -> bytes:
    """A few 32-bit words near a flatbuffer's ends, where its offsets and sizes are, set to other values."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        # Most of a model is weights; its structure is at both ends.
        reach = min(len(found), 4096) // 4
        place = (
            int(rng.integers(reach)) if rng.integers(2) else len(found) // 4 - 1 - int(rng.integers(reach))
        )
        (old,) = struct.unpack_from("<I", found, 4 * place)
        new = (old + int(rng.integers(-16, 17))) & 0xFFFFFFFF if rng.integers(2) else _pick(rng, _WORDS)
        struct.pack_into("<I", found, 4 * place, new)
    return bytes(found)


def _fields(message: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Every set (message, field) of a protocol buffer."""
    for field, value in message.ListFields():
        yield message, field
        if field.type == field.TYPE_MESSAGE and depth < 8:
            for item in value if field.is_repeated else [value]:
                yield from _fields(item, depth + 1)


def set_field(data: bytes, rng: Random) -> bytes:
    """Some fields of an ONNX file set to an extreme or a sibling's value; some dropped, doubled, moved."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    for _ in range(int(rng.integers(1, 4))):
        message, field = _pick(rng, list(_fields(model)))
        if field.is_repeated:
            _change_list(getattr(message, field.name), field, rng)
        elif field.type == field.TYPE_MESSAGE:
            message.ClearField(field.name)
        else:
            _set(message, field.name, _other(field, getattr(message, field.name), rng))
    return bytes(model.SerializeToString())


def _set(message: Any, name: str, value: Any) -> None:
    try:
        setattr(message, name, value)
    except (ValueError, TypeError):  # outside what the field's type holds
        message.ClearField(name)


def _change_list(items: Any, field: Any, rng: Random) -> None:
    if not len(items):
        return
    first, second = (int(rng.integers(len(items))) for _ in range(2))
    action = int(rng.integers(4))
    if action == 0:
        del items[first]
    elif field.type == field.TYPE_MESSAGE:
        if action == 1:
            items.add().CopyFrom(items[first])
        else:
            other = type(items[first])()
            other.CopyFrom(items[first])
            items[first].CopyFrom(items[second])
            items[second].CopyFrom(other)
    elif action == 1:
        items.append(items[first])
    else:
        try:
            items[first] = items[second] if action == 2 else _other(field, items[first], rng)
        except (ValueError, TypeError):
            del items[first]


def _other(field: Any, value: Any, rng: Random) -> Any:
    if isinstance(value, bytes):
        return truncate(value, rng) if value and rng.integers(2) else value + b"\0" * int(rng.integers(1, 9))
    if isinstance(value, str):
        return _pick(rng, TEXTS)
    if isinstance(value, float):
        return _pick(rng, FLOATS)
    return _pick(rng, HUGE) if rng.integers(2) else int(value) + int(rng.integers(-3, 4))


def _leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of JSON values."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _leaves(inner)


def change_json(text: bytes, rng: Random) -> bytes:
    """A value of a JSON text set to an extreme or to another one's value, or dropped."""
    value = json.loads(text)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_leaves(value))
        if not places:
            break
        holder, key = _pick(rng, places)
        other, name = _pick(rng, places)
        action = int(rng.integers(4))
        if action == 0:
            del holder[key]
        elif action == 1:
            holder[key] = json.loads(json.dumps(other[name])) if name in _keys(other) else None
        else:
            holder[key] = _pick(rng, (*HUGE, 0.5, None, True, [], {}, *TEXTS, [[[[]]]]))
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _keys(holder: Any) -> Any:
    return holder if isinstance(holder, dict) else range(len(holder))


def change_archive(data: bytes, rng: Random) -> bytes:
    """A member of a zip archive damaged, renamed, doubled or left out, the archive itself being sound."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = int(rng.integers(len(members)))
    name, content = members[place]
    action = int(rng.integers(8))
    if action == 0:
        del members[place]
    elif action == 1:
        members[place] = (_pick(rng, ("../evil", "/evil", "a/../../b", name + "x")), content)
    elif action == 2:
        members.append((name, truncate(content, rng) if content else b"x"))
    elif name.endswith(".json") and action < 7:
        members[place] = (name, change_json(content, rng))
    elif content:
        members[place] = (name, _pick(rng, (truncate, flip_bits, overwrite, splice))(content, rng))
    stream = io.BytesIO()
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if rng.integers(2) else zipfile.ZIP_STORED) as out,
    ):
        warnings.simplefilter("ignore")  # of names that stand twice
        for name, content in members:
            out.writestr(name, content)
    return stream.getvalue()


def change_bw(data: bytes, rng: Random) -> bytes:
    """The header or the arrays of a `.bw` file changed, under a digest that fits."""
    prefix = struct.Struct("<8sIIQ32s")
    magic, version, header_size, _, _ = prefix.unpack_from(data)
    header = data[prefix.size : prefix.size + header_size]
    arrays = data[prefix.size + header_size :]
    if rng.integers(4):
        header = change_json(header, rng)
    else:
        arrays = flip_bits(arrays, rng)
    digest = hashlib.sha256(header + arrays).digest()
    return prefix.pack(magic, version, len(header), len(arrays), digest) + header + arrays


def change_cell(data: bytes, rng: Random) -> bytes:
    """A table of text with one of its cells set to another number or text."""
    rows = [line.split(",") for line in data.decode().split("\n")]
    cells = _pick(rng, rows)
    values = (*HUGE, *FLOATS, *TEXTS, "1:1", "2:4", "\u0663", "1e3", "0x10", "+1", " 7 ", "1_000")
    cells[int(rng.integers(len(cells)))] = str(_pick(rng, values))
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogateescape")


def _any_bytes(data: bytes, rng: Random) -> bytes:
    return _pick(rng, (truncate, flip_bits, flip_bits, overwrite, splice))(data, rng)


_STRUCTURE: dict[str, Damage] = {
    ".onnx": set_field,
    ".tflite": set_word,
    ".pt2": change_archive,
    ".npz": change_archive,
    ".bw": change_bw,
    ".csv": change_cell,
}


def damage(suffix: str, data: bytes, rng: Random) -> bytes:
    """A damaged form of a file of this kind: in three of five cases within its structure, else anywhere."""
    return (_STRUCTURE[suffix] if rng.integers(5) < 3 else _any_bytes)(data, rng)
