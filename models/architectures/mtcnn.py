"""MTCNN's O-Net."""

from __future__ import annotations

from ..graph import Graph
from .builder import Builder

__all__ = ["onet"]


def onet(seed: int | None = None) -> Graph:
    """O-Net on 48×48 faces: 389,040 parameters; out come face (2), box (4) and landmarks (10).

    Zhang et al. 2016, Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks,
    figure 2, with PReLU, Dropout and the pools' rounding up of its authors' det3.prototxt.
    """
    net = Builder("onet", (3, 48, 48), seed)
    x = net.prelu("prelu1", net.conv("conv1", net.input, 32, 3))
    x = net.max_pool(x, 3, stride=2, ceil=True)
    x = net.prelu("prelu2", net.conv("conv2", x, 64, 3))
    x = net.max_pool(x, 3, stride=2, ceil=True)
    x = net.prelu("prelu3", net.conv("conv3", x, 64, 3))
    x = net.max_pool(x, 2, stride=2, ceil=True)
    x = net.prelu("prelu4", net.conv("conv4", x, 128, 2))
    x = net.prelu("prelu5", net.dropout(net.linear("conv5", x, 256), 0.25))
    face = net.softmax(net.linear("conv6-1", x, 2), name="face")
    return net.graph(face, net.linear("conv6-2", x, 4), net.linear("conv6-3", x, 10))
