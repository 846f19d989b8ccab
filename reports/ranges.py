"""The `ranges` part of an `info` result: what images of a file do to a model, as JSON values."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..models.importers.model import Model
from ..models.importers.ranges import find_ranges
from .inputs import Preparation, load_images

__all__ = ["range_summary"]

_ABOUT = (
    "Bits of integers are those of two's complement, or unsigned where no value is negative; of floats, "
    "those before the binary point, with a sign. Weights stand in at most 32 levels, raw as level numbers; "
    "the Huffman code's table, a code length a level, is counted apart and is in the last column."
)


def range_summary(
    model: Model, data: str | Path, *, images: int, preparation: Preparation | None
) -> dict[str, Any]:
    """Activation ranges and weight histograms of a model's layers over the first images of a file.

    Args:
        model: with one input.
        data: an `.npz` file, see `inputs`.
        images: how many at most.
        preparation: of the images.

    Raises:
        ValueError: the images don't fit, or the model can't run.
        OSError: the file can't be read.
    """
    taken = load_images(data, model, count=images, preparation=preparation)
    found = find_ranges(model, taken.x)
    correct = None
    if taken.labels is not None:
        answers = found.outputs.reshape(found.images, -1).argmax(axis=1)
        correct = int(np.count_nonzero(answers == taken.labels))
    layers = [
        {
            "name": layer.name,
            "kind": layer.kind,
            "activation": {
                "format": layer.fmt,
                "least": layer.least,
                "greatest": layer.greatest,
                "bits": layer.bits,
            },
            "weights": None if layer.weights is None else asdict(layer.weights),
        }
        for layer in found.layers
    ]
    return {
        "images": found.images,
        "data": Path(data).name,
        "correct": correct,
        "about": _ABOUT,
        "layers": layers,
    }
