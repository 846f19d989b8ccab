"""From a compressed subject to the integer network that reference, cycle model and RTL run. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..formats import Format
from ..graph import Graph
from ..graph.batch_norm import fold_batch_norm
from ..importers.model import CoreStep, Model
from ..importers.quantised import lower_graph
from ..importers.run import run_model
from ..lattice import shrink_lattices
from ..network import Network
from ..weights import WeightRecord, mask_shape
from .plane_layers import WeightPlanes, weight_planes, with_planes
from .quantised_graph import (
    ActivationRange,
    fixed_weights,
    quantised_points,
    with_quantisers,
    without_softmax,
)
from .subject import Mask, Subject
from .trainable import TrainableGraph
from .weight_codes import CodebookCode, FixedCode, PlanesCode, ProductCode, TwoScaleCode, WeightCode

__all__ = ["IntegerNetwork", "integer_accuracy", "to_integers"]

_CALIBRATION = 1000
_Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerNetwork:
    """A subject's integers."""

    model: Model
    """With the host's quantiser before the core's part and what comes after it."""
    network: Network
    """The core's part."""
    exact: Mapping[str, bool]
    """By layer: whether its weights are the subject's own, not rounded for the core."""


def to_integers(subject: Subject, *, images: int = _CALIBRATION) -> IntegerNetwork:
    """The integer network of a subject: coded weights as they are, others rounded to int8 by filter.

    Batch norms are folded; activations are int8, their ranges those of training images. Taps of a kernel that
    no channel and no filter has go, where a smaller, dilated kernel makes the same sums.

    Args:
        subject: stays as it is.
        images: of the training part, that the ranges are taken from.

    Raises:
        ValueError: a part of the network doesn't run on a core; names the layer and the reason.
    """
    plain = without_softmax(subject.model.to_graph())
    raw = {layer.name: subject.weight(layer.name) for layer in subject.model.layers}
    folded = fold_batch_norm(plain)
    codes: dict[str, FixedCode] = {}
    planes: dict[str, WeightPlanes] = {}
    exact: dict[str, bool] = {}
    for node in folded.nodes:
        if node.op not in ("Conv", "Gemm") or len(node.inputs) < 2:
            continue
        weights = np.asarray(folded.constants[node.inputs[1]], np.float64)
        if node.op == "Gemm" and not node.attributes.get("transB", 0):
            raise ValueError(f"layer {node.name}: a Gemm must have transB to run on a core")
        before = raw.get(node.name)
        coded = subject.codes.get(node.name)
        integers = None if coded is None else _integers(coded)
        exact[node.name] = isinstance(coded, FixedCode) and integers is not None
        if isinstance(coded, PlanesCode | TwoScaleCode) and node.attributes.get("group", 1) == 1:
            assert before is not None
            planes[node.name] = weight_planes(coded, _gain(before, weights))
            exact[node.name] = True
        if integers is None or before is None:
            codes[node.name] = fixed_weights(weights)
        else:
            codes[node.name] = _regained(integers, before, weights)
    ranges = _ranges(subject, folded, images)
    model = lower_graph(with_quantisers(folded, codes, ranges))
    core = _core(model)
    network = shrink_lattices(_stored(subject, with_planes(core.network, planes)))
    steps = tuple(replace(core, network=network) if step is core else step for step in model.steps)
    return IntegerNetwork(model=replace(model, steps=steps), network=network, exact=exact)


def integer_accuracy(subject: Subject, integers: IntegerNetwork, *, part: str = "test") -> float:
    """The share of a part's images that the integer network tells right, 0…1."""
    x, y = getattr(subject.data, f"{part}_x"), getattr(subject.data, f"{part}_y")
    graph = integers.model.graph
    shape = graph.values[graph.inputs[0]].shape[1:]
    right = 0
    for first in range(0, len(x), 250):
        real = subject.data.real(x[first : first + 250]).reshape(-1, *shape)
        found = run_model(integers.model, {graph.inputs[0]: real})[graph.outputs[0]]
        right += int((found.reshape(len(real), -1).argmax(axis=1) == y[first : first + 250]).sum())
    return right / len(x)


def _integers(code: WeightCode) -> FixedCode | None:
    """The integers of coded weights as a core takes them, before any norm; None where int8 is to be found."""
    if isinstance(code, FixedCode):
        return code if Format.parse(code.fmt).bits <= 8 else None
    if isinstance(code, CodebookCode):
        top = float(np.abs(code.centroids).max()) or 1.0
        table = np.rint(code.centroids / top * 127).astype(np.int8)
        scales = np.full(len(code.indices), top / 127)
        return FixedCode(integers=table[code.indices], scales=scales, fmt="int8")
    return None


def _regained(code: FixedCode, before: _Array, after: _Array) -> FixedCode:
    """A layer's integers with the factor that a folded norm gave each filter: signs turn, scales grow."""
    if code.integers.shape != after.shape:
        raise ValueError("a coded layer's shape has changed")
    gain = _gain(before, after)
    if np.all(gain == 1.0):
        return code
    dead = gain == 0
    sign = np.where(gain < 0, -1, 1).reshape(-1, *[1] * (before.ndim - 1))
    integers = (code.integers * sign).astype(code.integers.dtype)
    return FixedCode(integers=integers, scales=code.scales * np.where(dead, 1.0, np.abs(gain)), fmt=code.fmt)


def _gain(before: _Array, after: _Array) -> NDArray[np.float64]:
    """The factor that a folded norm gave each filter, shape (K,); 1 where all weights are 0."""
    rows, folded = before.reshape(len(before), -1), after.reshape(len(after), -1)
    filters = np.arange(len(rows))
    place = np.abs(rows).argmax(axis=1)
    largest = rows[filters, place].astype(np.float64)
    return np.where(largest != 0, folded[filters, place] / np.where(largest, largest, 1), 1.0)


def _stored(subject: Subject, network: Network) -> Network:
    """The network with the payload of each layer that has an encoding of its own, or a mask."""
    weights = dict(network.weights)
    for name, record in network.weights.items():
        asked, code = subject.encodings.get(name), subject.codes.get(name)
        mask = subject.masks.get(name)
        if (asked is None and mask is None) or isinstance(code, PlanesCode | TwoScaleCode | ProductCode):
            continue
        table = np.unique(record.values) if isinstance(code, CodebookCode) else None
        if table is not None:
            table = np.concatenate([table[table == 0], table[table != 0]])
        plain = "dense" if asked is None else asked.name
        weights[name] = WeightRecord.encoded(
            layer=name,
            values=record.values,
            fmt=record.fmt,
            scales=record.scales,
            bias=record.bias,
            mask=None if mask is None else _record_mask(mask, record.values.shape),
            granularity="element" if mask is None else _record_granularity(mask),
            codebook=table if table is not None and 2 <= table.size <= 256 else None,
            encoding=plain,
            streams=1 if asked is None else asked.streams,
        )
    return replace(network, weights=weights)


def _record_granularity(mask: Mask) -> str:
    return "element" if mask.granularity == "block" else mask.granularity


def _record_mask(mask: Mask, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask as a record holds it: an entry a group. Blocks, whose size the record can't know, by element."""
    kept = mask.kept.reshape(shape)
    wanted = mask_shape(shape, _record_granularity(mask))
    axes = tuple(axis for axis, (n, m) in enumerate(zip(shape, wanted, strict=True)) if n != m)
    return np.asarray(kept.any(axis=axes, keepdims=True) if axes else kept)


def _ranges(subject: Subject, graph: Graph, images: int) -> dict[str, ActivationRange]:
    """The ranges of all points that activations are rounded at, over training images."""
    points = quantised_points(graph)
    model = TrainableGraph(graph).eval()
    shape = graph.values[graph.inputs[0]].shape[1:]
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    x = subject.data.train_x[:images]
    with torch.no_grad(), model.captured(points) as found:
        for first in range(0, len(x), 250):
            model(torch.from_numpy(subject.data.real(x[first : first + 250]).reshape(-1, *shape)))
            for name in points:
                low[name] = min(low.get(name, 0.0), float(found[name].min()))
                high[name] = max(high.get(name, 0.0), float(found[name].max()))
    return {name: ActivationRange.of(low[name], high[name]) for name in points}


def _core(model: Model) -> CoreStep:
    cores = [step for step in model.steps if isinstance(step, CoreStep)]
    if len(cores) != 1:
        host = next((s for s in model.steps[1:-1] if not isinstance(s, CoreStep)), None)
        reason = "" if host is None else f": {host.nodes[0].name}: {host.reason}"
        raise ValueError(
            f"network {model.graph.name}: it must run on a core in one piece, not in {len(cores)}{reason}"
        )
    return cores[0]
