"""Plain training as a pass: for a network that comes without weights, or to recover between passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .passes import Pass
from .subject import Subject

__all__ = ["Train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(Pass):
    """Trains all that isn't coded; cut weights stay cut."""

    name: ClassVar[str] = "train"

    def apply(self, subject: Subject) -> None:
        """Nothing; trains as `training` says."""
        subject.train(self.training, what="training")
