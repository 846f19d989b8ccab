"""What a model is: its layers with MACs, parameters, bytes and formats, and where each of them runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..models.graph.counts import layer_counts
from ..models.importers.model import CoreStep, HostStep, Model
from ..models.network import Network

if TYPE_CHECKING:
    from ..models.graph import Graph, Node

__all__ = ["core_networks", "host_rows", "model_summary"]

SHARES = {"conv": ("conv",), "fc": ("fc", "linear")}
"""The kinds of layers whose shares of MACs and parameters are given together."""


def core_networks(model: Model) -> list[Network]:
    """The networks of a model's core steps, in order.

    Raises:
        ValueError: there is none; says why and what to do.
    """
    if not model.cores:
        reasons = list(dict.fromkeys(step.reason for step in model.steps if isinstance(step, HostStep)))
        raise ValueError(
            f"{model.graph.name}: no layer of it runs on a core ({'; '.join(reasons)[:200]}): give an int8 "
            "TFLite, QDQ or QONNX file, or a .bw file"
        )
    return [step.network for step in model.cores]


def host_rows(model: Model) -> list[dict[str, str]]:
    """The operators that the host runs, each with its layer's name and the reason; no cost is counted."""
    return [
        {"layer": node.name, "op": node.op, "reason": step.reason}
        for step in model.steps
        if isinstance(step, HostStep)
        for node in step.nodes
    ]


def model_summary(model: Model) -> dict[str, Any]:
    """Multiply-accumulates, parameters, formats and bytes of a model, layer by layer.

    What runs on a core stands there as its integer layers: bytes are those of the weights' payload and of
    int32 biases, as they would lie in memory. What runs on the host stands there as the file's operators:
    bytes are those of the constants that they take.
    """
    graph = model.graph
    layers = list(_rows(model))
    macs, parameters = (sum(layer[key] for layer in layers) for key in ("macs", "parameters"))
    source = graph.values[graph.inputs[0]] if graph.inputs else None
    first = next((core for core in model.cores if source is not None and core.takes == source.name), None)
    input_format = "" if source is None else source.dtype.name
    if first is not None and source is not None and source.dtype.kind in "iu":
        input_format = first.network.tensors[first.network.input].fmt.name
    return {
        "kind": "info",
        "network": graph.name,
        "source": graph.source,
        "input": {"shape": [] if source is None else list(source.shape[1:]), "format": input_format},
        "macs": macs,
        "parameters": parameters,
        "bytes": sum(layer["bytes"] for layer in layers),
        "shares": {
            word: {
                "macs": _share(layers, kinds, "macs", macs),
                "parameters": _share(layers, kinds, "parameters", parameters),
            }
            for word, kinds in SHARES.items()
        },
        "layers": layers,
        "host": host_rows(model),
    }


def _share(layers: Iterable[dict[str, Any]], kinds: Sequence[str], key: str, total: int) -> float:
    return sum(layer[key] for layer in layers if layer["kind"] in kinds) / total if total else 0.0


def _rows(model: Model) -> Iterator[dict[str, Any]]:
    counts = {}
    if any(isinstance(step, HostStep) for step in model.steps):
        counts = {row.name: row for row in layer_counts(model.graph)}
    taken: set[str] = set()
    for step in model.steps:
        if isinstance(step, CoreStep):
            yield from _core_rows(step.network)
            continue
        for node in step.nodes:
            size, weights = _constants(model.graph, node, taken)
            count = counts.get(node.name)
            value = model.graph.values[next(name for name in node.outputs if name)]
            yield {
                "name": node.name,
                "kind": node.op.lower() if count is None else count.kind,
                "macs": 0 if count is None else count.macs,
                "parameters": 0 if count is None else count.parameters,
                "bytes": size,
                "weights": weights,
                "output": {"shape": list(value.shape[1:]), "format": value.dtype.name},
                "runs": "host",
            }


def _core_rows(network: Network) -> Iterator[dict[str, Any]]:
    for layer in network.layers:
        record = network.weights.get(layer.name)
        size = 0
        if record is not None:
            size = len(record.payload) + (0 if record.bias is None else record.bias.nbytes)
        tensor = network.tensors[layer.output]
        yield {
            "name": layer.name,
            "kind": layer.kind,
            "macs": network.layer_macs(layer.name),
            "parameters": network.layer_parameters(layer.name),
            "bytes": size,
            "weights": None if record is None else record.fmt.name,
            "output": {"shape": list(tensor.shape), "format": tensor.fmt.name},
            "runs": "core",
        }


def _constants(graph: Graph, node: Node, taken: set[str]) -> tuple[int, str | None]:
    """(bytes of the constants that a node takes and no node before it, format of its weights)."""
    names = [name for name in node.inputs if name in graph.constants]
    size = sum(graph.constants[name].nbytes for name in names if name not in taken)
    taken.update(names)
    weights = node.inputs[1] if len(node.inputs) > 1 else ""
    heavy = weights in graph.constants and graph.constants[weights].ndim > 1
    return size, graph.constants[weights].dtype.name if heavy else None
