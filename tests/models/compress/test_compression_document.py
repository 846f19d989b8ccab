import dataclasses
import importlib
import re
from pathlib import Path

import pytest
from bitwright.models.compress.passes import PASSES

DOCUMENT = Path(__file__).parents[3] / "docs" / "compression.md"


def table() -> dict[str, set[str]]:
    """The passes and their keys, as the document has them."""
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = text.split("<!-- table passes -->")[1].split("<!-- end passes -->")[0]
    cells = [line.split(" | ") for line in rows.splitlines() if line.startswith("| `")]
    return {row[0].strip("| `"): set(re.findall(r"`(\w+)`", row[1])) for row in cells}


def test_the_document_lists_every_pass() -> None:
    assert set(table()) == set(PASSES)


@pytest.mark.parametrize("name", sorted(PASSES))
def test_the_document_lists_a_pass_with_its_keys(name: str) -> None:
    module, _, kind = PASSES[name].partition(":")
    found = getattr(importlib.import_module(f"bitwright.models.compress.{module}"), kind)

    keys = {field.name for field in dataclasses.fields(found)} - {"layers", "training"}

    assert table()[name] == keys and found.name == name
