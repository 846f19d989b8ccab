"""Sections of results on abstract machines: modelled, and apart from all that is rtl-exact or of an FPGA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import figures
from .page import Block, Figure, Heading, Section, Table, Text
from .units import amount, energy, percent, seconds, size

__all__ = ["PIPELINE_HEADS", "modelled_facts", "modelled_section", "pipeline_rows"]

PIPELINE_HEADS = ("unit", "rows × columns", "PE × SIMD", "cycles", "done at")

Result = Mapping[str, Any]


def modelled_facts(value: Result) -> list[dict[str, str]]:
    """The figures of a modelled run that stand first on a page."""
    total, clock = value["total"], value["clock_hz"]
    moved = total["dram_read_bytes"] + total["dram_write_bytes"]
    cycles, note = amount(total["cycles"]), f"modelled on {value['machine']}"
    return [
        {"label": "Cycles an image", "value": cycles, "note": note},
        {
            "label": "Time an image",
            "value": seconds(total["cycles"] / clock),
            "note": f"at the machine's {clock / 1e6:g} MHz, modelled",
        },
        {"label": "DRAM traffic an image", "value": size(round(moved)), "note": note},
        {
            "label": "Event energy an image",
            "value": energy(total["energy_pj"]),
            "note": f"of an abstract machine at {value['node_nm']} nm, modelled",
        },
    ]


def modelled_section(value: Result) -> Section:
    """Latency, stalls, bytes by level, roofline and event energy of a run on an abstract machine."""
    total, clock = value["total"], value["clock_hz"]
    intro = (
        "Fidelity: modelled. This machine has no RTL: its figures are counted by rules and held to published "
        f"ones, not to a circuit. {amount(total['cycles'])} cycles an image, "
        f"{seconds(total['cycles'] / clock)} at the machine's {clock / 1e6:g} MHz."
    )
    blocks: list[Block] = [Text(text=intro)]
    for key in ("formats", "dram_rule"):
        if value.get(key):
            blocks.append(Text(text=f"{key.replace('_', ' ').capitalize()}: {value[key]}."))
    blocks += _layer_blocks(value)
    blocks += _queue_blocks(value)
    blocks += _pipeline_blocks(value)
    blocks += _byte_blocks(value)
    blocks += _roofline_blocks(value)
    blocks += _energy_blocks(value)
    return Section(title=f"{value['network']} on {value['machine']} (modelled)", blocks=blocks)


def _layer_blocks(value: Result) -> list[Block]:
    layers, total = value["layers"], value["total"]
    rows = [
        (
            layer["name"],
            amount(layer["macs"]),
            amount(layer["cycles"]),
            seconds(layer["cycles"] / value["clock_hz"]),
            percent(layer["utilization"]),
            amount(round(layer["dram_read_bytes"])),
            amount(round(layer["dram_write_bytes"])),
            energy(layer["energy_pj"]),
            _how(layer),
        )
        for layer in layers
    ]
    foot = (
        "all",
        amount(total["macs"]),
        amount(total["cycles"]),
        seconds(total["cycles"] / value["clock_hz"]),
        percent(total["utilization"]),
        amount(round(total["dram_read_bytes"])),
        amount(round(total["dram_write_bytes"])),
        energy(total["energy_pj"]),
        "",
    )
    causes = list(dict.fromkeys(cause for layer in layers for cause in layer["stall_cycles"]))
    parts = {"working": [layer["cycles"] - sum(layer["stall_cycles"].values()) for layer in layers]}
    parts |= {cause: [layer["stall_cycles"].get(cause, 0) for layer in layers] for cause in causes}
    chart = figures.stacked_bars(
        f"Modelled cycles of each layer of {value['network']} on {value['machine']}",
        [layer["name"] for layer in layers],
        parts,
        "cycles",
    )
    heads = (
        "layer",
        "MACs",
        "cycles",
        "time",
        "utilization",
        "bytes read",
        "bytes written",
        "energy",
        "run as",
    )
    return [
        Table(
            heads=heads,
            rows=rows,
            foot=foot,
            text=frozenset({0, 8}),
            caption="Bytes are those of the outermost memory. Utilization counts products that are formed, "
            "of all that the PEs could form.",
        ),
        Figure(svg=chart, caption="What the PEs did: worked, or waited, by cause."),
    ]


def _how(layer: Result) -> str:
    """What a layer's cycles are from."""
    if "optimal" in layer:
        return "certified nest" if layer["optimal"] else "best nest found"
    return "queues" if "queues" in layer else "unit" if "pe" in layer else "array"


def _queue_blocks(value: Result) -> list[Block]:
    rows = [layer["queues"] for layer in value["layers"] if "queues" in layer]
    if not rows:
        return []
    table = [
        (
            row["layer"],
            *(f"{row['parts_us'][part]:.2f}" for part in ("useful", "fillers", "imbalance")),
            f"{row['modelled_us']:.2f}",
            f"{row['low_us']:.1f} to {row['high_us']:.1f}",
            f"{percent(row['weight_density'])}, {row['weights']}",
            f"{percent(row['activation_density'])}, {row['activations_are']}",
        )
        for row in rows
    ]
    blocks: list[Block] = [
        Heading(text="Sparse layers, entry by entry"),
        Table(
            heads=(
                "layer", "useful, µs", "fillers", "imbalance", "in all", "rounding leaves", "weights",
                "activations",
            ),
            rows=table,
            text=frozenset({0, 5, 6, 7}),
            caption="Useful work and fillers as if all PEs had as much; imbalance is what lies beyond them. "
            f"Not modelled: {'; '.join(rows[0]['not_modelled'])}.",
        ),
    ]  # fmt: skip
    told = [row["analysis"] for row in rows if "analysis" in row]
    return blocks + [
        Text(text=f"{head}. {'; '.join(' '.join(line.split()) for line in rest)}.") for head, *rest in told
    ]


def pipeline_rows(value: Result) -> list[tuple[str, ...]]:
    """A pipeline's units as cells of `PIPELINE_HEADS`."""
    return [
        (
            layer["name"],
            f"{layer['mh']} × {layer['mw']}",
            f"{layer['pe']} × {layer['simd']}",
            amount(layer["cycles"]),
            amount(layer["done_cycle"]),
        )
        for layer in value["layers"]
    ]


def _pipeline_blocks(value: Result) -> list[Block]:
    if "pipeline" not in value:
        return []
    pipe = value["pipeline"]
    text = (
        f"All units work at once: an image every {amount(pipe['initiation_interval'])} cycles; alone in the "
        f"pipeline one takes {amount(pipe['latency_cycles'])}. Folding: {pipe['source']}. Assumed: "
        f"{'; '.join(pipe['assumptions'])}."
    )
    blocks: list[Block] = [
        Heading(text="Pipeline"),
        Text(text=text),
        Table(heads=PIPELINE_HEADS, rows=pipeline_rows(value)),
    ]
    return blocks + [Text(text=line) for line in value.get("published", ())]


def _byte_blocks(value: Result) -> list[Block]:
    layers = value["layers"]
    levels = list(dict.fromkeys(level for layer in layers for level in layer["bytes_by_level"]))
    rows = []
    for layer in layers:
        moved = {level: sum(parts.values()) for level, parts in layer["bytes_by_level"].items()}
        rows.append((layer["name"], *(size(round(moved.get(level, 0))) for level in levels)))
    operands = {
        operand: [
            sum(layer["bytes_by_level"].get(level, {}).get(operand, 0.0) for layer in layers)
            for level in levels
        ]
        for operand in ("W", "I", "O")
    }
    names = {"W": "weights", "I": "inputs", "O": "outputs"}
    chart = figures.stacked_bars(
        f"Bytes at each level of {value['machine']} for {value['network']}",
        levels,
        {names[operand]: moved for operand, moved in operands.items()},
        "bytes",
    )
    return [
        Heading(text="Bytes by level"),
        Table(
            heads=("layer", *levels),
            rows=rows,
            caption="Reads and writes of all instances of a level, together.",
        ),
        Figure(svg=chart, caption="The whole network's, by operand."),
    ]


def _roofline_blocks(value: Result) -> list[Block]:
    lines = value["roofline"]
    placed = [layer for layer in lines["layers"] if layer["macs_per_byte"]]
    if not placed or lines["bytes_per_cycle"] is None:
        return []
    chart = figures.roofline(
        f"Roofline of {value['network']} on {value['machine']}, modelled",
        [(layer["name"], layer["macs_per_byte"], layer["macs_per_cycle"]) for layer in placed],
        sorted({round(layer["peak_macs_per_cycle"], 6) for layer in placed}),
        lines["bytes_per_cycle"],
    )
    unlimited = "dram_rule" in value or "pipeline" in value or any("queues" in x for x in value["layers"])
    caption = "Each layer under what the outermost memory (slope) and the PEs (flat) allow."
    if unlimited:
        caption += (
            " Cycles here take operands as there when asked for, so a layer above the slope needs more "
            "bandwidth than the machine's file gives."
        )
    return [Heading(text="Roofline"), Figure(svg=chart, caption=caption)]


def _energy_blocks(value: Result) -> list[Block]:
    layers = value["layers"]
    parts: dict[str, float] = {}
    for layer in layers:
        for name, picojoules in layer["energy_by_level"].items():
            parts[name] = parts.get(name, 0.0) + picojoules
    chart = figures.bars(f"Modelled event energy of {value['network']} on {value['machine']}", parts, energy)
    title = f"{value['energy_title'].capitalize()} at {value['node_nm']} nm; not FPGA power"
    sources: Sequence[tuple[str, str]] = list(value["energy_sources"].items())
    return [
        Heading(text=title),
        Text(text=f"{energy(value['total']['energy_pj'])} an image."),
        Figure(svg=chart),
        Table(heads=("level", "source of its energies"), rows=sources, text=frozenset({0, 1})),
    ]
