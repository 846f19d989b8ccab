"""Machines and networks that ship: what `machines` and `zoo` show."""

from __future__ import annotations

from typing import Any

from ..mapper.hierarchy import AbstractMachine
from ..mapper.machine import Machine
from ..mapper.machine_file import load_machine, preset_names
from ..mapper.machines import abstract_names, load_any

__all__ = ["machine_list", "zoo_list"]


def _products(machine: Machine) -> int:
    return machine.array.rows * machine.array.cols * machine.array.lanes(machine.array.kinds[0])


def machine_list() -> dict[str, Any]:
    """The machines that ship, with what sets them apart."""
    rows: list[dict[str, Any]] = []
    for name in preset_names():
        machine = load_machine(name)
        rows.append(
            {
                "name": name,
                "template": machine.template,
                "rows": machine.array.rows,
                "cols": machine.array.cols,
                "lanes": {kind.key: machine.array.lanes(kind) for kind in machine.array.kinds},
                "macs_per_cycle": _products(machine),
                "buffer_bytes": machine.array.cols * machine.buffers.activation_bytes
                + machine.buffers.weight_bytes
                + machine.buffers.output_bytes,
                "bus_bits": machine.bus.data_bits,
                "clock_hz": machine.clock_hz,
            }
        )
    for name in abstract_names():
        abstract = load_any(name)
        assert isinstance(abstract, AbstractMachine)
        rows.append(
            {
                "name": name,
                "template": abstract.template,
                "array": " × ".join(f"{axis.size} {axis.name}" for axis in abstract.axes),
                "pes": abstract.pe_count,
                "macs_per_cycle": abstract.pe_count * max(mode.macs_per_cycle for mode in abstract.pes),
                "levels": [level.name for level in abstract.levels],
                "clock_hz": abstract.clock_hz,
            }
        )
    return {"kind": "machines", "machines": rows}


def zoo_list() -> dict[str, Any]:
    """The networks that ship, with what each is; all are untrained."""
    from ..models.architectures import ARCHITECTURES, architecture
    from ..models.graph.counts import layer_counts
    from ..models.importers.load import ZOO_NETWORKS

    rows: list[dict[str, Any]] = [
        {"name": f"zoo:{name}", "about": about, "input": None, "macs": None, "parameters": None}
        for name, about in ZOO_NETWORKS.items()
    ]
    for name in ARCHITECTURES:
        graph = architecture(name)
        counts = layer_counts(graph)
        rows.append(
            {
                "name": f"zoo:{name}",
                "about": "",
                "input": list(graph.values[graph.inputs[0]].shape[1:]),
                "macs": sum(count.macs for count in counts),
                "parameters": sum(count.parameters for count in counts),
            }
        )
    return {"kind": "zoo", "networks": rows}
