"""The layers that follow accumulators: rescaling by channel, counting thresholds, summing planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .layer_parts import OneInput, check_integer, check_multipliers, check_rounding
from .numerics import Rounding, check_thresholds

__all__ = ["PlaneSum", "Requantize", "Thresholds"]

_INT32_MIN, _INT32_MAX = -(1 << 31), (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requantize(OneInput):
    """Accumulators as activations: rescaled by channel, moved by a zero point, clamped.

    The arithmetic is `numerics.requantize`. A ReLU is a `low` at the zero point.
    """

    kind: ClassVar[str] = "requantize"
    multiplier: NDArray[np.int32]
    """Q0.31, 0..2^31 − 1, shape (K,)."""
    shift: NDArray[np.int32]
    """0..31, shape (K,)."""
    rounding: Rounding
    low: int
    high: int
    bias: NDArray[np.int32] | None = None
    """Added before rescaling, shape (K,); None adds nothing. After an AvgPool of n pixels, −n times the
    pool's input zero point."""
    offset: int | None = None
    """Added after rescaling, −256..255; None is the output's zero point. TFLite's average pool rounds stored
    values, so it adds 0 whatever the zero point is."""

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        multiplier, shift = check_multipliers(where, self.multiplier, self.shift)
        object.__setattr__(self, "multiplier", multiplier)
        object.__setattr__(self, "shift", shift)
        object.__setattr__(self, "rounding", check_rounding(where, self.rounding))
        for name in ("low", "high"):
            object.__setattr__(self, name, check_integer(where, name, getattr(self, name)))
        if self.low > self.high:
            raise ValueError(f"{where}: low must not be above high, not {self.low} and {self.high}")
        if self.offset is not None:
            object.__setattr__(self, "offset", check_integer(where, "offset", self.offset))
            if not -256 <= self.offset <= 255:
                raise ValueError(f"{where}: offset must be from -256 to 255, not {self.offset}")
        if self.bias is None:
            return
        bias = np.asarray(self.bias)
        if bias.shape != multiplier.shape or bias.dtype.kind not in "iu":
            raise ValueError(f"{where}: bias must be {multiplier.size} integers, one for each multiplier")
        least, most = int(bias.min()), int(bias.max())
        if least < _INT32_MIN or most > _INT32_MAX:
            raise ValueError(
                f"{where}: bias must be from {_INT32_MIN} to {_INT32_MAX}, not "
                f"{least if least < _INT32_MIN else most}"
            )
        copy = bias.astype(np.int32)
        copy.flags.writeable = False
        object.__setattr__(self, "bias", copy)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thresholds(OneInput):
    """Accumulators as activations: low + step · (how many of the channel's thresholds t have acc ≥ t).

    The arithmetic is `numerics.count_thresholds`. A binary output has one threshold a channel, low −1
    and step 2; a ternary one usually two, low −1 and step 1. Thresholds no accumulator reaches (2^31 − 1)
    or all do (−2^31) are allowed.
    """

    kind: ClassVar[str] = "thresholds"
    values: NDArray[np.int32]
    """Shape (K, T), T of 1..255; no row decreases."""
    low: int
    """The stored value below all thresholds."""
    step: int
    """1 or 2: what each threshold adds."""

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        try:
            values = check_thresholds(self.values)
        except ValueError as fault:
            raise ValueError(f"{where}: {fault}") from None
        object.__setattr__(self, "values", values)
        for name in ("low", "step"):
            object.__setattr__(self, name, check_integer(where, name, getattr(self, name)))
        if self.step not in (1, 2):
            raise ValueError(f"{where}: step must be 1 or 2, not {self.step}")

    @property
    def high(self) -> int:
        """The stored value from the last threshold on."""
        return self.low + self.step * int(self.values.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlaneSum(OneInput):
    """The sum of a layer's planes of weights, a scale a channel each: accumulators (K, …) of (planes·K, …).

    acc[k] = Σⱼ rescale(in[j·K + k] · 2^left_shift, multiplier[j·K + k], shift[j·K + k]); a Requantize after
    it, with one multiplier and shift for all channels and no bias, brings the sum to the output's scale.
    So weights W = Σⱼ aⱼ·Bⱼ with binary or ternary Bⱼ run as they are: sketches of binary planes, and the two
    scales of TTQ as ternary planes sign(W) and |sign(W)| with (Wp + Wn)/2 and (Wp − Wn)/2, the second negated
    where Wp < Wn. A shifted accumulator must fit int32, as must each sum.

    Sources: Guo et al. 2017, Network Sketching; Zhu et al. 2017, Trained Ternary Quantization.
    """

    kind: ClassVar[str] = "planesum"
    planes: int
    """2..8."""
    multiplier: NDArray[np.int32]
    """Q0.31, 0..2^31 − 1, shape (planes·K,), plane after plane."""
    shift: NDArray[np.int32]
    """0..31, shape (planes·K,)."""
    left_shift: int
    """0..20: fraction bits that the sum is formed with."""
    rounding: Rounding

    def __post_init__(self) -> None:
        where = f"layer {self.name}"
        multiplier, shift = check_multipliers(where, self.multiplier, self.shift)
        object.__setattr__(self, "multiplier", multiplier)
        object.__setattr__(self, "shift", shift)
        object.__setattr__(self, "rounding", check_rounding(where, self.rounding))
        for name, low, high in (("planes", 2, 8), ("left_shift", 0, 20)):
            value = check_integer(where, name, getattr(self, name))
            object.__setattr__(self, name, value)
            if not low <= value <= high:
                raise ValueError(f"{where}: {name} must be from {low} to {high}, not {value}")
        if multiplier.size % self.planes:
            raise ValueError(
                f"{where}: multiplier and shift must be given for {self.planes} planes of equally many "
                f"channels, not for {multiplier.size}"
            )

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(K, …); ValueError, naming the layer, if the input has not a channel for each multiplier."""
        if shape[0] != self.multiplier.size:
            raise ValueError(
                f"layer {self.name}: multiplier and shift must be given for the {shape[0]} channels of all "
                f"planes, not for {self.multiplier.size}"
            )
        return (shape[0] // self.planes, *shape[1:])
