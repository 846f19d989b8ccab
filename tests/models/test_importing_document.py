"""docs/importing.md lists what the importers accept, no more and no less."""

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def document(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("importing_document")


def test_the_documents_tables_are_the_importers(document: ModuleType) -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert text == document.with_tables(text), "run python tests/models/importing_document.py"


def test_every_operator_that_a_graph_may_hold_is_listed(document: ModuleType) -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    missing = [op for op in document.EVALUATED if not re.search(rf"`{op}`", text)]
    assert not missing


def test_every_operator_with_a_hardware_path_can_be_evaluated_too(document: ModuleType) -> None:
    """So what the core runs has a float twin, and what it can't take the host can."""
    assert set(document.quantised.OPERATORS) <= set(document.EVALUATED)
