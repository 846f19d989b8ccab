"""Imported models run: the host's operators as ONNX defines them, the core's networks by the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..graph import Graph, run_graph, run_node
from ..reference import run_reference, trace_reference
from .model import CoreStep, HostStep, Model

__all__ = ["core_input", "run_model", "trace_model"]


def run_model(model: Model, inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    """The graph's outputs by name, from its inputs by name, each with a batch axis of any length.

    Raises:
        ValueError: an input is missing, unknown or of another shape, or a node can't run; names it.
    """
    values, constants = _run(model, inputs), _constants(model)
    examples = len(next(iter(values.values()), np.empty(1)))
    return {
        name: values[name] if name in values else np.repeat(constants[name], examples, axis=0)
        for name in model.graph.outputs
    }


def trace_model(
    model: Model, inputs: Mapping[str, ArrayLike], *, host: bool = False
) -> dict[str, NDArray[Any]]:
    """Values between steps and, of those within cores, all that a tensor holds; else as `run_model`.

    Within a core they are worked out from stored integers, in the type of the graph's value.

    Args:
        model: what to run.
        inputs: as `run_model`.
        host: whether everything that the host makes of the inputs is kept, too.
    """
    return _run(model, inputs, inner=True, host=host)


def core_input(model: Model, step: CoreStep, inputs: Mapping[str, ArrayLike]) -> NDArray[Any]:
    """The stored integers that go into one of the model's cores, shape (B, *its input); as `run_model`."""
    values = _run(model, inputs, until=step)
    return _stored(step, values[step.takes])


def _run(
    model: Model,
    inputs: Mapping[str, ArrayLike],
    *,
    inner: bool = False,
    host: bool = False,
    until: CoreStep | None = None,
) -> dict[str, NDArray[Any]]:
    graph = model.graph
    if set(inputs) != set(graph.inputs):
        raise ValueError(
            f"graph {graph.name!r:.80} takes the inputs {', '.join(graph.inputs)}, not {', '.join(inputs)}"
        )
    values: dict[str, NDArray[Any]] = {}
    for name, given in inputs.items():
        value, array = graph.values[name], np.asarray(given)
        if array.shape[1:] != value.shape[1:] or array.ndim != len(value.shape):
            raise ValueError(f"input {name!r:.80} must have the shape {value.shape}, not {array.shape}")
        values[name] = array.astype(value.dtype)
    if len({len(array) for array in values.values()}) > 1:
        raise ValueError("all inputs must have as many examples")
    constants = _constants(model)
    for step in model.steps:
        if step is until:
            break
        if isinstance(step, HostStep):
            values.update(_host(graph, step, values, constants, host))
        else:
            values.update(_core(graph, step, values, inner))
    return values


def _constants(model: Model) -> dict[str, NDArray[Any]]:
    """The graph's constants, and what nodes of the host make of them alone: they have no batch axis."""
    constants = dict(model.graph.constants)
    for step in model.steps:
        for node in step.nodes if isinstance(step, HostStep) else ():
            if all(not name or name in constants for name in node.inputs):
                results = run_node(node, [constants[name] if name else None for name in node.inputs])
                constants.update(zip(node.outputs, results, strict=False))
    return constants


def _host(
    graph: Graph,
    step: HostStep,
    values: Mapping[str, NDArray[Any]],
    known: Mapping[str, NDArray[Any]],
    every: bool,
) -> dict[str, NDArray[Any]]:
    """What the nodes of a step make that other steps, or the graph's user, take; or `every` value."""
    nodes = [node for node in step.nodes if node.outputs[0] not in known]
    if not nodes:
        return {}
    made = [name for node in nodes for name in node.outputs if name]
    taken = dict.fromkeys(name for node in nodes for name in node.inputs if name)
    own = {node.name for node in nodes}
    others = {name for node in graph.nodes if node.name not in own for name in node.inputs}
    constants = {name: known[name] for name in taken if name in known}
    sources = [name for name in taken if name not in constants and name not in made]
    part = Graph(
        name=graph.name,
        source=graph.source,
        inputs=tuple(sources),
        outputs=tuple(name for name in made if every or name in others or name in graph.outputs),
        nodes=tuple(nodes),
        constants=constants,
        values={name: graph.values[name] for name in (*sources, *made, *constants)},
    )
    return run_graph(part, {name: values[name] for name in sources})


def _stored(step: CoreStep, value: NDArray[Any]) -> NDArray[Any]:
    code = step.codes.get(step.takes)
    stored = value if code is None else code.stored(value)
    return stored.reshape(len(value), *step.network.tensors[step.network.input].shape)


def _core(
    graph: Graph, step: CoreStep, values: Mapping[str, NDArray[Any]], inner: bool
) -> dict[str, NDArray[Any]]:
    x = _stored(step, values[step.takes])
    if inner:
        tensors = trace_reference(step.network, x)
        names = {name: key for name, key in step.tensors.items() if key in tensors}
    else:
        tensors = {step.network.output: run_reference(step.network, x)}
        names = {step.makes: step.network.output}
    found = {}
    for name, key in names.items():
        stored, value = tensors[key], graph.values[name]
        code = step.codes.get(name)
        real = stored.astype(value.dtype) if code is None else code.values(stored, value.dtype)
        found[name] = real.reshape(len(x), *value.shape[1:])
    return found
