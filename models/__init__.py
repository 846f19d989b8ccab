"""Networks of integers: formats, numerics, layers, weights, files, and the reference that judges all else.

Imported as `bitwright.models`. What is named here needs numpy alone; `bitwright.models.train`, `.qat`,
`.quantizers`, `.export` and `.agreement` import torch, `.jit` imports Numba, and `.data` asks scikit-learn
when called.

    from bitwright.models import load_network, run_reference
    network = load_network("digits.bw")
    logits = run_reference(network, images)
"""

from .formats import Format, FormatKind
from .network import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Network,
    PlaneSum,
    Relu,
    Requantize,
    Shuffle,
    Tensor,
    Thresholds,
)
from .numerics import Rounding, count_thresholds, quantize_multiplier, requantize, rescale
from .reference import run_layer, run_reference, trace_reference
from .storage import ImportModelError, load_network, save_network
from .weights import WeightRecord

__all__ = [
    "Add",
    "AvgPool",
    "Concat",
    "Conv",
    "Flatten",
    "Format",
    "FormatKind",
    "ImportModelError",
    "Layer",
    "Linear",
    "MaxPool",
    "Network",
    "PlaneSum",
    "Relu",
    "Requantize",
    "Rounding",
    "Shuffle",
    "Tensor",
    "Thresholds",
    "WeightRecord",
    "count_thresholds",
    "load_network",
    "quantize_multiplier",
    "requantize",
    "rescale",
    "run_layer",
    "run_reference",
    "save_network",
    "trace_reference",
]
