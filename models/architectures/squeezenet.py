"""SqueezeNet 1.0."""

from __future__ import annotations

from ..graph import Graph
from .builder import Builder

__all__ = ["squeezenet"]


def squeezenet(seed: int | None = None) -> Graph:
    """SqueezeNet 1.0 on 227×227: 861.3 M MACs, 1,248,424 parameters.

    Iandola et al. 2016, SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, table 1, as its
    authors' code has it. The table says 224×224, but its 111×111 results of conv1 take the code's 227. The
    table's conv10 makes 13×13 results; the code's, with which the weights were trained, pads to 15×15, and
    only so do the operations come to the 1.72 GFLOP that its authors give (832.7 M MACs unpadded).
    """
    net = Builder("squeezenet", (3, 227, 227), seed)
    x = net.relu(net.conv("conv1", net.input, 96, 7, stride=2))
    x = net.max_pool(x, 3, stride=2, ceil=True)
    for number, (squeezed, expanded) in enumerate(
        [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)], 2
    ):
        x = _fire(net, x, f"fire{number}", squeezed, expanded)
        if number in (4, 8):
            x = net.max_pool(x, 3, stride=2, ceil=True)
    x = net.relu(net.conv("conv10", net.dropout(x, 0.5), 1000, 1, pad=1))
    return net.graph(net.softmax(net.flatten(net.global_average_pool(x))))


def _fire(net: Builder, x: str, name: str, squeezed: int, expanded: int) -> str:
    x = net.relu(net.conv(f"{name}.squeeze1x1", x, squeezed, 1))
    left = net.relu(net.conv(f"{name}.expand1x1", x, expanded, 1))
    right = net.relu(net.conv(f"{name}.expand3x3", x, expanded, 3, pad=1))
    return net.concat([left, right], name=name)
