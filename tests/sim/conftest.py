"""Builders that the tests of this room share: machines, random programs, the stepped twin."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _load(name: str) -> ModuleType:
    known = sys.modules.get(f"sim_tests_{name}")
    if known is not None:
        return known
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"sim_tests_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def builder() -> ModuleType:
    """tests/sim/builder.py: hand-made and random programs."""
    return _load("builder")


@pytest.fixture(scope="session")
def stepped() -> ModuleType:
    """tests/sim/stepped.py: the cycle-by-cycle twin of the cycle model."""
    return _load("stepped")
