"""How a compressed layer's weights are made up: integers and scales, a codebook, signs, planes of signs.

A code gives the real weights that the layer computes with. What isn't coded is float32.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..formats import Format

__all__ = [
    "CodebookCode",
    "FixedCode",
    "PlanesCode",
    "ProductCode",
    "TwoScaleCode",
    "WeightCode",
    "code_from_arrays",
    "code_to_arrays",
]

_Array = NDArray[Any]


def _by_filter(scales: _Array, weights: _Array) -> _Array:
    return scales.reshape(-1, *[1] * (weights.ndim - 1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FixedCode:
    """Integers of a format, times a scale by output channel: fixed point, binary, ternary.

    Raises:
        ValueError: integers that the format doesn't have, or scales of another number.
    """

    kind: ClassVar[str] = "fixed"
    integers: _Array
    """Shape of the weights."""
    scales: _Array
    """Shape (K,), above 0."""
    fmt: str
    """A format's name: int2 … int16, ternary, binary."""

    def __post_init__(self) -> None:
        Format.parse(self.fmt).check(self.integers, "a weight")
        _check_scales(self.scales, self.integers)

    def weights(self) -> NDArray[np.float32]:
        """The real weights, float32."""
        return (self.integers * _by_filter(self.scales, self.integers)).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodebookCode:
    """An index into a table of real values for each weight; index 0 stands for 0 where weights are pruned."""

    kind: ClassVar[str] = "codebook"
    indices: _Array
    """Shape of the weights, 0 … values − 1."""
    centroids: _Array
    """Shape (values,); of a pruned layer the first is 0."""
    given: bool = False
    """Whether a decoder knows the table but for one factor, so that only that is stored."""

    def __post_init__(self) -> None:
        if self.centroids.ndim != 1 or not np.isfinite(self.centroids).all():
            raise ValueError("centroids must be finite, shape (values,)")
        if self.indices.size and not 0 <= self.indices.min() <= self.indices.max() < len(self.centroids):
            raise ValueError(f"an index must be from 0 to {len(self.centroids) - 1}")

    def weights(self) -> NDArray[np.float32]:
        """The real weights, float32."""
        return self.centroids.astype(np.float32)[self.indices]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TwoScaleCode:
    """−1, 0 and 1, where 1 is worth `positive` and −1 `negative` (Zhu et al. 2017, TTQ)."""

    kind: ClassVar[str] = "two-scale"
    signs: _Array
    """Shape of the weights."""
    positive: _Array
    """Shape (K,), above 0."""
    negative: _Array
    """Shape (K,), above 0; the weight of a −1 is −negative."""

    def __post_init__(self) -> None:
        Format.parse("ternary").check(self.signs, "a weight")
        _check_scales(self.positive, self.signs)
        _check_scales(self.negative, self.signs)

    def weights(self) -> NDArray[np.float32]:
        """The real weights, float32."""
        up, down = _by_filter(self.positive, self.signs), _by_filter(self.negative, self.signs)
        return np.where(self.signs > 0, up, np.where(self.signs < 0, -down, 0.0)).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanesCode:
    """A sum of planes of ±1, each with a scale by output channel: network sketching (Guo et al. 2017)."""

    kind: ClassVar[str] = "planes"
    planes: _Array
    """Shape (planes, *weights), −1 and 1."""
    scales: _Array
    """Shape (planes, K)."""

    def __post_init__(self) -> None:
        Format.parse("binary").check(self.planes, "a plane's weight")
        if self.scales.shape != self.planes.shape[:2] or not np.isfinite(self.scales).all():
            raise ValueError(f"scales must be finite, shape {self.planes.shape[:2]}, not {self.scales.shape}")

    def weights(self) -> NDArray[np.float32]:
        """The real weights, float32."""
        scales = self.scales.reshape(*self.scales.shape, *[1] * (self.planes.ndim - 2))
        return np.asarray((self.planes * scales).sum(axis=0), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProductCode:
    """Sub-vectors from codebooks, one codebook a segment, summed over stages.

    A weight matrix (K, N) is cut into segments of `length` columns; residual codes have several stages.
    """

    kind: ClassVar[str] = "product"
    indices: _Array
    """Shape (stages, segments, K)."""
    centroids: _Array
    """Shape (stages, segments, values, length)."""
    shape: tuple[int, ...]
    """Of the weights; K comes first, the others flattened make N, filled up with zeros to whole segments."""

    def weights(self) -> NDArray[np.float32]:
        """The real weights, float32."""
        stages, segments, count = self.indices.shape
        length = self.centroids.shape[3]
        matrix = np.zeros((count, segments * length), np.float64)
        for stage in range(stages):
            for segment in range(segments):
                part = self.centroids[stage, segment][self.indices[stage, segment]]
                matrix[:, segment * length : (segment + 1) * length] += part
        size = int(np.prod(self.shape[1:]))
        return matrix[:, :size].reshape(self.shape).astype(np.float32)


WeightCode = FixedCode | CodebookCode | TwoScaleCode | PlanesCode | ProductCode
_KINDS: dict[str, type[Any]] = {
    kind.kind: kind for kind in (FixedCode, CodebookCode, TwoScaleCode, PlanesCode, ProductCode)
}


def _check_scales(scales: _Array, weights: _Array) -> None:
    if scales.shape != (len(weights),) or not np.all(np.isfinite(scales) & (scales > 0)):
        raise ValueError(f"scales must be finite and above 0, shape ({len(weights)},), not {scales.shape}")


def code_to_arrays(code: WeightCode) -> dict[str, _Array]:
    """The parts of a code as arrays by name, with its kind; `code_from_arrays` takes them."""
    return {"kind": np.array(code.kind), **{f.name: np.asarray(getattr(code, f.name)) for f in fields(code)}}


def code_from_arrays(arrays: dict[str, _Array]) -> WeightCode:
    """The code that `code_to_arrays` took apart.

    Raises:
        ValueError: an unknown kind, or parts that don't fit.
    """
    kind = str(arrays.get("kind", ""))
    if kind not in _KINDS:
        raise ValueError(f"no such kind of weights: {kind!r:.40}")
    parts: dict[str, Any] = {}
    for field in fields(_KINDS[kind]):
        if field.name == "given":
            parts["given"] = bool(arrays.get("given", False))  # older states don't say
            continue
        value = arrays[field.name]
        if field.name == "fmt":
            parts[field.name] = str(value)
        elif field.name == "shape":
            parts[field.name] = tuple(int(n) for n in value)
        else:
            parts[field.name] = value
    code: WeightCode = _KINDS[kind](**parts)
    return code
