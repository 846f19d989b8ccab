"""AlexNet."""

from __future__ import annotations

from ..graph import Graph
from .builder import Builder

__all__ = ["alexnet"]


def alexnet(seed: int | None = None) -> Graph:
    """AlexNet with its two groups, on 227×227: 724.4 M MACs, 60,965,224 parameters.

    Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Neural Networks. The paper says
    224×224, but its first layer's 55×55 results take 227. Local response normalisation comes before the
    pool, with the paper's k = 2, n = 5, α = 10⁻⁴, β = 3/4; LRN's alpha is divided by its size, so 5·10⁻⁴.
    (Caffe's copy has k = 1 and α / n.)
    """
    net = Builder("alexnet", (3, 227, 227), seed)

    def normed_pool(x: str) -> str:
        x = net.lrn(net.relu(x), size=5, alpha=5e-4, beta=0.75, bias=2.0)
        return net.max_pool(x, 3, stride=2)

    x = normed_pool(net.conv("conv1", net.input, 96, 11, stride=4))
    x = normed_pool(net.conv("conv2", x, 256, 5, pad=2, groups=2))
    x = net.relu(net.conv("conv3", x, 384, 3, pad=1))
    x = net.relu(net.conv("conv4", x, 384, 3, pad=1, groups=2))
    x = net.relu(net.conv("conv5", x, 256, 3, pad=1, groups=2))
    x = net.max_pool(x, 3, stride=2)
    x = net.dropout(net.relu(net.linear("fc6", x, 4096)), 0.5)
    x = net.dropout(net.relu(net.linear("fc7", x, 4096)), 0.5)
    return net.graph(net.softmax(net.linear("fc8", x, 1000)))
