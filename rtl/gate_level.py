"""Gate-level simulation: the netlist that Yosys wrote, its cells simulated, in the place of the RTL."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from amaranth.lib.wiring import Component

from ..mapper.machine import Machine
from .bench.units import TOP as UNITS_TOP
from .bench.units import units_verilog
from .cost import leaf_form
from .fpga import Target, find_target
from .toolchain import Progress, ToolError, cache_folder, check_name, package_version, silent
from .verilate import Main, verilate
from .verilog import TOP, core_verilog, ecp5_blocks
from .yosys import keep_text, run_yosys, synthesis_script

__all__ = ["SIMULATED", "build_gate_units", "core_netlist", "gate_netlist"]

SIMULATED: Mapping[str, tuple[str, ...]] = {
    "synth_ecp5": ("ecp5/common_sim.vh", "ecp5/ccu2c_sim.vh"),
    "synth_ice40": ("ice40/cells_sim.v",),
}
"""Yosys pass → the files of its own share folder that model the family's cells."""


def gate_netlist(verilog: str, top: str, target: str, *, progress: Progress = silent) -> str:
    """Verilog of `top` in the target's cells as Yosys wrote it, and of the cells; kept by content.

    The cells' models are Yosys's own. Of ECP5's block RAM and multiplier Yosys has none: theirs are the twins
    in `rtl/vendor/ecp5_cells.v`. The ports are those of `top`, so it runs on the same bench.

    Raises:
        ValueError: an unknown target, or one whose cells can't be simulated.
        ToolError: Yosys is missing or failed.
    """
    part = find_target(target)
    check_name(top, "top")
    models = _cell_models(part)
    script = synthesis_script(part, part.recipes[0], top) + "write_verilog -noattr netlist.v\n"
    question = [verilog, script, package_version("pyosys")]
    key = hashlib.sha256(json.dumps(question).encode()).hexdigest()[:32]
    kept = cache_folder("netlist") / f"{key}.v"
    try:
        return kept.read_text(encoding="utf-8") + models
    except OSError:
        pass
    with tempfile.TemporaryDirectory(prefix="bitwright-") as name:
        folder = Path(name)
        (folder / "design.v").write_text(verilog, encoding="utf-8")
        progress(f"synthesising {top} for {target} with Yosys")
        log = run_yosys(script, folder)
        netlist = folder / "netlist.v"
        if not netlist.is_file():
            raise ToolError("Yosys left no netlist", log=log)
        keep_text(kept, netlist.read_bytes())
    return kept.read_text(encoding="utf-8") + models


def core_netlist(machine: Machine, target: str, *, progress: Progress = silent) -> str:
    """The machine's whole core as `gate_netlist`, top module `verilog.TOP`."""
    return gate_netlist(core_verilog(machine, leaf=leaf_form(target)), TOP, target, progress=progress)


def build_gate_units(
    units: Mapping[str, Component], target: str, *, cells: str = "", progress: Progress = silent
) -> Path:
    """Path of an executable as `bench.units.build_units` makes it, of the units' netlist on a target.

    Args:
        cells: Verilog of modules that the units instantiate by name, in the target's `leaf_form`.

    Raises:
        ToolError: a tool is missing or rejects the Verilog.
        ValueError: see `gate_netlist` and `units_verilog`.
    """
    text, ports = units_verilog(units)
    netlist = gate_netlist(text + cells, UNITS_TOP, target, progress=progress)
    lines = ["`verilator_config", *(f'public_flat_rw -module "{UNITS_TOP}" -var "{port}"' for port in ports)]
    sources = {"units.v": netlist, "units.vlt": "\n".join(lines) + "\n"}
    return verilate(sources, top=UNITS_TOP, main=Main.COCOTB, progress=progress)


def _cell_models(part: Target) -> str:
    """Verilog of the family's cells."""
    family = part.synthesis.split()[0]
    if family not in SIMULATED:
        known = ", ".join(SIMULATED)
        raise ValueError(f"gate-level runs are there for targets of {known}, not for {part.name}")
    spec = importlib.util.find_spec("pyosys")
    if spec is None or not spec.submodule_search_locations:
        raise ToolError("pyosys is missing: pip install pyosys")
    share = Path(next(iter(spec.submodule_search_locations))) / "share"
    text = "".join((share / name).read_text(encoding="utf-8") for name in SIMULATED[family])
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("`include"))
    if family == "synth_ecp5":
        text += ecp5_blocks()
    return text
