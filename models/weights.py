"""What a layer's weights are and how they lie in memory: values, scales, bias, and the encoded payload."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .formats import Format, FormatKind
from .payload.encoding import Encoding, decode_codes, encode_codes, stream_sizes

__all__ = ["GRANULARITIES", "WeightRecord", "decode_weights", "mask_shape"]

GRANULARITIES = ("element", "vector", "kernel", "channel", "filter", "column", "block")
"""What a mask's entries may stand for; `mask_shape` has the shapes."""
_GROUPED = {
    "element": (), "vector": (3,), "kernel": (2, 3), "channel": (0, 2, 3), "filter": (1, 2, 3), "column": (0,)
}  # fmt: skip
"""Axes of the weights that a mask's entry covers whole."""


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightRecord:
    """One layer's weights as a compressor hands them on; the mapper reads nothing else about them.

    Made with `dense` or `encoded`. The arrays are read-only copies.

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
    codebook: NDArray[Any] | None = None
    """Distinct integers of the format, shape (entries,), 2 to 256: what the codes in the payload stand for.
    `values` are the integers themselves, which is what a core computes with."""
    encoding: str = "dense"
    """A name of `models.payload.encoding`."""
    payload: bytes
    """The bytes that would lie in DRAM, the codebook first; `decode` gives `values` back."""
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
            _check_mask(where, mask, values, self.granularity)
            object.__setattr__(self, "mask", _frozen(mask))
        if self.codebook is not None:
            table = self.fmt.check(self.codebook, f"{where}: a codebook's entry")
            if table.ndim != 1 or not 2 <= table.size <= 256 or np.unique(table).size != table.size:
                raise ValueError(
                    f"{where}: a codebook has 2 to 256 distinct entries in a row, not shape {table.shape}"
                )
            object.__setattr__(self, "codebook", _frozen(table))
        decoded, table = self._decoded()
        if not np.array_equal(table, [] if self.codebook is None else self.codebook):
            raise ValueError(f"{where}: the payload doesn't begin with the codebook")
        if not np.array_equal(decoded, self.values):
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
        return cls.encoded(layer=layer, values=values, fmt=fmt, scales=scales, bias=bias)

    @classmethod
    def encoded(
        cls,
        *,
        layer: str,
        values: ArrayLike,
        fmt: Format,
        scales: ArrayLike,
        bias: ArrayLike | None = None,
        mask: NDArray[np.bool_] | None = None,
        granularity: str = "element",
        codebook: ArrayLike | None = None,
        encoding: str = "dense",
        streams: int = 1,
    ) -> WeightRecord:
        """A record whose payload is made here.

        Args:
            codebook: every value that occurs; code i stands for entry i, so 0 belongs first where an encoding
                leaves zeros out.
            encoding: a name of `models.payload.encoding`, such as relative4+huffman.

        Raises:
            ValueError: as the class, or a value that the codebook lacks.
        """
        where = f"layer {layer}"
        checked = fmt.check(values, f"{where}: a weight")
        table = None if codebook is None else np.asarray(codebook)
        try:
            payload = _payload(checked, fmt, table, Encoding.parse(encoding), streams)
        except ValueError as fault:
            raise ValueError(f"{where}: {fault}") from None
        return cls(
            layer=layer,
            values=checked,
            fmt=fmt,
            scales=np.asarray(scales, np.float64),
            bias=None if bias is None else np.asarray(bias),
            mask=mask,
            granularity=granularity,
            codebook=table,
            encoding=encoding,
            payload=payload,
            streams=streams,
        )

    def decode(self) -> NDArray[Any]:
        """The weights that `payload` holds, in the shape of `values`.

        Raises:
            ValueError: the payload isn't one of this format, encoding and shape; names the layer.
        """
        return self._decoded()[0]

    def _decoded(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return decode_weights(
            self.payload,
            layer=self.layer,
            shape=self.values.shape,
            fmt=self.fmt,
            encoding=self.encoding,
            streams=self.streams,
            entries=0 if self.codebook is None else self.codebook.size,
        )

    @property
    def code_format(self) -> Format:
        """What lies in the payload for a weight: codebook1 … codebook8, or the weights' own format."""
        return self.fmt if self.codebook is None else _code_format(self.codebook.size)

    @property
    def codebook_bytes(self) -> int:
        """Of the payload, those of the codebook."""
        return 0 if self.codebook is None else self.fmt.packed_bytes(self.codebook.size)

    @property
    def stream_bytes(self) -> tuple[int, ...]:
        """Of the payload, those of each stream; codebook and stream header are not in it."""
        return stream_sizes(self.payload[self.codebook_bytes :], self.streams)

    @property
    def dense_bytes(self) -> int:
        """What the weights take densely packed, without any encoding.

        The core loads weights as such an image, whatever the encoding: a payload of another is modelled.
        """
        return self.fmt.packed_bytes(self.values.size)

    @property
    def payload_modelled(self) -> bool:
        """Whether the payload is another than the dense image that the core loads."""
        return self.encoding != "dense" or self.streams != 1 or self.codebook is not None

    @property
    def bias_or_zero(self) -> NDArray[np.int32]:
        """The bias, zeros where there is none; shape (K,)."""
        if self.bias is None:
            return np.zeros(self.values.shape[0], np.int32)
        return self.bias


def mask_shape(shape: tuple[int, ...], granularity: str) -> tuple[int, ...]:
    """The shape of a mask over weights of a shape: theirs, with the axes that a group covers reduced to 1.

    Of weights (K, C, FY, FX): vector (K, C, FY, 1), kernel (K, C, 1, 1), filter (K, 1, 1, 1), channel
    (1, C, 1, 1), column (1, C, FY, FX). Of (K, N) those axes that there are.

    Raises:
        ValueError: block, whose shape depends on the block's size, or an unknown granularity.
    """
    if granularity not in _GROUPED:
        raise ValueError(f"a granularity of fixed shape is one of {', '.join(_GROUPED)}, not {granularity!r}")
    return tuple(1 if axis in _GROUPED[granularity] else n for axis, n in enumerate(shape))


def _check_mask(where: str, mask: NDArray[np.bool_], values: NDArray[Any], granularity: str) -> None:
    shape = values.shape
    if granularity == "block":
        # ⌈K / rows⌉ by ⌈C / lanes⌉ blocks: some size of block has to give each of the counts.
        fits = len(mask.shape) == len(shape) and mask.shape[2:] == shape[2:]
        fits = fits and all(
            1 <= m <= n and -(-n // -(-n // m)) == m for m, n in zip(mask.shape[:2], shape[:2], strict=True)
        )
        if not fits:
            raise ValueError(
                f"{where}: a block mask of weights {shape} has equal blocks of its first two axes, "
                f"⌈K / rows⌉ by ⌈C / lanes⌉, and the others as they are, not {mask.shape}"
            )
        return
    expected = mask_shape(shape, granularity)
    article = "an" if granularity == "element" else "a"
    if mask.shape != expected:
        raise ValueError(
            f"{where}: {article} {granularity} mask of weights {shape} has the shape {expected}, "
            f"not {mask.shape}"
        )
    if np.any(values, where=np.broadcast_to(~mask, shape)):
        raise ValueError(f"{where}: weights that its {granularity} mask cuts must be 0")


def _code_format(entries: int) -> Format:
    return Format(FormatKind.CODEBOOK, max(1, (entries - 1).bit_length()))


def _payload(
    values: NDArray[Any], fmt: Format, table: NDArray[Any] | None, encoding: Encoding, streams: int
) -> bytes:
    rows = values.reshape(len(values), -1) if values.ndim > 1 else values.reshape(1, -1)
    if table is None:
        if encoding == Encoding(kind="dense") and streams == 1:  # int32 has no codes
            return fmt.pack(values).tobytes()
        _check_width(fmt)
        codes = rows > 0 if fmt.kind == FormatKind.BINARY else rows.astype(np.int64) & ((1 << fmt.bits) - 1)
        return encode_codes(codes.astype(np.uint16), fmt.bits, encoding, streams)
    order = np.argsort(table, kind="stable")
    place = np.minimum(np.searchsorted(table[order], rows), table.size - 1)
    codes = order[place]
    wrong = table[codes] != rows
    if wrong.any():
        raise ValueError(f"a weight is {int(rows[wrong][0])}, which the codebook lacks")
    body = encode_codes(codes.astype(np.uint16), _code_format(table.size).bits, encoding, streams)
    return fmt.pack(table).tobytes() + body


def _check_width(fmt: Format) -> None:
    if fmt.bits > 16:
        raise ValueError(f"weights of {fmt.name} can only be dense in 1 stream: codes have at most 16 bits")


def decode_weights(
    payload: bytes,
    *,
    layer: str,
    shape: tuple[int, ...],
    fmt: Format,
    encoding: str,
    streams: int,
    entries: int,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(weights, codebook) that a payload holds; a codebook of `entries` entries, which may be 0.

    Raises:
        ValueError: an unknown encoding, or a payload that isn't one of these; names the layer.
    """
    try:
        how = Encoding.parse(encoding)
        if not entries and how == Encoding(kind="dense") and type(streams) is int and streams == 1:
            count = math.prod(shape)
            return fmt.unpack(payload, count).reshape(shape), np.zeros(0, fmt.dtype)
        _check_width(fmt)
        head = fmt.packed_bytes(entries)
        table = fmt.unpack(payload[:head], entries)
        bits = _code_format(entries).bits if entries else fmt.bits
        rows = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
        codes = decode_codes(payload[head:], rows, bits, how, streams).reshape(shape)
        if entries:
            if int(codes.max()) >= entries:
                raise ValueError(f"code {int(codes.max())} is beyond the codebook's {entries} entries")
            return table[codes], table
        if fmt.kind == FormatKind.BINARY:
            return (codes.astype(np.int8) * 2 - 1).astype(fmt.dtype), table
        values = codes.astype(np.int32)
        if fmt.signed:
            values -= (values >> (fmt.bits - 1)) << fmt.bits
        return fmt.check(values, "a weight"), table
    except ValueError as fault:
        raise ValueError(f"layer {layer}: {fault}") from None
