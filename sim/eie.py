"""EIE's published fully connected layers beside the model of `sparse_fc`, with what lies between them.

Source: Han et al. 2016, EIE: Efficient Inference Engine on Compressed Deep Neural Network, ISCA: table III
for sizes and densities, table IV for times; 64 PEs at 800 MHz, queues of 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .sparse_fc import SparseFcMachine, SparseFcResult, encode_random, random_activations, run_sparse_fc

__all__ = ["EIE_ALEXNET", "EieComparison", "PublishedLayer", "compare_published"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedLayer:
    """A layer of EIE's tables. Densities are published rounded: weights to 1 %, activations to 0.1 %."""

    name: str
    inputs: int
    outputs: int
    weight_density: float
    activation_density: float
    theoretical_us: float
    actual_us: float

    weight_rounding: float = 0.005
    activation_rounding: float = 0.0005


EIE_ALEXNET = (
    PublishedLayer(
        name="Alex-6",
        inputs=9216,
        outputs=4096,
        weight_density=0.09,
        activation_density=0.351,
        theoretical_us=28.1,
        actual_us=30.3,
    ),
    PublishedLayer(
        name="Alex-7",
        inputs=4096,
        outputs=4096,
        weight_density=0.09,
        activation_density=0.353,
        theoretical_us=11.7,
        actual_us=12.2,
    ),
    PublishedLayer(
        name="Alex-8",
        inputs=4096,
        outputs=1000,
        weight_density=0.25,
        activation_density=0.375,
        theoretical_us=8.9,
        actual_us=9.9,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EieComparison:
    """One published layer, modelled at the densities as published and at the ends of their rounding."""

    published: PublishedLayer
    result: SparseFcResult
    low_us: float
    """With both densities as low as they may have been before rounding."""
    high_us: float
    """With both as high."""

    @property
    def modelled_us(self) -> float:
        """At the densities as published."""
        return self.result.seconds * 1e6

    @property
    def error(self) -> float:
        """(modelled − actual) / actual."""
        return self.modelled_us / self.published.actual_us - 1

    @property
    def density_in_theory(self) -> float:
        """Entries by which the published theoretical time can be explained, of all weights."""
        row, machine = self.published, self.result.machine
        entries = row.theoretical_us * 1e-6 * machine.clock_hz * machine.pes
        return entries / (row.inputs * row.outputs * row.activation_density)

    @property
    def entry_density(self) -> float:
        """Entries of the modelled stream, fillers included, of all weights of the broadcast columns."""
        return (self.result.useful + self.result.fillers) / (self.result.activations * self.published.outputs)

    def lines(self) -> list[str]:
        """The analysis for people: useful work, fillers, imbalance, rounding, and what they don't explain."""
        row, parts = self.published, self.result.parts_us()
        balanced = parts["useful"] + parts["fillers"]
        inside = self.low_us <= row.actual_us <= self.high_us
        theory = f"{row.theoretical_us:g} µs, {row.theoretical_us / balanced - 1:+.1%}"
        within = f"{self.low_us:.1f} to {self.high_us:.1f} µs, which {'holds' if inside else 'does not hold'}"
        return [
            f"{row.name}: {self.modelled_us:.1f} µs modelled, {row.actual_us:g} µs measured, "
            f"{self.error:+.1%}",
            f"  useful work, evenly spread: {parts['useful']:.1f} µs ({self.result.useful:,} weights over "
            f"{self.result.machine.pes} PEs at {self.result.machine.clock_hz / 1e6:g} MHz)",
            f"  fillers: {parts['fillers']:.1f} µs ({self.result.fillers:,} entries)",
            f"  imbalance: {parts['imbalance']:.1f} µs (PEs work on entries in {self.result.balance:.1%} of "
            "the cycles)",
            f"  rounding of the densities: {within} the measured time",
            f"  published theoretical time: {theory} against useful work and fillers; it stands for entries "
            f"at {self.density_in_theory:.1%} of the weights, the stream has {self.entry_density:.1%}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            **self.result.to_dict(),
            "published_theoretical_us": self.published.theoretical_us,
            "published_actual_us": self.published.actual_us,
            "modelled_us": self.modelled_us,
            "error": self.error,
            "low_us": self.low_us,
            "high_us": self.high_us,
            "density_in_theory": self.density_in_theory,
            "entry_density": self.entry_density,
        }


def compare_published(
    row: PublishedLayer, *, seed: int = 0, machine: SparseFcMachine | None = None
) -> EieComparison:
    """The layer modelled with seeded random weights and activations of the published densities."""

    def run(weights: float, activations: float) -> SparseFcResult:
        layer = encode_random(row.name, row.inputs, row.outputs, weights, seed=seed, machine=machine)
        return run_sparse_fc(layer, random_activations(row.inputs, activations, seed=seed + 1), machine)

    ends = [
        run(
            row.weight_density + sign * row.weight_rounding,
            row.activation_density + sign * row.activation_rounding,
        )
        for sign in (-1, 0, 1)
    ]
    return EieComparison(
        published=row,
        result=ends[1],
        low_us=ends[0].seconds * 1e6,
        high_us=ends[2].seconds * 1e6,
    )
