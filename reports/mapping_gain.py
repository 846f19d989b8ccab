"""What mappings chosen for latency gain over those of least DRAM bytes, as the demo shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..mapper.machine import Machine
from ..mapper.objective import Objective
from ..models.network import Network
from .core_mapping import map_for
from .page import Section, Table, Text
from .units import amount, energy, percent, size

__all__ = ["GAIN_HEADS", "gain_rows", "gain_section", "mapping_gains"]

Row = Mapping[str, Any]

GAIN_HEADS = (
    "network", "core", "cycles, least bytes", "cycles, for latency", "gain", "utilization", "",
    "DRAM bytes", "", "event energy", "",
)  # fmt: skip

_ABOUT = (
    "Each network mapped twice: tiles, loop order and column mode for the least DRAM bytes, and for the "
    "least cycles (the search's estimate, then the cycle model among the best few). Both run in the cycle "
    "model; the programs that the rest of this page shows are those for latency. Pairs of columns: least "
    "bytes, latency."
)


def mapping_gains(cases: Sequence[tuple[Network, Machine]]) -> dict[str, Any]:
    """For each network and machine the cycle model's figures by both objectives.

    Raises:
        MappingError: a network can't run on its machine.
    """
    from ..sim.cycle import simulate

    rows = []
    for network, machine in cases:
        figures = {}
        for objective in (Objective.BYTES, Objective.LATENCY):
            result = simulate(map_for(network, machine, objective))
            figures[objective.value] = {
                "cycles": result.cycles,
                "utilization": result.utilization,
                "dram_bytes": result.read_bytes + result.write_bytes,
                "energy_pj": sum(result.energy_pj.values()),
            }
        rows.append({"network": network.name, "machine": machine.name, **figures})
    return {"about": _ABOUT, "rows": rows}


def gain_rows(gains: Row) -> list[tuple[str, ...]]:
    """The rows as cells of `GAIN_HEADS`."""
    cells: list[tuple[str, ...]] = []
    for row in gains["rows"]:
        before, after = row["bytes"], row["latency"]
        cells.append(
            (
                row["network"],
                row["machine"],
                amount(before["cycles"]),
                amount(after["cycles"]),
                percent(1 - after["cycles"] / before["cycles"]),
                percent(before["utilization"]),
                percent(after["utilization"]),
                size(before["dram_bytes"]),
                size(after["dram_bytes"]),
                energy(before["energy_pj"]),
                energy(after["energy_pj"]),
            )
        )
    return cells


def gain_section(gains: Row) -> Section:
    """The table with what it compares."""
    table = Table(heads=GAIN_HEADS, rows=gain_rows(gains), text=frozenset({0, 1}))
    return Section(title="What the search for mappings gains", blocks=[Text(text=gains["about"]), table])
