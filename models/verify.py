"""What the tensors around each kind of layer must be: formats, scales and shapes."""

from __future__ import annotations

import math

from .bounds import accumulator_range
from .formats import FormatKind
from .layers import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    PlaneSum,
    Requantize,
    Shuffle,
    Thresholds,
)
from .tensor import Tensor
from .weights import WeightRecord

__all__ = ["check_layer"]


def check_layer(layer: Layer, sources: list[Tensor], result: Tensor, record: WeightRecord | None) -> None:
    """Nothing, where a layer fits the tensors that it takes and makes.

    Args:
        layer: of a network whose graph is sound.
        sources: its inputs, in order.
        result: its output.
        record: its weights; None where it has none.

    Raises:
        ValueError: a format, scale, zero point or shape that the layer can't have; names the layer.
    """
    if isinstance(layer, Conv | Linear | AvgPool | Add):
        shape = _check_sums(layer, sources, result, record)
    elif isinstance(layer, PlaneSum):
        shape = layer.output_shape(sources[0].shape)
        _check_plane_sum(layer, sources[0], result)
    elif isinstance(layer, Requantize | Thresholds):
        shape = sources[0].shape
        _check_post(layer, sources[0], result)
    else:
        shape = _check_moves(layer, sources, result)
    if result.shape != shape:
        raise ValueError(
            f"layer {layer.name}: its output {result.name} must have shape {shape}, not {result.shape}"
        )


def _check_sums(
    layer: Conv | Linear | AvgPool | Add, sources: list[Tensor], result: Tensor, record: WeightRecord | None
) -> tuple[int, ...]:
    """The output's shape of a layer that makes accumulators."""
    where = f"layer {layer.name}"
    for source in sources:
        if source.fmt.bits > 16:
            raise ValueError(
                f"{where}: its input must have at most 16 bits, not {source.fmt.name}; put a "
                "Requantize before it"
            )
    source = sources[0]
    if isinstance(layer, Conv | Linear):
        assert record is not None  # the graph's check
        if record.fmt.kind == FormatKind.CODEBOOK or record.fmt.bits > 16:
            raise ValueError(
                f"{where}: weights must be binary, ternary, int or uint of at most 16 bits, not "
                f"{record.fmt.name}"
            )
        pad_value = layer.pad_value if isinstance(layer, Conv) else None
        if pad_value is not None and not source.fmt.min <= pad_value <= source.fmt.max:
            raise ValueError(
                f"{where}: pad_value must be from {source.fmt.min} to {source.fmt.max} for "
                f"{source.fmt.name}, not {pad_value}"
            )
        shape = layer.output_shape(source.shape, record.values.shape)
    elif isinstance(layer, AvgPool):
        shape = layer.output_shape(source.shape)
    else:
        shape = source.shape
        if sources[1].shape != shape:
            raise ValueError(f"{where}: its inputs must have one shape, not {shape} and {sources[1].shape}")
        least, most = accumulator_range(layer, sources, None)
        if least[0] < -(1 << 31) or most[0] >= 1 << 31:
            raise ValueError(
                f"{where}: its sums must fit int32, not reach from {least[0]} to {most[0]}: lower left_shift "
                "or the multipliers"
            )
    if result.fmt.name != "int32" or result.zero_point != 0:
        raise ValueError(
            f"{where}: its output {result.name} holds accumulators: int32 with zero point "
            f"0, not {result.fmt.name} with {result.zero_point}"
        )
    return shape


def _check_plane_sum(layer: PlaneSum, source: Tensor, result: Tensor) -> None:
    for what, tensor in (("input", source), ("output", result)):
        if tensor.fmt.name != "int32" or tensor.zero_point != 0:
            raise ValueError(
                f"layer {layer.name}: its {what} {tensor.name} holds accumulators: int32 with zero point 0, "
                f"not {tensor.fmt.name} with {tensor.zero_point}"
            )


def _check_post(layer: Requantize | Thresholds, source: Tensor, result: Tensor) -> None:
    where = f"layer {layer.name}"
    fmt = result.fmt
    if source.fmt.name != "int32":
        raise ValueError(f"{where}: its input must be int32 accumulators, not {source.fmt.name}")
    if fmt.bits > 16:
        raise ValueError(f"{where}: its output must have at most 16 bits, not {fmt.name}")
    if isinstance(layer, Requantize):
        what, count = "multiplier and shift", layer.multiplier.size
        if fmt.kind == FormatKind.BINARY:
            raise ValueError(f"{where}: its output can't be binary, which has no 0: use Thresholds")
    else:
        what, count = "thresholds", layer.values.shape[0]
        if fmt.kind == FormatKind.BINARY and (layer.values.shape[1], layer.low, layer.step) != (1, -1, 2):
            raise ValueError(
                f"{where}: a binary output takes 1 threshold a channel, low -1 and step 2, not "
                f"{layer.values.shape[1]}, {layer.low} and {layer.step}"
            )
    if count != source.shape[0]:
        raise ValueError(f"{where}: {what} must be given for the {source.shape[0]} channels, not for {count}")
    if not fmt.min <= layer.low <= layer.high <= fmt.max:
        raise ValueError(
            f"{where}: low and high must be from {fmt.min} to {fmt.max} for {fmt.name}, not {layer.low} "
            f"and {layer.high}"
        )


def _check_moves(layer: Layer, sources: list[Tensor], result: Tensor) -> tuple[int, ...]:
    """The output's shape of a layer that hands stored values on."""
    where = f"layer {layer.name}"
    for source in sources:
        if (source.fmt, source.scale, source.zero_point) != (result.fmt, result.scale, result.zero_point):
            raise ValueError(f"{where}: input and output must share format, scale and zero point")
    shape = sources[0].shape
    if isinstance(layer, Concat):
        return layer.output_shape([source.shape for source in sources])
    if isinstance(layer, MaxPool | Shuffle):
        return layer.output_shape(shape)
    if isinstance(layer, Flatten):
        return (math.prod(shape),)
    if result.fmt.kind == FormatKind.BINARY:
        raise ValueError(f"{where}: a binary tensor has no 0 that a ReLU could give")
    return shape
