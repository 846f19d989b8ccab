"""What passes say of single layers, and passes that leave a share of each layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .passes import Pass, select_layers
from .subject import Subject
from .trainable import WeightedLayer

__all__ = ["LayerShares", "by_layer", "check_densities"]


def by_layer(
    subject: Subject, layers: tuple[WeightedLayer, ...], table: Mapping[str, float], where: str
) -> dict[str, float]:
    """What a table of selectors says of each of `layers`; a later line of the table wins.

    Raises:
        ValueError: a selector that matches none of them.
    """
    names = {layer.name for layer in layers}
    found: dict[str, float] = {}
    for selector, value in table.items():
        chosen = [layer.name for layer in select_layers(subject.model, (selector,), where)]
        if not names.intersection(chosen):
            raise ValueError(f"{where}: {selector!r} matches none of the pass's layers, {', '.join(names)}")
        found.update({name: value for name in chosen if name in names})
    return found


def check_densities(density: float, densities: Mapping[str, float]) -> None:
    """Nothing; ValueError for a share of what stays, of all layers or by selector, that none can be."""
    for key, value in {"density": density, **densities}.items():
        if not 0.0 < value <= 1.0:
            raise ValueError(f"density of {key} must be above 0 and at most 1, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShares(Pass):
    """A pass that leaves a share of each of its layers.

    Raises:
        ValueError: a share that can't be.
    """

    density: float = 0.5
    """Share of each layer's weights, neurons or groups, whatever the pass cuts, that stays."""
    densities: Mapping[str, float] = field(default_factory=dict)
    """By selector, instead of `density`."""

    def __post_init__(self) -> None:
        check_densities(self.density, self.densities)

    def check(self, subject: Subject) -> None:
        """Nothing; refuses selectors that match none of the layers."""
        self.shares(subject)

    def shares(self, subject: Subject) -> dict[str, float]:
        """By layer, in the network's order, the share that stays.

        Raises:
            ValueError: a selector that matches nothing.
        """
        layers = self.selected(subject)
        told = by_layer(subject, layers, self.densities, f"{self.name}.densities")
        return {layer.name: told.get(layer.name, self.density) for layer in layers}

    def in_turn(self, subject: Subject) -> Iterator[tuple[WeightedLayer, float]]:
        """Layer after layer, as it is when its turn comes, with its share; tells the progress."""
        told = self.shares(subject)
        for number, (name, share) in enumerate(told.items()):
            subject.progress(f"{self.name}: {name}", number / len(told))
            yield subject.model.layer(name), share
