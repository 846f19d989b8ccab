"""Any model by what people call it: a file of one of the known kinds, or `zoo:NAME`."""

from __future__ import annotations

import re
from pathlib import Path

from ..graph import Graph, Node, Value
from ..network import Network
from ..storage import ImportModelError
from .model import CoreStep, Model

__all__ = ["OWN", "SUFFIXES", "ZOO_NETWORKS", "load_model", "network_model", "zoo_names"]

SUFFIXES = (".bw", ".onnx", ".tflite", ".pt2", ".csv")
"""Of the files that are read."""
WEIGHTS = (".safetensors", ".npz")
"""Of the files that hold weights alone."""
ZOO_NETWORKS = {
    "resnet8-stack": "the shapes of MLPerf Tiny's ResNet-8 without its adds, int8, seeded weights",
    "random-N": "a random network of seed N",
}
"""Integer networks after `zoo:`, beside the architectures of `models.architectures`."""
OWN = "bw"
"""The source of graphs that stand for a Network of ours; their operators are its layers' kinds."""


def load_model(spec: str) -> Model:
    """The model of a file (`.bw`, `.onnx`, `.tflite`, `.pt2`, a topology's `.csv`) or of `zoo:NAME`.

    `zoo:NAME` has no weights (all are 0, and take no memory); `zoo:NAME@SEED` has seeded ones, and
    `zoo:NAME@FILE` those of a `.safetensors` or `.npz` file.

    Raises:
        ImportModelError: a damaged file, or one that needs what isn't supported; names file, node, reason.
        ValueError: an unknown name or kind of file.
        OSError: the file can't be read.
    """
    if spec.startswith("zoo:"):
        return _zoo(spec)
    suffix = Path(spec).suffix.lower()
    if suffix == ".bw":
        from ..storage import load_network

        return network_model(load_network(spec))
    if suffix == ".onnx":
        from .onnx_file import load_onnx

        return _lowered(spec, load_onnx(spec))
    if suffix == ".tflite":
        from .tflite_model import load_tflite

        return load_tflite(spec)
    if suffix == ".pt2":
        from .torch_program import load_torch

        return _lowered(spec, load_torch(spec))
    if suffix == ".csv":
        from .topology import topology_model

        return topology_model(spec)
    raise ValueError(
        f"{spec}: {suffix or 'a name without suffix'} is not read; MODEL is zoo:NAME or a file that ends in "
        f"{', '.join(SUFFIXES)}"
    )


def _lowered(spec: str, graph: Graph) -> Model:
    """The model of a file's graph.

    Raises:
        ImportModelError: its constants can't be computed, or take too much memory; names the file.
    """
    from .quantised import lower_graph

    try:
        return lower_graph(graph)
    except ValueError as fault:
        raise ImportModelError(f"{spec}: {fault}") from None
    except MemoryError:
        raise ImportModelError(f"{spec}: its constants don't fit in memory") from None


def _zoo(spec: str) -> Model:
    name = spec.removeprefix("zoo:")
    if name == "resnet8-stack":
        from ..zoo import resnet8_stack

        return network_model(resnet8_stack(0))
    if numbered := re.fullmatch(r"random-(\d{1,9})", name):
        from ..zoo import random_network

        return network_model(random_network(int(numbered[1])))
    from ..architectures import ARCHITECTURES, architecture, load_weights
    from .quantised import lower_graph

    plain, at, weights = name.partition("@")
    if plain not in ARCHITECTURES:
        known = ", ".join(f"zoo:{known}" for known in zoo_names())
        raise ValueError(f"{spec:.100}: no such network in the zoo; there are {known}")
    if Path(weights).suffix.lower() in WEIGHTS:
        return _lowered(spec, load_weights(architecture(plain), weights))
    if at and not re.fullmatch(r"\d{1,9}", weights):
        raise ValueError(
            f"{spec:.100}: after @ comes the seed of the weights, a whole number, or a file of weights, "
            f"{' or '.join(WEIGHTS)}"
        )
    return lower_graph(architecture(plain, seed=int(weights) if at else None))


def zoo_names() -> tuple[str, ...]:
    """What may stand after `zoo:`."""
    from ..architectures import ARCHITECTURES

    return (*ZOO_NETWORKS, *ARCHITECTURES)


def network_model(network: Network) -> Model:
    """A network of ours as a model with one CoreStep.

    Its graph has a node for each layer, whose operator is the layer's kind, and a value for each tensor,
    of the network's names; no constants, since weights stay with the network.
    """
    values = {
        name: Value(name=name, shape=(1, *tensor.shape), dtype=tensor.fmt.dtype)
        for name, tensor in network.tensors.items()
    }
    graph = Graph(
        name=network.name,
        source=OWN,
        inputs=(network.input,),
        outputs=(network.output,),
        nodes=tuple(
            Node(op=layer.kind, name=layer.name, inputs=layer.inputs, outputs=(layer.output,))
            for layer in network.layers
        ),
        constants={},
        values=values,
    )
    step = CoreStep(
        network=network,
        takes=network.input,
        makes=network.output,
        nodes=tuple(layer.name for layer in network.layers),
        tensors={name: name for name in network.tensors},
    )
    return Model(graph=graph, steps=(step,))
