"""Results as tables on a terminal: one table a kind of result, numbers to stdout."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console

from .compress_tables import show_compressed, show_methods
from .form_sections import FORM_HEADS, MACHINE_HEADS, clock_words, form_rows, machine_rows
from .modelled_tables import show_modelled, show_nests
from .range_sections import RANGE_HEADS, range_rows
from .report import clock_of
from .run_tables import show_map, show_run
from .table import plain, table
from .units import amount, percent, seconds, size

__all__ = ["show"]

_PLAIN_WIDTH = 200
"""Columns where stdout is no terminal: a pipe or a file cuts no line."""


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_PLAIN_WIDTH)
    return console


def _shape(tensor: dict[str, Any]) -> str:
    return "×".join(str(n) for n in tensor["shape"])


def _info(value: dict[str, Any], console: Console) -> None:
    console.print(
        f"{plain(value['network'])}: {amount(value['macs'])} multiply-accumulates, "
        f"{amount(value['parameters'])} parameters, {size(value['bytes'])} of weights and biases; "
        f"input {_shape(value['input'])} {value['input']['format']}"
    )
    shares = value["shares"]
    if value["macs"]:
        each = (
            f"{word} {percent(part['macs'])}, {percent(part['parameters'])}" for word, part in shares.items()
        )
        console.print(f"Shares of MACs and of parameters: {'; '.join(each)}")
    # Of what the host runs, only layers that count are listed; the others are named below the table.
    listed = [row for row in value["layers"] if row["runs"] == "core" or row["macs"] or row["parameters"]]
    console.print(
        table(
            ("layer", "kind", "weights", "output", "", "runs on", "MACs", "parameters", "bytes"),
            (
                (
                    layer["name"],
                    layer["kind"],
                    layer["weights"] or "",
                    _shape(layer["output"]),
                    layer["output"]["format"],
                    layer["runs"],
                    amount(layer["macs"]),
                    amount(layer["parameters"]),
                    amount(layer["bytes"]),
                )
                for layer in listed
            ),
            text=(0, 1, 2, 3, 4, 5),
        )
    )
    others = Counter(
        row["kind"]
        for row in value["layers"]
        if row["runs"] == "host" and not (row["macs"] or row["parameters"])
    )
    if others:
        kinds = ", ".join(f"{plain(kind)} {count}" for kind, count in others.most_common())
        console.print(f"Without MACs and parameters, on the host: {kinds}", soft_wrap=True)
    for reason in dict.fromkeys(row["reason"] for row in value["host"]):
        count = sum(row["reason"] == reason for row in value["host"])
        console.print(f"On the host ({plain(reason)}): {amount(count)} operators", soft_wrap=True)
    if value.get("ranges"):
        _ranges(value["ranges"], console)


def _ranges(ranges: dict[str, Any], console: Console) -> None:
    console.print(f"\nRanges over {amount(ranges['images'])} images")
    if ranges["correct"] is not None:
        part = percent(ranges["correct"] / ranges["images"])
        console.print(f"Correct by label: {amount(ranges['correct'])} of {amount(ranges['images'])}, {part}")
    console.print(table(RANGE_HEADS, range_rows(ranges), text=(0, 1)))
    console.print(ranges["about"], soft_wrap=True)


def _map(value: dict[str, Any], console: Console) -> None:
    show = show_nests if value.get("template") == "abstract" else show_map
    show(value, console)


def _verify(value: dict[str, Any], console: Console) -> None:
    verdict = "agree" if value["agrees"] else "DIFFER"
    console.print(
        f"reference, cycle model and RTL {verdict}: {amount(value['cases'])} cases, "
        f"{amount(value['mismatches'])} mismatches, largest cycle difference "
        f"{amount(value['cycle_difference'])}, largest byte difference "
        f"{amount(value['byte_difference'])}"
    )
    console.print(
        f"{amount(value['rtl_cycles'])} cycles in RTL, {amount(value['model_cycles'])} in the model"
        f"; {value['seconds']:.1f} s"
    )
    if value.get("unmapped"):
        count = value["unmapped"]
        words = "network fits no mapping and was" if count == 1 else "networks fit no mapping and were"
        console.print(f"{amount(count)} drawn {words} left out")
    for failure in value.get("failures", ()):
        console.print(failure, soft_wrap=True)


def _against(value: dict[str, Any], console: Console) -> None:
    verdict = "agree" if value["agrees"] else "DIFFER"
    console.print(
        f"reference and {value['framework']} {verdict}: {amount(value['cases'])} images, "
        f"{amount(value['mismatches'])} mismatches"
    )
    rows = []
    for row in value["values"]:
        if "reason" in row:
            rows.append((row["value"], row["reason"], "", "", ""))
            continue
        ulp = amount(row["largest_ulp"]) if "largest_ulp" in row else ""
        relative = f"{row['largest_relative']:.2g}" if "largest_relative" in row else ""
        differing = f"{amount(row['values_differing'])} of {amount(row['values'])}"
        rows.append((row["value"], differing, f"{row['largest_difference']:g}", ulp, relative))
    heads = ("value", "differ", "largest difference", "in last places", "of the largest value")
    console.print(table(heads, rows))
    for failure in value["failures"]:
        console.print(plain(failure), soft_wrap=True)


_RESOURCES = ("lut", "ff", "dsp", "bram", "lutram")


def _cost(value: dict[str, Any], console: Console) -> None:
    part = "" if value["unit"] == "core" else f", {value['unit']} alone"
    console.print(f"{value['machine']}{part} on {value['target']}, out of context: {value['text']}")
    rows = []
    for name in _RESOURCES:
        have = value["resources"][name]["available"]
        note = "" if have is None else f"of {amount(have)}"
        rows.append((name.upper(), _count(value[name]), note))
    reached = "not reported" if value["fmax_mhz"] is None else f"{value['fmax_mhz']:.1f} MHz"
    placed = value["placed_mhz"]
    rows.append(("Fmax", reached, "" if placed is None else f"estimated after placing: {placed:.1f} MHz"))
    console.print(table(("", "", ""), rows))
    console.print(f"Clock: {value['clock']}", soft_wrap=True)
    if len(value["fmax_by_seed"]) > 1:
        each = (f"{seed}: {mhz:.1f}" for seed, mhz in value["fmax_by_seed"].items() if mhz is not None)
        console.print(f"MHz by placer seed: {', '.join(each)}", soft_wrap=True)
    slowest = value["slowest"]
    if slowest:
        console.print(
            f"Slowest path: {slowest['source']} to {slowest['sink']}, "
            f"{slowest['logic_ns']} ns logic, {slowest['routing_ns']} ns routing",
            soft_wrap=True,
        )
    owners = value["modules"].items()
    console.print(
        table(
            ("unit", *(name.upper() for name in _RESOURCES)),
            [(owner, *(_count(use[name]) for name in _RESOURCES)) for owner, use in owners],
            text=(0,),
        )
    )
    console.print(value["attribution"], soft_wrap=True)
    if len(value["tries"]) > 1:
        console.print(
            table(
                ("Yosys options", "LUT", "FF", ""),
                [
                    (
                        row["recipe"],
                        _count(row["resources"]["lut"]),
                        _count(row["resources"]["ff"]),
                        "chosen" if row["recipe"] == value["recipe"] else "",
                    )
                    for row in value["tries"]
                ],
                text=(0, 3),
            )
        )


def _count(number: int | None) -> str:
    return "not reported" if number is None else amount(number)


def _machines(value: dict[str, Any], console: Console) -> None:
    console.print(
        table(
            ("machine", "template", "rows", "columns", "int8 lanes", "MACs/cycle", "buffers", "bus"),
            (
                (
                    row["name"],
                    row["template"],
                    row["rows"],
                    row["cols"],
                    row["lanes"]["int8"],
                    row["macs_per_cycle"],
                    size(row["buffer_bytes"]),
                    f"{row['bus_bits']} bit",
                )
                for row in value["machines"]
                if row["template"] == "core"
            ),
            text=(0, 1),
        )
    )
    console.print(
        table(
            ("machine", "template", "array", "PEs", "MACs/cycle", "memories, from the inner to the outer"),
            (
                (
                    row["name"],
                    row["template"],
                    row["array"],
                    row["pes"],
                    f"{row['macs_per_cycle']:g}",
                    ", ".join(row["levels"]),
                )
                for row in value["machines"]
                if row["template"] == "abstract"
            ),
            text=(0, 1, 2, 5),
        )
    )


def _zoo(value: dict[str, Any], console: Console) -> None:
    console.print(
        table(
            ("network", "input", "MACs", "parameters", ""),
            (
                (
                    row["name"],
                    "×".join(str(n) for n in row["input"] or ()),
                    "" if row["macs"] is None else amount(row["macs"]),
                    "" if row["parameters"] is None else amount(row["parameters"]),
                    row["about"],
                )
                for row in value["networks"]
            ),
            text=(0, 1, 4),
        )
    )
    console.print("No trained weights: zoo:NAME has zeros that take no memory, zoo:NAME@SEED random ones.")


def _doctor(value: dict[str, Any], console: Console) -> None:
    console.print(
        table(
            ("tool", "version", ""),
            ((row["tool"], row["version"] or "missing", row["hint"]) for row in value["tools"]),
            text=(0, 1, 2),
        )
    )


def _files(value: dict[str, Any], console: Console) -> None:
    for path in value["files"]:
        console.print(path, soft_wrap=True)


def _demo(value: dict[str, Any], console: Console) -> None:
    images = amount(value["accuracy"]["images"])
    console.print(table(FORM_HEADS, form_rows(value["forms"]), title=f"Forms, on {images} test images"))
    console.print(
        table(
            MACHINE_HEADS,
            machine_rows(value["machines"]),
            text=(0, 1),
            title="Cores, at equal DRAM bandwidth",
        )
    )
    console.print(clock_words(value["machines"]), soft_wrap=True)
    for part in value["runs"]:
        hertz, words = clock_of(part, value["costs"])
        cycles = part["total"]["cycles"]
        console.print(
            f"{part['network']} on {part['machine']}: {amount(cycles)} cycles, "
            f"{seconds(cycles / hertz)} an image at {words}, "
            f"utilization {percent(part['total']['utilization'])}"
        )
    for row in value["mappings"]["rows"]:
        before, after = row["bytes"], row["latency"]
        console.print(
            f"{row['network']} on {row['machine']}: mapped for least DRAM bytes {amount(before['cycles'])} "
            f"cycles, utilization {percent(before['utilization'])}; for latency {amount(after['cycles'])}, "
            f"{percent(after['utilization'])}"
        )
    _verify(value["verify"], console)
    console.print(
        table(
            ("phase", "seconds"),
            [(row["name"], f"{row['seconds']:.1f}") for row in value["phases"]],
        )
    )
    console.print(f"report: {value['report']}", soft_wrap=True)


_KINDS = {
    "info": _info,
    "map": _map,
    "result": show_run,
    "modelled": show_modelled,
    "verify": _verify,
    "against": _against,
    "cost": _cost,
    "machines": _machines,
    "zoo": _zoo,
    "compress": show_compressed,
    "methods": show_methods,
    "doctor": _doctor,
    "rtl": _files,
    "demo": _demo,
}


def show(value: dict[str, Any]) -> None:
    """Nothing; prints the result's table on stdout, by its `kind`."""
    _KINDS[value["kind"]](value, _console())
