"""What the mapper minimises, and what an event costs where that is energy."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, fields

__all__ = ["EventPrices", "Objective"]


class Objective(enum.StrEnum):
    """What the chosen mappings of a core machine make small, layer by layer."""

    LATENCY = "latency"
    """Estimated cycles; then DRAM bytes."""
    ENERGY = "energy"
    """Event energy; then estimated cycles."""
    EDP = "edp"
    """A layer's energy times its estimated cycles."""
    BYTES = "bytes"
    """DRAM bytes of weights, parameters and activations; then estimated cycles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPrices:
    """Picojoules of an event of each component, as `sim.energy` names and prices them.

    The mapper has no energy table: whoever asks it for energy hands it these (`sim.energy.event_prices`).
    """

    multiply: float
    negate: float
    ternary: float
    xnor: float
    add: float
    post: float
    """Of a rescaled number."""
    compare: float
    activation_buffer: float
    """Of a byte; the next likewise."""
    weight_buffer: float
    param_buffer: float
    output_buffer: float
    accumulators: float
    dram: float

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{item.name} must be a number of picojoules ≥ 0, not {value}")
