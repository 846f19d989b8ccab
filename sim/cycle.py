"""The cycle model of core machines: a program's run priced in cycles, bytes and event energy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..mapper.isa import Opcode, Unit
from ..mapper.machine import MemoryTiming
from ..mapper.pe import PeKind
from ..mapper.program import Program
from .bandwidth import spread
from .dram_energy import dram_byte, dram_time
from .dram_part import load_dram_part
from .energy import COMPONENTS, PRODUCTS, leakage, prices
from .energy_table import load_energy_table
from .events import MEMORIES, OPERANDS, Events, count_events
from .result import LayerResult, Moved, Result
from .stalls import CAUSES, layer_ends, layer_stalls
from .timing import Timing, time_program, units_of

__all__ = ["simulate"]

FIDELITY = "rtl-exact"
STRETCHES = 200
"""Of a run, for its bandwidth over time."""


def _version() -> str:
    try:
        return version("bitwright")
    except PackageNotFoundError:
        return "unknown"


def _by_layer(program: Program, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of commands, (n, …), summed for each layer."""
    sums = np.zeros((len(program.layers), *counts.shape[1:]), np.int64)
    np.add.at(sums, np.asarray(program.layer_of, np.int64), counts)
    return sums


def _moved(names: tuple[str, ...], read: NDArray[np.int64], write: NDArray[np.int64]) -> dict[str, Moved]:
    return {
        name: Moved(read=int(read[:, i].sum()), write=int(write[:, i].sum())) for i, name in enumerate(names)
    }


def _products_a_cycle(program: Program, timing: Timing, events: Events) -> NDArray[np.int64]:
    """Products that the array could form in a cycle with each layer's PE kind, (layers,)."""
    array = program.machine.array
    per_cycle = np.ones(len(program.layers), np.int64)
    for index in np.flatnonzero(timing.fields["opcode"] == Opcode.EXEC):
        lanes = array.lanes(PeKind(int(events.pe[index])))
        per_cycle[program.layer_of[index]] = array.rows * array.cols * lanes
    return per_cycle


def _component_events(program: Program, events: Events) -> NDArray[np.int64]:
    """How many events of each of energy.COMPONENTS each layer has, (layers, components)."""
    chip = events.chip_read + events.chip_write
    dram = events.dram_read.sum(axis=1) + events.dram_write.sum(axis=1)
    counted = (events.pe == PeKind.TERNARY) | (events.pe == PeKind.BINARY)
    columns = {
        # Where products are counted, not added up, only the count meets an int32 adder.
        "add": np.where(counted, events.updates, events.products),
        "post": events.rescales,
        "compare": events.comparisons,
        "dram": dram,
        "accumulators": chip[:, MEMORIES.index("accumulators")],
    }
    for name, kinds in PRODUCTS.items():
        columns[name] = np.where(np.isin(events.pe, kinds), events.products, 0)
    for name in ("activation", "weight", "param", "output"):
        columns[f"{name}_buffer"] = chip[:, MEMORIES.index(name)]
    return _by_layer(program, np.stack([columns[name] for name in COMPONENTS], axis=1))


def _timeline(timing: Timing) -> dict[str, NDArray[np.int64]]:
    units = units_of(timing.fields["opcode"])
    spans = {}
    for unit in Unit:
        mine = np.flatnonzero(units == unit)
        spans[unit.name.lower()] = np.stack([mine, timing.start[mine], timing.end[mine]], axis=1)
    return spans


def _bandwidth(timing: Timing, events: Events) -> dict[str, NDArray[np.float64]]:
    moved = events.dram_read + events.dram_write
    start = np.maximum(np.maximum(timing.start, timing.dispatch), 0)  # END starts nowhere
    parts = spread(start, np.maximum(timing.end, start) + 1, moved, timing.cycles, STRETCHES)
    return {name: parts[:, i] for i, name in enumerate(OPERANDS)}


def simulate(
    program: Program,
    memory: MemoryTiming | None = None,
    *,
    energy: Mapping[str, float] | None = None,
) -> Result:
    """The run of `program` on its machine: cycles, stalls, bytes and event energy, in all and by layer.

    Args:
        program: from `mapper.lower.map_network`.
        memory: how the memory at the port answers; the machine's own without.
        energy: rows of the energy table to replace, item: picojoules; before the machine's own.

    Raises:
        ProgramError: the program never ends, or has a command that the core does not define.
        ValueError: an energy row is not known, or none fits the machine.
    """
    machine = program.machine
    memory = machine.memory if memory is None else memory
    table = load_energy_table({**dict(machine.energy), **(energy or {})}, node_nm=machine.node_nm)
    rows = prices(machine, table)
    timing = time_program(program, memory)
    standby = None
    events = count_events(program, timing)
    if timing.dram is not None:
        moved = int(events.dram_read.sum() + events.dram_write.sum())
        part = load_dram_part(memory.dram)
        rows["dram"] = dram_byte(part, table, timing.dram, moved)
        clocks = -(-timing.cycles * memory.dram_cycles // memory.core_cycles)
        standby = dram_time(part, table, timing.dram, clocks)

    per_cycle = _products_a_cycle(program, timing, events)
    cycles = np.diff(layer_ends(program, timing), prepend=0)
    stalls, busy = layer_stalls(program, timing)
    reads = _by_layer(program, events.dram_read.sum(axis=1))
    writes = _by_layer(program, events.dram_write.sum(axis=1))
    counts = _component_events(program, events)
    picojoules = counts * np.array([rows[name].value_pj for name in COMPONENTS])
    layers = tuple(
        LayerResult(
            name=name,
            cycles=int(cycles[i]),
            busy_cycles=int(busy[i]),
            stall_cycles=_named(stalls[i]),
            macs=program.macs[i],
            utilization=program.macs[i] / int(cycles[i] * per_cycle[i]) if cycles[i] else 0.0,
            read_bytes=int(reads[i]),
            write_bytes=int(writes[i]),
            energy_pj=float(picojoules[i].sum()),
            fidelity=FIDELITY,
        )
        for i, name in enumerate(program.layers)
    )
    return Result(
        network=program.network,
        machine=machine.name,
        program_digest=program.digest(),
        fidelity=FIDELITY,
        cycles=timing.cycles,
        read_bytes=timing.read_beats * machine.bus_bytes,
        write_bytes=int(events.dram_write.sum()),
        utilization=sum(program.macs) / int((cycles * per_cycle).sum()),
        layers=layers,
        traffic=_moved(OPERANDS, events.dram_read, events.dram_write),
        accesses=_moved(MEMORIES, events.chip_read, events.chip_write),
        stalls=_named(stalls.sum(axis=0)),
        busy_cycles=int(busy.sum()),
        energy_pj={name: float(picojoules[:, i].sum()) for i, name in enumerate(COMPONENTS)},
        energy_rows=rows,
        leakage=leakage(machine, table),
        dram_time=standby,
        provenance=_provenance(program, memory),
        timeline=_timeline(timing),
        bandwidth=_bandwidth(timing, events),
    )


def _named(counts: NDArray[np.int64]) -> dict[str, int]:
    """Cycles by cause, those of 0 left out."""
    return {cause: int(n) for cause, n in zip(CAUSES, counts, strict=True) if n}


def _provenance(program: Program, memory: MemoryTiming) -> dict[str, Any]:
    """What it takes to get the same numbers again."""
    return {
        "version": _version(),
        "program_digest": program.digest(),
        "machine_digest": program.machine.digest(),
        "memory": dataclasses.asdict(memory),
    }
