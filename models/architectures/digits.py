"""The package's own small networks for scikit-learn's 8×8 digits, in float."""

from __future__ import annotations

from ..graph import Graph
from .builder import Builder

__all__ = ["digits", "digits_mlp"]


def digits(seed: int | None = None) -> Graph:
    """Three 3×3 convolutions of 8, 16 and 32 channels with norms, and a linear layer: 7,418 parameters.

    The shapes of the network that the demo trains (`models.qat.DigitsNet`).
    """
    net = Builder("digits", (1, 8, 8), seed)
    x = net.input
    for number, channels in enumerate((8, 16, 32), 1):
        x = net.relu(net.norm(f"bn{number}", net.conv(f"conv{number}", x, channels, 3, pad=1, bias=False)))
        if number > 1:
            x = net.max_pool(x, 2, stride=2)
    return net.graph(net.softmax(net.linear("fc", net.flatten(x), 10)))


def digits_mlp(seed: int | None = None) -> Graph:
    """Two hidden layers of 64 and 32 units: 64·64 + 64·32 + 32·10 weights."""
    net = Builder("digits_mlp", (1, 8, 8), seed)
    x = net.relu(net.linear("fc1", net.flatten(net.input), 64))
    x = net.relu(net.linear("fc2", x, 32))
    return net.graph(net.softmax(net.linear("fc3", x, 10)))
