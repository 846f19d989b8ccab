"""Int8 ONNX graphs (QDQ, QLinear and integer operators) as integer networks, held to ONNX Runtime."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from bitwright.mapper import load_machine, map_network
from bitwright.models.importers import HostStep, Model, load_onnx, lower_graph, run_model, trace_model
from bitwright.models.importers.quantised import OPERATORS
from bitwright.models.importers.run import core_input
from bitwright.models.reference import run_reference
from bitwright.sim.functional import run_functional
from onnx import TensorProto, helper
from onnx_nets import Net

runtime = pytest.importorskip("onnxruntime")
runtime.set_default_logger_severity(4)

I8, U8 = np.int8, np.uint8
KINDS = {I8: TensorProto.INT8, U8: TensorProto.UINT8}


def runtime_says(path: Path, x: np.ndarray, names: list[str], fused: bool = True) -> dict[str, np.ndarray]:
    """The values `names` of a file in ONNX Runtime, one example after the other.

    Fused, it runs its integer kernels; else each node of the graph, in float32.
    """
    model = onnx.load(path)
    known = {info.name for info in model.graph.output}
    types = load_onnx(path).values
    for name in names:
        if name not in known:
            kind = helper.np_dtype_to_tensor_dtype(types[name].dtype)
            model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    options = runtime.SessionOptions()
    levels = runtime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if fused else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    rows = [session.run(names, {source: row[None]}) for row in x]
    return {name: np.concatenate(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def lowered(path: Path, *, cores: int = 1) -> Model:
    model = lower_graph(load_onnx(path))
    assert len(model.cores) == cores
    return model


def strays_on_ties(model: Model, path: Path, x: np.ndarray, fused: bool) -> tuple[int, int]:
    """(how many stored values are one off, of how many); each of them a real value that lies on a tie.

    Real values are those of ONNX Runtime's float32 run, within 1e-4 steps. The core rounds the exact product
    of sum and factor half to even, the runtime a float32 product or sum, which may fall on the other side.
    An example with a stray isn't followed further, since all that comes after it differs.
    """
    stored = {name for step in model.cores for name in step.tensors}
    quantisers = [n for n in model.graph.nodes if n.op == "QuantizeLinear" and n.outputs[0] in stored]
    found = trace_model(model, {"x": x})
    expected = runtime_says(path, x, [node.outputs[0] for node in quantisers], fused)
    real = runtime_says(path, x, [node.inputs[0] for node in quantisers if node.inputs[0] != "x"], False)
    clean = np.ones(len(x), bool)
    strays = 0
    for node in quantisers:
        name = node.outputs[0]
        difference = found[name].astype(int) - expected[name].astype(int)
        difference[~clean] = 0
        places = difference != 0
        if places.any():
            steps = real[node.inputs[0]][places].astype(np.float64) / model.graph.constants[node.inputs[1]]
            assert np.abs(difference).max() == 1, name
            assert np.abs(np.abs(steps - np.floor(steps)) - 0.5).max() < 1e-4, name
        strays += int(places.sum())
        clean &= ~places.reshape(len(x), -1).any(axis=1)
    assert clean.sum() >= len(x) / 4
    return strays, sum(found[node.outputs[0]].size for node in quantisers)


class Qdq(Net):
    """A net whose activations pass through QuantizeLinear and DequantizeLinear."""

    def __init__(self, seed: int, dtype: type = I8) -> None:
        super().__init__(seed)
        self.dtype = dtype

    def zero(self, zero: int) -> str:
        """A zero point, so far from the middle of the range."""
        return self.constant(zero + (128 if self.dtype is U8 else 0), self.dtype)

    def quantise(self, x: str, scale: float, zero: int) -> str:
        return self.op("QuantizeLinear", x, self.constant(scale), self.zero(zero))

    def qdq(self, x: str, scale: float, zero: int) -> str:
        stored = self.quantise(x, scale, zero)
        return self.op("DequantizeLinear", stored, self.constant(scale), self.zero(zero))

    def weights(self, *shape: int, scale: float | np.ndarray = 0.01, axis: int = 0) -> str:
        # 7 bits: without VNNI, ONNX Runtime's products of 8 bits saturate in pairs at 16.
        values = self.constant(self.rng.integers(-63, 64, shape), I8)
        return self.op("DequantizeLinear", values, self.constant(scale), axis=axis)

    def bias(self, count: int, scale: float | np.ndarray) -> str:
        values = self.constant(self.rng.integers(-2000, 2000, count), np.int32)
        return self.op("DequantizeLinear", values, self.constant(np.broadcast_to(scale, count)), axis=0)


def conv_relu(n: Qdq, x: str, scale: float) -> tuple[str, list[int]]:
    steps = np.linspace(0.004, 0.02, 8).astype(np.float32)
    bias = n.bias(8, np.float32(scale) * steps)
    x = n.op("Conv", x, n.weights(8, 4, 3, 3, scale=steps), bias, kernel_shape=[3, 3], pads=[1, 1, 0, 1])
    return n.op("Relu", x), [1, 8, 9, 10]


def conv_clip(n: Qdq, x: str, scale: float) -> tuple[str, list[int]]:
    x = n.op("Conv", x, n.weights(8, 1, 3, 3), kernel_shape=[3, 3], dilations=[2, 2], strides=[2, 1], group=4)
    return n.op("Clip", x, n.constant(0), n.constant(1.7)), [1, 8, 3, 6]


def norm(n: Qdq, x: str, scale: float) -> tuple[str, list[int]]:
    x = n.op("Conv", x, n.weights(8, 4, 1, 1, scale=0.02), kernel_shape=[1, 1])
    return n.op("LeakyRelu", n.norm(x, 8, spread=2), alpha=0.1), [1, 8, 10, 10]


def max_pool(n: Qdq, x: str, scale: float) -> tuple[str, list[int]]:
    x = n.op("Conv", x, n.weights(8, 4, 1, 1, scale=0.02), kernel_shape=[1, 1])
    x = n.op("MaxPool", n.qdq(x, 0.05, 3), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    return n.op("Conv", x, n.weights(8, 8, 1, 1), kernel_shape=[1, 1]), [1, 8, 5, 5]


def average_pool(n: Qdq, x: str, scale: float) -> tuple[str, list[int]]:
    x = n.qdq(n.op("Conv", x, n.weights(8, 4, 1, 1, scale=0.02), kernel_shape=[1, 1]), 0.05, -9)
    return n.op("AveragePool", x, kernel_shape=[2, 3], strides=[2, 2]), [1, 8, 5, 4]


def global_pool(n: Qdq, x: str, scale: float) -> tuple[str, list[int]]:
    x = n.qdq(n.op("Conv", x, n.weights(8, 4, 1, 1, scale=0.02), kernel_shape=[1, 1]), 0.05, -9)
    x = n.op("Flatten", n.qdq(n.op("GlobalAveragePool", x), 0.01, 2))
    return n.op("Gemm", x, n.weights(5, 8, axis=0), n.bias(5, np.float32(0.01) * 0.01), transB=1), [1, 5]


def residual(n: Qdq, x: str, scale: float) -> tuple[str, list[int]]:
    y = n.qdq(n.op("Conv", x, n.weights(4, 4, 1, 1, scale=0.02), kernel_shape=[1, 1]), 0.047, 5)
    return n.op("Relu", n.op("Add", x, y)), [1, 4, 10, 10]


def joined(n: Qdq, x: str, scale: float) -> tuple[str, list[int]]:
    a = n.qdq(n.op("Conv", x, n.weights(6, 4, 1, 1, scale=0.02), kernel_shape=[1, 1]), 0.021, 0)
    b = n.qdq(n.op("Conv", x, n.weights(4, 4, 1, 1, scale=0.02), kernel_shape=[1, 1]), 0.07, 7)
    return n.op("Concat", a, b, axis=1), [1, 10, 10, 10]


def shuffled(n: Qdq, x: str, scale: float) -> tuple[str, list[int]]:
    x = n.qdq(n.op("Conv", x, n.weights(12, 2, 1, 1, scale=0.02), kernel_shape=[1, 1], group=2), 0.04, 0)
    x = n.op("Reshape", x, n.constant([1, 2, 6, 10, 10], np.int64))
    x = n.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = n.op("Reshape", x, n.constant([1, 12, 10, 10], np.int64))
    return n.op("Conv", x, n.weights(6, 4, 1, 1), kernel_shape=[1, 1], group=3), [1, 6, 10, 10]


def matrix(n: Qdq, x: str, scale: float) -> tuple[str, list[int]]:
    steps = np.linspace(0.004, 0.02, 7).astype(np.float32)
    return n.op("MatMul", n.op("Flatten", x), n.weights(400, 7, scale=steps, axis=1)), [1, 7]


def padded(n: Qdq, x: str, scale: float) -> tuple[str, list[int]]:
    x = n.op("Pad", x, n.constant([0, 0, 1, 2, 0, 0, 0, 1], np.int64))
    return n.op("Conv", x, n.weights(8, 4, 3, 3), kernel_shape=[3, 3]), [1, 8, 9, 11]


NETS: dict[str, Callable[[Qdq, str, float], tuple[str, list[int]]]] = {
    f.__name__: f
    for f in (
        *(conv_relu, conv_clip, norm, max_pool, average_pool, global_pool),
        *(residual, joined, shuffled, matrix, padded),
    )
}


@pytest.mark.parametrize("dtype", [I8, U8])
@pytest.mark.parametrize("name", NETS)
def test_a_small_graph_computes_what_onnx_runtime_computes(name: str, dtype: type, tmp_path: Path) -> None:
    n = Qdq(sum(map(ord, name)), dtype)
    x = n.qdq(n.input("x", [1, 4, 10, 10]), 0.031, 11)
    x, shape = NETS[name](n, x, 0.031)
    x = n.quantise(x, 0.043, -20)
    path = n.save(tmp_path / "net.onnx", x, shape, KINDS[dtype])
    model = lowered(path)
    given = n.normal(24, 4, 10, 10)
    found = run_model(model, {"x": given})[x]
    assert found.dtype == dtype
    assert len(np.unique(found)) > 20
    for fused in (True, False):
        strays, total = strays_on_ties(model, path, given, fused)
        # Decimal scales make ties of one sum in some hundreds.
        assert strays <= total / 200, f"fused: {fused}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_a_small_graphs_network_runs_on_the_core(name: str, tmp_path: Path) -> None:
    n = Qdq(7)
    x = n.qdq(n.input("x", [1, 4, 10, 10]), 0.031, 11)
    x, shape = NETS[name](n, x, 0.031)
    x = n.quantise(x, 0.043, -20)
    model = lowered(n.save(tmp_path / "net.onnx", x, shape, TensorProto.INT8))
    (step,) = model.cores
    stored = core_input(model, step, {"x": n.normal(1, 4, 10, 10)})
    program = map_network(step.network, load_machine("core-medium"))
    assert np.array_equal(run_functional(program, stored[0], seed=2), run_reference(step.network, stored)[0])


def whole_net(n: Net) -> tuple[str, list[int]]:
    """A float network with a depthwise layer, a residual, a concatenation, a shuffle and a Softmax."""

    def conv(x: str, k: int, c: int, side: int, group: int = 1, **attributes: object) -> str:
        spread = np.sqrt(2 / (c // group * side**2))
        weights = n.normal(k, c // group, side, side, spread=spread) * n.rng.uniform(0.3, 1.5, (k, 1, 1, 1))
        pads = [side // 2] * 4
        operands = n.constant(weights), n.constant(n.normal(k, spread=0.3))
        return n.op("Conv", x, *operands, kernel_shape=[side, side], pads=pads, group=group, **attributes)

    x = n.op("Relu", conv(n.input("x", [1, 3, 32, 32]), 12, 3, 3, strides=[2, 2]))
    x = n.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = conv(n.op("Relu", conv(x, 12, 12, 3, group=12)), 12, 12, 1)
    x = n.op("Relu", n.op("Add", x, y))
    a = n.op("Clip", conv(x, 8, 12, 3), n.constant(0), n.constant(6))
    b = n.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    x = n.op("Reshape", n.op("Concat", a, b, axis=1), n.constant([1, 4, 5, 8, 8], np.int64))
    x = n.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = n.op("Reshape", x, n.constant([1, 20, 8, 8], np.int64))
    x = n.op("Flatten", n.op("GlobalAveragePool", n.op("Relu", conv(x, 16, 20, 3, group=4))))
    x = n.op("Gemm", x, n.constant(n.normal(10, 16, spread=0.4)), n.constant(n.normal(10)), transB=1)
    return n.op("Softmax", x), [1, 10]


@pytest.mark.parametrize(("activations", "channels"), [("QInt8", True), ("QUInt8", False), ("QUInt8", True)])
def test_a_whole_net_that_onnx_runtime_quantised_computes_what_it_computes(
    activations: str, channels: bool, tmp_path: Path
) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    n = Net(5)
    out, shape = whole_net(n)
    n.save(tmp_path / "float.onnx", out, shape)
    images = n.normal(40, 3, 32, 32)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.rows = iter([{"x": image[None]} for image in images])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rows, None)

    path = tmp_path / "net.onnx"
    quantization.quantize_static(
        tmp_path / "float.onnx",
        path,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType[activations],
        weight_type=quantization.QuantType.QInt8,
        per_channel=channels,
        reduce_range=True,
    )
    model = lowered(path)
    (step,) = model.cores
    hosted = [node.op for step in model.steps if isinstance(step, HostStep) for node in step.nodes]
    assert hosted == ["QuantizeLinear", "DequantizeLinear", "Softmax", "QuantizeLinear", "DequantizeLinear"]
    values = [node.outputs[0] for node in model.graph.nodes if node.op == "QuantizeLinear"]
    assert len([name for name in values if name in step.tensors]) == 14
    found = trace_model(model, {"x": images})[step.makes]
    assert len(np.unique(found)) > 50
    for fused in (True, False):
        # Of ONNX Runtime's own scales a product in some hundred thousands lies on a tie.
        strays, total = strays_on_ties(model, path, images, fused)
        assert strays <= 4 and total > 500_000
        difference = found.astype(int) - runtime_says(path, images, [step.makes], fused)[step.makes]
        assert np.count_nonzero(difference) <= 2


def nearest_even(value: Fraction) -> int:
    return round(value)  # Python's rounds ties to even


@pytest.mark.parametrize("operator", ["QLinearConv", "QLinearMatMul"])
def test_off_by_ones_are_products_that_float32_puts_on_a_tie(operator: str, tmp_path: Path) -> None:
    # float32's 0.1 is a little more than a tenth. The exact product of a sum 5, 15, 25, … lies beyond a tie
    # and is rounded away from zero; a float32 product falls onto the tie and is then rounded to even.
    n = Net(3)
    x = n.input("x", [1, 8, 6, 6] if operator == "QLinearConv" else [1, 8], TensorProto.INT8)
    factor = np.float32(0.1)
    shape = (4, 8, 1, 1) if operator == "QLinearConv" else (8, 4)
    weights = n.rng.integers(-6, 7, shape)
    zero = n.constant(0, I8)
    operands = [
        x,
        n.constant(factor),
        zero,
        n.constant(weights, I8),
        n.constant(1),
        zero,
        n.constant(1),
        zero,
    ]
    x = n.op(operator, *operands)
    out = [1, 4, 6, 6] if operator == "QLinearConv" else [1, 4]
    path = n.save(tmp_path / "net.onnx", x, out, TensorProto.INT8)
    count = 40 if operator == "QLinearConv" else 1500
    given = n.rng.integers(-3, 4, (count, *([8, 6, 6] if operator == "QLinearConv" else [8]))).astype(I8)
    found, expected = run_model(lowered(path), {"x": given})[x], runtime_says(path, given, [x])[x]
    if operator == "QLinearConv":
        sums = np.einsum("kc,bcyx->bkyx", weights[:, :, 0, 0], given.astype(int))
    else:
        sums = given.astype(int) @ weights
    assert np.abs(sums).max() < 200  # nothing saturates
    exact = np.array([nearest_even(int(s) * Fraction(float(factor))) for s in sums.ravel()])
    assert np.array_equal(found.ravel(), exact)
    products = sums.astype(np.float32) * factor
    assert np.array_equal(expected, np.round(products))
    differ = found != expected
    assert np.all(products[differ] % 1 == 0.5)
    wanted = np.abs(sums) % 20 == 5  # of 15 and 25 the even neighbour is the outer one
    assert np.array_equal(differ, wanted) and differ.sum() > 200


@pytest.mark.parametrize("dtype", [I8, U8])
def test_linear_operators_compute_what_onnx_runtime_computes(dtype: type, tmp_path: Path) -> None:
    n = Net(13)
    zero = 0 if dtype is I8 else 128
    x = n.input("x", [1, 5, 10, 10], KINDS[dtype])
    x = n.op("MaxPool", x, kernel_shape=[2, 2])
    steps = n.constant(np.linspace(0.004, 0.02, 6))
    nothing = n.constant(np.zeros(6), I8)
    weights = n.constant(n.rng.integers(-63, 64, (6, 5, 3, 3)), I8)
    first = n.constant(0.03137), n.constant(zero + 4, dtype)
    second = n.constant(0.1127), n.constant(zero - 30, dtype)
    third = n.constant(0.1319), n.constant(zero + 7, dtype)
    bias = n.constant(n.rng.integers(-3000, 3000, 6), np.int32)
    x = n.op(
        "QLinearConv", x, *first, weights, steps, nothing, *second, bias, kernel_shape=[3, 3], strides=[2, 2]
    )
    x = n.op("Flatten", x)
    weights = n.constant(n.rng.integers(-63, 64, (96, 10)), I8)
    x = n.op("QLinearMatMul", x, *second, weights, n.constant(0.01013), n.constant(0, I8), *third)
    path = n.save(tmp_path / "net.onnx", x, [1, 10], KINDS[dtype])
    model = lowered(path)
    assert not any(isinstance(step, HostStep) for step in model.steps)
    limits = np.iinfo(dtype)
    given = n.rng.integers(limits.min, limits.max + 1, (60, 5, 10, 10)).astype(dtype)
    found = run_model(model, {"x": given})[x]
    assert len(np.unique(found)) > 20
    assert np.array_equal(found, runtime_says(path, given, [x])[x])


def test_integer_operators_compute_what_onnx_runtime_computes(tmp_path: Path) -> None:
    n = Net(17)
    x = n.op("QuantizeLinear", n.input("x", [1, 3, 6, 6]), n.constant(0.02), n.constant(121, U8))
    weights = n.constant(n.rng.integers(65, 192, (4, 3, 3, 3)), U8)
    x = n.op("ConvInteger", x, weights, n.constant(121, U8), n.constant(128, U8), pads=[1, 1, 1, 1])
    x = n.op("Mul", n.op("Cast", x, to=TensorProto.FLOAT), n.constant(0.02 * 0.013))
    x = n.op("Relu", n.op("Add", x, n.constant(n.normal(1, 4, 1, 1))))
    x = n.op("QuantizeLinear", x, n.constant(0.019), n.constant(0, U8))
    weights = n.constant(n.rng.integers(-63, 64, (144, 5)), I8)
    x = n.op("MatMulInteger", n.op("Flatten", x), weights)
    x = n.op("Mul", n.op("Cast", x, to=TensorProto.FLOAT), n.constant(0.019 * 0.01))
    x = n.op("QuantizeLinear", x, n.constant(0.07), n.constant(128, U8))
    path = n.save(tmp_path / "net.onnx", x, [1, 5], TensorProto.UINT8)
    model = lowered(path)
    given = n.normal(40, 3, 6, 6)
    found = run_model(model, {"x": given})[x]
    assert len(np.unique(found)) > 20
    assert np.array_equal(found, runtime_says(path, given, [x])[x])


def test_a_signal_is_a_picture_of_one_row(tmp_path: Path) -> None:
    n = Qdq(23)
    x = n.qdq(n.input("x", [1, 3, 40]), 0.031, 4)
    x = n.op("Relu", n.op("Conv", x, n.weights(8, 3, 5), kernel_shape=[5], strides=[2], pads=[2, 1]))
    x = n.op("MaxPool", n.qdq(x, 0.02, -128), kernel_shape=[2], strides=[2])
    x = n.op("Conv", x, n.weights(4, 8, 3), kernel_shape=[3])
    x = n.op("Gemm", n.op("Flatten", n.qdq(x, 0.05, 0)), n.weights(32, 6, axis=1))
    x = n.quantise(x, 0.1, 3)
    path = n.save(tmp_path / "net.onnx", x, [1, 6], TensorProto.INT8)
    given = n.normal(30, 3, 40)
    model = lowered(path)
    assert len(np.unique(run_model(model, {"x": given})[x])) > 20
    for fused in (True, False):
        strays, total = strays_on_ties(model, path, given, fused)
        assert strays <= total / 200


def test_weights_of_nine_bits_are_the_hosts_and_the_rest_is_the_cores(tmp_path: Path) -> None:
    n = Qdq(29)
    x = n.qdq(n.input("x", [1, 12]), 0.03137, 4)
    x = n.qdq(n.op("MatMul", x, n.weights(12, 12, axis=1)), 0.02011, -3)
    stored = n.constant(n.rng.integers(0, 256, (12, 12)), U8)
    x = n.op("MatMul", x, n.op("DequantizeLinear", stored, n.constant(0.01), n.constant(3, U8)))
    x = n.qdq(x, 0.05, 0)
    x = n.quantise(n.op("MatMul", x, n.weights(12, 5, axis=1)), 0.05039, 1)
    path = n.save(tmp_path / "net.onnx", x, [1, 5], TensorProto.INT8)
    model = lowered(path, cores=2)
    reasons = {
        node.name: step.reason for step in model.steps if isinstance(step, HostStep) for node in step.nodes
    }
    assert "its weights must fit 8 bits" in next(
        r for name, r in reasons.items() if name.startswith("MatMul")
    )
    given = n.normal(30, 12)
    found = run_model(model, {"x": given})[x]
    assert np.array_equal(found, runtime_says(path, given, [x], fused=False)[x])


def test_a_float_graph_is_the_hosts_in_one_step(tmp_path: Path) -> None:
    n = Net(2)
    out, shape = whole_net(n)
    path = n.save(tmp_path / "float.onnx", out, shape)
    model = lowered(path, cores=0)
    (step,) = model.steps
    assert isinstance(step, HostStep) and "float" in step.reason
    given = n.normal(2, 3, 32, 32)
    found = run_model(model, {"x": given})[out]
    np.testing.assert_allclose(found, runtime_says(path, given, [out])[out], rtol=1e-4)


def test_every_operator_that_is_listed_is_met_by_these_tests() -> None:
    here = Path(__file__).parent
    text = "".join((here / name).read_text() for name in ("test_qdq.py", "test_qonnx.py", "onnx_nets.py"))
    assert [op for op in OPERATORS if f'"{op}"' not in text] == []
