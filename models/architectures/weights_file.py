"""Weights from `.safetensors` and `.npz` files into a graph, by name; nothing is unpickled."""

from __future__ import annotations

import dataclasses
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph
from ..storage import ImportModelError

__all__ = ["load_weights"]

_Shape = tuple[int, ...]
_Read = Callable[[str], NDArray[Any]]


def load_weights(graph: Graph, path: str | Path) -> Graph:
    """`graph` with the weights of a file, each by its name.

    Every floating point constant of the graph with a `.` in its name that ends in weight, bias,
    running_mean or running_var must be in the file with the same shape, and the file may hold nothing else
    but `num_batches_tracked`. Shapes are compared before a value is read.

    Args:
        graph: e.g. from `architecture`; stays as it is.
        path: a `.safetensors` file, or an `.npz` file without pickled objects; float16, 32 or 64.

    Raises:
        ImportModelError: the file is missing, damaged or of another kind, a weight is missing, is not the
            graph's, or has another shape or type, or isn't finite; one line.
    """
    source = Path(path)
    readers = {".safetensors": _read_safetensors, ".npz": _read_npz}
    try:
        if source.suffix not in readers:
            raise ValueError(f"weights are read from .safetensors and .npz, not from {source.suffix!r:.20}")
        loaded = readers[source.suffix](source, _wanted(graph))
    except ImportModelError:
        raise
    except OSError as fault:
        raise ImportModelError(f"{_line(source)}: {_line(fault.strerror or fault)}") from None
    except Exception as fault:  # of zipfile, zlib, ast, tokenize, struct, safetensors
        raise ImportModelError(f"{_line(source)}: {_line(fault) or type(fault).__name__}") from None
    return dataclasses.replace(graph, constants={**graph.constants, **loaded})


def _line(text: object) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(text))[:300]


def _wanted(graph: Graph) -> dict[str, _Shape]:
    ends = (".weight", ".bias", ".running_mean", ".running_var")
    return {
        name: array.shape
        for name, array in graph.constants.items()
        if name.endswith(ends) and array.dtype.kind == "f"
    }


def _filled(
    wanted: Mapping[str, _Shape], found: Mapping[str, tuple[_Shape, np.dtype[Any]]], read: _Read
) -> dict[str, NDArray[np.float32]]:
    """The arrays that are wanted, read once all that is found fits."""
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(f"it lacks {missing[0]!r} and {len(missing) - 1} more of {len(wanted)} weights")
    for name, (shape, dtype) in found.items():
        if name.endswith(".num_batches_tracked"):
            continue
        if name not in wanted:
            raise ValueError(f"it holds {name!r:.80}, which the network has not")
        if shape != wanted[name]:
            raise ValueError(f"{name!r} must have shape {wanted[name]}, not {shape}")
        if dtype.kind != "f" or dtype.itemsize > 8:
            raise ValueError(f"{name!r} must hold float16, float32 or float64, not {dtype}")
    loaded = {}
    for name in wanted:
        with np.errstate(over="ignore"):  # what doesn't fit becomes infinite
            values = read(name).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"{name!r} holds a value that isn't finite")
        loaded[name] = values
    return loaded


def _read_safetensors(source: Path, wanted: Mapping[str, _Shape]) -> dict[str, NDArray[np.float32]]:
    from safetensors import safe_open

    kinds = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "I64": np.int64}
    if not source.is_file():
        raise ValueError("there is no such file")
    with safe_open(source, framework="numpy") as file:
        found = {}
        for name in file.keys():  # noqa: SIM118 - no mapping
            part = file.get_slice(name)
            if part.get_dtype() not in kinds:
                raise ValueError(f"{name!r:.80} must hold F16, F32 or F64, not {part.get_dtype()}")
            found[name] = (tuple(part.get_shape()), np.dtype(kinds[part.get_dtype()]))
        return _filled(wanted, found, file.get_tensor)


def _read_npz(source: Path, wanted: Mapping[str, _Shape]) -> dict[str, NDArray[np.float32]]:
    with zipfile.ZipFile(source) as archive:
        found = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in found:
                raise ValueError(f"{name!r:.80} stands twice")
            found[name] = _header(archive, member)

        def read(name: str) -> NDArray[Any]:
            with archive.open(f"{name}.npy") as file:
                values: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            return values

        return _filled(wanted, found, read)


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[_Shape, np.dtype[Any]]:
    """Shape and type of an array of an archive, checked against its length."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{member.filename!r:.80} has the .npy version {version}; 1.0 and 2.0 are read")
        header = np.lib.format
        read = header.read_array_header_1_0 if version == (1, 0) else header.read_array_header_2_0
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename!r:.80} holds pickled objects")
        if member.file_size - file.tell() != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{member.filename!r:.80} is cut off: it must be as long as its shape says")
    return shape, dtype
