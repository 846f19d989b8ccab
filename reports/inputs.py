"""What the command line is given: networks by file or zoo name, and the images to run."""

from __future__ import annotations

import math
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.network import Network

__all__ = ["ZOO", "load_images", "load_model"]

ZOO = ("resnet8-stack", "random-N")
"""Names after `zoo:`; N is a seed. The zoo's networks are untrained: seeded weights."""


def load_model(spec: str) -> Network:
    """The network of a `.bw` file or of `zoo:NAME`.

    Raises:
        ValueError: an unknown name, a kind of file that isn't read yet, or a damaged file; names it.
        OSError: the file can't be read.
    """
    if spec.startswith("zoo:"):
        from ..models.zoo import random_network, resnet8_stack

        name = spec.removeprefix("zoo:")
        if name == "resnet8-stack":
            return resnet8_stack(0)
        if numbered := re.fullmatch(r"random-(\d{1,9})", name):
            return random_network(int(numbered[1]))
        known = ", ".join(f"zoo:{known}" for known in ZOO)
        raise ValueError(f"{spec}: no such network in the zoo; there are {known}")
    suffix = Path(spec).suffix
    if suffix != ".bw":
        raise ValueError(
            f"{spec}: {suffix or 'a name without suffix'} is not supported yet; MODEL is a .bw file "
            "or zoo:NAME"
        )
    from ..models.storage import load_network

    return load_network(spec)


def load_images(path: str | Path, network: Network) -> NDArray[Any]:
    """The array `x` of an `.npz` file, checked against the network's input, (B, *input shape).

    Shape and type are checked before any value is read; pickled objects are refused.

    Raises:
        ValueError: no such array, or its shape or values don't fit; names the file.
        OSError: the file can't be read.
    """
    source = network.tensors[network.input]
    try:
        with zipfile.ZipFile(path) as archive:
            return source.fmt.check(_read_member(archive, source.shape), "a value of `x`")
    except OSError as fault:
        if fault.filename is None:  # the archive's, not the file's
            raise ValueError(f"{path}: {fault}") from None
        raise
    except zipfile.BadZipFile as fault:
        raise ValueError(f"{path}: not an .npz file, or a damaged one ({fault})") from None
    except ValueError as fault:
        raise ValueError(f"{path}: {fault}") from None
    except Exception as fault:  # of zipfile, zlib, tokenize, ast, struct
        raise ValueError(f"{path}: a damaged .npz file ({type(fault).__name__}: {fault})") from None


def _read_member(archive: zipfile.ZipFile, shape: tuple[int, ...]) -> NDArray[Any]:
    """The array `x` of an archive, integers of shape (B, *shape)."""
    names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    if "x" not in names:
        raise ValueError(f"no array `x`; it has {', '.join(names) or 'none'}")
    member = archive.getinfo("x.npy")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"`x` has the .npy version {version}; 1.0 and 2.0 are read")
        header = np.lib.format
        read = header.read_array_header_1_0 if version == (1, 0) else header.read_array_header_2_0
        found, _, dtype = read(file)
        if dtype.kind not in "iu":
            raise ValueError(f"a value of `x` must be an integer, not {dtype}")
        if len(found) != len(shape) + 1 or found[1:] != shape:
            expected = ", ".join(["B", *map(str, shape)])
            raise ValueError(f"`x` must have shape ({expected}), not {found}")
        if not found[0]:
            raise ValueError("`x` holds no image")
        if member.file_size - file.tell() != math.prod(found) * dtype.itemsize:
            raise ValueError("`x` is cut off: it must have as many bytes as its shape says")
    with archive.open(member) as file:
        values: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return values
