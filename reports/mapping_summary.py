"""What `map` shows: how a network's layers lie on a core machine, and its tensors in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..mapper.machine import Machine
from ..mapper.objective import Objective

if TYPE_CHECKING:
    from ..mapper.mapping import Capacity, Mapping
    from ..models.network import Network

__all__ = ["mapping_summary"]

_UNITS = {
    Objective.LATENCY: "cycles (estimate)",
    Objective.ENERGY: "pJ (estimate)",
    Objective.EDP: "pJ · cycles (estimate)",
    Objective.BYTES: "DRAM bytes read",
}


def _mapping_row(mapping: Mapping, machine: Machine, capacity: Capacity) -> dict[str, Any]:
    height, width = mapping.tile_rows, min(mapping.tile_x, mapping.shape.OX)
    return {
        "name": mapping.shape.name,
        "objective_value": mapping.score,
        "evaluated": mapping.evaluated,
        "optimal": mapping.optimal,
        "seconds": mapping.seconds,
        "estimated_cycles": mapping.cycles,
        "estimated_energy_pj": mapping.energy_pj or None,
        "dram_bytes": mapping.read_bytes + mapping.write_bytes,
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


def mapping_summary(
    network: Network, machine: Machine, objective: Objective, *, explain: bool = False
) -> dict[str, Any]:
    """How each layer of a network lies on a machine, and where its tensors lie in memory.

    Buffers are [bytes of one tile, bytes in all]. `optimal` says that no candidate of the stated space
    (mapper/search.py) has a lower estimate; where the cycle model preferred another it is false.

    Args:
        network: what to map.
        machine: where.
        objective: of the mappings.
        explain: whether each layer has its loop nest, in lines of text.

    Raises:
        MappingError: the network or a layer can't run on this machine; names the layer.
    """
    from ..mapper.explain import explain_mapping
    from ..mapper.lower import lower_plan
    from ..mapper.memory import peak_bytes, tensor_lives
    from .core_mapping import choose_plan

    plan = choose_plan(network, machine, objective)
    program = lower_plan(network, machine, plan)
    layers = [_mapping_row(mapping, machine, plan.capacity) for mapping in plan.mappings]
    if explain:
        for row, mapping in zip(layers, plan.mappings, strict=True):
            row["nest"] = explain_mapping(mapping, machine, plan.capacity)
    lives = tensor_lives(plan.graph, program.regions)
    names = program.layers
    constants = {"commands", "weights", "params"}
    return {
        "kind": "map",
        "network": network.name,
        "machine": machine.name,
        "objective": objective.value,
        "objective_unit": _UNITS[objective],
        "judged": plan.judged,
        "slots": {
            "activations": plan.capacity.act_slots,
            "weights": plan.capacity.weight_slots,
            "outputs": plan.capacity.out_slots,
        },
        "commands": len(program.commands),
        "memory_bytes": len(program.image),
        "constant_bytes": sum(region.size for region in program.regions if region.kind in constants),
        "peak_tensor_bytes": peak_bytes(lives),
        "program_digest": program.digest(),
        "layers": layers,
        "memory": [
            {
                "name": life.name,
                "kind": life.kind,
                "address": life.address,
                "bytes": life.size,
                "from": names[life.first] if life.first >= 0 else None,
                "to": names[life.last] if life.last < len(names) else None,
            }
            for life in lives
        ],
    }
