"""From a network to the program that a machine runs: the mapper's front door."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..models.network import Network
from .check import check_program
from .emit import Emitter
from .graph import Graph, lower_graph
from .image import pack_params, pack_weights
from .isa import COMMAND_BYTES
from .layers import CoreLayer, check_accumulators, check_served
from .machine import Machine
from .mapping import Capacity, Mapping, MappingError, capacity_of
from .memory import align, place_regions
from .program import Program, encode_commands
from .search import choose_mapping
from .transfer import LayerPlan

__all__ = ["NetworkPlan", "map_network", "plan_network"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """The mapping of every core layer, and what their tiles may take of the buffers."""

    graph: Graph
    mappings: tuple[Mapping, ...]
    capacity: Capacity

    @property
    def layers(self) -> tuple[CoreLayer, ...]:
        """The core layers in order."""
        return self.graph.layers


def plan_network(network: Network, machine: Machine) -> NetworkPlan:
    """The core layers of `network` with the mapping chosen for each.

    Buffers are split in two halves, so that the next tile loads meanwhile; where a layer can't run
    within a half, the network runs with that buffer as a whole.

    Raises:
        MappingError: the network or a layer can't run on this machine; names the layer.
    """
    graph = lower_graph(network)
    for layer in graph.layers:
        check_served(layer, machine)
        check_accumulators(layer, machine)
    slots = {"activations": 2, "weights": 2, "outputs": 2}
    while True:
        capacity = capacity_of(machine, slots)
        try:
            mappings = tuple(choose_mapping(layer.shape, machine, capacity) for layer in graph.layers)
        except MappingError as fault:
            if fault.buffer is None or slots[fault.buffer] == 1:
                raise
            slots[fault.buffer] = 1
            continue
        return NetworkPlan(graph=graph, mappings=mappings, capacity=capacity)


def map_network(network: Network, machine: Machine) -> Program:
    """The checked program that runs `network` on `machine`.

    Raises:
        MappingError: the network or a layer can't run on this machine; names the layer.
        ProgramError: never for a network that maps, unless the mapper is at fault.
    """
    plan = plan_network(network, machine)
    constants: dict[str, tuple[str, NDArray[np.uint8]]] = {}
    for layer, mapping in zip(plan.layers, plan.mappings, strict=True):
        name = layer.shape.name
        constants[f"{name}.weights"] = ("weights", pack_weights(layer, mapping, machine))
        constants[f"{name}.params"] = ("params", pack_params(layer, machine))

    # Addresses come after the commands are counted: the emitter names regions by their index.
    _, where = place_regions(0, constants, plan.graph)
    plans = [
        LayerPlan(
            layer=layer,
            mapping=mapping,
            weights=1 + 2 * index,
            params=2 + 2 * index,
            sources=tuple(where[number] for number in layer.sources),
            result=where[layer.result],
        )
        for index, (layer, mapping) in enumerate(zip(plan.layers, plan.mappings, strict=True))
    ]
    drafts = Emitter(machine, plan.capacity, plans).emit()
    regions, _ = place_regions(len(drafts) * COMMAND_BYTES, constants, plan.graph)
    commands = tuple(draft.place(regions) for draft in drafts)
    image = np.zeros(max(align(r.address + r.size) for r in regions), np.uint8)
    names = tuple(layer.shape.name for layer in plan.layers)
    layer_of = tuple(draft.layer for draft in drafts)
    for index, command in enumerate(commands):
        try:
            data = encode_commands([command])
        except ValueError as fault:
            raise MappingError(
                f"layer {names[layer_of[index]]}: it passes a field of the command set ({fault}): "
                "use a smaller layer"
            ) from None
        image[index * COMMAND_BYTES : (index + 1) * COMMAND_BYTES] = np.frombuffer(data, np.uint8)
    for region in regions:
        if region.kind in ("weights", "params"):
            image[region.address : region.address + region.size] = constants[region.name][1]
    image.flags.writeable = False
    source, result = network.tensors[network.input], network.tensors[network.output]
    program = Program(
        machine=machine,
        network=network.name,
        commands=commands,
        layer_of=layer_of,
        layers=names,
        macs=tuple(layer.shape.macs for layer in plan.layers),
        regions=tuple(regions),
        input=regions[where[0][0]],
        output=regions[where[plan.graph.output][0]],
        input_shape=source.shape,
        output_shape=result.shape,
        input_format=source.fmt.name,
        output_format=result.fmt.name,
        image=image,
    )
    check_program(program)
    return program
