"""What passes have in common that give layers codes by training latent weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .latent import Latent, train_latent
from .passes import Pass
from .subject import Subject
from .trainable import WeightedLayer

__all__ = ["LatentPass", "check_word"]


def check_word(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Nothing.

    Raises:
        ValueError: a word that isn't allowed.
    """
    if value not in allowed:
        raise ValueError(f"{key} must be {' or '.join(allowed)}, not {value!r:.40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentPass(Pass):
    """Trains the selected layers through a code and encodes them; codes without a 0 refuse pruned layers."""

    has_zero: ClassVar[bool] = True

    def transform(self, subject: Subject, layer: WeightedLayer) -> Latent:
        """What the layer's latent weights go through."""
        raise NotImplementedError

    def transforms(self, subject: Subject, layers: tuple[WeightedLayer, ...]) -> dict[str, Latent]:
        """By layer, what its latent weights go through."""
        return {layer.name: self.transform(subject, layer) for layer in layers}

    def prepare(self, subject: Subject) -> None:
        """Nothing; changes the graph before layers are selected, where the method needs it."""

    def found(self, subject: Subject, transforms: dict[str, Latent]) -> dict[str, Any]:
        """What the pass notes down, plain values."""
        return {}

    def apply(self, subject: Subject) -> None:
        """Nothing; trains, and encodes each layer.

        Raises:
            ValueError: a pruned layer for a code without a 0; DivergedError: training fails.
        """
        if not self.has_zero:
            for layer in self.selected(subject):
                if layer.name in subject.masks:
                    raise ValueError(
                        f"layer {layer.name}: {self.name} has no 0 for its pruned weights; leave it out "
                        "or take a ternary method"
                    )
        self.prepare(subject)
        transforms = self.transforms(subject, self.selected(subject))
        train_latent(subject, transforms, self.training, self.name)
        if found := self.found(subject, transforms):
            subject.notes[self.name] = found
