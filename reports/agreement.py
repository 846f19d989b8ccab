"""Agreement runs: reference, functional run, cycle model and RTL held to equal bits, cycles, bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..mapper.lower import map_network
from ..mapper.machine import Machine, MemoryTiming
from ..mapper.mapping import MappingError
from ..mapper.objective import Objective
from ..mapper.pe import PeKind
from ..mapper.program import Program
from ..models.importers.model import Model
from ..models.importers.run import core_input
from ..models.network import Network
from ..models.reference import run_reference
from .core_mapping import map_for
from .inputs import Preparation, load_images
from .model_summary import core_networks, host_rows
from .workers import hand_over, workers

__all__ = [
    "CaseResult",
    "Job",
    "Progress",
    "compare",
    "draw_memory",
    "draw_network",
    "draw_objective",
    "draw_pes",
    "summarize",
    "verify_model",
    "verify_random",
]

Progress = Callable[[str], None]

CASES_PER_MACHINE = 16
"""Random cases that share a machine, since each machine's RTL is built once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One case: a network's program on a machine, an input, a memory."""

    name: str
    """How a failure names it; with the way to run it again."""
    network: Network
    program: Program
    x: NDArray[Any]
    """Stored integers, shape of the network's input."""
    memory: MemoryTiming


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What one case came to."""

    name: str
    mismatches: int
    """Output values of RTL or functional run that aren't the reference's."""
    rtl_cycles: int
    model_cycles: int
    rtl_read_bytes: int
    model_read_bytes: int
    rtl_write_bytes: int
    model_write_bytes: int
    faults: tuple[str, ...]
    """What the RTL's bench found wrong besides."""

    @property
    def cycle_difference(self) -> int:
        """RTL cycles less the model's."""
        return self.rtl_cycles - self.model_cycles

    @property
    def byte_difference(self) -> int:
        """Larger of the differences in bytes read and bytes written."""
        return max(
            abs(self.rtl_read_bytes - self.model_read_bytes),
            abs(self.rtl_write_bytes - self.model_write_bytes),
        )

    @property
    def agrees(self) -> bool:
        """Whether bits, cycles and bytes are equal and the bench found nothing else."""
        return not (self.mismatches or self.cycle_difference or self.byte_difference or self.faults)

    def __str__(self) -> str:
        parts = []
        if self.mismatches:
            parts.append(f"{self.mismatches} output values differ")
        if self.cycle_difference:
            parts.append(f"{self.rtl_cycles} cycles in RTL, {self.model_cycles} in the model")
        if self.byte_difference:
            parts.append(
                f"{self.rtl_read_bytes} bytes read and {self.rtl_write_bytes} written in RTL, "
                f"{self.model_read_bytes} and {self.model_write_bytes} in the model"
            )
        return f"{self.name}: " + ("; ".join([*parts, *self.faults]) or "agrees")


def _silent(_: str) -> None:
    """Says nothing."""


def compare(
    machine: Machine, jobs: Sequence[Job], progress: Progress = _silent, trace: Path | None = None
) -> list[CaseResult]:
    """What each job came to, in order, all on one build of the machine's RTL.

    Args:
        machine: whose RTL runs.
        jobs: each with a program for this machine.
        progress: takes a line on what is going on.
        trace: VCD file to write of the first job, which then runs on a build of its own.

    Raises:
        ToolError: a tool is missing, or the build or simulation broke down.
    """
    from ..rtl.runner import RtlCase, run_cases
    from ..sim.cycle import simulate
    from ..sim.functional import run_functional
    from ..sim.port_memory import PortMemory

    cases = []
    for job in jobs:
        memory = machine.memory if job.memory is None else job.memory
        port = PortMemory(machine, memory) if memory.dram else None
        cases.append(RtlCase(program=job.program, x=job.x, memory=memory, port=port))
    runs = run_cases(machine, cases, trace=trace, check=False, progress=progress)
    results = []
    for job, run in zip(jobs, runs, strict=True):
        expected = run_reference(job.network, job.x[np.newaxis])[0].astype(np.int64)
        functional = run_functional(job.program, job.x).astype(np.int64)
        wrong = int(np.count_nonzero(functional != expected))
        if run.output is None:
            wrong = expected.size
        else:
            wrong = max(wrong, int(np.count_nonzero(run.output.astype(np.int64) != expected)))
        model = simulate(job.program, job.memory)
        results.append(
            CaseResult(
                name=job.name,
                mismatches=wrong,
                rtl_cycles=run.cycles,
                model_cycles=model.cycles,
                rtl_read_bytes=run.read_bytes,
                model_read_bytes=model.read_bytes,
                rtl_write_bytes=run.write_bytes,
                model_write_bytes=model.write_bytes,
                faults=run.faults,
            )
        )
    return results


def summarize(results: Sequence[CaseResult], elapsed: float, unmapped: int = 0) -> dict[str, Any]:
    """The `verify` result of some cases; it agrees only if there are any and all do."""
    failures = [result for result in results if not result.agrees]
    return {
        "kind": "verify",
        "agrees": bool(results) and not failures,
        "cases": len(results),
        "mismatches": sum(1 for result in results if result.mismatches or result.faults),
        "cycle_difference": max((abs(result.cycle_difference) for result in results), default=0),
        "byte_difference": max((result.byte_difference for result in results), default=0),
        "rtl_cycles": sum(result.rtl_cycles for result in results),
        "model_cycles": sum(result.model_cycles for result in results),
        "rtl_bytes": sum(result.rtl_read_bytes + result.rtl_write_bytes for result in results),
        "model_bytes": sum(result.model_read_bytes + result.model_write_bytes for result in results),
        "unmapped": unmapped,
        "failures": [str(result) for result in failures],
        "runs": [{**asdict(result), "agrees": result.agrees} for result in results],
        "seconds": elapsed,
    }


def verify_model(
    model: Model,
    machine: Machine,
    *,
    objective: Objective = Objective.LATENCY,
    images: int = 4,
    data: str | Path | None = None,
    preparation: Preparation | None = None,
    seed: int = 0,
    trace: Path | None = None,
    progress: Progress = _silent,
) -> dict[str, Any]:
    """The `verify` result of a model's core steps on one machine, with the machine's own memory timing.

    Args:
        model: what to run; of several core steps each is a case of its own.
        machine: the core to build.
        objective: of the mappings.
        images: random inputs, or how many of `data` at most.
        data: an `.npz` file with images, instead of random inputs of each core step; what the host runs
            before a core step makes its input of them.
        preparation: of these images.
        seed: of the random inputs.
        trace: VCD file to write of the first case.
        progress: takes a line on what is going on.

    Raises:
        ValueError: the model has no core step or can't be mapped, or the data doesn't fit.
        ToolError: see `compare`.
    """
    from ..models.zoo import random_input

    started = time.perf_counter()
    networks = core_networks(model)
    programs = [map_for(network, machine, objective) for network in networks]
    if data is None:
        inputs = [random_input(network, seed, images) for network in networks]
    else:
        taken = load_images(data, model, count=images, preparation=preparation).x
        inputs = [core_input(model, core, {model.graph.inputs[0]: taken}) for core in model.cores]
    jobs = [
        Job(
            name=f"{network.name} on {machine.name}, image {number} (seed {seed})",
            network=network,
            program=program,
            x=x,
            memory=machine.memory,
        )
        for network, program, batch in zip(networks, programs, inputs, strict=True)
        for number, x in enumerate(batch)
    ]
    results = compare(machine, jobs, progress, trace)
    value = summarize(results, time.perf_counter() - started)
    digest = "+".join(program.digest() for program in programs)
    digests = {"program_digest": digest, "machine_digest": machine.digest()}
    about = {"network": model.graph.name, "machine": machine.name, "seed": seed, "host": host_rows(model)}
    return {**value, **digests, **about}


def draw_memory(seed: int) -> MemoryTiming:
    """A random memory: every third one is ideal but for its latencies, the others stall."""
    rng = np.random.default_rng([seed, 31])
    quiet = seed % 3 == 0
    return MemoryTiming(
        read_latency=int(rng.integers(1, 60)),
        write_latency=int(rng.integers(1, 30)),
        beat_interval=1 if quiet else int(rng.integers(1, 4)),
        stall_rate=0 if quiet else int(rng.integers(0, 200)),
        stall_mask=int(rng.choice([0, 1, 3, 7, 15])),
        seed=int(rng.integers(0, 1 << 32)),
    )


def draw_pes(group: int) -> tuple[str, ...]:
    """PE kinds of machine number `group`: int8 alone, all of them, or a random few, in turn."""
    every = tuple(kind.key for kind in PeKind)
    if group % 3 == 0:
        return (PeKind.INT8.key,)
    if group % 3 == 1:
        return every
    rng = np.random.default_rng([group, 63])
    chosen = rng.permutation(len(every))[: int(rng.integers(1, len(every)))]
    if all(PeKind(number).lane_wise for number in chosen.tolist()):  # some layer must sum over lanes
        chosen = np.append(chosen, PeKind.INT8)
    return tuple(every[number] for number in sorted(chosen.tolist()))


def draw_objective(seed: int) -> Objective:
    """The objective of case `seed`: all in turn."""
    return tuple(Objective)[seed % len(Objective)]


def _machine_of(group: int) -> Machine:
    from ..mapper.sampling import random_machine

    return random_machine(group, pes=draw_pes(group))


def draw_network(seed: int, machine: Machine) -> Network:
    """A random network of the formats that `machine` serves, with lane-wise layers where it has VECTOR.

    Where it has step lists, half of the networks have weights that are zero in blocks; where its POST adds
    and a pixel has several lane sets, a quarter have layers of several weight planes.
    """
    from ..models.zoo import random_network
    from ..models.zoo_blocks import with_zero_blocks

    served = [kind for kind in machine.array.kinds if not kind.lane_wise]
    network = random_network(
        seed,
        formats=[(kind.weight_format, kind.act_format) for kind in served],
        vector=len(served) < len(machine.array.kinds),
        planes=min(machine.row_groups, 4) if machine.adds and seed % 4 == 1 else 1,
    )
    return with_zero_blocks(network, seed) if machine.step_lines and seed % 2 else network


def _run_group(group: int, seeds: Sequence[int]) -> tuple[list[CaseResult], int]:
    """Results of the cases `seeds` on machine number `group`, and how many had no mapping."""
    from ..models.zoo import random_input
    from ..sim.energy import event_prices

    machine = _machine_of(group)
    prices = event_prices(machine)
    jobs, unmapped = [], 0
    for seed in seeds:
        network = draw_network(seed, machine)
        try:
            program = map_network(network, machine, objective=draw_objective(seed), prices=prices)
        except MappingError:
            unmapped += 1
            continue
        jobs.append(
            Job(
                name=f"seed {seed} ({network.name} on {machine.name}; again: bitwright verify "
                f"--random 1 --seed {seed})",
                network=network,
                program=program,
                x=random_input(network, seed)[0],
                memory=draw_memory(seed),
            )
        )
    return (compare(machine, jobs) if jobs else []), unmapped


def verify_random(
    count: int, *, seed: int = 0, jobs: int = 1, progress: Progress = _silent
) -> dict[str, Any]:
    """The `verify` result of `count` random networks on random machines with random memories.

    Case number s draws its network, memory and objective from s and its machine from s // 16, so one case
    runs again by its number alone.

    Args:
        count: cases; at least 1.
        seed: number of the first case.
        jobs: processes, each with its own machine.
        progress: takes a line after each machine.

    Raises:
        ValueError: `count` or `jobs` is below 1.
        ToolError: see `compare`.
    """
    if count < 1 or jobs < 1:
        raise ValueError(f"cases and jobs must be at least 1, not {count} and {jobs}")
    started = time.perf_counter()
    groups: dict[int, list[int]] = {}
    for number in range(seed, seed + count):
        groups.setdefault(number // CASES_PER_MACHINE, []).append(number)
    results: list[CaseResult] = []
    unmapped = 0

    def take(part: tuple[list[CaseResult], int]) -> None:
        nonlocal unmapped
        results.extend(part[0])
        unmapped += part[1]
        wrong = sum(not result.agrees for result in results)
        progress(f"{len(results) + unmapped} of {count} cases, {wrong} differ")

    if jobs == 1 or len(groups) == 1:
        for group, numbers in groups.items():
            take(_run_group(group, numbers))
    else:
        with workers(min(jobs, len(groups))) as pool:
            waiting = [hand_over(pool, _run_group, group, numbers) for group, numbers in groups.items()]
            for future in waiting:
                take(future.result())
    value = summarize(results, time.perf_counter() - started, unmapped)
    return {**value, "machines": len(groups), "seed": seed}
