"""What the verbs do with abstract machines: mappings searched layer by layer, and systolic arrays run."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..mapper.hierarchy import AbstractMachine
from ..mapper.problem import Problem
from .densities import Density
from .layer_weights import LayerWeights, exact_payload, model_problems, runs_in_queues
from .modelled import layer_row, modelled_result
from .queue_runs import queue_row

if TYPE_CHECKING:
    from ..mapper.optimum import Found
    from ..mapper.tile_payload import TilePayload
    from ..models.importers.model import Model

__all__ = ["Search", "map_abstract", "plan_abstract", "simulate_abstract"]

SECONDS = 5.0
"""That a layer's search may take, unless another time is asked for."""
PLAN_SECONDS = 30.0
"""That the searches of a network's plan may take beyond those of its layers by themselves."""
_FEW = 8
"""Different layers."""
_TRIES = 4
"""Searches with more room, where a nest's largest tile of encoded weights doesn't fit."""
_ROOM = 1.25
"""By how much more room each of them leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What the command line says of a search."""

    objective: str
    """latency, energy or edp."""
    time_limit_s: float | None = None
    """Of a layer."""
    bits: int | None = None
    """Of weights and activations, instead of the model's own."""
    planned: bool = False
    """Whether tensors may stay on chip and pairs of layers run fused."""
    weight_density: Mapping[str, Density] = field(default_factory=dict)
    """Given, by layer; under the empty name that of all others."""
    activation_density: Mapping[str, Density] = field(default_factory=dict)
    """The same of inputs."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Densities of inputs by layer, measured on images; those given go before."""
    folding: tuple[str, ...] | None = None
    """Of pipelines of matrix-vector units."""
    seed: int = 0
    """Of random weights and activations."""

    @property
    def seconds(self) -> float:
        """That the search of a layer may take."""
        return SECONDS if self.time_limit_s is None else self.time_limit_s


def _layers(
    model: Model, machine: AbstractMachine, asked: Search, *, queued: bool = False
) -> tuple[list[LayerWeights], str]:
    """The model's layers as the command line wants them, and words on it."""
    return model_problems(
        model,
        machine,
        asked.bits,
        weight_density=asked.weight_density,
        activation_density=asked.activation_density,
        measured=asked.measured,
        seed=asked.seed,
        queued=queued,
    )


def _searched(
    machine: AbstractMachine, parts: list[LayerWeights], asked: Search
) -> list[tuple[Found, TilePayload | None]]:
    """Each layer's best nest, with the payload of its tiles where its weights are sparse."""
    from ..mapper.mapping import MappingError
    from ..mapper.optimum import search
    from ..mapper.search_cache import SearchCache, search_layers

    if not parts:
        return []
    # The kernels are compiled, or read, before the clock of the first layer starts.
    search(machine, Problem(name="first", K=2, C=2), objective=asked.objective)
    problems = [part.problem for part in parts]
    # Processes take a second to start: a few layers are done sooner by one.
    workers = os.cpu_count() or 1 if len({problem.key() for problem in problems}) > _FEW else 1

    def found(problems: list[Problem]) -> list[Found]:
        return search_layers(
            machine,
            problems,
            objective=asked.objective,
            time_limit_s=asked.seconds,
            workers=workers,
            cache=SearchCache(),
        )

    rows: list[tuple[Found, TilePayload | None]] = []
    for part, best in zip(parts, found(problems), strict=True):
        if asked.planned:  # whose layers are searched anew with less room: all by the same means
            rows.append((best, None))
            continue
        problem, tried = part.problem, best
        for attempt in range(_TRIES + 1):
            try:
                rows.append(exact_payload(machine, part, tried))
                break
            except MappingError:
                if attempt == _TRIES:
                    raise
            # Its largest tile has more bits than the mean says: the search leaves more room for all.
            problem = replace(problem, weight_ratio=problem.weight_ratio * _ROOM)
            tried = found([problem])[0]
    return rows


def map_abstract(model: Model, machine: AbstractMachine, asked: Search, *, explained: bool) -> dict[str, Any]:
    """The `map` result of a model on an abstract machine: the best nest of each layer.

    Raises:
        MappingError: a layer has no legal nest; names the buffer that is short.
        ValueError: see `model_problems`; or an unknown objective.
    """
    from ..mapper.nest_text import explain

    parts, words = _layers(model, machine, asked)
    found = _searched(machine, parts, asked)
    layers = []
    for part, (best, payload) in zip(parts, found, strict=True):
        row = _layer_row(best) | _payload(part, payload)
        if explained:
            row["nest"] = explain(machine, part.problem, best.mapping)
        layers.append(row)
    return {
        "kind": "map",
        "template": "abstract",
        "network": model.graph.name,
        "machine": machine.name,
        "objective": asked.objective,
        "formats": words,
        "layers": layers,
    } | _plan(model, machine, parts, found, asked)


def _plan(
    model: Model,
    machine: AbstractMachine,
    parts: list[LayerWeights],
    found: list[tuple[Found, TilePayload | None]],
    asked: Search,
) -> dict[str, Any]:
    if not asked.planned:
        return {}
    problems = [part.problem for part in parts]
    return plan_abstract(model, machine, problems, [best for best, _ in found], asked)


def _payload(part: LayerWeights, payload: TilePayload | None) -> dict[str, Any]:
    """What a row says of encoded weights: whether bytes are those of the nest's own tiles."""
    if payload is not None:
        values = dataclasses.asdict(payload) | {"mean_bits": payload.mean_bits}
        return {"payload_exact": True, "payload": values}
    sparse = part.problem.weight_density < 1 or part.problem.weight_ratio != 1
    return {"payload_exact": False} if sparse else {}


def plan_abstract(
    model: Model, machine: AbstractMachine, problems: list[Problem], found: list[Found], asked: Search
) -> dict[str, Any]:
    """What a network gains on the machine when tensors stay on chip and pairs of layers run fused.

    Args:
        model: with layers that follow from one another.
        machine: abstract.
        problems: its layers, as `model_problems` has them.
        found: their nests by themselves, which are not searched again.
        asked: the objective and the seconds of a layer's search; all others together have `PLAN_SECONDS`.

    Raises:
        MappingError, ValueError: see `plan_network_on`.
    """
    from ..mapper.layer_graph import graph_steps, network_steps
    from ..mapper.network_plan import plan_network_on
    from ..mapper.search_cache import SearchCache, search_layers
    from ..models.importers.load import OWN

    if model.graph.source == OWN:
        graph = network_steps(model.cores[0].network, problems)
    else:
        graph = graph_steps(model.graph, problems)
    known = {problem.key(): best for problem, best in zip(problems, found, strict=True)}
    cache = SearchCache()

    def best(target: AbstractMachine, problem: Problem) -> Found:
        if target == machine and problem.key() in known:
            return known[problem.key()]
        return search_layers(
            target, [problem], objective=asked.objective, time_limit_s=asked.seconds, cache=cache
        )[0]

    plan = plan_network_on(machine, graph, objective=asked.objective, time_limit_s=PLAN_SECONDS, search=best)
    return {
        "kept_in": plan.level,
        "kept_in_why": None if plan.level else _why_nothing_stays(machine),
        "kept": [{"tensor": name, "bytes": -(-graph.tensors[name].size_bits // 8)} for name in plan.kept],
        "fused": [dataclasses.asdict(pair) for pair in plan.fused],
        "memory": dataclasses.asdict(plan.memory) | {"peak_on_chip_bytes": -(-plan.peak_resident_bits // 8)},
        "planned": {
            "before": dataclasses.asdict(plan.before) | {"cycles": plan.before.cycles},
            "after": dataclasses.asdict(plan.total) | {"cycles": plan.total.cycles},
            "objective_before": plan.before_value,
            "objective_after": plan.objective_value,
            "optimal": plan.optimal,
            "bound": plan.bound,
            "searches": plan.searches,
            "seconds": plan.seconds,
            "fidelity": plan.fidelity,
        },
    }


def _why_nothing_stays(machine: AbstractMachine) -> str:
    """Why no tensor can stay on chip, in terms of the machine's levels."""
    chip = machine.levels[:-1]
    both = [level for level in chip if {"I", "O"} <= set(level.operands)]
    if not both:
        inputs = [level.name for level in chip if "I" in level.operands]
        outputs = [level.name for level in chip if "O" in level.operands]
        return (
            f"inputs lie in {', '.join(inputs) or 'none'}, outputs in {', '.join(outputs) or 'none'}, and "
            "nothing moves values from one to the other on chip"
        )
    parts = [level.name for level in both if not level.shared]
    if len(parts) == len(both):
        return f"inputs and outputs have parts of their own in {', '.join(parts)}: no value changes over"
    return (
        f"{', '.join(level.name for level in both if level.shared)} is there once for each place of an axis"
    )


def _certainty(best: Found) -> dict[str, Any]:
    """Whether a nest is the best, and how far from it it may be; JSON has no infinity."""
    return {"optimal": best.optimal, "gap": best.gap if math.isfinite(best.gap) else None}


def _layer_row(best: Found) -> dict[str, Any]:
    return {
        "name": best.evaluation.layer,
        "objective_value": best.objective_value,
        "evaluated": best.evaluated,
        "partial": best.partial,
        **_certainty(best),
        "seconds": best.seconds,
        "cycles": best.evaluation.latency_cycles,
        "energy_pj": best.evaluation.energy_pj,
        "utilization": best.evaluation.utilization,
    }


def simulate_abstract(
    model: Model, machine: AbstractMachine, asked: Search, *, compat: str | None, stepped: bool
) -> dict[str, Any]:
    """The `simulate` result of a model on an abstract machine, each layer by its best nest.

    A systolic array (`array.dataflow` os, ws, is) runs as such, cycle by cycle; matrix-vector units (mvu) are
    a pipeline with a unit a layer; with `queues` fully connected layers run entry by entry.

    Raises:
        MappingError: a layer has no legal nest; names the buffer that is short.
        ValueError: see `model_problems`; or an unknown objective.
    """
    systolic = bool(machine.dataflow) and machine.dataflow != "mvu"
    if machine.dataflow and asked.planned:
        raise ValueError(
            f"--plan of simulate is of machines without array.dataflow, {machine.name} runs layer by layer: "
            "`map --plan` plans it as a hierarchy of memories"
        )
    if not systolic and (compat is not None or stepped):
        raise ValueError(
            f"machine {machine.name} is no systolic array: --compat and --stepped are of machines with "
            "array.dataflow os, ws or is"
        )
    if asked.folding and machine.dataflow != "mvu":
        raise ValueError(
            f'--folding is of machines with array.dataflow = "mvu", such as finn-mvu, not of {machine.name}'
        )
    if systolic:
        from .systolic_runs import simulate_systolic

        return simulate_systolic(model, machine, compat=compat or "none", stepped=stepped)
    parts, words = _layers(model, machine, asked, queued=not asked.planned)
    if machine.dataflow:
        from .stream_runs import simulate_stream

        return simulate_stream(model, machine, [part.problem for part in parts], words, asked.folding)
    queued = [not asked.planned and runs_in_queues(machine, part.problem) for part in parts]
    found = _searched(machine, [part for part, apart in zip(parts, queued, strict=True) if not apart], asked)
    nests = iter(found)
    layers: list[dict[str, Any]] = []
    resident = 0.0
    for part, apart in zip(parts, queued, strict=True):
        if not apart:
            best, payload = next(nests)
            layers.append(_nest_row(machine, part, best) | _payload(part, payload))
            continue
        row = queue_row(machine, part, resident_bits=resident, seed=asked.seed)
        resident += row["queues"]["held_bits"] if row["queues"]["resident"] else 0
        layers.append(row)
    result = modelled_result(model, machine, layers) | {
        "objective": asked.objective,
        "formats": words,
        "searched_seconds": sum(best.seconds for best, _ in found),
    }
    return result | _plan(model, machine, parts, found, asked)


def _nest_row(machine: AbstractMachine, part: LayerWeights, best: Found) -> dict[str, Any]:
    """The row of a layer by its best nest."""
    value, mode = best.evaluation, machine.pe_mode(part.problem)
    moved: dict[str, dict[str, float]] = {}
    for line in value.traffic:
        parts = (line.read_bytes, line.drain_bytes, line.update_bytes, line.fill_bytes)
        moved.setdefault(line.level, {})[line.operand] = sum(parts)
    dram = [line for line in value.traffic if line.level == machine.levels[-1].name]
    density = {"W": part.problem.weight_density, "I": part.problem.input_density}
    rate = machine.pe_count * mode.macs_per_cycle
    row = layer_row(
        value.layer,
        cycles=value.latency_cycles + value.fill_cycles,
        peak_macs=rate * max(1, value.latency_cycles),
        peak_rate=rate,
        products=value.macs * math.prod(density[x] for x in mode.skips),
        macs=value.macs,
        energy=value.energy_by_level,
        moved=moved,
        dram_read=sum(line.read_bytes + line.drain_bytes for line in dram),
        dram_write=sum(line.update_bytes + line.fill_bytes for line in dram),
        stalls={"memory": value.stall_cycles, "fill": value.fill_cycles},
    )
    return row | {"traffic": [dataclasses.asdict(line) for line in value.traffic], **_certainty(best)}
