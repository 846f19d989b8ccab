"""Synthesis results: what a machine's core takes of an FPGA, as JSON values."""

from __future__ import annotations

from typing import Any

from ..mapper.machine import Machine
from ..rtl.cost import synthesise
from ..rtl.toolchain import Progress, silent

__all__ = ["machine_cost"]


def machine_cost(
    machine: Machine, target: str, *, pnr: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """The `cost` result of a machine on a target, out of context; `pnr` places and routes too.

    Raises:
        ValueError: an unknown target, or no place-and-route for it.
        ToolError: a tool is missing or failed. A part that is too small is a result.
    """
    cost = synthesise(machine, target, pnr=pnr, progress=progress)
    own = {"kind": "cost", "machine": machine.name, "machine_digest": machine.digest()}
    return {**own, **cost.to_dict()}
