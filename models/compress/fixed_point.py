"""Fixed point: <IL, FL> numbers, ranges found from values, weights as integers of 2 to 16 bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..formats import Format
from .latent import Latent
from .latent_pass import LatentPass, check_word
from .subject import Subject
from .trainable import WeightedLayer
from .weight_codes import FixedCode

__all__ = ["FixedPoint", "FixedPointPass", "FixedWeights", "FixedWeightsPass", "fixed_code", "sqnr_db"]

_CHOICES = ("range", "error")
_STEPS = ("real", "power")
_SHRINKS = np.linspace(1.0, 0.2, 41)
"""What is tried of the range when the error decides; the last is well below what normal values want."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPoint:
    """<IL, FL>: two's complement with IL integer bits, the sign among them, and FL fraction bits.

    Values are whole multiples of ε = 2^−FL from −2^(IL − 1) to 2^(IL − 1) − ε. Either count may be negative,
    both together are 2 to 32.

    Raises:
        ValueError: fewer or more bits.

    Source: Gupta et al. 2015, Deep Learning with Limited Numerical Precision, section 3.
    """

    integer_bits: int
    fraction_bits: int

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 32:
            raise ValueError(f"fixed point has 2 to 32 bits, not {self.integer_bits} + {self.fraction_bits}")

    @classmethod
    def of(cls, values: NDArray[Any], bits: int) -> FixedPoint:
        """The finest of this width that holds every value: dynamic fixed point, one FL a layer.

        A largest value that rounds up past the end may be one step short.
        """
        size = float(np.abs(values).max(initial=0.0))
        integer_bits = math.floor(math.log2(size)) + 2 if size > 0 else 1
        return cls(integer_bits=integer_bits, fraction_bits=bits - integer_bits)

    @property
    def bits(self) -> int:
        """Width."""
        return self.integer_bits + self.fraction_bits

    @property
    def step(self) -> float:
        """ε."""
        return math.ldexp(1.0, -self.fraction_bits)

    def integers(self, values: NDArray[Any], rng: np.random.Generator | None = None) -> NDArray[np.int64]:
        """Values in steps, saturated: rounded to nearest (ties up), or stochastically where `rng` is given.

        Stochastic rounding goes up with the probability of the fraction, so that it is right in the mean.

        Source: Gupta et al. 2015, section 3.1.
        """
        scaled = values.astype(np.float64) / self.step
        limit = 1 << (self.bits - 1)
        moved = np.floor(scaled + (0.5 if rng is None else rng.random(values.shape)))
        return np.clip(moved, -limit, limit - 1).astype(np.int64)

    def rounded(self, values: NDArray[Any], rng: np.random.Generator | None = None) -> NDArray[np.float64]:
        """What `integers` stand for."""
        return self.integers(values, rng).astype(np.float64) * self.step


def sqnr_db(values: NDArray[Any], quantised: NDArray[Any]) -> float:
    """10 · log10(Σ x² / Σ (x − q)²); infinite where nothing is lost."""
    exact = values.astype(np.float64)
    noise = float(((exact - quantised.astype(np.float64)) ** 2).sum())
    return math.inf if noise == 0 else 10.0 * math.log10(max(float((exact**2).sum()), 1e-300) / noise)


def fixed_code(
    weights: NDArray[Any], bits: int, *, per: str = "filter", choice: str = "error", step: str = "real"
) -> FixedCode:
    """Weights as integers of −(2^(bits − 1) − 1) to 2^(bits − 1) − 1 times a step.

    Args:
        weights: shape (K, …).
        bits: 2 to 16.
        per: filter or layer, what has a step of its own.
        choice: range, so that the largest |w| is the largest integer; or error, so that the squared error is
            least among ranges from that down to a fifth of it.
        step: real, or power: powers of 2, as <IL, FL> has them, not below what was chosen.

    Raises:
        ValueError: other bits or words.
    """
    check_word("per", per, ("filter", "layer"))
    check_word("choice", choice, _CHOICES)
    check_word("step", step, _STEPS)
    if not 2 <= bits <= 16:
        raise ValueError(f"bits must be from 2 to 16, not {bits}")
    fmt = Format.parse(f"int{bits}")
    rows = weights.reshape(1 if per == "layer" else len(weights), -1).astype(np.float64)
    size = np.abs(rows).max(axis=1)
    full = np.where(size > 0, size, 1.0) / fmt.max
    best, least = full, np.full(len(rows), np.inf)
    for shrink in _SHRINKS if choice == "error" else _SHRINKS[:1]:
        tried = full * shrink
        if step == "power":
            tried = np.exp2(np.ceil(np.log2(tried) - 1e-9))
        error = ((rows - _whole(rows, tried, fmt.max) * tried[:, None]) ** 2).sum(axis=1)
        best, least = np.where(error < least, tried, best), np.minimum(error, least)
    integers = _whole(rows, best, fmt.max).reshape(weights.shape).astype(fmt.dtype)
    return FixedCode(integers=integers, scales=np.broadcast_to(best, len(weights)).copy(), fmt=fmt.name)


def _whole(rows: NDArray[np.float64], steps: NDArray[np.float64], top: int) -> NDArray[np.float64]:
    return np.clip(np.rint(rows / steps[:, None]), -top, top)


class FixedWeights(Latent):
    """Latent weights that compute as integers times a step, which is chosen once, at the start."""

    def __init__(self, start: FixedCode) -> None:
        super().__init__()
        self._scales, self._fmt = start.scales, Format.parse(start.fmt)

    def code(self, weights: NDArray[np.float32]) -> FixedCode:
        """The weights rounded to the steps."""
        rows = weights.reshape(len(weights), -1).astype(np.float64)
        integers = _whole(rows, self._scales, self._fmt.max).reshape(weights.shape)
        return FixedCode(
            integers=integers.astype(self._fmt.dtype), scales=self._scales.copy(), fmt=self._fmt.name
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedWeightsPass(LatentPass):
    """What passes to fixed-point weights share; `training.epochs = 0` only rounds.

    Notes the signal to quantisation noise of each layer before that training, in dB; None is no noise.
    """

    per: str = "filter"
    """filter or layer, what has a step of its own."""
    choice: str = "error"
    """range or error, what the step is chosen by."""
    step: str = "real"
    """real or power: powers of 2 shift where others multiply."""

    def __post_init__(self) -> None:
        fixed_code(np.ones((1, 1)), 8, per=self.per, choice=self.choice, step=self.step)

    def widths(self, weights: dict[str, NDArray[np.float32]]) -> dict[str, int]:
        """The bits of each layer, from the weights of all that are selected."""
        raise NotImplementedError

    def transforms(self, subject: Subject, layers: tuple[WeightedLayer, ...]) -> dict[str, Latent]:
        """By layer its rounding; notes what it loses."""
        weights = {layer.name: subject.weight(layer.name) for layer in layers}
        found: dict[str, Any] = {}
        made: dict[str, Latent] = {}
        for name, bits in self.widths(weights).items():
            code = fixed_code(weights[name], bits, per=self.per, choice=self.choice, step=self.step)
            noise = sqnr_db(weights[name], code.weights())
            found[name] = {"bits": bits, "sqnr_db": round(noise, 3) if math.isfinite(noise) else None}
            made[name] = FixedWeights(code)
        subject.notes[self.name] = found
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPointPass(FixedWeightsPass):
    """Weights of as many bits in all layers, trained through their rounding."""

    name: ClassVar[str] = "quantise.fixed"
    bits: int = 8
    """2 to 16."""

    def __post_init__(self) -> None:
        fixed_code(np.ones((1, 1)), self.bits, per=self.per, choice=self.choice, step=self.step)

    def widths(self, weights: dict[str, NDArray[np.float32]]) -> dict[str, int]:
        """The same for all."""
        return dict.fromkeys(weights, self.bits)
