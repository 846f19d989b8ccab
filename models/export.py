"""From the QAT network to the integer one: norms folded, activations requantised or cut. Imports torch."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .data import DIGITS_SCALE, DIGITS_ZERO_POINT
from .fold import BatchNorm, fold, fold_thresholds
from .formats import Format
from .layers import Conv, Flatten, Layer, Linear, MaxPool, Requantize, Thresholds
from .network import Network, Tensor
from .numerics import Rounding
from .qat import Block, DigitsNet
from .quantizers import LowBitQuantizer, weight_levels, weight_scale
from .weights import WeightRecord

__all__ = ["to_network"]

_INT8, _INT32 = Format.parse("int8"), Format.parse("int32")


def to_network(model: DigitsNet, *, name: str = "digits", rounding: Rounding = Rounding.HALF_EVEN) -> Network:
    """The integer network of a QAT model, of any form.

    Batch norm and the cuts of binary or ternary activations become thresholds; where activations are
    int8, the norm becomes multiplier, shift and bias, and a ReLU a clamp.

    Args:
        model: from `train_qat`.
        name: of the network.
        rounding: half to even is what torch rounds by.

    Raises:
        ValueError: the model isn't quantised, or a layer's factors don't fit; names the layer.
    """
    if model.form is None:
        raise ValueError("only a model from train_qat has integers, not a float one")
    exact = copy.deepcopy(model).double().eval()
    exact.settle()
    builder = _Builder(
        Tensor(name="image", shape=(1, 8, 8), fmt=_INT8, scale=DIGITS_SCALE, zero_point=DIGITS_ZERO_POINT),
        rounding,
    )
    for key, block in exact.named_blocks():
        builder.add_block(key, block)
    return Network(
        name=name,
        input="image",
        output=builder.last.name,
        tensors=builder.tensors,
        layers=tuple(builder.layers),
        weights=builder.weights,
    )


class _Builder:
    """A network under construction, block by block."""

    def __init__(self, source: Tensor, rounding: Rounding) -> None:
        self.last = source
        self.rounding = rounding
        self.tensors = {source.name: source}
        self.layers: list[Layer] = []
        self.weights: dict[str, WeightRecord] = {}

    def _add(self, layer: Layer, tensor: Tensor) -> None:
        self.tensors[tensor.name] = tensor
        self.layers.append(layer)
        self.last = tensor

    def add_block(self, key: str, block: Block) -> None:
        """Nothing; adds the layers of one block in double precision, the first of them called `key`."""
        if block.core.weight.dim() == 2 and len(self.last.shape) == 3:
            flat = _like(self.last, f"{key}.in", (int(np.prod(self.last.shape)),))
            self._add(Flatten(name=f"{key}.flatten", input=self.last.name, output=flat.name), flat)
        post, out, record = self._post(key, block)
        self.weights[key] = record
        core: Conv | Linear
        if block.core.weight.dim() == 4:
            core = Conv(
                name=key,
                input=self.last.name,
                output=f"{key}.acc",
                padding=(1, 1, 1, 1),
                pad_value=round(block.pad_value) or None,
            )
        else:
            core = Linear(name=key, input=self.last.name, output=f"{key}.acc")
        self._add(core, Tensor(name=core.output, shape=out.shape, fmt=_INT32))
        self._add(post, out)
        if (pool := block.pool) > 1:
            count, height, width = out.shape
            pooled = _like(out, f"{key}.pooled", (count, height // pool, width // pool))
            self._add(
                MaxPool(
                    name=f"{key}.pool",
                    input=out.name,
                    output=pooled.name,
                    kernel=(pool, pool),
                    stride=(pool, pool),
                ),
                pooled,
            )

    def _post(self, key: str, block: Block) -> tuple[Requantize | Thresholds, Tensor, WeightRecord]:
        """What follows a block's sums, the activations that it makes, and the folded weights."""
        source, fmt = self.last, block.weight_format
        assert source.scale is not None  # every tensor here has one
        levels = weight_levels(block.core.weight, fmt).numpy()
        steps = weight_scale(block.core.weight, fmt).numpy()
        bias = None if block.core.bias is None else block.core.bias.detach().numpy()
        norm = _norm(block.norm)
        shape = (len(levels), *source.shape[1:])  # 3×3, padding 1: the pixels stay
        scale, zero_point = block.quantizer.parameters_of_range()
        if isinstance(block.quantizer, LowBitQuantizer):
            cut = fold_thresholds(
                levels,
                weight_scale=steps,
                input_scale=source.scale,
                input_zero_point=source.zero_point,
                input_format=source.fmt,
                cuts=block.quantizer.cuts,
                bias=bias,
                norm=norm,
                layer=key,
            )
            low_bit = block.quantizer.fmt
            thresholds = Thresholds(
                name=f"{key}.thresholds",
                input=f"{key}.acc",
                output=f"{key}.out",
                values=cut.thresholds,
                low=low_bit.min,
                step=block.quantizer.step,
            )
            return (
                thresholds,
                Tensor(name=thresholds.output, shape=shape, fmt=low_bit, scale=scale, zero_point=zero_point),
                WeightRecord.dense(layer=key, values=cut.values, fmt=fmt, scales=steps),
            )
        folded = fold(
            levels,
            weight_scale=steps,
            input_scale=source.scale,
            input_zero_point=source.zero_point,
            output_scale=scale,
            weight_format=fmt,
            input_bits=source.fmt.bits,
            bias=bias,
            norm=norm,
            layer=key,
        )
        requantize = Requantize(
            name=f"{key}.requantize",
            input=f"{key}.acc",
            output=f"{key}.out",
            multiplier=folded.multiplier,
            shift=folded.shift,
            rounding=self.rounding,
            low=zero_point if block.relu else _INT8.min,
            high=_INT8.max,
        )
        return (
            requantize,
            Tensor(name=requantize.output, shape=shape, fmt=_INT8, scale=scale, zero_point=zero_point),
            WeightRecord.dense(
                layer=key, values=folded.values, fmt=fmt, scales=folded.scales, bias=folded.bias
            ),
        )


def _like(tensor: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    return Tensor(
        name=name,
        shape=shape,
        fmt=tensor.fmt,
        scale=tensor.scale,
        zero_point=tensor.zero_point,
    )


def _norm(norm: torch.nn.BatchNorm2d | None) -> BatchNorm | None:
    if norm is None:
        return None
    assert norm.running_mean is not None and norm.running_var is not None

    def array(values: torch.Tensor) -> NDArray[Any]:
        return values.detach().double().numpy()

    return BatchNorm(
        gamma=array(norm.weight),
        beta=array(norm.bias),
        mean=array(norm.running_mean),
        variance=array(norm.running_var),
        epsilon=norm.eps,
    )
