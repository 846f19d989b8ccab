"""Builders that the tests of this room share: TFLite files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _beside(name: str) -> ModuleType:
    """The module of this name in this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(
        f"models_tests_{name}", Path(__file__).with_name(f"{name}.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tflite_writer() -> ModuleType:
    """tests/models/tflite_writer.py: a writer of TFLite files."""
    return _beside("tflite_writer")
