"""One layer as seven loops and groups: what a mapping divides among memories and processing elements."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from ..models.topology import TopologyLayer

__all__ = ["DIMS", "IRRELEVANT", "OPERANDS", "Problem", "layer_problem"]

DIMS = ("B", "G", "K", "C", "OY", "OX", "FY", "FX")
"""The loops: batch, groups, output and input channels of a group, output rows and columns, filter rows and
columns."""

OPERANDS = ("W", "I", "O")
"""Weights, inputs, outputs."""

IRRELEVANT = {"W": ("B", "OY", "OX"), "I": ("K",), "O": ("C", "FY", "FX")}
"""By operand: the loops that it does not depend upon, so over which a value that is held is used again."""

_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One layer: out[b,g,k,oy,ox] = Σ W[g,k,c,fy,fx] · I[b,g,c,iy,ix], iy = oy·stride + fy·dilation.

    A linear layer has OY = OX = FY = FX = 1; a product of matrices has its rows in OX; a depthwise
    convolution has a group a channel, K = C = 1. Padding is part of the input: its values are held and
    moved as all others.

    Raises:
        ValueError: a size below 1, or a layer whose counts pass 64 bits; names the layer and the loop.
    """

    name: str
    B: int = 1
    G: int = 1
    K: int = 1
    C: int = 1
    OY: int = 1
    OX: int = 1
    FY: int = 1
    FX: int = 1
    stride_y: int = 1
    stride_x: int = 1
    dilation_y: int = 1
    dilation_x: int = 1
    weight_bits: int = 8
    input_bits: int = 8
    output_bits: int = 8
    partial_bits: int = 32
    """Of a sum that is not complete yet."""
    weight_ratio: float = 1.0
    """Bits of the encoded payload over bits of the dense weights, where a level holds W compressed."""
    input_ratio: float = 1.0
    """The same of inputs."""
    weight_density: float = 1.0
    """Weights that are not zero, of all; a PE that skips zero weights takes that share of the cycles."""
    input_density: float = 1.0
    """Inputs that are not zero, of all: measured, or given."""
    imbalance: float = 1.0
    """Products of the busiest PE over the mean, where zeros are skipped; at least 1."""

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        for key in (*DIMS, "stride_y", "stride_x", "dilation_y", "dilation_x"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{where}: {key} must be a whole number of at least 1, not {value!r}")
        for key in ("weight_bits", "input_bits", "output_bits", "partial_bits"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 64:
                raise ValueError(f"{where}: {key} must be from 1 to 64, not {value!r}")
        for key in ("weight_density", "input_density"):
            if not 0 < getattr(self, key) <= 1:
                raise ValueError(f"{where}: {key} must be above 0 and at most 1, not {getattr(self, key)!r}")
        for key in ("weight_ratio", "input_ratio"):
            if not 0 < getattr(self, key) <= 64:
                raise ValueError(f"{where}: {key} must be above 0 and at most 64, not {getattr(self, key)!r}")
        if not 1 <= self.imbalance < math.inf:
            raise ValueError(f"{where}: imbalance must be at least 1, not {self.imbalance!r}")
        reach = max(
            (self.OY - 1) * self.stride_y + (self.FY - 1) * self.dilation_y,
            (self.OX - 1) * self.stride_x + (self.FX - 1) * self.dilation_x,
        )
        # Every count is at most a small multiple of the products; the bits of an operand at most 64.
        if self.macs > _LIMIT >> 12 or reach > 1 << 31:
            raise ValueError(
                f"{where}: its {self.macs} products pass what 64 bits can count with room for bits and "
                f"fills, {_LIMIT >> 12}: split the layer"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The extents of the loops, in the order of `DIMS`."""
        return tuple(int(getattr(self, name)) for name in DIMS)

    @property
    def macs(self) -> int:
        """Products of a weight and an input."""
        return math.prod(self.sizes)

    def bits(self, operand: str) -> int:
        """Bits of a value of an operand, W, I or O, when it is dense and complete."""
        return {"W": self.weight_bits, "I": self.input_bits, "O": self.output_bits}[operand]

    def key(self) -> str:
        """What two layers share that are mapped alike: everything but the name."""
        values = dataclasses.asdict(self)
        del values["name"]
        return ",".join(f"{name}={value!r}" for name, value in values.items())


def layer_problem(layer: TopologyLayer, **given: Any) -> Problem:
    """A layer by its sizes as a problem; a product of matrices has its rows in OX and sums over C.

    Args:
        layer: of a topology; its picture counts the padding.
        given: other keys of `Problem`: bits, density and payload of its operands.

    Raises:
        ValueError: see `Problem`.
    """
    height, width = layer.outputs()
    if layer.is_product:
        return Problem(name=layer.name, K=layer.filters, C=layer.filter_w, OX=height, **given)
    return Problem(
        name=layer.name,
        G=layer.groups,
        K=layer.filters,
        C=layer.channels,
        OY=height,
        OX=width,
        FY=layer.filter_h,
        FX=layer.filter_w,
        stride_y=layer.stride_h,
        stride_x=layer.stride_w,
        dilation_y=layer.dilation_h,
        dilation_x=layer.dilation_w,
        **given,
    )
