"""The report's sections: each turns one kind of result into paragraphs, tables and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from . import figures
from .page import Block, Figure, Heading, Pairs, Section, Table, Text
from .units import amount, energy, percent, rate, seconds, size

__all__ = [
    "accuracy_section",
    "against_section",
    "cost_fact",
    "cost_section",
    "phase_section",
    "provenance_section",
    "simulation_section",
    "total_facts",
    "verification_section",
]

Result = Mapping[str, Any]

WORKING = "working"
RUNS_LISTED = 16
CAUSES = {
    "fetch": "no command there yet",
    "activations": "activations not loaded yet",
    "weights": "weights not loaded yet",
    "outputs": "no room in the output buffer",
    "post": "both accumulator banks full",
    "setup": "a command or tile begins",
    "done": "work done, outputs still being stored",
    "tokens": "any other token",
}
"""Why the array waits; in the order of the charts' colours."""


def accuracy_section(accuracy: Result) -> Section:
    """Accuracy of the float, quantisation-aware and integer networks on one test set."""
    rows = [
        (
            row["name"],
            amount(row["correct"]),
            percent(row["accuracy"]),
            f"{100 * (row['accuracy'] - accuracy['rows'][0]['accuracy']):+.1f}",
        )
        for row in accuracy["rows"]
    ]
    return Section(
        title="Accuracy",
        blocks=[
            Text(text=accuracy["about"]),
            Table(
                heads=(
                    "network",
                    f"correct of {amount(accuracy['images'])}",
                    "accuracy",
                    "points to float",
                ),
                rows=rows,
            ),
        ],
    )


def verification_section(verify: Result) -> Section:
    """What was held to what, and by how much it differed."""
    blocks: list[Block] = [
        Text(
            text="One program, three executions: the network's integer reference, the functional "
            "run and cycle model of the program, and the RTL in Verilator. Outputs are compared "
            "bit for bit, cycles one for one, bytes as counted at the AXI port. Every difference "
            "must be 0."
        ),
        Table(
            heads=("", "compared", "differ"),
            rows=[
                ("outputs", f"{amount(verify['cases'])} cases", amount(verify["mismatches"])),
                (
                    "cycles, model to RTL",
                    f"{amount(verify['model_cycles'])} to {amount(verify['rtl_cycles'])}",
                    amount(verify["cycle_difference"]),
                ),
                (
                    "bytes at the AXI port, model to RTL",
                    f"{amount(verify['model_bytes'])} to {amount(verify['rtl_bytes'])}",
                    amount(verify["byte_difference"]),
                ),
            ],
        ),
    ]
    if verify.get("network"):
        blocks.append(Text(text=f"{verify['network']} on {verify['machine']}."))
    runs = verify.get("runs", ())
    if 0 < len(runs) <= RUNS_LISTED:
        blocks.append(
            Table(
                heads=("run", "cycles in RTL", "in the model", "bytes read", "bytes written", "differences"),
                rows=[
                    (
                        run["name"],
                        amount(run["rtl_cycles"]),
                        amount(run["model_cycles"]),
                        amount(run["rtl_read_bytes"]),
                        amount(run["rtl_write_bytes"]),
                        "none" if run["agrees"] else "see below",
                    )
                    for run in runs
                ],
            )
        )
    if verify.get("about"):
        blocks.append(Text(text=verify["about"]))
    if verify.get("failures"):
        blocks.append(Heading(text="Differences"))
        blocks.extend(Text(text=line) for line in verify["failures"][:20])
    return Section(title="Verification", blocks=blocks)


def against_section(value: Result) -> Section:
    """How the reference's values differ from those of the framework that a model's file was made for."""
    rows = []
    for row in value["values"]:
        if "reason" in row:
            rows.append((row["value"], row["reason"], "", "", "no"))
            continue
        rows.append(
            (
                row["value"],
                f"{amount(row['values_differing'])} of {amount(row['values'])}",
                f"{row['largest_difference']:g}",
                amount(row["largest_ulp"]) if "largest_ulp" in row else "",
                "yes" if row["agrees"] else "no",
            )
        )
    return Section(
        title=f"{value['network']} in {value['framework']}",
        blocks=[
            Text(
                text=f"The same {amount(value['cases'])} images through the integer reference and through "
                f"{value['framework']}, whose values are compared wherever it shows them."
            ),
            Table(
                heads=("value", "differ", "largest difference", "units in the last place", "agrees"),
                rows=rows,
            ),
            *(Text(text=line) for line in value["failures"][:20]),
        ],
    )


def _layer_parts(layers: Sequence[Result], causes: Sequence[str]) -> dict[str, list[float]]:
    """Per layer: cycles in which the array worked, then those lost to each cause."""
    parts: dict[str, list[float]] = {WORKING: []}
    for layer in layers:
        parts[WORKING].append(layer["busy_cycles"])
    for cause in causes:
        parts[cause] = [layer["stall_cycles"].get(cause, 0) for layer in layers]
    return parts


def _time_blocks(value: Result) -> list[Block]:
    layers = value["layers"]
    causes = list(dict.fromkeys(cause for layer in layers for cause in layer["stall_cycles"]))
    total = value["total"]
    rows = [
        (
            layer["name"],
            amount(layer["cycles"]),
            amount(layer["macs"]),
            percent(layer["utilization"]),
            amount(layer["read_bytes"]),
            amount(layer["write_bytes"]),
            energy(layer["energy_pj"]),
        )
        for layer in layers
    ]
    foot = (
        "whole run",
        amount(total["cycles"]),
        amount(sum(layer["macs"] for layer in layers)),
        percent(total["utilization"]),
        amount(total["dram_read_bytes"]),
        amount(total["dram_write_bytes"]),
        energy(total["energy_pj"]),
    )
    heads = ("layer", "cycles", "MACs", "utilization", "bytes read", "bytes written", "energy")
    colors = {name: figures.PALETTE[number] for number, name in enumerate([WORKING, *CAUSES])}
    meanings = "; ".join(f"{cause}: {CAUSES[cause]}" for cause in CAUSES if cause in causes)
    chart = figures.stacked_bars(
        f"Cycles of each layer of {value['network']} by what the array did",
        [layer["name"] for layer in layers],
        _layer_parts(layers, causes),
        "cycles",
        colors,
    )
    return [
        Table(
            heads=heads,
            rows=rows,
            foot=foot,
            caption="A layer's cycles run from the last write response of the one before to its own last.",
        ),
        Figure(
            svg=chart, caption=f"What the array did in each layer: worked, or waited, by cause ({meanings})."
        ),
    ]


def _timeline_blocks(value: Result) -> list[Block]:
    chart = figures.timeline(
        f"When load, compute and store worked on {value['network']}",
        {unit.upper(): spans for unit, spans in value["spans"].items()},
        [layer["name"] for layer in value["layers"]],
        value["total"]["cycles"],
    )
    caption = "When each unit worked, by layer; where bars overlap, memory and compute do too."
    return [Heading(text="Timeline"), Figure(svg=chart, caption=caption)]


def _traffic_blocks(value: Result, clock_hz: float) -> list[Block]:
    time = value["total"]["cycles"] / clock_hz
    rows = []
    read_total = write_total = 0
    for operand, moved in value["traffic"].items():
        read_total += moved["read"]
        write_total += moved["write"]
        both = moved["read"] + moved["write"]
        rows.append((operand, amount(moved["read"]), amount(moved["write"]), rate(both / time)))
    both = read_total + write_total
    edges = value["bandwidth"]["edges"]
    lengths = [end - start for start, end in pairwise(edges)]
    over_time = figures.stacked_areas(
        f"DRAM traffic of {value['network']} over time",
        {
            name: [moved / length for moved, length in zip(parts, lengths, strict=True)]
            for name, parts in value["bandwidth"]["bytes"].items()
        },
        edges,
        "cycle",
        "bytes a cycle",
    )
    return [
        Heading(text="DRAM traffic"),
        Table(
            heads=("operand", "bytes read", "bytes written", "mean bandwidth"),
            rows=rows,
            foot=("all", amount(read_total), amount(write_total), rate(both / time)),
            caption=f"Bytes of one image at the AXI port; bandwidth over {seconds(time)}.",
        ),
        Figure(
            svg=over_time,
            caption=f"Bytes a cycle, reads and writes together, which have a channel of "
            f"{value['roofline']['bytes_per_cycle']:g} each; spread evenly within a command (estimated).",
        ),
    ]


def _roofline_blocks(value: Result) -> list[Block]:
    lines = value["roofline"]
    placed = [layer for layer in lines["layers"] if layer["macs_per_byte"]]
    if not placed:
        return []
    roofs = sorted({round(layer["peak_macs_per_cycle"], 6) for layer in placed})
    chart = figures.roofline(
        f"Roofline of {value['network']} on {value['machine']}",
        [(layer["name"], layer["macs_per_byte"], layer["macs_per_cycle"]) for layer in placed],
        roofs,
        lines["bytes_per_cycle"],
    )
    caption = (
        "Each layer under what memory (slope) and array (flat, by PE kind) allow. A layer below both waits "
        "for something else: tiles that begin and end, lanes without work, units that wait for each other. "
        "One above the slope was loaded while the layer before computed."
    )
    return [Heading(text="Roofline"), Figure(svg=chart, caption=caption)]


def _energy_blocks(value: Result, rows_shown: bool) -> list[Block]:
    parts = {name.replace("_", " "): picojoules for name, picojoules in value["energy_pj"].items()}
    chart = figures.bars(f"Event energy of {value['network']} by component", parts, energy)
    title = f"{value['energy_title'].capitalize()}, counted events × table; not FPGA power"
    blocks: list[Block] = [
        Heading(text=title),
        Text(text=f"{energy(value['total']['energy_pj'])} an image."),
        Figure(svg=chart),
    ]
    rows = list(value["energy_rows"])
    if "leakage" in value:
        rows.append({"component": "leakage", **value["leakage"]})
        leaked = energy(value["total"]["leakage_pj"])
        blocks.insert(2, Text(text=f"Leakage of its memories' bits, apart from that: {leaked}, assumed."))
    if "dram_time" in value:
        rows.append({"component": "DRAM's time", **value["dram_time"]})
        waited = energy(value["total"]["dram_time_pj"])
        blocks.insert(2, Text(text=f"Refreshes and standby of its DRAM, apart from that: {waited}."))
    if rows_shown:
        blocks.append(
            Table(
                heads=("event of", "row", "pJ", "per", "status", "source"),
                rows=[
                    (
                        row["component"].replace("_", " "),
                        row["item"],
                        f"{row['value_pj']:.4g}",
                        row["per"],
                        row["status"],
                        row["source"],
                    )
                    for row in rows
                ],
                text=frozenset({0, 1, 3, 4, 5}),
                caption="Rows used. Derived and assumed values are marked; each can be overridden.",
            )
        )
    return blocks


def simulation_section(
    value: Result, clock_hz: float, clock_note: str, title: str, *, rows_shown: bool = True
) -> Section:
    """Cycles, stalls, timeline, traffic and event energy of one simulated run.

    Args:
        value: a `simulate` result.
        clock_hz: cycles a second for times and bandwidths.
        clock_note: where that clock comes from.
        title: of the section.
        rows_shown: whether the rows of the energy table are listed.
    """
    total = value["total"]
    intro = (
        f"{amount(total['cycles'])} cycles an image, {seconds(total['cycles'] / clock_hz)} at "
        f"{clock_note}. Fidelity: {value['fidelity']}. "
    )
    blocks: list[Block] = [Text(text=intro + value.get("about", ""))]
    blocks += _time_blocks(value)
    blocks += _timeline_blocks(value)
    blocks += _traffic_blocks(value, clock_hz)
    blocks += _roofline_blocks(value)
    blocks += _energy_blocks(value, rows_shown)
    return Section(title=title, blocks=blocks)


def cost_section(cost: Result) -> Section:
    """What the core takes of an FPGA, and the clock that it reaches."""
    names = {
        "lut": "look-up tables",
        "ff": "flip-flops",
        "dsp": "multiplier blocks",
        "bram": "block RAMs",
    }
    rows = []
    for key, name in names.items():
        use = cost["resources"][key]
        have = use["available"]
        placed = cost["placed"][key]["used"] if cost["placed"] else None
        rows.append(
            (
                name,
                amount(use["used"]),
                "–" if placed is None else amount(placed),
                "–" if have is None else amount(have),
                "–" if not have else percent(use["used"] / have),
            )
        )
    blocks: list[Block] = [
        Text(
            text=f"{cost['machine']} for {cost['target']}, out of context (the AXI ports lead to "
            f"no pins or other logic): {cost['text']}."
        ),
        Table(heads=("", "synthesised", "placed", "in the part", "share"), rows=rows),
    ]
    if cost["fmax_mhz"] is None and cost["placed_mhz"] is not None:
        blocks.append(Text(text=f"Clock: {cost['placed_mhz']:.1f} MHz, {cost['clock']}."))
    if cost["fmax_mhz"] is not None:
        blocks.append(Text(text=f"Placed and routed clock: {cost['fmax_mhz']:.1f} MHz ({cost['clock']})."))
    units = [(owner, use) for owner, use in cost["modules"].items() if "." not in owner]
    if len(units) > 1:
        units.sort(key=lambda item: -item[1]["lut"])
        blocks.append(Text(text=f"Which unit costs what. {cost['attribution']}"))
        rows = [
            (owner, *("–" if use[key] is None else amount(use[key]) for key in (*names, "lutram")))
            for owner, use in units
        ]
        heads = ("unit", *names.values(), "of these LUTs, memory")
        blocks.append(Table(heads=heads, rows=rows))
    return Section(title="On an FPGA", blocks=blocks)


def cost_fact(cost: Result) -> dict[str, str]:
    """The one figure of a cost result that stands first on a page."""
    if cost["fmax_mhz"] is not None:
        note = f"placed and routed on {cost['target']}, out of context"
        return {"label": "Clock", "value": f"{cost['fmax_mhz']:.1f} MHz", "note": note}
    used = amount(cost["lut"])
    note = f"{cost['target']}, out of context: {cost['text']}"
    return {"label": "Look-up tables", "value": used, "note": note}


def phase_section(phases: Sequence[Result]) -> Section:
    """How long each phase took on the machine that ran it."""
    rows = [(row["name"], f"{row['seconds']:.1f}", row.get("note", "")) for row in phases]
    blocks = [Table(heads=("phase", "seconds", ""), rows=rows, text=frozenset({0, 2}))]
    return Section(title="Where the time went", blocks=blocks)


def provenance_section(provenance: Result) -> Section:
    """Versions, seed and digests: what it takes to get the same numbers again."""
    pairs = []
    for name, value in provenance.items():
        if isinstance(value, Mapping):
            pairs.append((name, ", ".join(f"{key} {inner}" for key, inner in value.items())))
        elif value is not None:
            pairs.append((name, str(value)))
    return Section(title="Provenance", blocks=[Pairs(pairs=pairs)])


def total_facts(value: Result, clock_hz: float, clock_note: str) -> list[dict[str, str]]:
    """The figures of a simulated run that stand first on a page."""
    total = value["total"]
    moved = total["dram_read_bytes"] + total["dram_write_bytes"]
    return [
        {
            "label": "Cycles an image",
            "value": amount(total["cycles"]),
            "note": f"array utilization {percent(total['utilization'])}",
        },
        {
            "label": "Time an image",
            "value": seconds(total["cycles"] / clock_hz),
            "note": f"at {clock_note}",
        },
        {
            "label": "DRAM traffic an image",
            "value": size(moved),
            "note": f"{size(total['dram_read_bytes'])} read, {size(total['dram_write_bytes'])} written",
        },
        {
            "label": "Event energy an image",
            "value": energy(total["energy_pj"]),
            "note": f"counted events × table at {value['node_nm']} nm; not FPGA power",
        },
    ]
