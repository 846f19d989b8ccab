"""Verilog of a machine's core."""

from __future__ import annotations

from importlib import resources
from typing import Any

from amaranth.back import verilog

from ..mapper.machine import Machine
from .core import Core
from .pe import PeInt8

__all__ = ["TOP", "core_verilog"]

TOP = "bitwright_core"
LEAVES = ("behavioural", "ecp5")


def core_verilog(machine: Machine, *, leaf: str = "behavioural") -> str:
    """The core as Verilog text, top module `bitwright_core`.

    Ports are `clk`, `rst`, `done`, the AXI4-Lite registers `ctrl_*` and the AXI4 master `m_axi_*`.

    Args:
        leaf: vendor form of the leaf cells, where the machine uses any: `behavioural` (simulation) or
            `ecp5`.

    Raises:
        ValueError: an unknown leaf form.
    """
    if leaf not in LEAVES:
        raise ValueError(f"leaf must be one of {', '.join(LEAVES)}, not {leaf!r}")
    core = Core(machine=machine)
    ports = {"done": core.done}
    for prefix, bundle in (("ctrl", core.ctrl), ("m_axi", core.read), ("m_axi", core.write)):
        ports |= _flat(bundle, prefix)
    pe = PeInt8(machine=machine)
    text = _convert(core, TOP, ports) + _convert(pe, PeInt8.CELL, _flat(pe))
    if machine.array.multiplier == "dsp":
        text += (resources.files("bitwright.rtl.vendor") / f"{leaf}.v").read_text()
    return text


def _flat(bundle: Any, *prefix: str) -> dict[str, Any]:
    """Signals of an interface by their Verilog names."""
    return {
        "_".join((*prefix, *map(str, path))): signal for path, _, signal in bundle.signature.flatten(bundle)
    }


def _convert(component: Any, name: str, ports: dict[str, Any]) -> str:
    named = {port: (signal, None) for port, signal in ports.items()}
    text: str = verilog.convert(component, name=name, ports=named, emit_src=False)
    return text
