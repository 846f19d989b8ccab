"""Nests and runs on abstract machines as tables on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .modelled_sections import PIPELINE_HEADS, pipeline_rows
from .run_tables import run_line, worst_stalls
from .table import plain, table
from .units import amount, energy, percent, size

__all__ = ["show_modelled", "show_nests"]


def show_modelled(value: dict[str, Any], console: Console) -> None:
    """Nothing; prints a run on an abstract machine."""
    total = value["total"]
    console.print(run_line(value))
    console.print(
        f"DRAM {amount(round(total['dram_read_bytes']))} bytes read, "
        f"{amount(round(total['dram_write_bytes']))} written; {value['energy_title']} "
        f"{energy(total['energy_pj'])} at {value['node_nm']} nm"
    )
    for key in ("formats", "dram_rule"):
        if value.get(key):
            console.print(f"{key.replace('_', ' ')}: {value[key]}", soft_wrap=True)
    heads = ["layer", "MACs", "cycles", "utilization", "read", "written", "energy", "stalled on"]
    rows = [
        (
            layer["name"],
            amount(layer["macs"]),
            amount(layer["cycles"]),
            percent(layer["utilization"]),
            amount(round(layer["dram_read_bytes"])),
            amount(round(layer["dram_write_bytes"])),
            energy(layer["energy_pj"]),
            worst_stalls(layer["stall_cycles"]),
        )
        for layer in value["layers"]
    ]
    console.print(table(heads, rows, text=(0, 7)))
    unsure = [layer["name"] for layer in value["layers"] if not layer.get("optimal", True)]
    if unsure:
        console.print(f"best found, not certified: {', '.join(unsure)}", soft_wrap=True)
    _payloads(value, console)
    _queues(value, console)
    _pipeline(value, console)
    _planned(value, console)


def _payloads(value: dict[str, Any], console: Console) -> None:
    """Nothing; shows how sparse weights were counted, where there are some."""
    rows = [(layer["name"], layer["payload"]) for layer in value["layers"] if "payload" in layer]
    if rows:
        console.print(
            table(
                (
                    "encoded weights",
                    "tiles",
                    "KiB in all",
                    "mean tile",
                    "worst tile",
                    "of dense",
                    "imbalance",
                ),
                [
                    (
                        name,
                        amount(row["tiles"]),
                        f"{row['total_bits'] / 8192:.1f}",
                        f"{row['mean_bits'] / 8:.1f} B",
                        f"{row['worst_bits'] / 8:.1f} B",
                        percent(row["ratio"]),
                        f"{row['imbalance']:.2f}",
                    )
                    for name, row in rows
                ],
                text=(0,),
            )
        )
        console.print("Found at the mean payload and load, counted by the nests' own tiles.")
    means = [layer["name"] for layer in value["layers"] if layer.get("payload_exact") is False]
    if means:
        console.print(
            f"payload and load by their means, not tile by tile: {', '.join(means)}", soft_wrap=True
        )


def _queues(value: dict[str, Any], console: Console) -> None:
    """Nothing; shows what fully connected layers did in queues, where there are some."""
    rows = [layer["queues"] for layer in value["layers"] if "queues" in layer]
    if not rows:
        return
    console.print("Entry by entry through the queues, µs:")
    heads = ("layer", "useful", "fillers", "imbalance", "in all", "rounding leaves", "weights", "activations")
    cells = []
    for row in rows:
        parts = row["parts_us"]
        open_ = "" if row["low_us"] == row["high_us"] else f"{row['low_us']:.1f} to {row['high_us']:.1f}"
        cells.append(
            (
                row["layer"],
                *(f"{parts[name]:.2f}" for name in ("useful", "fillers", "imbalance")),
                f"{row['modelled_us']:.2f}",
                open_,
                f"{percent(row['weight_density'])}, {row['weights']}",
                f"{percent(row['activation_density'])}, {row['activations_are']}",
            )
        )
    console.print(table(heads, cells, text=(0, 5, 6, 7)))
    away = [row["layer"] for row in rows if not row["resident"]]
    if away:
        console.print(f"not on chip, loaded from DRAM before each vector: {', '.join(away)}", soft_wrap=True)
    for row in rows:
        for line in row.get("analysis", ()):
            console.print(plain(line), soft_wrap=True)
    console.print(f"not modelled: {'; '.join(rows[0]['not_modelled'])}", soft_wrap=True)


def _pipeline(value: dict[str, Any], console: Console) -> None:
    """Nothing; shows a pipeline's units, where the result is one."""
    if "pipeline" not in value:
        return
    pipe = value["pipeline"]
    console.print(table(PIPELINE_HEADS, pipeline_rows(value)))
    console.print(
        f"all units at work at once: an image every {amount(pipe['initiation_interval'])} cycles, "
        f"{amount(round(pipe['images_per_second']))} images/s; alone in the pipeline "
        f"{amount(pipe['latency_cycles'])} cycles; folding: {pipe['source']}",
        soft_wrap=True,
    )
    console.print(f"assumed: {'; '.join(pipe['assumptions'])}", soft_wrap=True)
    for line in value.get("published", ()):
        console.print(plain(line), soft_wrap=True)


def _certainty(layer: dict[str, Any]) -> str:
    if layer["optimal"]:
        return "certified"
    return "not bounded" if layer["gap"] is None else f"within {percent(layer['gap'])}"


def show_nests(value: dict[str, Any], console: Console) -> None:
    """Nothing; prints the nests of a model on an abstract machine."""
    console.print(
        f"{value['network']} on {value['machine']} (modelled): each layer's nest of least "
        f"{value['objective']}; {value['formats']}",
        soft_wrap=True,
    )
    rows = [
        (
            layer["name"],
            amount(layer["cycles"]),
            energy(layer["energy_pj"]),
            percent(layer["utilization"]),
            _certainty(layer),
            amount(layer["evaluated"]),
            f"{layer['seconds']:.2f}",
        )
        for layer in value["layers"]
    ]
    heads = ("layer", "cycles", "energy", "utilization", "optimal", "evaluated", "seconds")
    console.print(table(heads, rows, text=(0, 4)))
    for layer in value["layers"]:
        if "nest" in layer:
            console.print()
            for line in layer["nest"].splitlines():
                console.print(plain(line), soft_wrap=True)
    _payloads(value, console)
    _planned(value, console)


def _planned(value: dict[str, Any], console: Console) -> None:
    """Nothing; shows what stays on chip, where the result has a plan."""
    if "planned" not in value:
        return
    plan, memory = value["planned"], value["memory"]
    before, after = plan["before"], plan["after"]
    console.print()
    if not value["kept_in"]:
        console.print(f"No tensor can stay on chip: {value['kept_in_why']}.", soft_wrap=True)
    for row in value["kept"]:
        console.print(
            plain(f"stays in {value['kept_in']}: {row['tensor']}, {size(row['bytes'])}"), soft_wrap=True
        )
    for pair in value["fused"]:
        console.print(
            plain(
                f"fused, {pair['kind']}: {pair['first']} and {pair['second']}, {pair['strips']} strips of "
                f"{pair['rows']} rows"
            ),
            soft_wrap=True,
        )
    rows = [
        (
            name,
            amount(part["cycles"]),
            energy(part["energy_pj"]),
            amount(round(part["dram_read_bytes"])),
            amount(round(part["dram_write_bytes"])),
        )
        for name, part in (("all through DRAM", before), ("as planned", after))
    ]
    console.print(table(("network, moves included", "cycles", "energy", "read", "written"), rows, text=(0,)))
    sure = "no choice is better" if plan["optimal"] else "the best so far, not certified"
    console.print(
        f"Tensors in DRAM take {size(memory['peak_bytes'])} at most ({size(memory['bound_bytes'])} live at "
        f"once), on chip {size(memory['peak_on_chip_bytes'])}; {sure}; {plan['searches']} searches",
        soft_wrap=True,
    )
