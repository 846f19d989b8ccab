"""The HTML report: results in, one self-contained page out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from .doctor import version

__all__ = ["Figure", "Heading", "Page", "Pairs", "Section", "Table", "Text", "render"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading within a section."""

    text: str
    kind: str = "heading"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; its first column names the rows."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    foot: Sequence[str] | None = None
    caption: str | None = None
    text: frozenset[int] = frozenset({0})
    """Columns of words, set to the left; all others are numbers."""
    kind: str = "table"

    @property
    def numbers(self) -> frozenset[int]:
        """Columns of numbers, set to the right."""
        return frozenset(range(len(self.heads))) - self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart: one `<svg>` element, taken as it is."""

    svg: str
    caption: str = ""
    kind: str = "figure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Names and values, one a line."""

    pairs: Sequence[tuple[str, str]]
    kind: str = "pairs"


Block = Text | Heading | Table | Figure | Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled part of the page."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the template shows, from top to bottom."""

    title: str
    subtitle: str
    verdict: Mapping[str, Any] | None
    """`good` (bool) and `text`, or None when nothing was verified."""
    facts: Sequence[Mapping[str, str]]
    """`label`, `value` and `note` of the figures that stand first."""
    sections: Sequence[Section]
    version: str = field(default_factory=version)


def render(page: Page) -> str:
    """The page as HTML: styles and charts inside, nothing loaded from elsewhere.

    All text is escaped, names of networks and machines included; only charts are taken as they are.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    source = (resources.files("bitwright.reports") / "templates" / "report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["chart"] = Markup
    return environment.from_string(source).render(page=page)
