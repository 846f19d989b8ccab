"""TFLite files: read, checked, and cut into what a core runs and what its host runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..network import Network
from ..storage import ImportModelError
from .model import CoreStep, HostStep, Model
from .tflite_core import lower_operators
from .tflite_file import TfliteFile, TfliteOperator, read_tflite
from .tflite_graph import TfliteGraph, clean_name
from .tflite_pieces import Piece

__all__ = ["load_tflite"]


def load_tflite(path: str | Path) -> Model:
    """The network that a TFLite file holds.

    An int8 operator runs on the core bit for bit as TFLite's reference kernels run it, or on the host in
    float between quantisers, with the reason in its step. A float file has one HostStep.

    Raises:
        ImportModelError: the file is missing, no TFLite file, damaged, or has something that isn't read;
            one line that names the file, the operator or tensor, and the reason.
    """
    source = Path(path)
    try:
        file = read_tflite(source)
        graph = TfliteGraph(file, clean_name(source.stem))
        return Model(graph=graph.graph, steps=_steps(file, graph))
    except OSError as fault:
        reason = fault.strerror or type(fault).__name__
    except ValueError as fault:
        reason = str(fault)
    line = "".join(c if c.isprintable() else "?" for c in f"{source}: {reason}")
    raise ImportModelError(line[:400])


def _steps(file: TfliteFile, graph: TfliteGraph) -> tuple[HostStep | CoreStep, ...]:
    if all(file.tensors[operator.output].dtype == np.float32 for operator in file.operators):
        return (HostStep(nodes=graph.graph.nodes, reason="its weights and activations are float"),)
    pieces = lower_operators(file, graph)
    steps: list[HostStep | CoreStep] = []
    needs = Counter(file.outputs)
    for operator in file.operators:
        needs.update(_sources(operator, pieces))
    start, parts = 0, 0
    operators = file.operators
    while start < len(operators):
        end = _core_end(file, pieces, needs, start)
        if end > start:
            parts += 1
            steps.append(_core_step(file, graph, pieces, operators[start:end], parts))
            start = end
            continue
        piece = pieces[operators[start].index]
        reason = piece if isinstance(piece, str) else "more than one tensor comes to it from the host"
        nodes = graph.nodes_of[operators[start].index]
        last = steps[-1] if steps else None
        if isinstance(last, HostStep) and last.reason == reason:
            steps[-1] = HostStep(nodes=(*last.nodes, *nodes), reason=reason)
        else:
            steps.append(HostStep(nodes=nodes, reason=reason))
        start += 1
    return tuple(steps)


def _core_end(file: TfliteFile, pieces: dict[int, Piece | str], needs: Mapping[int, int], start: int) -> int:
    """One past the last operator of the longest run from `start` on that takes one tensor and makes one.

    `needs` says how often each tensor is read, being an output counting as once.
    """
    made: set[int] = set()
    taken: set[int] = set()
    open_ends: dict[int, int] = {}
    end = start
    for place, operator in enumerate(file.operators[start:], start):
        piece = pieces[operator.index]
        if isinstance(piece, str):
            break
        for number in piece.sources:
            if number in made:
                open_ends[number] -= 1
                if not open_ends[number]:
                    del open_ends[number]
            else:
                taken.add(number)
        if piece.layers:
            made.add(operator.output)
            if needs[operator.output]:
                open_ends[operator.output] = needs[operator.output]
        if len(taken) > 1:
            break
        if len(taken) == 1 and len(open_ends) == 1:
            end = place + 1
    return end


def _sources(operator: TfliteOperator, pieces: dict[int, Piece | str]) -> Sequence[int]:
    """The tensors that an operator reads where it runs, each as often as it reads it."""
    piece = pieces[operator.index]
    return operator.inputs if isinstance(piece, str) else piece.sources


def _core_step(
    file: TfliteFile,
    graph: TfliteGraph,
    pieces: dict[int, Piece | str],
    operators: Sequence[TfliteOperator],
    part: int,
) -> CoreStep:
    chosen = [piece for operator in operators if isinstance(piece := pieces[operator.index], Piece)]
    tensors = {tensor.name: tensor for piece in chosen for tensor in piece.tensors}
    layers = tuple(layer for piece in chosen for layer in piece.layers)
    made = {layer.output for layer in layers}
    takes = next(name for layer in layers for name in layer.inputs if name not in made)
    inside = {name for layer in layers for name in layer.inputs}
    outside = {graph.value_of[n] for n in file.outputs}
    numbers = {operator.index for operator in operators}
    for operator in file.operators:
        if operator.index not in numbers:
            outside |= {graph.value_of[n] for n in _sources(operator, pieces) if n in graph.value_of}
    makes = next(name for name in made if name in outside or name not in inside)
    name = graph.graph.name if part == 1 else f"{graph.graph.name}.part{part}"
    values = set(graph.value_of.values())
    return CoreStep(
        network=Network(
            name=name,
            input=takes,
            output=makes,
            tensors=tensors,
            layers=layers,
            weights={record.layer: record for piece in chosen for record in piece.weights},
        ),
        takes=takes,
        makes=makes,
        nodes=tuple(node.name for operator in operators for node in graph.nodes_of[operator.index]),
        tensors={tensor: tensor for tensor in tensors if tensor in values},
    )
