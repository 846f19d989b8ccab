"""What the verbs do with abstract machines: mappings searched layer by layer, and systolic arrays run."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..mapper.hierarchy import AbstractMachine
from ..mapper.problem import Problem, layer_problem
from ..models.importers.topology import model_topology
from ..models.layers import Conv, Linear
from .files import VERSION

if TYPE_CHECKING:
    from ..mapper.optimum import Found
    from ..models.importers.model import Model
    from ..models.network import Network

__all__ = ["Search", "map_abstract", "model_problems", "plan_abstract", "simulate_abstract"]

SECONDS = 5.0
"""That a layer's search may take, unless another time is asked for."""
PLAN_SECONDS = 30.0
"""That the searches of a network's plan may take beyond those of its layers by themselves."""
_FEW = 8
"""Different layers."""
BITS = 8
"""Of weights and activations where a model has no formats, unless other ones are asked for."""
ENERGY_TITLE = "event energy of an abstract machine"


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

    @property
    def seconds(self) -> float:
        """That the search of a layer may take."""
        return SECONDS if self.time_limit_s is None else self.time_limit_s


def model_problems(model: Model, bits: int | None = None) -> tuple[list[Problem], str]:
    """A model's layers as problems, and in words where their bits are from.

    Integer layers have their own formats, density and payload; all others `bits`, dense.

    Raises:
        ValueError: as `model_topology`, or bits outside 1…64.
    """
    topology = model_topology(model)
    known = {} if bits is not None else _formats([step.network for step in model.cores])
    width = BITS if bits is None else bits
    plain = {"weight_bits": width, "input_bits": width, "output_bits": width}
    problems = [layer_problem(layer, **known.get(layer.name, plain)) for layer in topology.layers]
    if all(layer.name in known for layer in topology.layers):
        return problems, "formats and payloads of the model's own"
    return problems, f"{width} bits a value, dense" + (
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


def _searched(machine: AbstractMachine, problems: list[Problem], asked: Search) -> list[Found]:
    from ..mapper.optimum import search
    from ..mapper.search_cache import SearchCache, search_layers

    # The kernels are compiled, or read, before the clock of the first layer starts.
    search(machine, Problem(name="first", K=2, C=2), objective=asked.objective)
    # Processes take a second to start: a few layers are done sooner by one.
    workers = os.cpu_count() or 1 if len({problem.key() for problem in problems}) > _FEW else 1
    return search_layers(
        machine,
        problems,
        objective=asked.objective,
        time_limit_s=asked.seconds,
        workers=workers,
        cache=SearchCache(),
    )


def map_abstract(model: Model, machine: AbstractMachine, asked: Search, *, explained: bool) -> dict[str, Any]:
    """The `map` result of a model on an abstract machine: the best nest of each layer.

    Raises:
        MappingError: a layer has no legal nest; names the buffer that is short.
        ValueError: see `model_problems`; or an unknown objective.
    """
    from ..mapper.nest_text import explain

    problems, words = model_problems(model, asked.bits)
    found = _searched(machine, problems, asked)
    layers = []
    for problem, best in zip(problems, found, strict=True):
        row = _layer_row(best)
        if explained:
            row["nest"] = explain(machine, problem, best.mapping)
        layers.append(row)
    return {
        "kind": "map",
        "template": "abstract",
        "network": model.graph.name,
        "machine": machine.name,
        "objective": asked.objective,
        "formats": words,
        "layers": layers,
    } | (plan_abstract(model, machine, problems, found, asked) if asked.planned else {})


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

    A machine with an `array.dataflow` is a systolic array and runs as such, cycle by cycle.

    Raises:
        MappingError: a layer has no legal nest; names the buffer that is short.
        ValueError: see `model_problems`; or an unknown objective.
    """
    if machine.dataflow and asked.planned:
        raise ValueError(f"--plan is of machines without array.dataflow; {machine.name} runs layer by layer")
    if machine.dataflow:
        return _simulate_systolic(model, machine, compat=compat or "none", stepped=stepped)
    if compat is not None or stepped:
        raise ValueError(
            f"machine {machine.name} has no array.dataflow: --compat and --stepped are of systolic arrays"
        )
    problems, words = model_problems(model, asked.bits)
    found = _searched(machine, problems, asked)
    layers = []
    for best in found:
        value = best.evaluation
        moved = [row for row in value.traffic if row.level == machine.levels[-1].name]
        layers.append(
            {
                "name": value.layer,
                "cycles": value.latency_cycles + value.fill_cycles,
                "stall_cycles": {"memory": value.stall_cycles, "fill": value.fill_cycles},
                "macs": value.macs,
                "utilization": value.utilization,
                "energy_pj": value.energy_pj,
                "energy_by_level": dict(value.energy_by_level),
                "dram_read_bytes": sum(row.read_bytes + row.drain_bytes for row in moved),
                "dram_write_bytes": sum(row.update_bytes + row.fill_bytes for row in moved),
                "traffic": [dataclasses.asdict(row) for row in value.traffic],
                **_certainty(best),
                "fidelity": value.fidelity,
            }
        )
    result = _modelled(model, machine, layers) | {
        "objective": asked.objective,
        "formats": words,
        "searched_seconds": sum(best.seconds for best in found),
    }
    return result | (plan_abstract(model, machine, problems, found, asked) if asked.planned else {})


def _modelled(model: Model, machine: AbstractMachine, layers: list[dict[str, Any]]) -> dict[str, Any]:
    """A result without program: totals of the layers, one after the other."""
    cycles = sum(layer["cycles"] for layer in layers)
    macs = sum(layer["macs"] for layer in layers)
    peak = sum(layer["macs"] / layer["utilization"] for layer in layers if layer["utilization"])
    return {
        "kind": "modelled",
        "version": VERSION,
        "network": model.graph.name,
        "machine": machine.name,
        "machine_digest": machine.digest(),
        "fidelity": "modelled",
        "clock_hz": machine.clock_hz,
        "node_nm": machine.node_nm,
        "energy_title": ENERGY_TITLE,
        "total": {
            "cycles": cycles,
            "macs": macs,
            "energy_pj": sum(layer["energy_pj"] for layer in layers),
            "dram_read_bytes": sum(layer["dram_read_bytes"] for layer in layers),
            "dram_write_bytes": sum(layer["dram_write_bytes"] for layer in layers),
            "utilization": macs / peak if peak else 0.0,
        },
        "layers": layers,
        "energy_sources": {level.name: level.energy_source for level in machine.levels},
    }


def _simulate_systolic(
    model: Model, machine: AbstractMachine, *, compat: str, stepped: bool
) -> dict[str, Any]:
    """The `simulate` result of a model on a systolic array, with which memory keeps up.

    Raises:
        ValueError: see `model_topology` and `run_topology`; or an unknown compatibility mode.
    """
    from ..sim.systolic import Compat, Dataflow, SystolicArray
    from ..sim.systolic_network import run_topology

    if compat not in (names := [mode.value for mode in Compat]):
        raise ValueError(f"--compat must be one of {', '.join(names)}, not {compat!r}")
    sides = {axis.name: axis.size for axis in machine.axes}
    array = SystolicArray(rows=sides["rows"], cols=sides["cols"], dataflow=Dataflow(machine.dataflow))
    run = run_topology(model_topology(model), array, Compat(compat), stepped=stepped)
    mac_pj = machine.pes[0].mac_pj
    buffer, dram = machine.levels[-2], machine.levels[-1]
    layers = []
    for layer in run.layers:
        reads, writes = (
            {name: sum(getattr(moved, way) for moved in getattr(layer, name).values()) for name in _MEMORIES}
            for way in ("reads", "writes")
        )
        energy = {
            "mac": layer.macs * mac_pj,
            buffer.name: 8
            * (reads["buffer_bytes"] * buffer.read_pj + writes["buffer_bytes"] * buffer.write_pj)
            / buffer.word_bits,
            dram.name: 8
            * (reads["dram_bytes"] * dram.read_pj + writes["dram_bytes"] * dram.write_pj)
            / dram.word_bits,
        }
        layers.append(
            {
                "name": layer.layer,
                "cycles": layer.cycles,
                "stall_cycles": {},
                "macs": layer.macs,
                "utilization": layer.utilization,
                "energy_pj": sum(energy.values()),
                "energy_by_level": energy,
                "dram_read_bytes": reads["dram_bytes"],
                "dram_write_bytes": writes["dram_bytes"],
                "folds": layer.folds,
                "ports": {name: dataclasses.asdict(moved) for name, moved in layer.ports.items()},
                "fidelity": layer.fidelity,
            }
        )
    first = run.layers[0]
    return _modelled(model, machine, layers) | {
        "compat": compat,
        "method": first.method,
        "dram_rule": first.dram_rule,
        "dataflow": machine.dataflow,
    }


_MEMORIES = ("buffer_bytes", "dram_bytes")
