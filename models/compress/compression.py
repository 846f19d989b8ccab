"""A recipe at work: passes run in order; each leaves a record, and a state that a later run goes on from."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..graph import Graph
from ..graph.counts import node_macs
from .checkpoint import read_checkpoint, write_checkpoint
from .datasets import Dataset
from .integer import IntegerNetwork, integer_accuracy, to_integers
from .layer_samples import nodes_of
from .layer_size import LayerSize, layer_size
from .recipe import Recipe
from .subject import Subject
from .training import DivergedError

__all__ = ["Compressed", "PassRecord", "PassWatch", "StoppedError", "compress"]

PassWatch = Callable[[int, str, str, float], None]
"""Called with the number of the pass from 0 on, its name, what it does, and the part that is done, 0…1."""


class StoppedError(ValueError):
    """A pass that failed; what came before it is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRecord:
    """What a pass did."""

    name: str
    seconds: float
    accuracy_before: float
    """Of the test part, 0…1."""
    accuracy_after: float
    layers: tuple[LayerSize, ...]
    """Every layer with weights, after the pass."""
    notes: dict[str, Any]

    @property
    def payload_bytes(self) -> int:
        """Of all layers."""
        return sum(layer.payload_bytes for layer in self.layers)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compressed:
    """A network after its recipe."""

    subject: Subject
    passes: tuple[PassRecord, ...]
    resumed: int
    """Passes that an earlier run had done."""
    original_bytes: int
    """Weights and biases before the first pass, as float32."""
    original_macs: int
    macs: int
    """Of the network as it is now; cut weights count where they weren't shrunk away."""
    kept_macs: int
    """Those whose weight isn't 0."""
    original_accuracy: float
    accuracy: float
    """In float, with the weights at their codes; of the test part."""

    @property
    def payload_bytes(self) -> int:
        """Weights, tables and biases as they would be stored."""
        return self.passes[-1].payload_bytes

    def integers(self) -> IntegerNetwork:
        """The integer network; ValueError where it doesn't run on a core."""
        return to_integers(self.subject)

    def integer_accuracy(self, integers: IntegerNetwork) -> float:
        """Of the test part, 0…1."""
        return integer_accuracy(self.subject, integers)


def compress(
    graph: Graph,
    recipe: Recipe,
    data: Dataset,
    *,
    folder: Path | None = None,
    keep_all: bool = False,
    watch: PassWatch | None = None,
) -> Compressed:
    """The network that a recipe makes of `graph`; the same for the same arguments on one machine.

    Args:
        graph: float.
        recipe: what to do.
        data: fits the graph's input.
        folder: where states between passes are kept; a run that finds one goes on there. None keeps none.
        keep_all: whether the states before the newest stay, too, so that recipes that begin alike share them.
        watch: progress.

    Raises:
        ValueError: the recipe doesn't fit the network or the data, told before anything is trained.
        StoppedError: a pass fails; the state before it is kept in `folder`.
    """
    subject = Subject.of(graph, data, training=recipe.training, seed=recipe.seed)
    for number, step in enumerate(recipe.passes):
        try:
            step.check(subject)
        except ValueError as fault:
            raise ValueError(f"pass[{number}] ({step.name}): {fault}") from None
    start = _digest(graph, data)
    records, done, first = _resumed(folder, recipe, start, subject)
    original = first if records else subject.accuracy("test")
    accuracy = records[-1].accuracy_after if records else original
    for number in range(done, len(recipe.passes)):
        step = recipe.passes[number]
        if watch is not None:
            subject.progress = functools.partial(watch, number, step.name)
        subject.notes = {}
        began = time.perf_counter()
        try:
            step.apply(subject)
        except ValueError as fault:
            kept = f"; what the {number} before it did is kept: run it again to go on there" if folder else ""
            kind = "diverged" if isinstance(fault, DivergedError) else "failed"
            raise StoppedError(f"pass[{number}] ({step.name}) {kind}: {fault}{kept}") from None
        after = subject.accuracy("test")
        sizes = tuple(layer_size(subject, layer.name) for layer in subject.model.layers)
        records.append(
            PassRecord(
                name=step.name,
                seconds=time.perf_counter() - began,
                accuracy_before=accuracy,
                accuracy_after=after,
                layers=sizes,
                notes=dict(subject.notes),
            )
        )
        accuracy = after
        if folder is not None:
            _keep(folder, recipe, start, subject, records, number + 1, original)
            if not keep_all:
                _place(folder, recipe, start, number).unlink(missing_ok=True)
    return Compressed(
        subject=subject,
        passes=tuple(records),
        resumed=done,
        original_bytes=_float_bytes(graph),
        original_macs=_macs(graph),
        macs=_macs(subject.model.graph),
        kept_macs=_kept_macs(subject),
        original_accuracy=original,
        accuracy=accuracy,
    )


def _digest(graph: Graph, data: Dataset) -> str:
    """What tells a network and data from others."""
    found = hashlib.sha256(repr([(n.op, n.name, n.inputs, n.outputs) for n in graph.nodes]).encode())
    for name in sorted(graph.constants):
        found.update(np.ascontiguousarray(graph.constants[name]).tobytes())
    for part in ("train", "validation", "test"):
        x, y = getattr(data, f"{part}_x"), getattr(data, f"{part}_y")
        found.update(np.ascontiguousarray(x[:: max(1, len(x) // 256)]).tobytes())
        found.update(np.ascontiguousarray(y).tobytes())
    return found.hexdigest()


def _place(folder: Path, recipe: Recipe, start: str, count: int) -> Path:
    key = hashlib.sha256(f"{start}{recipe.key(count)}".encode()).hexdigest()[:24]
    return folder / f"{count:02d}-{key}.npz"


def _keep(
    folder: Path,
    recipe: Recipe,
    start: str,
    subject: Subject,
    records: list[PassRecord],
    count: int,
    original: float,
) -> None:
    record = {"original": original, "passes": [asdict(entry) for entry in records]}
    write_checkpoint(_place(folder, recipe, start, count), subject, record)


def _resumed(
    folder: Path | None, recipe: Recipe, start: str, subject: Subject
) -> tuple[list[PassRecord], int, float]:
    """The records of an earlier run, how many passes it had done, and the accuracy that it began with."""
    for count in range(len(recipe.passes), 0, -1) if folder is not None else ():
        assert folder is not None
        place = _place(folder, recipe, start, count)
        record = read_checkpoint(place, subject) if place.is_file() else None
        if record is not None:
            entries = [
                PassRecord(**{**entry, "layers": tuple(LayerSize(**layer) for layer in entry["layers"])})
                for entry in record["passes"]
            ]
            return entries, count, float(record["original"])
    return [], 0, 0.0


def _float_bytes(graph: Graph) -> int:
    """Weights, biases and what norms fold into, as float32: what the uncompressed network takes."""
    operands: set[str] = set()  # those that time steps share count once
    for node in graph.nodes:
        operands.update(node.inputs[1:3] if node.op in ("Conv", "Gemm", "BatchNormalization") else ())
    return 4 * sum(int(np.prod(graph.constants[n].shape)) for n in operands if n in graph.constants)


def _macs(graph: Graph) -> int:
    return sum(node_macs(node, graph.values) for node in graph.nodes)


def _kept_macs(subject: Subject) -> int:
    values = subject.model.graph.values
    kept = 0.0
    for layer in subject.model.layers:
        weights = subject.weight(layer.name)
        macs = sum(node_macs(node, values) for node in nodes_of(subject.model, layer))
        kept += macs * float(np.count_nonzero(weights)) / weights.size
    return round(kept)
