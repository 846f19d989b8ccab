"""How many of a layer's inputs are not zero: measured on images, for machines that skip or gate zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layers import Conv, Linear
from ..reference import trace_reference
from .model import HostStep, Model
from .ranges import images_at_once
from .run import core_input, trace_model

__all__ = ["input_densities"]

_OPERATORS = ("Conv", "ConvInteger", "QLinearConv", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")


def input_densities(model: Model, x: NDArray[Any]) -> dict[str, float]:
    """The share of each layer's inputs that are not zero, by layer, over all images.

    An integer is zero where it is its tensor's zero point. Padding isn't looked at.

    Args:
        model: with one input.
        x: (B, *shape of the input without its batch axis), as the input holds them.

    Raises:
        ValueError: the model can't run; names the layer.
    """
    source = model.graph.inputs[0]
    counts: dict[str, NDArray[np.int64]] = {}

    def add(name: str, array: NDArray[Any], zero: int) -> None:
        row = np.array([np.count_nonzero(array != zero), array.size], np.int64)
        counts[name] = counts.get(name, np.zeros(2, np.int64)) + row

    size = images_at_once(model)
    for start in range(0, len(x), size):
        inputs = {source: x[start : start + size]}
        values = trace_model(model, inputs, host=True)
        for step in model.steps:
            if isinstance(step, HostStep):
                for node in step.nodes:
                    array = values.get(node.inputs[0], inputs.get(node.inputs[0])) if node.inputs else None
                    if node.op in _OPERATORS and array is not None:
                        add(node.name, array, 0)
                continue
            tensors = trace_reference(step.network, core_input(model, step, inputs))
            for layer in step.network.layers:
                if isinstance(layer, Conv | Linear):
                    tensor = step.network.tensors[layer.input]
                    add(layer.name, tensors[layer.input], tensor.zero_point)
    return {name: float(some) / max(1, int(every)) for name, (some, every) in counts.items()}
