"""Builders that the tests of this room share: ONNX files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def onnx_nets() -> ModuleType:
    """tests/models/onnx_nets.py: ONNX files written node by node."""
    spec = importlib.util.spec_from_file_location(
        "models_tests_onnx_nets", Path(__file__).with_name("onnx_nets.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
