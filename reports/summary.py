"""Networks, mappings and machines in figures: what `info`, `map` and `machines` show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..mapper.machine import Machine, load_machine, preset_names

if TYPE_CHECKING:
    from ..models.network import Network

__all__ = ["machine_list", "network_summary"]


def network_summary(network: Network) -> dict[str, Any]:
    """Multiply-accumulates, parameters, formats and bytes of a network, layer by layer.

    Bytes are those of the weights' payload and of int32 biases, as they would lie in memory.
    """
    layers = []
    for layer in network.layers:
        record = network.weights.get(layer.name)
        size = 0
        if record is not None:
            size = len(record.payload) + (0 if record.bias is None else record.bias.nbytes)
        tensor = network.tensors[layer.output]
        layers.append(
            {
                "name": layer.name,
                "kind": layer.kind,
                "macs": network.layer_macs(layer.name),
                "parameters": network.layer_parameters(layer.name),
                "bytes": size,
                "weights": None if record is None else record.fmt.name,
                "output": {"shape": list(tensor.shape), "format": tensor.fmt.name},
            }
        )
    source = network.tensors[network.input]
    return {
        "kind": "info",
        "network": network.name,
        "input": {"shape": list(source.shape), "format": source.fmt.name},
        "macs": sum(layer["macs"] for layer in layers),
        "parameters": sum(layer["parameters"] for layer in layers),
        "bytes": sum(layer["bytes"] for layer in layers),
        "layers": layers,
    }


def _products(machine: Machine) -> int:
    return machine.array.rows * machine.array.cols * machine.array.lanes(8, 8)


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
                "lanes_int8": machine.array.lanes(8, 8),
                "macs_per_cycle": _products(machine),
                "buffer_bytes": machine.array.cols * machine.buffers.activation_bytes
                + machine.buffers.weight_bytes
                + machine.buffers.output_bytes,
                "bus_bits": machine.bus.data_bits,
                "clock_hz": machine.clock_hz,
            }
        )
    return {"kind": "machines", "machines": rows}
