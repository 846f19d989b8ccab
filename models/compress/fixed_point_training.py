"""Training in 16-bit fixed point: weights, gradients and activations rounded to nearest or at random."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .fixed_point import FixedPoint
from .latent_pass import check_word
from .passes import Pass
from .subject import Masked, Subject
from .training import Hooks
from .weight_codes import FixedCode

__all__ = ["FixedPointTrainingPass"]


class _RoundBoth(torch.autograd.Function):
    """A value rounded on its way forward, its gradient on its way back."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, rounded: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.rounded = rounded
        return rounded(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.rounded(gradients[0]), None


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPointTrainingPass(Pass):
    """Trains with all that a fixed-point unit would hold in <IL, FL>, and encodes the layers so.

    Weights and biases are rounded after every step, results of layers going forward, and gradients of both
    going back; sums within a layer are wide, as the paper's are. The optimiser's own state is float: take
    plain steps (`training.optimizer = "sgd"`). Nearest rounding loses every update below ε / 2.

    Source: Gupta et al. 2015, sections 3 and 4.
    """

    name: ClassVar[str] = "train.fixed-point"
    integer_bits: int = 4
    fraction_bits: int = 12
    rounding: str = "stochastic"
    """stochastic or nearest."""
    restart: bool = False
    """Whether it starts from weights drawn anew (He et al. 2015) and biases of 0, as the paper does."""

    def __post_init__(self) -> None:
        check_word("rounding", self.rounding, ("stochastic", "nearest"))
        if self._format.bits > 16:
            raise ValueError(f"integer_bits + fraction_bits must be at most 16, not {self._format.bits}")

    @property
    def _format(self) -> FixedPoint:
        return FixedPoint(integer_bits=self.integer_bits, fraction_bits=self.fraction_bits)

    def apply(self, subject: Subject) -> None:
        """Nothing; trains, encodes each layer, and notes the share of weights that training moved.

        Raises:
            DivergedError: training fails.
        """
        model, layers = subject.model, self.selected(subject)
        fixed = self._format
        rng = np.random.default_rng([subject.seed, 33]) if self.rounding == "stochastic" else None

        def rounded(value: Tensor) -> Tensor:
            return torch.from_numpy(fixed.rounded(value.detach().numpy(), rng).astype(np.float32))

        def tap(value: Tensor) -> Tensor:
            made: Tensor = _RoundBoth.apply(value, rounded)  # type: ignore[no-untyped-call]
            return made

        for layer in layers:
            subject.codes.pop(layer.name, None)
            if layer.name in subject.masks:
                model.set_transform(layer.name, Masked(subject.masks[layer.name].kept))
        held = [model.weight(layer.name) for layer in layers]
        held += [bias for layer in layers if (bias := model.bias(layer.name)) is not None]

        def after_step(step: int) -> None:
            with torch.no_grad():
                for parameter in held:
                    parameter.copy_(rounded(parameter))

        def after_backward(step: int) -> None:
            for parameter in held:
                if parameter.grad is not None:
                    parameter.grad.copy_(rounded(parameter.grad))

        drawn = np.random.default_rng([subject.seed, 34])
        with torch.no_grad():
            for layer in layers:
                if self.restart:
                    shape = tuple(model.weight(layer.name).shape)
                    size = math.sqrt(2.0 / math.prod(shape[1:]))
                    subject.set_weight(layer.name, size * drawn.standard_normal(shape))
                    if (bias := model.bias(layer.name)) is not None:
                        bias.zero_()
                # A start to nearest: what moves from there on is training's.
                weight = model.weight(layer.name)
                weight.copy_(torch.from_numpy(fixed.rounded(weight.numpy()).astype(np.float32)))
        before = {layer.name: subject.weight(layer.name) for layer in layers}
        for layer in layers:
            model.taps.setdefault(layer.value, []).append(tap)
        try:
            hooks = Hooks(after_backward=after_backward, after_step=after_step)
            subject.train(self.training, hooks, self.name)
        finally:
            for layer in layers:
                model.taps[layer.value].remove(tap)
        moved = {}
        for layer in layers:
            weights = subject.weight(layer.name)
            moved[layer.name] = float((weights != before[layer.name]).mean())
            subject.encode(
                layer.name,
                FixedCode(
                    integers=fixed.integers(weights),
                    scales=np.full(len(weights), fixed.step),
                    fmt=f"int{fixed.bits}",
                ),
            )
        subject.notes[self.name] = {"rounding": self.rounding, "moved": moved}
