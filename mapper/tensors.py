"""Tensors as the core's memory holds them: HWC, values packed, every pixel whole bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..models.formats import Format, FormatKind
from .program import Program

__all__ = ["pack_input", "unpack_output"]


def pack_input(program: Program, x: ArrayLike) -> bytes:
    """The bytes of one input, to be written at `program.input.address`.

    Args:
        program: tells shape and format.
        x: values of the format, shape (C, H, W) or (N,) as `program.input_shape`.

    Raises:
        ValueError: another shape, or values outside the format.
    """
    values, fmt = np.asarray(x), Format.parse(program.input_format)
    if values.shape != program.input_shape:
        raise ValueError(
            f"network {program.network}: an input must have shape {program.input_shape}, not {values.shape}"
        )
    outside = bool(values.size) and (int(values.min()) < fmt.min or int(values.max()) > fmt.max)
    if values.dtype.kind not in "iu" or outside:
        raise ValueError(
            f"network {program.network}: an input must be integers from {fmt.min} to {fmt.max}, not "
            f"{values.dtype} from {values.min()} to {values.max()}"
        )
    checked = fmt.check(values, f"network {program.network}: an input value")
    if checked.ndim == 3:
        checked = checked.transpose(1, 2, 0)
    if fmt.bits == 8:
        return checked.astype(np.int8).tobytes()
    stored = checked > 0 if fmt.kind == FormatKind.BINARY else checked
    bits = (stored.astype(np.uint8)[..., None] >> np.arange(fmt.bits, dtype=np.uint8)) & 1
    return np.packbits(bits.reshape(*checked.shape[:-1], -1), axis=-1, bitorder="little").tobytes()


def unpack_output(program: Program, data: bytes) -> NDArray[Any]:
    """The output tensor, int8 of `program.output_shape`, from the bytes at `program.output.address`.

    Bits that fill up a pixel's last byte are not looked at.

    Raises:
        ValueError: fewer bytes than the tensor has, or bits that are no value of its format.
    """
    shape, fmt = program.output_shape, Format.parse(program.output_format)
    pixels, pitch = math.prod(shape[1:]), fmt.packed_bytes(shape[0])
    size = pixels * pitch
    if len(data) < size:
        raise ValueError(f"network {program.network}: its output has {size} bytes, not {len(data)}")
    raw = np.frombuffer(data, np.uint8, size).reshape(pixels, pitch)
    if fmt.bits == 8:
        values = raw.view(np.int8)
    else:
        bits = np.unpackbits(raw, axis=-1, count=shape[0] * fmt.bits, bitorder="little")
        values = fmt.unpack(np.packbits(bits, bitorder="little"), pixels * shape[0])
    if len(shape) == 3:
        return values.reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1).astype(np.int8)
    return values.reshape(shape).astype(np.int8)
