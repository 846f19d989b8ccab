"""FINN's binary and ternary digits networks on the core: bits, cycles, bytes as reference and model say."""

from pathlib import Path

import numpy as np
import pytest
from bitwright.mapper import load_machine, map_network, override_machine
from bitwright.mapper.machine import Machine
from bitwright.models.importers import load_onnx, lower_graph
from bitwright.models.importers.run import core_input
from bitwright.models.network import Network
from bitwright.models.reference import run_reference
from bitwright.reports.agreement import Job, compare
from bitwright.sim.functional import run_functional
from numpy.typing import NDArray


def digits(data: Path, name: str, count: int) -> tuple[Network, NDArray[np.int8]]:
    """The integer part of a network, and what the host makes of MNIST's first test images for it."""
    model = lower_graph(load_onnx(data / "models" / "qonnx" / f"{name}.onnx"))
    with np.load(data / "mnist.npz") as images:
        pixels = (images["x_test"][:count, None] / 255).astype(np.float32)
    (step,) = model.cores
    (source,) = model.graph.inputs
    return step.network, core_input(model, step, {source: pixels}).astype(np.int8)


@pytest.mark.parametrize("name", ["TFC_1W1A", "TFC_1W2A"])
def test_a_low_bit_network_runs_as_its_reference(name: str, shared_data: Path) -> None:
    network, images = digits(shared_data, name, 20)
    program = map_network(network, load_machine("core-medium"))
    found = np.stack([run_functional(program, image, seed=1) for image in images])
    assert np.array_equal(found, run_reference(network, images))


def require_rtl_agrees(machine: Machine, data: Path, count: int) -> None:
    network, images = digits(data, "TFC_1W1A", count)
    program = map_network(network, machine)
    jobs = [
        Job(name=f"digit {number}", network=network, program=program, x=image, memory=machine.memory)
        for number, image in enumerate(images)
    ]
    results = compare(machine, jobs)
    assert len(results) == count
    for result in results:
        assert (result.mismatches, result.cycle_difference, result.byte_difference) == (0, 0, 0), str(result)
        assert result.agrees, str(result)


@pytest.mark.slow
def test_the_binary_network_agrees_on_a_core_of_binary_elements(shared_data: Path) -> None:
    require_rtl_agrees(override_machine(load_machine("core-small"), ['array.pes=["binary"]']), shared_data, 2)


@pytest.mark.slow
def test_the_binary_network_agrees_on_rtl_for_twenty_digits(shared_data: Path) -> None:
    # core-medium is the smallest preset that serves binary weights.
    require_rtl_agrees(load_machine("core-medium"), shared_data, 20)
