"""What the verbs do with a model of which one or several parts run on a core: results of parts in one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..mapper.objective import Objective
from .model_summary import core_networks, host_rows

if TYPE_CHECKING:
    from ..mapper.machine import Machine
    from ..mapper.program import Program
    from ..models.importers.model import Model
    from ..rtl.toolchain import Progress
    from ..sim.result import Result

__all__ = ["add_runs", "export_model", "map_model", "say_host", "simulate_model"]

_SAID = 6
"""Host operators that are named on stderr; the JSON has all."""


def say_host(model: Model, say: Progress) -> None:
    """Nothing; tells which layers run on the host, where there are any."""
    rows = host_rows(model)
    for reason in dict.fromkeys(row["reason"] for row in rows):
        names = [f"{row['layer']} ({row['op']})" for row in rows if row["reason"] == reason]
        more = f" and {len(names) - _SAID} more" if len(names) > _SAID else ""
        say(f"on the host, its cost left out ({reason}): {', '.join(names[:_SAID])}{more}")
    if len(model.cores) > 1:
        say(f"{len(model.cores)} parts run on the core, one after the other; their figures are added up")


def map_model(
    model: Model, machine: Machine, objective: Objective = Objective.LATENCY, *, explain: bool = False
) -> dict[str, Any]:
    """The `map` result of a model: the layers of all its core steps, with `explain` their loop nests.

    Raises:
        MappingError: a layer can't run on this machine; names the layer.
        ValueError: the model has no core step.
    """
    from .mapping_summary import mapping_summary

    networks = core_networks(model)
    parts = [mapping_summary(network, machine, objective, explain=explain) for network in networks]
    largest = max(parts, key=lambda part: int(part["memory_bytes"]))
    return {
        **largest,
        "network": model.graph.name,
        "judged": sum(part["judged"] for part in parts),
        "commands": sum(part["commands"] for part in parts),
        "program_digest": "+".join(part["program_digest"] for part in parts),
        "peak_tensor_bytes": max(part["peak_tensor_bytes"] for part in parts),
        "layers": [layer for part in parts for layer in part["layers"]],
        "memory": [row for part in parts for row in part["memory"]],
        "host": host_rows(model),
    }


def simulate_model(
    model: Model, machine: Machine, objective: Objective = Objective.LATENCY
) -> tuple[list[tuple[Program, Result]], dict[str, Any]]:
    """The runs of a model's core steps, and the `result` that they add up to, as JSON values.

    Raises:
        MappingError: a layer can't run on this machine; names the layer.
        ValueError: the model has no core step, or see `simulate_program`.
    """
    from ..mapper.plan import steps_to_leave_out
    from .simulation import simulate_network

    networks = core_networks(model)
    runs = [simulate_network(network, machine, objective) for network in networks]
    value = add_runs([value for _, _, value in runs])
    value |= {"network": model.graph.name, "host": host_rows(model)}
    encoded = [
        record for network in networks for record in network.weights.values() if record.payload_modelled
    ]
    if encoded:
        value["encoded_weights"] = {
            "layers": len(encoded),
            "payload_bytes": sum(len(record.payload) for record in encoded),
            "dense_bytes": sum(record.dense_bytes for record in encoded),
            "fidelity": "modelled",
        }
    if not machine.step_lines:
        parts = [steps_to_leave_out(network, machine) for network in networks]
        if names := [name for names, _ in parts for name in names]:
            entries = max(entries for _, entries in parts)
            value["steps_to_leave_out"] = {"layers": names, "step_entries": entries}
    return [(program, result) for program, result, _ in runs], value


def add_runs(values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The `result` of runs on one machine, one after the other: figures added, spans in a row."""
    if len(values) == 1:
        return dict(values[0])
    total = _add([value["total"] for value in values])
    busy = sum(value["total"]["utilization"] * value["total"]["cycles"] for value in values)
    total["utilization"] = busy / total["cycles"]
    spans: dict[str, list[tuple[int, int, int]]] = {unit: [] for unit in values[0]["spans"]}
    edges: list[float] = [0.0]
    cycles = layers = 0
    for value in values:
        edges += [cycles + edge for edge in value["bandwidth"]["edges"][1:]]
        for unit, pieces in value["spans"].items():
            spans[unit] += [(start + cycles, end + cycles, layer + layers) for start, end, layer in pieces]
        cycles += value["total"]["cycles"]
        layers += len(value["layers"])
    rows = {row["component"]: row for value in values for row in value["energy_rows"]}
    return {
        **values[0],
        "total": total,
        "program_digest": "+".join(value["program_digest"] for value in values),
        "layers": [layer for value in values for layer in value["layers"]],
        "traffic": _add([value["traffic"] for value in values]),
        "accesses": _add([value["accesses"] for value in values]),
        "energy_pj": _add([value["energy_pj"] for value in values]),
        "energy_rows": list(rows.values()),
        "spans": spans,
        "bandwidth": {
            "edges": edges,
            "bytes": {
                name: [part for value in values for part in value["bandwidth"]["bytes"][name]]
                for name in values[0]["bandwidth"]["bytes"]
            },
        },
        "roofline": values[0]["roofline"]
        | {"layers": [layer for value in values for layer in value["roofline"]["layers"]]},
        "parts": len(values),
        "about": f"{len(values)} programs one after the other, their figures added up.",
    }


def _add(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sums of numbers under the same keys, at any depth."""
    keys = dict.fromkeys(key for part in parts for key in part)
    sums: dict[str, Any] = {}
    for key in keys:
        found = [part[key] for part in parts if key in part]
        sums[key] = _add(found) if isinstance(found[0], dict) else sum(found)
    return sums


def export_model(
    model: Model,
    machine: Machine,
    folder: Path,
    objective: Objective = Objective.LATENCY,
    *,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """The `rtl` result of a model: `folder`, or a folder in it for each of several core steps.

    Raises:
        MappingError: a layer can't run on this machine; names the layer.
        ValueError: the model has no core step, or `folder` holds something else than an earlier export.
        OSError: the folder can't be written.
    """
    from .export import export_network

    networks = core_networks(model)
    several = len(networks) > 1
    places = [folder / f"part{number}" if several else folder for number in range(1, len(networks) + 1)]
    parts = [
        export_network(network, machine, place, objective, seed=seed, progress=progress)
        for network, place in zip(networks, places, strict=True)
    ]
    return {
        **parts[0],
        "network": model.graph.name,
        "program_digest": "+".join(part["program_digest"] for part in parts),
        "cycles": sum(part["cycles"] for part in parts),
        "files": [name for part in parts for name in part["files"]],
        "host": host_rows(model),
    }
