"""Simulated runs as results: the cycle model's figures with what a report needs beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..mapper.machine import Machine
from ..mapper.objective import Objective
from ..mapper.program import Program
from ..models.network import Network
from ..sim.cycle import simulate
from ..sim.result import Result
from .core_mapping import map_for
from .files import write_json
from .roofline import roofline
from .timeline import Span, merge_spans, trace_events

__all__ = ["simulate_network", "simulate_program", "write_trace"]

SPANS = 1500
"""A chart's resolution: gaps shorter than this part of the run are not drawn."""


def _spans(program: Program, result: Result, unit: str) -> list[Span]:
    """(first cycle, cycle after the last, layer number) of a unit's commands."""
    return [
        (int(start), int(end) + 1, program.layer_of[int(number)])
        for number, start, end in result.timeline[unit]
    ]


def simulate_program(program: Program) -> tuple[Result, dict[str, Any]]:
    """The cycle model's result, and the same as JSON values with clock, node and drawn time line.

    Raises:
        ProgramError: the program never ends.
        ValueError: the energy table has no row for the machine's node or DRAM part.
    """
    machine = program.machine
    result = simulate(program)
    gap = result.cycles // SPANS
    spans: dict[str, Sequence[Span]] = {
        unit: merge_spans(_spans(program, result, unit), gap) for unit in result.timeline
    }
    extra = {
        "machine_digest": machine.digest(),
        "clock_hz": machine.clock_hz,
        "node_nm": machine.node_nm,
        "spans": spans,
        "bandwidth": _bandwidth(result),
        "roofline": roofline(result, machine),
    }
    return result, {**result.to_dict(), **extra}


def _bandwidth(result: Result) -> dict[str, Any]:
    """Bytes at the port by operand in stretches of the run, and the cycles at which these begin and end."""
    count = max((len(parts) for parts in result.bandwidth.values()), default=1)
    return {
        "edges": [round(result.cycles * place / count, 1) for place in range(count + 1)],
        "bytes": {name: [round(part, 1) for part in parts] for name, parts in result.bandwidth.items()},
    }


def simulate_network(
    network: Network, machine: Machine, objective: Objective = Objective.LATENCY
) -> tuple[Program, Result, dict[str, Any]]:
    """A network's program, its simulated run, and the run as JSON values.

    Raises:
        MappingError: the network or a layer can't run on this machine; names the layer.
        ValueError: see `simulate_program`.
    """
    program = map_for(network, machine, objective)
    result, value = simulate_program(program)
    return program, result, {**value, "objective": objective.value}


def write_trace(path: str | Path, runs: Sequence[tuple[Program, Result]]) -> Path:
    """The path written: every command's span in the Trace Event format, for Perfetto.

    Args:
        path: of the file.
        runs: programs on one machine that follow each other, at least one, with what they came to.

    Raises:
        OSError: the file can't be written.
    """
    units: dict[str, list[tuple[int, int, int, str]]] = {}
    layers: list[str] = []
    moved: list[tuple[float, dict[str, float]]] = []
    cycles = 0
    for program, result in runs:
        for unit, rows in result.timeline.items():
            units.setdefault(unit.upper(), []).extend(
                (
                    cycles + int(start),
                    cycles + int(end) + 1,
                    len(layers) + program.layer_of[int(number)],
                    program.commands[int(number)].opcode.name,
                )
                for number, start, end in rows
            )
        length = result.cycles / max(1, *(len(parts) for parts in result.bandwidth.values()))
        for number, parts in enumerate(zip(*result.bandwidth.values(), strict=True)):
            rates = (float(part) / length for part in parts)
            moved.append((cycles + number * length, dict(zip(result.bandwidth, rates, strict=True))))
        layers += program.layers
        cycles += result.cycles
    return write_json(path, trace_events(units, layers, runs[0][0].machine.clock_hz, moved))
