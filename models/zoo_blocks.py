"""Networks whose weights are zero in whole blocks, as group pruning leaves them."""

from __future__ import annotations

import dataclasses

import numpy as np

from .formats import FormatKind
from .network import Network
from .weights import WeightRecord

__all__ = ["with_zero_blocks"]


def with_zero_blocks(network: Network, seed: int) -> Network:
    """The same network with random blocks of its weights set to zero; binary weights, which have none, stay.

    A layer's blocks are runs of output channels by runs of input channels at one place of the kernel, or the
    same place in all output channels; from a quarter to nearly all of them go.
    """
    rng = np.random.default_rng([seed, 57])
    weights = {}
    for name, record in network.weights.items():
        if record.fmt.kind == FormatKind.BINARY or rng.random() < 0.25:
            weights[name] = record
            continue
        values = record.values.reshape(*record.values.shape, *[1] * (4 - record.values.ndim))
        K, C, FY, FX = values.shape
        rows = int(rng.choice([1, 2, 4, 8, 16, K]))
        depth = int(rng.choice([1, 4, 8, 16, C]))
        share = float(rng.choice([0.25, 0.5, 0.9]))
        gone = rng.random((-(-K // rows), -(-C // depth), FY, FX)) < share
        blocks = gone.repeat(rows, axis=0)[:K].repeat(depth, axis=1)[:, :C]
        weights[name] = WeightRecord.dense(
            layer=name,
            values=np.where(blocks, 0, values).reshape(record.values.shape),
            fmt=record.fmt,
            scales=record.scales,
            bias=record.bias,
        )
    return dataclasses.replace(network, weights=weights)
