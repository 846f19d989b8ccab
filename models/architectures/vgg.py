"""VGG-16."""

from __future__ import annotations

from ..graph import Graph
from .builder import Builder

__all__ = ["vgg16"]


def vgg16(seed: int | None = None) -> Graph:
    """VGG-16, configuration D, on 224×224: 15.47 G MACs, 138,357,544 parameters.

    Simonyan and Zisserman 2015, Very Deep Convolutional Networks for Large-Scale Image Recognition, table 1.
    """
    net = Builder("vgg16", (3, 224, 224), seed)
    x = net.input
    for block, (channels, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], 1):
        for index in range(1, count + 1):
            x = net.relu(net.conv(f"conv{block}_{index}", x, channels, 3, pad=1))
        x = net.max_pool(x, 2, stride=2)
    x = net.dropout(net.relu(net.linear("fc6", x, 4096)), 0.5)
    x = net.dropout(net.relu(net.linear("fc7", x, 4096)), 0.5)
    return net.graph(net.softmax(net.linear("fc8", x, 1000)))
