"""Mappings, machines and networks that ship: what `map`, `machines` and `zoo` show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..mapper.machine import Machine, load_machine, preset_names

if TYPE_CHECKING:
    from ..mapper.mapping import Capacity, Mapping
    from ..models.network import Network

__all__ = ["machine_list", "mapping_summary", "zoo_list"]


def _mapping_row(mapping: Mapping, machine: Machine, capacity: Capacity) -> dict[str, Any]:
    height, width = mapping.tile_rows, min(mapping.tile_x, mapping.shape.OX)
    return {
        "name": mapping.shape.name,
        "objective_value": mapping.read_bytes + mapping.write_bytes,
        "evaluated": mapping.evaluated,
        "optimal": False,
        "seconds": mapping.seconds,
        "estimated_cycles": mapping.cycles,
        "order": mapping.order.value,
        "tiles": {
            "count": len(mapping.tiles) * len(mapping.k_tiles),
            "K": mapping.k_tile,
            "OY": height,
            "OX": width,
            "columns": mapping.tile_columns,
            "column_mode": mapping.mode.value,
            "accumulators": [mapping.acc_y, mapping.acc_x],
            "chunks": len(mapping.chunks),
        },
        "buffers": {
            "activations": [mapping.act_bytes, capacity.act_slots * capacity.act_bytes],
            "weights": [mapping.weight_bytes, machine.buffers.weight_bytes],
            "outputs": [mapping.out_bytes, machine.buffers.output_bytes],
        },
    }


def mapping_summary(network: Network, machine: Machine) -> dict[str, Any]:
    """How each layer of a network lies on a machine: tiles, loop order and what each buffer holds.

    The objective is what the mapper minimises, DRAM bytes; buffers are [bytes of one tile, bytes in
    all]. `optimal` is false, since the candidates are chosen by rule and not all there are.

    Raises:
        MappingError: the network or a layer can't run on this machine; names the layer.
    """
    from ..mapper.lower import map_network, plan_network

    program = map_network(network, machine)
    plan = plan_network(network, machine)
    return {
        "kind": "map",
        "network": network.name,
        "machine": machine.name,
        "objective": "dram_bytes",
        "commands": len(program.commands),
        "memory_bytes": len(program.image),
        "program_digest": program.digest(),
        "layers": [_mapping_row(mapping, machine, plan.capacity) for mapping in plan.mappings],
    }


def _products(machine: Machine) -> int:
    return machine.array.rows * machine.array.cols * machine.array.lanes(machine.array.kinds[0])


def machine_list() -> dict[str, Any]:
    """The machines that ship, with what sets them apart."""
    rows = []
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
