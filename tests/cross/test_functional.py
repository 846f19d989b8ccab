import numpy as np
import pytest
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import load_machine, preset_names
from bitwright.mapper.sampling import random_machine
from bitwright.models.reference import run_reference
from bitwright.models.zoo import random_input, random_network, resnet8_stack
from bitwright.sim.functional import run_functional


@pytest.mark.parametrize("seed", range(40))
def test_a_random_program_computes_what_the_reference_says(seed):
    print(f"seed {seed}")
    network = random_network(seed)
    program = map_network(network, random_machine(seed))
    x = random_input(network, seed)
    expected = run_reference(network, x)[0]
    assert np.array_equal(run_functional(program, x[0]), expected)
    # Any order of the units that the tokens allow gives the same.
    assert np.array_equal(run_functional(program, x[0], seed=seed), expected)


@pytest.mark.parametrize("preset", preset_names())
def test_resnet8_shapes_on_the_machines_that_ship(preset):
    network = resnet8_stack(0)
    program = map_network(network, load_machine(preset))
    x = random_input(network, 0)
    assert np.array_equal(run_functional(program, x[0]), run_reference(network, x)[0])
