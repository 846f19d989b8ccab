"""The networks of the field's history, as graphs: exact shapes, no trained weights.

Imported as `bitwright.models.architectures`. Weights of one's own come in with `load_weights`.

    from bitwright.models.architectures import architecture, load_weights
    graph = load_weights(architecture("resnet20"), "resnet20.npz")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from ..graph import Graph
from . import (
    alexnet,
    darknet,
    densenet,
    digits,
    elman,
    finn,
    googlenet,
    lenet,
    mobilenet,
    mtcnn,
    nin,
    resnet,
    shufflenet,
    squeezenet,
    vgg,
)
from .weights_file import load_weights

__all__ = ["ARCHITECTURES", "architecture", "load_weights"]

ARCHITECTURES: Mapping[str, Callable[[int | None], Graph]] = MappingProxyType(
    {
        "alexnet": alexnet.alexnet,
        "vgg16": vgg.vgg16,
        "nin": nin.nin,
        "nin-cifar10": nin.nin_cifar10,
        "googlenet": googlenet.googlenet,
        "resnet18": resnet.resnet18,
        "resnet20": resnet.resnet20,
        "resnet50": resnet.resnet50,
        "densenet121": densenet.densenet121,
        "squeezenet": squeezenet.squeezenet,
        "resnext50": resnet.resnext50,
        "mobilenet": mobilenet.mobilenet,
        **{f"shufflenet-g{groups}": partial(shufflenet.shufflenet, groups) for groups in shufflenet.CHANNELS},
        "darknet19": darknet.darknet19,
        "tiny-yolo": darknet.tiny_yolo,
        "digits": digits.digits,
        "digits-mlp": digits.digits_mlp,
        "digits-elman": elman.digits_elman,
        "elman": elman.elman,
        "lenet5": lenet.lenet5,
        "lenet300": lenet.lenet300,
        "dropconnect800": lenet.dropconnect800,
        "tfc": finn.tfc,
        "lfc": finn.lfc,
        "cnv": finn.cnv,
        "onet": mtcnn.onet,
    }
)
"""What makes each network, by its name after `zoo:`; see there for variant and source."""


def architecture(name: str, *, seed: int | None = None) -> Graph:
    """The graph of a published network.

    Args:
        name: a key of `ARCHITECTURES`.
        seed: None for weights that are all 0 and take no memory; else He-normal weights.

    Raises:
        ValueError: an unknown name; names those that there are.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"no network is called {name!r:.60}; there are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name](seed)
