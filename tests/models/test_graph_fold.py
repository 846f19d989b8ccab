from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitwright.models.graph import Graph, fold_batch_norm, fold_constants, run_graph
from bitwright.models.importers import load_onnx
from numpy.typing import NDArray
from onnx import ModelProto, helper
from onnx_cases import model

Array = NDArray[Any]
X = np.ones((1, 3), np.float32)


def read(folder: Path, proto: ModelProto) -> Graph:
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return load_onnx(path)


def test_shapes_that_shapes_make_are_folded(tmp_path: Path) -> None:
    # what PyTorch exports for x.view(x.size(0), -1), and 2 / (1 + 3) from constants
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], axis=0),
        helper.make_node("Unsqueeze", ["batch"], ["rows"], axes=[0]),
        helper.make_node("Concat", ["rows", "rest"], ["sizes"], axis=0),
        helper.make_node("Reshape", ["x", "sizes"], ["flat"]),
        helper.make_node("Add", ["one", "three"], ["four"]),
        helper.make_node("Div", ["two", "four"], ["half"]),
        helper.make_node("Identity", ["flat"], ["same"]),
        helper.make_node("Dropout", ["same"], ["kept"]),
        helper.make_node("Mul", ["kept", "half"], ["y"]),
    ]
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    constants = {name: np.float32(n) for name, n in (("one", 1), ("two", 2), ("three", 3))}
    constants |= {"zero": np.int64(0), "rest": np.array([-1])}
    proto = model(nodes, {"x": x}, constants, ["y"], 11)
    folded = fold_constants(read(tmp_path, proto))
    assert [node.op for node in folded.nodes] == ["Reshape", "Mul"]
    assert folded.values["y"].shape == (1, 24)
    assert folded.constants["half"] == 0.5 and set(folded.constants) == {"sizes", "half"}
    np.testing.assert_array_equal(run_graph(folded, {"x": x})["y"], x.reshape(1, 24) / 2)


def test_batch_norm_folds_into_convolutions_and_products(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    constants = {
        "w": draw(4, 3, 3, 3),
        "m": draw(64, 5),
        "g": draw(2, 5),
        "k": draw(4, 1, 1),
        "t": draw(1, 5),
    }
    for role in ("scale", "shift", "mean"):
        constants |= {f"{role}1": draw(4), f"{role}2": draw(5)}
    constants |= {"var1": np.abs(draw(4)), "var2": np.abs(draw(5))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "scale1", "shift1", "mean1", "var1"], ["n"], name="bn1"),
        helper.make_node("Mul", ["n", "k"], ["s"], name="mul"),
        helper.make_node("Add", ["k", "s"], ["a"], name="add"),
        helper.make_node("Flatten", ["a"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "m"], ["p"], name="product"),
        helper.make_node("BatchNormalization", ["p", "scale2", "shift2", "mean2", "var2"], ["q"], name="bn2"),
        helper.make_node("Relu", ["q"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "g"], ["z"], name="gemm", transB=1, alpha=0.5),
        helper.make_node("Sub", ["half", "z"], ["y"], name="sub"),
    ]
    constants["half"] = np.float32([0.5])
    x = draw(1, 3, 6, 6)
    graph = read(tmp_path, model(nodes, {"x": x}, constants, ["y"], 15))
    folded = fold_batch_norm(graph)
    assert [node.op for node in folded.nodes] == ["Conv", "Flatten", "Gemm", "Relu", "Gemm"]
    assert [node.name for node in folded.nodes] == ["conv", "flat", "product", "relu", "gemm"]
    wanted = run_graph(graph, {"x": x})["y"]
    np.testing.assert_allclose(run_graph(folded, {"x": x})["y"], wanted, rtol=2e-5, atol=2e-5)


def test_a_result_that_two_nodes_take_keeps_its_batch_norm(tmp_path: Path) -> None:
    ones = np.ones(4, np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], name="layer"),
        helper.make_node("BatchNormalization", ["h", "ones", "ones", "ones", "ones"], ["n"], name="norm"),
        helper.make_node("Add", ["h", "n"], ["y"], name="add"),
    ]
    proto = model(nodes, {"x": X}, {"w": np.ones((3, 4), np.float32), "ones": ones}, ["y"], 15)
    graph = read(tmp_path, proto)
    assert fold_batch_norm(graph).nodes == graph.nodes


def test_constants_that_would_take_gigabytes_are_not_computed(tmp_path: Path) -> None:
    # eight times 1 GiB, each within bounds
    size = np.array([1 << 14, 1 << 14])
    nodes = [helper.make_node("ConstantOfShape", ["n"], [f"c{i}"], name=f"c{i}") for i in range(8)]
    nodes += [helper.make_node("ReduceMax", [f"c{i}"], [f"m{i}"], name=f"m{i}") for i in range(8)]
    nodes.append(helper.make_node("Sum", ["x", *(f"m{i}" for i in range(8))], ["y"], name="sum"))
    graph = read(tmp_path, model(nodes, {"x": X}, {"n": size}, ["y"], 13))
    with pytest.raises(ValueError, match="node 'c2': the graph's constants take more than 2\\^31 bytes"):
        fold_constants(graph)


@pytest.mark.parametrize(
    ("op", "operands", "attributes"),
    [
        ("Conv", ["c", "d"], {}),
        ("MatMul", ["c", "c"], {}),
        ("MaxPool", ["c"], {"kernel_shape": [3000, 3000]}),
    ],
)
def test_constants_that_would_take_hours_are_not_computed(
    op: str, operands: list[str], attributes: dict[str, Any], tmp_path: Path
) -> None:
    constants = {"n": np.array([1, 1, 6000, 6000]), "m": np.array([1, 1, 3000, 3000])}
    nodes = [
        helper.make_node("ConstantOfShape", ["n"], ["c"], name="large"),
        helper.make_node("ConstantOfShape", ["m"], ["d"], name="half"),
        helper.make_node(op, operands, ["e"], name="slow", **attributes),
        helper.make_node("ReduceMax", ["e"], ["f"], name="one"),
        helper.make_node("Add", ["x", "f"], ["y"], name="sum"),
    ]
    graph = read(tmp_path, model(nodes, {"x": X}, constants, ["y"], 13))
    with pytest.raises(ValueError, match="node 'slow': its constants take more than 2\\^33 products"):
        fold_constants(graph)
