"""Densities that the command line gives, layer by layer: `fc6=0.09,fc7=0.09`, or one for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

__all__ = ["Density", "densities_of", "parse_densities"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """A share of values that are not zero, and how far it may have been rounded."""

    value: float
    rounding: float
    """Half a unit of the last digit given: 0.09 may have been 0.085 to 0.095; nothing of 1."""

    @property
    def low(self) -> float:
        """The least that it may have been."""
        return max(0.0, self.value - self.rounding)

    @property
    def high(self) -> float:
        """The most."""
        return min(1.0, self.value + self.rounding)


def parse_densities(option: str, texts: Sequence[str] | None) -> dict[str, Density]:
    """Densities by layer; under the empty name that of all others.

    Args:
        option: its name, for messages.
        texts: as given, each `LAYER=D,…` or `D`.

    Raises:
        ValueError: no such text, a layer twice, or a density that isn't above 0 and at most 1.
    """
    found: dict[str, Density] = {}
    for part in (part for text in texts or () for part in text.split(",")):
        name, sign, number = part.rpartition("=")
        name = name.strip()
        if sign and not name:
            raise ValueError(f"{option} takes LAYER=DENSITY, or one density for all layers, not {part!r:.60}")
        try:
            exact = Decimal(number.strip())
        except InvalidOperation:
            raise ValueError(
                f"{option} takes LAYER=DENSITY, or one density for all layers, not {part!r:.60}"
            ) from None
        if not exact.is_finite() or not 0 < exact <= 1:
            raise ValueError(f"{option} must be above 0 and at most 1, not {part!r:.60}")
        if name in found:
            raise ValueError(f"{option} gives {name or 'all layers'} twice: give each once")
        exponent = exact.as_tuple().exponent
        digits = -exponent if isinstance(exponent, int) else 0
        found[name] = Density(value=float(exact), rounding=0.5 * 10.0**-digits if digits > 0 else 0.0)
    return found


def densities_of(option: str, given: dict[str, Density], layers: Sequence[str]) -> dict[str, Density]:
    """The density of each layer that has one.

    Raises:
        ValueError: a layer that there isn't; names those that there are.
    """
    for name in given:
        if name and name not in layers:
            known = ", ".join(layers[:12]) + (", …" if len(layers) > 12 else "")
            raise ValueError(f"{option}: no layer {name!r:.80}; layers: {known}")
    rest = given.get("")
    found = {name: given.get(name, rest) for name in layers}
    return {name: density for name, density in found.items() if density is not None}
