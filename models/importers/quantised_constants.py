"""Quantised constants of a graph as integers: what Quant, BipolarQuant and DequantizeLinear make of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node, run_node
from .quantised_values import Fixed, NotLowered

__all__ = ["along_axis", "fixed_constants", "whole"]


def whole(values: NDArray[Any], what: str) -> NDArray[np.int64]:
    """Whole numbers as int64; NotLowered names what they are where they aren't whole, or beyond 32 bits."""
    array = np.asarray(values, np.float64)
    integers = np.rint(array)
    if not np.all(np.isfinite(array) & (integers == array) & (np.abs(integers) < 1 << 31)):
        raise NotLowered(f"{what} must be whole numbers within 32 bits")
    return integers.astype(np.int64)


def along_axis(values: NDArray[Any], rank: int, axis: int) -> NDArray[Any]:
    """Values by one axis, shape (K,) or one value, so that they broadcast over `rank` axes."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim != 1:
        raise NotLowered("its scales must be one, or one for each channel")
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def fixed_constants(graph: Graph) -> dict[str, Fixed]:
    """Every quantised constant of `graph` by the name of its value, moved through Transpose and Reshape."""
    fixed: dict[str, Fixed] = {}
    for node in graph.nodes:
        try:
            found = _fixed(node, graph.constants, fixed)
        except NotLowered:
            continue
        if found is not None:
            fixed[node.outputs[0]] = found
    return fixed


def _fixed(node: Node, constants: Mapping[str, NDArray[Any]], fixed: Mapping[str, Fixed]) -> Fixed | None:
    source = fixed.get(node.inputs[0]) if node.inputs else None
    if source is not None:
        return _moved(node, constants, source)
    if not node.inputs or any(name and name not in constants for name in node.inputs):
        return None
    values = [constants[name] if name else None for name in node.inputs]
    if node.op in ("Quant", "IntQuant", "BipolarQuant"):
        return _quantised(node, [np.asarray(value) for value in values])
    if node.op == "DequantizeLinear" and values[0] is not None and values[1] is not None:
        stored, scale = values[0], values[1]
        axis = int(node.attributes.get("axis", 1))
        integers = stored.astype(np.int64)
        if len(values) > 2 and values[2] is not None:
            integers = integers - along_axis(values[2].astype(np.int64), stored.ndim, axis)
        unit = along_axis(scale.astype(np.float64), stored.ndim, axis)
        return Fixed(integers=integers, unit=unit, bits=32 if stored.dtype == np.int32 else 8)
    return None


def _quantised(node: Node, values: list[NDArray[Any]]) -> Fixed:
    """What QONNX's quantisers make of float constants, as integers."""
    real, scale = run_node(node, values)[0], values[1].astype(np.float64)
    bits = 1 if node.op == "BipolarQuant" else int(whole(values[3], "a bit width").item())
    return Fixed(integers=np.rint(real / scale).astype(np.int64), unit=_aligned(scale, real.ndim), bits=bits)


def _aligned(scale: NDArray[Any], rank: int) -> NDArray[np.float64]:
    """A scale that broadcasts over `rank` axes, with so many axes of its own; one value has none."""
    if scale.size == 1:
        return scale.reshape(()).astype(np.float64)
    return scale.reshape([1] * (rank - scale.ndim) + list(scale.shape)).astype(np.float64)


def _moved(node: Node, constants: Mapping[str, NDArray[Any]], source: Fixed) -> Fixed | None:
    if node.op in ("Identity", "Dropout", "Cast"):
        return source
    if node.op == "Transpose":
        perm = tuple(node.attributes.get("perm", range(source.integers.ndim)[::-1]))
        unit = source.unit.transpose(perm) if source.unit.ndim else source.unit
        return Fixed(integers=source.integers.transpose(perm), unit=unit, bits=source.bits)
    if node.op == "Reshape" and source.unit.ndim == 0 and node.inputs[1] in constants:
        shape = [int(n) for n in constants[node.inputs[1]]]
        if 0 not in shape:
            return Fixed(integers=source.integers.reshape(shape), unit=source.unit, bits=source.bits)
    return None
