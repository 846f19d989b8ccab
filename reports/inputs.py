"""What the command line is given: networks by file or zoo name, and the images to run."""

from __future__ import annotations

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

    Raises:
        ValueError: no such array, or its shape or values don't fit; names the file.
        OSError: the file can't be read.
    """
    source = network.tensors[network.input]
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "x" not in archive:
                raise ValueError(f"no array `x`; it has {', '.join(archive.files) or 'none'}")
            values = archive["x"]
        if values.ndim != len(source.shape) + 1 or values.shape[1:] != source.shape:
            raise ValueError(f"`x` must have shape (B, *{source.shape}), not {values.shape}")
        if not len(values):
            raise ValueError("`x` holds no image")
        return source.fmt.check(values, "a value of `x`")
    except (ValueError, zipfile.BadZipFile, AttributeError, TypeError) as fault:
        text = "not an .npz file" if isinstance(fault, AttributeError | TypeError) else fault
        raise ValueError(f"{path}: {text}") from None
