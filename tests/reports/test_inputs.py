import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bitwright.models.formats import Format
from bitwright.models.graph import Graph, Node, Value
from bitwright.models.importers.load import network_model
from bitwright.models.importers.model import HostStep, Model
from bitwright.models.network import MaxPool, Network, Tensor
from bitwright.models.zoo import random_network
from bitwright.reports.inputs import Preparation, load_images


@pytest.fixture(scope="module")
def network() -> Model:
    return network_model(random_network(0))


def header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|i1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def archive(path: Path, data: bytes, name: str = "x.npy") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, data)
    return path


class Trap:
    """Would make a folder when unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def test_images_of_either_memory_order_come_back(tmp_path: Path, network: Model) -> None:
    shape = network.graph.values[network.graph.inputs[0]].shape[1:]
    images = np.random.default_rng(0).integers(-128, 128, (2, *shape)).astype(np.int16)
    np.savez_compressed(tmp_path / "c.npz", x=images)
    np.savez(tmp_path / "f.npz", x=np.asfortranarray(images))
    for name in ("c.npz", "f.npz"):
        assert np.array_equal(load_images(tmp_path / name, network).x, images)


def test_an_object_array_is_refused_and_not_unpickled(tmp_path: Path, network: Model) -> None:
    trap = tmp_path / "trap"
    np.savez(tmp_path / "x.npz", x=np.array([Trap(trap)], dtype=object))
    with pytest.raises(ValueError, match=r"x\.npz: a value of `x` must be an integer, not object"):
        load_images(tmp_path / "x.npz", network)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "damaged|EOF"),
        (header((1 << 40,)), "must have shape"),
        (header((1 << 40, 21, 6, 7)) + b"aa", "cut off"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr':[[[[,   ", "SyntaxError|TokenError|EOF"),
        (b"\x93NUMPY\x09\x00", "version"),
        (b"nothing of numpy", "magic"),
    ],
)
def test_a_damaged_array_is_one_line_that_names_the_file(
    tmp_path: Path, network: Model, data: bytes, fault: str
) -> None:
    path = archive(tmp_path / "x.npz", data)
    with pytest.raises(ValueError, match=fault) as caught:
        load_images(path, network)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"hi", b"PK\x03\x04" + b"a" * 100])
def test_a_file_that_is_no_archive_is_named(tmp_path: Path, network: Model, data: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"not an \.npz file") as caught:
        load_images(path, network)
    assert str(path) in str(caught.value)


def test_an_archive_without_x_says_what_it_has(tmp_path: Path, network: Model) -> None:
    with pytest.raises(ValueError, match="no array `x` and no `x_test`; it has y"):
        load_images(archive(tmp_path / "x.npz", header((1,)), "y.npy"), network)


def float_model(*shape: int) -> Model:
    """A Relu on float inputs of this shape."""
    node = Node(op="Relu", name="relu", inputs=("x",), outputs=("y",))
    values = {name: Value(name=name, shape=(1, *shape), dtype=np.dtype(np.float32)) for name in "xy"}
    graph = Graph(
        name="g", source="onnx", inputs=("x",), outputs=("y",), nodes=(node,), constants={}, values=values
    )
    return Model(graph=graph, steps=(HostStep(nodes=(node,), reason="it is float"),))


def int8_model(scale: float, zero_point: int) -> Model:
    """A max pool on int8 pictures (2, 4, 4), as an importer gives it."""
    tensors = {
        name: Tensor(name=name, shape=shape, fmt=Format.parse("int8"), scale=scale, zero_point=zero_point)
        for name, shape in {"in": (2, 4, 4), "out": (2, 2, 2)}.items()
    }
    network = Network(
        name="pool", input="in", output="out", tensors=tensors,
        layers=(MaxPool(name="pool", input="in", output="out", kernel=(2, 2), stride=(2, 2)),), weights={},
    )  # fmt: skip
    model = network_model(network)
    return replace(model, graph=replace(model.graph, source="tflite"))


def save(tmp_path: Path, **arrays: np.ndarray) -> Path:
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def test_pictures_with_channels_last_are_turned_and_labels_come_along(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)
    path = save(tmp_path, x_test=pixels, y_test=np.arange(5, dtype=np.uint8))
    found = load_images(path, float_model(3, 4, 6), count=3)
    assert np.array_equal(found.x, pixels[:3].transpose(0, 3, 1, 2))
    assert found.x.dtype == np.float32
    assert found.labels is not None and found.labels.tolist() == [0, 1, 2]


def test_a_shape_that_fits_as_it_is_is_not_turned(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((2, 3, 3, 3)).astype(np.float32)
    assert np.array_equal(load_images(save(tmp_path, x=x), float_model(3, 3, 3)).x, x)


@pytest.mark.parametrize(("given", "shape"), [((4, 6), (1, 4, 6)), ((24,), (1, 4, 6)), ((4, 6), (24,))])
def test_one_channel_and_flat_images_are_taken_as_they_lie(
    tmp_path: Path, given: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    x = np.arange(48, dtype=np.float64).reshape(2, *given)
    found = load_images(save(tmp_path, x=x), float_model(*shape)).x
    assert np.array_equal(found, x.reshape(2, *shape))


def test_preparation_scales_then_takes_mean_and_std_by_channel(tmp_path: Path) -> None:
    path = save(tmp_path, x=np.full((1, 1, 1, 2), 255, np.uint8))
    prepared = Preparation.parse("1/255", "0.5,0.25", "0.5,0.25")
    found = load_images(path, float_model(2, 1, 1), preparation=prepared).x
    assert found.ravel().tolist() == [1.0, 3.0]
    assert Preparation.parse(None, None, None) is None


@pytest.mark.parametrize(
    ("scale", "mean", "std", "fault"),
    [
        ("1/0", None, None, "--scale takes numbers or fractions"),
        ("a", None, None, "--scale takes numbers or fractions such as 1/255, not 'a'"),
        ("1,2", None, None, "--scale takes one number"),
        (None, "nan", None, "must be finite"),
        (None, None, "0", "--std must be above 0, not 0"),
    ],
)
def test_an_option_that_is_no_number_is_named(
    scale: str | None, mean: str | None, std: str | None, fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        Preparation.parse(scale, mean, std)


def test_real_values_become_stored_integers_by_the_inputs_scale(tmp_path: Path) -> None:
    real = np.zeros((1, 2, 4, 4), np.float32)
    real[0, 0, 0] = [0.74, 0.75, -0.75, 1000]
    found = load_images(save(tmp_path, x=real), int8_model(0.5, -3)).x
    # 1.48, 1.5, -1.5 and 2000 steps: half away from zero, less 3, clamped
    assert found[0, 0, 0].tolist() == [-2, -1, -5, 127]
    pixels = np.full((1, 2, 4, 4), 200, np.uint8)
    assert set(load_images(save(tmp_path, x=pixels), int8_model(1.0, -128)).x.ravel().tolist()) == {72}


def test_integers_of_the_inputs_own_type_are_stored_values(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (2, 2, 4, 4)).astype(np.int8)
    path = save(tmp_path, x=x)
    assert np.array_equal(load_images(path, int8_model(0.5, -3)).x, x)
    doubled = load_images(path, int8_model(0.5, 0), preparation=Preparation.parse("0.5", None, None)).x
    assert np.array_equal(doubled, x)


@pytest.mark.parametrize(
    ("x", "fault"),
    [
        (
            np.zeros((2, 5, 6, 3), np.uint8),
            r"must have shape \(B, 3, 4, 6\) or \(B, 4, 6, 3\) or \(B, 72\), not",
        ),
        (np.full((1, 3, 4, 6), np.nan), "isn't finite"),
        (np.zeros((1, 3, 4, 6), complex), "must be an integer or float, not complex128"),
        (np.zeros((0, 3, 4, 6), np.uint8), "holds no image"),
    ],
)
def test_images_that_do_not_fit_say_what_would(tmp_path: Path, x: np.ndarray, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as caught:
        load_images(save(tmp_path, x=x), float_model(3, 4, 6))
    assert str(caught.value).startswith(f"{tmp_path}")


def test_mean_and_std_must_fit_the_channels(tmp_path: Path) -> None:
    path = save(tmp_path, x=np.zeros((1, 3, 4, 6)))
    with pytest.raises(ValueError, match="--mean must have 1 or 3 numbers, not 2"):
        load_images(path, float_model(3, 4, 6), preparation=Preparation.parse(None, "1,2", None))


def test_a_member_shorter_than_its_header_says_is_cut_off(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|u1", "fortran_order": False, "shape": (2, 3, 4, 6)}
    )
    with pytest.raises(ValueError, match="cut off"):
        load_images(archive(tmp_path / "x.npz", stream.getvalue() + b"short"), float_model(3, 4, 6), count=1)
