"""MLPerf Tiny's networks as TensorFlow made them, against LiteRT's reference kernels, bit for bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitwright.models.graph import layer_counts, run_graph
from bitwright.models.importers.model import CoreStep, HostStep, Model
from bitwright.models.importers.run import run_model, trace_model
from bitwright.models.importers.tflite_model import load_tflite
from bitwright.models.reference import run_reference
from bitwright.models.tensor import NAME
from numpy.typing import NDArray

RESNET, KEYWORDS, FLOAT = "pretrainedResnet_quant.tflite", "kws_ref_model.tflite", "pretrainedResnet.tflite"
LOGITS = {RESNET: 36, KEYWORDS: 33}
"""The number of the tensor before the softmax."""


@pytest.fixture(scope="module")
def models(shared_data: Path) -> Path:
    return shared_data / "models" / "tflite"


@pytest.fixture(scope="module")
def images(shared_data: Path) -> NDArray[np.uint8]:
    with np.load(shared_data / "cifar10_10k_2k.npz") as data:
        pixels: NDArray[np.uint8] = data["x_test"][:500]
    return pixels


def stored(pixels: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Pixels as the int8 network takes them: scale 1, zero point −128."""
    return (pixels.astype(np.int16) - 128).astype(np.int8)


def litert(
    path: Path, inputs: NDArray[Any], tensor: int | None, kernels: str = "REF"
) -> Iterator[NDArray[Any]]:
    """For each input a tensor's value, or the output, by LiteRT."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
    resolver = {
        "REF": interpreter.OpResolverType.BUILTIN_REF,
        "OPTIMISED": interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    }[kernels]
    machine = interpreter.Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=resolver,
        experimental_preserve_all_tensors=tensor is not None,
        num_threads=1,
    )
    machine.allocate_tensors()
    source, result = machine.get_input_details()[0]["index"], machine.get_output_details()[0]["index"]
    for x in inputs:
        machine.set_tensor(source, x[np.newaxis])
        machine.invoke()
        yield machine.get_tensor(result if tensor is None else tensor)[0].copy()


def first_channels(x: NDArray[Any]) -> NDArray[Any]:
    return x.transpose(0, 3, 1, 2)


def test_resnet_8_gives_litert_s_logits_on_500_images(models: Path, images: NDArray[np.uint8]) -> None:
    inputs = stored(images)
    (step,) = load_tflite(models / RESNET).cores
    found = run_reference(step.network, first_channels(inputs))
    expected = np.stack(list(litert(models / RESNET, inputs, LOGITS[RESNET])))
    assert found.shape == (500, 10)
    assert np.array_equal(found, expected)
    # LiteRT's optimised kernels round otherwise, which shows that equality is not for free.
    other = np.stack(list(litert(models / RESNET, inputs, LOGITS[RESNET], "OPTIMISED")))
    values, pictures = int((other != found).sum()), int((other != found).any(axis=1).sum())
    print(f"optimised kernels differ in {values} of {found.size} logits, on {pictures} of 500 images")
    assert pictures > 0
    assert int(np.abs(other.astype(int) - found).max()) < 32


def test_the_keyword_network_gives_litert_s_logits_on_200_inputs(models: Path) -> None:
    inputs = np.random.default_rng(0).integers(-128, 128, (200, 49, 10, 1), dtype=np.int8)
    (step,) = load_tflite(models / KEYWORDS).cores
    found = run_reference(step.network, first_channels(inputs))
    expected = np.stack(list(litert(models / KEYWORDS, inputs, LOGITS[KEYWORDS])))
    assert found.shape == (200, 12)
    assert np.array_equal(found, expected)
    other = np.stack(list(litert(models / KEYWORDS, inputs, LOGITS[KEYWORDS], "OPTIMISED")))
    print(f"optimised kernels differ in {int((other != found).sum())} of {found.size} logits")


@pytest.mark.parametrize("name", [RESNET, KEYWORDS])
def test_the_network_runs_to_its_softmax_on_the_host(
    name: str, models: Path, images: NDArray[np.uint8]
) -> None:
    inputs = stored(images[:100])
    if name == KEYWORDS:
        inputs = np.random.default_rng(1).integers(-128, 128, (100, 49, 10, 1), dtype=np.int8)
    model = load_tflite(models / name)
    assert [type(step) for step in model.steps] == [CoreStep, HostStep]
    assert isinstance(model.steps[1], HostStep) and model.steps[1].reason == "SOFTMAX has no hardware"
    found = run_model(model, {model.graph.inputs[0]: first_channels(inputs)})[model.graph.outputs[0]]
    expected = np.stack(list(litert(models / name, inputs, None)))
    # The kernel takes its exponentials from a table of float32, the host computes them: a step at most.
    assert int(np.abs(found.astype(int) - expected).max()) <= 1
    assert np.array_equal(found.argmax(axis=1), expected.argmax(axis=1))


@pytest.mark.parametrize("name", [RESNET, KEYWORDS])
def test_every_stored_tensor_within_is_litert_s(name: str, models: Path, images: NDArray[np.uint8]) -> None:
    inputs = stored(images[:3])
    if name == KEYWORDS:
        inputs = np.random.default_rng(2).integers(-128, 128, (3, 49, 10, 1), dtype=np.int8)
    model = load_tflite(models / name)
    traced = trace_model(model, {model.graph.inputs[0]: first_channels(inputs)})
    # The file's tensors that operators make stand in their order, from number 22 on.
    made = dict(zip(range(22, LOGITS[name] + 1), stored_values(model), strict=True))
    missing = [number for number, key in made.items() if key not in traced]
    assert missing == [LOGITS[name] - 1]  # the flattened pixels, which are the linear layer's own
    for number, key in made.items():
        if number not in missing:
            expected = np.stack(list(litert(models / name, inputs, number)))
            found = traced[key]
            assert np.array_equal(found, first_channels(expected) if expected.ndim == 4 else expected), key


def stored_values(model: Model) -> list[str]:
    """The graph's stored values up to the logits, in the order in which operators make them."""
    quantised = [
        name
        for node in model.graph.nodes
        for name in node.outputs
        if model.graph.values[name].dtype == np.int8 and node.op in ("QuantizeLinear", "Reshape")
    ]
    return quantised[:-1]


def test_the_float_network_is_litert_s_to_1e_4(models: Path, images: NDArray[np.uint8]) -> None:
    model = load_tflite(models / FLOAT)
    (step,) = model.steps
    assert isinstance(step, HostStep) and step.reason == "its weights and activations are float"
    inputs = images[:20].astype(np.float32)
    found = run_graph(model.graph, {model.graph.inputs[0]: first_channels(inputs)})[model.graph.outputs[0]]
    expected = np.stack(list(litert(models / FLOAT, inputs, None)))
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "macs", "parameters"),
    [
        # ResNet-8 on 32 × 32: 16·27·1024 + 2·16·144·1024 + (32·144 + 32·288 + 32·16)·256
        # + (64·288 + 64·576 + 64·32)·64 + 640 products.
        (RESNET, 12_501_632, 77_706),
        (FLOAT, 12_501_632, 77_706),
        # DS-CNN: 64·40·125 + 4·(64·9 + 64·64)·125 + 768 products; biases count.
        (KEYWORDS, 2_656_768, 22_604),
    ],
)
def test_products_and_parameters_are_those_of_the_architecture(
    name: str, macs: int, parameters: int, models: Path
) -> None:
    rows = layer_counts(load_tflite(models / name).graph)
    assert sum(row.macs for row in rows) == macs
    assert sum(row.parameters for row in rows) == parameters


def test_layers_are_called_as_in_the_file(models: Path) -> None:
    rows = layer_counts(load_tflite(models / RESNET).graph)
    assert [row.name for row in rows if row.kind in ("conv", "fc")] == [
        "model.conv2d.Conv2D",
        *(f"model.conv2d_{n}.Conv2D" for n in range(1, 9)),
        "model.dense.MatMul",
    ]
    assert all(NAME.fullmatch(row.name) for row in rows)
