"""What the lowerings of TFLite operators share: a piece of a network, its tensors, and its rescaling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..formats import Format
from ..layers import Layer, Requantize
from ..numerics import Rounding
from ..tensor import Tensor
from ..weights import WeightRecord
from .tflite_arithmetic import activation_range
from .tflite_file import TfliteFile, TfliteOperator, TfliteTensor
from .tflite_geometry import Operands, nchw
from .tflite_graph import TfliteGraph

__all__ = ["INT8", "HostError", "Piece", "PieceMaker", "one_scale"]

_CHANNELS = 1 << 16
"""The most channels of a layer that rescales."""
INT8 = Format.parse("int8")
_INT32 = Format.parse("int32")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """The layers that an operator becomes; none where the operators after it do its work."""

    sources: tuple[int, ...]
    """Numbers of the file's tensors that the layers take."""
    layers: tuple[Layer, ...]
    tensors: tuple[Tensor, ...]
    """All that the layers take and make."""
    weights: tuple[WeightRecord, ...]


class HostError(Exception):
    """Why the core doesn't run an operator, which then runs on the host."""


def one_scale(tensor: TfliteTensor) -> tuple[np.float32, int]:
    """(scale, zero point) of an activation."""
    if tensor.scales is None or tensor.zero_points is None or tensor.scales.size != 1:
        raise HostError(f"tensor {tensor.name!r:.60} has no scale")
    return tensor.scales[0], int(tensor.zero_points[0])


class PieceMaker:
    """Makes the parts of pieces, called as the graph of the file calls them."""

    def __init__(self, file: TfliteFile, graph: TfliteGraph) -> None:
        self.file = file
        self.graph = graph

    def tensor(self, number: int) -> Tensor:
        """The network's tensor that holds a tensor of the file."""
        tensor = self.file.tensors[number]
        scale, zero_point = one_scale(tensor)
        return Tensor(
            name=self.graph.value_of[number],
            shape=nchw(tensor.shape)[1:],
            fmt=INT8,
            scale=float(scale),
            zero_point=zero_point,
        )

    def piece(
        self,
        sources: tuple[int, ...],
        result: int,
        layers: tuple[Layer, ...],
        between: tuple[Tensor, ...] = (),
        weights: tuple[WeightRecord, ...] = (),
    ) -> Piece:
        """The piece with these layers; `between` are tensors that only they see."""
        ends = tuple(self.tensor(number) for number in dict.fromkeys((*sources, result)))
        return Piece(sources=sources, layers=layers, tensors=(*ends, *between), weights=weights)

    def result_range(self, given: Operands) -> tuple[int, int]:
        """(least, greatest) int8 that the fused activation lets through."""
        return activation_range(given.activation, *one_scale(given.result))

    def check_hands_on(self, given: Operands) -> None:
        """Nothing; HostError where result and sources don't share scale and zero point."""
        for number in given.sources:
            if one_scale(self.file.tensors[number]) != one_scale(given.result):
                raise HostError("its input and result have different scales")

    def sums(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor of a layer's accumulators."""
        return Tensor(name=f"{name}.acc", shape=shape, fmt=_INT32)

    def requantize(
        self,
        operator: TfliteOperator,
        sums: Tensor,
        multiplier: Any,
        shift: Any,
        low: int,
        high: int,
        *,
        bias: int = 0,
        offset: int | None = None,
        rounding: Rounding = Rounding.TFLITE_DOUBLE,
    ) -> Requantize:
        """What makes an operator's result of its sums; one number stands for all channels."""
        channels = sums.shape[0]
        if channels > _CHANNELS:
            raise HostError(f"it has {channels} channels, and the core rescales {_CHANNELS} at most")
        return Requantize(
            name=f"{self.graph.name_of[operator.index]}.requantize",
            input=sums.name,
            output=self.graph.value_of[operator.output],
            multiplier=np.broadcast_to(np.asarray(multiplier, np.int32), channels),
            shift=np.broadcast_to(np.asarray(shift, np.int32), channels),
            rounding=rounding,
            low=low,
            high=high,
            bias=np.full(channels, bias, np.int32) if bias else None,
            offset=offset,
        )
