"""From a network to the program that a machine runs: the mapper's front door."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..models.network import Network
from .check import check_program
from .emit import Emitter
from .image import pack_params, pack_weights
from .isa import COMMAND_BYTES
from .judge import Judge, plans_of
from .machine import Machine
from .mapping import MappingError
from .memory import align, place_regions
from .objective import EventPrices, Objective
from .plan import NetworkPlan, plan_network
from .program import Program, encode_commands

__all__ = ["lower_plan", "map_network"]


def map_network(
    network: Network,
    machine: Machine,
    *,
    objective: Objective = Objective.LATENCY,
    prices: EventPrices | None = None,
    judge: Judge | None = None,
) -> Program:
    """The checked program that runs `network` on `machine`; arguments as `plan_network` takes them.

    Raises:
        MappingError: the network or a layer can't run on this machine; names the layer.
        ValueError: an objective with energy, and no prices.
        ProgramError: never for a network that maps, unless the mapper is at fault.
    """
    return lower_plan(network, machine, plan_network(network, machine, objective, prices, judge))


def lower_plan(network: Network, machine: Machine, plan: NetworkPlan) -> Program:
    """The checked program of a network whose mappings are chosen.

    Raises:
        MappingError: a command passes a field of the command set; names the layer.
        ProgramError: the mapper is at fault.
    """
    constants: dict[str, tuple[str, NDArray[np.uint8]]] = {}
    for layer, mapping in zip(plan.layers, plan.mappings, strict=True):
        name = layer.shape.name
        constants[f"{name}.weights"] = ("weights", pack_weights(layer, mapping, machine))
        constants[f"{name}.params"] = ("params", pack_params(layer, machine))

    # Addresses come after the commands are counted: the emitter names regions by their index.
    _, where = place_regions(0, constants, plan.graph)
    plans = plans_of(plan.graph, plan.mappings, where)
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
