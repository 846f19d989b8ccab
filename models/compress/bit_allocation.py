"""Bits shared out over layers: larger layers get fewer, by a closed form from their noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .fixed_point import FixedWeightsPass, fixed_code, sqnr_db

__all__ = ["BitAllocationPass", "allocate_bits", "allocation_noise", "closed_form_bits", "db_per_bit"]

KAPPA_DB = 20.0 * math.log10(2.0)
"""What a bit more is worth when steps halve: 6.02 dB."""


def closed_form_bits(
    sizes: Sequence[int], mean_bits: float, *, kappa: float = KAPPA_DB
) -> NDArray[np.float64]:
    """Real bits β that lose least for their memory: β_i − β_j = 10·log10(ρ_j / ρ_i) / κ.

    The noise to signal ratios of layers add up, layer i's being proportional to 10^(−κ·β_i / 10); Σ ρ·β is
    fixed to mean_bits · Σ ρ.

    Args:
        sizes: ρ, weights by layer.
        mean_bits: bits a weight over all.
        kappa: dB a bit.

    Source: Lin, Talathi and Annapureddy 2016, Fixed Point Quantization of Deep Convolutional Networks, eq. 8
    to 11.
    """
    rho = np.asarray(sizes, np.float64)
    if rho.ndim != 1 or not rho.size or (rho < 1).any():
        raise ValueError(f"layers must have at least one weight each, not {list(sizes)}")
    relative = -10.0 * np.log10(rho) / kappa
    return relative + (mean_bits - float((rho * relative).sum() / rho.sum()))


def allocation_noise(bits: Sequence[float] | NDArray[Any], *, kappa: float = KAPPA_DB) -> float:
    """Σ 10^(−κ·β / 10): what the layers' noise adds up to, in units of that of no bits."""
    return float((10.0 ** (-kappa * np.asarray(bits, np.float64) / 10.0)).sum())


def allocate_bits(
    sizes: Sequence[int], mean_bits: float, *, low: int = 2, high: int = 8, kappa: float = KAPPA_DB
) -> tuple[int, ...]:
    """Whole bits by layer that keep within mean_bits · Σ ρ, from the closed form.

    Layers that the closed form puts past an end stay at it, and the others share what is left; then all are
    rounded down, what remains of the budget buys bits where one takes the most noise away a weight, and bits
    are exchanged between layers as long as that takes noise away.

    Args:
        sizes: weights by layer.
        mean_bits: bits a weight over all, the most that may be spent.
        low: fewest bits of a layer.
        high: most bits of a layer.
        kappa: dB a bit.

    Raises:
        ValueError: a budget below `low` bits everywhere.
    """
    if mean_bits < low:
        raise ValueError(f"mean_bits must be at least {low}, the fewest bits of a layer, not {mean_bits:g}")
    rho = np.asarray(sizes, np.float64)
    budget = mean_bits * float(rho.sum()) + 1e-6
    bits = np.zeros(len(rho))
    free = np.ones(len(rho), bool)
    while free.any():
        left = (budget - float((rho * bits)[~free].sum())) / float(rho[free].sum())
        found = closed_form_bits([int(n) for n in rho[free]], left, kappa=kappa)
        places = np.flatnonzero(free)
        under, over = low - found, found - high
        # One side at a time, the one that is further off: the other side's layers may come back within.
        side = under if under.max() >= over.max() else over
        out = side > 0
        if not out.any():
            bits[places] = found
            break
        bits[places[out]] = low if side is under else high
        free[places[out]] = False
    whole = np.clip(np.floor(bits + 1e-9), low, high).astype(np.int64)
    while float((rho * whole).sum()) > budget:  # layers held at `high` may leave others less than `low`
        able = np.flatnonzero(whole > low)
        whole[able[int((10.0 ** (-kappa * whole[able] / 10.0) / rho[able]).argmin())]] -= 1
    best = _spent(whole, rho, budget, high, kappa)
    # A large layer's bit may cost more than what remains: each layer is also tried with a bit more, which
    # the others give up where it costs least.
    tried = True
    while tried:
        tried = False
        for layer in np.flatnonzero(best < high):
            other = best.copy()
            other[layer] += 1
            while float((rho * other).sum()) > budget:
                able = np.flatnonzero((other > low) & (np.arange(len(rho)) != layer))
                if not len(able):
                    break
                loss = 10.0 ** (-kappa * other[able] / 10.0) / rho[able]
                other[able[int(loss.argmin())]] -= 1
            if float((rho * other).sum()) > budget:
                continue
            other = _spent(other, rho, budget, high, kappa)
            if allocation_noise(other, kappa=kappa) < allocation_noise(best, kappa=kappa) * (1 - 1e-9):
                best, tried = other, True
    return tuple(int(n) for n in best)


def _spent(
    bits: NDArray[np.int64], rho: NDArray[np.float64], budget: float, high: int, kappa: float
) -> NDArray[np.int64]:
    """Bits with what remains of the budget spent where a weight's bit takes the most noise away."""
    whole = bits.copy()
    while True:
        able = np.flatnonzero((whole < high) & (float((rho * whole).sum()) + rho <= budget))
        if not len(able):
            return whole
        worth = 10.0 ** (-kappa * whole[able] / 10.0) / rho[able]
        whole[able[int(worth.argmax())]] += 1


def db_per_bit(weights: NDArray[Any], low: int, high: int) -> float:
    """κ as measured: the least-squares slope of the SQNR of `weights` over `low` to `high` bits, in dB a bit.

    Steps are those of least squared error, one for all weights.
    """
    widths = np.arange(low, high + 1)
    found = [sqnr_db(weights, fixed_code(weights, int(b), per="layer").weights()) for b in widths]
    return float(np.polyfit(widths, found, 1)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class BitAllocationPass(FixedWeightsPass):
    """Fixed-point weights whose bits are allocated over the layers, then trained through their rounding."""

    name: ClassVar[str] = "quantise.allocate"
    mean_bits: float = 4.0
    """Bits a weight over all selected layers, at most."""
    low: int = 2
    """Fewest bits of a layer."""
    high: int = 8
    """Most; a core takes 8."""
    kappa_db: float = 0.0
    """What a bit is worth, in dB: 6.02 where steps halve; 0 measures it on the layers' weights."""

    def __post_init__(self) -> None:
        FixedWeightsPass.__post_init__(self)
        if not 2 <= self.low <= self.high <= 16:
            raise ValueError(f"low and high must be 2 to 16 bits in this order, not {self.low}, {self.high}")
        if not (math.isfinite(self.kappa_db) and self.kappa_db >= 0):
            raise ValueError(f"kappa_db must be 0 or more, not {self.kappa_db}")
        if not self.low <= self.mean_bits <= self.high:
            raise ValueError(f"mean_bits must be from {self.low} to {self.high}, not {self.mean_bits:g}")

    def widths(self, weights: dict[str, NDArray[np.float32]]) -> dict[str, int]:
        """As `allocate_bits` shares them out."""
        kappa = self.kappa_db or float(
            np.mean(
                [db_per_bit(_sample(w), self.low, max(self.high, self.low + 2)) for w in weights.values()]
            )
        )
        sizes = [w.size for w in weights.values()]
        bits = allocate_bits(sizes, self.mean_bits, low=self.low, high=self.high, kappa=kappa)
        return dict(zip(weights, bits, strict=True))


def _sample(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """About ten thousand of the weights, evenly spread."""
    return weights.reshape(1, -1)[:, :: max(1, weights.size // 10_000)]
