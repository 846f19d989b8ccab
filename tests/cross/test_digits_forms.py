"""The digits network in every form, trained for a moment: mapped, run, and equal to the reference."""

import numpy as np
import pytest
from bitwright.mapper import load_machine, map_network, override_machine
from bitwright.models.forms import FORMS
from bitwright.models.reference import run_reference
from bitwright.models.train import TrainedDigits, train_forms
from bitwright.sim.functional import run_functional


@pytest.fixture(scope="module")
def trained() -> dict[str, TrainedDigits]:
    return train_forms(seed=4, float_epochs=2, qat_epochs=2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alone", [True, False], ids=["its_own_core", "core_for_all"])
def test_a_trained_form_runs_as_its_reference_on_real_digits(
    form: str, alone: bool, trained: dict[str, TrainedDigits]
) -> None:
    # A form is called as its PE kind; the first and last layers are int8.
    pes = ["int8", form] if alone and form != "int8" else ["int8"] if alone else list(FORMS)
    names = ", ".join(f'"{name}"' for name in pes)
    machine = override_machine(load_machine("core-small"), [f"array.pes=[{names}]"])
    network, images = trained[form].network, trained[form].test_images[:16]
    program = map_network(network, machine)
    found = np.stack([run_functional(program, image, seed=1) for image in images])
    assert np.array_equal(found, run_reference(network, images))
