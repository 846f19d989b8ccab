"""Residual networks: ResNet-18 and -50, ResNeXt-50 for ImageNet, ResNet-20 for CIFAR-10."""

from __future__ import annotations

from ..graph import Graph
from .builder import Builder

__all__ = ["resnet18", "resnet20", "resnet50", "resnext50"]


def resnet18(seed: int | None = None) -> Graph:
    """ResNet-18 on 224×224: 1.81 G MACs, 11,689,512 parameters.

    He et al. 2016, Deep Residual Learning for Image Recognition, table 1; shortcuts that change shape are
    1×1 convolutions (option B).
    """
    net = Builder("resnet18", (3, 224, 224), seed)
    x = _stem(net)
    for stage, channels in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = _conv_norm(net, x, f"{name}.conv1", f"{name}.bn1", channels, 3, stride=stride)
            y = _conv_norm(net, net.relu(y), f"{name}.conv2", f"{name}.bn2", channels, 3)
            x = net.relu(net.add(y, _projected(net, x, name, channels, stride)))
    return _head(net, x)


def resnet50(seed: int | None = None) -> Graph:
    """ResNet-50 on 224×224: 3.86 G MACs, 25,557,032 parameters, 8.0 % of them in the last layer.

    He et al. 2016, table 1, as published: the first 1×1 convolution of a stage has the stride. (Later
    libraries give it to the 3×3, "v1.5": 4.09 G MACs, as many parameters.)
    """
    return _bottlenecks("resnet50", seed, width=64, groups=1, stride_in_three=False)


def resnext50(seed: int | None = None) -> Graph:
    """ResNeXt-50 32×4d on 224×224: 4.23 G MACs, 25,028,904 parameters.

    Xie et al. 2017, Aggregated Residual Transformations for Deep Neural Networks, table 1; the 3×3
    convolution of 32 groups has the stride, as in its authors' code.
    """
    return _bottlenecks("resnext50", seed, width=128, groups=32, stride_in_three=True)


def resnet20(seed: int | None = None) -> Graph:
    """ResNet-20 for CIFAR-10, on 32×32: 40.6 M MACs, 269,722 parameters.

    He et al. 2016, section 4.2; shortcuts have no weights (option A): every second pixel, and as many
    channels of zeros before as after. Taking every second pixel is a 1×1 max pool of stride 2 here.
    """
    net = Builder("resnet20", (3, 32, 32), seed)
    x = net.relu(_conv_norm(net, net.input, "conv1", "bn1", 16, 3))
    for stage, channels in enumerate((16, 32, 64), 1):
        for block in range(3):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = _conv_norm(net, x, f"{name}.conv1", f"{name}.bn1", channels, 3, stride=stride)
            y = _conv_norm(net, net.relu(y), f"{name}.conv2", f"{name}.bn2", channels, 3)
            if stride > 1:
                x = net.max_pool(x, 1, stride=2, name=f"{name}.shortcut")
                x = net.pad_channels(x, channels // 4, channels // 4)
            x = net.relu(net.add(y, x))
    return net.graph(net.linear("linear", net.global_average_pool(x), 10))


def _stem(net: Builder) -> str:
    x = net.relu(_conv_norm(net, net.input, "conv1", "bn1", 64, 7, stride=2))
    return net.max_pool(x, 3, stride=2, pad=1)


def _head(net: Builder, x: str) -> Graph:
    return net.graph(net.softmax(net.linear("fc", net.global_average_pool(x), 1000)))


def _conv_norm(
    net: Builder,
    x: str,
    conv: str,
    norm: str,
    channels: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
) -> str:
    x = net.conv(conv, x, channels, kernel, stride=stride, pad=kernel // 2, groups=groups, bias=False)
    return net.norm(norm, x)


def _projected(net: Builder, x: str, name: str, channels: int, stride: int) -> str:
    """The shortcut of a block: `x` itself where the shapes agree."""
    if stride == 1 and net.shape(x)[1] == channels:
        return x
    return _conv_norm(net, x, f"{name}.downsample.0", f"{name}.downsample.1", channels, 1, stride=stride)


def _bottlenecks(name: str, seed: int | None, *, width: int, groups: int, stride_in_three: bool) -> Graph:
    """Blocks of 1×1, 3×3 and 1×1 convolutions; `width` channels inside those of the first stage."""
    net = Builder(name, (3, 224, 224), seed)
    x = _stem(net)
    for stage, count in enumerate((3, 4, 6, 3)):
        inside, outside = width << stage, 256 << stage
        for block in range(count):
            at = f"layer{stage + 1}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            first, second = (1, stride) if stride_in_three else (stride, 1)
            y = net.relu(_conv_norm(net, x, f"{at}.conv1", f"{at}.bn1", inside, 1, stride=first))
            y = _conv_norm(net, y, f"{at}.conv2", f"{at}.bn2", inside, 3, stride=second, groups=groups)
            y = _conv_norm(net, net.relu(y), f"{at}.conv3", f"{at}.bn3", outside, 1)
            x = net.relu(net.add(y, _projected(net, x, at, outside, stride)))
    return _head(net, x)
