"""Network in Network, for ImageNet and for CIFAR-10."""

from __future__ import annotations

from ..graph import Graph
from .builder import Builder

__all__ = ["nin", "nin_cifar10"]


def nin(seed: int | None = None) -> Graph:
    """Network in Network for ImageNet, on 224×224: 1.10 G MACs, 7,595,176 parameters.

    Lin et al. 2014, Network In Network; the paper's own tables are on CIFAR and MNIST, this is the model
    that its authors published for ImageNet in the Caffe model zoo, the one in surveys' tables.
    """
    net = Builder("nin", (3, 224, 224), seed)
    x = _mlpconv(net, net.input, "conv1", 96, 11, ("cccp1", 96), ("cccp2", 96), stride=4)
    x = net.max_pool(x, 3, stride=2, ceil=True)
    x = _mlpconv(net, x, "conv2", 256, 5, ("cccp3", 256), ("cccp4", 256), pad=2)
    x = net.max_pool(x, 3, stride=2, ceil=True)
    x = _mlpconv(net, x, "conv3", 384, 3, ("cccp5", 384), ("cccp6", 384), pad=1)
    x = net.dropout(net.max_pool(x, 3, stride=2, ceil=True), 0.5)
    x = _mlpconv(net, x, "conv4", 1024, 3, ("cccp7", 1024), ("cccp8", 1000), pad=1)
    x = net.global_average_pool(x)
    return net.graph(net.softmax(net.flatten(x)))


def nin_cifar10(seed: int | None = None) -> Graph:
    """Network in Network for CIFAR-10, on 32×32: 222.5 M MACs, 966,986 parameters.

    Lin et al. 2014, section 4.1, with the sizes of its authors' published configuration.
    """
    net = Builder("nin_cifar10", (3, 32, 32), seed)
    x = _mlpconv(net, net.input, "conv1", 192, 5, ("cccp1", 160), ("cccp2", 96), pad=2)
    x = net.dropout(net.max_pool(x, 3, stride=2, ceil=True), 0.5)
    x = _mlpconv(net, x, "conv2", 192, 5, ("cccp3", 192), ("cccp4", 192), pad=2)
    x = net.dropout(net.average_pool(x, 3, stride=2, ceil=True), 0.5)
    x = _mlpconv(net, x, "conv3", 192, 3, ("cccp5", 192), ("cccp6", 10), pad=1)
    x = net.global_average_pool(x)
    return net.graph(net.softmax(net.flatten(x)))


def _mlpconv(
    net: Builder,
    x: str,
    name: str,
    channels: int,
    kernel: int,
    *pointwise: tuple[str, int],
    stride: int = 1,
    pad: int = 0,
) -> str:
    """A convolution and the 1×1 layers on its channels ("cascaded cross channel pooling")."""
    x = net.relu(net.conv(name, x, channels, kernel, stride=stride, pad=pad))
    for inner, count in pointwise:
        x = net.relu(net.conv(inner, x, count, 1))
    return x
