"""Graphs as layers and the tensors between them."""

import math

import numpy as np
import pytest
from bitwright.mapper.layer_graph import FlowTensor, LayerGraph, Rows, Step, graph_steps, network_steps
from bitwright.mapper.problem import Problem, layer_problem
from bitwright.models.graph import Graph, Node, Value
from bitwright.models.topology import network_topology
from bitwright.models.zoo import resnet8_stack

CONV = {"kernel_shape": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "group": 1}
POOL = {"kernel_shape": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0)}


def _graph(nodes: list[Node], shapes: dict[str, tuple[int, ...]], outputs: tuple[str, ...]) -> Graph:
    constants = {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if name.startswith("w")}
    values = {
        name: Value(name=name, shape=shape, dtype=np.dtype(np.float32)) for name, shape in shapes.items()
    }
    inputs = tuple(name for name in shapes if name.startswith("in"))
    return Graph(
        name="net", source="onnx", inputs=inputs, outputs=outputs, nodes=tuple(nodes),
        constants=constants, values=values,
    )  # fmt: skip


def _node(op: str, inputs: str, output: str, **attributes: object) -> Node:
    return Node(
        op=op, name=f"{op}.{output}", inputs=tuple(inputs.split()), outputs=(output,), attributes=attributes
    )


def test_what_works_on_the_fly_makes_no_tensor_of_its_own() -> None:
    # conv a → relu b → pool c; conv d and its sum with c.
    nodes = [
        _node("Conv", "in w1", "a", **CONV),
        _node("Relu", "a", "b"),
        _node("MaxPool", "b", "c", **POOL),
        _node("Conv", "c w2", "d", **CONV),
        _node("Add", "d c", "e"),
        _node("Flatten", "e", "f"),
    ]
    shapes = {
        "in": (1, 3, 8, 8), "w1": (4, 3, 3, 3), "a": (1, 4, 8, 8), "b": (1, 4, 8, 8), "c": (1, 4, 4, 4),
        "w2": (4, 4, 3, 3), "d": (1, 4, 4, 4), "e": (1, 4, 4, 4), "f": (1, 64),
    }  # fmt: skip
    problems = [
        Problem(name="Conv.a", K=4, C=3, OY=8, OX=8, FY=3, FX=3),
        Problem(name="Conv.d", K=4, C=4, OY=4, OX=4, FY=3, FX=3, input_bits=4),
    ]
    found = graph_steps(_graph(nodes, shapes, ("f",)), problems)
    assert [(s.name, s.inputs, s.outputs) for s in found.steps] == [
        ("Conv.a", ("in",), ("a",)),
        ("MaxPool.c", ("a",), ("c",)),
        ("Conv.d", ("c",), ("d",)),
        ("Add.e", ("d", "c"), ("e",)),
    ]
    assert found.steps[0].rows == Rows(outputs=8, kernel=3, pad_top=1)
    assert found.steps[1].rows == Rows(outputs=4, kernel=2, stride=2)
    assert {x: t.size_bits for x, t in found.tensors.items()} == {
        "in": 8 * 192, "a": 8 * 256, "c": 4 * 64, "d": 8 * 64, "e": 8 * 64,
    }  # fmt: skip
    assert found.tensors["a"].rows == 8
    assert found.outputs == ("e",)
    # c is read by the sum, two steps after it was made.
    assert found.lives() == {"in": (-1, 0), "a": (0, 1), "c": (1, 3), "d": (2, 3), "e": (3, 4)}


def test_what_is_concatenated_lies_in_one_tensor() -> None:
    nodes = [
        _node("Conv", "in w1", "a", **CONV),
        _node("Conv", "a w2", "b", **CONV),
        _node("Concat", "a b", "c", axis=1),
        _node("Conv", "c w3", "d", **CONV),
    ]
    shapes = {
        "in": (1, 3, 4, 4), "w1": (2, 3, 3, 3), "a": (1, 2, 4, 4), "w2": (3, 2, 3, 3), "b": (1, 3, 4, 4),
        "c": (1, 5, 4, 4), "w3": (1, 5, 3, 3), "d": (1, 1, 4, 4),
    }  # fmt: skip
    problems = [
        Problem(name=f"Conv.{x}", K=k, C=c, OY=4, OX=4, FY=3, FX=3)
        for x, k, c in (("a", 2, 3), ("b", 3, 2), ("d", 1, 5))
    ]
    found = graph_steps(_graph(nodes, shapes, ("d",)), problems)
    assert [(s.inputs, s.outputs) for s in found.steps] == [
        (("in",), ("c",)),
        (("c",), ("c",)),
        (("c",), ("d",)),
    ]
    assert found.tensors["c"].size_bits == 8 * 5 * 16
    assert found.lives()["c"] == (0, 2)


def test_a_matrix_that_moves_stands_where_weights_do() -> None:
    nodes = [_node("MatMul", "in1 w1", "a"), _node("MatMul", "in1 a", "b"), _node("MatMul", "w2 b", "c")]
    shapes = {"in1": (4, 4), "w1": (4, 4), "a": (4, 4), "b": (4, 4), "w2": (4, 4), "c": (4, 4)}
    problems = [Problem(name=f"MatMul.{x}", K=4, C=4, OX=4) for x in "abc"]
    found = graph_steps(_graph(nodes, shapes, ("c",)), problems)
    assert [(s.inputs, s.weights) for s in found.steps] == [
        (("in1",), ()), (("in1", "a"), ("a",)), (("b",), ("b",)),
    ]  # fmt: skip


def test_a_layer_without_a_problem_is_named() -> None:
    nodes = [_node("MatMul", "in w1", "a")]
    with pytest.raises(ValueError, match=r"layer 'MatMul\.a': no problem of this name is given"):
        graph_steps(_graph(nodes, {"in": (4, 4), "w1": (4, 4), "a": (4, 4)}, ("a",)), [])


def test_a_step_that_reads_what_is_not_made_is_refused() -> None:
    tensors = {x: FlowTensor(name=x, size_bits=8) for x in "ab"}
    with pytest.raises(ValueError, match="step 's': its input 'b' is made by no step before it"):
        LayerGraph(name="n", steps=(Step(name="s", inputs=("b",), outputs=("a",)),), tensors=tensors)
    with pytest.raises(ValueError, match="step 's': its tensor 'c' is not listed"):
        LayerGraph(name="n", steps=(Step(name="s", inputs=(), outputs=("c",)),), tensors=tensors)


def test_an_integer_networks_sums_are_no_tensors_and_residuals_stay_alive() -> None:
    network = resnet8_stack()
    problems = [layer_problem(layer) for layer in network_topology(network).layers]
    found = network_steps(network, problems)
    # One step a convolution, linear layer, pool and sum; requantisations and activations ride along.
    kinds = ("conv", "linear", "maxpool", "avgpool", "add")
    assert [s.name for s in found.steps] == [x.name for x in network.layers if x.kind in kinds]
    made = {x: step.name for step in found.steps for x in step.outputs}
    shapes = {x.name: network.tensors[x.output].shape for x in network.layers}
    for tensor, name in made.items():
        assert found.tensors[tensor].size_bits == 8 * math.prod(shapes[name])
    lives = found.lives()
    for i, step in enumerate(found.steps):
        if step.problem is None and len(step.inputs) == 2:
            assert all(lives[x][0] < i <= lives[x][1] for x in step.inputs)
            assert max(i - lives[x][0] for x in step.inputs) > 1
