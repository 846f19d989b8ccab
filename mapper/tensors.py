"""Tensors as the core's memory holds them: bytes in HWC order, densely packed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .program import Program

__all__ = ["pack_input", "unpack_output"]


def pack_input(program: Program, x: ArrayLike) -> bytes:
    """The bytes of one input, to be written at `program.input.address`.

    Args:
        program: tells the shape.
        x: int8 values, shape (C, H, W) or (N,) as `program.input_shape`.

    Raises:
        ValueError: another shape, or values outside int8.
    """
    values = np.asarray(x)
    if values.shape != program.input_shape:
        raise ValueError(
            f"network {program.network}: an input must have shape {program.input_shape}, not {values.shape}"
        )
    outside = bool(values.size) and (int(values.min()) < -128 or int(values.max()) > 127)
    if values.dtype.kind not in "iu" or outside:
        raise ValueError(
            f"network {program.network}: an input must be integers from -128 to 127, not "
            f"{values.dtype} from {values.min()} to {values.max()}"
        )
    if values.ndim == 3:
        values = values.transpose(1, 2, 0)
    return values.astype(np.int8).tobytes()


def unpack_output(program: Program, data: bytes) -> NDArray[np.int8]:
    """The output tensor, int8 of `program.output_shape`, from the bytes at `program.output.address`.

    Raises:
        ValueError: fewer bytes than the tensor has.
    """
    shape = program.output_shape
    size = math.prod(shape)
    if len(data) < size:
        raise ValueError(f"network {program.network}: its output has {size} bytes, not {len(data)}")
    values = np.frombuffer(data, np.int8, size)
    if len(shape) == 3:
        return values.reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1).copy()
    return values.reshape(shape).copy()
