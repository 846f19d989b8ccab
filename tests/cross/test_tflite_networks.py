"""Int8 networks that TensorFlow made, on the RTL: bits, cycles, bytes as reference and model say."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bitwright.mapper import load_machine, map_network, override_machine
from bitwright.mapper.machine import Machine
from bitwright.mapper.pe import PeKind
from bitwright.models.importers.tflite_model import load_tflite
from bitwright.models.reference import run_reference
from bitwright.reports.agreement import Job, compare
from bitwright.sim.functional import run_functional
from numpy.typing import NDArray

FILES = {"resnet8": "pretrainedResnet_quant.tflite", "keywords": "kws_ref_model.tflite"}


def stored_inputs(data: Path, name: str, count: int) -> NDArray[np.int8]:
    """CIFAR-10 test images for the ResNet; seeded numbers for the keyword network, which has no data here."""
    if name == "resnet8":
        with np.load(data / "cifar10_10k_2k.npz") as images:
            pixels = images["x_test"][:count]
        return (pixels.astype(np.int16) - 128).astype(np.int8).transpose(0, 3, 1, 2)
    return np.random.default_rng(3).integers(-128, 128, (count, 1, 49, 10), dtype=np.int8)


@pytest.mark.parametrize("machine", ["core-medium", "core-large"])
@pytest.mark.parametrize("name", FILES)
def test_an_int8_network_runs_as_its_reference(name: str, machine: str, shared_data: Path) -> None:
    (step,) = load_tflite(shared_data / "models" / "tflite" / FILES[name]).cores
    program = map_network(step.network, load_machine(machine))
    images = stored_inputs(shared_data, name, 2)
    found = np.stack([run_functional(program, image, seed=1) for image in images])
    assert np.array_equal(found, run_reference(step.network, images))


def require_agreement(data: Path, machine: Machine, counts: dict[str, int]) -> None:
    """So many inputs of each network: bits, cycles and bytes of the RTL are reference's and model's."""
    jobs = []
    for name, count in counts.items():
        (step,) = load_tflite(data / "models" / "tflite" / FILES[name]).cores
        program = map_network(step.network, machine)
        jobs += [
            Job(
                name=f"{name}, input {number}",
                network=step.network,
                program=program,
                x=x,
                memory=machine.memory,
            )
            for number, x in enumerate(stored_inputs(data, name, count))
        ]
    results = compare(machine, jobs)
    assert len(results) == sum(counts.values())
    for result in results:
        assert (result.mismatches, result.cycle_difference, result.byte_difference) == (0, 0, 0), str(result)
        assert result.agrees, str(result)


@pytest.fixture(scope="module")
def small_core() -> Machine:
    """With every PE kind, as the core of test_agreement.py, so that both share one build."""
    kinds = ", ".join(f'"{kind.key}"' for kind in PeKind)
    return override_machine(load_machine("core-small"), [f"array.pes=[{kinds}]"])


def test_the_keyword_network_agrees_on_the_rtl_of_a_small_core(
    small_core: Machine, shared_data: Path
) -> None:
    require_agreement(shared_data, small_core, {"keywords": 1})


def test_every_operator_agrees_on_the_rtl_of_a_small_core(
    small_core: Machine, tmp_path: Path, tflite_writer: ModuleType
) -> None:
    data, shape = tflite_writer.every_operator()
    path = tmp_path / "every.tflite"
    path.write_bytes(data)
    (step,) = load_tflite(path).cores
    x = np.random.default_rng(5).integers(-128, 128, shape, dtype=np.int8).transpose(0, 3, 1, 2)[0]
    program = map_network(step.network, small_core)
    job = Job(name="every operator", network=step.network, program=program, x=x, memory=small_core.memory)
    (result,) = compare(small_core, [job])
    assert result.agrees, str(result)


@pytest.mark.slow
def test_resnet_and_keyword_network_agree_on_the_rtl_of_a_medium_core(shared_data: Path) -> None:
    require_agreement(shared_data, load_machine("core-medium"), {"resnet8": 2, "keywords": 1})
