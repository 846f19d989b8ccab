import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitwright.models.architectures import architecture, load_weights
from bitwright.models.architectures.builder import Builder
from bitwright.models.graph import Graph, run_graph
from bitwright.models.storage import ImportModelError
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch.nn import functional as F  # noqa: N812

Arrays = dict[str, NDArray[Any]]


def small() -> Graph:
    net = Builder("small", (2, 4, 4), None)
    x = net.norm("bn", net.conv("conv", net.input, 3, 3, bias=False))
    return net.graph(net.linear("fc", x, 5))


def arrays(seed: int = 1) -> Arrays:
    """Weights that fit `small`."""
    rng = np.random.default_rng(seed)
    shapes = {"conv.weight": (3, 2, 3, 3), "fc.weight": (5, 12), "fc.bias": (5,)}
    shapes |= {f"bn.{part}": (3,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}


def written(folder: Path, kind: str, weights: Arrays) -> Path:
    path = folder / f"weights.{kind}"
    if kind == "npz":
        np.savez(path, **weights)  # type: ignore[arg-type]
    else:
        save_file(weights, path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ImportModelError) as caught:
        load_weights(small(), path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_weights_go_where_their_names_say(tmp_path: Path, kind: str) -> None:
    weights = arrays()
    counted = weights | {"bn.num_batches_tracked": np.array(7, np.int64)}
    graph = load_weights(small(), written(tmp_path, kind, counted))
    assert set(graph.constants) == set(small().constants)
    for name, values in weights.items():
        np.testing.assert_array_equal(graph.constants[name], values)


def test_half_and_double_precision_become_single(tmp_path: Path) -> None:
    weights = arrays()
    mixed = weights | {"fc.weight": weights["fc.weight"].astype(np.float16), "fc.bias": np.arange(5.0)}
    graph = load_weights(small(), written(tmp_path, "npz", mixed))
    assert graph.constants["fc.weight"].dtype == graph.constants["fc.bias"].dtype == np.float32
    np.testing.assert_array_equal(graph.constants["fc.bias"], np.arange(5))


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.bias": None}, "it lacks 'fc.bias' and 0 more of 7 weights"),
        ({"head.weight": np.ones(3, np.float32)}, "it holds 'head.weight', which the network has not"),
        ({"fc.bias": np.ones((5, 1), np.float32)}, "'fc.bias' must have shape (5,), not (5, 1)"),
        ({"fc.bias": np.ones(5, np.int64)}, "'fc.bias' must hold float16, float32 or float64, not int64"),
        ({"fc.bias": np.full(5, np.nan, np.float32)}, "'fc.bias' holds a value that isn't finite"),
        ({"fc.bias": np.full(5, 1e39)}, "'fc.bias' holds a value that isn't finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, kind: str, change: dict[str, NDArray[Any] | None], message: str
) -> None:
    weights = {name: array for name, array in (arrays() | change).items() if array is not None}
    assert refusal(written(tmp_path, kind, weights)) == message


def test_pickled_objects_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, **(arrays() | {"fc.bias": np.array([print] * 5, object)}))  # type: ignore[arg-type]
    assert refusal(path) == "'fc.bias.npy' holds pickled objects"


def test_a_shape_that_its_bytes_do_not_fill_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 10)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("fc.bias.npy", header.getvalue() + bytes(16))
    assert refusal(path) == "'fc.bias.npy' is cut off: it must be as long as its shape says"


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    whole = written(tmp_path, kind, arrays()).read_bytes()
    path = tmp_path / f"damaged.{kind}"
    rng = np.random.default_rng(5)
    refused = 0
    for case in range(150):
        data = bytearray(whole[: int(rng.integers(len(whole)))] if case % 2 else whole)
        for _ in range(int(rng.integers(1, 4))):
            if data:
                data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            load_weights(small(), path)  # a flipped bit may be a weight's
        except ImportModelError as fault:
            assert "\n" not in str(fault) and str(fault).startswith(f"{path}: ")
            refused += 1
    assert refused >= 75  # every file that was cut


def test_other_files_are_refused_by_their_suffix(tmp_path: Path) -> None:
    assert refusal(tmp_path / "w.pth") == "weights are read from .safetensors and .npz, not from '.pth'"
    assert refusal(tmp_path / "w.npz") == "No such file or directory"
    assert refusal(tmp_path / "w.safetensors") == "there is no such file"


# Weights that others trained; figures of ../shared/data/README.md


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch on one thread: the layers are too small for two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def classes(graph: Graph, images: NDArray[np.float32]) -> NDArray[Any]:
    (scores,) = run_graph(graph, {"input": images}).values()
    return scores.argmax(axis=1)


def mnist(shared_data: Path, count: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
    with np.load(shared_data / "mnist.npz") as data:
        return (data["x_test"][:count, None] / np.float32(256)).astype(np.float32), data["y_test"][:count]


@pytest.mark.parametrize(
    ("name", "file", "percent"),
    [
        ("lenet300", "lenet300100_original", 2.28),
        ("lenet300", "lenet300100_sparse", 1.99),
        pytest.param("lenet5", "lenet5_original", 0.91, marks=pytest.mark.slow),
        pytest.param("lenet5", "lenet5_sparse", 0.91, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("one_thread")
def test_lenets_err_as_published_on_mnist(name: str, file: str, percent: float, shared_data: Path) -> None:
    graph = load_weights(architecture(name), shared_data / f"models/dns_lenet/{file}.npz")
    images, labels = mnist(shared_data, 10_000)
    wrong = np.count_nonzero(classes(graph, images) != labels)
    assert wrong == round(100 * percent)


@pytest.mark.usefixtures("one_thread")
def test_lenet5_scores_as_torch_computes_them(shared_data: Path) -> None:
    graph = load_weights(architecture("lenet5"), shared_data / "models/dns_lenet/lenet5_original.npz")
    images, _ = mnist(shared_data, 50)
    w = {name: torch.from_numpy(array) for name, array in graph.constants.items()}
    x = torch.from_numpy(images)
    for layer in ("conv1", "conv2"):
        x = F.max_pool2d(F.conv2d(x, w[f"{layer}.weight"], w[f"{layer}.bias"]), 2)
    x = F.relu(F.linear(x.flatten(1), w["ip1.weight"], w["ip1.bias"]))
    expected = F.softmax(F.linear(x, w["ip2.weight"], w["ip2.bias"]), 1)
    (scores,) = run_graph(graph, {"input": images}).values()
    np.testing.assert_allclose(scores, expected.numpy(), rtol=1e-4, atol=1e-7)


def cifar10(shared_data: Path, count: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Normalised as akamaster/pytorch_resnet_cifar10 does, by ImageNet's mean and deviation."""
    with np.load(shared_data / "cifar10_10k_2k.npz") as data:
        images, labels = data["x_test"][:count] / 255, data["y_test"][:count]
    normal = (images - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return normal.transpose(0, 3, 1, 2).astype(np.float32), labels


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_resnet20_names_91_05_percent_of_cifar10_right(shared_data: Path) -> None:
    graph = load_weights(architecture("resnet20"), shared_data / "models/resnet_cifar10/resnet20.npz")
    images, labels = cifar10(shared_data, 2_000)
    assert np.count_nonzero(classes(graph, images) == labels) == 1_821


@pytest.mark.usefixtures("one_thread")
def test_resnet20_scores_as_torch_computes_them(shared_data: Path) -> None:
    graph = load_weights(architecture("resnet20"), shared_data / "models/resnet_cifar10/resnet20.npz")
    images, labels = cifar10(shared_data, 60)
    w = {name: torch.from_numpy(array) for name, array in graph.constants.items() if array.dtype.kind == "f"}

    def conv_norm(x: torch.Tensor, conv: str, norm: str, stride: int = 1) -> torch.Tensor:
        y = F.conv2d(x, w[f"{conv}.weight"], None, stride, 1)
        parts = [w[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(y, *parts)

    x = F.relu(conv_norm(torch.from_numpy(images), "conv1", "bn1"))
    for stage in (1, 2, 3):
        for block in range(3):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = F.relu(conv_norm(x, f"{at}.conv1", f"{at}.bn1", stride))
            y = conv_norm(y, f"{at}.conv2", f"{at}.bn2")
            if stride == 2:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, x.shape[1] // 2, x.shape[1] // 2))
            x = F.relu(y + x)
    expected = F.linear(x.mean((2, 3)), w["linear.weight"], w["linear.bias"])
    (scores,) = run_graph(graph, {"input": images}).values()
    np.testing.assert_allclose(scores, expected.numpy(), rtol=1e-4, atol=1e-4)
    assert np.mean(scores.argmax(axis=1) == labels) > 0.85


def test_squeezenet_takes_the_deep_compressed_weights(shared_data: Path) -> None:
    path = shared_data / "models/squeezenet_dc/squeezenet_v1.0_deep_compressed.npz"
    graph = load_weights(architecture("squeezenet"), path)
    weights = [array for name, array in graph.constants.items() if name.endswith(".weight")]
    assert sum(array.size for array in weights) == 1_244_448
    assert sum(np.count_nonzero(array) for array in weights) == 415_921
