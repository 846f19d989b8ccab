import sys
import threading
from pathlib import Path

import pytest
from bitwright.rtl import toolchain
from bitwright.rtl.toolchain import ToolError, one_at_a_time, prepare_wasm


def test_of_many_that_want_the_same_one_makes_it(tmp_path: Path) -> None:
    kept, made = tmp_path / "thing", []

    def ask() -> None:
        with one_at_a_time(kept):
            if not kept.exists():
                made.append(1)
                kept.write_text("made")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["thing"]


def test_one_that_fails_lets_the_next_try(tmp_path: Path) -> None:
    for _ in range(2):
        try:
            with one_at_a_time(tmp_path / "thing"):
                raise RuntimeError
        except RuntimeError:
            continue
    with one_at_a_time(tmp_path / "thing"):
        pass
    assert not list(tmp_path.iterdir())


def _write_line(path: Path) -> list[str]:
    """A command that adds a line to a file."""
    return [sys.executable, "-c", f"open({str(path)!r}, 'a').write('started\\n')"]


def test_of_many_that_want_a_tool_compiled_one_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITWRIGHT_CACHE", str(tmp_path / "cache"))
    starts = tmp_path / "starts"
    threads = [
        threading.Thread(target=prepare_wasm, args=("amaranth", _write_line(starts))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    prepare_wasm("amaranth", _write_line(starts))
    assert starts.read_text() == "started\n"


def test_a_tool_that_fails_to_start_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITWRIGHT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ToolError, match="failed with exit code 3"):
        prepare_wasm("amaranth", [sys.executable, "-c", "raise SystemExit(3)"])
    starts = tmp_path / "starts"
    prepare_wasm("amaranth", _write_line(starts))
    assert starts.exists()


def test_a_tool_that_is_not_installed_is_not_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(toolchain, "_WHEELS", {"no-such-tool": "no_such_tool"})
    prepare_wasm("no-such-tool", _write_line(tmp_path / "starts"))
    assert not list(tmp_path.iterdir())
