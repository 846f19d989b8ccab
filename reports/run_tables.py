"""A mapping on a core machine, and a run of it, as tables on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .table import plain, table
from .units import amount, energy, percent, seconds, size

__all__ = ["run_line", "show_map", "show_run", "worst_stalls"]


def show_map(value: dict[str, Any], console: Console) -> None:
    """Nothing; prints how a model lies on a core machine."""
    slots = ", ".join(f"{count} of {name}" for name, count in value["slots"].items())
    console.print(
        f"{value['network']} on {value['machine']} for {value['objective']}: {amount(value['commands'])} "
        f"commands; tiles in the buffers: {slots}"
    )
    rows = []
    for layer in value["layers"]:
        tiles = layer["tiles"]
        rows.append(
            (
                layer["name"],
                tiles["count"],
                f"{tiles['K']} × {tiles['OY']} × {tiles['OX']}",
                f"{tiles['columns']} {tiles['column_mode']}",
                layer["order"],
                *(f"{size(used)} of {size(all_)}" for used, all_ in layer["buffers"].values()),
                amount(layer["dram_bytes"]),
                amount(layer["estimated_cycles"]),
                amount(layer["evaluated"]),
                "yes" if layer["optimal"] else "no",
            )
        )
    heads = ["layer", "tiles", "K × OY × OX", "columns", "outer loop"]
    heads += ["activations", "weights", "outputs", "DRAM bytes", "cycles (estimate)", "candidates", "optimal"]
    console.print(table(heads, rows, text=(0, 2, 3, 4)))
    console.print(
        "Optimal: no tile, order or column mode of the search's space has a lower estimate; no: a split "
        "reduction, or the cycle model preferred another of the best few.",
        soft_wrap=True,
    )
    for layer in value["layers"]:
        if "nest" in layer:
            console.print()
            for line in layer["nest"]:
                console.print(plain(line), soft_wrap=True)
    console.print(
        f"\nMemory: {size(value['memory_bytes'])}, of it {size(value['constant_bytes'])} of commands and "
        f"constants; tensors that live at once take {size(value['peak_tensor_bytes'])} at most",
        soft_wrap=True,
    )
    console.print(
        table(
            ("tensor", "kind", "address", "bytes", "from layer", "to layer"),
            (
                (
                    row["name"], row["kind"], f"{row['address']:#x}", amount(row["bytes"]),
                    row["from"] or "(before)", row["to"] or "(after)",
                )
                for row in value["memory"]
            ),
            text=(0, 1, 4, 5),
        )
    )  # fmt: skip


def run_line(value: dict[str, Any]) -> str:
    """What a simulated run came to, with or without a program."""
    total = value["total"]
    return (
        f"{value['network']} on {value['machine']} ({value['fidelity']}): "
        f"{amount(total['cycles'])} cycles = {seconds(total['cycles'] / value['clock_hz'])} at "
        f"{value['clock_hz'] / 1e6:g} MHz, utilization {percent(total['utilization'])}"
    )


def show_run(value: dict[str, Any], console: Console) -> None:
    """Nothing; prints a run on a core machine: cycles, bytes, energy, stalls."""
    total = value["total"]
    console.print(run_line(value))
    console.print(
        f"DRAM {amount(total['dram_read_bytes'])} bytes read, "
        f"{amount(total['dram_write_bytes'])} written; event energy {energy(total['energy_pj'])} "
        f"at {value['node_nm']} nm (counted events × table; not FPGA power)"
    )
    if encoded := value.get("encoded_weights"):
        console.print(
            f"weights of {encoded['layers']} layers are encoded, {amount(encoded['payload_bytes'])} bytes "
            f"(payload modelled): this run loads their dense image, {amount(encoded['dense_bytes'])} bytes"
        )
    if idle := value.get("steps_to_leave_out"):
        names = idle["layers"]
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        console.print(
            f"weights of {', '.join(names[:4])}{more} are zero in whole steps, which this machine runs all "
            f"the same: --set buffers.step_entries={idle['step_entries']} leaves them out"
        )
    if "dram_time_pj" in total:
        console.print(f"apart from that, refreshes and standby of its DRAM: {energy(total['dram_time_pj'])}")
    console.print(
        table(
            ("layer", "cycles", "utilization", "read", "written", "energy", "stalled on"),
            (
                (
                    layer["name"],
                    amount(layer["cycles"]),
                    percent(layer["utilization"]),
                    amount(layer["read_bytes"]),
                    amount(layer["write_bytes"]),
                    energy(layer["energy_pj"]),
                    worst_stalls(layer["stall_cycles"]),
                )
                for layer in value["layers"]
            ),
            text=(0, 6),
        )
    )


def worst_stalls(stalls: dict[str, int]) -> str:
    """The two causes that cost most, with their cycles."""
    rows = sorted(stalls.items(), key=lambda row: -row[1])
    return ", ".join(f"{name} {amount(count)}" for name, count in rows[:2] if count)
