"""The wheel's networks with seeded weights, whole, against ONNX Runtime."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from bitwright.models.graph import fold_batch_norm, fold_constants, run_graph
from bitwright.models.importers import load_onnx

runtime = pytest.importorskip("onnxruntime")
runtime.set_default_logger_severity(4)

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def with_weights(name: str, folder: Path, seed: int) -> Path:
    """The network with the weights that its ConstantOfShape nodes leave at one value drawn at random."""
    rng = np.random.default_rng(seed)
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    sizes = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    variances = {node.input[4] for node in model.graph.node if node.op_type == "BatchNormalization"}
    made = [node for node in model.graph.node if node.op_type == "ConstantOfShape"]
    for node in made:
        shape = tuple(sizes[node.input[0]])
        scale = math.sqrt(2 / max(1, math.prod(shape[1:]))) if len(shape) > 1 else 1.0
        array = (scale * rng.standard_normal(shape)).astype(np.float32)
        array = np.abs(array) + np.float32(0.5) if node.output[0] in variances else array
        model.graph.node.remove(node)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, node.output[0]))
    # Softmax would hide how far large logits are apart
    last = model.graph.node[-1]
    if last.op_type == "Softmax":
        model.graph.node.remove(last)
        model.graph.output[0].name = last.input[0]
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def agree(name: str, folder: Path) -> None:
    path = with_weights(name, folder, 5)
    graph = load_onnx(path)
    feeds = {
        key: np.random.default_rng(6).standard_normal(graph.values[key].shape).astype(np.float32)
        for key in graph.inputs
    }
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {i.name: feeds[i.name] for i in session.get_inputs() if i.name in feeds})
    folded = fold_constants(graph)
    fused = fold_batch_norm(folded)
    assert not any(node.op == "BatchNormalization" for node in fused.nodes) or name == "densenet121"
    for version in (folded, fused):
        (result,) = run_graph(version, feeds).values()
        assert np.abs(wanted).max() > 0.1
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_a_network_with_seeded_weights_equals_onnx_runtime(name: str, tmp_path: Path) -> None:
    agree(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "vgg19", "zfnet512"],
)
def test_a_large_network_with_seeded_weights_equals_onnx_runtime(name: str, tmp_path: Path) -> None:
    agree(name, tmp_path)
