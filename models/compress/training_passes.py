"""Plain training as a pass: for a network that comes without weights, or to recover between passes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from .datasets import AUGMENTS
from .passes import Pass
from .subject import Subject

__all__ = ["Train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(Pass):
    """Trains all that isn't coded; cut weights stay cut.

    Raises:
        ValueError: an unknown augmentation.
    """

    name: ClassVar[str] = "train"
    augment: str = "data"
    """How images are moved in this training: data (as `data_options` say), none, shift or crop-flip."""

    def __post_init__(self) -> None:
        if self.augment != "data" and self.augment not in AUGMENTS:
            raise ValueError(f"augment must be data, {', '.join(AUGMENTS)}, not {self.augment!r}")

    def apply(self, subject: Subject) -> None:
        """Nothing; trains as `training` says."""
        data = subject.data
        if self.augment != "data":
            subject.data = replace(data, options=replace(data.options, augment=self.augment))
        try:
            subject.train(self.training, what="training")
        finally:
            subject.data = data
