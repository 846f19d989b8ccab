"""A model's layers as problems, with the weights that lie behind their densities and payloads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..mapper.hierarchy import AbstractMachine
from ..mapper.problem import Problem, layer_problem
from ..models.importers.topology import model_topology
from ..models.layers import Conv, Linear
from .densities import Density, densities_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..mapper.optimum import Found
    from ..mapper.tile_payload import TilePayload
    from ..models.importers.model import Model
    from ..models.network import Network
    from ..models.weights import WeightRecord

__all__ = ["BITS", "LayerWeights", "exact_payload", "model_problems", "runs_in_queues"]

BITS = 8
"""Of weights and activations where a model has no formats, unless other ones are asked for."""
_MOST_WEIGHTS = 1 << 24
"""Of a layer whose tiles are encoded one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """A layer's problem, and what is known of its values."""

    problem: Problem
    record: WeightRecord | None = None
    weights: Density | None = None
    """Given: its weights are then seeded random ones."""
    activations: Density | None = None
    """Given."""
    measured: float | None = None
    """Density of its inputs on images."""
    index_bits: int = 0
    """Of the relative index that its problem's payload is of; 0: dense."""
    mask: NDArray[np.bool_] | None = None
    """Where weights are not zero, if tiles can be encoded one by one."""


def runs_in_queues(machine: AbstractMachine, problem: Problem) -> bool:
    """Whether the layer is a matrix times a vector, on a machine with queues."""
    return machine.queues is not None and problem.macs == problem.K * problem.C


def model_problems(
    model: Model,
    machine: AbstractMachine,
    bits: int | None = None,
    *,
    weight_density: Mapping[str, Density] | None = None,
    activation_density: Mapping[str, Density] | None = None,
    measured: Mapping[str, float] | None = None,
    seed: int = 0,
    queued: bool = False,
) -> tuple[list[LayerWeights], str]:
    """A model's layers for a machine, and in words where their bits and densities are from.

    Integer layers have their own formats, and weights that may be zero; all others `bits`, dense. Given
    densities go before. Where the machine holds weights compressed, layers with zeros are counted by the
    relative-index streams of their weights, if these are smaller than dense ones.

    Args:
        model: any.
        machine: that its layers run on.
        bits: of weights and activations, instead of the model's own.
        weight_density: given by layer; under the empty name that of all others.
        activation_density: the same of inputs.
        measured: densities of inputs on images.
        seed: of random weights.
        queued: whether layers that run in the machine's queues do, whose streams aren't looked at here.

    Raises:
        ValueError: as `model_topology`, bits outside 1…64, or a density of a layer that there isn't.
    """
    topology = model_topology(model)
    names = [layer.name for layer in topology.layers]
    given = densities_of("--weight-density", dict(weight_density or {}), names)
    inputs = densities_of("--activation-density", dict(activation_density or {}), names)
    known = {} if bits is not None else _formats([step.network for step in model.cores])
    records = {name: w for step in model.cores for name, w in step.network.weights.items()}
    width = BITS if bits is None else bits
    plain = {"weight_bits": width, "input_bits": width, "output_bits": width}
    found = []
    for number, layer in enumerate(topology.layers):
        problem = layer_problem(layer, **known.get(layer.name, plain))
        record = records.get(layer.name) if layer.name in known else None
        seen = (measured or {}).get(layer.name)
        active = inputs[layer.name].value if layer.name in inputs else seen
        if active is not None:
            problem = replace(problem, input_density=max(active, 1e-9))
        weights = given.get(layer.name)
        part = LayerWeights(
            problem=problem,
            record=record,
            weights=weights,
            activations=inputs.get(layer.name),
            measured=seen,
        )
        apart = queued and runs_in_queues(machine, problem)
        found.append(part if apart else _encoded(part, machine, seed + number))
    words = _words(all(name in known for name in names), width, bits)
    if given:
        words += f"; weights of {', '.join(given)} seeded random at given densities"
    if inputs or measured:
        words += "; densities of activations " + " and ".join(
            [*(["given"] if inputs else []), *(["measured"] if measured else [])]
        )
    return found, words


def _words(own: bool, width: int, bits: int | None) -> str:
    if own:
        return "formats and payloads of the model's own"
    return f"{width} bit{'s' if width > 1 else ''} a value, dense" + (
        "" if bits is not None else " (assumed: the model is float)"
    )


def _formats(networks: list[Network]) -> dict[str, dict[str, Any]]:
    """Bits, density and payload of each convolution and linear layer, by name."""
    rows: dict[str, dict[str, Any]] = {}
    for network in networks:
        makes = {layer.inputs[0]: layer.output for layer in network.layers}
        for layer in network.layers:
            if not isinstance(layer, Conv | Linear):
                continue
            record = network.weights[layer.name]
            dense = record.values.size * record.fmt.bits
            rows[layer.name] = {
                "weight_bits": record.fmt.bits,
                "input_bits": network.tensors[layer.input].fmt.bits,
                "output_bits": network.tensors[makes.get(layer.output, layer.output)].fmt.bits,
                "weight_density": max(1, int(np.count_nonzero(record.values))) / record.values.size,
                "weight_ratio": 8 * len(record.payload) / dense,
            }
    return rows


def _encoded(part: LayerWeights, machine: AbstractMachine, seed: int) -> LayerWeights:
    """The layer with density and mean payload of its weights, as the machine would hold them."""
    from ..mapper.tile_payload import INDEX_BITS, mean_ratio, weight_mask

    problem, record = part.problem, part.record
    count = problem.G * problem.K * problem.C * problem.FY * problem.FX
    if part.weights is None and (record is None or problem.weight_density == 1.0):
        return part
    if part.weights is not None:
        problem = replace(problem, weight_density=part.weights.value, weight_ratio=1.0)
    if count > _MOST_WEIGHTS:
        return replace(part, problem=problem)
    if part.weights is None:
        assert record is not None  # else it has returned
        mask = weight_mask(problem, record.values)
    else:
        shape = (problem.G, problem.K, problem.C, problem.FY, problem.FX)
        mask = np.random.default_rng(seed).random(shape, np.float32) < part.weights.value
        mask.flat[0] |= not mask.any()
        problem = replace(problem, weight_density=float(mask.mean()))
    index_bits = INDEX_BITS if machine.queues is None else machine.queues.index_bits
    if any("W" in level.compressed for level in machine.levels):
        ratio, index_bits = mean_ratio(problem, mask, index_bits)
        problem = replace(problem, weight_ratio=ratio)
    else:
        index_bits = 0
    return replace(part, problem=problem, index_bits=index_bits, mask=mask)


def exact_payload(
    machine: AbstractMachine, part: LayerWeights, best: Found
) -> tuple[Found, TilePayload | None]:
    """A found nest evaluated with the payload of its own tiles and the load of its own PEs.

    Where a layer's weights are dense, or too many, or the machine takes no notice of zeros, it is as it was.

    Raises:
        MappingError: the largest tile does not fit its level; names it and by how much it is short.
    """
    from ..mapper.tile_payload import evaluate_weights, tile_payload

    held = any("W" in level.compressed for level in machine.levels)
    if part.mask is None or not held:
        return best, None
    payload = tile_payload(machine, part.problem, best.mapping, part.mask, part.index_bits)
    return replace(best, evaluation=evaluate_weights(machine, part.problem, best.mapping, payload)), payload
