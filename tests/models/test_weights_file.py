import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitwright.models.architectures import load_weights
from bitwright.models.architectures.builder import Builder
from bitwright.models.graph import Graph
from bitwright.models.storage import ImportModelError
from numpy.typing import NDArray
from safetensors.numpy import save_file

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
