"""What a simulated run came to: cycles, stalls, bytes, accesses, energy, and how it was got."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .energy_table import EnergyRow, energy_title

__all__ = ["RESULT_VERSION", "LayerResult", "Moved", "Result", "load_result"]

RESULT_VERSION = 1
"""Of the JSON form; a loader refuses any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Bytes read from and written to one memory."""

    read: int
    write: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerResult:
    """One core layer's share of a run."""

    name: str
    cycles: int
    """From the last B of the layer before to the last B of this one."""
    busy_cycles: int
    """Of these, cycles in which the array issued."""
    stall_cycles: Mapping[str, int]
    """The others, by cause; with `busy_cycles` they sum to `cycles`."""
    macs: int
    """Useful multiply-accumulates."""
    utilization: float
    """macs / (cycles · rows · cols · lanes)."""
    read_bytes: int
    write_bytes: int
    energy_pj: float
    fidelity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One program on one machine and memory. `energy_pj` is event energy at the machine's node."""

    network: str
    machine: str
    program_digest: str
    fidelity: str
    """`rtl-exact`: the model is held equal to the RTL, cycle for cycle."""
    cycles: int
    """From the start register's write to the last write response."""
    read_bytes: int
    write_bytes: int
    utilization: float
    layers: tuple[LayerResult, ...]
    traffic: Mapping[str, Moved]
    """Bytes at the port by operand: commands, weights, params, inputs, activations, outputs."""
    accesses: Mapping[str, Moved]
    """Bytes at the memories on chip: activation, weight, param, output, accumulators."""
    stalls: Mapping[str, int]
    """Cycles in which the array did not issue, by cause; with `busy_cycles` they sum to `cycles`."""
    busy_cycles: int
    energy_pj: Mapping[str, float]
    """By component."""
    energy_rows: Mapping[str, EnergyRow]
    """The price of one event of each component, with status and source."""
    leakage: EnergyRow
    """What the memories' bits leak in a cycle; paid for time, no part of the event energy."""
    provenance: Mapping[str, Any]
    dram_time: EnergyRow | None = None
    """What a DRAM part's refreshes and standby cost over the run, apart from event energy."""
    timeline: Mapping[str, NDArray[np.int64]] = field(default_factory=dict, compare=False)
    """For units load, exec, store: (commands, 3) of command number, first and last cycle."""
    bandwidth: Mapping[str, NDArray[np.float64]] = field(default_factory=dict, compare=False)
    """Bytes at the port by operand in equal stretches of the run; see `bandwidth.spread`."""

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates of all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def total_energy_pj(self) -> float:
        """Event energy of all components."""
        return float(sum(self.energy_pj.values()))

    @property
    def leakage_pj(self) -> float:
        """What the memories' bits leak over the run."""
        return self.cycles * self.leakage.value_pj

    @property
    def node_nm(self) -> int:
        """Process node of the energies."""
        assert self.leakage.node_nm is not None  # only DRAM parts have none
        return self.leakage.node_nm

    def to_dict(self, *, timeline: bool = False) -> dict[str, Any]:
        """The result as JSON values; the time line is long and comes on demand."""
        values: dict[str, Any] = {
            "kind": "result",
            "version": RESULT_VERSION,
            "network": self.network,
            "machine": self.machine,
            "program_digest": self.program_digest,
            "fidelity": self.fidelity,
            "total": {
                "cycles": self.cycles,
                "energy_pj": self.total_energy_pj,
                "leakage_pj": self.leakage_pj,
                "dram_read_bytes": self.read_bytes,
                "dram_write_bytes": self.write_bytes,
                "utilization": self.utilization,
                "macs": self.macs,
                "busy_cycles": self.busy_cycles,
                "stall_cycles": dict(self.stalls),
            },
            "layers": [
                dataclasses.asdict(layer) | {"stall_cycles": dict(layer.stall_cycles)}
                for layer in self.layers
            ],
            "traffic": {name: dataclasses.asdict(moved) for name, moved in self.traffic.items()},
            "accesses": {name: dataclasses.asdict(moved) for name, moved in self.accesses.items()},
            "energy_title": energy_title(self.node_nm),
            "energy_pj": dict(self.energy_pj),
            "energy_rows": [
                {"component": name, **dataclasses.asdict(row)} for name, row in self.energy_rows.items()
            ],
            "leakage": dataclasses.asdict(self.leakage),
            "provenance": dict(self.provenance),
        }
        if self.dram_time is not None:
            values["dram_time"] = dataclasses.asdict(self.dram_time)
            values["total"]["dram_time_pj"] = self.dram_time.value_pj
        if timeline:
            values["timeline"] = {unit: spans.tolist() for unit, spans in self.timeline.items()}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Result:
        """The result that `to_dict` made these values of.

        Raises:
            ValueError: no result of this version, or one that lacks a key.
        """
        if not isinstance(values, Mapping) or values.get("kind") != "result":
            raise ValueError("not a simulation result: its kind must be 'result'")
        if values.get("version") != RESULT_VERSION:
            raise ValueError(
                f"a result's version must be {RESULT_VERSION}, not {values.get('version')!r}: "
                "simulate again with this version"
            )
        try:
            total = values["total"]
            return cls(
                network=values["network"],
                machine=values["machine"],
                program_digest=values["program_digest"],
                fidelity=values["fidelity"],
                cycles=total["cycles"],
                read_bytes=total["dram_read_bytes"],
                write_bytes=total["dram_write_bytes"],
                utilization=total["utilization"],
                layers=tuple(LayerResult(**layer) for layer in values["layers"]),
                traffic={name: Moved(**moved) for name, moved in values["traffic"].items()},
                accesses={name: Moved(**moved) for name, moved in values["accesses"].items()},
                stalls=total["stall_cycles"],
                busy_cycles=total["busy_cycles"],
                energy_pj=values["energy_pj"],
                energy_rows={
                    row["component"]: EnergyRow(
                        **{name: value for name, value in row.items() if name != "component"}
                    )
                    for row in values["energy_rows"]
                },
                leakage=EnergyRow(**values["leakage"]),
                provenance=values["provenance"],
                dram_time=EnergyRow(**values["dram_time"]) if "dram_time" in values else None,
                timeline={
                    unit: np.array(spans, np.int64).reshape(-1, 3)
                    for unit, spans in values.get("timeline", {}).items()
                },
            )
        except (KeyError, TypeError, AttributeError) as fault:
            raise ValueError(f"a simulation result is incomplete or damaged: {fault}") from None

    def save(self, path: str | Path, *, timeline: bool = False) -> None:
        """Nothing; writes the JSON form beside `path`, then renames, so no half file is ever seen.

        Raises:
            OSError: the folder can't be written.
        """
        path = Path(path)
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(self.to_dict(timeline=timeline), file, indent=1)
                file.write("\n")
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(draft, 0o666 & ~mask)
            os.replace(draft, path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise


def load_result(path: str | Path) -> Result:
    """The result that `Result.save` wrote to `path`.

    Raises:
        ValueError: naming the file and what is wrong with it.
        OSError: the file can't be read.
    """
    try:
        return Result.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except ValueError as fault:  # JSON and Unicode errors are some
        raise ValueError(f"{path}: {fault}") from None
