"""Runs of a cocotb test module on an executable that Verilator made."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from .toolchain import ToolError, run_tool

__all__ = ["run_cocotb"]


def run_cocotb(
    executable: Path,
    *,
    top: str,
    module: str,
    folder: Path,
    tests: int,
    trace: Path | None = None,
    python_path: Sequence[str] = (),
) -> str:
    """The log of a cocotb run that passed.

    Args:
        executable: of `verilate(…, main=Main.COCOTB)`.
        module: the test module; must be importable, from `python_path` too.
        folder: working directory of the run.
        tests: tests that must have run: an exit code of 0 says nothing.
        trace: VCD file to write; needs a build with `trace`.

    Raises:
        ToolError: fewer tests ran, or one failed.
    """
    from cocotb_tools import config
    from find_libpython import find_libpython

    results = folder / "results.xml"
    environment = dict(os.environ)
    for name in ("MAKEFLAGS", "COCOTB_TEST_FILTER", "COCOTB_TESTCASE", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    libpython = environment.get("LIBPYTHON_LOC") or find_libpython()
    if not libpython:
        raise ToolError(
            "libpython is missing: use a Python that has a shared library "
            "(Debian, Ubuntu: apt install libpython3-dev)"
        )
    environment |= {
        "PATH": os.pathsep.join([environment.get("PATH", ""), str(config.libs_dir)]),
        "PYTHONPATH": os.pathsep.join([*python_path, *(p for p in sys.path if p)]),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{libpython};{config.pygpi_entry_point()}",
        "COCOTB_TOPLEVEL": top,
        "COCOTB_TEST_MODULES": module,
        "COCOTB_RESULTS_FILE": str(results),
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_ANSI_OUTPUT": "0",
        "TOPLEVEL_LANG": "verilog",
    }
    command = [str(executable)]
    if trace is not None:
        command += ["--trace", "--trace-file", str(folder / "trace.vcd")]
    log = run_tool(command, cwd=folder, environment=environment, check=False)
    ran, failed = _count_tests(results)
    if failed or ran != tests:
        raise ToolError(f"cocotb ran {ran} of {tests} tests, {failed} failed", command=command, log=log)
    if trace is not None:
        shutil.move(folder / "trace.vcd", trace)
    return log


def _count_tests(results: Path) -> tuple[int, int]:
    """Tests that ran, and those that failed; (0, 0) without a readable results file."""
    try:
        root = ElementTree.parse(results).getroot()
    except (OSError, ElementTree.ParseError):
        return 0, 0
    cases = root.findall(".//testcase")
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = [c for c in cases if c.find("skipped") is not None]
    return len(cases) - len(skipped), len(failed)
