"""DenseNet-121."""

from __future__ import annotations

from ..graph import Graph
from .builder import Builder

__all__ = ["densenet121"]

_GROWTH = 32


def densenet121(seed: int | None = None) -> Graph:
    """DenseNet-121 on 224×224: 2.83 G MACs, 7,978,856 parameters.

    Huang et al. 2017, Densely Connected Convolutional Networks, table 1: DenseNet-BC with growth rate 32,
    bottlenecks of 128 channels, transitions that halve the channels.
    """
    net = Builder("densenet121", (3, 224, 224), seed)
    x = net.conv("conv0", net.input, 64, 7, stride=2, pad=3, bias=False)
    x = net.max_pool(net.relu(net.norm("norm0", x)), 3, stride=2, pad=1)
    for block, count in enumerate((6, 12, 24, 16), 1):
        for index in range(1, count + 1):
            x = _dense_layer(net, x, f"denseblock{block}.denselayer{index}")
        if block < 4:
            name = f"transition{block}"
            half = net.shape(x)[1] // 2
            x = net.conv(f"{name}.conv", net.relu(net.norm(f"{name}.norm", x)), half, 1, bias=False)
            x = net.average_pool(x, 2, stride=2)
    x = net.global_average_pool(net.relu(net.norm("norm5", x)))
    return net.graph(net.softmax(net.linear("classifier", x, 1000)))


def _dense_layer(net: Builder, x: str, name: str) -> str:
    y = net.conv(f"{name}.conv1", net.relu(net.norm(f"{name}.norm1", x)), 4 * _GROWTH, 1, bias=False)
    y = net.conv(f"{name}.conv2", net.relu(net.norm(f"{name}.norm2", y)), _GROWTH, 3, pad=1, bias=False)
    return net.concat([x, y], name=f"{name}.concat")
