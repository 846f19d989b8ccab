import numpy as np
import pytest
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import Machine
from bitwright.mapper.machine_file import load_machine, override_machine, preset_names
from bitwright.mapper.mapping import MappingError
from bitwright.mapper.pe import PeKind
from bitwright.mapper.sampling import random_machine
from bitwright.models.formats import Format
from bitwright.models.layers import Linear, Requantize
from bitwright.models.network import Network, Tensor
from bitwright.models.numerics import Rounding
from bitwright.models.reference import run_reference
from bitwright.models.weights import WeightRecord
from bitwright.models.zoo import FORMATS, random_input, random_network, resnet8_stack
from bitwright.sim.cycle import simulate
from bitwright.sim.functional import run_functional

ALL_PES = tuple(kind.key for kind in PeKind)
ROOM = [
    "buffers.activation_bytes=16384", "buffers.weight_bytes=16384", "buffers.output_bytes=16384",
    "buffers.param_channels=4096",
]  # fmt: skip


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


@pytest.mark.parametrize("seed", range(100, 125))
def test_layers_of_mixed_weight_formats_compute_what_the_reference_says(seed):
    print(f"seed {seed}")
    network = random_network(seed, weights=("int8", "ternary", "binary"))
    require_equal(network, random_machine(seed, ALL_PES), seed)


def require_equal(network: Network, machine: Machine, seed: int) -> None:
    """The mapped program gives what the reference does, in two orders of the units."""
    try:
        program = map_network(network, machine)
    except MappingError as fault:
        # Buffers of a random machine may be too small for a tile, nothing else may stand in the way.
        assert fault.buffer is not None, fault
        program = map_network(network, override_machine(machine, ROOM))
    x = random_input(network, seed)
    expected = run_reference(network, x)[0]
    assert np.array_equal(run_functional(program, x[0]), expected)
    assert np.array_equal(run_functional(program, x[0], seed=seed), expected)


@pytest.mark.parametrize("seed", range(40))
def test_packed_activations_and_thresholds_compute_what_the_reference_says(seed):
    print(f"seed {seed}")
    require_equal(random_network(seed, formats=FORMATS), random_machine(seed, ALL_PES), seed)


@pytest.mark.parametrize("seed", range(40))
def test_lane_wise_layers_compute_what_the_reference_says(seed):
    print(f"seed {seed}")
    require_equal(random_network(seed, vector=True, max_image=12), random_machine(seed, ALL_PES), seed)


@pytest.mark.parametrize("seed", range(1000, 1030))
def test_networks_of_all_features_compute_what_the_reference_says(seed):
    print(f"seed {seed}")
    network = random_network(seed, formats=FORMATS, vector=True, groups=True, max_image=12)
    require_equal(network, random_machine(seed, ALL_PES), seed)


@pytest.mark.parametrize("seed", range(60))
def test_tangled_graphs_compute_what_the_reference_says(tangles, seed):
    print(f"seed {seed}")
    require_equal(tangles.tangled_network(seed), random_machine(seed, ALL_PES), seed)


def wide_layer(fmt: str) -> Network:
    """One linear layer of 256 inputs and 8 outputs, all weights 1."""
    int8, int32 = Format.parse("int8"), Format.parse("int32")
    weights = WeightRecord.dense(
        layer="fc", values=np.ones((8, 256), np.int8), fmt=Format.parse(fmt), scales=np.ones(8)
    )
    tensors = [
        Tensor(name="x", shape=(256,), fmt=int8, scale=1.0, zero_point=0),
        Tensor(name="acc", shape=(8,), fmt=int32),
        Tensor(name="y", shape=(8,), fmt=int8, scale=1.0, zero_point=0),
    ]
    post = Requantize(
        name="post",
        input="acc",
        output="y",
        multiplier=np.full(8, 1 << 30, np.int32),
        shift=np.full(8, 8, np.int32),
        rounding=Rounding.HALF_EVEN,
        low=-128,
        high=127,
    )
    return Network(
        name=f"wide_{fmt}",
        input="x",
        output="y",
        tensors={tensor.name: tensor for tensor in tensors},
        layers=(Linear(name="fc", input="x", output="acc"), post),
        weights={"fc": weights},
    )


def test_a_format_that_no_pe_serves_is_refused_with_the_layer():
    with pytest.raises(MappingError, match="layer fc: no PE of core-small serves ternary weights on int8"):
        map_network(wide_layer("ternary"), load_machine("core-small"))


def test_low_bit_weights_take_a_quarter_of_the_cycles_of_int8():
    # core-small: 16 lanes in place of 4, so a long reduction takes a quarter of the issues.
    machine = override_machine(load_machine("core-small"), [f"array.pes={list(ALL_PES)}"])
    busy = {}
    for fmt in ("int8", "ternary", "binary"):
        network = wide_layer(fmt)
        busy[fmt] = simulate(map_network(network, machine)).busy_cycles
    assert busy["int8"] == 4 * busy["ternary"] == 4 * busy["binary"]


@pytest.mark.parametrize("preset", preset_names())
def test_resnet8_shapes_on_the_machines_that_ship(preset):
    network = resnet8_stack(0)
    program = map_network(network, load_machine(preset))
    x = random_input(network, 0)
    assert np.array_equal(run_functional(program, x[0]), run_reference(network, x)[0])
