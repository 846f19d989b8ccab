"""The binary networks of FINN: TFC and LFC for MNIST, CNV for CIFAR-10, 1-bit weights and activations."""

from __future__ import annotations

from functools import partial

from ..graph import Graph
from .builder import Builder

__all__ = ["cnv", "lfc", "tfc"]


def tfc(seed: int | None = None) -> Graph:
    """TFC-W1A1: 784 binary inputs, three hidden layers of 64; 59,008 weights of one bit.

    Umuroglu et al. 2017, FINN, as Brevitas trains it. Weights and activations pass QONNX's BipolarQuant;
    pixels are 0..1. The last layer's sums are the logits: the normalisation by one scale and offset that
    training puts after them changes no decision and is left out.
    """
    return _dense("tfc", 64, seed)


def lfc(seed: int | None = None) -> Graph:
    """LFC-W1A1: 784 binary inputs, three hidden layers of 1,024; 2,910,208 weights of one bit. As `tfc`."""
    return _dense("lfc", 1024, seed)


def cnv(seed: int | None = None) -> Graph:
    """CNV-W1A1 on 32×32: six 3×3 convolutions, three linear layers; 1,542,848 weights of one bit.

    Umuroglu et al. 2017, FINN, after BinaryNet's network for CIFAR-10 with a half of its channels and no
    padding. The input has 8 bits of which 7 are behind the point (Brevitas' CNV_1W1A); the rest as `tfc`.
    """
    net = Builder("cnv", (3, 32, 32), seed)
    x = net.quantized(net.symmetric(net.input), scale=2.0**-7, bits=8)
    for number, (channels, pooled) in enumerate(
        [(64, False), (64, True), (128, False), (128, True), (256, False), (256, False)], 1
    ):
        name = f"conv{number}"
        x = net.conv(name, x, channels, 3, bias=False, on_weights=partial(_signs, net))
        x = net.bipolar(net.norm(f"{name}.norm", x, epsilon=1e-4))
        if pooled:
            x = net.max_pool(x, 2, stride=2)
    for number in (1, 2):
        x = _binary_linear(net, f"fc{number}", x, 512)
        x = net.bipolar(net.norm(f"fc{number}.norm", x, epsilon=1e-4))
    return net.graph(_binary_linear(net, "fc3", x, 10))


def _dense(name: str, width: int, seed: int | None) -> Graph:
    net = Builder(name, (1, 28, 28), seed)
    x = net.dropout(net.bipolar(net.symmetric(net.flatten(net.input))), 0.2)
    for number in (1, 2, 3):
        x = net.norm(f"fc{number}.norm", _binary_linear(net, f"fc{number}", x, width))
        x = net.dropout(net.bipolar(x), 0.2)
    return net.graph(_binary_linear(net, "fc4", x, 10))


def _binary_linear(net: Builder, name: str, x: str, features: int) -> str:
    return net.linear(name, x, features, bias=False, on_weights=partial(_signs, net))


def _signs(net: Builder, weights: str) -> str:
    return net.bipolar(weights, name=f"{weights}.sign")
