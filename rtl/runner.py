"""Whole-core runs in Verilator: a program and an input in, output bytes, cycles and traffic out."""

from __future__ import annotations

import functools
import json
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..mapper.isa import Opcode
from ..mapper.machine import PROGRAM_BASE, Machine, MemoryTiming
from ..mapper.program import Program, Region
from .cocotb_run import run_cocotb
from .memory_image import read_dump, write_image
from .port_memory import PortMemory, answering
from .toolchain import Progress, ToolError, run_tool, silent
from .verilate import Main, verilate

__all__ = [
    "RtlCase",
    "RtlError",
    "RtlRun",
    "bench_parameters",
    "bench_sources",
    "build_bench",
    "case_image",
    "case_text",
    "cycle_limit",
    "region_words",
    "run_cases",
    "run_cpp",
    "timing_inputs",
]

BENCH_FOLDER = Path(__file__).parent / "bench"
MEMORY_BYTES = 16 << 20
"""What the bench's memory holds at least; more is another build."""
POISON = 0xA5
"""Lies in the output region before the run, so that a byte that is never written shows."""
FAULT_LINES = 5
_DRAM_CYCLES = 200
"""Core cycles that an access to a DRAM part takes at most, on average, refreshes included."""


class RtlError(RuntimeError):
    """A run that went wrong in the RTL: never done, a bad command, AXI4 rules broken, miscounted."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RtlCase:
    """One run: a program, its input tensor and the memory's timing.

    `x` is int8 (C, H, W) or (N,), as the program's `input_shape`; None leaves the image as it is.
    """

    program: Program
    x: NDArray[Any] | None = None
    memory: MemoryTiming | None = None
    """The machine's when None."""
    port: PortMemory | None = None
    """Answers the port instead of `memory`'s latencies; all cases of one call have one, or none has."""
    base: int = PROGRAM_BASE
    """Address of the program in memory, a multiple of 4096."""

    @property
    def timing(self) -> MemoryTiming:
        """The memory's timing of this run."""
        return self.program.machine.memory if self.memory is None else self.memory


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RtlRun:
    """What the RTL did with a case; cycles from the start write to the last B handshake."""

    output_bytes: bytes
    """The program's output region after the run."""
    output: NDArray[np.int8] | None
    """The output tensor; None if the case had no input."""
    cycles: int
    read_bytes: int
    write_bytes: int
    status: int
    """The STATUS register: bit 0 busy, bit 1 done, bit 2 error, bits 31…8 the bad command."""
    seconds: float
    """Wall time of the simulation itself."""
    faults: tuple[str, ...] = ()
    """What went wrong, one line each; only with `check=False` ever not empty."""


def timing_inputs(memory: MemoryTiming) -> dict[str, int]:
    """Values of the bench's timing ports for a memory.

    All that the bench knows of a memory are these ports and the text of axi_memory.sv; another
    memory model brings its own of both.
    """
    return {
        "read_latency": memory.read_latency,
        "write_latency": memory.write_latency,
        "beat_interval": memory.beat_interval,
        "stall_rate": memory.stall_rate,
        "stall_mask": memory.stall_mask,
        "seed": memory.seed,
    }


def bench_sources(verilog: str, *, external: bool = False) -> dict[str, str]:
    """File name → text of the core and everything around it, `main.cpp` included.

    Args:
        external: the memory's answers come from outside.
    """
    names = ["axi_memory.sv", "bench.sv", "bench.vlt", "main.cpp"]
    if external:
        names.append("port_memory.cpp")
    texts = {name: (BENCH_FOLDER / name).read_text(encoding="utf-8") for name in names}
    return {"bitwright_core.v": verilog, **texts}


def bench_parameters(data_bits: int, memory_bytes: int = MEMORY_BYTES) -> dict[str, int]:
    """Parameters of the module `bench`: the bus width, and a memory of a power of two of words."""
    rounded = max(MEMORY_BYTES, 1 << (memory_bytes - 1).bit_length())
    return {"DATA_BITS": data_bits, "MEM_WORDS": rounded // (data_bits // 8)}


def build_bench(
    verilog: str,
    data_bits: int,
    *,
    main: Main = Main.COCOTB,
    memory_bytes: int = MEMORY_BYTES,
    external: bool = False,
    trace: bool = False,
    progress: Progress = silent,
) -> Path:
    """Path of the executable bench around a `bitwright_core`; cached by content.

    Args:
        verilog: text with the module `bitwright_core`.
        data_bits: width of its AXI4 port.
        memory_bytes: size of the memory, rounded up to a power of two.
        external: the memory's answers come from a `PortMemory`, see `answering`.

    Raises:
        ToolError: a tool is missing or rejects the Verilog.
    """
    sources = bench_sources(verilog, external=external)
    del sources["main.cpp" if main is Main.COCOTB else "bench.vlt"]
    return verilate(
        sources,
        top="bench",
        main=main,
        parameters=bench_parameters(data_bits, memory_bytes) | ({"EXTERNAL": 1} if external else {}),
        trace=trace,
        progress=progress,
    )


@functools.lru_cache(maxsize=16)
def _verilog_of(machine: Machine) -> str:
    from .verilog import core_verilog

    return core_verilog(machine)


def run_cases(
    machine: Machine,
    cases: Sequence[RtlCase],
    *,
    trace: Path | None = None,
    check: bool = True,
    progress: Progress = silent,
) -> list[RtlRun]:
    """One run a case, in their order, in one cocotb process on one build of the machine's RTL.

    Args:
        trace: VCD file to write, of the first case; that case runs on a build of its own.
        check: raise on the first case that went wrong; otherwise `RtlRun.faults` tells.

    Raises:
        ValueError: a case belongs to another machine.
        RtlError: see `check`; names the case.
        ToolError: the build or the simulation broke down.
    """
    if not cases:
        return []
    _require_machine(machine, cases)
    runs: list[RtlRun] = []
    rest = list(cases)
    if trace is not None:
        runs += _run_cocotb(machine, rest[:1], trace, progress)
        rest = rest[1:]
    if rest:
        runs += _run_cocotb(machine, rest, None, progress)
    if check:
        for index, run in enumerate(runs):
            _require_faultless(run, f"case {index} ({cases[index].program.network})")
    return runs


def run_cpp(
    machine: Machine,
    case: RtlCase,
    *,
    verilog: str | None = None,
    check: bool = True,
    progress: Progress = silent,
) -> RtlRun:
    """The run of one case on a bench without Python; the fastest way, see `run_cases`.

    Args:
        verilog: what runs in the place of the machine's RTL, as its netlist.
    """
    _require_machine(machine, [case])
    executable = build_bench(
        _verilog_of(machine) if verilog is None else verilog,
        machine.bus.data_bits,
        main=Main.CPP,
        memory_bytes=_memory_bytes([case]),
        external=case.port is not None,
        progress=progress,
    )
    with tempfile.TemporaryDirectory(prefix="bitwright-") as name:
        folder = Path(name)
        write_image(folder / "image_0.hex", case_image(case), case.base, machine.bus_bytes)
        (folder / "case.txt").write_text(case_text(case), encoding="utf-8")
        progress(f"running {case.program.network} in Verilator")
        started = time.perf_counter()
        with _answered(folder, [case]):
            log = run_tool([str(executable), "case.txt"], cwd=folder, check=False)
        seconds = time.perf_counter() - started
        values = dict(line.split() for line in log.splitlines() if len(line.split()) == 2)
        figures = ("cycles", "port_cycles", "read_bytes", "write_bytes", "status")
        flags = ("protocol_error", "timed_out", "quiet")
        if any(key not in values for key in (*figures, *flags)):
            raise ToolError("the simulation broke down", command=[str(executable)], log=log)
        result: dict[str, Any] = {key: int(values[key]) for key in (*figures, *flags)}
        result["seconds"] = seconds
        run = _make_run(case, result, folder / "dump_0.hex", log)
    if check:
        _require_faultless(run, case.program.network)
    return run


def case_text(case: RtlCase) -> str:
    """The case as bench/main.cpp reads it: a line `name value` for each setting."""
    first, last = region_words(case)
    settings: dict[str, int] = {
        "base": case.base,
        "commands": len(case.program.commands),
        "bus_bytes": case.program.machine.bus_bytes,
        "identity": _identity(case.program.machine),
        "cycle_limit": cycle_limit(case.program, case.timing),
        "dump_first": first,
        "dump_last": last,
        **timing_inputs(case.timing),
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())


def cycle_limit(program: Program, memory: MemoryTiming) -> int:
    """Cycles after which a run is taken for hung: twice what all commands take one after the other."""
    machine = program.machine
    beat = memory.beat_interval + memory.stall_mask + 1
    if memory.dram:
        beat += _DRAM_CYCLES
    burst = memory.read_latency + memory.write_latency + 4 * beat + 16
    cycles = 1000 + len(program.commands) * (4 * beat + burst + 16)
    steps, tile = 1, 1
    for command in program.commands:
        if command.opcode in (Opcode.LOAD, Opcode.FILL, Opcode.STORE):
            beats = command["run"] // machine.bus_bytes + 2
            bursts = math.ceil(beats / machine.bus.max_burst) + beats * machine.bus_bytes // 4096 + 1
            row = beats * beat + bursts * burst + 16
            cycles += command["planes"] * command["rows"] * row
        elif command.opcode is Opcode.GEOMETRY:
            steps = command["fy"] * command["fx"] * command["sets"]
            tile = max(1, command["tile_x"] * command["tile_y"])
        elif command.opcode is Opcode.EXEC:
            pixels = command["region_x"] * command["region_y"]
            drain = max(1, command["cols"]) * machine.row_groups
            tiles = pixels // tile + command["region_x"] + command["region_y"] + 1
            cycles += command["groups"] * (pixels * (steps + drain) + 64 * tiles)
    return 2 * cycles


def case_image(case: RtlCase) -> NDArray[np.uint8]:
    """The memory image with the input tensor in place and the output region poisoned."""
    program = case.program
    image = program.image.copy()
    output = program.output
    image[output.address : output.address + output.size] = POISON
    if case.x is not None:
        from ..mapper.tensors import pack_input

        data = np.frombuffer(pack_input(program, case.x), dtype=np.uint8)
        image[program.input.address : program.input.address + len(data)] = data
    return image


def region_words(case: RtlCase) -> tuple[int, int]:
    """First and last bus word of the output region."""
    region: Region = case.program.output
    bus_bytes = case.program.machine.bus_bytes
    start = case.base + region.address
    return start // bus_bytes, (start + max(region.size, 1) - 1) // bus_bytes


# ---- inside -------------------------------------------------------------------------------------


def _identity(machine: Machine) -> int:
    return int(machine.digest()[:8], 16)


def _require_machine(machine: Machine, cases: Sequence[RtlCase]) -> None:
    for index, case in enumerate(cases):
        if (case.port is None) != (not case.timing.dram):
            raise ValueError(
                f"case {index}: memory.dram is {case.timing.dram!r}: a part needs a `port` that answers for "
                "it, another memory has none"
            )
        if (case.port is None) != (cases[0].port is None):
            raise ValueError(f"case {index}: all cases of one call have a `port`, or none has")
        if case.program.machine.digest() != machine.digest():
            raise ValueError(
                f"case {index}: the program is for machine {case.program.machine.name!r} "
                f"({case.program.machine.digest()}), not {machine.name!r} ({machine.digest()}): "
                "map the network for the machine that runs it"
            )


def _require_faultless(run: RtlRun, name: str) -> None:
    if run.faults:
        raise RtlError(f"{name}: " + "; ".join(run.faults))


@contextmanager
def _answered(folder: Path, cases: Sequence[RtlCase]) -> Iterator[None]:
    """Answers the cases' ports, if they have any, while the bench runs."""
    ports = {number: case.port for number, case in enumerate(cases) if case.port is not None}
    if not ports:
        yield
        return
    with answering(folder, ports):
        yield


def _memory_bytes(cases: Sequence[RtlCase]) -> int:
    return max(case.base + len(case.program.image) for case in cases)


def _run_cocotb(
    machine: Machine, cases: Sequence[RtlCase], trace: Path | None, progress: Progress
) -> list[RtlRun]:
    executable = build_bench(
        _verilog_of(machine),
        machine.bus.data_bits,
        memory_bytes=_memory_bytes(cases),
        external=cases[0].port is not None,
        trace=trace is not None,
        progress=progress,
    )
    entries = []
    for index, case in enumerate(cases):
        first, last = region_words(case)
        entries.append(
            {
                "image": index,
                "base": case.base,
                "commands": len(case.program.commands),
                "bus_bytes": machine.bus_bytes,
                "inputs": timing_inputs(case.timing),
                "dump_first": first,
                "dump_last": last,
                "cycle_limit": cycle_limit(case.program, case.timing),
            }
        )
    with tempfile.TemporaryDirectory(prefix="bitwright-") as name:
        folder = Path(name)
        for index, case in enumerate(cases):
            image = case_image(case)
            write_image(folder / f"image_{index}.hex", image, case.base, machine.bus_bytes)
        (folder / "cases.json").write_text(json.dumps(entries), encoding="utf-8")
        progress(f"running {len(cases)} {'case' if len(cases) == 1 else 'cases'} in Verilator")
        with _answered(folder, cases):
            log = run_cocotb(
                executable,
                top="bench",
                module="bitwright.rtl.bench.driver",
                folder=folder,
                tests=1,
                trace=trace,
            )
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        if len(results) != len(cases):
            raise ToolError(f"{len(results)} results for {len(cases)} cases", log=log)
        runs = []
        for index, (case, result) in enumerate(zip(cases, results, strict=True)):
            if result["identity"] != _identity(machine):
                raise ToolError(
                    f"the core says that it is of machine {result['identity']:08x}, "
                    f"not {_identity(machine):08x}"
                )
            runs.append(_make_run(case, result, folder / f"dump_{index}.hex", log))
    return runs


def _make_run(case: RtlCase, result: dict[str, Any], dump: Path, log: str) -> RtlRun:
    program = case.program
    offset = (case.base + program.output.address) % program.machine.bus_bytes
    data = read_dump(dump, program.machine.bus_bytes)
    data = data[offset : offset + program.output.size]
    status = int(result["status"])
    faults = []
    if result["timed_out"]:
        limit = cycle_limit(program, case.timing)
        faults.append(f"not done after {limit} cycles")
    if status & 4:
        faults.append(f"the core rejects command {status >> 8}")
    if result["protocol_error"]:
        said = [line for line in log.splitlines() if "axi_memory:" in line][:FAULT_LINES]
        faults.append("AXI4 rules broken: " + " | ".join(line.strip() for line in said))
    if not result["quiet"]:
        faults.append("the memory port moved after done")
    if not result["timed_out"] and result["cycles"] != result["port_cycles"]:
        faults.append(f"the core counts {result['cycles']} cycles, its ports show {result['port_cycles']}")
    output = None
    if case.x is not None:
        from ..mapper.tensors import unpack_output

        output = unpack_output(program, data)
    return RtlRun(
        output_bytes=data,
        output=output,
        cycles=int(result["cycles"]),
        read_bytes=int(result["read_bytes"]),
        write_bytes=int(result["write_bytes"]),
        status=status,
        seconds=float(result["seconds"]),
        faults=tuple(faults),
    )
