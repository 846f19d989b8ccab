"""A network's compressed forms side by side, and the cores that serve them: the demo's comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..mapper.machine import Machine
from ..mapper.pe import PeKind
from ..models.network import Network

__all__ = ["EVERY", "compare_forms", "compare_machines", "form_cores", "payload_bytes"]

EVERY = "every form"
"""The core that serves all forms, by the name that tables use."""


def _with_pes(machine: Machine, name: str, pes: Sequence[str]) -> Machine:
    return dataclasses.replace(machine, name=name, array=dataclasses.replace(machine.array, pes=tuple(pes)))


def form_cores(machine: Machine, forms: Sequence[str], alone: Sequence[str]) -> dict[str, Machine]:
    """By name: the core that serves every form, then for each of `alone` one that serves that form only.

    A form is named by the PE kind of its inner layers; the first and the last layer are int8 in all.

    Args:
        machine: all cores are this one but for their PE kinds: same buffers, same DRAM bandwidth.
        forms: all of them.
        alone: those that get a core of their own.
    """

    def served(kinds: Sequence[str]) -> list[str]:
        return [kind.key for kind in PeKind if kind.key in (PeKind.INT8.key, *kinds)]

    cores = {EVERY: _with_pes(machine, f"{machine.name}-every", served(forms))}
    for form in alone:
        cores[form] = _with_pes(machine, f"{machine.name}-{form.replace('_', '-')}", served([form]))
    return cores


def payload_bytes(network: Network) -> int:
    """Bytes of all weights as they are handed on, biases left out."""
    return sum(len(record.payload) for record in network.weights.values())


def compare_forms(
    trained: Mapping[str, Any], simulated: Mapping[str, Mapping[str, Any]], float_parameters: int
) -> list[dict[str, Any]]:
    """A row a form: accuracy, payload, and on the core that serves every form cycles, bytes and event energy.

    Args:
        trained: form -> `models.train.TrainedDigits`.
        simulated: form -> `simulate` result on that core.
        float_parameters: weights of the float network, 4 bytes each; its row has no hardware figures.
    """
    first = next(iter(trained.values()))
    rows: list[dict[str, Any]] = [
        {
            "form": "float32",
            "accuracy": first.float_accuracy,
            "payload_bytes": 4 * float_parameters,
            "cycles": None,
            "dram_bytes": None,
            "energy_pj": None,
        }
    ]
    for form, result in trained.items():
        total = simulated[form]["total"]
        rows.append(
            {
                "form": form,
                "accuracy": result.int_accuracy,
                "qat_accuracy": result.qat_accuracy,
                "disagreements": len(result.disagreements),
                "payload_bytes": payload_bytes(result.network),
                "cycles": total["cycles"],
                "dram_bytes": total["dram_read_bytes"] + total["dram_write_bytes"],
                "energy_pj": total["energy_pj"],
            }
        )
    return rows


def compare_machines(
    cores: Mapping[str, Machine],
    costs: Mapping[str, Mapping[str, Any]],
    simulated: Mapping[str, Mapping[str, Mapping[str, Any]]],
    accuracies: Mapping[str, float],
) -> list[dict[str, Any]]:
    """A row for each form on each core that runs it: what the core takes and how long an image does.

    Time uses the lower of the core's clock and its Fmax, obtained alike for all cores: routed if all of them
    were, else nextpnr's estimate after placing, which predicts wires. `lut_seconds` is LUTs times the time of
    an image: the time at equal area.

    Args:
        cores: as from `form_cores`.
        costs: core -> its `cost` result.
        simulated: core -> form -> `simulate` result.
        accuracies: form -> share of test images that are right.
    """
    rows = []
    routed = all(costs[core]["fmax_mhz"] is not None for core in cores)
    for core, machine in cores.items():
        cost = costs[core]
        reached = cost["fmax_mhz"] if routed else cost["placed_mhz"]
        clock_hz = machine.clock_hz if reached is None else min(machine.clock_hz, reached * 1e6)
        for form, result in simulated[core].items():
            cycles = result["total"]["cycles"]
            rows.append(
                {
                    "core": core,
                    "machine": machine.name,
                    "pes": list(machine.array.pes),
                    "form": form,
                    **{key: cost[key] for key in ("lut", "ff", "dsp", "bram", "placed_mhz", "fmax_mhz")},
                    "clock_hz": clock_hz,
                    "cycles": cycles,
                    "seconds": cycles / clock_hz,
                    "lut_seconds": cost["lut"] * cycles / clock_hz,
                    "accuracy": accuracies[form],
                }
            )
    return rows
