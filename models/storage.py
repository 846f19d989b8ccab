"""Networks as files: one versioned `.bw` file, without pickle, that is checked before it is believed.

The layout, all numbers little-endian:

| bytes | what |
| --- | --- |
| 0–7 | `89 42 57 4E 45 54 0D 0A` |
| 8–11 | format version, uint32, 4; versions 1 to 3 are read too |
| 12–15 | length of the header in bytes, uint32 |
| 16–23 | length of the arrays in bytes, uint64 |
| 24–55 | SHA-256 of header and arrays |
| 56– | the header: UTF-8 JSON with tensors, layers and, for each array, dtype, shape and offset |
| then | the arrays: weight payloads, scales, biases, multipliers, shifts, thresholds |

Version 1 has fewer kinds of layers, 2 has no offsets, 3 dense payloads only and no sums of planes.

Only weights may be compressed, in the encodings of `payload.encoding`: those that aren't dense may have 2^28
values in all. Beyond them, reading never takes more memory than a small multiple of the file's size.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formats import Format
from .layers import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    PlaneSum,
    Relu,
    Requantize,
    Shuffle,
    Thresholds,
)
from .network import Network, Tensor
from .numerics import Rounding
from .weights import WeightRecord, decode_weights

__all__ = ["ImportModelError", "load_network", "save_network"]

MAGIC = b"\x89BWNET\r\n"
VERSION = 4
_PREFIX = struct.Struct("<8sIIQ32s")
_HEADER_LIMIT = 1 << 24
_FILE_LIMIT = 1 << 31
_ENCODED_LIMIT = 1 << 28
_DTYPES = ("|u1", "|b1", "<i4", "<f8")
_FIRST_LAYERS: dict[str, type[Any]] = {
    kind.kind: kind for kind in (Conv, Linear, MaxPool, Requantize, Relu, Flatten)
}
"""What version 1 knows."""
_LAYERS: dict[str, type[Any]] = _FIRST_LAYERS | {
    kind.kind: kind for kind in (Thresholds, AvgPool, Add, Concat, Shuffle)
}
"""What versions 2 and 3 know."""
_LATEST_LAYERS: dict[str, type[Any]] = _LAYERS | {PlaneSum.kind: PlaneSum}
_OPTIONS: dict[str, tuple[str, ...]] = {
    "conv": ("stride", "padding", "dilation", "groups", "pad_value"),
    "linear": (),
    "maxpool": ("kernel", "stride", "padding"),
    "avgpool": ("kernel", "stride", "padding"),
    "requantize": ("multiplier", "shift", "rounding", "low", "high", "bias", "offset"),
    "thresholds": ("values", "low", "step"),
    "relu": (),
    "flatten": (),
    "add": ("multiplier", "shift", "left_shift", "rounding"),
    "concat": (),
    "shuffle": ("groups",),
    "planesum": ("planes", "multiplier", "shift", "left_shift", "rounding"),
}
_ARRAYS = ("multiplier", "shift", "bias", "values")
_SINCE = {"pad_value": 2, "bias": 2, "offset": 3}
"""Options that may be null, which is what files before this version mean by their absence."""


class ImportModelError(ValueError):
    """A model file that can't be read: one line with the file and the reason."""


class _Arrays:
    """The array part of a file being written; `add` gives what the header says of an array."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, array: NDArray[Any]) -> dict[str, Any]:
        flat = np.ascontiguousarray(array)
        little = flat.astype(flat.dtype.newbyteorder("<"))
        entry = {"dtype": little.dtype.str, "shape": list(array.shape), "offset": len(self.data)}
        self.data += little.tobytes()
        return entry


def save_network(network: Network, path: str | Path) -> None:
    """Nothing; writes `network` to `path`, first beside it, then renamed, so never in halves.

    Raises:
        ValueError: the suffix isn't `.bw`.
        OSError: the file can't be written.
    """
    target = Path(path)
    if target.suffix != ".bw":
        raise ValueError(f"{target}: a network's file has the suffix .bw, not {target.suffix!r}")
    arrays = _Arrays()
    header = {
        "name": network.name,
        "input": network.input,
        "output": network.output,
        "tensors": [
            {
                "name": tensor.name,
                "shape": list(tensor.shape),
                "format": tensor.fmt.name,
                "scale": tensor.scale,
                "zero_point": tensor.zero_point,
            }
            for tensor in network.tensors.values()
        ],
        "layers": [_layer_entry(layer, arrays) for layer in network.layers],
        "weights": [_weight_entry(record, arrays) for record in network.weights.values()],
    }
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    digest = hashlib.sha256(text + arrays.data).digest()
    prefix = _PREFIX.pack(MAGIC, VERSION, len(text), len(arrays.data), digest)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(prefix + text + arrays.data)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _layer_entry(layer: Layer, arrays: _Arrays) -> dict[str, Any]:
    entry: dict[str, Any] = {"kind": layer.kind, "name": layer.name}
    if isinstance(layer, Add | Concat):
        entry["inputs"] = list(layer.inputs)
    else:
        entry["input"] = layer.input
    entry["output"] = layer.output
    for option in _OPTIONS[layer.kind]:
        value = getattr(layer, option)
        if isinstance(value, np.ndarray):
            entry[option] = arrays.add(value)
        elif isinstance(value, Rounding):
            entry[option] = value.name
        else:
            entry[option] = list(value) if isinstance(value, tuple) else value
    return entry


def _weight_entry(record: WeightRecord, arrays: _Arrays) -> dict[str, Any]:
    return {
        "layer": record.layer,
        "shape": list(record.values.shape),
        "format": record.fmt.name,
        "encoding": record.encoding,
        "streams": record.streams,
        "codebook": 0 if record.codebook is None else record.codebook.size,
        "granularity": record.granularity,
        "payload": arrays.add(np.frombuffer(record.payload, np.uint8)),
        "scales": arrays.add(record.scales),
        "bias": None if record.bias is None else arrays.add(record.bias),
        "mask": None if record.mask is None else arrays.add(record.mask),
    }


def load_network(path: str | Path) -> Network:
    """The network that `path` holds, verified anew.

    Raises:
        ImportModelError: the file is missing, unreadable, no `.bw` file, of another version, cut off,
            changed, or describes no valid network; one line that names the file and the reason.
    """
    source = Path(path)
    try:
        return _parse(*_read(source))
    except OSError as fault:
        reason = fault.strerror or type(fault).__name__
    except RecursionError:
        reason = "its header is nested too deeply"
    except KeyError as fault:
        reason = f"its header lacks the key {fault.args[0]!r}"
    except (ValueError, TypeError, OverflowError) as fault:
        reason = str(fault)
    raise ImportModelError(f"{_one_line(str(source))}: {_one_line(reason)}")


def _one_line(text: str) -> str:
    """`text` without line breaks and control characters, at most 300 characters."""
    return "".join(c if c.isprintable() else "?" for c in text)[:300]


def _read(source: Path) -> tuple[dict[str, Any], bytes, int]:
    """Header, array bytes and format version; lengths and hash are checked."""
    with source.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(_PREFIX.size)
        if not prefix.startswith(MAGIC):
            raise ValueError("it is no Bitwright network: its first bytes are not those of a .bw file")
        if len(prefix) < _PREFIX.size:
            raise ValueError(f"it is cut off after {len(prefix)} bytes")
        _, version, header_bytes, array_bytes, digest = _PREFIX.unpack(prefix)
        if not 1 <= version <= VERSION:
            raise ValueError(f"it has format version {version}; this release reads 1 to {VERSION}")
        expected = _PREFIX.size + header_bytes + array_bytes
        if header_bytes > _HEADER_LIMIT or expected > _FILE_LIMIT:
            raise ValueError(
                f"it claims {header_bytes} bytes of header and {array_bytes} of arrays; at most "
                f"{_HEADER_LIMIT} and {_FILE_LIMIT} in all are read"
            )
        if size != expected:
            raise ValueError(f"it must be {expected} bytes long, not {size}: it is cut off or changed")
        text = file.read(header_bytes)
        arrays = file.read(array_bytes)
    mix = hashlib.sha256(text)
    mix.update(arrays)
    if len(text) != header_bytes or len(arrays) != array_bytes or mix.digest() != digest:
        raise ValueError("its checksum is wrong: the file was changed after it was saved")
    try:
        header = json.loads(text.decode("utf-8"))
    except ValueError as fault:
        raise ValueError(f"its header is no JSON: {fault}") from None
    return _expect(dict, header, "header"), arrays, version


def _expect(kind: type[Any], value: Any, what: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{what} must be of type {kind.__name__}, not {type(value).__name__}")
    return value


def _shape(value: Any, what: str) -> tuple[int, ...]:
    shape = tuple(_expect(int, n, what) for n in _expect(list, value, what))
    if len(shape) > 4 or any(not 0 <= n <= _FILE_LIMIT for n in shape):
        raise ValueError(f"{what} must be up to 4 counts from 0 to 2^31")
    return shape


class _ArrayReader:
    """The array part of a file being read; no byte is handed out twice over, so memory stays bounded."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = len(data)

    def get(self, entry: Any, what: str) -> NDArray[Any]:
        """The array that `entry` describes: a view, so no memory is taken on its word."""
        table = _expect(dict, entry, what)
        name = _expect(str, table["dtype"], f"{what}.dtype")
        if name not in _DTYPES:
            raise ValueError(f"{what}.dtype must be one of {', '.join(_DTYPES)}, not {name!r:.40}")
        dtype = np.dtype(name)
        shape = _shape(table["shape"], f"{what}.shape")
        offset = _expect(int, table["offset"], f"{what}.offset")
        count = math.prod(shape)
        end = offset + count * dtype.itemsize
        if not 0 <= offset <= end <= len(self._data):
            raise ValueError(
                f"{what} lies at bytes {offset} to {end} of the arrays, which have {len(self._data)}"
            )
        self._left -= end - offset
        if self._left < 0:
            raise ValueError(f"{what} lies over another array")
        if dtype.kind == "b" and max(self._data[offset:end], default=0) > 1:
            raise ValueError(f"{what} holds bytes other than 0 and 1")
        return np.frombuffer(self._data, dtype, count, offset).reshape(shape)


def _parse(header: Mapping[str, Any], data: bytes, version: int) -> Network:
    arrays = _ArrayReader(data)
    tensors: dict[str, Tensor] = {}
    for entry in _expect(list, header["tensors"], "tensors"):
        table = _expect(dict, entry, "a tensor")
        scale = table["scale"]
        tensor = Tensor(
            name=table["name"],
            shape=_shape(table["shape"], "a tensor's shape"),
            fmt=Format.parse(_expect(str, table["format"], "a tensor's format")),
            scale=None if scale is None else _expect(float, scale, "scale"),
            zero_point=_expect(int, table["zero_point"], "zero_point"),
        )
        if tensor.name in tensors:
            raise ValueError(f"tensor {tensor.name} stands twice")
        tensors[tensor.name] = tensor
    layers = tuple(_parse_layer(e, arrays, version) for e in _expect(list, header["layers"], "layers"))
    weights: dict[str, WeightRecord] = {}
    encoded = 0
    for entry in _expect(list, header["weights"], "weights"):
        record = _parse_weights(_expect(dict, entry, "a weight record"), arrays, version, encoded)
        encoded += record.values.size if record.payload_modelled else 0
        if record.layer in weights:
            raise ValueError(f"layer {record.layer}: its weights stand twice")
        weights[record.layer] = record
    return Network(
        name=header["name"],
        input=_expect(str, header["input"], "input"),
        output=_expect(str, header["output"], "output"),
        tensors=tensors,
        layers=layers,
        weights=weights,
    )


def _parse_layer(entry: Any, arrays: _ArrayReader, version: int) -> Layer:
    table = _expect(dict, entry, "a layer")
    kind = _expect(str, table["kind"], "a layer's kind")
    known = _LATEST_LAYERS if version > 3 else _LAYERS if version > 1 else _FIRST_LAYERS
    if kind not in known:
        raise ValueError(f"a layer's kind must be one of {', '.join(known)}, not {kind!r:.40}")
    values: dict[str, Any] = {key: _expect(str, table[key], f"a layer's {key}") for key in ("name", "output")}
    where = f"layer {values['name']}"
    if known[kind] in (Add, Concat):
        names = _expect(list, table["inputs"], f"{where}: inputs")
        values["inputs"] = tuple(_expect(str, name, f"{where}: an input") for name in names)
    else:
        values["input"] = _expect(str, table["input"], f"{where}: input")
    for option in _OPTIONS[kind]:
        if option in _SINCE and (version < _SINCE[option] or table[option] is None):
            continue
        value, what = table[option], f"{where}: {option}"
        if option in _ARRAYS:
            value = arrays.get(value, what)
        elif option == "rounding":
            if value not in [r.name for r in Rounding]:
                raise ValueError(f"{where}: rounding is no known mode: {value!r:.40}")
            value = Rounding[value]
        elif isinstance(value, list):
            value = tuple(_expect(int, n, what) for n in value)
        else:
            value = _expect(int, value, what)
        values[option] = value
    layer: Layer = known[kind](**values)
    return layer


def _parse_weights(table: dict[str, Any], arrays: _ArrayReader, version: int, before: int) -> WeightRecord:
    """The record, where `before` encoded values came before it."""
    layer = _expect(str, table["layer"], "a weight record's layer")
    where = f"layer {layer}"
    fmt = Format.parse(_expect(str, table["format"], f"{where}: format"))
    shape = _shape(table["shape"], f"{where}: shape")
    payload = arrays.get(table["payload"], f"{where}: payload")
    if payload.dtype != np.uint8:
        raise ValueError(f"{where}: payload must be bytes (|u1), not {payload.dtype.str}")
    encoding = _expect(str, table["encoding"], f"{where}: encoding")
    streams = _expect(int, table["streams"], f"{where}: streams")
    entries = _expect(int, table["codebook"], f"{where}: codebook") if version > 3 else 0
    if version < 4 and (encoding, streams) != ("dense", 1):
        raise ValueError(
            f"{where}: version {version} has dense payloads in 1 stream only, not {encoding!r:.40}"
        )
    if entries and not 2 <= entries <= 256:
        raise ValueError(f"{where}: a codebook has 2 to 256 entries, or 0 is none, not {entries}")
    if (encoding, streams, entries) != ("dense", 1, 0) and before + math.prod(shape) > _ENCODED_LIMIT:
        raise ValueError(f"{where}: weights that aren't dense may have {_ENCODED_LIMIT} values in all")
    values, codebook = decode_weights(
        payload.tobytes(),
        layer=layer,
        shape=shape,
        fmt=fmt,
        encoding=encoding,
        streams=streams,
        entries=entries,
    )
    bias, mask = (
        None if table[key] is None else arrays.get(table[key], f"{where}: {key}") for key in ("bias", "mask")
    )
    return WeightRecord(
        layer=layer,
        values=values,
        fmt=fmt,
        scales=arrays.get(table["scales"], f"{where}: scales"),
        bias=bias,
        mask=mask,
        granularity=_expect(str, table["granularity"], f"{where}: granularity"),
        codebook=codebook if entries else None,
        encoding=encoding,
        payload=payload.tobytes(),
        streams=streams,
    )
