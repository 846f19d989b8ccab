"""A slice of the fuzz run (`make fuzz` has the rest), and the driver held to readers that misbehave."""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bitwright.models.storage import ImportModelError

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the driver's limits need Linux's /proc")


@pytest.fixture
def drive() -> ModuleType:
    return importlib.import_module("fuzz_drive")


def test_damaged_files_of_every_kind_are_read_or_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "fuzz_drive.py"), "--count", "42", "--keep", str(tmp_path)]
    reply = subprocess.run(command, capture_output=True, text=True, check=False)
    assert reply.returncode == 0, reply.stdout + reply.stderr
    assert "42 damaged files, 0 faults" in reply.stdout
    for kind in ("bw", "csv", "npz", "onnx", "pt2", "qonnx"):
        assert f"{kind}: " in reply.stdout


def _loops(path: Path) -> None:
    while True:
        pass


def _raises(fault: BaseException) -> None:
    raise fault


@pytest.mark.parametrize(
    ("name", "read", "found"),
    [
        ("good", lambda path: None, "read"),
        ("refused", lambda path: _raises(ImportModelError(f"{path}: no model")), "refused"),
        (
            "nameless",
            lambda path: _raises(ImportModelError("no model")),
            "a message that doesn't name the file",
        ),
        (
            "lines",
            lambda path: _raises(ImportModelError(f"{path}:\nno")),
            "a message of more than one plain line",
        ),
        ("plain", lambda path: _raises(ValueError(f"{path}: no")), "ValueError instead of ImportModelError"),
        ("broken", lambda path: _raises(IndexError("list index out of range")), "IndexError: list index"),
        ("exits", lambda path: os._exit(0), "crashes: it says nothing"),
        ("crashes", lambda path: os.kill(os.getpid(), signal.SIGTERM), "crashes: SIGTERM"),
        ("hangs", _loops, "hangs: ended after 1 s"),
        ("greedy", lambda path: np.ones(1 << 27), "MemoryError"),
    ],
)
def test_the_driver_sees_what_a_reader_does(
    drive: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, read: object, found: str
) -> None:
    monkeypatch.setattr(drive, "SECONDS", 1)
    verdict = drive.judge(Path(f"{name}.onnx"), read, memory=1 << 29)
    assert verdict.startswith(found), verdict


def test_damage_is_the_same_for_the_same_number(drive: ModuleType) -> None:
    from fuzz_damage import damage

    data = bytes(range(256)) * 4
    first, again, other = (damage(".tflite", data, np.random.default_rng(n)) for n in (1, 1, 2))
    assert first == again != other
