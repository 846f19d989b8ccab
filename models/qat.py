"""The digits network in torch: float, or with the fake quantisation of any form, one module for all.

Imports torch, so nothing else in this room imports it at the top.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .data import DIGITS_SCALE
from .formats import Format, FormatKind
from .forms import Form
from .quantizers import ActivationQuantizer, LowBitQuantizer, fake_quantized, weight_scale

__all__ = ["Block", "DigitsNet"]

_INT8 = Format.parse("int8")


class Block(nn.Module):
    """Convolution or linear, batch norm where there is one, ReLU, quantiser, max pool where asked.

    Where activations are binary or ternary there is no ReLU, whose half of the range would be lost.
    """

    quantizer: ActivationQuantizer | LowBitQuantizer

    def __init__(self, core: nn.Conv2d | nn.Linear, *, norm: bool, relu: bool, pool: int) -> None:
        super().__init__()
        self.core = core
        self.norm = nn.BatchNorm2d(core.weight.shape[0]) if norm else None
        self.relu = relu
        self.pool = pool
        self.quantizer = ActivationQuantizer()
        self.quantized = False
        self.weight_format = _INT8
        self.pad_value = 0.0
        """What padding inserts, real."""

    def quantize(self, weights: Format, activations: Format, pad_value: float) -> None:
        """Nothing; from here on weights and activations stand at the levels of these formats."""
        self.quantized = True
        self.weight_format = weights
        self.pad_value = pad_value
        if activations.kind != FormatKind.INT:
            self.quantizer = LowBitQuantizer(activations)
            self.relu = False

    def gain(self) -> Tensor:
        """What the norm multiplies by, shape (K,): γ / √(variance + ε), of its running statistics."""
        if self.norm is None:
            return torch.ones(self.core.weight.shape[0], dtype=self.core.weight.dtype)
        assert self.norm.running_var is not None
        return self.norm.weight.detach() / torch.sqrt(self.norm.running_var + self.norm.eps)

    def unquantized(self, x: Tensor) -> Tensor:
        """What the quantiser would get if there were no pool: after norm and ReLU."""
        y = self._normed(x)
        return functional.relu(y) if self.relu else y

    def _normed(self, x: Tensor) -> Tensor:
        weight = self.core.weight
        if self.quantized:
            weight = fake_quantized(weight, self.weight_format)
        if isinstance(self.core, nn.Conv2d):
            if self.pad_value:
                high, wide = (int(n) for n in self.core.padding)
                x = functional.pad(x, (wide, wide, high, high), value=self.pad_value)
                y = functional.conv2d(x, weight, self.core.bias, self.core.stride)
            else:
                y = functional.conv2d(x, weight, self.core.bias, self.core.stride, self.core.padding)
        else:
            y = functional.linear(x, weight, self.core.bias)
        return y if self.norm is None else self.norm(y)

    def settle(self, input_scale: float) -> float:
        """What a step of the activations is worth: at least what an accumulator's step is.

        Rescaling multiplies by less than 1. Sums of binary products are so small that a range of 255
        steps would ask for more.

        Args:
            input_scale: what a step of the activations before is worth.
        """
        if isinstance(self.quantizer, ActivationQuantizer):
            steps = weight_scale(self.core.weight, self.weight_format) * self.gain().abs() * input_scale
            self.quantizer.least_scale = float(steps.max()) * (1 + 1e-6)
        return self.quantizer.parameters_of_range()[0]

    def forward(self, x: Tensor) -> Tensor:
        """The block's activations, at the levels if the block is quantised."""
        # Pooled first: ReLU and levels keep order, so the result is the same, of fewer values. And the
        # gradient goes to the greatest value of a window and not to the first of many equal levels.
        y = self._pooled(self._normed(x))
        if self.relu:
            y = functional.relu(y)
        return self.quantizer(y) if self.quantized else y

    def _pooled(self, y: Tensor) -> Tensor:
        return functional.max_pool2d(y, self.pool) if self.pool > 1 else y


class DigitsNet(nn.Module):
    """Three convolutions and a linear layer for 8×8 images: (B, 1, 8, 8) in 0..1 → logits (B, 10).

    8, 16 and 32 channels in every form, so that forms differ in nothing but formats.
    """

    def __init__(self) -> None:
        super().__init__()
        sizes = [("conv1", 1, 8, 1), ("conv2", 8, 16, 2), ("conv3", 16, 32, 2)]
        self.blocks = nn.ModuleDict(
            {
                name: Block(nn.Conv2d(c, k, 3, padding=1, bias=False), norm=True, relu=True, pool=pool)
                for name, c, k, pool in sizes
            }
        )
        self.blocks["fc"] = Block(nn.Linear(128, 10), norm=False, relu=False, pool=1)
        self.form: Form | None = None
        """None while the network is float."""

    def named_blocks(self) -> list[tuple[str, Block]]:
        """The blocks in the order in which they run, with their names."""
        return [(name, block) for name, block in self.blocks.items() if isinstance(block, Block)]

    def quantize(self, form: Form) -> None:
        """Nothing; from here on weights and activations stand at the form's levels.

        The first and the last layer have int8 weights and see int8 activations, so the last hidden
        layer's activations are int8 (as in Courbariaux et al. 2016 and Rastegari et al. 2016, whose
        first and last layers aren't binary either).
        """
        self.form = form
        pad_value = 0.0 if form.pad_value is None else float(form.pad_value)
        blocks = [block for _, block in self.named_blocks()]
        last = len(blocks) - 1
        for index, block in enumerate(blocks):
            hidden = 0 < index < last
            block.quantize(
                form.weights if hidden else _INT8,
                form.activations if index < last - 1 else _INT8,
                pad_value if hidden else 0.0,
            )

    def set_observing(self, on: bool) -> None:
        """Nothing; lets the activation ranges follow the batches, or freezes them."""
        for _, block in self.named_blocks():
            block.quantizer.observing = on

    def freeze_norms(self) -> None:
        """Nothing; batch norms use and keep their running statistics from here on."""
        for _, block in self.named_blocks():
            if block.norm is not None:
                block.norm.eval()

    def settle(self) -> None:
        """Nothing; brings the activations' scales up to date with weights and norms, block by block."""
        scale = DIGITS_SCALE
        for _, block in self.named_blocks():
            scale = block.settle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (B, 10)."""
        if self.form is not None:
            self.settle()
        for name, block in self.named_blocks():
            x = block(x.flatten(1) if name == "fc" else x)
        return x
