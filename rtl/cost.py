"""What hardware costs on an FPGA: Yosys counts its cells, nextpnr places it and tells the clock."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..mapper.machine import Machine
from .fpga import RESOURCES, Recipe, Target, find_target, target_names
from .place import Placement, ResourceUse, SlowestPath, place
from .toolchain import Progress, ToolError, check_name, package_version, silent
from .yosys import ATTRIBUTION, Synthesis, synthesise_counts

__all__ = [
    "Cost",
    "ResourceUse",
    "Try",
    "leaf_form",
    "synthesise",
    "synthesise_unit",
    "synthesise_verilog",
    "target_names",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """What one way to ask Yosys gave."""

    recipe: str
    resources: Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cells that a design takes on a target, and its clock if it was placed.

    `lut`, `ff`, `dsp`, `bram`, `lutram` are counted after synthesis, so they compare with and without
    place-and-route; `placed` has nextpnr's own counts, which add what packing and routing need. None is
    what the target doesn't have or the tool doesn't tell, never a zero.
    """

    target: str
    lut: int
    ff: int
    dsp: int
    bram: int
    lutram: int | None
    """Those of `lut` that are memory."""
    fmax_mhz: float | None
    """Median over the seeds, routed; None: not placed, not routed, or without a clock."""
    placed_mhz: float | None
    """Median over the seeds of nextpnr's estimate between placing and routing, wires predicted."""
    fmax_by_seed: Mapping[str, float | None]
    """Placer seed → its routed clock; empty if not placed."""
    clock: str
    """How the clock was obtained, or why there is none."""
    speed_grade: str | None
    """Of the part, in whose timing model the clock was obtained; None if not placed."""
    fits: bool | None
    """None: the target is a family. Without `placed`, True says that the counts leave room."""
    text: str
    """`fits`, `does not fit: 312 of 156 multipliers`, …"""
    resources: Mapping[str, ResourceUse]
    placed: Mapping[str, ResourceUse] | None
    """Of the median seed."""
    slowest: SlowestPath | None
    """Of the median seed."""
    cells: Mapping[str, int]
    """Cell type → count, as Yosys names them."""
    modules: Mapping[str, Mapping[str, int | None]]
    """Unit of the top → resource → count; `unit.part` is within its unit's count."""
    attribution: str
    """How `modules` was obtained."""
    recipe: str
    """The way to ask Yosys that these counts are of."""
    tries: tuple[Try, ...]
    """All that were tried; fewest LUTs chosen, where a clock is asked for among those with carry chains."""
    tools: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The cost as plain JSON tables."""
        return dataclasses.asdict(self)


def leaf_form(target: str) -> str:
    """The vendor form of leaf cells (`verilog.leaf_verilog`) that a target takes."""
    synthesis = find_target(target).synthesis.split()[0]
    return {"synth_ecp5": "ecp5", "synth_xilinx": "xilinx"}.get(synthesis, "behavioural")


def synthesise(
    machine: Machine,
    target: str,
    *,
    pnr: bool = False,
    route: bool = True,
    seeds: Sequence[int] = (1,),
    tries: bool = False,
    progress: Progress = silent,
) -> Cost:
    """The cost of a machine's core on `target`; asked for the machine's clock.

    Args:
        target: one of `target_names()`.
        pnr: place and route too, out of context; takes minutes.
        route: without it `pnr` places alone, and the clock is nextpnr's estimate.
        seeds: of the placer; the clock is the median of all.
        tries: ask Yosys in each of the target's ways and keep the one with the fewest LUTs; where a clock
            is asked for, of those with carry chains.

    Raises:
        ValueError: an unknown target, no place-and-route for it, or no seed.
        ToolError: a tool is missing or failed. That a part is too small is a result, not an error.
    """
    from .verilog import TOP, core_verilog

    return synthesise_verilog(
        core_verilog(machine, leaf=leaf_form(target)),
        TOP,
        target,
        pnr=pnr,
        route=route,
        seeds=seeds,
        tries=tries,
        clock_mhz=machine.clock_hz / 1e6,
        progress=progress,
    )


def synthesise_unit(
    unit: Any,
    target: str,
    *,
    cells: str = "",
    pnr: bool = False,
    seeds: Sequence[int] = (1,),
    tries: bool = True,
    clock_mhz: float = 200.0,
    progress: Progress = silent,
) -> Cost:
    """The cost of one Amaranth component by itself; see `synthesise`.

    The counts are the unit's own. The clock is of the unit between registers at all its ports: without them,
    paths from and to the ports would not be timed.

    Args:
        cells: Verilog of modules that the unit instantiates by name.
    """
    from .registered import Registered
    from .verilog import component_verilog

    text = component_verilog(unit, "unit") + cells
    own = synthesise_verilog(text, "unit", target, tries=tries, clocked=pnr, progress=progress)
    if not pnr:
        return own
    timed = synthesise_verilog(
        component_verilog(Registered(unit), "timed") + cells,
        "timed",
        target,
        pnr=True,
        seeds=seeds,
        recipe=own.recipe,
        clock_mhz=clock_mhz,
        progress=progress,
    )
    taken = ("fmax_mhz", "placed_mhz", "fmax_by_seed", "clock", "speed_grade", "placed", "slowest", "tools")
    changes = {name: getattr(timed, name) for name in taken}
    changes["clock"] += ", between registers at all ports"
    if own.fits and not timed.fits:
        changes |= {"fits": timed.fits, "text": timed.text}
    return dataclasses.replace(own, **changes)


def synthesise_verilog(
    verilog: str,
    top: str,
    target: str,
    *,
    pnr: bool = False,
    route: bool = True,
    seeds: Sequence[int] = (1,),
    tries: bool = False,
    recipe: str = "default",
    clocked: bool = False,
    clock_mhz: float = 100.0,
    progress: Progress = silent,
) -> Cost:
    """The cost of any Verilog text, its clock's port named `clk`; see `synthesise`.

    Kept by content: each way to ask Yosys and each placer seed is run once.

    Args:
        recipe: the way to ask Yosys without `tries`; one of the target's.
        clocked: the counts stand beside a clock, as with `pnr`: of `tries`, none without carry chains wins.
    """
    part = find_target(target)
    check_name(top, "top")
    if pnr and part.placer is None:
        placeable = [name for name in target_names() if find_target(name).placer]
        raise ValueError(
            f"place-and-route is there for {', '.join(placeable)}, not for {target}: leave pnr out"
        )
    if not seeds:
        raise ValueError("seeds must name at least one placer seed")
    recipes = part.recipes if tries else (_find_recipe(part, recipe),)
    made = [synthesise_counts(verilog, top, part, each, progress=progress) for each in recipes]
    weighed = [_weigh(each.cells, part) for each in made]
    # Multipliers and block RAMs are scarcer than LUTs: what spends more of them is no better. Nor is what is
    # smaller without carry chains where a clock is asked for.
    candidates = [i for i, each in enumerate(recipes) if each.carries or not (pnr or clocked)]
    best = min(
        candidates or range(len(made)),
        key=lambda i: (weighed[i]["dsp"], weighed[i]["bram"], weighed[i]["lut"], i),
    )
    return _cost_of(
        made[best], weighed[best], part, _tried(made, weighed), pnr, route, seeds, clock_mhz, progress
    )


def _cost_of(
    made: Synthesis,
    used: Mapping[str, int],
    part: Target,
    tries: tuple[Try, ...],
    pnr: bool,
    route: bool,
    seeds: Sequence[int],
    clock_mhz: float,
    progress: Progress,
) -> Cost:
    resources = {
        name: ResourceUse(used=count, available=part.available.get(name)) for name, count in used.items()
    }
    fits, text = _judge(resources, part)
    tools = {"pyosys": package_version("pyosys")}
    clock = "not placed" if part.placer else "not placed: synthesised only, nextpnr has no such family"
    speed_grade = None
    placements: list[Placement] = []
    if pnr and part.placer is not None:
        tools[part.placer.package] = package_version(part.placer.package)
        if fits:
            for seed in seeds:
                placements.append(
                    place(
                        made.netlist,
                        part.placer,
                        seed=seed,
                        clock_mhz=clock_mhz,
                        route=route,
                        progress=progress,
                    )
                )
            speed_grade = part.placer.speed_grade
            how = "nextpnr" if route else "estimated by nextpnr after placing, not routed"
            clock = (
                f"{how}, {part.placer.part}, speed grade {speed_grade}, out of context, "
                f"median of {len(seeds)} seeds"
            )
        else:
            clock = "not placed: it does not fit"
    median = _median(placements)
    if placements and median is None:
        fits, text = False, f"does not fit: {placements[0].complaint}"
        clock, speed_grade = "not placed: it does not fit", None
    return Cost(
        target=part.name,
        lut=used["lut"],
        ff=used["ff"],
        dsp=used["dsp"],
        bram=used["bram"],
        lutram=used.get("lutram"),
        fmax_mhz=None if median is None else _median_of([each.fmax_mhz for each in placements]),
        placed_mhz=None if median is None else _median_of([each.placed_mhz for each in placements]),
        fmax_by_seed={str(each.seed): each.fmax_mhz for each in placements},
        clock=clock,
        speed_grade=speed_grade,
        fits=fits,
        text=text,
        resources={name: resources.get(name, ResourceUse(used=None, available=None)) for name in RESOURCES},
        placed=None if median is None else _placed(median),
        slowest=None if median is None else median.slowest,
        cells=made.cells,
        modules={owner: _all(_weigh(counts, part)) for owner, counts in made.modules.items()},
        attribution=ATTRIBUTION,
        recipe=made.recipe,
        tries=tries,
        tools=tools,
    )


def _find_recipe(part: Target, name: str) -> Recipe:
    for recipe in part.recipes:
        if recipe.name == name:
            return recipe
    known = ", ".join(repr(recipe.name) for recipe in part.recipes)
    raise ValueError(f"recipe for {part.name} must be one of {known}, not {name!r}")


def _tried(made: Sequence[Synthesis], weighed: Sequence[Mapping[str, int]]) -> tuple[Try, ...]:
    return tuple(
        Try(recipe=each.recipe, resources=_all(used)) for each, used in zip(made, weighed, strict=True)
    )


def _all(used: Mapping[str, int]) -> dict[str, int | None]:
    """Every resource; None where the target has no such thing."""
    return {name: used.get(name) for name in RESOURCES}


def _placed(placement: Placement) -> dict[str, ResourceUse]:
    untold = ResourceUse(used=None, available=None)
    return {name: placement.resources.get(name, untold) for name in RESOURCES}


def _median(placements: Sequence[Placement]) -> Placement | None:
    """The placement in the middle, the lower of two; None if none fits."""
    done = [each for each in placements if not each.complaint]
    done.sort(key=lambda each: each.fmax_mhz or each.placed_mhz or 0.0)
    return done[(len(done) - 1) // 2] if done else None


def _median_of(clocks: Sequence[float | None]) -> float | None:
    reached = [mhz for mhz in clocks if mhz is not None]
    return statistics.median(reached) if reached else None


def _weigh(cells: Mapping[str, int], part: Target) -> dict[str, int]:
    """Resource that the target has → how much of it the cells take."""
    used = dict.fromkeys(part.resources, 0)
    for name, count in cells.items():
        if name not in part.cells:
            raise ToolError(
                f"Yosys made {count} cells {name!r} for {part.name}, and rtl/fpga.py doesn't say what "
                "they take"
            )
        for resource, weight in part.cells[name].items():
            used[resource] += weight * count
    return used


def _judge(resources: Mapping[str, ResourceUse], part: Target) -> tuple[bool | None, str]:
    if not part.available:
        return None, "a family, no part: nothing is said of fitting"
    over = [
        f"{use.used} of {use.available} {part.units[name]}"
        for name, use in resources.items()
        if use.available is not None and use.used is not None and use.used > use.available
    ]
    return (False, f"does not fit: {', '.join(over)}") if over else (True, "fits")
