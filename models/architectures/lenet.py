"""Small networks for MNIST: LeNet-300-100, LeNet-5, and Wan et al.'s network with DropConnect."""

from __future__ import annotations

from ..graph import Graph
from .builder import Builder

__all__ = ["dropconnect800", "lenet5", "lenet300"]


def lenet300(seed: int | None = None) -> Graph:
    """LeNet-300-100: 784 inputs, two hidden layers, 266,610 parameters.

    The ReLU form that compression papers use (Han et al. 2015; Guo et al. 2016), its layers called as in
    theirs, ip1 to ip3; LeCun et al. 1998 had squashing units.
    """
    net = Builder("lenet300", (1, 28, 28), seed)
    x = net.relu(net.linear("ip1", net.input, 300))
    x = net.relu(net.linear("ip2", x, 100))
    return net.graph(net.softmax(net.linear("ip3", x, 10)))


def lenet5(seed: int | None = None) -> Graph:
    """LeNet-5 as Caffe ships it and compression papers use it: 28×28, 431,080 parameters.

    Two 5×5 convolutions of 20 and 50 channels without ReLU, max pools, 500 hidden units with ReLU (Han et
    al. 2015; Guo et al. 2016). LeCun et al. 1998 had 6 and 16 channels on 32×32, trainable subsampling, and
    60 thousand parameters.
    """
    net = Builder("lenet5", (1, 28, 28), seed)
    x = net.max_pool(net.conv("conv1", net.input, 20, 5), 2, stride=2)
    x = net.max_pool(net.conv("conv2", x, 50, 5), 2, stride=2)
    x = net.relu(net.linear("ip1", x, 500))
    return net.graph(net.softmax(net.linear("ip2", x, 10)))


def dropconnect800(seed: int | None = None) -> Graph:
    """Two hidden layers of 800 units for MNIST, with DropConnect on their weights.

    Wan et al. 2013, Regularization of Neural Networks using DropConnect, section 6.1, with ReLU. DropConnect
    is a Dropout on the weights: inference runs the plain layers with the mean weights, where the paper
    samples the sums of each unit from a normal distribution instead.
    """
    net = Builder("dropconnect800", (1, 28, 28), seed)

    def dropconnect(weights: str) -> str:
        return net.dropout(weights, 0.5, name=f"{weights}.dropconnect")

    x = net.relu(net.linear("fc1", net.input, 800, on_weights=dropconnect))
    x = net.relu(net.linear("fc2", x, 800, on_weights=dropconnect))
    return net.graph(net.softmax(net.linear("fc3", x, 10)))
