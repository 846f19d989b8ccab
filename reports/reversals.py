"""`python -m bitwright.reports.reversals`: what a proxy ranks one way and a core the other, on real networks.

Trains the networks of three recipes, runs them on core-medium and on variants of it, and writes
docs/reversals.md. Every sentence that says which is better is made of the figures beside it, and a reversal
that doesn't appear is told as such.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .files import write_text
from .method_runs import MACHINE, SETTINGS, run_stages
from .progress import say
from .units import amount, energy, percent, size

if TYPE_CHECKING:
    from ..mapper.machine import Machine
    from ..models.compress.compression import Compressed
    from ..models.network import Network
    from ..sim.result import Result

__all__ = ["REVERSALS", "Case", "Section", "bandwidth", "codebook", "granularity", "main"]

_SAME = 0.005
"""A difference in accuracy that counts as none: half a point."""
_CLEARLY = 1.1
"""By how much a bus of twice the width must gain more than an array of twice the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network as it runs: what proxies count of it, and what the machine does."""

    title: str
    payload_bytes: int
    macs: int
    """On weights that aren't 0."""
    accuracy: float
    """Of the integer network, on the test images."""
    dense_bytes: int
    """Of all weights as the core loads them."""
    run: Result
    more_array: Result
    """On twice the rows."""
    more_bus: Result
    """On a bus of twice the width."""
    bus_bytes: int

    @property
    def energy_pj(self) -> float:
        """Event energy of the run."""
        return self.run.total_energy_pj

    @property
    def bus_share(self) -> float:
        """The part of the cycles in which the bus brings data."""
        return self.run.read_bytes / self.bus_bytes / self.run.cycles

    @property
    def loading_share(self) -> float:
        """The part of the cycles in which the array waits for activations or weights that aren't loaded."""
        stalls = self.run.stalls
        return (stalls.get("activations", 0) + stalls.get("weights", 0)) / self.run.cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A reversal: the table, what one would expect, what comes, and whether that is a reversal."""

    title: str
    expected: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    found: str
    holds: bool


def granularity(before: Case, groups: Case, single: Case) -> Section:
    """A fine cut in MACs against a smaller cut of whole filters."""
    holds = single.macs < groups.macs and (
        single.run.cycles > groups.run.cycles and single.energy_pj > groups.energy_pj
    )
    products, filters = (1 - case.macs / before.macs for case in (single, groups))
    spared, spared_by_filters = (
        1 - case.run.busy_cycles / before.run.busy_cycles for case in (single, groups)
    )
    found = (
        f"On the machine, single weights take {amount(single.run.cycles)} cycles and "
        f"{energy(single.energy_pj)}, filters {amount(groups.run.cycles)} and {energy(groups.energy_pj)}: "
        f"single weights take {_times(single.run.cycles, groups.run.cycles)} the cycles and "
        f"{_times(single.energy_pj, groups.energy_pj)} the energy. The array leaves out a step only where "
        "all weights are 0 that its rows and lanes hold at once, so that "
        f"cutting {percent(products)} of the products one by one spares it {percent(spared)} of its busy "
        f"cycles; cutting {percent(filters)} of them by filters, which leaves a smaller dense network, "
        f"spares it {percent(spared_by_filters)}."
    )
    return Section(
        title="A fine cut in MACs loses to a smaller cut of filters",
        expected=f"By products, one would cut single weights: {percent(products)} of the products go, "
        f"against {percent(filters)} where whole filters do.",
        heads=("network", "MACs on weights ≠ 0", "accuracy", "busy cycles", "DRAM read", "cycles", "energy"),
        rows=tuple(
            (
                case.title,
                amount(case.macs),
                percent(case.accuracy),
                amount(case.run.busy_cycles),
                f"{amount(case.run.read_bytes)} B",
                amount(case.run.cycles),
                energy(case.energy_pj),
            )
            for case in (before, single, groups)
        ),
        found=found,
        holds=holds,
    )


def codebook(plain: Case, coded: Case) -> Section:
    """A codebook in Huffman codes against int8 weights."""
    same = coded.run.cycles == plain.run.cycles and coded.run.read_bytes == plain.run.read_bytes
    loss = plain.accuracy - coded.accuracy
    spared = (plain.payload_bytes - coded.payload_bytes) / plain.bus_bytes
    found = (
        f"Accuracy changes by {-100 * loss:+.1f} points{', which is nothing' if loss <= _SAME else ''}. The "
        f"run takes {amount(coded.run.cycles)} cycles against {amount(plain.run.cycles)} and reads "
        f"{amount(coded.run.read_bytes)} B against {amount(plain.run.read_bytes)} B: the core loads what the "
        "codes stand for as int8 and has no decoder for them (hardware path: *modelled*), so their bytes are "
        "saved where the network is stored and sent. Decoded behind LOAD, they would spare the bus at most "
        f"{amount(spared)} of the {amount(plain.run.cycles)} cycles, in "
        f"{percent(plain.run.busy_cycles / plain.run.cycles)} of which the array is busy: a bound, not a run."
    )
    return Section(
        title="A codebook wins bytes and loses nothing, and the core doesn't notice",
        expected=f"By bytes, the codebook is {plain.payload_bytes / coded.payload_bytes:.2f} times as good: "
        f"{size(coded.payload_bytes)} against {size(plain.payload_bytes)}.",
        heads=("network", "payload", "accuracy", "DRAM read", "cycles", "energy"),
        rows=tuple(
            (
                case.title,
                f"{amount(case.payload_bytes)} B",
                percent(case.accuracy),
                f"{amount(case.run.read_bytes)} B",
                amount(case.run.cycles),
                energy(case.energy_pj),
            )
            for case in (plain, coded)
        ),
        found=found,
        holds=coded.payload_bytes < plain.payload_bytes and loss <= _SAME and same,
    )


def bandwidth(wide: Case, ternary: Case, binary: Case) -> Section:
    """Low bits whose products are cheap, but whose weights still come over the bus one by one."""
    cases = (wide, ternary, binary)

    def ratios(of: Callable[[Case], int]) -> list[float]:
        return [of(case) / of(wide) for case in (ternary, binary)]

    gains = [
        (case.run.cycles / case.more_array.cycles, case.run.cycles / case.more_bus.cycles) for case in cases
    ]
    holds = all(bus > _CLEARLY * array for array, bus in gains)
    found = (
        f"Of int8's bytes, ternary and binary weights take {_each(ratios(_weight_bytes))}, of its busy "
        f"cycles {_each(ratios(_busy))}, of its cycles {_each(ratios(_cycles))}. By the cycle model's "
        f"account the array waits for loads in {_each(case.loading_share for case in cases)} of the cycles "
        f"of int8, ternary and binary, and the bus brings data in {_each(case.bus_share for case in cases)}. "
        f"Twice the array makes them {', '.join(f'{array:.2f}' for array, _ in gains)} times as fast, twice "
        f"the bus {', '.join(f'{bus:.2f}' for _, bus in gains)} times"
        + (": each weight is used once an image, so the bus sets the pace." if holds else ".")
    )
    return Section(
        title="Low bits are bandwidth-bound where each weight is used once",
        expected=f"By products, the array is what counts: it is busy in {amount(wide.run.busy_cycles)} "
        f"cycles with int8 weights and in {amount(binary.run.busy_cycles)} with binary ones, twice the array "
        "would halve them again, and a wider bus adds no product.",
        heads=(
            *("weights", "accuracy", "weights' bytes", "busy cycles", "cycles"),
            *("waits for loads", "bus busy", "cycles, array × 2", "cycles, bus × 2"),
        ),
        rows=tuple(
            (
                case.title,
                percent(case.accuracy),
                f"{amount(case.dense_bytes)} B",
                amount(case.run.busy_cycles),
                amount(case.run.cycles),
                percent(case.loading_share),
                percent(case.bus_share),
                amount(case.more_array.cycles),
                amount(case.more_bus.cycles),
            )
            for case in cases
        ),
        found=found,
        holds=holds,
    )


def _weight_bytes(case: Case) -> int:
    return case.dense_bytes


def _busy(case: Case) -> int:
    return case.run.busy_cycles


def _cycles(case: Case) -> int:
    return case.run.cycles


def _each(shares: Iterable[float]) -> str:
    return ", ".join(percent(share) for share in shares)


def _times(more: float, less: float) -> str:
    return f"{more / less:.2f} times"


REVERSALS: Mapping[str, Callable[[Mapping[str, Case]], Section]] = {
    "granularity-reversal": lambda cases: granularity(cases["before"], cases["method"], cases["rival"]),
    "codebook-reversal": lambda cases: codebook(cases["rival"], cases["method"]),
    "bandwidth-reversal": lambda cases: bandwidth(cases["before"], cases["rival"], cases["method"]),
}
"""By recipe: the section that its networks make, `before` being that after the first pass, in int8."""

_TITLES = {
    "granularity-reversal": {"before": "before", "method": "filters cut", "rival": "single weights cut"},
    "codebook-reversal": {"before": "before", "method": "codebook, Huffman", "rival": "int8"},
    "bandwidth-reversal": {"before": "int8", "method": "binary", "rival": "ternary"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the document is written and all reversals appear in it, 1 if one doesn't."""
    parser = argparse.ArgumentParser(prog="reversals", description="Run the reversals; write their document.")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=PATH", help="mnist")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/reversals.md"))
    parser.add_argument("--folder", type=Path, default=Path("build/methods"), help="states")
    parser.add_argument("--quick", action="store_true", help="small networks on the package's digits")
    given = parser.parse_args(arguments)
    places = {"digits": "digits", **dict(entry.partition("=")[::2] for entry in given.data)}
    parts, missing = [_head(given.quick)], []
    for stem in REVERSALS:
        section, commands = _shown(stem, given.quick, places, given.folder / "states")
        parts.append(_text(section, commands))
        if not section.holds:
            missing.append(stem)
        say(f"{stem}: {'a reversal' if section.holds else 'NO reversal'}")
    write_text(given.output, "\n".join(parts))
    return 1 if missing else 0


def _shown(
    stem: str, quick: bool, places: Mapping[str, str], states: Path
) -> tuple[Section, tuple[str, ...]]:
    """A recipe's section, and the commands that make its networks."""
    from ..models.compress.recipe import load_recipe

    name = f"{stem}.quick" if quick else stem
    recipe = load_recipe(name)
    place = places.get(str(recipe.data))
    if place is None:
        raise SystemExit(
            f"recipe {name} is shown on {recipe.data}: give --data {recipe.data}=PATH, or --quick"
        )
    stages = run_stages(recipe, place, states)
    cases = {part: _case(_TITLES[stem][part], done) for part, done in stages.items()}
    settings = " ".join(f"--set {setting}" for setting in SETTINGS)
    commands, where = [], "digits" if recipe.data == "digits" else f"{recipe.data}.npz"
    for part, option in (("method", ""), ("rival", " --rival")):
        file = f"{_TITLES[stem][part].split(',')[0].replace(' ', '-')}.bw"
        commands += [
            f"bitwright compress {recipe.model} --recipe {name}{option} --data {where} -o {file}",
            f"bitwright simulate {file} --machine {MACHINE} {settings}",
        ]
    return REVERSALS[stem](cases), tuple(commands)


def _case(title: str, done: Compressed) -> Case:
    from ..mapper.machine_file import load_machine, override_machine

    machine = override_machine(load_machine(MACHINE), list(SETTINGS))
    larger = override_machine(machine, [f"array.rows={2 * machine.array.rows}"])
    wider = override_machine(machine, [f"bus.data_bits={16 * machine.bus_bytes}"])
    integers = done.integers()
    records = integers.network.weights.values()
    return Case(
        title=title,
        payload_bytes=done.payload_bytes,
        macs=done.kept_macs,
        accuracy=done.integer_accuracy(integers),
        dense_bytes=sum(record.dense_bytes for record in records),
        run=_run(integers.network, machine),
        more_array=_run(integers.network, larger),
        more_bus=_run(integers.network, wider),
        bus_bytes=machine.bus_bytes,
    )


def _run(network: Network, machine: Machine) -> Result:
    from ..sim.cycle import simulate
    from .core_mapping import map_for

    return simulate(map_for(network, machine))


def _head(quick: bool) -> str:
    command = "python -m bitwright.reports.reversals --quick" if quick else "make reversals"
    return (
        f"# Rank reversals\n\nWritten by `{command}`: trained networks that a proxy ranks one way and a core "
        f"the other. Cycles, bytes and event energy are {MACHINE}'s ({', '.join(SETTINGS)}), for one image, "
        "rtl-exact; accuracies are those of the integer networks on the test images. Every sentence that "
        "says which is better is made of the figures beside it; a reversal that didn't appear would be told "
        "as such.\n"
    )


def _text(section: Section, commands: Sequence[str]) -> str:
    lines = [f"## {section.title}", "", section.expected, ""]
    lines += [f"| {' | '.join(section.heads)} |", f"| --- |{' ---: |' * (len(section.heads) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in section.rows]
    if not section.holds:
        lines += ["", "**The reversal does not appear in these figures.**"]
    lines += ["", section.found, "", *(f"    {command}" for command in commands), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
