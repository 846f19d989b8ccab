"""A report from results: which sections, in which order, under which verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import sections
from .form_sections import forms_fact, forms_section, machines_section
from .mapping_gain import gain_section
from .modelled_sections import modelled_facts, modelled_section
from .page import Page, Section, render
from .range_sections import info_facts, info_section
from .units import amount

__all__ = ["build_page", "clock_of", "render_report"]

Result = Mapping[str, Any]


def _flatten(results: Sequence[Result]) -> list[Result]:
    """The results with each demo's parts in its place."""
    flat: list[Result] = []
    for result in results:
        if result["kind"] == "demo":
            flat += [*result["runs"], result["verify"], *result["costs"]]
        else:
            flat.append(result)
    return flat


def clock_of(value: Result, costs: Sequence[Result]) -> tuple[float, str]:
    """(hertz, words for it): the lower of the machine's clock and its placed Fmax."""
    nominal = float(value["clock_hz"])
    placed = [
        cost
        for cost in costs
        if cost["machine_digest"] == value["machine_digest"] and cost["fmax_mhz"] is not None
    ]
    if placed:
        best = max(placed, key=lambda cost: cost["fmax_mhz"])
        if best["fmax_mhz"] * 1e6 < nominal:
            return best["fmax_mhz"] * 1e6, f"{best['fmax_mhz']:.1f} MHz, placed on {best['target']}"
    return nominal, f"the machine's {nominal / 1e6:g} MHz"


def _verdict(verifications: Sequence[Result], frameworks: Sequence[Result]) -> dict[str, Any] | None:
    if frameworks and (not verifications or not all(value["agrees"] for value in frameworks)):
        words = [
            f"{value['network']} {'agrees with' if value['agrees'] else 'differs from'} {value['framework']}"
            for value in frameworks
        ]
        return {"good": all(value["agrees"] for value in frameworks), "text": f"{'; '.join(words)}."}
    if not verifications:
        return None
    cases = sum(value["cases"] for value in verifications)
    if all(value["agrees"] for value in verifications):
        text = f"Verified: bits, cycles and bytes are equal in model and RTL, {amount(cases)} runs."
        return {"good": True, "text": text}
    wrong = sum(value["mismatches"] for value in verifications)
    cycles = max(value["cycle_difference"] for value in verifications)
    moved = max(value["byte_difference"] for value in verifications)
    text = (
        f"Not verified: of {amount(cases)} runs {amount(wrong)} differ in bits; cycles differ by up "
        f"to {amount(cycles)}, bytes by up to {amount(moved)}."
    )
    return {"good": False, "text": text}


_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What a result of another version or an edited one leads to: keys, types or values not as written."""


def build_page(results: Sequence[Result], names: Sequence[str] = ()) -> Page:
    """The page of some results: what was asked first, then time, cost and provenance.

    Args:
        results: as `read_result` gives them.
        names: what a message calls each, their files' names; without, their numbers.

    Raises:
        ValueError: there is no result, or one lacks a key that its kind has or has a wrong value there.
    """
    if not results:
        raise ValueError("a report needs at least one result")
    try:
        return _build_page(results)
    except _MALFORMED as fault:
        name = _culprit(results, names or [f"result {number + 1}" for number in range(len(results))])
        text = f"lacks {fault}" if isinstance(fault, KeyError) else f"has a wrong value ({fault})"
        raise ValueError(f"{name}: it {text}: write it again with this version of bitwright") from None


def _culprit(results: Sequence[Result], names: Sequence[str]) -> str:
    """The name of the first result of which alone no page can be made; all names if there is none."""
    for result, name in zip(results, names, strict=True):
        try:
            _build_page([result])
        except _MALFORMED:
            return name
    return ", ".join(names)


def _build_page(results: Sequence[Result]) -> Page:
    parts = _flatten(results)
    costs = [part for part in parts if part["kind"] == "cost"]
    runs = [part for part in parts if part["kind"] == "result"]
    modelled = [part for part in parts if part["kind"] == "modelled"]
    checks = [part for part in parts if part["kind"] == "verify"]
    demos = [result for result in results if result["kind"] == "demo"]
    infos = [part for part in parts if part["kind"] == "info"]
    frameworks = [part for part in parts if part["kind"] == "against"]

    facts: list[Mapping[str, str]] = []
    body: list[Section] = []
    for demo in demos:
        facts.append(forms_fact(demo["forms"], demo["accuracy"]["images"]))
    if runs:
        clock, words = clock_of(runs[0], costs)
        facts += sections.total_facts(runs[0], clock, words)
    elif modelled and not costs:  # never beside a part's clock and LUTs
        facts += modelled_facts(modelled[0])
    facts += [sections.cost_fact(cost) for cost in costs[:1]]
    facts += [fact for value in infos[:1] for fact in info_facts(value)]
    for demo in demos:
        body.append(sections.accuracy_section(demo["accuracy"]))
        body.append(forms_section(demo["forms"], demo["machines"]))
        body.append(machines_section(demo["machines"]))
        body.append(gain_section(demo["mappings"]))
    body += [info_section(value) for value in infos]
    body += [sections.verification_section(check) for check in checks]
    body += [sections.against_section(value) for value in frameworks]
    for number, run in enumerate(runs):
        clock, words = clock_of(run, costs)
        title = f"{run['network']} on {run['machine']}"
        first_of_its_rows = all(run["energy_rows"] != other["energy_rows"] for other in runs[:number])
        body.append(sections.simulation_section(run, clock, words, title, rows_shown=first_of_its_rows))
    body += [modelled_section(value) for value in modelled]
    body += [sections.cost_section(cost) for cost in costs]
    body += [sections.phase_section(demo["phases"]) for demo in demos]
    for result in results:
        if result.get("provenance"):
            body.append(sections.provenance_section(result["provenance"]))

    first = runs[0] if runs else (modelled + checks + costs + infos + frameworks)[0]
    names = [str(first[key]) for key in ("network", "machine", "target", "framework") if first.get(key)]
    return Page(
        title=demos[0]["title"] if demos else " on ".join(names[:2]),
        subtitle=demos[0]["subtitle"] if demos else "Bitwright report",
        verdict=_verdict(checks, frameworks),
        facts=facts,
        sections=body,
    )


def render_report(results: Sequence[Result], names: Sequence[str] = ()) -> str:
    """The HTML page of some results; arguments and errors are those of `build_page`."""
    return render(build_page(results, names))
