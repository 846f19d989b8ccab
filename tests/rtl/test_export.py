"""An exported folder: complete, honest, and alive without Python."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine import MemoryTiming
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.mapper.program import Program
from bitwright.models.reference import run_reference
from bitwright.models.zoo import random_network
from bitwright.rtl.export import export_rtl
from bitwright.rtl.memory_image import read_dump
from bitwright.rtl.runner import RtlCase, RtlRun, run_cpp
from bitwright.rtl.toolchain import verilator_command, verilator_environment

MEMORY = MemoryTiming(read_latency=11, stall_rate=30, seed=4)


@pytest.fixture(scope="module")
def case() -> dict[str, Any]:
    network = random_network(2)
    program = map_network(network, load_machine("core-small"))
    rng = np.random.default_rng(3)
    x = rng.integers(-128, 128, program.input_shape).astype(np.int8)
    return {"program": program, "x": x, "output": run_reference(network, x[np.newaxis])[0]}


def export(case: dict[str, Any], folder: Path, cycles: int = 7, **changes: Any) -> list[Path]:
    arguments = {
        "expected_output": case["output"],
        "expected_cycles": cycles,
        "expected_read_bytes": 8,
        "expected_write_bytes": 9,
        "folder": folder,
        "memory": MEMORY,
    }
    return export_rtl(case["program"], case["x"], **(arguments | changes))


def test_a_memory_that_is_not_the_machines_is_told_in_the_folder(
    case: dict[str, Any], tmp_path: Path
) -> None:
    machine = override_machine(load_machine("core-small"), ["memory.dram=DDR4-2400"])
    program = map_network(random_network(2), machine)
    export({**case, "program": program}, tmp_path / "dram")
    export(case, tmp_path / "plain", memory=None)
    told = [(tmp_path / name / "README.md").read_text() for name in ("dram", "plain")]
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("dram", "plain")]
    assert "The machine's memory is a DDR4-2400. The bench here is a plain memory" in told[0]
    assert "DDR4-2400" not in told[1]
    assert [manifest["memory_is_the_machines"] for manifest in manifests] == [False, True]


def test_the_folder_holds_every_file_that_its_manifest_and_makefile_name(
    case: dict[str, Any], tmp_path: Path
) -> None:
    files = export(case, tmp_path / "new" / "out")
    manifest = json.loads((tmp_path / "new" / "out" / "manifest.json").read_text())
    assert {path.name for path in files} == {*manifest["sha256"], "manifest.json"}
    for name, digest in manifest["sha256"].items():
        content = (tmp_path / "new" / "out" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
    assert os.listdir(tmp_path / "new") == ["out"]
    assert "@" not in (tmp_path / "new" / "out" / "Makefile").read_text().replace("\t@", "")


def test_the_manifest_tells_where_the_tensors_lie(case: dict[str, Any], tmp_path: Path) -> None:
    export(case, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    program: Program = case["program"]
    bus_bytes = program.machine.bus_bytes
    image = read_dump(tmp_path / "out" / "image.hex", bus_bytes)
    base, place = manifest["base"], manifest["input"]
    start = place["address"] - base
    stored = np.frombuffer(image[start : start + place["size"]], np.int8)
    # HWC in memory, (C, H, W) in the tensor.
    c, h, w = place["shape"]
    np.testing.assert_array_equal(stored.reshape(h, w, c).transpose(2, 0, 1), case["x"])
    assert manifest["expected"] == {"cycles": 7, "read_bytes": 8, "write_bytes": 9}
    assert manifest["machine_digest"] == program.machine.digest()
    assert manifest["memory"]["read_latency"] == 11


def test_an_earlier_export_is_replaced_whole(case: dict[str, Any], tmp_path: Path) -> None:
    export(case, tmp_path / "out")
    (tmp_path / "out" / "stale.txt").write_text("from before")
    export(case, tmp_path / "out", cycles=8)
    assert not (tmp_path / "out" / "stale.txt").exists()
    assert "expected_cycles 8\n" in (tmp_path / "out" / "case.txt").read_text()
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_with_other_things_in_it_is_left_alone(case: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path} exists and is no earlier export")):
        export(case, tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_wrong_expected_output_is_refused(case: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected_output must be integers of shape"):
        export(case, tmp_path / "out", expected_output=np.zeros(3, np.int8))
    with pytest.raises(ValueError, match="expected_output must be from -128 to 127"):
        export(case, tmp_path / "out", expected_output=case["output"].astype(int) * 0 + 128)
    assert os.listdir(tmp_path) == []


def make(folder: Path) -> tuple[int, str]:
    command = ["make", f"VERILATOR={verilator_command()[0]}", "run"]
    environment = {**verilator_environment(), "PYTHONPATH": "", "PYTHONHOME": ""}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.slow
def test_make_run_passes_and_tells_a_wrong_byte_and_a_wrong_cycle(
    case: dict[str, Any], tmp_path: Path
) -> None:
    rtl: RtlRun = run_cpp(
        case["program"].machine, RtlCase(program=case["program"], x=case["x"], memory=MEMORY)
    )
    folder = tmp_path / "out"
    figures = {
        "expected_cycles": rtl.cycles,
        "expected_read_bytes": rtl.read_bytes,
        "expected_write_bytes": rtl.write_bytes,
    }
    export_rtl(
        case["program"],
        case["x"],
        expected_output=case["output"],
        folder=folder,
        memory=MEMORY,
        **figures,
    )
    code, log = make(folder)
    assert (code, f"cycles {rtl.cycles}\n" in log, "PASS" in log) == (0, True, True), log

    settings = folder / "case.txt"
    settings.write_text(
        settings.read_text().replace(f"expected_cycles {rtl.cycles}", f"expected_cycles {rtl.cycles + 1}")
    )
    expected = folder / "expected.hex"
    words = expected.read_text()
    expected.write_text(words[:5] + ("0" if words[5] != "0" else "1") + words[6:])
    code, log = make(folder)
    assert code != 0
    assert f"FAIL: expected_cycles {rtl.cycles + 1}, got {rtl.cycles}" in log
    assert "FAIL: the output differs from word 0 on" in log
