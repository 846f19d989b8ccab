"""How many bytes a compressed layer takes: its codes are written by the encoders, the bytes counted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats import Format, FormatKind
from ..payload.encoding import Encoding, encode_codes
from ..weights import mask_shape
from .subject import Subject
from .weight_codes import CodebookCode, FixedCode, PlanesCode, ProductCode, TwoScaleCode, WeightCode

__all__ = ["ENTROPY", "LayerSize", "best_encoding", "layer_size", "weight_codes_of"]

_PLAIN = ("dense", "bitmap", "relative4", "relative5", "relative8")
ENTROPY = (*_PLAIN, *(f"{name}+huffman" for name in (*_PLAIN, "csc4", "csc8")))
"""What `best` chooses from."""
_FLOAT_BITS = 32
_Codes = NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSize:
    """A layer's weights as they would be stored."""

    name: str
    weights: int
    kept: int
    """Weights that aren't cut."""
    density: float
    granularity: str
    bits: float
    """Of a value that is stored, without its index."""
    encoding: str
    payload_bytes: int
    """Values, indices, code tables, codebooks and scales (4 bytes an entry), and the bias as float32."""


def layer_size(subject: Subject, layer: str) -> LayerSize:
    """What a layer of a subject takes, in the encoding asked for, or the smallest without Huffman."""
    weights = subject.weight(layer)
    mask = subject.masks.get(layer)
    kept = weights != 0 if mask is None else mask.kept
    code = subject.codes.get(layer)
    constant = _table_bytes(code) + (4 * len(weights) if _has_bias(subject, layer) else 0)
    found = None if code is None else weight_codes_of(code)
    asked = subject.encodings.get(layer)
    if found is None:
        bits = float(_FLOAT_BITS)
        encoding, size = _float_size(kept, None if mask is None else mask.granularity)
    else:
        codes, width = found
        bits = float(width)
        names = _PLAIN if asked is None else (asked.name,)
        streams = 1 if asked is None else asked.streams
        encoding, size = best_encoding(codes, width, names, streams)
        if asked is None and mask is not None and mask.granularity != "element":
            grouped = _group_bytes(kept, mask.granularity, width)
            if grouped < size:
                encoding, size = "groups", grouped
    return LayerSize(
        name=layer,
        weights=int(weights.size),
        kept=int(kept.sum()),
        density=float(kept.mean()),
        granularity="none" if mask is None else mask.granularity,
        bits=bits,
        encoding=encoding,
        payload_bytes=size + constant,
    )


def best_encoding(codes: _Codes, bits: int, names: Iterable[str], streams: int = 1) -> tuple[str, int]:
    """(name, bytes) of the encoding that takes the fewest bytes for codes of shape (rows, columns).

    Raises:
        ValueError: none of them can hold the codes.
    """
    sizes: dict[str, int] = {}
    fault: ValueError | None = None
    for name in names:
        try:
            sizes[name] = len(encode_codes(codes, bits, Encoding.parse(name), streams))
        except ValueError as found:
            fault = found
    if not sizes:
        raise fault or ValueError("no encoding is given")
    name = min(sizes, key=lambda key: sizes[key])
    return name, sizes[name]


def weight_codes_of(code: WeightCode) -> tuple[_Codes, int]:
    """(codes, bits of one) that stand for a layer's weights, 0 for a weight of 0; shape (rows, columns)."""
    if isinstance(code, FixedCode):
        fmt = Format.parse(code.fmt)
        if fmt.kind == FormatKind.BINARY:
            return _matrix(code.integers > 0), 1
        return _matrix(code.integers.astype(np.int64) & ((1 << fmt.bits) - 1)), fmt.bits
    if isinstance(code, CodebookCode):
        return _matrix(code.indices), max(1, math.ceil(math.log2(len(code.centroids))))
    if isinstance(code, TwoScaleCode):
        return _matrix(code.signs.astype(np.int64) & 3), 2
    if isinstance(code, PlanesCode):
        count = len(code.planes)
        bits = (code.planes > 0).astype(np.int64)
        return _matrix(np.tensordot(1 << np.arange(count), bits, 1)), count
    stages, segments, rows = code.indices.shape
    flat = code.indices.transpose(2, 0, 1).reshape(rows, stages * segments)
    return flat.astype(np.uint16), max(1, math.ceil(math.log2(code.centroids.shape[2])))


def _matrix(values: NDArray[Any]) -> _Codes:
    return np.ascontiguousarray(values.reshape(len(values), -1).astype(np.uint16))


def _table_bytes(code: WeightCode | None) -> int:
    """Bytes of what codes stand for: codebooks and scales, 4 an entry."""
    if isinstance(code, FixedCode):
        return 4 * int(np.unique(code.scales).size)
    if isinstance(code, CodebookCode):
        return 4 if code.given else 4 * len(code.centroids)
    if isinstance(code, TwoScaleCode):
        return 4 * int(np.unique(code.positive).size + np.unique(code.negative).size)
    if isinstance(code, PlanesCode):
        return 4 * int(code.scales.size)
    if isinstance(code, ProductCode):
        return 4 * int(code.centroids.size)
    return 0


def _has_bias(subject: Subject, layer: str) -> bool:
    """Whether a layer has a bias, or gets one from the norm after it."""
    if subject.model.bias(layer) is not None:
        return True
    value = subject.model.layer(layer).value
    return any(node.op == "BatchNormalization" for node in subject.model.graph.consumers(value))


def _float_size(kept: NDArray[np.bool_], granularity: str | None) -> tuple[str, int]:
    """(name, bytes) of float32 weights: all of them, or those kept with a bit a weight or a group."""
    found = {"dense": 4 * kept.size}
    if granularity is not None:
        name = "bitmap" if granularity == "element" else "groups"
        found[name] = _group_bytes(kept, granularity, _FLOAT_BITS)
    name = min(found, key=lambda key: found[key])
    return name, found[name]


def _group_bytes(kept: NDArray[np.bool_], granularity: str, bits: int) -> int:
    """Bytes of the values in kept groups and of a bit for each group."""
    flags = (
        kept.size if granularity in ("element", "block") else math.prod(mask_shape(kept.shape, granularity))
    )
    return math.ceil(flags / 8) + math.ceil(int(kept.sum()) * bits / 8)
