import numpy as np
import pytest
from bitwright.models.graph import Graph, Node, Value
from bitwright.models.importers.load import network_model
from bitwright.models.importers.model import HostStep, Model
from bitwright.models.importers.ranges import find_ranges, range_bits
from bitwright.models.reference import trace_reference
from bitwright.models.zoo import random_input, random_network


@pytest.mark.parametrize(
    ("least", "greatest", "bits"),
    [(0, 0, 1), (0, 1, 1), (3, 255, 8), (0, 256, 9), (-1, 0, 1), (-1, 1, 2), (-128, 127, 8), (-129, 5, 9)],
)
def test_whole_numbers_take_the_bits_of_their_extremes(least: int, greatest: int, bits: int) -> None:
    assert range_bits(least, greatest, whole=True) == bits


@pytest.mark.parametrize(
    ("least", "greatest", "bits"),
    [(0, 0, 0), (0, 0.9, 0), (0, 1, 1), (0.1, 3.99, 2), (-4, 3, 4), (-0.2, 0.24, -1), (0, 0.3, -1)],
)
def test_floats_take_the_bits_before_the_point(least: float, greatest: float, bits: int) -> None:
    assert range_bits(least, greatest, whole=False) == bits


def test_a_networks_ranges_are_those_of_its_tensors_in_batches_of_any_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = random_network(2)
    x = random_input(network, 0, 7)
    tensors = trace_reference(network, x)
    for values in (1, 1 << 25):  # one image at once, and all
        monkeypatch.setattr("bitwright.models.importers.ranges._BATCH_VALUES", values)
        found = find_ranges(network_model(network), x)
        assert np.array_equal(found.outputs, tensors[network.output])
        for layer, row in zip(network.layers, found.layers, strict=True):
            made = tensors[layer.output]
            assert (row.name, row.least, row.greatest) == (layer.name, int(made.min()), int(made.max()))
            assert row.fmt == network.tensors[layer.output].fmt.name
            record = network.weights.get(layer.name)
            assert (row.weights is None) == (record is None)
            if row.weights is not None and record is not None:
                assert sum(row.weights.counts) == record.values.size


def float_model(weights: np.ndarray) -> Model:
    nodes = (
        Node(op="Gemm", name="fc", inputs=("x", "w"), outputs=("y",), attributes={"transB": 1}),
        Node(op="Relu", name="relu", inputs=("y",), outputs=("z",)),
    )
    shapes = {"x": (1, 2), "w": weights.shape, "y": (1, 3), "z": (1, 3)}
    values = {name: Value(name=name, shape=s, dtype=np.dtype(np.float32)) for name, s in shapes.items()}
    graph = Graph(
        name="float", source="onnx", inputs=("x",), outputs=("z",), nodes=nodes,
        constants={"w": weights}, values=values,
    )  # fmt: skip
    return Model(graph=graph, steps=(HostStep(nodes=nodes, reason="it is float"),))


def test_a_float_graphs_ranges_are_by_hand() -> None:
    weights = np.array([[1, 0], [0, 2], [-3, 0.5]], np.float32)
    found = find_ranges(float_model(weights), np.array([[1, 1], [2, -1]], np.float32))
    # (1, 2, -2.5) and (2, -2, -6.5)
    layer, relu = found.layers
    assert (layer.least, layer.greatest, layer.bits) == (-6.5, 2.0, 4)
    assert (relu.least, relu.greatest, relu.bits) == (0.0, 2.0, 2)
    assert layer.weights is not None and layer.weights.levels == (-3.0, 0.0, 0.5, 1.0, 2.0)
    assert relu.weights is None


def test_values_that_are_not_finite_name_the_layer() -> None:
    with pytest.raises(ValueError, match="layer fc makes values that aren't finite"):
        find_ranges(float_model(np.full((3, 2), 3e38, np.float32)), np.full((1, 2), 1e30, np.float32))
    with pytest.raises(ValueError, match="layer fc"):
        find_ranges(float_model(np.full((3, 2), np.nan, np.float32)), np.zeros((1, 2), np.float32))
