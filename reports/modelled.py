"""Results of machines without program: what a layer's row has in common, totals, and the roofline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .files import VERSION

if TYPE_CHECKING:
    from ..mapper.hierarchy import AbstractMachine
    from ..models.importers.model import Model

__all__ = ["layer_row", "modelled_result"]

ENERGY_TITLE = "event energy of an abstract machine"


def layer_row(
    name: str,
    *,
    cycles: int,
    peak_macs: float,
    peak_rate: float,
    products: float,
    macs: int,
    energy: Mapping[str, float],
    moved: Mapping[str, Mapping[str, float]],
    dram_read: float,
    dram_write: float,
    stalls: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The part of a layer's row that all kinds of run share.

    Args:
        name: of the layer.
        cycles: all of the layer's.
        peak_macs: products that the PEs could form while they might work.
        peak_rate: products that they could form in a cycle.
        products: that they did form: without those that zeros save.
        macs: of the layer, dense.
        energy: picojoules by level, and `mac`.
        moved: bytes read and written by level and operand, of all instances.
        dram_read: bytes read from the outermost level.
        dram_write: bytes written to it.
        stalls: cycles in which the PEs wait, by cause.
    """
    return {
        "name": name,
        "cycles": cycles,
        "stall_cycles": dict(stalls or {}),
        "macs": macs,
        "products": products,
        "peak_macs": peak_macs,
        "peak_macs_per_cycle": peak_rate,
        "utilization": products / peak_macs if peak_macs else 0.0,
        "energy_pj": sum(energy.values()),
        "energy_by_level": dict(energy),
        "bytes_by_level": {level: dict(parts) for level, parts in moved.items()},
        "dram_read_bytes": dram_read,
        "dram_write_bytes": dram_write,
        "fidelity": "modelled",
    }


def modelled_result(
    model: Model, machine: AbstractMachine, layers: list[dict[str, Any]], *, cycles: int | None = None
) -> dict[str, Any]:
    """A result without program.

    Args:
        model: what ran.
        machine: on what.
        layers: rows, as `layer_row` makes them.
        cycles: of an image; the sum of the layers' where they run one after the other.
    """
    peak = sum(layer["peak_macs"] for layer in layers)
    total = sum(layer["cycles"] for layer in layers) if cycles is None else cycles
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
            "cycles": total,
            "macs": sum(layer["macs"] for layer in layers),
            "energy_pj": sum(layer["energy_pj"] for layer in layers),
            "dram_read_bytes": sum(layer["dram_read_bytes"] for layer in layers),
            "dram_write_bytes": sum(layer["dram_write_bytes"] for layer in layers),
            "utilization": sum(layer["products"] for layer in layers) / peak if peak else 0.0,
        },
        "layers": layers,
        "roofline": _roofline(machine, layers),
        "energy_sources": {level.name: level.energy_source for level in machine.levels},
    }


def _roofline(machine: AbstractMachine, layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Each layer's products a byte of the outermost level and a cycle; see `roofline` for core machines.

    With one port reads and writes share it, so a layer's bytes are those of both, else of the busier one.
    """
    last = machine.levels[-1]
    slope = min(last.read_bits_per_cycle, last.write_bits_per_cycle) / 8
    rows = []
    for layer in layers:
        if not layer["products"] or not layer["cycles"]:
            continue
        ways = (layer["dram_read_bytes"], layer["dram_write_bytes"])
        moved = sum(ways) if last.ports == 1 else max(ways)
        rows.append(
            {
                "name": layer["name"],
                "macs_per_byte": layer["products"] / moved if moved else None,
                "macs_per_cycle": layer["products"] / layer["cycles"],
                "peak_macs_per_cycle": layer["peak_macs_per_cycle"],
            }
        )
    return {"bytes_per_cycle": slope if math.isfinite(slope) else None, "layers": rows}
