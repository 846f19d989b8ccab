"""`simulate` on systolic arrays: every layer in closed form or stepped, one after the other."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..mapper.hierarchy import AbstractMachine
from ..models.importers.topology import model_topology
from .modelled import layer_row, modelled_result

if TYPE_CHECKING:
    from ..models.importers.model import Model

__all__ = ["simulate_systolic"]


def simulate_systolic(
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
        moved = {
            level.name: {
                _OPERANDS[name]: float(count.reads + count.writes)
                for name, count in getattr(layer, what).items()
            }
            for level, what in ((buffer, "buffer_bytes"), (dram, "dram_bytes"))
        }
        rate = float(array.rows * array.cols)
        row = layer_row(
            layer.layer,
            cycles=layer.cycles,
            peak_macs=rate * layer.cycles,
            peak_rate=rate,
            products=float(layer.macs),
            macs=layer.macs,
            energy=energy,
            moved=moved,
            dram_read=reads["dram_bytes"],
            dram_write=writes["dram_bytes"],
        )
        ports = {name: dataclasses.asdict(count) for name, count in layer.ports.items()}
        layers.append(row | {"folds": layer.folds, "ports": ports})
    first = run.layers[0]
    return modelled_result(model, machine, layers) | {
        "compat": compat,
        "method": first.method,
        "dram_rule": first.dram_rule,
        "dataflow": machine.dataflow,
    }


_MEMORIES = ("buffer_bytes", "dram_bytes")
_OPERANDS = {"ifmap": "I", "filter": "W", "ofmap": "O"}
