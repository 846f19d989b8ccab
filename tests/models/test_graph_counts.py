import math
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from bitwright.models.graph import Graph, fold_constants, layer_counts
from bitwright.models.importers.onnx_file import load_onnx

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
MODELS = sorted(path.stem for path in LIGHT.glob("light_*.onnx"))


def light(name: str) -> Path:
    return LIGHT / f"{name}.onnx"


def totals(graph: Graph) -> tuple[int, int]:
    rows = layer_counts(graph)
    return sum(row.macs for row in rows), sum(row.parameters for row in rows)


def counted_from_protos(path: Path) -> dict[str, tuple[int, int]]:
    """MACs and parameters by output, from ONNX's own shape inference and the operators' formulas."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    infos = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in infos}
    sizes = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    weights = {t.name: list(t.dims) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            weights[node.output[0]] = sizes[node.input[0]].tolist()
        if node.op_type in ("Unsqueeze", "Reshape") and node.input[0] in weights:
            weights[node.output[0]] = shapes[node.output[0]]
    counts = {}
    for node in model.graph.node:
        out = node.output[0]
        # the last two of BatchNormalization are running statistics
        names = node.input[:3] if node.op_type == "BatchNormalization" else node.input
        parameters = sum(math.prod(weights[n]) for n in names if n in weights)
        macs = 0
        if node.op_type == "Conv":
            macs = math.prod(shapes[out]) * math.prod(weights[node.input[1]][1:])
        if node.op_type == "Gemm":
            macs = math.prod(weights[node.input[1]]) * shapes[out][0]
        if out not in weights:
            counts[out] = (macs, parameters)
    return counts


@pytest.mark.parametrize("name", MODELS)
def test_counts_of_the_wheels_networks_equal_a_count_from_their_protos(name: str) -> None:
    assert len(MODELS) == 9
    graph = load_onnx(light(name))
    counted = counted_from_protos(light(name))
    outputs = {node.name: node.outputs[0] for node in graph.nodes}
    rows = {outputs[row.name]: (row.macs, row.parameters) for row in layer_counts(graph)}
    assert rows == counted


# ../shared/reference/README.md, counts to reproduce exactly; VGG-19's and ZFNet's networks aren't there
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("light_bvlc_alexnet", 60_965_224),
        ("light_resnet50", 25_557_032),
        # VGG-16 of the table, 138,357,544, and three more 3x3 layers of 256 and 512 (twice) channels
        ("light_vgg19", 138_357_544 + 256 * 256 * 9 + 256 + 2 * (512 * 512 * 9 + 512)),
        # SqueezeNet 1.0 of the table is 1,248,424; 1.1 has 64 filters of 3x3 for 96 of 7x7 at its start
        # and takes them into its first fire layer
        ("light_squeezenet", 1_248_424 - (96 * 3 * 49 + 96) + (64 * 3 * 9 + 64) - 32 * 16),
    ],
)
def test_parameters_equal_the_reference_table(name: str, parameters: int) -> None:
    assert totals(load_onnx(light(name)))[1] == parameters


def test_shares_of_alexnet_and_resnet50_equal_the_reference_table() -> None:
    def share(name: str) -> float:
        rows = layer_counts(load_onnx(light(name)))
        return sum(r.parameters for r in rows if r.kind == "fc") / sum(r.parameters for r in rows)

    assert round(100 * share("light_bvlc_alexnet"), 1) == 96.2
    assert round(100 * share("light_resnet50"), 1) == 8.0


def test_densenets_caffe_scales_count_beside_its_batch_norms() -> None:
    # 7,978,856 is DenseNet-121 (Huang et al., torchvision); the file has γ and β once more, as Mul and Add
    channels = sum(
        row.shape[1]
        for row in layer_counts(load_onnx(light("light_densenet121")))
        if row.kind == "BatchNormalization"
    )
    assert totals(load_onnx(light("light_densenet121")))[1] == 7_978_856 + 2 * channels


@pytest.mark.parametrize("name", ["light_shufflenet", "light_squeezenet"])
def test_folding_constants_leaves_the_counts(name: str) -> None:
    graph = load_onnx(light(name))
    folded = fold_constants(graph)
    assert totals(folded) == totals(graph)
    assert not any(node.op in ("ConstantOfShape", "Dropout", "Identity") for node in folded.nodes)


def test_importing_and_counting_takes_no_torch_and_no_weights_memory() -> None:
    code = (
        "import sys, tracemalloc; tracemalloc.start()\n"
        "from bitwright.models.graph import layer_counts\n"
        "from bitwright.models.importers.onnx_file import load_onnx\n"
        f"rows = layer_counts(load_onnx({str(light('light_vgg19'))!r}))\n"
        "assert sum(r.parameters for r in rows) == 143_667_240\n"
        # its float32 weights have 575 MB
        "assert tracemalloc.get_traced_memory()[1] < 60e6, tracemalloc.get_traced_memory()\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
