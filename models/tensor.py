"""The tensors between layers: names, shapes and formats."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass

from .formats import Format, FormatKind

__all__ = ["NAME", "Tensor", "check_name"]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
"""What networks, tensors and layers may be called."""

_ELEMENTS = 1 << 26
"""The most values one tensor may have."""


def check_name(what: str, name: object) -> None:
    """Nothing; ValueError where `name` isn't one that networks, tensors and layers may have."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"{what} must be letters, digits, '_', '.' or '-', starting with a letter or '_', at "
            f"most 128 long, not {name!r:.140}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor between layers, one image's worth: real value = scale · (stored − zero point).

    Raises:
        ValueError: a shape, scale or zero point out of range; names the tensor.
    """

    name: str
    shape: tuple[int, ...]
    """(C, H, W) or (N,)."""
    fmt: Format
    scale: float | None = None
    """None where nobody has said what a step is worth."""
    zero_point: int = 0

    def __post_init__(self) -> None:
        check_name("a tensor's name", self.name)
        try:
            shape = tuple(operator.index(n) for n in self.shape)
        except TypeError:
            shape = ()
        if len(shape) not in (1, 3) or min(shape) < 1 or math.prod(shape) > _ELEMENTS:
            raise ValueError(
                f"tensor {self.name}: shape must be (C, H, W) or (N,), each at least 1 and at most "
                f"2^26 in all, not {self.shape!r}"
            )
        object.__setattr__(self, "shape", shape)
        if self.fmt.kind == FormatKind.CODEBOOK:
            raise ValueError(f"tensor {self.name}: a codebook is for weights, not for tensors")
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"tensor {self.name}: scale must be finite and above 0, not {self.scale}")
        zero_point = operator.index(self.zero_point)
        object.__setattr__(self, "zero_point", zero_point)
        if not self.fmt.min <= zero_point <= self.fmt.max:
            raise ValueError(
                f"tensor {self.name}: zero_point must be from {self.fmt.min} to {self.fmt.max} for "
                f"{self.fmt.name}, not {zero_point}"
            )
