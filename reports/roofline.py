"""The roofline of a run: what each layer reaches, beside what bus and array allow it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..mapper.machine import Machine
from ..sim.result import Result

__all__ = ["roofline"]


def roofline(result: Result, machine: Machine) -> dict[str, Any]:
    """Each layer's intensity and rate, and the roofs over them, as JSON values.

    Reads and writes have a channel each, so a layer's bytes are those of the busier one.

    Returns:
        `bytes_per_cycle` that a channel moves at most; `layers`: `name`, `macs_per_byte` (None: it moves
        none), `macs_per_cycle` and `peak_macs_per_cycle`, the array's with the layer's PE kind. Layers
        without products have no place in it.
    Source: Williams, Waterman, Patterson 2009, "Roofline: an insightful visual performance model".
    """
    layers: list[Mapping[str, Any]] = []
    for layer in result.layers:
        if not layer.macs or not layer.cycles:
            continue
        moved = max(layer.read_bytes, layer.write_bytes)
        layers.append(
            {
                "name": layer.name,
                "macs_per_byte": layer.macs / moved if moved else None,
                "macs_per_cycle": layer.macs / layer.cycles,
                "peak_macs_per_cycle": layer.macs / layer.cycles / layer.utilization,
            }
        )
    return {"bytes_per_cycle": machine.bus_bytes / machine.memory.beat_interval, "layers": layers}
