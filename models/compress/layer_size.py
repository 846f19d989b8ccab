"""How many bytes a compressed layer takes, entry by entry as its encoder writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formats import Format
from ..payload.relative_index import encode_relative
from .subject import Subject
from .weight_codes import CodebookCode, FixedCode, PlanesCode, ProductCode, TwoScaleCode, WeightCode

__all__ = ["LayerSize", "layer_size"]

_INDEX_BITS = (4, 5, 8)


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
    """Values, indices, tables, scales (4 bytes each) and the bias as float32."""


def layer_size(subject: Subject, layer: str) -> LayerSize:
    """What a layer of a subject takes, in the encoding that was asked for, or the smallest plain one."""
    weights = subject.weight(layer)
    mask = subject.masks.get(layer)
    kept = weights != 0 if mask is None else mask.kept
    code = subject.codes.get(layer)
    bits, table = _bits(code, weights)
    constant = table + (4 * len(weights) if _has_bias(subject, layer) else 0)
    asked = subject.encodings.get(layer)
    if isinstance(code, ProductCode):
        encoding, size = "product", math.ceil(code.indices.size * bits / 8)
    elif asked is not None:
        encoding, size = asked.name, _encoded(asked.name, dict(asked.options), kept, bits)
    else:
        granularity = "element" if mask is None else mask.granularity
        encoding, size = _smallest(kept, bits, granularity, sparse=mask is not None)
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


def _has_bias(subject: Subject, layer: str) -> bool:
    """Whether a layer has a bias, or gets one from the norm after it."""
    if subject.model.bias(layer) is not None:
        return True
    value = subject.model.layer(layer).value
    return any(node.op == "BatchNormalization" for node in subject.model.graph.consumers(value))


def _bits(code: WeightCode | None, weights: NDArray[Any]) -> tuple[float, int]:
    """(bits of a stored value, bytes of tables and scales)."""
    if isinstance(code, FixedCode):
        return float(Format.parse(code.fmt).bits), 4 * int(np.unique(code.scales).size)
    if isinstance(code, CodebookCode):
        return float(max(1, math.ceil(math.log2(len(code.centroids))))), 4 * len(code.centroids)
    if isinstance(code, TwoScaleCode):
        return 2.0, 4 * int(np.unique(code.positive).size + np.unique(code.negative).size)
    if isinstance(code, PlanesCode):
        return float(len(code.planes)), 4 * int(code.scales.size)
    if isinstance(code, ProductCode):
        return float(max(1, math.ceil(math.log2(code.centroids.shape[2])))), 4 * int(code.centroids.size)
    return 32.0, 0


def _smallest(kept: NDArray[np.bool_], bits: float, granularity: str, *, sparse: bool) -> tuple[str, int]:
    """The plain encoding that takes the fewest bytes, and how many."""
    found = {"dense": _encoded("dense", {}, kept, bits)}
    if sparse and not kept.all():
        if granularity == "element":
            found["bitmap"] = _encoded("bitmap", {}, kept, bits)
            for width in _INDEX_BITS:
                found[f"relative-{width}"] = _encoded("relative", {"index_bits": width}, kept, bits)
        else:
            groups = _groups(kept, granularity)
            found["groups"] = math.ceil(groups / 8) + math.ceil(int(kept.sum()) * bits / 8)
    name = min(found, key=lambda key: found[key])
    return name, found[name]


def _encoded(name: str, options: dict[str, int], kept: NDArray[np.bool_], bits: float) -> int:
    """Bytes of values and indices in an encoding."""
    if name == "dense":
        return math.ceil(kept.size * bits / 8)
    if name == "bitmap":
        return math.ceil(kept.size / 8) + math.ceil(int(kept.sum()) * bits / 8)
    width = options.get("index_bits", 4)
    stream = encode_relative(kept.reshape(1, -1).astype(np.uint8), index_bits=width, code_bits=1)
    return math.ceil(stream.entries * (width + bits) / 8)


def _groups(kept: NDArray[np.bool_], granularity: str) -> int:
    """How many groups are kept or cut at once."""
    shape = kept.shape if kept.ndim == 4 else (*kept.shape, 1, 1)
    count, channels, high, wide = shape
    counts: dict[str, int] = {
        "filter": count,
        "channel": channels,
        "kernel": count * channels,
        "vector": count * channels * high,
        "column": channels * high * wide,
    }
    return counts.get(granularity, kept.size)
