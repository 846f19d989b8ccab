"""Kernels whose weights lie on a lattice as smaller, dilated kernels: the same sums by fewer taps."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from .formats import FormatKind
from .layers import Conv
from .network import Network
from .weights import WeightRecord

__all__ = ["shrink_lattices"]


def shrink_lattices(network: Network) -> Network:
    """The same network, bit for bit, with each convolution's kernel cut down to the lattice of its taps.

    Taps that are zero in all channels and filters go: what is left of an axis is a start, a step and a count,
    so a smaller kernel with the dilation times the step, and padding less what was cut off. Padding can't
    fall below zero, so an unpadded kernel keeps its outer taps. Codebooks and encoded payloads stay as they
    are.

    Source: Anwar et al. 2017, intra-kernel strided sparsity.
    """
    layers, weights = list(network.layers), dict(network.weights)
    for index, layer in enumerate(layers):
        if not isinstance(layer, Conv):
            continue
        record = weights[layer.name]
        if record.encoding != "dense" or record.fmt.kind in (FormatKind.BINARY, FormatKind.CODEBOOK):
            continue
        taps = (record.values != 0).any(axis=(0, 1))
        if not taps.any():
            continue
        top, left, bottom, right = layer.padding
        y = _axis(taps.any(axis=1), layer.dilation[0], top, bottom)
        x = _axis(taps.any(axis=0), layer.dilation[1], left, right)
        values = record.values[:, :, y, x]
        if values.shape == record.values.shape:
            continue
        height, width = taps.shape
        # A single tap has no step; its dilation is of no account.
        dilation = [
            old * (cut.step if count > 1 else 1)
            for old, cut, count in zip(layer.dilation, (y, x), values.shape[2:], strict=True)
        ]
        layers[index] = dataclasses.replace(
            layer,
            dilation=(dilation[0], dilation[1]),
            padding=(
                top - y.start * layer.dilation[0],
                left - x.start * layer.dilation[1],
                bottom - (height - y.stop) * layer.dilation[0],
                right - (width - x.stop) * layer.dilation[1],
            ),
        )
        weights[layer.name] = WeightRecord.dense(
            layer=layer.name, values=values, fmt=record.fmt, scales=record.scales, bias=record.bias
        )
    return dataclasses.replace(network, layers=tuple(layers), weights=weights)


def _axis(kept: NDArray[np.bool_], dilation: int, before: int, after: int) -> slice:
    """The fewest evenly spaced taps that hold all kept ones; `stop` is one past the last of them.

    Args:
        kept: of each tap along the axis, whether some weight there is not zero.
        dilation: of the kernel.
        before: padding; what is cut off at the start takes `dilation` of it a tap.
        after: padding at the end.
    """
    places = np.flatnonzero(kept)
    first, last, count = int(places[0]), int(places[-1]), len(kept)
    spacing = math.gcd(*(int(gap) for gap in np.diff(places))) if places.size > 1 else count
    best = slice(0, count, 1)
    for step in range(1, spacing + 1):
        if places.size > 1 and spacing % step:
            continue
        # Outward by whole steps until the padding has room for what is cut off.
        starts = [at for at in range(first, -1, -step) if at * dilation <= before]
        ends = [at for at in range(last, count, step) if (count - 1 - at) * dilation <= after]
        if starts and ends:
            cut = slice(starts[0], ends[0] + 1, step)
            if len(range(*cut.indices(count))) < len(range(*best.indices(count))):
                best = cut
    return best
