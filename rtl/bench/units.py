"""Benches of single units: their ports made flat, one Verilator build for several, cocotb tests on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amaranth.hdl import Elaboratable, Module
from amaranth.lib.wiring import Component

from ..cocotb_run import run_cocotb
from ..toolchain import Progress, check_name, silent
from ..verilate import Main, verilate
from ..verilog import component_verilog, flat_ports

__all__ = ["SEED_FILE", "TOP", "build_units", "run_unit_tests", "units_verilog"]

TOP = "units"
SEED_FILE = "seed.txt"
"""In the working folder of a run: the seed of the module's stimulus."""


class _Bench(Elaboratable):
    """Units side by side, unconnected: each is driven through ports of the top."""

    def __init__(self, units: Mapping[str, Component]) -> None:
        self.units = units

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, unit in self.units.items():
            m.submodules[name] = unit
        return m


def units_verilog(units: Mapping[str, Component]) -> tuple[str, list[str]]:
    """Verilog of a top module `units` that holds all `units`, and the names of its ports.

    Ports are `clk`, `rst` and `<unit>_<port>`, the parts of a port's path joined by '_'.

    Raises:
        ValueError: no unit, or a name that is no plain identifier.
    """
    if not units:
        raise ValueError("a bench needs at least one unit")
    ports: dict[str, Any] = {}
    for name, unit in units.items():
        ports |= flat_ports(unit, check_name(name, "a unit's name"))
    return component_verilog(_Bench(units), TOP, ports), ["clk", "rst", *ports]


def build_units(units: Mapping[str, Component], *, cells: str = "", progress: Progress = silent) -> Path:
    """Path of a cocotb executable that simulates all `units` at once; cached by content.

    One build for several units, as the simulator's own files are most of what is compiled.

    Args:
        units: name → unit; the name is the prefix of its ports.
        cells: Verilog of modules that the units instantiate by name.

    Raises:
        ToolError: a tool is missing or rejects the Verilog.
        ValueError: see `units_verilog`.
    """
    text, ports = units_verilog(units)
    lines = ["`verilator_config", *(f'public_flat_rw -module "{TOP}" -var "{port}"' for port in ports)]
    sources = {"units.v": text + cells, "units.vlt": "\n".join(lines) + "\n"}
    return verilate(sources, top=TOP, main=Main.COCOTB, progress=progress)


def run_unit_tests(
    executable: Path,
    *,
    module: str,
    tests: int,
    folder: Path,
    seed: int = 1,
    python_path: Sequence[str] = (),
) -> str:
    """The log of a cocotb test module that passed on an executable of `build_units`.

    Args:
        module: the test module; importable from `python_path`.
        tests: tests that must have run and passed.
        folder: working directory of the run.
        seed: for the module's stimulus, in `seed.txt`.

    Raises:
        ToolError: fewer tests ran, or one failed.
    """
    (folder / SEED_FILE).write_text(f"{seed}\n", encoding="utf-8")
    return run_cocotb(executable, top=TOP, module=module, folder=folder, tests=tests, python_path=python_path)
