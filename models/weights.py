"""What a layer's weights are and how they lie in memory: values, scales, bias, and the encoded payload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .formats import Format

__all__ = ["GRANULARITIES", "WeightRecord"]

GRANULARITIES = ("element", "vector", "kernel", "channel", "filter", "block")
"""What a mask's entries may stand for."""


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightRecord:
    """One layer's weights as a compressor hands them on; the mapper reads nothing else about them.

    Made with `dense`. The arrays are read-only copies.

    Raises:
        ValueError: parts that don't fit together; the message names the layer.
    """

    layer: str
    values: NDArray[Any]
    """Stored integers, shape (K, C / groups, FY, FX) or (K, N), of the format's dtype."""
    fmt: Format
    scales: NDArray[np.float64]
    """Shape (K,): a real weight is values[k] · scales[k]."""
    bias: NDArray[np.int32] | None
    """Shape (K,), in accumulator units, the input's zero point already taken out; None is all 0."""
    mask: NDArray[np.bool_] | None = None
    """Where weights are kept; its shape follows `granularity`. None where nothing is pruned."""
    granularity: str = "element"
    encoding: str = "dense"
    payload: bytes
    """The bytes that would lie in DRAM; `decode` gives `values` back."""
    streams: int = 1
    """Independently decodable parts of the payload."""

    def __post_init__(self) -> None:
        where = f"layer {self.layer}"
        values = np.asarray(self.values)
        if values.ndim not in (2, 4) or 0 in values.shape:
            raise ValueError(
                f"{where}: weights have shape (K, C, FY, FX) or (K, N), all at least 1, not {values.shape}"
            )
        outputs = values.shape[0]
        scales = np.asarray(self.scales, np.float64)
        if scales.shape != (outputs,) or not np.all(np.isfinite(scales) & (scales > 0)):
            raise ValueError(f"{where}: scales must be {outputs} finite numbers above 0, shape ({outputs},)")
        object.__setattr__(self, "values", _frozen(self.fmt.check(values, f"{where}: a weight")))
        object.__setattr__(self, "scales", _frozen(scales))
        if self.bias is not None:
            bias = Format.parse("int32").check(self.bias, f"{where}: a bias")
            if bias.shape != (outputs,):
                raise ValueError(f"{where}: bias must have shape ({outputs},), not {bias.shape}")
            object.__setattr__(self, "bias", _frozen(bias))
        if self.granularity not in GRANULARITIES:
            raise ValueError(
                f"{where}: granularity must be one of {', '.join(GRANULARITIES)}, not {self.granularity!r}"
            )
        if self.mask is not None:
            mask = np.asarray(self.mask)
            if mask.dtype != np.bool_:
                raise ValueError(f"{where}: a mask is boolean, not {mask.dtype}")
            if self.granularity == "element" and mask.shape != values.shape:
                raise ValueError(
                    f"{where}: an element mask has the weights' shape {values.shape}, not {mask.shape}"
                )
            object.__setattr__(self, "mask", _frozen(mask))
        if self.encoding != "dense" or self.streams != 1:
            raise ValueError(
                f"{where}: the only encoding is 'dense' in 1 stream, not {self.encoding!r} in {self.streams}"
            )
        if not np.array_equal(self.decode(), self.values):
            raise ValueError(f"{where}: the payload doesn't decode to the weights")

    @classmethod
    def dense(
        cls,
        *,
        layer: str,
        values: ArrayLike,
        fmt: Format,
        scales: ArrayLike,
        bias: ArrayLike | None = None,
    ) -> WeightRecord:
        """A record whose payload is the weights, densely packed in C order.

        Raises:
            ValueError: as the class.
        """
        checked = fmt.check(values, f"layer {layer}: a weight")
        return cls(
            layer=layer,
            values=checked,
            fmt=fmt,
            scales=np.asarray(scales, np.float64),
            bias=None if bias is None else np.asarray(bias),
            payload=fmt.pack(checked).tobytes(),
        )

    def decode(self) -> NDArray[Any]:
        """The weights that `payload` holds, in the shape of `values`.

        Raises:
            ValueError: the payload isn't one of this format and shape; names the layer.
        """
        try:
            return self.fmt.unpack(self.payload, self.values.size).reshape(self.values.shape)
        except ValueError as fault:
            raise ValueError(f"layer {self.layer}: {fault}") from None

    @property
    def bias_or_zero(self) -> NDArray[np.int32]:
        """The bias, zeros where there is none; shape (K,)."""
        if self.bias is None:
            return np.zeros(self.values.shape[0], np.int32)
        return self.bias
