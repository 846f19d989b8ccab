"""The report's sections: each turns one kind of result into paragraphs, tables and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import figures
from .page import Block, Figure, Heading, Pairs, Section, Table, Text
from .units import amount, energy, percent, rate, seconds, size

__all__ = [
    "accuracy_section",
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
    if verify.get("about"):
        blocks.append(Text(text=verify["about"]))
    if verify.get("failures"):
        blocks.append(Heading(text="Differences"))
        blocks.extend(Text(text=line) for line in verify["failures"][:20])
    return Section(title="Verification", blocks=blocks)


def _layer_parts(layers: Sequence[Result], causes: Sequence[str]) -> dict[str, list[float]]:
    """Per layer: cycles in which the array worked, then those lost to each cause."""
    parts: dict[str, list[float]] = {WORKING: []}
    for layer in layers:
        parts[WORKING].append(max(0, layer["cycles"] - sum(layer["stall_cycles"].values())))
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
    colors = {
        name: figures.PALETTE[number % len(figures.PALETTE)] for number, name in enumerate([WORKING, *causes])
    }
    chart = figures.stacked_bars(
        f"Cycles of each layer of {value['network']} by what the array did",
        [layer["name"] for layer in layers],
        _layer_parts(layers, causes),
        "cycles",
        colors,
    )
    return [
        Table(heads=heads, rows=rows, foot=foot, caption=value["layer_note"]),
        Figure(svg=chart, caption="What the array did in each layer: working, or waiting, by cause."),
    ]


def _timeline_blocks(value: Result) -> list[Block]:
    chart = figures.timeline(
        f"When load, compute and store worked on {value['network']}",
        {unit: [(span[0], span[1], span[2]) for span in spans] for unit, spans in value["timeline"].items()},
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
    return [
        Heading(text="DRAM traffic"),
        Table(
            heads=("operand", "bytes read", "bytes written", "mean bandwidth"),
            rows=rows,
            foot=("all", amount(read_total), amount(write_total), rate(both / time)),
            caption=f"Bytes of one image at the AXI port; bandwidth over {seconds(time)}.",
        ),
    ]


def _energy_blocks(value: Result) -> list[Block]:
    node = value["node_nm"]
    blocks: list[Block] = [
        Heading(
            text=f"Event energy at {node} nm, counted events × table; not FPGA power: "
            f"{energy(value['total']['energy_pj'])} an image"
        ),
        Figure(
            svg=figures.bars(f"Event energy of {value['network']} by component", value["energy_pj"], energy)
        ),
    ]
    if value["energy_rows"]:
        blocks.append(
            Table(
                heads=("row of the energy table", "pJ", "per", "status", "source"),
                rows=[
                    (
                        row["item"],
                        f"{row['value_pj']:.4g}",
                        row["per"],
                        row["status"],
                        row["source"],
                    )
                    for row in value["energy_rows"]
                ],
                text=frozenset({0, 2, 3, 4}),
                caption="Rows used. Derived and assumed values are marked; each can be overridden.",
            )
        )
    return blocks


def simulation_section(value: Result, clock_hz: float, clock_note: str, title: str) -> Section:
    """Cycles, stalls, timeline, traffic and event energy of one simulated run.

    Args:
        value: a `simulate` result.
        clock_hz: cycles a second for times and bandwidths.
        clock_note: where that clock comes from.
        title: of the section.
    """
    total = value["total"]
    intro = (
        f"{value['network']} on {value['machine']}: {amount(total['cycles'])} cycles an image, "
        f"{seconds(total['cycles'] / clock_hz)} at {clock_note}. "
        f"Fidelity: {value['fidelity']}. "
    )
    blocks: list[Block] = [Text(text=intro + value.get("about", ""))]
    blocks += _time_blocks(value)
    blocks += _timeline_blocks(value)
    blocks += _traffic_blocks(value, clock_hz)
    blocks += _energy_blocks(value)
    return Section(title=title, blocks=blocks)


def cost_section(cost: Result) -> Section:
    """What the core takes of an FPGA, and the clock that it reaches."""
    available = cost.get("available") or {}
    names = {
        "lut": "look-up tables",
        "ff": "flip-flops",
        "dsp": "multiplier blocks",
        "bram": "block RAMs",
    }
    rows = []
    for key, name in names.items():
        have = available.get(key)
        rows.append(
            (
                name,
                "–" if cost[key] is None else amount(cost[key]),
                "–" if not have else amount(have),
                "–" if not have or cost[key] is None else percent(cost[key] / have),
            )
        )
    blocks: list[Block] = [
        Text(
            text=f"{cost['machine']} for {cost['target']}, out of context (the AXI ports lead to "
            f"no pins or other logic): {cost['verdict']}."
        ),
        Table(heads=("", "used", "in the part", "share"), rows=rows),
    ]
    if cost["fmax_mhz"] is not None:
        blocks.append(Text(text=f"Placed and routed clock: {cost['fmax_mhz']:.1f} MHz."))
    return Section(title="On an FPGA", blocks=blocks)


def cost_fact(cost: Result) -> dict[str, str]:
    """The one figure of a cost result that stands first on a page."""
    if cost["fmax_mhz"] is not None:
        note = f"placed and routed on {cost['target']}, out of context"
        return {"label": "Clock", "value": f"{cost['fmax_mhz']:.1f} MHz", "note": note}
    used = "–" if cost["lut"] is None else amount(cost["lut"])
    note = f"{cost['target']}, out of context: {cost['verdict']}"
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
