"""Place and route with nextpnr, out of context: the clock that a netlist reaches on a part, a placer seed."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .fpga import Placer
from .toolchain import (
    Progress,
    ToolError,
    cache_folder,
    one_at_a_time,
    package_version,
    prepare_wasm,
    run_tool,
    silent,
)
from .yosys import keep_text

__all__ = ["Placement", "ResourceUse", "SlowestPath", "place"]

SCHEMA = 2
"""Raised when what is kept, or how nextpnr is asked, changes."""

_RUN_NEXTPNR = """
import importlib, sys
module = importlib.import_module(sys.argv[1])
sys.exit(getattr(module, "run_" + sys.argv[1].removeprefix("yowasp_"))(sys.argv[2:]))
"""
_NO_ROOM = re.compile(r"^ERROR: .*(place|placement|\bbels?\b|\bBELs?\b).*$", re.MULTILINE)
_CLOCK = re.compile(r"^Info: Max frequency for clock\s+'([^']*)':\s*([\d.]+) MHz", re.MULTILINE)
_USED = re.compile(r"^Info:\s+(\w+):\s*(\d+)/\s*(\d+)\s+\d+%", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceUse:
    """How much of one resource a design takes; None is what the tool or the part doesn't tell."""

    used: int | None
    available: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowestPath:
    """The path that limits the clock."""

    source: str
    sink: str
    logic_ns: float
    routing_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One seed's result."""

    seed: int
    fmax_mhz: float | None
    """None: it doesn't fit, has no clock, or was not routed."""
    placed_mhz: float | None
    """nextpnr's own estimate between placing and routing, the wires' delays predicted; None as above."""
    complaint: str
    """Why it doesn't fit, or empty."""
    resources: Mapping[str, ResourceUse]
    """nextpnr's counts, which add what packing and routing need; empty if it doesn't fit."""
    slowest: SlowestPath | None


def place(
    netlist: bytes,
    placer: Placer,
    *,
    seed: int,
    clock_mhz: float,
    route: bool = True,
    progress: Progress = silent,
) -> Placement:
    """What nextpnr makes of a netlist; kept by content.

    Args:
        netlist: Yosys's JSON, gzip; its only ports are clocks.
        seed: of the placer.
        clock_mhz: the clock that is asked for.
        route: route too; without it the clock is the estimate alone, in two thirds of the time.

    Raises:
        ToolError: nextpnr is missing or failed. That a part is too small is a result, not an error.
    """
    package = placer.package
    command = [*placer.options, "--json", "netlist.json", "--freq", f"{clock_mhz:g}", "--seed", str(seed)]
    command += ["--timing-allow-fail", "--report", "report.json"]
    if not route:
        command.append("--no-route")
    question = [SCHEMA, hashlib.sha256(netlist).hexdigest(), command, package, package_version(package)]
    key = hashlib.sha256(json.dumps(question).encode()).hexdigest()[:32]
    kept = cache_folder("place") / f"{key}.json"
    known = _read(kept)
    if known is not None:
        return known
    with one_at_a_time(kept):
        return _read(kept) or _run(netlist, placer, command, seed, kept, progress)


def _run(
    netlist: bytes, placer: Placer, command: list[str], seed: int, kept: Path, progress: Progress
) -> Placement:
    """What nextpnr makes of it, put where it is kept."""
    with tempfile.TemporaryDirectory(prefix="bitwright-") as name:
        folder = Path(name)
        # Relative names: the tool is WebAssembly and sees another /tmp.
        (folder / "netlist.json").write_bytes(gzip.decompress(netlist))
        what = "placing" if "--no-route" in command else "placing and routing"
        progress(f"{what} on {placer.part} with nextpnr, seed {seed}")
        start = [sys.executable, "-c", _RUN_NEXTPNR, placer.package.replace("-", "_")]
        prepare_wasm(placer.package, [*start, "--version"])
        try:
            log = run_tool([*start, *command], cwd=folder)
        except ToolError as fault:
            complaint = complaint_of(fault.log)
            if not complaint:
                raise
            made = Placement(
                seed=seed, fmax_mhz=None, placed_mhz=None, complaint=complaint, resources={}, slowest=None
            )
        else:
            made = read_report(folder / "report.json", placer, seed, log)
    keep_text(kept, json.dumps(dataclasses.asdict(made)).encode())
    return made


def complaint_of(log: str) -> str:
    """By what a design doesn't fit, from nextpnr's log; empty if it failed otherwise."""
    refused = _NO_ROOM.search(log)
    if refused is None:
        return ""
    over = [f"{used} of {have} {cell}" for cell, used, have in _USED.findall(log) if int(used) > int(have)]
    return ", ".join(over) or refused.group().removeprefix("ERROR: ")


def estimate_of(log: str) -> float | None:
    """MHz of the slowest clock as nextpnr tells it first, before routing; None if the log has none."""
    first: dict[str, float] = {}
    for name, mhz in _CLOCK.findall(log):
        first.setdefault(name, float(mhz))
    return min(first.values(), default=None)


def read_report(path: Path, placer: Placer, seed: int, log: str) -> Placement:
    """Nextpnr's report as a placement.

    Raises:
        ToolError: it can't be read.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        clocks = {name: float(clock["achieved"]) for name, clock in report["fmax"].items()}
        use = report["utilization"]
        resources = {
            name: ResourceUse(used=int(use[cell]["used"]), available=int(use[cell]["available"]))
            if cell in use
            else ResourceUse(used=None, available=None)
            for name, cell in placer.cells.items()
        }
        slowest = _slowest(report["critical_paths"], clocks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as fault:
        raise ToolError(f"nextpnr left no readable report: {fault!r}", log=log) from None
    return Placement(
        seed=seed,
        fmax_mhz=min(clocks.values(), default=None),
        placed_mhz=estimate_of(log),
        complaint="",
        resources=resources,
        slowest=slowest,
    )


def _slowest(paths: list[dict[str, Any]], clocks: Mapping[str, float]) -> SlowestPath | None:
    if not clocks:
        return None
    edge = f"posedge {min(clocks, key=lambda name: clocks[name])}"
    for path in paths:
        if path["from"] == edge == path["to"]:
            steps = path["path"]
            routing = sum(step["delay"] for step in steps if step["type"] == "routing")
            return SlowestPath(
                source=steps[0]["from"]["cell"],
                sink=steps[-1]["to"]["cell"],
                logic_ns=round(sum(step["delay"] for step in steps) - routing, 2),
                routing_ns=round(routing, 2),
            )
    return None


def _read(path: Path) -> Placement | None:
    """The placement kept at `path`; None if there is none, or none that can be read."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        table["resources"] = {name: ResourceUse(**use) for name, use in table["resources"].items()}
        if table["slowest"] is not None:
            table["slowest"] = SlowestPath(**table["slowest"])
        return Placement(**table)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
