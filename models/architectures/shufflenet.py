"""ShuffleNet 1× with 1, 2, 3, 4 or 8 groups."""

from __future__ import annotations

from ..graph import Graph
from .builder import Builder

__all__ = ["CHANNELS", "shufflenet"]

CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Channels that stage 2 makes, by groups; the paper's table 1."""


def shufflenet(groups: int, seed: int | None = None) -> Graph:
    """ShuffleNet 1× on 224×224 with `groups` groups: 143, 141, 137, 134, 138 M MACs for 1, 2, 3, 4, 8.

    Zhang et al. 2018, ShuffleNet, table 1, which gives 143, 140, 137, 133, 137 M. A block's bottleneck has a
    quarter of its stage's channels, in the block of stride 2 too, whose convolutions make what the pooled
    shortcut doesn't; the first 1×1 convolution of stage 2 has no groups. ReLU, padding and the last layer
    without bias as in its authors' code.

    Raises:
        ValueError: a number of groups that the paper hasn't.
    """
    if groups not in CHANNELS:
        raise ValueError(f"ShuffleNet 1x has 1, 2, 3, 4 or 8 groups, not {groups}")
    net = Builder(f"shufflenet-g{groups}", (3, 224, 224), seed)
    x = net.conv("conv1", net.input, 24, 3, stride=2, pad=1, bias=False)
    x = net.max_pool(net.relu(net.norm("conv1.norm", x)), 3, stride=2, pad=1)
    for stage, count in ((2, 4), (3, 8), (4, 4)):
        channels = CHANNELS[groups] << stage - 2
        for block in range(count):
            first = 1 if (stage, block) == (2, 0) else groups
            x = _unit(net, x, f"stage{stage}.{block}", channels, groups, first, 1 if block else 2)
    return net.graph(net.softmax(net.linear("fc", net.global_average_pool(x), 1000, bias=False)))


def _unit(net: Builder, x: str, name: str, channels: int, groups: int, first: int, stride: int) -> str:
    inside = channels // 4
    made = channels if stride == 1 else channels - net.shape(x)[1]

    def normed(part: str, y: str, count: int, kernel: int, in_groups: int, step: int = 1) -> str:
        at = f"{name}.{part}"
        y = net.conv(at, y, count, kernel, stride=step, pad=kernel // 2, groups=in_groups, bias=False)
        return net.norm(f"{at}.norm", y)

    y = net.relu(normed("conv1", x, inside, 1, first))
    if groups > 1:
        y = net.shuffle(y, groups, name=f"{name}.shuffle")
    y = normed("depthwise", y, inside, 3, inside, stride)
    y = normed("conv2", y, made, 1, groups)
    if stride == 1:
        return net.relu(net.add(x, y))
    pooled = net.average_pool(x, 3, stride=2, pad=1, count_padding=True)
    return net.concat([pooled, net.relu(y)], name=f"{name}.concat")
