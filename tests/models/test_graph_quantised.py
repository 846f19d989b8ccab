"""Quantising operators, exactly as ONNX Runtime and qonnx's executor compute them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bitwright.models.graph import run_graph
from bitwright.models.importers import load_onnx
from numpy.typing import NDArray
from onnx import helper
from onnx_cases import Case, floats, model, opsets, pick

Array = NDArray[Any]
Rng = np.random.Generator


def integers(rng: Rng, dtype: Any, *shape: int) -> Array:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)


def scale(rng: Rng, *shape: int) -> Array:
    return np.asarray(2.0 ** rng.uniform(-6, 0, shape), np.float32)


def quantize_linear(rng: Rng, opset: int) -> Case:
    dtype = pick(rng, np.uint8, np.int8, *([np.int16, np.uint16] if opset >= 21 else []))
    axis = opset >= 13 and bool(rng.integers(2))
    shape = (3,) if axis else ()
    x = floats(rng, 1, 3, 50) * np.float32(3)
    step = scale(rng, *shape)
    # halfway between two integers in every third place
    ties = (np.round(x / step.reshape(-1, 1)) + np.float32(0.5)) * step.reshape(-1, 1)
    x = np.where(rng.integers(3, size=x.shape) == 0, ties, x).astype(np.float32)
    constants = {"s": step, "z": integers(rng, dtype, *shape)}
    return Case("QuantizeLinear", {"x": x}, constants, {"axis": 1} if axis else {})


def dequantize_linear(rng: Rng, opset: int) -> Case:
    dtype = pick(rng, np.uint8, np.int8, np.int32)
    axis = opset >= 13 and bool(rng.integers(2))
    shape = (3,) if axis else ()
    constants = {"s": scale(rng, *shape)}
    if dtype != np.int32:
        constants["z"] = integers(rng, dtype, *shape)
    feeds = {"x": integers(rng, dtype, 1, 3, 40)}
    return Case("DequantizeLinear", feeds, constants, {"axis": 1} if axis else {})


def window(rng: Rng, rank: int, kernel: list[int]) -> dict[str, Any]:
    return {
        "strides": rng.integers(1, 3, rank).tolist(),
        "dilations": rng.integers(1, 3, rank).tolist(),
        "pads": [int(rng.integers(0, k)) for k in (*kernel, *kernel)],
    }


def qlinear_conv(rng: Rng, opset: int) -> Case:
    rank, group = int(pick(rng, 1, 2)), int(pick(rng, 1, 2))
    act, wgt = pick(rng, (np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
    filters, kernel = 2 * group, rng.integers(1, 4, rank).tolist()
    channels = (filters,) if wgt == np.int8 and rng.integers(2) else ()
    weights = integers(rng, wgt, filters, 3, *kernel)
    if wgt == np.int8:
        # ONNX Runtime saturates pairs of uint8 · int8 products at int16 where the processor lacks VNNI
        weights = weights // 2
    zero = np.zeros(channels, wgt) if wgt == np.int8 else integers(rng, wgt)
    constants = {
        "xs": scale(rng),
        "xz": integers(rng, act),
        "w": weights,
        "ws": scale(rng, *channels),
        "wz": zero,
        "ys": scale(rng) * np.float32(64),
        "yz": integers(rng, act),
    }
    if rng.integers(2):
        constants["b"] = rng.integers(-5000, 5000, filters).astype(np.int32)
    feeds = {"x": integers(rng, act, 1, 3 * group, *rng.integers(7, 10, rank).tolist())}
    return Case("QLinearConv", feeds, constants, {"group": group} | window(rng, rank, kernel))


def qlinear_matmul(rng: Rng, opset: int) -> Case:
    act, wgt = pick(rng, (np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
    weights = integers(rng, wgt, 9, 5)
    channels = (5,) if wgt == np.int8 and rng.integers(2) else ()
    constants = {
        "xs": scale(rng),
        "xz": integers(rng, act),
        "w": weights // 2 if wgt == np.int8 else weights,
        "ws": scale(rng, *channels),
        "wz": np.zeros(channels, wgt),
        "ys": scale(rng) * np.float32(64),
        "yz": integers(rng, act),
    }
    return Case("QLinearMatMul", {"x": integers(rng, act, 4, 9)}, constants)


def conv_integer(rng: Rng, opset: int) -> Case:
    # int8 activations have no kernel in ONNX Runtime
    kernel = rng.integers(1, 4, 2).tolist()
    constants = {
        "w": integers(rng, np.uint8, 4, 3, *kernel),
        "xz": integers(rng, np.uint8),
        "wz": integers(rng, np.uint8),
    }
    feeds = {"x": integers(rng, np.uint8, 1, 3, 8, 7)}
    return Case("ConvInteger", feeds, constants, window(rng, 2, kernel))


def matmul_integer(rng: Rng, opset: int) -> Case:
    wgt = pick(rng, np.uint8, np.int8)
    weights = integers(rng, wgt, 9, 5)
    constants = {
        "w": weights // 2 if wgt == np.int8 else weights,
        "xz": integers(rng, np.uint8),
        "wz": integers(rng, wgt, *pick(rng, (), (5,))),
    }
    return Case("MatMulInteger", {"x": integers(rng, np.uint8, *pick(rng, (4, 9), (2, 4, 9)))}, constants)


def dynamic(rng: Rng, opset: int) -> Case:
    shift = pick(rng, -5, 0, 5)
    return Case("DynamicQuantizeLinear", {"x": floats(rng, 1, 60) + np.float32(shift)}, outputs=3)


def int8_pool(rng: Rng, opset: int) -> Case:
    attributes = {"kernel_shape": [3, 2], "pads": [1, 1, 2, 0], "strides": [2, 1], "ceil_mode": 1}
    return Case("MaxPool", {"x": integers(rng, pick(rng, np.int8, np.uint8), 1, 2, 7, 8)}, {}, attributes)


ONNX_CASES: dict[str, tuple[int, Callable[[Rng, int], Case]]] = {
    "QuantizeLinear": (10, quantize_linear),
    "DequantizeLinear": (10, dequantize_linear),
    "QLinearConv": (10, qlinear_conv),
    "QLinearMatMul": (10, qlinear_matmul),
    "ConvInteger": (10, conv_integer),
    "MatMulInteger": (10, matmul_integer),
    "DynamicQuantizeLinear": (11, dynamic),
    "MaxPool": (12, int8_pool),
}


@pytest.mark.parametrize("op", ONNX_CASES)
def test_a_quantised_operator_equals_onnx_runtime_bit_for_bit(op: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    since, make = ONNX_CASES[op]
    for opset in opsets(op, since):
        for seed in range(20):
            case = make(np.random.default_rng([opset, seed]), opset)
            data = case.model(opset).SerializeToString()
            try:
                session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
            except runtime.capi.onnxruntime_pybind11_state.NotImplemented:
                # ONNX Runtime 1.32 has no kernels for the newest opset's QuantizeLinear
                assert opset > 25
                continue
            theirs = session.run(None, case.feeds)
            path = tmp_path / "case.onnx"
            path.write_bytes(data)
            graph = load_onnx(path)
            ours = run_graph(graph, case.feeds)
            for name, wanted in zip(graph.outputs, theirs, strict=True):
                where = f"opset {opset}, seed {seed}"
                assert (ours[name].shape, ours[name].dtype) == (wanted.shape, wanted.dtype), where
                np.testing.assert_array_equal(ours[name], wanted, where)
                value = graph.values[name]
                assert (value.shape, value.dtype) == (wanted.shape, wanted.dtype), where


MODES = ("ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")


def quant(rng: Rng, opset: int) -> Case:
    signed, bits = int(rng.integers(2)), int(rng.integers(1, 9))
    step = np.asarray(2.0 ** rng.integers(-3, 2), np.float32)
    x = (
        np.round(floats(rng, 1, 4, 30) * np.float32(8)) / np.float32(4)
        if rng.integers(2)
        else floats(rng, 1, 4, 30)
    )
    if rng.integers(2):
        step = scale(rng, 4, 1)
    constants = {
        "s": step,
        "z": np.asarray(0 if bits < 3 or rng.integers(2) else 1, np.float32),
        "b": np.asarray(bits, np.float32),
    }
    mode = pick(rng, *MODES)
    narrow = int(rng.integers(2)) if bits > 1 else 0
    attributes = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
    return Case("Quant", {"x": x}, constants, attributes, domain="qonnx.custom_op.general")


def bipolar(rng: Rng, opset: int) -> Case:
    x = np.round(floats(rng, 1, 4, 9))
    return Case("BipolarQuant", {"x": x}, {"s": scale(rng)}, domain="qonnx.custom_op.general")


def trunc(rng: Rng, opset: int) -> Case:
    step = np.asarray(2.0 ** rng.integers(-3, 1), np.float32)
    x = rng.integers(-300, 300, (1, 50)).astype(np.float32) * step
    constants = {
        "s": step,
        "z": np.zeros((), np.float32),
        "i": np.asarray(10, np.float32),
        "o": np.asarray(8, np.float32),
    }
    attributes = {"rounding_mode": pick(rng, "FLOOR", "ROUND", "CEIL")}
    return Case("Trunc", {"x": x}, constants, attributes, domain="qonnx.custom_op.general")


def multi_threshold(rng: Rng, opset: int) -> Case:
    shape, layout = pick(
        rng, ((1, 4), "NC"), ((1, 4, 3, 5), "NCHW"), ((1, 3, 5, 4), "NHWC"), ((1, 4, 3, 5), "")
    )
    rows = int(pick(rng, 1, 4))
    levels = np.sort(rng.integers(-8, 9, (rows, 7)), axis=1).astype(np.float32)
    attributes = {"out_dtype": "INT4", "out_scale": 0.5, "out_bias": -2.0}
    if layout:
        attributes["data_layout"] = layout
    x = rng.integers(-9, 10, shape).astype(np.float32)
    return Case("MultiThreshold", {"x": x}, {"t": levels}, attributes, domain="qonnx.custom_op.general")


QONNX_CASES = {"Quant": quant, "BipolarQuant": bipolar, "Trunc": trunc, "MultiThreshold": multi_threshold}


@pytest.mark.parametrize("op", QONNX_CASES)
def test_a_qonnx_operator_equals_qonnxs_executor_bit_for_bit(op: str, tmp_path: Path) -> None:
    pytest.importorskip("qonnx")
    from qonnx.core.execute_custom_node import execute_custom_node

    for seed in range(60):
        case = QONNX_CASES[op](np.random.default_rng(seed), 11)
        proto = case.model(11)
        path = tmp_path / "case.onnx"
        path.write_bytes(proto.SerializeToString())
        graph = load_onnx(path)
        assert graph.source == "qonnx"
        context = case.feeds | case.constants
        execute_custom_node(proto.graph.node[0], context, proto.graph, 1)
        (ours,) = run_graph(graph, case.feeds).values()
        assert ours.dtype == np.float32 and graph.values["y0"].shape == ours.shape
        np.testing.assert_array_equal(ours, context["y0"], f"seed {seed}: {case.attributes}")


def test_the_second_version_of_trunc_equals_qonnxs_function(tmp_path: Path) -> None:
    truncate = pytest.importorskip("qonnx.custom_op.general.trunc").trunc_v2
    rng = np.random.default_rng(3)
    for mode in ("FLOOR", "ROUND"):
        for signed, narrow in ((1, 0), (1, 1), (0, 0)):
            x = (rng.integers(-700, 700, (1, 80)) * 0.25).astype(np.float32)
            operands = [np.asarray(v, np.float32) for v in (0.25, 0, 10, 1.0, 8)]
            names = list("szabc")
            node = helper.make_node(
                "Trunc",
                ["x", *names],
                ["y"],
                name="node",
                domain="qonnx.custom_op.general",
                rounding_mode=mode,
                signed=signed,
                narrow=narrow,
            )
            path = tmp_path / "case.onnx"
            constants = dict(zip(names, operands, strict=True))
            path.write_bytes(model([node], {"x": x}, constants, ["y"], 13).SerializeToString())
            (ours,) = run_graph(load_onnx(path), {"x": x}).values()
            s, z, a, b, c = operands
            np.testing.assert_array_equal(ours, truncate(x, s, z, a, narrow, signed, b, c, mode))


@pytest.mark.parametrize("name", ["TFC_1W1A", "TFC_1W2A"])
def test_finns_binary_networks_equal_qonnxs_executor_on_digits(name: str, shared_data: Path) -> None:
    pytest.importorskip("qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    path = shared_data / f"models/qonnx/{name}.onnx"
    graph = load_onnx(path)
    wrapper = ModelWrapper(str(path)).transform(InferShapes())
    with np.load(shared_data / "mnist.npz") as file:
        images = (file["x_test"][:20, None] / 255).astype(np.float32)
    for image in images:
        wanted = execute_onnx(wrapper, {wrapper.graph.input[0].name: image[None]})
        (ours,) = run_graph(graph, {graph.inputs[0]: image[None]}).values()
        np.testing.assert_array_max_ulp(ours, next(iter(wanted.values())), 1)


def test_quantisers_of_weights_stay_when_constants_are_folded(tmp_path: Path) -> None:
    from bitwright.models.graph import fold_constants

    weights = onnx.numpy_helper.from_array(np.ones((2, 3), np.int8), "w")
    step = onnx.numpy_helper.from_array(np.float32(0.5), "s")
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["v"], name="weights"),
        helper.make_node("Gemm", ["x", "v"], ["y"], name="layer", transB=1),
    ]
    x = np.ones((1, 3), np.float32)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in (weights, step)}
    path = tmp_path / "case.onnx"
    path.write_bytes(model(nodes, {"x": x}, arrays, ["y"], 13).SerializeToString())
    graph = load_onnx(path)
    assert [node.name for node in fold_constants(graph).nodes] == ["weights", "layer"]
    whole = fold_constants(graph, quantisers=True)
    assert [node.name for node in whole.nodes] == ["layer"]
    np.testing.assert_array_equal(run_graph(whole, {"x": x})["y"], [[1.5, 1.5]])
