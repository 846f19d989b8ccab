"""Arrays from ONNX's tensors, whose sizes, types and external files are checked before they are believed."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph.graph import MAX_ELEMENTS

__all__ = ["DTYPES", "TensorReader", "dtype_of"]

DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    4: np.dtype(np.uint16),
    5: np.dtype(np.int16),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    9: np.dtype(np.bool_),
    10: np.dtype(np.float16),
    11: np.dtype(np.float64),
    12: np.dtype(np.uint32),
    13: np.dtype(np.uint64),
}
"""By code of TensorProto.DataType: the types that are read."""
_NAMES = (
    *("undefined", "float", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool"),
    *("float16", "double", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn"),
    *("float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4", "int4", "float4e2m1"),
)
_FIELDS = {
    "float_data": ("float32",),
    "double_data": ("float64",),
    "int64_data": ("int64",),
    "uint64_data": ("uint64", "uint32"),
    "int32_data": ("int32", "int16", "int8", "uint16", "uint8", "bool", "float16"),
}
"""The types that each field of a TensorProto holds; the first is the field's own."""
_EXTERNAL_LIMIT = 1 << 31
"""The most bytes that all external tensors of a model may have."""
_EXTERNAL = 1


def dtype_of(code: int) -> np.dtype[Any]:
    """NumPy's type for a code of TensorProto.DataType.

    Raises:
        ValueError: a type that isn't read; names it.
    """
    if code not in DTYPES:
        name = _NAMES[code] if 0 <= code < len(_NAMES) else str(code)
        raise ValueError(f"the data type {name} is not supported: float, integers and bool are")
    return DTYPES[code]


class TensorReader:
    """Reads the tensors of one model; external files lie in `folder`; no link is followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = _EXTERNAL_LIMIT

    def read(self, tensor: Any) -> NDArray[Any]:
        """The array of a TensorProto, read-only where it can be.

        Raises:
            ValueError: a type, size, or place of its data that isn't right; without the tensor's name.
        """
        dtype = dtype_of(tensor.data_type)
        shape = tuple(tensor.dims)
        if len(shape) > 16 or any(n < 0 for n in shape) or math.prod(shape) > MAX_ELEMENTS:
            raise ValueError(f"its shape must have at most 16 axes and 2^28 values, not {shape!s:.80}")
        if tensor.HasField("segment"):
            raise ValueError("tensors in segments are not supported")
        size = math.prod(shape) * dtype.itemsize
        if tensor.data_location == _EXTERNAL:
            return np.frombuffer(self._external(tensor, size), dtype.newbyteorder("<")).reshape(shape)
        if tensor.HasField("raw_data"):
            data = tensor.raw_data
            if len(data) != size:
                raise ValueError(f"{dtype} values of shape {shape} take {size} bytes, not {len(data)}")
            return _checked(np.frombuffer(data, dtype.newbyteorder("<")).reshape(shape))
        return _checked(_from_field(tensor, dtype, shape))

    def _external(self, tensor: Any, size: int) -> bytes:
        entries: dict[str, str] = {}
        for entry in tensor.external_data:
            if entry.key in entries:
                raise ValueError(f"its external data name {entry.key!r:.40} twice")
            entries[entry.key] = entry.value
        location = entries.get("location", "")
        offset, length = _count(entries, "offset", 0), _count(entries, "length", size)
        if length != size:
            raise ValueError(f"its external data must have {size} bytes, not {length}")
        self._left -= size
        if self._left < 0:
            raise ValueError("the model's external data have more than 2^31 bytes")
        handle = _open_inside(self._folder, location)
        with os.fdopen(handle, "rb") as file:
            total = os.fstat(handle).st_size
            if offset + size > total:
                raise ValueError(
                    f"its external data lie at bytes {offset} to {offset + size} of {location!r:.80}, "
                    f"which has {total}"
                )
            file.seek(offset)
            data = file.read(size)
        if len(data) != size:
            raise ValueError(f"its external file {location!r:.80} was cut off while it was read")
        return data


def _checked(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.bool_ and array.size and int(array.view(np.uint8).max()) > 1:
        raise ValueError("its booleans are bytes other than 0 and 1")
    return array


def _from_field(tensor: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    name = next(field for field, types in _FIELDS.items() if dtype.name in types)
    for field in _FIELDS:
        if field != name and len(getattr(tensor, field)):
            raise ValueError(f"{dtype} values stand in {name}, not in {field}")
    values = getattr(tensor, name)
    if len(values) != math.prod(shape):
        raise ValueError(f"its shape {shape!s:.80} wants {math.prod(shape)} values, not {len(values)}")
    wide = np.array(values, _FIELDS[name][0])
    if dtype == np.float16:
        return wide.astype(np.uint16).view(np.float16).reshape(shape)
    narrow = wide.astype(dtype)
    if dtype.kind in "iub" and not np.array_equal(narrow.astype(wide.dtype), wide):
        raise ValueError(f"a value lies outside {dtype}")
    return narrow.reshape(shape)


def _count(entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ValueError(f"its external {key} must be a count, not {text!r:.40}")
    return int(text)


def _open_inside(folder: Path, location: str) -> int:
    """A file descriptor of `location` below `folder`; no part of the way is a link or leads out."""
    parts = location.split("/")
    if (
        not location.isprintable()
        or "\\" in location
        or ":" in location
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise ValueError(
            f"its external file {location!r:.80} must lie in the model's folder, named without '..'"
        )
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        handle = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    except OSError as fault:
        reason = fault.strerror or type(fault).__name__
        raise ValueError(
            f"its external file {location!r:.80} can't be opened, or is reached by a link: {reason}"
        ) from None
    finally:
        os.close(here)
    state = os.fstat(handle)
    if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
        os.close(handle)
        raise ValueError(f"its external file {location!r:.80} is no plain file, or has a second (hard) link")
    return handle
