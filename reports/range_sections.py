"""What `info --ranges` found, as rows for a terminal and as sections and charts of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import figures
from .page import Block, Figure, Heading, Section, Table, Text
from .units import amount, percent, size

__all__ = ["RANGE_HEADS", "info_facts", "info_section", "range_rows"]

Result = Mapping[str, Any]

RANGE_HEADS = (
    "layer",
    "format",
    "least",
    "greatest",
    "bits",
    "weight levels",
    "raw bits",
    "Huffman bits",
    "table bits",
    "Huffman of raw",
)
_HISTOGRAMS = 24
"""Layers whose weights are drawn; the table has all."""
_CHARTED = 60
"""Layers in a bar chart; the table has all."""


def range_rows(ranges: Result) -> list[tuple[str, ...]]:
    """A row for each layer of an analysis, under RANGE_HEADS."""
    rows = []
    for layer in ranges["layers"]:
        found, weights = layer["activation"], layer["weights"]
        bounds = (found["format"], _bound(found["least"]), _bound(found["greatest"]), str(found["bits"]))
        coded: tuple[str, ...] = ("",) * 5
        if weights is not None:
            raw, coded_bits = weights["raw_bits"], weights["huffman_bits"]
            coded = (
                f"{len(weights['levels'])}" + ("" if weights["exact"] else " ranges"),
                amount(raw),
                amount(coded_bits),
                amount(weights["table_bits"]),
                percent((coded_bits + weights["table_bits"]) / raw),
            )
        rows.append((layer["name"], *bounds, *coded))
    return rows


def _bound(value: float) -> str:
    return amount(value) if isinstance(value, int) else f"{value:.4g}"


def info_facts(value: Result) -> list[dict[str, str]]:
    """The figures of a network that stand first on a page."""
    shares = value["shares"]
    return [
        {
            "label": "Multiply-accumulates",
            "value": amount(value["macs"]),
            "note": f"{percent(shares['conv']['macs'])} in convolutions",
        },
        {
            "label": "Parameters",
            "value": amount(value["parameters"]),
            "note": f"{percent(shares['conv']['parameters'])} in convolutions, {size(value['bytes'])}",
        },
    ]


def info_section(value: Result) -> Section:
    """Layers of a network with MACs, parameters and bytes; what its ranges are, where they were asked for."""
    rows = [
        (
            layer["name"],
            layer["kind"],
            layer["weights"] or "",
            "×".join(str(n) for n in layer["output"]["shape"]),
            layer["runs"],
            amount(layer["macs"]),
            amount(layer["parameters"]),
            amount(layer["bytes"]),
        )
        for layer in value["layers"]
        if layer["macs"] or layer["parameters"]
    ]
    foot = ("all", "", "", "", "", amount(value["macs"]), amount(value["parameters"]), amount(value["bytes"]))
    blocks: list[Block] = [
        Table(
            heads=("layer", "kind", "weights", "output", "runs on", "MACs", "parameters", "bytes"),
            rows=rows,
            foot=foot,
            text=frozenset({0, 1, 2, 3, 4}),
        )
    ]
    for reason in dict.fromkeys(row["reason"] for row in value["host"]):
        names = [f"{row['layer']} ({row['op']})" for row in value["host"] if row["reason"] == reason]
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        listed = ", ".join(names[:20])
        blocks.append(Text(text=f"On the host, its cost left out ({reason}): {listed}{more}."))
    if value.get("ranges"):
        blocks += _range_blocks(value["network"], value["ranges"])
    return Section(title=f"The network {value['network']}", blocks=blocks)


def _range_blocks(network: str, ranges: Result) -> list[Block]:
    blocks: list[Block] = [
        Heading(text="Ranges"),
        Text(text=f"{amount(ranges['images'])} images of {ranges['data']}. {ranges['about']}"),
        Table(heads=RANGE_HEADS, rows=range_rows(ranges), text=frozenset({0, 1})),
    ]
    found = ranges["layers"][:_CHARTED]
    if found:
        blocks.append(
            Figure(
                svg=figures.stacked_bars(
                    f"Bits of each layer's activations in {network}",
                    [layer["name"] for layer in found],
                    {"bits": [max(0, layer["activation"]["bits"]) for layer in found]},
                    "bits",
                ),
                caption="Bits that each layer's values took: what a memory for them needs.",
            )
        )
    weighted = [layer for layer in ranges["layers"] if layer["weights"] is not None]
    if weighted:
        blocks += _weight_blocks(network, weighted)
    return blocks


def _weight_blocks(network: str, layers: Sequence[Result]) -> list[Block]:
    shown = layers[:_CHARTED]
    per_weight: dict[str, list[float]] = {"Huffman code": [], "its table": [], "saved against raw": []}
    for layer in shown:
        weights = layer["weights"]
        count = sum(weights["counts"])
        raw, coded, table = (weights[key] / count for key in ("raw_bits", "huffman_bits", "table_bits"))
        per_weight["Huffman code"].append(coded)
        per_weight["its table"].append(table)
        per_weight["saved against raw"].append(max(0.0, raw - coded - table))
    drawn = {layer["name"]: layer["weights"] for layer in layers[:_HISTOGRAMS]}
    rest = f" The first {_HISTOGRAMS} of {len(layers)} layers." if len(layers) > _HISTOGRAMS else ""
    return [
        Figure(
            svg=figures.stacked_bars(
                f"Bits a weight in {network}, Huffman code against raw",
                [layer["name"] for layer in shown],
                per_weight,
                "bits a weight",
            ),
            caption="Where the code saves, the whole bar is the raw form, a level number a weight.",
        ),
        Figure(
            svg=figures.histograms(
                f"Weights of each layer of {network}",
                {name: (weights["levels"], weights["counts"]) for name, weights in drawn.items()},
            ),
            caption=f"How each layer's weights spread over their levels, in shares of a layer.{rest}",
        ),
    ]
