"""The report's sections on compressed forms: what each buys, and on which core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import figures
from .forms import EVERY
from .page import Figure, Section, Table, Text
from .units import amount, energy, percent, seconds, size

__all__ = [
    "FORM_HEADS",
    "MACHINE_HEADS",
    "clock_words",
    "form_rows",
    "forms_fact",
    "forms_section",
    "machine_rows",
    "machines_section",
]

Row = Mapping[str, Any]

FORM_HEADS = ("form", "accuracy", "weights", "cycles", "DRAM bytes", "event energy")
MACHINE_HEADS = (
    "core", "form", "LUT", "FF", "DSP", "BRAM", "Fmax, placed", "routed",
    "cycles", "time an image", "LUT × time",
)  # fmt: skip


def form_rows(forms: Sequence[Row]) -> list[tuple[str, ...]]:
    """The forms as cells of `FORM_HEADS`."""

    def cell(value: float | None, write: Any) -> str:
        return "–" if value is None else str(write(value))

    return [
        (
            row["form"],
            percent(row["accuracy"]),
            size(row["payload_bytes"]),
            cell(row["cycles"], amount),
            cell(row["dram_bytes"], amount),
            cell(row["energy_pj"], energy),
        )
        for row in forms
    ]


def _clock(mhz: float | None) -> str:
    return "–" if mhz is None else f"{mhz:.1f} MHz"


def clock_words(machines: Sequence[Row]) -> str:
    """By which clock the cores are compared."""
    if all(row["fmax_mhz"] is not None for row in machines):
        return "Time is at the lower of the machine's clock and the routed Fmax."
    return (
        "Time is at the lower of the machine's clock and the Fmax that nextpnr estimates after placing, for "
        "all cores alike; routing finds another, as the routed core shows."
    )


def machine_rows(machines: Sequence[Row]) -> list[tuple[str, ...]]:
    """The cores and the forms that they run as cells of `MACHINE_HEADS`."""
    return [
        (
            row["core"],
            row["form"],
            amount(row["lut"]),
            amount(row["ff"]),
            amount(row["dsp"]),
            amount(row["bram"]),
            _clock(row["placed_mhz"]),
            _clock(row["fmax_mhz"]),
            amount(row["cycles"]),
            seconds(row["seconds"]),
            f"{row['lut_seconds']:.3g} LUT·s",
        )
        for row in machines
    ]


def forms_fact(forms: Sequence[Row], images: int) -> dict[str, str]:
    """The accuracy of the first integer form, and of the others beside it."""
    integer = [row for row in forms if row["cycles"] is not None]
    note = ", ".join(f"{row['form']} {percent(row['accuracy'])}" for row in integer[1:])
    return {
        "label": f"Accuracy, {integer[0]['form']}",
        "value": percent(integer[0]["accuracy"]),
        "note": f"{note}; {amount(images)} test images",
    }


def forms_section(forms: Sequence[Row], machines: Sequence[Row]) -> Section:
    """What each form costs on one core, and the fronts of accuracy against time and against energy."""
    timed = [
        figures.Point(
            name=row["form"],
            series="core for every form" if row["core"] == EVERY else "core for the form alone",
            cost=row["seconds"],
            merit=row["accuracy"],
        )
        for row in machines
    ]
    spent = [
        figures.Point(name=row["form"], series="", cost=row["energy_pj"], merit=row["accuracy"])
        for row in forms
        if row["energy_pj"] is not None
    ]
    return Section(
        title="What each form buys",
        blocks=[
            Text(
                text="One image on the core that serves every form. Weights are the bytes of their payload; "
                "float32 is the network before compression, which no core runs."
            ),
            Table(heads=FORM_HEADS, rows=form_rows(forms)),
            Figure(
                svg=figures.pareto(
                    "Accuracy against time an image", timed, "time an image", "test accuracy", seconds
                ),
                caption=f"Accuracy against latency. {clock_words(machines)} The line is the Pareto front.",
            ),
            Figure(
                svg=figures.pareto(
                    "Accuracy against event energy an image",
                    spent,
                    "event energy an image",
                    "test accuracy",
                    energy,
                ),
                caption="Accuracy against event energy (counted events × table; not FPGA power), on the core "
                "for every form. The line is the Pareto front.",
            ),
        ],
    )


def machines_section(machines: Sequence[Row]) -> Section:
    """The cores side by side at the same DRAM bandwidth, and what a form takes on each."""
    served = {row["core"]: ", ".join(row["pes"]) for row in machines}
    text = "; ".join(f"{core}: {kinds}" for core, kinds in served.items())
    return Section(
        title="One core for all, or one for each",
        blocks=[
            Text(
                text="The same core but for the PE kinds that it serves, with the same buffers and the same "
                "DRAM bandwidth. First and last layers are int8 in every form, so every core has the int8 "
                f"kind. PE kinds: {text}."
            ),
            Table(
                heads=MACHINE_HEADS,
                rows=machine_rows(machines),
                text=frozenset({0, 1}),
                caption=f"LUT × time is the latency at equal area: less is better. {clock_words(machines)}",
            ),
        ],
    )
