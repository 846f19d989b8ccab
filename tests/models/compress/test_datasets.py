import gzip
from pathlib import Path

import numpy as np
import pytest
from bitwright.models.compress.datasets import DataOptions, load_dataset


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes: 0 0 8 rank, sizes big-endian, values."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def mnist_folder(folder: Path, packed: bool) -> np.ndarray:
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (7, 5, 4), dtype=np.uint8)
    parts = {
        "train-images-idx3-ubyte": images,
        "train-labels-idx1-ubyte": np.arange(7) % 3,
        "t10k-images-idx3-ubyte": images[:2],
        "t10k-labels-idx1-ubyte": np.array([1, 2]),
    }
    for name, array in parts.items():
        data = idx(array)
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return images


@pytest.mark.parametrize("packed", [False, True])
def test_mnists_own_files_are_read(tmp_path: Path, packed: bool) -> None:
    images = mnist_folder(tmp_path, packed)

    data = load_dataset(str(tmp_path))

    assert data.train_x.shape == (7, 1, 5, 4)
    assert {x.tobytes() for x in data.train_x} == {x.tobytes() for x in images}
    assert data.test_y.tolist() == [1, 2] and data.classes == 3


def test_cifars_binary_files_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (4, 3073), dtype=np.uint8)
    rows[:, 0] = [3, 1, 0, 2]
    (tmp_path / "data_batch_1.bin").write_bytes(rows[:3].tobytes())
    (tmp_path / "test_batch.bin").write_bytes(rows[3:].tobytes())

    data = load_dataset(str(tmp_path))

    assert data.test_x.shape == (1, 3, 32, 32) and data.test_y.tolist() == [2]
    assert np.array_equal(data.test_x[0, 1, 0], rows[3, 1 + 1024 : 1 + 1024 + 32])


def test_parts_are_disjoint_and_the_same_again(tmp_path: Path) -> None:
    x = np.arange(60, dtype=np.uint8).reshape(60, 1, 1)
    path = tmp_path / "d.npz"
    np.savez(path, x_train=x, y_train=np.zeros(60), x_test=x[:4], y_test=np.zeros(4))
    options = DataOptions(train=40, validation=15, test=3)

    first, second = (load_dataset(str(path), options, seed=4) for _ in range(2))

    train, held = set(first.train_x.ravel()), set(first.validation_x.ravel())
    assert (len(train), len(held), len(first.test_x)) == (40, 15, 3) and not train & held
    assert np.array_equal(first.train_x, second.train_x)


def test_inputs_are_scaled_and_normalised_by_channel() -> None:
    data = load_dataset("digits")

    real = data.real(data.test_x)

    # Pixels are stored as 15·v − 120 with steps of 1/240: 0…16 becomes 0…1.
    assert float(real.min()) == 0.0 and float(real.max()) == pytest.approx(1.0)


def faulty(tmp_path: Path, kind: str) -> str:
    if kind == "cut":
        mnist_folder(tmp_path, False)
        name = tmp_path / "train-images-idx3-ubyte"
        name.write_bytes(name.read_bytes()[:-1])
    elif kind == "gzip":
        mnist_folder(tmp_path, True)
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08\0\0\0")
    elif kind == "pickled":
        (tmp_path / "data_batch_1").write_bytes(b"x")
    elif kind == "cifar":
        (tmp_path / "data_batch_1.bin").write_bytes(bytes(3072))
    elif kind == "npz":
        (tmp_path / "a.npz").write_bytes(b"no archive")
        return str(tmp_path / "a.npz")
    elif kind == "arrays":
        np.savez(tmp_path / "b.npz", z=np.zeros(3))
        return str(tmp_path / "b.npz")
    elif kind == "name":
        return "mnist"
    return str(tmp_path)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("cut", "train-images-idx3-ubyte: is cut off: 140 values are announced"),
        ("gzip", "a damaged gzip file"),
        ("pickled", "CIFAR's Python version is pickled, which isn't read: take the binary version"),
        ("cifar", "must be a multiple of 3073 bytes long, not 3072"),
        ("npz", "not an .npz file, or a damaged one"),
        ("arrays", "must hold x_train, y_train, x_test and y_test, or x, y and index; it has z"),
        ("name", "mnist: data is `digits`, an .npz file, or a folder of MNIST's or CIFAR-10's files"),
        ("empty", r"holds neither train-images-idx3-ubyte \(MNIST\) nor data_batch_1.bin"),
    ],
)
def test_what_is_no_data_is_refused_by_one_line(tmp_path: Path, kind: str, text: str) -> None:
    spec = faulty(tmp_path, kind)

    with pytest.raises(ValueError, match=text):
        load_dataset(spec)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(
        ValueError, match="1300 training and 100 validation images are asked for, it has 1347"
    ):
        load_dataset("digits", DataOptions(train=1300, validation=100))
