import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bitwright.models.importers.load import network_model
from bitwright.models.importers.model import Model
from bitwright.models.zoo import random_network
from bitwright.reports.inputs import load_images


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
