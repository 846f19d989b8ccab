"""The forms in which a network is trained and compared: the formats of hidden weights and activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .formats import Format, FormatKind

__all__ = ["FORMS", "Form"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Formats of the layers between the first and the last; those two keep int8 weights and see int8.

    What leaves the last hidden layer is int8 as well, since an int8 layer follows.
    """

    name: str
    weights: Format
    """Of the hidden layers: int8, ternary or binary."""
    activations: Format
    """Between the first layer and the last hidden one: int8, ternary or binary."""

    @property
    def pad_value(self) -> int | None:
        """The stored value that padding inserts into hidden activations, None for the one of a real 0.

        Binary has no 0: −1 stands in, "no feature found", as a ReLU's 0 does in the int8 form.
        """
        return -1 if self.activations.kind == FormatKind.BINARY else None


def _form(name: str, weights: str, activations: str) -> tuple[str, Form]:
    return name, Form(name=name, weights=Format.parse(weights), activations=Format.parse(activations))


FORMS: Mapping[str, Form] = MappingProxyType(
    dict(
        (
            _form("int8", "int8", "int8"),
            _form("ternary_int8", "ternary", "int8"),
            _form("ternary", "ternary", "ternary"),
            _form("binary_int8", "binary", "int8"),
            _form("binary", "binary", "binary"),
        )
    )
)
"""Every form by name, in the order in which they are trained; a name is that of the form's PE kind."""
