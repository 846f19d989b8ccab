"""MobileNet, depth multiplier 1.0."""

from __future__ import annotations

from ..graph import Graph
from .builder import Builder

__all__ = ["mobilenet"]

_PLAN = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
"""Channels and stride of each depthwise separable layer; the paper's table 1."""


def mobilenet(seed: int | None = None) -> Graph:
    """MobileNet 1.0 on 224×224: 568.7 M MACs, 4.21 M weights (4,231,976 parameters with γ, β and bias).

    Howard et al. 2017, MobileNets, table 1, ReLU as in the paper (its authors' code clips at 6). The
    table's last depthwise layer of "stride 2" keeps 7×7 and so has stride 1. Padding and Dropout are the
    code's: "same", all of it at bottom and right where the stride is 2, and 0.001.
    """
    net = Builder("mobilenet", (3, 224, 224), seed)
    x = _normed(net, net.conv("conv0", net.input, 32, 3, stride=2, pad=(0, 0, 1, 1), bias=False))
    for number, (channels, stride) in enumerate(_PLAN, 1):
        count, pad = net.shape(x)[1], (0, 0, 1, 1) if stride == 2 else 1
        depthwise = net.conv(
            f"conv{number}.depthwise", x, count, 3, stride=stride, pad=pad, groups=count, bias=False
        )
        x = _normed(net, depthwise)
        x = _normed(net, net.conv(f"conv{number}.pointwise", x, channels, 1, bias=False))
    x = net.dropout(net.global_average_pool(x), 0.001)
    return net.graph(net.softmax(net.linear("fc", x, 1000)))


def _normed(net: Builder, x: str) -> str:
    return net.relu(net.norm(f"{x}.norm", x, epsilon=1e-3))
