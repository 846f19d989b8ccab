"""Synthesis results: what a machine's core, or a unit of it, takes of an FPGA, as JSON values."""

from __future__ import annotations

from typing import Any

from ..mapper.machine import Machine
from ..rtl.cost import leaf_form, synthesise, synthesise_unit
from ..rtl.fpga import find_target
from ..rtl.toolchain import Progress, silent

__all__ = ["UNITS", "machine_cost"]

UNITS = ("core", "pe", "load", "execute", "array", "post", "store")
"""What a cost can be asked of: the whole core, or one unit by itself."""

UNIT_CLOCK_MHZ = 200.0
"""What a unit by itself is placed for: more than it reaches in the core, so that the placer tries."""


def machine_cost(
    machine: Machine,
    target: str,
    *,
    unit: str = "core",
    pnr: bool | None = False,
    route: bool = True,
    seeds: int = 1,
    tries: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The `cost` result of a machine on a target, out of context.

    Args:
        unit: one of `UNITS`. A unit other than the core is always asked for in all of Yosys's ways.
        pnr: place and route too; None: where there is a placer for the target.
        route: without it the core is placed alone; its clock is nextpnr's estimate then.
        seeds: placer seeds 1 to this; the clock is their median.
        tries: ask Yosys in all of the target's ways and keep the smallest.

    Raises:
        ValueError: an unknown target or unit, no seed, or no place-and-route for the target.
        ToolError: a tool is missing or failed. A part that is too small is a result.
    """
    if unit not in UNITS:
        raise ValueError(f"unit must be one of {', '.join(UNITS)}, not {unit!r}")
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, not {seeds}")
    if pnr is None:
        pnr = find_target(target).placer is not None
    numbers = range(1, seeds + 1)
    if unit == "core":
        cost = synthesise(
            machine, target, pnr=pnr, route=route, seeds=numbers, tries=tries, progress=progress
        )
    else:
        from ..rtl.verilog import leaf_verilog

        cost = synthesise_unit(
            _unit(machine, unit, leaf_form(target)),
            target,
            cells=leaf_verilog(machine, leaf=leaf_form(target)) if unit in ("pe", "array") else "",
            pnr=pnr,
            seeds=numbers,
            clock_mhz=UNIT_CLOCK_MHZ,
            progress=progress,
        )
    own = {
        "kind": "cost",
        "machine": machine.name,
        "machine_digest": machine.digest(),
        "unit": unit,
        "pes": list(machine.array.pes),
    }
    return {**own, **cost.to_dict()}


def _unit(machine: Machine, name: str, leaf: str) -> Any:
    from ..rtl.array import ProcessingArray
    from ..rtl.execute import Execute
    from ..rtl.load import Load
    from ..rtl.pe import ProcessingElement
    from ..rtl.post import Post
    from ..rtl.store import Store

    if name == "pe":
        return ProcessingElement(machine=machine, leaf=leaf)
    units: dict[str, Any] = {
        "load": Load,
        "execute": Execute,
        "array": ProcessingArray,
        "post": Post,
        "store": Store,
    }
    return units[name](machine=machine)
