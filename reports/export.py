"""A network's RTL as a folder that stands alone, with what the reference and the model expect of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..mapper.machine import Machine, MemoryTiming
from ..mapper.objective import Objective
from ..models.network import Network
from ..models.reference import run_reference
from ..models.zoo import random_input
from ..rtl.export import export_rtl
from ..rtl.toolchain import Progress, silent
from ..sim.cycle import simulate
from .core_mapping import map_for

__all__ = ["export_network"]


def export_network(
    network: Network,
    machine: Machine,
    folder: str | Path,
    objective: Objective = Objective.LATENCY,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The `rtl` result: the files of a folder whose `make run` tries one random image on the RTL.

    The output expected is the integer reference's, cycles and bytes are the cycle model's. Its memory is the
    machine's, of a machine with a DRAM part the default one without.

    Args:
        network: what the core runs.
        machine: the core.
        folder: where the files go; complete or not at all.
        objective: of its mappings.
        seed: of the image.
        progress: takes a line on what is going on.

    Raises:
        MappingError: the network can't run on this machine.
        ValueError: `folder` holds something else than an earlier export.
        OSError: the folder can't be written.
    """
    program = map_for(network, machine, objective)
    x = random_input(network, seed)
    # The exported bench stands alone; a DRAM part would need this package to answer.
    memory = MemoryTiming() if machine.memory.dram else machine.memory
    model = simulate(program, memory)
    if machine.memory.dram:
        progress(
            f"the folder's bench is a plain memory, not {machine.memory.dram}: its cycles are not simulate's"
        )
    files = export_rtl(
        program,
        x[0],
        memory=memory,
        expected_output=run_reference(network, x)[0],
        expected_cycles=model.cycles,
        expected_read_bytes=model.read_bytes,
        expected_write_bytes=model.write_bytes,
        folder=folder,
        progress=progress,
    )
    return {
        "kind": "rtl",
        "network": network.name,
        "machine": machine.name,
        "program_digest": program.digest(),
        "machine_digest": machine.digest(),
        "cycles": model.cycles,
        "memory": "plain" if machine.memory.dram else "the machine's",
        "files": [str(path) for path in files],
    }
