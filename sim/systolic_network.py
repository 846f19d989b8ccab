"""All layers of a topology on one systolic array, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..models.topology import Topology, TopologyLayer
from .systolic import OPERANDS, Accesses, Compat, SystolicArray, SystolicResult, closed_form
from .systolic_run import Buffers, run_stepped

__all__ = ["SystolicNetwork", "run_topology"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystolicNetwork:
    """What a topology's layers come to, each on its own; totals are their sums."""

    network: str
    layers: tuple[SystolicResult, ...]
    fidelity: str = "modelled"

    @property
    def cycles(self) -> int:
        """Of all layers."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def macs(self) -> int:
        """Of all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def utilization(self) -> float:
        """PEs that multiply, of all, on average over all layers' cycles."""
        array = self.layers[0].array
        return self.macs / (max(1, self.cycles) * array.rows * array.cols)

    def total(self, what: str) -> Mapping[str, Accesses]:
        """Sums over the layers of `ports`, `buffer_bytes` or `dram_bytes`, by operand."""
        counts = [getattr(layer, what) for layer in self.layers]
        return {
            operand: Accesses(
                reads=sum(count[operand].reads for count in counts),
                writes=sum(count[operand].writes for count in counts),
            )
            for operand in OPERANDS
        }

    def to_dict(self) -> dict[str, Any]:
        """The results as JSON values."""
        return {
            "kind": "systolic",
            "network": self.network,
            "fidelity": self.fidelity,
            "total": {
                "cycles": self.cycles,
                "macs": self.macs,
                "utilization": self.utilization,
                **{
                    what: {operand: asdict(count) for operand, count in self.total(what).items()}
                    for what in ("ports", "buffer_bytes", "dram_bytes")
                },
            },
            "layers": [layer.to_dict() for layer in self.layers],
        }


def run_topology(
    topology: Topology,
    array: SystolicArray,
    compat: Compat = Compat.NONE,
    *,
    stepped: bool = False,
    buffers: Buffers | None = None,
    trace: Path | None = None,
) -> SystolicNetwork:
    """Every layer in closed form, or stepped: where asked for, or where buffers or a trace need it.

    Layers of equal sizes are run once, unless there is a trace, which gets a folder a layer: `layer0`, ….

    Raises:
        ValueError: as `closed_form` and `run_stepped`.
        OSError: the trace can't be written.
    """
    known: dict[TopologyLayer, SystolicResult] = {}
    results = []
    for number, layer in enumerate(topology.layers):
        sizes = replace(layer, name="")
        if sizes not in known or trace is not None:
            if stepped or buffers is not None or trace is not None:
                folder = None if trace is None else trace / f"layer{number}"
                known[sizes] = run_stepped(layer, array, compat, buffers=buffers, trace=folder)
            else:
                known[sizes] = closed_form(layer, array, compat)
        results.append(replace(known[sizes], layer=layer.name))
    return SystolicNetwork(network=topology.name, layers=tuple(results))
