"""Labelled data for compression, in three parts: training, validation, test; read from files, never fetched.

| what | how it is named |
| --- | --- |
| scikit-learn's handwritten digits, 8×8 | `digits` |
| arrays `x_train`, `y_train`, `x_test`, `y_test` of whole numbers | an `.npz` file |
| MNIST's own files, plain or gzipped | a folder with `train-images-idx3-ubyte` and its three companions |
| CIFAR-10's binary files | a folder with `data_batch_1.bin` … and `test_batch.bin` |
| spoken digits: `x` (N, samples) int16, `y`, `index` | an `.npz` file; an `index` below 5 is a test take |

Nothing is unpickled: CIFAR's Python version is refused.
"""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import DIGITS_SCALE, DIGITS_ZERO_POINT, load_digits_split
from .speech import log_mel

__all__ = ["AUGMENTS", "DataOptions", "Dataset", "load_dataset"]

AUGMENTS = {"none": (0, False), "shift": (2, False), "crop-flip": (4, True)}
"""By name: pixels that images of a training are moved by at most, and whether every other one is mirrored."""

_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_CIFAR_ROW = 1 + 3 * 32 * 32
_SPOKEN_TEST_TAKES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """How raw values become a network's input, and how many of each part are used.

    A network's input is (value · scale − mean) / std, by channel.

    Raises:
        ValueError: a count or factor that can't be.
    """

    scale: float = 1.0 / 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    train: int | None = None
    """Images to train on; None is all but those of the validation part."""
    validation: int = 0
    """Taken from the end of the shuffled training part; 0: the training part itself validates."""
    test: int | None = None
    features: str = "none"
    """none, or log-mel: spoken words become pictures of 20 frames by 16 bands, see `speech`."""
    augment: str = "none"
    """none; shift: by up to 2 pixels; crop-flip: by up to 4, and mirrored at random (He et al. 2016)."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale) or self.scale == 0:
            raise ValueError(f"data.scale must be finite and not 0, not {self.scale}")
        if any(not math.isfinite(v) or v <= 0 for v in self.std) or any(
            not math.isfinite(v) for v in self.mean
        ):
            raise ValueError("data.mean must be finite and data.std above 0")
        for key in ("train", "test"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"data.{key} must be at least 1, not {value}")
        if self.validation < 0:
            raise ValueError(f"data.validation must be 0 or more, not {self.validation}")
        if self.features not in ("none", "log-mel"):
            raise ValueError(f"data.features must be none or log-mel, not {self.features!r}")
        if self.augment not in AUGMENTS:
            raise ValueError(f"data.augment must be one of {', '.join(AUGMENTS)}, not {self.augment!r}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Raw whole numbers with labels, and how they become a network's input.

    Raises:
        ValueError: parts of different shapes, or labels that aren't one an image.
    """

    name: str
    train_x: NDArray[Any]
    """Shape (N, C, H, W) or (N, C, samples), integers."""
    train_y: NDArray[np.int64]
    validation_x: NDArray[Any]
    validation_y: NDArray[np.int64]
    test_x: NDArray[Any]
    test_y: NDArray[np.int64]
    options: DataOptions

    def __post_init__(self) -> None:
        shapes = {x.shape[1:] for x in (self.train_x, self.validation_x, self.test_x)}
        if len(shapes) != 1:
            raise ValueError(f"data {self.name}: all parts must have images of one shape, not {shapes}")
        for key in ("train", "validation", "test"):
            x, y = getattr(self, f"{key}_x"), getattr(self, f"{key}_y")
            if len(x) != len(y) or not len(x):
                raise ValueError(f"data {self.name}: its {key} part has {len(x)} images and {len(y)} labels")
        channels = self.train_x.shape[1]
        for key in ("mean", "std"):
            if len(getattr(self.options, key)) not in (1, channels):
                raise ValueError(
                    f"data.{key} must have 1 or {channels} numbers, not {len(getattr(self.options, key))}"
                )

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return int(max(self.train_y.max(), self.test_y.max())) + 1

    def real(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """The network's input of raw images `x`, of their shape."""
        by = (1, -1, *[1] * (x.ndim - 2))
        mean = np.asarray(self.options.mean, np.float32).reshape(by)
        std = np.asarray(self.options.std, np.float32).reshape(by)
        scaled: NDArray[np.float32] = (x.astype(np.float32) * np.float32(self.options.scale) - mean) / std
        return scaled

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a network whose input has `shape`, without the batch axis, takes the images."""
        return math.prod(shape) == math.prod(self.train_x.shape[1:])


def load_dataset(spec: str, options: DataOptions | None = None, *, seed: int = 0) -> Dataset:
    """The data called `spec` (see the module), split; the same for the same arguments.

    Args:
        spec: `digits`, a file or a folder.
        options: None for [0, 1] values, all images, no validation part; ignored in their scale by `digits`,
            whose input is 0…1 as the package's digits network has it.
        seed: of the order in which training images stand.

    Raises:
        ValueError: no such data, a damaged file, or fewer images than are asked for; one line.
        OSError: a file can't be read.
    """
    options = options or DataOptions()
    if spec == "digits":
        split = load_digits_split()
        options = replace(options, scale=DIGITS_SCALE, mean=(DIGITS_ZERO_POINT * DIGITS_SCALE,), std=(1.0,))
        parts = (split.train_images, split.train_labels, split.test_images, split.test_labels)
        return _split("digits", parts, options, seed)
    path = Path(spec)
    if path.is_dir():
        if any((path / f"{name}{end}").is_file() for name in _IDX[:1] for end in ("", ".gz")):
            return _split(path.name, _idx_folder(path), options, seed)
        if (path / "data_batch_1.bin").is_file():
            return _split(path.name, _cifar_folder(path), options, seed)
        if (path / "data_batch_1").is_file():
            raise ValueError(
                f"{path}: CIFAR's Python version is pickled, which isn't read: take the binary version"
            )
        raise ValueError(f"{path}: holds neither {_IDX[0]} (MNIST) nor data_batch_1.bin (CIFAR-10)")
    if path.suffix != ".npz":
        raise ValueError(
            f"{spec}: data is `digits`, an .npz file, or a folder of MNIST's or CIFAR-10's files"
        )
    return _split(path.stem, _npz(path), options, seed)


_Parts = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def _split(name: str, parts: _Parts, options: DataOptions, seed: int) -> Dataset:
    train_x, train_y, test_x, test_y = parts
    if options.features == "log-mel":
        if train_x.ndim != 3:
            raise ValueError(f"data {name}: data.features log-mel is for recordings, not for pictures")
        train_x, test_x = log_mel(train_x), log_mel(test_x)
    order = np.random.default_rng([seed, 5]).permutation(len(train_x))
    available = len(train_x) - options.validation
    wanted = available if options.train is None else options.train
    if not 0 < wanted <= available:
        raise ValueError(
            f"data {name}: {options.train or 1} training and {options.validation} validation images are "
            f"asked for, it has {len(train_x)}"
        )
    if options.test is not None and options.test > len(test_x):
        raise ValueError(f"data {name}: {options.test} test images are asked for, it has {len(test_x)}")
    chosen, held = order[:wanted], order[len(train_x) - options.validation :]
    if not options.validation:
        held = chosen
    return Dataset(
        name=name,
        train_x=train_x[chosen],
        train_y=train_y[chosen].astype(np.int64),
        validation_x=train_x[held],
        validation_y=train_y[held].astype(np.int64),
        test_x=test_x[: options.test],
        test_y=test_y[: options.test].astype(np.int64),
        options=options,
    )


def _images(x: NDArray[Any], what: str) -> NDArray[Any]:
    """Whole numbers as (N, C, …): channels of 1 or 3 that stand last come first."""
    if x.dtype.kind not in "iu":
        raise ValueError(f"{what} must hold whole numbers, not {x.dtype}")
    if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    if x.ndim in (2, 3):
        x = x[:, None]
    if x.ndim not in (3, 4):
        raise ValueError(f"{what} must have shape (N, H, W), (N, C, H, W) or (N, samples), not {x.shape}")
    return np.ascontiguousarray(x)


def _npz(path: Path) -> _Parts:
    if not zipfile.is_zipfile(path):
        if not path.is_file():
            raise ValueError(f"{path}: there is no such file")
        raise ValueError(f"{path}: not an .npz file, or a damaged one")
    wanted = ("x_train", "y_train", "x_test", "y_test"), ("x", "y", "index")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = set(archive.files)
            arrays = {name: archive[name] for group in wanted if names.issuperset(group) for name in group}
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError) as fault:
        raise ValueError(f"{path}: not an .npz file, or a damaged one ({fault})") from None
    if "x_train" in arrays:
        train, test = _images(arrays["x_train"], "x_train"), _images(arrays["x_test"], "x_test")
        return train, arrays["y_train"], test, arrays["y_test"]
    if "x" in arrays:
        x, y, held = _images(arrays["x"], "x"), arrays["y"], arrays["index"] < _SPOKEN_TEST_TAKES
        return x[~held], y[~held], x[held], y[held]
    raise ValueError(
        f"{path}: must hold x_train, y_train, x_test and y_test, or x, y and index; it has "
        f"{', '.join(sorted(names)) or 'nothing'}"
    )


def _idx_folder(folder: Path) -> _Parts:
    a, b, c, d = (_idx(folder, name) for name in _IDX)
    return a[:, None], b, c[:, None], d


def _idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """The array of an IDX file (LeCun, Cortes and Burges: the MNIST database)."""
    plain, packed = folder / name, folder / f"{name}.gz"
    path = plain if plain.is_file() else packed
    try:
        data = path.read_bytes() if path is plain else gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError) as fault:
        raise ValueError(f"{path}: a damaged gzip file ({fault})") from None
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 3:
        raise ValueError(f"{path}: no IDX file of bytes")
    rank = data[3]
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank))
    if len(data) != 4 + 4 * rank + math.prod(shape):
        raise ValueError(f"{path}: is cut off: {math.prod(shape)} values are announced")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _cifar_folder(folder: Path) -> _Parts:
    batches = sorted(folder.glob("data_batch_*.bin"))
    train = [_cifar(path) for path in batches]
    test = _cifar(folder / "test_batch.bin")
    return (
        np.concatenate([x for x, _ in train]),
        np.concatenate([y for _, y in train]),
        test[0],
        test[1],
    )


def _cifar(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    if not data.size or data.size % _CIFAR_ROW:
        raise ValueError(f"{path}: must be a multiple of {_CIFAR_ROW} bytes long, not {data.size}")
    rows = data.reshape(-1, _CIFAR_ROW)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]
