"""Builders that the tests of this room share: random tangled networks, and TFLite files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def tangles() -> ModuleType:
    """tests/cross/tangles.py: graphs whose tensors are read, shuffled and concatenated at random."""
    spec = importlib.util.spec_from_file_location(
        "cross_tests_tangles", Path(__file__).with_name("tangles.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tflite_writer() -> ModuleType:
    """tests/models/tflite_writer.py: a writer of TFLite files."""
    path = Path(__file__).parents[1] / "models" / "tflite_writer.py"
    spec = importlib.util.spec_from_file_location("cross_tests_tflite_writer", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
