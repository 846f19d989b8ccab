"""The tables of `compress` and `methods` on stdout."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .table import table
from .units import amount, percent, size

__all__ = ["show_compressed", "show_methods"]


def show_compressed(value: dict[str, Any], console: Console) -> None:
    """Nothing; prints what each pass did, the layers at the end, and what is left of the network."""
    before, after = value["original"], value["compressed"]
    console.print(
        table(
            ("pass", "payload", "accuracy before", "after", "time"),
            (
                (
                    entry["name"],
                    size(entry["payload_bytes"]),
                    percent(entry["accuracy_before"]),
                    percent(entry["accuracy_after"]),
                    f"{entry['seconds']:.1f} s",
                )
                for entry in value["passes"]
            ),
        )
    )
    console.print(
        table(
            ("layer", "weights", "kept", "bits", "encoding", "payload"),
            (
                (
                    layer["name"],
                    amount(layer["weights"]),
                    percent(layer["density"]),
                    f"{layer['bits']:g}",
                    layer["encoding"],
                    size(layer["payload_bytes"]),
                )
                for layer in value["passes"][-1]["layers"]
            ),
            text=(0, 4),
        )
    )
    console.print(
        f"{size(before['bytes'])} as float32 → {size(after['payload_bytes'])}, "
        f"{value['ratio_to_float32']:.1f}×; accuracy {percent(before['accuracy'])} → "
        f"{percent(after['accuracy'])}; MACs {amount(before['macs'])} → {amount(after['macs'])}, "
        f"{amount(after['nonzero_macs'])} of them on weights that are not 0"
    )
    if value["network"] is None:
        console.print(f"no integer network: {value['reason']}", soft_wrap=True)
    else:
        console.print(
            f"integers: accuracy {percent(value['integer_accuracy'])}, {value['network']}", soft_wrap=True
        )


def show_methods(value: dict[str, Any], console: Console) -> None:
    """Nothing; prints the survey's methods."""
    console.print(
        table(
            ("method", "reference", "primitive", "state", "hardware", ""),
            (
                (
                    row["name"],
                    " ".join(f"[{r}]" for r in row["references"]),
                    row["primitive"],
                    row["state"],
                    ", ".join(filter(None, (row["hardware"], row["gain"]))),
                    row["title"],
                )
                for row in value["methods"]
            ),
            text=(0, 1, 2, 3, 4, 5),
        )
    )
