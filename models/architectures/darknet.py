"""DarkNet-19 and Tiny-YOLO v2."""

from __future__ import annotations

from ..graph import Graph
from .builder import Builder

__all__ = ["darknet19", "tiny_yolo"]


def darknet19(seed: int | None = None) -> Graph:
    """DarkNet-19 on 224×224: 2.79 G MACs, 20.8 M parameters.

    Redmon and Farhadi 2017, YOLO9000, table 6: 3×3 convolutions that double the channels after each pool
    and 1×1 ones between them, batch norms, leaky ReLUs of slope 0.1.
    """
    net = Builder("darknet19", (3, 224, 224), seed)
    x, number = net.input, 0
    for channels, count in ((32, 1), (64, 1), (128, 3), (256, 3), (512, 5), (1024, 5)):
        for index in range(count):
            number += 1
            wide = index % 2 == 0
            x = _conv(net, x, f"conv{number}", channels if wide else channels // 2, 3 if wide else 1)
        if channels < 1024:
            x = net.max_pool(x, 2, stride=2)
    x = net.conv("conv19", x, 1000, 1)
    return net.graph(net.softmax(net.flatten(net.global_average_pool(x))))


def tiny_yolo(seed: int | None = None) -> Graph:
    """Tiny-YOLO v2 for Pascal VOC on 416×416: 3.49 G MACs, 15,861,773 parameters.

    Redmon and Farhadi 2017, YOLO9000, with the layers of its authors' tiny-yolo-voc.cfg. Out come 13×13
    cells of 5 boxes of 25 values, as the last convolution makes them; boxes are not decoded. The sixth pool
    has stride 1 and is padded at bottom and right.
    """
    net = Builder("tiny-yolo", (3, 416, 416), seed)
    x = net.input
    for number, channels in enumerate((16, 32, 64, 128, 256, 512), 1):
        x = _conv(net, x, f"conv{number}", channels, 3)
        last = channels == 512
        x = net.max_pool(x, 2, stride=1 if last else 2, pad=(0, 0, 1, 1) if last else 0)
    x = _conv(net, _conv(net, x, "conv7", 1024, 3), "conv8", 1024, 3)
    return net.graph(net.conv("conv9", x, 125, 1))


def _conv(net: Builder, x: str, name: str, channels: int, kernel: int) -> str:
    x = net.conv(name, x, channels, kernel, pad=kernel // 2, bias=False)
    return net.leaky_relu(net.norm(f"{name}.norm", x), 0.1)
