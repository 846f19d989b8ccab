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


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.filterwarnings("ignore")
def test_what_pytorch_exports_equals_onnx_runtime(opset: int, tmp_path: Path) -> None:
    import torch
    from torch import nn
    from torch.nn import functional

    class Net(nn.Module):
        """Shapes worked out from the input's, a channel shuffle, a grown picture, a broadcast product."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.Hardswish())
            self.second = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.PReLU(16))
            self.third = nn.Conv2d(16, 16, 1, groups=4)
            self.last = nn.Linear(16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.third(self.second(self.first(x)))
            b, c, h, w = x.size()
            x = x.view(b, 4, c // 4, h, w).transpose(1, 2).contiguous().view(b, c, h, w)
            x = functional.pad(functional.interpolate(x, scale_factor=2.0), (1, 0, 2, 1))
            x = functional.max_pool2d(x, 3, 2, 1, ceil_mode=True)
            x = functional.interpolate(x, size=(7, 9), mode="bilinear") * functional.adaptive_avg_pool2d(x, 1)
            return functional.softmax(self.last(functional.dropout(x.mean((2, 3)), 0.5, self.training)), -1)

    torch.manual_seed(7)
    x, path = torch.randn(1, 3, 17, 19), tmp_path / "net.onnx"
    torch.onnx.export(Net().eval(), (x,), str(path), dynamo=False, opset_version=opset)
    graph = load_onnx(path)
    (wanted,) = runtime.InferenceSession(str(path)).run(None, {graph.inputs[0]: x.numpy()})
    folded = fold_batch_norm(fold_constants(graph))
    assert not any(node.op in ("Shape", "Constant", "Dropout", "Gather") for node in folded.nodes)
    for version in (graph, folded):
        (result,) = run_graph(version, {graph.inputs[0]: x.numpy()}).values()
        np.testing.assert_allclose(result, wanted, rtol=1e-4)
