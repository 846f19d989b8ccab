import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from bitwright.models.importers.run import trace_model
from bitwright.reports.against import compare_values
from bitwright.reports.cli import main


@pytest.fixture
def float_file(tmp_path: Path) -> Path:
    """An ONNX file with y = x · w, w of shape (6, 4)."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in (("x", 6), ("y", 4))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "float.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def qdq_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A convolution between quantisers; yq is its stored result, c the sums before."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "fuzz"))
    path = tmp_path / "qdq.onnx"
    importlib.import_module("fuzz_seeds").qdq_onnx(path)
    return path


def test_integers_must_be_equal() -> None:
    ours = np.array([[1, 2], [3, 4]], np.int8)
    assert compare_values("v", ours, ours.astype(np.int32), exact=True)["agrees"]
    row = compare_values("v", ours, np.array([[1, 2], [3, 6]], np.int8), exact=False)
    assert not row["agrees"]
    assert (row["images_differing"], row["values_differing"], row["largest_difference"]) == (1, 1, 2)


def test_a_cores_floats_may_be_one_unit_in_the_last_place_apart() -> None:
    ours = np.array([[1.0, -0.0, -2.0]], np.float32)
    near = np.nextafter(ours, np.float32(9), dtype=np.float32)
    assert compare_values("v", ours, near, exact=True)["largest_ulp"] == 1
    assert compare_values("v", ours, near, exact=True)["agrees"]
    further = np.nextafter(near, np.float32(9), dtype=np.float32)
    row = compare_values("v", ours, further, exact=True)
    assert (row["largest_ulp"], row["agrees"]) == (2, False)
    assert compare_values("v", ours, further, exact=False)["agrees"]
    assert compare_values("v", np.float32([[0.0]]), np.float32([[-0.0]]), exact=True)["largest_ulp"] == 0


def test_the_hosts_floats_agree_to_a_ten_thousandth() -> None:
    ours = np.array([[100.0, 1.0]], np.float32)
    assert compare_values("v", ours, ours + np.float32([[0, 0.009]]), exact=False)["agrees"]
    assert not compare_values("v", ours, ours + np.float32([[0, 0.011]]), exact=False)["agrees"]
    assert not compare_values("v", ours, np.float32([[100.0, np.nan]]), exact=False)["agrees"]
    assert not compare_values("v", ours, np.zeros((1, 3), np.float32), exact=False)["agrees"]


def test_onnx_runtime_agrees_and_a_wrong_reference_is_exit_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, float_file: Path
) -> None:
    pytest.importorskip("onnxruntime")
    arguments = ["verify", str(float_file), "--against", "onnxruntime", "--images", "5", "--json"]
    assert main(arguments) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["cases"], value["mismatches"], value["values"][0]["value"]) == (5, 0, "y")
    monkeypatch.setattr("bitwright.reports.against.images_at_once", lambda _: 2)  # batches of 2, 2 and 1

    def wrong(*given: object) -> dict[str, np.ndarray]:
        return {name: array + np.float32(0.01) for name, array in trace_model(*given).items()}  # type: ignore[arg-type]

    monkeypatch.setattr("bitwright.reports.against.trace_model", wrong)
    assert main(arguments[:-1]) == 1
    out = capsys.readouterr().out
    assert "reference and onnxruntime DIFFER: 5 images, 5 mismatches" in out
    assert "y: 20 of 20 values differ" in out


def test_a_qdq_graphs_stored_values_are_onnx_runtimes_to_the_bit(
    capsys: pytest.CaptureFixture[str], qdq_file: Path
) -> None:
    pytest.importorskip("onnxruntime")
    assert main(["verify", str(qdq_file), "--against", "onnxruntime", "--images", "20", "--json"]) == 0
    rows = {row["value"]: row for row in json.loads(capsys.readouterr().out)["values"]}
    assert rows["yq"]["largest_difference"] == 0
    assert rows["y"]["largest_ulp"] == 0
    assert 0 < rows["c"]["largest_relative"] < 1e-5  # sums, which ONNX Runtime rounds to float32


@pytest.mark.parametrize(
    ("framework", "package"),
    [("onnxruntime", "onnxruntime"), ("qonnx", "qonnx")],
)
def test_a_missing_framework_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    float_file: Path,
    framework: str,
    package: str,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["verify", str(float_file), "--against", framework]) == 2
    assert "isn't installed: pip install 'bitwright[oracle]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--against", "tensorflow"], "--against takes onnxruntime, qonnx, litert, not 'tensorflow'"),
        (["--against", "litert"], "float.onnx: litert runs .tflite files"),
        (["--against", "qonnx", "--machine", "core-small"], "verify takes MODEL and --machine, MODEL and"),
        (["--against", "qonnx", "--set", "array.rows=4"], "--against runs no machine"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    capsys: pytest.CaptureFixture[str], float_file: Path, options: list[str], message: str
) -> None:
    assert main(["verify", str(float_file), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "framework", "data", "least"),
    [
        ("qonnx/TFC_1W1A.onnx", "qonnx", "mnist.npz", 8),
        ("tflite/pretrainedResnet_quant.tflite", "litert", "cifar10_10k_2k.npz", 14),
    ],
)
def test_real_networks_agree_with_their_frameworks_value_by_value(
    capsys: pytest.CaptureFixture[str], shared_data: Path, file: str, framework: str, data: str, least: int
) -> None:
    pytest.importorskip({"qonnx": "qonnx", "litert": "ai_edge_litert"}[framework])
    scale = ["--scale", "1/255"] if framework == "qonnx" else []
    arguments = ["verify", str(shared_data / "models" / file), "--against", framework, *scale]
    assert main([*arguments, "--data", str(shared_data / data), "--images", "5", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert len(value["values"]) >= least  # values within the core, not the output alone
    assert all(row["agrees"] for row in value["values"])
