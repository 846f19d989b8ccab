"""What the document of reversals says of figures, and that the shipped one says it of real runs."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bitwright.reports.reversals import Case, Section, bandwidth, codebook, granularity, main

DOCUMENT = Path(__file__).parents[2] / "docs" / "reversals.md"


def run(cycles: int, **changes: Any) -> Any:
    """What sections read of a result: half of the cycles busy, a tenth waiting for loads."""
    values = {"busy_cycles": cycles // 2, "read_bytes": 4 * cycles, "total_energy_pj": 10.0 * cycles}
    stalls = {"activations": cycles // 20, "weights": cycles // 20, "post": cycles // 10}
    return SimpleNamespace(cycles=cycles, **{**values, "stalls": stalls, **changes})


def case(title: str, cycles: int, *, bus: float = 1.0, array: float = 1.0, **changes: Any) -> Case:
    """A network that a bus and an array of twice the size make so many times as fast."""
    values: dict[str, Any] = {
        "title": title,
        "payload_bytes": 1000,
        "macs": 1000,
        "accuracy": 0.97,
        "dense_bytes": 1000,
        "run": run(cycles),
        "more_array": run(int(cycles / array)),
        "more_bus": run(int(cycles / bus)),
        "bus_bytes": 8,
    }
    return Case(**{**values, **changes})


def test_shares_are_of_the_runs_cycles() -> None:
    found = case("a", 1000)
    # 4000 bytes on 8 a cycle are 500 cycles; 50 + 50 wait for loads.
    assert (found.bus_share, found.loading_share, found.energy_pj) == (0.5, 0.1, 10_000)


def test_a_deeper_cut_of_single_weights_that_takes_longer_is_a_reversal() -> None:
    before = case("before", 1000)
    section = granularity(before, case("filters", 500, macs=400), case("single", 990, macs=100))
    assert section.holds
    assert "90.0% of the products go, against 60.0%" in section.expected
    assert "1.98 times the cycles and 1.98 times the energy" in section.found


@pytest.mark.parametrize(
    "section",
    [
        granularity(case("b", 1000), case("f", 500, macs=400), case("s", 499, macs=100)),
        granularity(case("b", 1000), case("f", 500, macs=100), case("s", 990, macs=400)),
        codebook(case("int8", 1000), case("coded", 1000, payload_bytes=500, accuracy=0.96)),
        codebook(case("int8", 1000), case("coded", 900, payload_bytes=500)),
        bandwidth(case("a", 900), case("b", 500), case("c", 400)),
        bandwidth(case("a", 900, bus=2), case("b", 500, bus=2), case("c", 400, array=2)),
    ],
)
def test_figures_that_do_not_reverse_a_rank_are_no_reversal(section: Section) -> None:
    assert not section.holds
    assert "sets the pace" not in section.found


def test_a_codebook_is_held_to_bytes_accuracy_and_cycles() -> None:
    section = codebook(case("int8", 1000), case("coded", 1000, payload_bytes=500, accuracy=0.968))
    assert section.holds and "By bytes, the codebook is 2.00 times as good" in section.expected
    # 500 bytes on a bus of 8 a cycle.
    assert (
        "changes by -0.2 points, which is nothing" in section.found and "at most 62 of the" in section.found
    )


def test_what_a_wider_bus_gains_more_than_a_larger_array_is_bound_by_it() -> None:
    cases = [case("int8", 1000, bus=2.0), case("ternary", 400, bus=1.9), case("binary", 200, bus=1.6)]
    section = bandwidth(*cases)
    assert section.holds and "so the bus sets the pace" in section.found
    assert "of its cycles 40.0%, 20.0%" in section.found and "twice the bus 2.00, 1.90, 1.60" in section.found


def test_the_shipped_document_shows_all_three_on_trained_networks() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert len(re.findall("^## ", text, re.MULTILINE)) == 3
    assert "Written by `make reversals`" in text and "does not appear" not in text
    assert text.count("bitwright compress zoo:lenet") == 6


@pytest.mark.slow
def test_quick_recipes_show_the_reversals_on_the_packages_digits(tmp_path: Path) -> None:
    out = tmp_path / "reversals.md"
    assert main(["--quick", "--folder", str(tmp_path), "-o", str(out)]) == 0
    assert "does not appear" not in out.read_text(encoding="utf-8")
