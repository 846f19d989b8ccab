"""docs/importing.md lists what the importers accept, no more and no less."""

import re

import importing_document as document


def test_the_documents_tables_are_the_importers() -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert text == document.with_tables(text), "run python tests/models/importing_document.py"


def test_every_operator_that_a_graph_may_hold_is_listed() -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    missing = [op for op in document.EVALUATED if not re.search(rf"`{op}`", text)]
    assert not missing


def test_every_operator_with_a_hardware_path_can_be_evaluated_too() -> None:
    """So what the core runs has a float twin, and what it can't take the host can."""
    assert set(document.quantised.OPERATORS) <= set(document.EVALUATED)
