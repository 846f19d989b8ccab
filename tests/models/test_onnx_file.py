import os
import random
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bitwright.models.graph import layer_counts, run_graph
from bitwright.models.importers import load_onnx
from bitwright.models.storage import ImportModelError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import NEWEST, model

Array = NDArray[Any]
X = np.ones((1, 3), np.float32)


def linear(opset: int = 13) -> onnx.ModelProto:
    """y = relu(x · w + b)."""
    weights = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="layer"),
        helper.make_node("Relu", ["h"], ["y"], name="relu"),
    ]
    return model(nodes, {"x": X}, {"w": weights, "b": np.zeros(4, np.float32)}, ["y"], opset)


def saved(folder: Path, proto: onnx.ModelProto | bytes) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ImportModelError) as caught:
        load_onnx(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < 500
    return text.removeprefix(f"{path}: ")


def single(folder: Path, node: onnx.NodeProto, constants: dict[str, Array], opset: int = 13) -> Path:
    """A file of one node that makes y from x, which has the shape (1, 3)."""
    return saved(folder, model([node], {"x": X}, constants, ["y"], opset))


def test_a_graph_says_what_the_file_holds(tmp_path: Path) -> None:
    graph = load_onnx(saved(tmp_path, linear()))
    assert (graph.name, graph.source, graph.inputs, graph.outputs) == ("case", "onnx", ("x",), ("y",))
    assert [(node.op, node.name) for node in graph.nodes] == [("Gemm", "layer"), ("Relu", "relu")]
    assert graph.nodes[0].attributes == {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    assert graph.values["h"].shape == (1, 4)
    np.testing.assert_array_equal(run_graph(graph, {"x": X})["y"], [[0, 0, 3, 6]])


def test_initialisers_that_are_inputs_too_are_constants(tmp_path: Path) -> None:
    proto = linear()
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 4]))
    assert load_onnx(saved(tmp_path, proto)).inputs == ("x",)


@pytest.mark.parametrize("size", ["N", 0, -1, None])
def test_an_unknown_batch_axis_counts_as_1(tmp_path: Path, size: str | int | None) -> None:
    proto = linear()
    dim = proto.graph.input[0].type.tensor_type.shape.dim[0]
    dim.Clear()
    if isinstance(size, str):
        dim.dim_param = size
    elif size is not None:
        dim.dim_value = size
    assert load_onnx(saved(tmp_path, proto)).values["y"].shape == (1, 4)


def test_more_examples_run_one_after_the_other(tmp_path: Path) -> None:
    graph = load_onnx(saved(tmp_path, linear()))
    many = np.random.default_rng(2).standard_normal((5, 3)).astype(np.float32)
    together = run_graph(graph, {"x": many})["y"]
    alone = [run_graph(graph, {"x": row[None]})["y"][0] for row in many]
    np.testing.assert_array_equal(together, alone)


def test_nodes_in_any_order_are_put_in_one_that_can_run(tmp_path: Path) -> None:
    proto = linear()
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    assert [node.name for node in load_onnx(saved(tmp_path, proto)).nodes] == ["layer", "relu"]


def test_nodes_without_names_get_names_that_differ(tmp_path: Path) -> None:
    proto = linear()
    proto.graph.node[0].name, proto.graph.node[1].name = "", "Gemm_0"
    names = [node.name for node in load_onnx(saved(tmp_path, proto)).nodes]
    assert names == ["Gemm_0_", "Gemm_0"]


# files that can't be read


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.onnx") == "No such file or directory"
    assert "directory" in refusal(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.onnx")
    assert refusal(tmp_path / "net.onnx") == "it is empty"


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04 no model", b"\x00" * 40, b"\xff" * 40, bytes(range(7, 250))]
)
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    assert refusal(saved(tmp_path, data))


def test_every_truncation_is_refused_or_read(tmp_path: Path) -> None:
    data = linear().SerializeToString()
    refused = 0
    for length in range(len(data)):
        try:
            load_onnx(saved(tmp_path, data[:length]))
        except ImportModelError as fault:
            assert "\n" not in str(fault)
            refused += 1
    assert refused == len(data)


def damaged(data: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    copy = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
    return bytes(copy)


def test_flipped_bits_end_in_a_graph_or_in_one_line(tmp_path: Path) -> None:
    light = Path(onnx.__file__).parent / "backend/test/data/light/light_bvlc_alexnet.onnx"
    read = 0
    for data, count in ((linear().SerializeToString(), 600), (light.read_bytes(), 200)):
        for seed in range(count):
            try:
                layer_counts(load_onnx(saved(tmp_path, damaged(data, seed))))
                read += 1
            except ImportModelError as fault:
                assert "\n" not in str(fault), seed
    assert 0 < read < 800


def test_many_small_parts_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    # 2 bytes a node in the file, some 100 when parsed
    nodes = b"\x0a\x00" * 3_000_000
    path = saved(tmp_path, b"\x3a" + _varint(len(nodes)) + nodes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "it has more than 262144 parts" in refusal(path)
    # KiB: the file itself, at most twice
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    # a graph in an attribute of a node of a graph, and so on
    data = b""
    for _ in range(40):
        for field in (6, 5, 1):
            data = bytes([field << 3 | 2]) + _varint(len(data)) + data
    assert "nested more than" in refusal(saved(tmp_path, b"\x3a" + _varint(len(data)) + data))


# what the file says


Change = Callable[[onnx.ModelProto], Any]


def _twice(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].output[0] = "h"


def _cycle(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = "y"


def _no_shape(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.ClearField("shape")


def _dynamic(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"


def _type(code: int) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.input[0].type.tensor_type.elem_type = code

    return change


def _opset(version: int) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        proto.opset_import[0].version = version

    return change


def _dims(*dims: int) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.initializer[0].dims[:] = dims

    return change


def _set(path: str, value: Any) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        *way, last = path.split(".")
        target: Any = proto.graph
        for part in way:
            target = target[int(part)] if part.isdigit() else getattr(target, part)
        setattr(target, last, value)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_twice, "node 'relu': its result 'h' is already made"),
        (_cycle, "node 'layer': it waits for its own result, a cycle"),
        (_no_shape, "input 'x': it must be a tensor whose shape is given"),
        (_dynamic, "input 'x': axis 1 (width) is dynamic: export the network with a fixed size"),
        (_type(8), "input 'x': the data type string is not supported"),
        (_type(16), "input 'x': the data type bfloat16 is not supported"),
        (_type(11), "node 'layer' (Gemm): its operand B must be float64, not float32"),
        (_type(3), "node 'layer' (Gemm): its operand A may not be of type int8"),
        (_opset(8), f"it has opset 8; 9 to {NEWEST} are read"),
        (_opset(NEWEST + 1), f"it has opset {NEWEST + 1}; 9 to {NEWEST} are read"),
        (_dims(3, 5), "initializer 'w': float32 values of shape (3, 5) take 60 bytes, not 48"),
        (_dims(1 << 40, 1 << 40), "initializer 'w': its shape must have at most 16 axes and 2^28 values"),
        (_dims(-3, -4), "initializer 'w': its shape must have at most 16 axes and 2^28 values"),
        (_dims(4, 3), "node 'layer' (Gemm): (1, 3) and (4, 3) can't be multiplied"),
        (_set("initializer.1.name", "w"), "initializer 'w': the name is empty or stands twice"),
        (_set("initializer.1.name", "c"), "node 'layer': its operand 'b' is made by no node"),
        (_set("node.1.name", "layer"), "node 'layer': the name stands twice"),
        (_set("node.1.op_type", "Relo"), "node 'relu' (Relo): the operator 'Relo' is not supported"),
        (_set("node.1.op_type", "Loop"), "node 'relu' (Loop): the operator 'Loop' is not supported"),
        (_set("node.1.domain", "com.other"), "node 'relu' (Relu): the domain 'com.other' is not known"),
        (_set("output.0.name", "z"), "its output 'z' is made by no node"),
        (lambda p: p.graph.node[1].input.append("x"), "node 'relu' (Relu): it must have 1 operands, not 2"),
        (
            lambda p: p.graph.node[0].attribute.append(helper.make_attribute("gamma", 1)),
            "node 'layer' (Gemm): opset 13 knows no attribute 'gamma' of it",
        ),
        (
            lambda p: p.graph.node[0].attribute.append(helper.make_attribute("alpha", "a")),
            "node 'layer' (Gemm): attribute 'alpha' has another type than its operator wants",
        ),
        (
            lambda p: p.graph.node[0].attribute.append(helper.make_attribute("alpha", float("nan"))),
            "node 'layer' (Gemm): attribute alpha must be a finite number, not nan",
        ),
        (lambda p: p.opset_import.append(p.opset_import[0]), "it imports the operators of 'ai.onnx' twice"),
        (lambda p: p.ClearField("graph"), "it is no ONNX model"),
        (lambda p: p.functions.add(), "local functions and sparse tensors are not supported"),
    ],
)
def test_a_wrong_file_is_refused_with_its_node_and_reason(
    tmp_path: Path, change: Change, reason: str
) -> None:
    proto = linear()
    change(proto)
    assert reason in refusal(saved(tmp_path, proto))


Quantiser = tuple[onnx.NodeProto, dict[str, Array]]
ZERO = np.uint8(0)


def _quantise(scale: Any, zero: Any = ZERO) -> Quantiser:
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], name="q")
    return node, {"s": np.asarray(scale, np.float32), "z": np.asarray(zero)}


def _quant(scale: float, zero: float, bits: float, **attributes: Any) -> Quantiser:
    node = helper.make_node(
        "Quant", ["x", "s", "z", "b"], ["y"], name="q", domain="onnx.brevitas", **attributes
    )
    return node, {key: np.asarray(n, np.float32) for key, n in (("s", scale), ("z", zero), ("b", bits))}


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (_quantise(0.0), "its scale must be positive and finite"),
        (_quantise(-1.0), "its scale must be positive and finite"),
        (_quantise(np.nan), "its scale must be positive and finite"),
        (_quantise(np.inf), "its scale must be positive and finite"),
        (_quantise([1.0, 2.0]), "its scale must be one or 3 values, not of shape (2,)"),
        (_quantise([1.0, 2.0, 3.0]), "its zero point () and its scale (3,) differ in shape"),
        (_quantise(1.0, np.float32(3)), "its operand y_zero_point may not be of type float32"),
        (_quant(1.0, 200.0, 8.0), "its zero point must be from -127 to 127"),
        (_quant(1.0, -1.0, 8.0, signed=0, narrow=0), "its zero point must be from 0 to 255"),
        (_quant(1.0, 0.5, 8.0), "its zero point must be a whole number"),
        (_quant(1.0, 0.0, 2.5), "its bit width must be one whole number from 1 to 32"),
        (_quant(1.0, 0.0, 1e30), "its bit width must be one whole number from 1 to 32"),
        (_quant(float("nan"), 0.0, 8.0), "its scale must be positive and finite"),
        (_quant(1.0, 0.0, 8.0, rounding_mode="MAYBE"), "rounding_mode must be one of ROUND"),
        (_quant(1.0, 0.0, 8.0, signed=2), "attribute signed must be 0 or 1, not 2"),
    ],
)
def test_quantisers_with_impossible_numbers_are_refused(tmp_path: Path, case: Quantiser, reason: str) -> None:
    node, constants = case
    text = refusal(single(tmp_path, node, constants))
    assert text.startswith(f"node 'q' ({node.op_type})") and reason in text


@pytest.mark.parametrize(
    ("node", "constants", "reason"),
    [
        (
            helper.make_node("ConstantOfShape", ["n"], ["y"], name="n"),
            {"n": np.array([1 << 31, 1 << 31])},
            "its sizes must be counts with at most 2^28 values in all",
        ),
        (
            helper.make_node("Expand", ["x", "n"], ["y"], name="n"),
            {"n": np.array([1 << 20, 1 << 20, 3])},
            "its sizes must be counts with at most 2^28 values in all",
        ),
        (
            helper.make_node("Tile", ["x", "n"], ["y"], name="n"),
            {"n": np.array([1 << 14, 1 << 14])},
            "its shape must be known and have at most 2^28 values",
        ),
        (
            helper.make_node("Pad", ["x", "n"], ["y"], name="n"),
            {"n": np.array([0, 0, 0, 1 << 40])},
            "its shape must be known and have at most 2^28 values",
        ),
        (
            helper.make_node("Resize", ["x", "", "n"], ["y"], name="n"),
            {"n": np.array([1, 3e38], np.float32)},
            "a scale must be positive and finite",
        ),
        (
            helper.make_node("Range", ["a", "b", "c"], ["y"], name="n"),
            {key: np.float32(value) for key, value in (("a", 0), ("b", 1), ("c", 1e-30))},
            "has more than 4096 values",
        ),
        (
            helper.make_node("Unsqueeze", ["x", "n"], ["y"], name="n"),
            {"n": np.arange(50)},
            "can't be added to (1, 3)",
        ),
    ],
)
def test_small_files_that_ask_for_large_tensors_are_refused(
    tmp_path: Path, node: onnx.NodeProto, constants: dict[str, Array], reason: str
) -> None:
    path = single(tmp_path, node, constants)
    tracemalloc.start()
    assert reason in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


# external data


def external(folder: Path, location: str, **more: str) -> onnx.ModelProto:
    proto = linear()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": location} | more).items():
        tensor.external_data.add(key=key, value=value)
    return proto


def weights_file(path: Path) -> bytes:
    data = numpy_helper.to_array(linear().graph.initializer[0]).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"head" + data + b"tail")
    return data


@pytest.mark.parametrize("location", ["weights.bin", "parts/deep/weights.bin"])
def test_external_data_inside_the_folder_are_read(tmp_path: Path, location: str) -> None:
    weights_file(tmp_path / location)
    graph = load_onnx(saved(tmp_path, external(tmp_path, location, offset="4", length="48")))
    np.testing.assert_array_equal(run_graph(graph, {"x": X})["y"], [[0, 0, 3, 6]])


@pytest.mark.parametrize(
    ("location", "more", "reason"),
    [
        ("../weights.bin", {}, "must lie in the model's folder, named without '..'"),
        ("model/../../weights.bin", {}, "must lie in the model's folder, named without '..'"),
        ("/etc/passwd", {}, "must lie in the model's folder, named without '..'"),
        ("..\\weights.bin", {}, "must lie in the model's folder, named without '..'"),
        ("C:weights.bin", {}, "must lie in the model's folder, named without '..'"),
        ("", {}, "must lie in the model's folder, named without '..'"),
        ("link.bin", {}, "can't be opened, or is reached by a link"),
        ("linked/weights.bin", {}, "can't be opened, or is reached by a link"),
        ("hard.bin", {}, "is no plain file, or has a second (hard) link"),
        ("pipe", {}, "is no plain file"),
        ("sub", {}, "is no plain file"),
        ("absent.bin", {}, "can't be opened"),
        ("weights.bin", {"offset": "100"}, "lie at bytes 100 to 148 of 'weights.bin', which has 56"),
        ("weights.bin", {"offset": "-1"}, "its external offset must be a count, not '-1'"),
        ("weights.bin", {"offset": "9" * 30}, "its external offset must be a count"),
        ("weights.bin", {"length": "12"}, "its external data must have 48 bytes, not 12"),
    ],
)
def test_external_data_elsewhere_are_refused(
    tmp_path: Path, location: str, more: dict[str, str], reason: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    weights_file(tmp_path / "weights.bin")
    weights_file(tmp_path / "linked-to/weights.bin")
    weights_file(folder / "weights.bin")
    weights_file(folder / "first.bin")
    (folder / "link.bin").symlink_to(folder / "weights.bin")
    (folder / "linked").symlink_to(tmp_path / "linked-to")
    (folder / "hard.bin").hardlink_to(folder / "first.bin")
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    text = refusal(saved(folder, external(folder, location, **more)))
    assert text.startswith("initializer 'w': ") and reason in text
