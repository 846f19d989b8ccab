"""GoogLeNet."""

from __future__ import annotations

from ..graph import Graph
from .builder import Builder

__all__ = ["googlenet"]

_MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Channels: 1×1, 3×3 reduced, 3×3, 5×5 reduced, 5×5, projection of the pool; the paper's table 1."""


def googlenet(seed: int | None = None) -> Graph:
    """GoogLeNet (Inception v1) on 224×224: 1.58 G MACs, 6,998,552 parameters.

    Szegedy et al. 2015, Going Deeper with Convolutions, table 1, without batch norms, as published; LRN as
    in Krizhevsky et al. 2012 with k = 1 (Caffe's BVLC GoogLeNet). The two auxiliary classifiers serve
    training only and are left out, as inference leaves them; they would add 6,379,728 parameters. (Some
    libraries' GoogLeNet has batch norms and 3×3 in place of 5×5: 6,624,904.)
    """
    net = Builder("googlenet", (3, 224, 224), seed)
    x = net.relu(net.conv("conv1", net.input, 64, 7, stride=2, pad=3))
    x = _lrn(net, net.max_pool(x, 3, stride=2, ceil=True))
    x = net.relu(net.conv("conv2.reduce", x, 64, 1))
    x = _lrn(net, net.relu(net.conv("conv2", x, 192, 3, pad=1)))
    x = net.max_pool(x, 3, stride=2, ceil=True)
    for name, channels in _MODULES.items():
        x = _inception(net, x, f"inception{name}", *channels)
        if name in ("3b", "4e"):
            x = net.max_pool(x, 3, stride=2, ceil=True)
    x = net.dropout(net.global_average_pool(x), 0.4)
    return net.graph(net.softmax(net.linear("fc", x, 1000)))


def _lrn(net: Builder, x: str) -> str:
    return net.lrn(x, size=5, alpha=1e-4, beta=0.75, bias=1.0)


def _inception(
    net: Builder, x: str, name: str, one: int, to_three: int, three: int, to_five: int, five: int, pool: int
) -> str:
    first = net.relu(net.conv(f"{name}.1x1", x, one, 1))
    second = net.relu(net.conv(f"{name}.3x3_reduce", x, to_three, 1))
    second = net.relu(net.conv(f"{name}.3x3", second, three, 3, pad=1))
    third = net.relu(net.conv(f"{name}.5x5_reduce", x, to_five, 1))
    third = net.relu(net.conv(f"{name}.5x5", third, five, 5, pad=2))
    fourth = net.max_pool(x, 3, stride=1, pad=1)
    fourth = net.relu(net.conv(f"{name}.pool_proj", fourth, pool, 1))
    return net.concat([first, second, third, fourth], name=name)
