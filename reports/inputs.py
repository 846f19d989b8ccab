"""The images that a command runs, from an `.npz` file, brought to the form that a model takes.

The rules, in order:

1. The array is `x`, or `x_test` where there is no `x`; labels are `y` or `y_test`.
2. Its first axis counts images. An image is (C, H, W); or (H, W, C), which is turned; or (H, W) for one
   channel; or flat; or, for a flat input, any shape of as many values, taken as they lie.
3. Integers of the very type that an integer input has are stored values, if no preparation is asked for;
   for a `.bw` file and the zoo's integer networks integers of any type are.
4. All else is real values: (x · scale − mean) / std. A float input takes them as float32; an integer input
   takes them in its own scale and zero point, rounded half away from zero and clamped.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..models.importers.load import OWN
from ..models.importers.model import Model
from ..models.tensor import Tensor

__all__ = ["Images", "Preparation", "load_images"]

_MOST_BYTES = 1 << 31
"""Of one array that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What makes real values of a file's numbers: (x · scale − mean) / std; mean and std a channel each.

    Raises:
        ValueError: a number that isn't finite, or a std that isn't above 0.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.scale, *self.mean, *self.std)):
            raise ValueError("--scale, --mean and --std must be finite")
        if min(self.std) <= 0:
            raise ValueError(f"--std must be above 0, not {min(self.std):g}")

    @classmethod
    def parse(cls, scale: str | None, mean: str | None, std: str | None) -> Preparation | None:
        """What three options say; None where none of them is given.

        Args:
            scale: a number or a fraction such as 1/255.
            mean, std: as many numbers with commas between as there are channels, or one for all.

        Raises:
            ValueError: no number; names the option.
        """
        if scale is None and mean is None and std is None:
            return None
        factors = _numbers("--scale", scale or "1")
        if len(factors) != 1:
            raise ValueError(f"--scale takes one number, not {scale!r:.40}")
        return cls(scale=factors[0], mean=_numbers("--mean", mean or "0"), std=_numbers("--std", std or "1"))

    def apply(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Real values of images (B, C, …) or (B, N).

        Raises:
            ValueError: mean or std are for another number of channels.
        """
        shape = (1, -1, *[1] * (x.ndim - 2))
        mean, std = np.array(self.mean), np.array(self.std)
        for option, values in (("--mean", mean), ("--std", std)):
            if values.size not in (1, x.shape[1]):
                raise ValueError(f"{option} must have 1 or {x.shape[1]} numbers, not {values.size}")
        return np.asarray((x * self.scale - mean.reshape(shape)) / std.reshape(shape), np.float64)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    values = []
    for part in text.split(","):
        above, slash, below = part.partition("/")
        try:
            values.append(float(above) / (float(below) if slash else 1.0))
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"{option} takes numbers or fractions such as 1/255, not {text!r:.40}") from None
    return tuple(values)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Images:
    """Images as a model takes them."""

    x: NDArray[Any]
    """(B, *shape of the input without its batch axis): stored integers or float32."""
    labels: NDArray[np.int64] | None
    """(B,), where the file has them."""


def load_images(
    path: str | Path, model: Model, *, count: int | None = None, preparation: Preparation | None = None
) -> Images:
    """The first `count` images of an `.npz` file, all by default; the module's text has the rules.

    Shape and type are checked before any value is read; pickled objects are refused.

    Raises:
        ValueError: no such array, or its shape or values don't fit; names the file.
        OSError: the file can't be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _load(archive, model, count, preparation)
    except OSError as fault:
        if fault.filename is None:  # the archive's, not the file's
            raise ValueError(f"{path}: {fault}") from None
        raise
    except zipfile.BadZipFile as fault:
        raise ValueError(f"{path}: not an .npz file, or a damaged one ({fault})") from None
    except ValueError as fault:
        raise ValueError(f"{path}: {fault}") from None
    except MemoryError:
        raise ValueError(f"{path}: its images don't fit in memory: take fewer with --images") from None
    except Exception as fault:  # of zipfile, zlib, tokenize, ast, struct
        raise ValueError(f"{path}: a damaged .npz file ({type(fault).__name__}: {fault})") from None


def _load(
    archive: zipfile.ZipFile, model: Model, count: int | None, preparation: Preparation | None
) -> Images:
    if len(model.graph.inputs) != 1:
        raise ValueError(f"the model takes {len(model.graph.inputs)} inputs; images go into one")
    source = model.graph.values[model.graph.inputs[0]]
    shape = source.shape[1:]
    names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    name = "x" if "x" in names else "x_test"
    if name not in names:
        raise ValueError(f"no array `x` and no `x_test`; it has {', '.join(names) or 'none'}")
    found, dtype, has = _header(archive, name)
    own = model.graph.source == OWN
    if own and preparation is None and dtype.kind not in "iu":
        raise ValueError(f"a value of `{name}` must be an integer, not {dtype}")
    if dtype.kind not in "iuf":
        raise ValueError(f"a value of `{name}` must be an integer or float, not {dtype}")
    if not found or not _fits(found[1:], shape):
        raise ValueError(f"`{name}` must have shape {_shapes(shape)}, not {found}")
    if not found[0]:
        raise ValueError(f"`{name}` holds no image")
    if has != math.prod(found) * dtype.itemsize:
        raise ValueError(f"`{name}` is cut off: it must have as many bytes as its shape says")
    taken = found[0] if count is None else min(count, found[0])
    x = _arranged(_read(archive, name, taken), shape)
    labels = "y" if name == "x" else "y_test"
    y = None
    if labels in names:
        there, kind, _ = _header(archive, labels)
        if there == (found[0],) and kind.kind in "iu":
            y = _read(archive, labels, taken).astype(np.int64)
    return Images(x=_valued(x, name, model, preparation), labels=y)


def _valued(x: NDArray[Any], name: str, model: Model, preparation: Preparation | None) -> NDArray[Any]:
    """The numbers as the input holds them."""
    graph = model.graph
    source = graph.values[graph.inputs[0]]
    tensor = next((c.network.tensors[c.network.input] for c in model.cores if c.takes == source.name), None)
    stored = preparation is None and (x.dtype == source.dtype or graph.source == OWN) and x.dtype.kind in "iu"
    what = f"a value of `{name}`"
    if stored and source.dtype.kind in "iu":
        return x.astype(source.dtype) if tensor is None else tensor.fmt.check(x, what)
    real = (preparation or Preparation()).apply(x)
    if not np.isfinite(real).all():
        raise ValueError(f"{what} isn't finite")
    if source.dtype.kind == "f":
        return real.astype(np.float32)
    return _quantized(real, source.dtype, tensor)


def _quantized(real: NDArray[np.float64], dtype: np.dtype[Any], tensor: Tensor | None) -> NDArray[Any]:
    """Stored integers of real values."""
    if tensor is None or tensor.scale is None:
        raise ValueError(
            f"the input is {dtype} of unknown scale: give stored integers of that type, without --scale, "
            "--mean or --std"
        )
    steps = real / tensor.scale
    rounded = np.copysign(np.floor(np.abs(steps) + 0.5), steps) + tensor.zero_point
    whole = np.clip(rounded, tensor.fmt.min, tensor.fmt.max).astype(np.int64)
    return tensor.fmt.check(whole, "an input value")


def _fits(image: Sequence[int], shape: Sequence[int]) -> bool:
    image, shape = tuple(image), tuple(shape)
    return image in _forms(shape) or (len(shape) == 1 and bool(image) and math.prod(image) == shape[0])


def _forms(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes that an image may have for an input of this one, besides those of a flat input."""
    forms = [shape]
    if len(shape) == 3:
        channels, height, width = shape
        forms.append((height, width, channels))
        if channels == 1:
            forms.append((height, width))
    if len(shape) != 1:
        forms.append((math.prod(shape),))
    return list(dict.fromkeys(forms))


def _shapes(shape: tuple[int, ...]) -> str:
    words = [f"({', '.join(['B', *map(str, form)])})" for form in _forms(shape)]
    return " or ".join(words) + (", or any of as many values" if len(shape) == 1 else "")


def _arranged(x: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if len(shape) == 3 and x.shape[1:] != shape and x.ndim == 4:
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return np.ascontiguousarray(x).reshape(len(x), *shape)


def _open_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"`{name}` has the .npy version {version}; 1.0 and 2.0 are read")
    header = np.lib.format
    read = header.read_array_header_1_0 if version == (1, 0) else header.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, fortran, dtype


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and bytes of an array."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as file:
        shape, _, dtype = _open_header(file, name)
        return shape, dtype, member.file_size - file.tell()


def _read(archive: zipfile.ZipFile, name: str, count: int) -> NDArray[Any]:
    """The first `count` rows of an array whose header has been checked."""
    with archive.open(f"{name}.npy") as file:
        shape, fortran, dtype = _open_header(file, name)
        taken = shape if fortran else (count, *shape[1:])
        size = math.prod(taken) * dtype.itemsize
        if size > _MOST_BYTES:
            raise ValueError(f"`{name}` takes {size} bytes, at most 2^31 are read: take fewer with --images")
        data = file.read(size)
    if len(data) != size:
        raise ValueError(f"`{name}` is cut off: it must have as many bytes as its shape says")
    values = np.frombuffer(data, dtype).reshape(taken, order="F" if fortran else "C")
    return values[:count].astype(dtype.newbyteorder("="))
