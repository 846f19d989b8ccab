"""What tests share: builders, the twins that they hold the rooms to, and real data beside the repository."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

_SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def builder() -> ModuleType:
    """tests/sim/builder.py: hand-made and random programs."""
    return importlib.import_module("builder")


@pytest.fixture(scope="session")
def stepped() -> ModuleType:
    """tests/sim/stepped.py: the cycle-by-cycle twin of the cycle model."""
    return importlib.import_module("stepped")


@pytest.fixture(scope="session")
def tangles() -> ModuleType:
    """tests/cross/tangles.py: graphs whose tensors are read, shuffled and concatenated at random."""
    return importlib.import_module("tangles")


@pytest.fixture(scope="session")
def tflite_writer() -> ModuleType:
    """tests/models/tflite_writer.py: a writer of TFLite files."""
    return importlib.import_module("tflite_writer")


@pytest.fixture(scope="session")
def unit_machines() -> ModuleType:
    """tests/rtl/units/unit_machines.py: the machines and sizes that the units' benches expect."""
    return importlib.import_module("unit_machines")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder ../shared/data beside the repository; skips where it is absent."""
    if not _SHARED.is_dir():
        pytest.skip("../shared/data is absent: real data and networks are not part of the repository")
    return _SHARED


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """The folder ../shared/reference beside the repository; skips where it is absent."""
    folder = _SHARED.parent / "reference"
    if not folder.is_dir():
        pytest.skip("../shared/reference is absent: published figures are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def dram_twin() -> ModuleType:
    """tests/sim/dram_twin.py: a cycle-by-cycle DRAM controller that keeps every command it ever gave."""
    return importlib.import_module("dram_twin")
