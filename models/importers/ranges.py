"""What real images do to a model: each layer's range in bits, each layer's weights as a histogram."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Node
from ..reference import trace_reference
from .model import CoreStep, HostStep, Model
from .run import core_input, trace_model
from .weight_histogram import WeightHistogram, weight_histogram

__all__ = ["LayerRange", "Ranges", "find_ranges", "images_at_once", "range_bits"]

_BATCH_VALUES = 1 << 25
"""Values of a batch's tensors that are held at once."""
_WEIGHTED = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "ConvInteger": 1, "MatMulInteger": 1}
_WEIGHTED |= {"QLinearConv": 3, "QLinearMatMul": 3}
"""Operators with weights, and which operand these are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRange:
    """What was seen of one layer."""

    name: str
    kind: str
    fmt: str
    """Format of the result."""
    least: float | int
    greatest: float | int
    """Of all values that the layer made; whole for integers."""
    bits: int
    """See `range_bits`."""
    weights: WeightHistogram | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranges:
    """What was seen of all layers."""

    images: int
    layers: tuple[LayerRange, ...]
    outputs: NDArray[Any]
    """The graph's first output for all images, (B, …)."""


def range_bits(least: float, greatest: float, *, whole: bool) -> int:
    """The bits that values from `least` to `greatest` take.

    Whole numbers: of two's complement where some are negative, else unsigned; at least 1. Others: the bits
    before the binary point, with a sign where some are negative; 0 or less where all are below 1/2.
    """
    signed = least < 0
    if whole:
        reach = max(int(greatest), -int(least) - 1 if signed else 0)
        return max(1, reach.bit_length() + signed)
    most = max(abs(least), abs(greatest))
    return (math.frexp(most)[1] if most else 0) + signed


def images_at_once(model: Model) -> int:
    """How many images may run together where all values of the graph are kept."""
    constants = model.graph.constants
    size = sum(math.prod(v.shape) for name, v in model.graph.values.items() if name not in constants)
    return max(1, _BATCH_VALUES // max(1, size))


def find_ranges(model: Model, x: NDArray[Any]) -> Ranges:
    """The ranges and weights of a model's layers over images.

    A core step's layers are those of its network, on stored integers; the host's are the graph's operators.

    Args:
        model: with one input.
        x: (B, *shape of the input without its batch axis), as the input holds them.

    Raises:
        ValueError: the model can't run, or makes what isn't finite; names the layer.
    """
    source = model.graph.inputs[0]
    seen: dict[tuple[int, str], tuple[Any, Any]] = {}
    outputs = []
    step = images_at_once(model)
    for start in range(0, len(x), step):
        values = trace_model(model, {source: x[start : start + step]}, host=True)
        outputs.append(values[model.graph.outputs[0]])
        for key, array in _made(model, {source: x[start : start + step]}, values):
            low, high = array.min(), array.max()
            if key in seen:
                low, high = np.minimum(low, seen[key][0]), np.maximum(high, seen[key][1])
            seen[key] = low, high
    rows = tuple(_layers(model, seen))
    return Ranges(images=len(x), layers=rows, outputs=np.concatenate(outputs))


def _made(
    model: Model, inputs: dict[str, NDArray[Any]], values: dict[str, NDArray[Any]]
) -> Iterator[tuple[tuple[int, str], NDArray[Any]]]:
    """What each layer made, by (number of its step, name)."""
    for number, step in enumerate(model.steps):
        if isinstance(step, HostStep):
            for node in step.nodes:
                array = values.get(_result(node))  # none of what constants alone give
                if array is not None and array.size and array.dtype.kind in "iuf":
                    yield (number, node.name), array
        else:
            tensors = trace_reference(step.network, core_input(model, step, inputs))
            for layer in step.network.layers:
                yield (number, layer.name), tensors[layer.output]


def _result(node: Node) -> str:
    return next(name for name in node.outputs if name)


def _layers(model: Model, seen: dict[tuple[int, str], tuple[Any, Any]]) -> Iterator[LayerRange]:
    for number, step in enumerate(model.steps):
        if isinstance(step, CoreStep):
            for layer in step.network.layers:
                record = step.network.weights.get(layer.name)
                weights = None if record is None else record.values
                fmt = step.network.tensors[layer.output].fmt.name
                yield _row(layer.name, layer.kind, fmt, seen[number, layer.name], weights)
            continue
        for node in step.nodes:
            found = seen.get((number, node.name))
            if found is not None:
                fmt = model.graph.values[_result(node)].dtype.name
                yield _row(node.name, node.op, fmt, found, _weights(model, node))


def _row(name: str, kind: str, fmt: str, found: tuple[Any, Any], weights: NDArray[Any] | None) -> LayerRange:
    whole = np.asarray(found[0]).dtype.kind in "iu"
    least, greatest = (int(v) if whole else float(v) for v in found)
    if not (math.isfinite(least) and math.isfinite(greatest)):
        raise ValueError(f"layer {name:.80} makes values that aren't finite")
    try:
        histogram = None if weights is None or not weights.size else weight_histogram(weights)
    except ValueError as fault:
        raise ValueError(f"layer {name:.80}: {fault}") from None
    bits = range_bits(least, greatest, whole=whole)
    return LayerRange(
        name=name, kind=kind, fmt=fmt, least=least, greatest=greatest, bits=bits, weights=histogram
    )


def _weights(model: Model, node: Node) -> NDArray[Any] | None:
    """A host operator's weights, as the file has them; None where they are no constant."""
    place = _WEIGHTED.get(node.op)
    if place is None or len(node.inputs) <= place:
        return None
    name = node.inputs[place]
    while name not in model.graph.constants:
        maker = model.graph.producer(name)
        if maker is None or maker.op not in ("DequantizeLinear", "QuantizeLinear", "Quant", "BipolarQuant"):
            return None
        name = maker.inputs[0]
    return model.graph.constants[name]
