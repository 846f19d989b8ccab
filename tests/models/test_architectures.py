import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from bitwright.models.architectures import ARCHITECTURES, architecture
from bitwright.models.architectures.builder import Builder
from bitwright.models.graph import Graph, Node, layer_counts, run_graph
from bitwright.models.importers import lower_graph, run_model
from onnx import helper, shape_inference


def shape_of(graph: Graph, node: Node, operand: int) -> tuple[int, ...]:
    return graph.values[node.inputs[operand]].shape


def macs_of(graph: Graph, node: Node) -> int:
    """Multiplications of weights, counted from the results: each of a convolution's takes C/g·k·k."""
    if node.op == "Conv":
        return math.prod(graph.values[node.outputs[0]].shape) * math.prod(shape_of(graph, node, 1)[1:])
    return math.prod(shape_of(graph, node, 1)) if node.op == "Gemm" else 0


def parameters_of(graph: Graph, node: Node) -> int:
    """What is learnt by gradient: weights, biases, slopes, γ and β; what several nodes share at the first."""
    learnt = {"Conv": (1, 2), "Gemm": (1, 2), "PRelu": (1,), "BatchNormalization": (1, 2)}
    return sum(
        math.prod(shape_of(graph, node, i))
        for i in learnt.get(node.op, ())
        if i < len(node.inputs) and graph.consumers(node.inputs[i])[0] is node
    )


def total(graph: Graph, count: Callable[[Graph, Node], int], *ops: str) -> int:
    return sum(count(graph, node) for node in graph.nodes if not ops or node.op in ops)


PARAMETERS = {
    "digits-elman": 32 * 8 + 32 + 32 * 32 + 32 * 10 + 10,
    "elman": 48 * 16 + 48 + 48 * 48 + 48 * 10 + 10,  # each weight once for its 20 time steps
    "alexnet": 60_965_224,  # Caffe's bvlc_alexnet; ../shared/reference
    "vgg16": 138_357_544,  # torchvision, Keras; ../shared/reference
    "nin": 7_595_176,  # 7.6 M in the survey's table 1
    "nin-cifar10": 966_986,  # 0.97 M in Network In Network's authors' configuration
    "googlenet": 6_998_552,  # Caffe's bvlc_googlenet without its auxiliary classifiers
    "resnet18": 11_689_512,  # torchvision
    "resnet20": 269_722,  # akamaster/pytorch_resnet_cifar10: 0.27 M, option A
    "resnet50": 25_557_032,  # torchvision; ../shared/reference
    "densenet121": 7_978_856,  # torchvision
    "squeezenet": 1_248_424,  # torchvision; ../shared/reference
    "resnext50": 25_028_904,  # torchvision
    "mobilenet": 4_231_976,  # Keras' MobileNet, its trainable parameters
    "darknet19": 20_856_776 - 14_400,  # Keras' count less its 2 · 7,200 running statistics
    "tiny-yolo": 15_867_885 - 6_112,  # Keras' count less its 2 · 3,056 running statistics
    "lenet5": 431_080,  # Han et al. 2015, table 1: 431K; ../shared/data
    "lenet300": 266_610,  # Han et al. 2015, table 1: 267K; ../shared/data
    "dropconnect800": 784 * 800 + 800 + 800 * 800 + 800 + 800 * 10 + 10,  # Wan et al. 2013
    "onet": 389_040,  # facenet-pytorch's O-Net
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_count(name: str) -> None:
    assert total(architecture(name), parameters_of) == PARAMETERS[name]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layer_counts_agree_with_this_files_own(name: str) -> None:
    graph = architecture(name)
    rows = layer_counts(graph)
    assert sum(row.macs for row in rows) == total(graph, macs_of)
    assert sum(row.parameters for row in rows) == total(graph, parameters_of)


MEGA_MACS = {
    "alexnet": "724.4",  # ../shared/reference
    "vgg16": "15470.3",  # ../shared/reference: 15.47 G
    "nin": "1100.2",  # the survey's table 1: 1,100 M
    "googlenet": "1582.7",  # the survey's table 1: 1,582 M
    "resnet18": "1814.1",  # torchvision: 1.814 G
    "resnet20": "40.6",  # He et al. 2016 v2 implementations: 40.55 M with option A
    "resnet50": "3858.0",  # He et al. 2016, table 1: 3.8 G, the stride in the first 1×1
    "densenet121": "2834.2",  # torchvision: 2.834 G
    "squeezenet": "861.3",  # its authors: 1.72 GFLOP
    "resnext50": "4230.5",  # Xie et al. 2017, table 1: 4.2 G
    "mobilenet": "568.7",  # ../shared/reference
    "shufflenet-g1": "143.1",  # ../shared/reference: 143, 141, 137, 134, 138 M
    "shufflenet-g2": "140.8",
    "shufflenet-g3": "137.5",
    "shufflenet-g4": "134.3",
    "shufflenet-g8": "138.4",
    "darknet19": "2791.0",  # Redmon and Farhadi 2017: 5.58 G operations
    "tiny-yolo": "3485.5",  # darknet: 6.97 G operations for tiny-yolo-voc
    "lenet5": "2.3",  # Caffe's LeNet: 2,293,000
}


@pytest.mark.parametrize("name", MEGA_MACS)
def test_macs_are_the_published_count(name: str) -> None:
    assert f"{total(architecture(name), macs_of) / 1e6:.1f}" == MEGA_MACS[name]


@pytest.mark.parametrize(
    ("name", "published", "operations_each"),
    [("darknet19", 5.58e9, 2), ("tiny-yolo", 6.97e9, 2), ("squeezenet", 1.72e9, 2), ("resnext50", 4.2e9, 1)],
)
def test_operations_are_what_the_authors_say(name: str, published: float, operations_each: int) -> None:
    assert operations_each * total(architecture(name), macs_of) == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(
    ("name", "conv_macs", "linear_macs", "conv_parameters", "linear_parameters"),
    [("alexnet", 91.9, 8.1, 3.8, 96.2), ("vgg16", 99.2, 0.8, 10.6, 89.4)],
)
def test_shares_of_convolutions_are_those_of_the_surveys_table_1(
    name: str, conv_macs: float, linear_macs: float, conv_parameters: float, linear_parameters: float
) -> None:
    graph = architecture(name)

    def share(count: Callable[[Graph, Node], int], op: str) -> float:
        return round(100 * total(graph, count, op) / total(graph, count), 1)

    assert (share(macs_of, "Conv"), share(macs_of, "Gemm")) == (conv_macs, linear_macs)
    assert (share(parameters_of, "Conv"), share(parameters_of, "Gemm")) == (
        conv_parameters,
        linear_parameters,
    )


def test_weights_of_vgg16_without_biases_are_the_references() -> None:
    graph = architecture("vgg16")
    assert total(graph, lambda g, n: math.prod(shape_of(g, n, 1)), "Conv", "Gemm") == 138_344_128


def test_last_layer_of_resnet50_holds_8_percent_of_its_parameters() -> None:
    graph = architecture("resnet50")
    assert round(100 * total(graph, parameters_of, "Gemm") / total(graph, parameters_of), 1) == 8.0


def test_vgg16_is_32_9_times_larger_and_27_2_times_costlier_than_mobilenet() -> None:
    large, small = architecture("vgg16"), architecture("mobilenet")
    weights = total(small, lambda g, n: math.prod(shape_of(g, n, 1)), "Conv", "Gemm")
    assert f"{weights / 1e6:.2f}" == "4.21"
    assert round(138_344_128 / weights, 1) == 32.9
    assert round(total(large, macs_of) / total(small, macs_of), 1) == 27.2


@pytest.mark.parametrize("kernel", [3, 5, 7, 13])
def test_a_local_binary_layer_learns_kernel_squared_fewer_parameters(kernel: int) -> None:
    # LBCNN (Juefei-Xu et al. 2017, section 2.3): fixed binary k×k filters, as many as there are input
    # channels, then a learnt 1×1; against a k×k layer of the same channels p·q·k² / (m·q) = k² for m = p.
    net = Builder("pair", (16, 20, 20), None)
    net.conv("dense", net.input, 24, kernel, pad=kernel // 2, bias=False)
    anchors = net.conv("anchors", net.input, 16, kernel, pad=kernel // 2, bias=False)
    graph = net.graph(net.conv("learnt", net.relu(anchors), 24, 1, bias=False))
    learnt = {node.name: parameters_of(graph, node) for node in graph.nodes}
    assert Fraction(learnt["dense"], learnt["learnt"]) == kernel**2


@pytest.mark.parametrize(
    ("name", "weights"),
    # Table 1 of Umuroglu et al. 2017 gives LFC 2.9 M and CNV 1.5 M weights of one bit.
    [("tfc", 59_008), ("lfc", 2_910_208), ("cnv", 1_542_848)],
)
def test_binary_weights_of_finns_networks_are_as_many_as_published(name: str, weights: int) -> None:
    assert total(architecture(name), parameters_of, "Conv", "Gemm") == weights


def test_macs_of_cnv_are_its_published_cycles_times_its_folding() -> None:
    # Cycles of ../shared/reference, PE and SIMD of BNN-PYNQ's CNV-W1A1; the last layer has 10 of 64 rows.
    cycles = (32_400, 28_224, 20_736, 28_800, 20_736, 18_432, 32_768, 32_768, 8_192)
    folding = (16 * 3, 32 * 32, 16 * 32, 16 * 32, 4 * 32, 32, 4, 8, 4)
    graph = architecture("cnv")
    macs = [macs_of(graph, node) for node in graph.nodes if node.op in ("Conv", "Gemm")]
    expected = [cycle * lanes for cycle, lanes in zip(cycles, folding, strict=True)]
    assert macs == [*expected[:-1], expected[-1] * 10 // 64]


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
def test_shufflenet_shuffles_where_it_has_groups(groups: int) -> None:
    graph = architecture(f"shufflenet-g{groups}")
    shuffles = [node for node in graph.nodes if node.op == "Transpose"]
    assert len(shuffles) == (0 if groups == 1 else 16)
    assert all(shape_of(graph, node, 0)[1] == groups for node in shuffles)


@pytest.mark.parametrize(
    ("name", "op", "count"),
    [
        ("alexnet", "LRN", 2),
        ("alexnet", "Dropout", 2),
        ("googlenet", "LRN", 2),
        ("googlenet", "Dropout", 1),
        ("nin", "Dropout", 1),
        ("squeezenet", "Dropout", 1),
        ("onet", "PRelu", 5),
        ("onet", "Dropout", 1),
        ("dropconnect800", "Dropout", 2),
        ("darknet19", "LeakyRelu", 18),
        ("tiny-yolo", "LeakyRelu", 8),
        ("densenet121", "Concat", 58),
        ("resnet20", "Pad", 2),
    ],
)
def test_networks_have_the_operators_of_their_originals(name: str, op: str, count: int) -> None:
    assert sum(node.op == op for node in architecture(name).nodes) == count


def as_onnx(graph: Graph) -> onnx.ModelProto:
    """The graph as ONNX, weights as inputs, so that none need be there."""
    integers = {name: a for name, a in graph.constants.items() if a.dtype == np.int64}

    def typed(name: str) -> Any:
        value = graph.values[name]
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)

    nodes = []
    for node in graph.nodes:
        # QONNX's quantisers keep shapes.
        op, operands = (
            ("Identity", node.inputs[:1]) if node.op in ("Quant", "BipolarQuant") else (node.op, node.inputs)
        )
        attributes = {} if op == "Identity" else dict(node.attributes)
        nodes.append(helper.make_node(op, operands, node.outputs, node.name, **attributes))
    return helper.make_model(
        helper.make_graph(
            nodes,
            graph.name,
            [typed(name) for name in (*graph.inputs, *graph.constants) if name not in integers],
            [typed(name) for name in graph.outputs],
            [onnx.numpy_helper.from_array(array, name) for name, array in integers.items()],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_onnx_finds_the_graph_valid_and_infers_the_same_shapes(name: str) -> None:
    graph = architecture(name)
    model = as_onnx(graph)
    onnx.checker.check_model(model)
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {
        value.name: tuple(n.dim_value for n in value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.output)
    }
    made = {name for node in graph.nodes for name in node.outputs}
    assert shapes == {name: graph.values[name].shape for name in made}


# Sums of 512 products of ±1 have more than the 256 values that the core stores.
@pytest.mark.parametrize(("name", "on_host"), [("tfc", set()), ("cnv", {"fc3"})])
def test_the_core_runs_finns_networks_bit_for_bit(name: str, on_host: set[str]) -> None:
    model = lower_graph(architecture(name, seed=2))
    layers = {node.name for node in model.graph.nodes if node.op in ("Conv", "Gemm")}
    assert layers - {node for core in model.cores for node in core.nodes} == on_host
    shape = model.graph.values["input"].shape[1:]
    images = np.random.default_rng(3).integers(0, 256, (4, *shape)).astype(np.float32) / np.float32(255)
    (scores,) = run_model(model, {"input": images}).values()
    (expected,) = run_graph(model.graph, {"input": images}).values()
    np.testing.assert_array_equal(scores, expected)


def test_weights_without_a_seed_take_no_memory() -> None:
    graph = architecture("vgg16")
    assert all(a.strides == (0,) * a.ndim for a in graph.constants.values() if a.dtype == np.float32)


def test_seeded_weights_are_he_normal_and_the_same_each_time() -> None:
    first, second, other = (architecture("lenet5", seed=seed) for seed in (3, 3, 4))
    for name, array in first.constants.items():
        np.testing.assert_array_equal(array, second.constants[name])
    weights = first.constants["ip1.weight"]
    assert not np.array_equal(weights, other.constants["ip1.weight"])
    # 400,000 draws: the sample deviation is within 4 / √(2 n) = 0.5 % of √(2 / 800).
    assert weights.std() == pytest.approx(math.sqrt(2 / 800), rel=0.005)


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no network is called 'lenet'; there are alexnet, .*, onet$"):
        architecture("lenet")


def test_a_shufflenet_of_other_groups_is_refused() -> None:
    with pytest.raises(ValueError, match="no network is called 'shufflenet-g5'"):
        architecture("shufflenet-g5")
