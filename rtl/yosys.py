"""Yosys runs: a job of its own for each, cell counts, and which part of the design a cell belongs to."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .fpga import Recipe, Target
from .toolchain import (
    Progress,
    ToolError,
    cache_folder,
    one_at_a_time,
    package_version,
    run_tool,
    silent,
)

__all__ = ["ATTRIBUTION", "Synthesis", "keep_text", "run_yosys", "synthesis_script", "synthesise_counts"]

SCHEMA = 2
"""Raised when what is kept, or how it is counted, changes."""
NOTES = frozenset({"$scopeinfo"})
"""Cells in a netlist that are no hardware."""
ATTRIBUTION = (
    "The design is flattened, so that logic is shared across units; a cell counts for the unit in its name, "
    "which Yosys takes from the net at the cell. At the units' borders this is a convention; "
    "the sums are exact."
)

# A Yosys error ends the process that called it: each job has one of its own.
_RUN_YOSYS = """
import sys
from pyosys import libyosys as ys
design = ys.Design()
ys.run_pass("script " + sys.argv[1], design)
"""
# What Yosys appends to a net's name for the cell at it.
_CELL_SUFFIX = re.compile(
    r"_(LUT\d|CCU2C|PFUMX|L6MUX21|TRELLIS_|DP16KD|PDPW16KD|MULT18X18D|SB_|FD[RSCP]E|CARRY\d|MUXF\d|"
    r"SRL|RAM\d|RAMB\d|DSP48|INV).*$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """What Yosys made of a design."""

    recipe: str
    cells: Mapping[str, int]
    """Cell type → count, as Yosys names them."""
    modules: Mapping[str, Mapping[str, int]]
    """Unit of the top, and part of a unit after a '.', → cell type → count; a unit's own count includes its
    parts'."""
    netlist: bytes
    """Yosys's JSON without its ports, all but the clocks', as nextpnr takes it; gzip."""


def run_yosys(script: str, folder: Path) -> str:
    """The log of a Yosys script that ran in `folder`.

    Raises:
        ToolError: pyosys is missing, or the script failed.
    """
    package_version("pyosys")
    (folder / "job.ys").write_text(script, encoding="ascii")
    return run_tool([sys.executable, "-c", _RUN_YOSYS, "job.ys"], cwd=folder)


def synthesis_script(part: Target, recipe: Recipe, top: str) -> str:
    """Yosys commands from `design.v` to cells of the part."""
    return f"read_verilog design.v\n{recipe.before}\n{part.synthesis} {recipe.options} -top {top}\n"


def synthesise_counts(
    verilog: str, top: str, part: Target, recipe: Recipe, *, progress: Progress = silent
) -> Synthesis:
    """Cells of a design on a part, asked for in one way; kept by content.

    Raises:
        ToolError: Yosys is missing or failed, or left a count that can't be read.
    """
    script = synthesis_script(part, recipe, top) + (
        "tee -q -o stat.json stat -json\n"
        "write_json full.json\n"
        # Ports have no pins out of context: only clocks keep theirs, which nextpnr puts on a global net.
        f"cd {top}\nselect -set cut x:* w:clk %d\ndelete -port @cut\ncd ..\n"
        "write_json netlist.json\n"
    )
    question = [SCHEMA, verilog, script, package_version("pyosys")]
    key = hashlib.sha256(json.dumps(question).encode()).hexdigest()[:32]
    folder = cache_folder("cost")
    counts, netlist = folder / f"{key}.json", folder / f"{key}.netlist.gz"
    known = _read_synthesis(recipe.name, counts, netlist)
    if known is not None:
        return known
    with one_at_a_time(counts):
        known = _read_synthesis(recipe.name, counts, netlist)
        return known or _synthesise(verilog, script, top, part, recipe, counts, netlist, progress)


def _synthesise(
    verilog: str,
    script: str,
    top: str,
    part: Target,
    recipe: Recipe,
    counts: Path,
    netlist: Path,
    progress: Progress,
) -> Synthesis:
    """What Yosys makes of it, put where it is kept."""
    with tempfile.TemporaryDirectory(prefix="bitwright-") as name:
        scratch = Path(name)
        (scratch / "design.v").write_text(verilog, encoding="utf-8")
        progress(f"counting cells for {part.name} with Yosys, {recipe.name}")
        log = run_yosys(script, scratch)
        made = Synthesis(
            recipe=recipe.name,
            cells=read_counts(scratch / "stat.json", log),
            modules=split_by_unit(scratch / "full.json", top),
            netlist=gzip.compress((scratch / "netlist.json").read_bytes(), 1),
        )
    keep_text(netlist, made.netlist)
    table = {
        "cells": made.cells,
        "modules": made.modules,
        "netlist": hashlib.sha256(made.netlist).hexdigest(),
    }
    keep_text(counts, json.dumps(table).encode())
    return made


def read_counts(path: Path, log: str) -> dict[str, int]:
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


def split_by_unit(path: Path, top: str) -> dict[str, dict[str, int]]:
    """Unit → cell type → count, and the same for the parts of units; see `ATTRIBUTION`.

    A cell at a port of the top bears the port's name; its unit is the one whose net is the same.
    """
    module: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["modules"][top]
    owner_of_bit: dict[int, str] = {}
    for name, net in module["netnames"].items():
        if "." in name:
            for bit in net["bits"]:
                owner_of_bit.setdefault(bit, name)
    units: dict[str, Counter[str]] = {}
    for name, cell in module["cells"].items():
        if cell["type"] in NOTES:
            continue
        net = module["netnames"].get(_CELL_SUFFIX.sub("", name))
        full = owner_of_bit.get(net["bits"][0], "") if net and "." not in name else name
        steps = [re.sub(r"\$\d+$", "", step) for step in full.split(".")[:-1]]
        for depth in (1, 2):
            if len(steps) >= depth or depth == 1:
                owner = ".".join(steps[:depth]) or top
                units.setdefault(owner, Counter())[cell["type"]] += 1
    return {owner: dict(sorted(count.items())) for owner, count in sorted(units.items())}


def keep_text(path: Path, content: bytes) -> None:
    """Nothing; `path` holds `content`, never half of it."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)


def _read_synthesis(recipe: str, counts: Path, netlist: Path) -> Synthesis | None:
    """What is kept; None if there is nothing, or nothing that can be read."""
    try:
        table = json.loads(counts.read_text(encoding="utf-8"))
        content = netlist.read_bytes()
        if table["netlist"] != hashlib.sha256(content).hexdigest():
            return None
        return Synthesis(recipe=recipe, cells=table["cells"], modules=table["modules"], netlist=content)
    except (OSError, ValueError, KeyError, TypeError):
        return None
