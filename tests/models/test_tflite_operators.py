"""Every int8 operator of TFLite on the core's layers, against the reference kernels of LiteRT."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bitwright.models.importers.model import CoreStep, HostStep, Model
from bitwright.models.importers.run import run_model
from bitwright.models.importers.tflite_core import HARDWARE
from bitwright.models.importers.tflite_file import OPTIONS
from bitwright.models.importers.tflite_model import load_tflite
from bitwright.models.reference import run_reference
from numpy.typing import NDArray

Case = tuple[bytes, tuple[int, ...]]
"""A file and the shape of its input."""
SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)


@pytest.fixture(scope="module")
def litert() -> Callable[[bytes, NDArray[Any]], NDArray[Any]]:
    """The outputs of a file, by LiteRT's reference kernels, for inputs of the file's shape."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")

    def run(data: bytes, inputs: NDArray[Any]) -> NDArray[Any]:
        kernels = interpreter.OpResolverType.BUILTIN_REF
        machine = interpreter.Interpreter(model_content=data, experimental_op_resolver_type=kernels)
        machine.allocate_tensors()
        source, result = machine.get_input_details()[0], machine.get_output_details()[0]
        found = []
        for x in inputs:
            machine.set_tensor(source["index"], x[np.newaxis])
            machine.invoke()
            found.append(machine.get_tensor(result["index"])[0].copy())
        return np.stack(found)

    return run


def loaded(folder: Path, data: bytes) -> Model:
    path = folder / "case.tflite"
    path.write_bytes(data)
    return load_tflite(path)


def drawn(shape: tuple[int, ...], count: int) -> NDArray[np.int8]:
    return np.random.default_rng(11).integers(-128, 128, (count, *shape[1:]), dtype=np.int8)


def require_equal(
    folder: Path, litert: Callable[[bytes, NDArray[Any]], NDArray[Any]], case: Case, count: int = 12
) -> None:
    """The file runs as one core step, bit for bit as its kernels."""
    data, shape = case
    model = loaded(folder, data)
    assert [type(step) for step in model.steps] == [CoreStep], [getattr(s, "reason", "") for s in model.steps]
    inputs = drawn(shape, count)
    expected = litert(data, inputs)
    assert np.unique(expected).size > 5  # not clamped to nothing
    (step,) = model.cores
    found = run_reference(step.network, inputs.transpose(0, 3, 1, 2) if inputs.ndim == 4 else inputs)
    if found.ndim == 4:
        found = found.transpose(0, 2, 3, 1)
    assert np.array_equal(found.reshape(expected.shape), expected)


def convolution(
    writer: ModuleType,
    image: tuple[int, int, int],
    outputs: int,
    kernel: tuple[int, int],
    *,
    depthwise: bool = False,
    activation: int = NONE,
    padding: int = SAME,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    seed: int = 1,
) -> Case:
    rng = np.random.default_rng(seed)
    w = writer.TfliteWriter()
    height, width, channels = image
    x = w.tensor((1, *image), scale=0.05, zero_point=3)
    scales = rng.uniform(0.001, 0.01, outputs)
    shape = (1, *kernel, outputs) if depthwise else (outputs, *kernel, channels // groups)
    values = rng.integers(-127, 128, shape)
    weights = w.constant(values, np.int8, scale=scales, axis=3 if depthwise else 0)
    bias = w.constant(rng.integers(-2000, 2000, outputs), np.int32, scale=scales * 0.05)
    counts = []
    for size, taps, step, apart in zip((height, width), kernel, stride, dilation, strict=True):
        reach = (taps - 1) * apart + 1
        counts.append(-(-size // step) if padding == SAME else (size - reach) // step + 1)
    y = w.tensor((1, *counts, outputs), scale=0.09, zero_point=-7)
    options: dict[str, Any] = {
        "Padding": padding, "StrideH": stride[0], "StrideW": stride[1],
        "DilationHFactor": dilation[0], "DilationWFactor": dilation[1],
        "FusedActivationFunction": activation,
    }  # fmt: skip
    if depthwise:
        options["DepthMultiplier"] = outputs // channels
    w.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [x, weights, bias], y, **options)
    return w.bytes([x], [y]), x.shape


@pytest.mark.parametrize(
    ("image", "outputs", "kernel", "options"),
    [
        ((9, 8, 5), 6, (3, 3), {}),
        ((9, 8, 5), 6, (3, 3), {"stride": (2, 2)}),
        ((8, 8, 5), 6, (1, 1), {"stride": (2, 2)}),
        ((49, 10, 1), 8, (10, 4), {"stride": (2, 2), "activation": RELU}),
        ((9, 8, 5), 6, (3, 2), {"padding": VALID, "activation": RELU6}),
        ((12, 11, 4), 6, (3, 3), {"dilation": (2, 3), "activation": RELU_N1_TO_1}),
        ((6, 7, 8), 6, (3, 3), {"groups": 2}),
        ((9, 8, 5), 5, (3, 3), {"depthwise": True, "activation": RELU}),
        ((9, 8, 5), 10, (3, 3), {"depthwise": True, "stride": (2, 2)}),
        ((9, 8, 1), 6, (3, 3), {"depthwise": True}),
        ((9, 8, 5), 5, (3, 3), {"depthwise": True, "dilation": (2, 2), "padding": VALID}),
    ],
)
def test_a_convolution_is_its_kernel(
    image: tuple[int, int, int],
    outputs: int,
    kernel: tuple[int, int],
    options: dict[str, Any],
    tmp_path: Path,
    litert: Any,
    tflite_writer: ModuleType,
) -> None:
    require_equal(tmp_path, litert, convolution(tflite_writer, image, outputs, kernel, **options))


def sums_as_results(writer: ModuleType, kind: str, sums: NDArray[np.int64], scale: float, zero: int) -> bytes:
    """A file whose weights are 0 and whose biases are the sums: what it gives is how they are rescaled."""
    w = writer.TfliteWriter()
    count, flat, deep = sums.size, kind == "FULLY_CONNECTED", kind == "DEPTHWISE_CONV_2D"
    depth = count if deep else 4
    x = w.tensor((1, depth) if flat else (1, 1, 1, depth), scale=0.125, zero_point=9)
    shape = (count, 4) if flat else (1, 1, 1, count) if deep else (count, 1, 1, 4)
    scales = 0.5 if flat else np.full(count, 0.5)
    weights = w.constant(np.zeros(shape), np.int8, scale=scales, axis=3 if deep else 0)
    bias = w.constant(sums, np.int32, scale=0.0625)
    y = w.tensor((1, count) if flat else (1, 1, 1, count), scale=scale, zero_point=zero)
    options: dict[str, Any] = {"Padding": VALID, "StrideH": 1, "StrideW": 1}
    if flat:
        options = {"WeightsFormat": 0}
    elif deep:
        options["DepthMultiplier"] = 1
    w.operator(kind, [x, weights, bias], y, FusedActivationFunction=NONE, **options)
    data: bytes = w.bytes([x], [y])
    return data


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
@pytest.mark.parametrize(
    ("scale", "zero"),
    [(0.25, 0), (0.25, 4), (0.25, -3), (0.5, 0), (0.0625, 0), (0.7, 0), (0.3, 11), (900.0, 0), (31.7, -5)],
)
def test_every_sum_is_rescaled_as_its_kernel_does(
    kind: str, scale: float, zero: int, tmp_path: Path, litert: Any, tflite_writer: ModuleType
) -> None:
    # Sums around each step between two results, ties among them: 0.0625 / 0.25 makes every fourth one.
    real = 0.125 * 0.5 / float(np.float32(scale))
    steps = np.rint((np.arange(-130, 130) + 0.5) / real)[:, np.newaxis] + np.arange(-2, 3)
    sums = np.unique(np.clip(steps, -(1 << 29), 1 << 29).astype(np.int64))
    data = sums_as_results(tflite_writer, kind, sums, scale, zero)
    (step,) = loaded(tmp_path, data).cores
    shape = step.network.tensors[step.network.input].shape
    found = run_reference(step.network, np.full((1, *shape), 9, np.int8)).ravel()
    size = (1, shape[0]) if kind == "FULLY_CONNECTED" else (1, 1, 1, shape[0])
    assert np.array_equal(found, litert(data, np.full(size, 9, np.int8)).ravel())


def pool(
    writer: ModuleType,
    kind: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: int,
    activation: int = NONE,
    zero_point: int = -20,
) -> Case:
    w = writer.TfliteWriter()
    x = w.tensor((1, 16, 16, 12), scale=0.05, zero_point=zero_point)
    counts = [
        -(-16 // step) if padding == SAME else (16 - taps) // step + 1
        for taps, step in zip(kernel, stride, strict=True)
    ]
    y = w.tensor((1, *counts, 12), scale=0.05, zero_point=zero_point)
    w.operator(
        kind, [x], y, Padding=padding, StrideH=stride[0], StrideW=stride[1], FilterHeight=kernel[0],
        FilterWidth=kernel[1], FusedActivationFunction=activation,
    )  # fmt: skip
    return w.bytes([x], [y]), x.shape


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (2, 3), (4, 4), (5, 6), (8, 8), (12, 12)])
@pytest.mark.parametrize("zero_point", [-128, -20, 17])
def test_an_average_pool_is_its_kernel(
    kernel: tuple[int, int], zero_point: int, tmp_path: Path, litert: Any, tflite_writer: ModuleType
) -> None:
    case = pool(tflite_writer, "AVERAGE_POOL_2D", kernel, (1, 1), VALID, zero_point=zero_point)
    require_equal(tmp_path, litert, case)


@pytest.mark.parametrize(
    ("kind", "kernel", "stride", "padding", "activation"),
    [
        ("AVERAGE_POOL_2D", (2, 2), (2, 2), VALID, RELU6),
        ("AVERAGE_POOL_2D", (4, 4), (4, 4), SAME, NONE),
        ("MAX_POOL_2D", (2, 2), (2, 2), VALID, NONE),
        ("MAX_POOL_2D", (2, 2), (2, 2), VALID, RELU),
        ("MAX_POOL_2D", (3, 3), (2, 2), SAME, NONE),
        ("MAX_POOL_2D", (3, 2), (1, 1), SAME, RELU),
    ],
)
def test_a_pool_with_padding_or_activation_is_its_kernel(
    kind: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: int,
    activation: int,
    tmp_path: Path,
    litert: Any,
    tflite_writer: ModuleType,
) -> None:
    require_equal(tmp_path, litert, pool(tflite_writer, kind, kernel, stride, padding, activation))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("ratio", [1.0, 0.7, 1.3, 0.999])
def test_a_mean_over_the_picture_is_its_kernel(
    ratio: float, keep: bool, tmp_path: Path, litert: Any, tflite_writer: ModuleType
) -> None:
    w = tflite_writer.TfliteWriter()
    x = w.tensor((1, 6, 5, 40), scale=0.05 * ratio, zero_point=12)
    y = w.tensor((1, 1, 1, 40) if keep else (1, 40), scale=0.05, zero_point=-4)
    w.operator("MEAN", [x, w.constant([1, 2], np.int32)], y, KeepDims=keep)
    require_equal(tmp_path, litert, (w.bytes([x], [y]), x.shape), count=40)


@pytest.mark.parametrize("kind", ["RELU", "RELU6"])
@pytest.mark.parametrize(("ratio", "zero_point"), [(1.0, 5), (1.0, -9), (0.7, 3)])
def test_a_relu_alone_is_its_kernel(
    kind: str, ratio: float, zero_point: int, tmp_path: Path, litert: Any, tflite_writer: ModuleType
) -> None:
    w = tflite_writer.TfliteWriter()
    x = w.tensor((1, 6, 5, 8), scale=0.05 * ratio, zero_point=5)
    y = w.tensor((1, 6, 5, 8), scale=0.05, zero_point=zero_point)
    w.operator(kind, [x], y)
    require_equal(tmp_path, litert, (w.bytes([x], [y]), x.shape))


def two_pools(
    writer: ModuleType, kind: str, depth: int, scale: float, zero_point: int, **options: Any
) -> Case:
    """A picture and its maxima, joined by an operator of two operands."""
    w = writer.TfliteWriter()
    x = w.tensor((1, 7, 6, 5), scale=0.05, zero_point=9)
    most = w.tensor((1, 7, 6, 5), scale=0.05, zero_point=9)
    w.operator(
        "MAX_POOL_2D", [x], most, Padding=SAME, StrideH=1, StrideW=1, FilterHeight=2, FilterWidth=2,
        FusedActivationFunction=NONE,
    )  # fmt: skip
    y = w.tensor((1, 7, 6, depth), scale=scale, zero_point=zero_point)
    w.operator(kind, [x, most], y, **options)
    return w.bytes([x], [y]), x.shape


@pytest.mark.parametrize("activation", [NONE, RELU, RELU6])
def test_an_add_is_its_kernel(
    activation: int, tmp_path: Path, litert: Any, tflite_writer: ModuleType
) -> None:
    case = two_pools(tflite_writer, "ADD", 5, 0.071, -30, FusedActivationFunction=activation)
    require_equal(tmp_path, litert, case)


def test_a_concatenation_of_channels_is_its_kernel(
    tmp_path: Path, litert: Any, tflite_writer: ModuleType
) -> None:
    case = two_pools(tflite_writer, "CONCATENATION", 10, 0.05, 9, Axis=3, FusedActivationFunction=NONE)
    require_equal(tmp_path, litert, case)


def padded_convolution(writer: ModuleType, seen: bool) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(4)
    w = writer.TfliteWriter()
    x = w.tensor((1, 7, 6, 5), scale=0.05, zero_point=9)
    wide = w.tensor((1, 9, 9, 5), scale=0.05, zero_point=9)
    w.operator("PAD", [x, w.constant([[0, 0], [0, 2], [1, 2], [0, 0]], np.int32)], wide)
    weights = w.constant(rng.integers(-127, 128, (6, 3, 3, 5)), np.int8, scale=0.01)
    bias = w.constant(np.arange(6), np.int32, scale=0.0005)
    y = w.tensor((1, 4, 4, 6), scale=0.3, zero_point=-3)
    w.operator(
        "CONV_2D", [wide, weights, bias], y, Padding=VALID, StrideH=2, StrideW=2, FusedActivationFunction=NONE
    )
    return w.bytes([x], [y, wide] if seen else [y]), x, y, wide


def test_a_pad_before_a_convolution_is_its_padding(
    tmp_path: Path, litert: Any, tflite_writer: ModuleType
) -> None:
    data, x, _, _ = padded_convolution(tflite_writer, seen=False)
    require_equal(tmp_path, litert, (data, x.shape))
    (step,) = loaded(tmp_path, data).cores
    assert [layer.kind for layer in step.network.layers] == ["conv", "requantize"]


def test_a_pad_that_somebody_sees_runs_on_the_host(tmp_path: Path, tflite_writer: ModuleType) -> None:
    data, x, _, _ = padded_convolution(tflite_writer, seen=True)
    model = loaded(tmp_path, data)
    assert [type(step) for step in model.steps] == [HostStep, CoreStep]
    inputs = drawn(x.shape, 2)
    found = run_model(model, {model.graph.inputs[0]: inputs.transpose(0, 3, 1, 2)})
    wide = np.pad(inputs, ((0, 0), (0, 2), (1, 2), (0, 0)), constant_values=9)  # 9 is a real 0
    assert np.array_equal(found[model.graph.outputs[1]], wide.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("by_channel", [False, True])
def test_a_linear_layer_after_pixels_is_its_kernel(
    by_channel: bool, tmp_path: Path, litert: Any, tflite_writer: ModuleType
) -> None:
    # TFLite flattens H, W, C, a Network C, H, W: the weights change places.
    rng = np.random.default_rng(6)
    w = tflite_writer.TfliteWriter()
    x = w.tensor((1, 3, 4, 5), scale=0.05, zero_point=9)
    flat = w.tensor((1, 60), scale=0.05, zero_point=9)
    w.operator("RESHAPE", [x, w.constant([1, 60], np.int32)], flat)
    scale = rng.uniform(0.002, 0.01, 9) if by_channel else 0.01
    weights = w.constant(rng.integers(-127, 128, (9, 60)), np.int8, scale=scale)
    bias = w.constant(rng.integers(-900, 900, 9), np.int32, scale=np.multiply(scale, 0.05))
    y = w.tensor((1, 9), scale=0.3, zero_point=4)
    w.operator("FULLY_CONNECTED", [flat, weights, bias], y, FusedActivationFunction=NONE, WeightsFormat=0)
    require_equal(tmp_path, litert, (w.bytes([x], [y]), x.shape), count=300)


def test_every_operator_in_one_network_is_its_kernel(
    tmp_path: Path, litert: Any, tflite_writer: ModuleType
) -> None:
    require_equal(tmp_path, litert, tflite_writer.every_operator(), count=100)


def test_float_ends_run_on_the_host_and_the_middle_on_the_core(
    tmp_path: Path, litert: Any, tflite_writer: ModuleType
) -> None:
    w = tflite_writer.TfliteWriter()
    source = w.tensor((1, 6, 6, 3), np.float32, name="image")
    x, y = (w.tensor((1, n, n, 3), scale=0.05, zero_point=-7) for n in (6, 3))
    result = w.tensor((1, 3, 3, 3), np.float32)
    w.operator("QUANTIZE", [source], x)
    w.operator(
        "AVERAGE_POOL_2D", [x], y, Padding=VALID, StrideH=2, StrideW=2, FilterHeight=2, FilterWidth=2,
        FusedActivationFunction=RELU,
    )  # fmt: skip
    w.operator("DEQUANTIZE", [y], result)
    data = w.bytes([source], [result])
    model = loaded(tmp_path, data)
    assert [type(step) for step in model.steps] == [HostStep, CoreStep, HostStep]
    inputs = np.random.default_rng(8).normal(0, 3, (5, 6, 6, 3)).astype(np.float32)
    found = run_model(model, {"image": inputs.transpose(0, 3, 1, 2)})[model.graph.outputs[0]]
    assert np.array_equal(found.transpose(0, 2, 3, 1), litert(data, inputs))


def test_a_host_step_in_the_middle_cuts_the_network_in_two(
    tmp_path: Path, litert: Any, tflite_writer: ModuleType
) -> None:
    # Pools before and after an average whose windows hang over the edge; the sum takes both of their results,
    # of which the second core step makes only one.
    w = tflite_writer.TfliteWriter()
    names = ("x", "first", "mean", "second", "sum")
    x, first, mean, second, result = (
        w.tensor((1, 6, 6, 4), scale=0.05, zero_point=-7, name=name) for name in names
    )
    options = {"Padding": SAME, "StrideH": 1, "StrideW": 1, "FusedActivationFunction": NONE}
    w.operator("MAX_POOL_2D", [x], first, FilterHeight=2, FilterWidth=2, **options)
    w.operator("AVERAGE_POOL_2D", [first], mean, FilterHeight=3, FilterWidth=3, **options)
    w.operator("MAX_POOL_2D", [mean], second, FilterHeight=2, FilterWidth=2, **options)
    w.operator("ADD", [second, first], result, FusedActivationFunction=NONE)
    data = w.bytes([x], [result])
    model = loaded(tmp_path, data)
    assert [type(step) for step in model.steps] == [CoreStep, HostStep, CoreStep, HostStep]
    assert [step.network.name for step in model.cores] == ["case", "case.part2"]
    last = model.steps[-1]
    assert isinstance(last, HostStep) and last.reason == "more than one tensor comes to it from the host"
    inputs = drawn(x.shape, 6)
    found = run_model(model, {"x": inputs.transpose(0, 3, 1, 2)})[model.graph.outputs[0]]
    # The host's quantisers round ties to even, the kernels away from zero: one step at most.
    difference = found.transpose(0, 2, 3, 1).astype(int) - litert(data, inputs)
    assert np.abs(difference).max() <= 1 and np.mean(difference != 0) < 0.2


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda w: pool(w, "AVERAGE_POOL_2D", (3, 3), (2, 2), SAME),
            "its windows at the edge have fewer pixels",
        ),
        (lambda w: pool(w, "MAX_POOL_2D", (2, 2), (2, 2), VALID, RELU6), "its activation clamps from above"),
        (
            lambda w: two_pools(w, "CONCATENATION", 10, 0.06, 9, Axis=3, FusedActivationFunction=NONE),
            "its input and result have different scales",
        ),
    ],
)
def test_what_the_core_lacks_runs_on_the_host_and_says_why(
    make: Callable[[ModuleType], Case], reason: str, tmp_path: Path, tflite_writer: ModuleType
) -> None:
    data, shape = make(tflite_writer)
    model = loaded(tmp_path, data)
    hosts = [step for step in model.steps if isinstance(step, HostStep)]
    assert len(hosts) == 1 and hosts[0].reason.startswith(reason)
    inputs = drawn(shape, 2).transpose(0, 3, 1, 2)
    assert run_model(model, {model.graph.inputs[0]: inputs})[model.graph.outputs[0]].dtype == np.int8


def test_every_operator_that_is_read_has_a_hardware_path_or_a_host() -> None:
    assert set(HARDWARE) == set(OPTIONS)
