"""`python -m bitwright.reports.methods_document`: runs the shipped recipes and writes docs/methods.md.

Rows are kept by the content of their recipe; a run that was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from string import Template
from typing import Any

from .files import write_text
from .method_runs import MACHINE, SETTINGS, run_method
from .progress import say
from .units import amount, percent

__all__ = ["document", "main"]

_HEADS = (
    *("method", "reference", "network, data", ""),
    *("payload", "ratio", "MACs", "accuracy", "integers", "cycles", "hardware"),
)
_NUMBERS = frozenset(_HEADS[4:10])
_HEAD = Path(__file__).parent / "templates" / "methods.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the document is written; 1 if a recipe failed, which it names."""
    parser = argparse.ArgumentParser(
        prog="methods", description="Run the shipped recipes; write docs/methods.md."
    )
    parser.add_argument("--data", action="append", default=[], metavar="NAME=PATH", help="mnist, cifar10, …")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/methods.md"))
    parser.add_argument("--folder", type=Path, default=Path("build/methods"), help="states and results")
    parser.add_argument("--jobs", type=int, default=2, help="recipes at once")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a recipe; repeatable")
    given = parser.parse_args(arguments)
    data = dict(entry.partition("=")[::2] for entry in given.data)
    from ..models.compress.methods import METHODS

    stems = given.only or [method.recipe for method in METHODS if method.state == "works"]
    rows, faults = run_all(stems, data, given.folder, given.jobs)
    if not given.only:
        write_text(given.output, document(rows, faults))
        say(f"{given.output}: {len(rows)} methods")
    return 1 if faults else 0


def run_all(
    stems: Sequence[str], data: Mapping[str, str], folder: Path, jobs: int
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """(results, faults) by recipe; recipes run in processes of their own, `jobs` at once."""
    rows: dict[str, dict[str, Any]] = {}
    faults: dict[str, str] = {}
    began = time.perf_counter()
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        waiting = {pool.submit(run_method, stem, dict(data), folder): stem for stem in stems}
        for future in as_completed(waiting):
            stem = waiting[future]
            try:
                rows[stem] = future.result()
                say(f"[{time.perf_counter() - began:6.1f} s] {stem}: {rows[stem]['seconds']:.1f} s")
            except ValueError as fault:
                faults[stem] = str(fault)
                sys.stderr.write(f"  {stem}: {fault}\n")
    return rows, faults


def document(rows: Mapping[str, Mapping[str, Any]], faults: Mapping[str, str]) -> str:
    """The Markdown text."""
    from ..models.compress.methods import GAINS, HARDWARE, METHODS

    head = Template(_HEAD.read_text(encoding="utf-8")).substitute(
        machine=MACHINE, settings=", ".join(SETTINGS)
    )
    lines = [head.rstrip("\n"), *(f"| {name} | {text} |" for name, text in HARDWARE.items())]
    lines += [*(f"| rtl-exact, {name} | {text} |" for name, text in GAINS.items()), ""]
    lines += [
        f"| {' | '.join(_HEADS)} |",
        f"| {' | '.join('---:' if head in _NUMBERS else '---' for head in _HEADS)} |",
    ]
    for method in METHODS:
        row = rows.get(method.recipe)
        if row is None:
            continue
        references = " ".join(f"[{r}]" for r in method.references)
        where = f"{row['model'].removeprefix('zoo:')}, {row['data']}"
        before = row["uncompressed"]
        lines.append(f"| **{method.name}** | {references} | {where} | before {_cells(before, before)} | |")
        path = ", ".join(filter(None, (method.hardware, method.gain)))
        lines.append(f"| {method.title} | | | method {_cells(row['method'], before)} | {path} |")
        lines += [f"| | | | {rival['title']} {_cells(rival, before)} | |" for rival in row["rivals"]]
    remarks = [(m.name, row["remark"]) for m in METHODS if (row := rows.get(m.recipe)) and row.get("remark")]
    if remarks:
        lines += ["", "## Remarks", "", *(f"- {name}: {remark}" for name, remark in remarks)]
    missing = [method for method in METHODS if method.recipe not in rows]
    lines += ["", "## Not shown", ""]
    lines += [f"- {m.name} ({', '.join(m.references)}): {faults.get(m.recipe, 'planned')}" for m in missing]
    lines += ["", "## Without cycles", ""]
    lines += [
        f"- {m.name}, {found.get('title', 'method')}: {found['reason']}"
        for m in METHODS
        if (row := rows.get(m.recipe)) is not None
        for found in (row["method"], *row["rivals"])
        if found["reason"]
    ]
    lines += ["", "## Commands", ""]
    lines += [f"    {rows[m.recipe]['command']}" for m in METHODS if m.recipe in rows]
    return "\n".join(lines) + "\n"


def _cells(found: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    macs = amount(found["macs"])
    if found["nonzero_macs"] != found["macs"]:
        macs += f" ({amount(found['nonzero_macs'])})"
    ratio = before["payload_bytes"] / found["payload_bytes"]
    whole = "" if found["integer_accuracy"] is None else percent(found["integer_accuracy"])
    cycles = "" if found["cycles"] is None else amount(found["cycles"])
    return (
        f"| {amount(found['payload_bytes'])} B | {ratio:.1f}× | {macs} | {percent(found['accuracy'])} | "
        f"{whole} | {cycles}"
    )


if __name__ == "__main__":
    sys.exit(main())
