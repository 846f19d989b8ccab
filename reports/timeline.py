"""When each unit worked: spans short enough for a chart, and traces for a trace viewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["merge_spans", "trace_events"]

Span = tuple[int, int, int]
"""Start cycle, end cycle, layer number."""


def merge_spans(spans: Sequence[Span], gap: int) -> list[Span]:
    """The spans in order, neighbours of one layer joined when fewer than `gap` cycles lie between.

    Raises:
        ValueError: `gap` is negative.
    """
    if gap < 0:
        raise ValueError(f"gap must be 0 or more cycles, not {gap}")
    merged: list[Span] = []
    for start, end, layer in sorted(spans):
        if merged and merged[-1][2] == layer and start - merged[-1][1] <= gap:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]), layer)
        else:
            merged.append((start, end, layer))
    return merged


def trace_events(
    units: Mapping[str, Sequence[tuple[int, int, int, str]]],
    layers: Sequence[str],
    clock_hz: float,
    moved: Sequence[tuple[float, Mapping[str, float]]] = (),
) -> dict[str, Any]:
    """The run in the Trace Event format, for Perfetto or chrome://tracing.

    Args:
        units: for each unit its spans (start cycle, end cycle, layer number, command's name).
        layers: names of the layers.
        clock_hz: cycles a second; the trace's times are microseconds.
        moved: from a cycle on, bytes a cycle by operand, drawn as a counter.
    """
    events: list[dict[str, Any]] = []
    scale = 1e6 / clock_hz
    for thread, (unit, spans) in enumerate(units.items()):
        name = {"name": "thread_name", "ph": "M", "pid": 0, "tid": thread, "args": {"name": unit}}
        events.append(name)
        for start, end, layer, command in spans:
            events.append(
                {
                    "name": command,
                    "cat": layers[layer],
                    "ph": "X",
                    "pid": 0,
                    "tid": thread,
                    "ts": start * scale,
                    "dur": max(0, end - start) * scale,
                    "args": {"layer": layers[layer], "start_cycle": start, "end_cycle": end},
                }
            )
    for cycle, rates in moved:
        events.append(
            {"name": "DRAM bytes a cycle", "ph": "C", "pid": 0, "ts": cycle * scale, "args": dict(rates)}
        )
    return {"traceEvents": events, "displayTimeUnit": "ns"}
