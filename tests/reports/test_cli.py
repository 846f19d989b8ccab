import json
import subprocess
import sys
from pathlib import Path

import pytest
from bitwright.reports.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    heavy = "numpy numba torch amaranth matplotlib jinja2 rich sklearn pyosys"
    code = (
        "import sys; import bitwright.reports.cli; "
        f"print([name for name in {heavy.split()!r} if name in sys.modules])"
    )
    reply = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert reply.stdout.strip() == "[]"


def test_no_verb_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert "simulate" in out


def test_machines_lists_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "machines", "--json")
    names = [row["name"] for row in json.loads(out)["machines"]]
    assert code == 0
    assert names == ["core-large", "core-medium", "core-small"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "net.onnx"], "net.onnx: .onnx is not supported yet; MODEL is a .bw file or zoo:"),
        (["info", "zoo:nothing"], "zoo:nothing: no such network in the zoo; there are zoo:"),
        (["info", "missing.bw"], "missing.bw"),
        (["frob"], "No such command 'frob'."),
        (["simulate", "zoo:random-1", "--machine", "none"], "unknown machine 'none'; presets: core"),
        (
            ["simulate", "zoo:random-1", "--machine", "core-small", "--set", "array.rows=3"],
            "array.rows must be a power of two, not 3",
        ),
        (["verify"], "verify takes MODEL and --machine, or --random N"),
        (["verify", "zoo:random-1", "--random", "2"], "give it no MODEL"),
        (["report", "missing.json"], "missing.json: No such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_an_interrupt_is_code_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(spec: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bitwright.reports.inputs.load_model", interrupted)
    assert run(capsys, "info", "zoo:random-1")[0] == 130


def test_a_damaged_network_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "broken.bw"
    path.write_bytes(b"nothing of ours")
    code, _, err = run(capsys, "info", str(path))
    assert code == 2
    assert str(path) in err
    assert err.count("\n") == 1
