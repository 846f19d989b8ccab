"""A table as the verbs print it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.table import Table

__all__ = ["plain", "table"]


def plain(text: object) -> str:
    """A cell's text; names from model files may hold what a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\N{NO-BREAK SPACE}" else "?" for c in str(text))


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[Any]],
    text: Iterable[int] = (0,),
    title: str | None = None,
) -> Table:
    """A table whose columns hold numbers, but for those in `text`."""
    headed = any(heads)
    made = Table(
        box=box.SIMPLE_HEAD if headed else None,
        show_header=headed,
        title=title,
        title_justify="left",
        pad_edge=False,
    )
    columns = set(text)
    for number, head in enumerate(heads):
        made.add_column(head, justify="left" if number in columns else "right")
    for row in rows:
        made.add_row(*(plain(cell) for cell in row))
    return made
