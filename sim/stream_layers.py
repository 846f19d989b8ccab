"""A network's layers as a streaming pipeline: which unit each gets, padded to what its folding divides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..models.topology import TopologyLayer
from .streaming import MatrixVectorUnit

__all__ = ["padded_unit", "stream_units"]


def padded_unit(layer: TopologyLayer, *, pe: int, simd: int) -> MatrixVectorUnit:
    """The layer's unit, its matrix padded with zeros to whole PEs and lanes.

    Raises:
        ValueError: as `MatrixVectorUnit.of_layer`.
    """
    plain = MatrixVectorUnit.of_layer(layer, pe=1, simd=1)
    if pe < 1 or simd < 1:
        raise ValueError(
            f"layer {layer.name!r:.80}: a folding is PEs and lanes of 1 or more, not {pe}×{simd}"
        )
    return replace(plain, mh=-(-plain.mh // pe) * pe, mw=-(-plain.mw // simd) * simd, pe=pe, simd=simd)


def stream_units(
    layers: Sequence[TopologyLayer],
    foldings: Mapping[str, tuple[int, int]],
    default: tuple[int, int],
) -> tuple[MatrixVectorUnit, ...]:
    """A unit a layer; where the next picture is smaller than what one makes, a pool lies between.

    Args:
        layers: in the order in which they follow from one another.
        foldings: (PEs, lanes) by layer; those of other names are passed over.
        default: those of all others.

    Raises:
        ValueError: a layer that no unit takes, or a picture that isn't what the layer before makes; names it.
    """
    units: list[MatrixVectorUnit] = []
    for before, layer in zip((None, *layers), layers, strict=False):
        pe, simd = foldings.get(layer.name, default)
        unit = padded_unit(layer, pe=pe, simd=simd)
        if before is not None:
            units[-1] = replace(units[-1], pool=_pool(before, layer, units[-1].side, unit.picture))
        units.append(unit)
    return tuple(units)


def _pool(before: TopologyLayer, layer: TopologyLayer, side: int, picture: int) -> int:
    """The side of the pool between two layers, 1 where there is none."""
    for pool in range(1, side + 1):
        if side % pool:
            continue
        values = (side // pool) ** 2 * before.filters
        if (side // pool == picture) if picture > 1 else values == layer.window:
            return pool
    raise ValueError(
        f"layer {layer.name!r:.80}: its picture, {picture} a side with its padding, is no pooled one of the "
        f"{side} a side that {before.name} makes: a pipeline takes unpadded layers, one after the other"
    )
