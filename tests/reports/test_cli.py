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
    assert names[:3] == ["core-large", "core-medium", "core-small"]
    assert names[3:] == ["eie-like", "eyeriss-like", "finn-mvu", "nvdla-like", "systolic", "tpu-like"]


def test_a_systolic_array_runs_a_topology(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "net.csv"
    path.write_text("Layer, IH, IW, FH, FW, C, N, S,\nconv, 8, 8, 3, 3, 2, 5, 1,\n", encoding="utf-8")
    arguments = ["simulate", str(path), "--machine", "systolic", "--set", "array.rows=4", "--json"]
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    value = json.loads(out)
    # 36 pixels in 9 folds of 4 rows; a fold takes 18 products and 4 + 32 − 2 cycles to fill and drain.
    assert value["total"]["cycles"] == 9 * (18 + 34)
    assert value["total"]["macs"] == 36 * 18 * 5
    assert (value["dataflow"], value["fidelity"]) == ("os", "modelled")
    _, stepped, _ = run(capsys, *arguments, "--stepped")
    assert json.loads(stepped)["layers"][0]["ports"] == value["layers"][0]["ports"]
    _, odd, _ = run(capsys, *arguments, "--compat", "scalesim")
    assert json.loads(odd)["total"]["cycles"] == value["total"]["cycles"] - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "net.h5"], "net.h5: .h5 is not read; MODEL is zoo:NAME or a file that ends in .bw, .onnx"),
        (["info", "missing.onnx"], "missing.onnx"),
        (
            ["simulate", "zoo:lenet5", "--machine", "tpu-like", "--stepped"],
            "machine tpu-like is no systolic array: --compat and --stepped are of machines with array.data",
        ),
        (
            ["simulate", "zoo:lenet5", "--machine", "systolic", "--compat", "x"],
            "--compat must be one of none, scalesim, not 'x'",
        ),
        (
            ["simulate", "zoo:lenet5", "--machine", "core-small", "--bits", "4"],
            "--bits is of abstract machines: leave it out for a core",
        ),
        (["info", "zoo:alexnet@x"], "zoo:alexnet@x: after @ comes the seed of the weights"),
        (["info", "zoo:random-1", "--ranges"], "info takes --ranges together with --data FILE, or neither"),
        (["verify", "zoo:random-1", "--scale", "2"], "prepare images: give --data FILE too"),
        (["info", "zoo:random-1", "--std", "2"], "prepare images: give --data FILE too"),
        (["simulate", "zoo:lenet5", "--machine", "core-small"], "lenet5: no layer of it runs on a core (its"),
        (["info", "zoo:nothing"], "zoo:nothing: no such network in the zoo; there are zoo:"),
        (["info", "missing.bw"], "missing.bw"),
        (["frob"], "No such command 'frob'."),
        (["simulate", "zoo:random-1", "--machine", "none"], "unknown machine 'none'; presets: core"),
        (
            ["simulate", "zoo:random-1", "--machine", "core-small", "--set", "array.rows=3"],
            "array.rows must be a power of two, not 3",
        ),
        (["verify"], "verify takes MODEL and --machine, MODEL and --against, or --random N"),
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


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("latin.toml", b"name = 'caf\xe9'", "must be UTF-8 text"),
        ("deep.toml", b"x = " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        ("long.toml", b"#" * ((1 << 20) + 1), "at most 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_machine_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, data: bytes, fault: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    code, _, err = run(capsys, "map", "zoo:random-1", "--machine", str(path))
    assert code == 2
    assert f"{path}: " in err and fault in err
    assert err.count("\n") == 1


def test_a_usage_error_says_where_the_help_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert "See `bitwright info --help`." in run(capsys, "info")[2]


def test_a_message_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    err = run(capsys, "map", "zoo:random-1", "--machine", "a\x1b[31m.toml")[2]
    assert err == "bitwright: a?[31m.toml: No such file or directory\n"


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("array.rows=4\narray.cols=3", "one section.key=value"),
        ("array.rows=" + "[" * 5000, "array.rows must be of type int, not str"),
    ],
)
def test_a_setting_is_one_plain_value(capsys: pytest.CaptureFixture[str], setting: str, fault: str) -> None:
    code, _, err = run(capsys, "map", "zoo:random-1", "--machine", "core-small", "--set", setting)
    assert code == 2
    assert fault in err
    assert len(err) < 300


def test_an_interrupt_is_code_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(spec: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bitwright.models.importers.load.load_model", interrupted)
    code, _, err = run(capsys, "info", "zoo:random-1")
    assert (code, err) == (130, "bitwright: interrupted\n")


def test_a_damaged_network_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "broken.bw"
    path.write_bytes(b"nothing of ours")
    code, _, err = run(capsys, "info", str(path))
    assert code == 2
    assert str(path) in err
    assert err.count("\n") == 1


def test_a_plan_keeps_small_tensors_on_chip(capsys: pytest.CaptureFixture[str]) -> None:
    # LeNet-300-100: 300 and 100 values of a byte between its layers, each written and read once.
    code, out, _ = run(
        capsys, "map", "zoo:lenet300", "--machine", "tpu-like", "--objective", "energy", "--plan", "--json"
    )
    assert code == 0
    value = json.loads(out)
    assert [row["bytes"] for row in value["kept"]] == [300, 100]
    before, after = value["planned"]["before"], value["planned"]["after"]
    assert before["dram_read_bytes"] - after["dram_read_bytes"] == 400
    assert before["dram_write_bytes"] - after["dram_write_bytes"] == 400
    assert value["planned"]["optimal"]
    assert value["memory"]["peak_bytes"] == 832  # of 784, to a multiple of 64; dead before the results come


def test_a_core_machine_takes_no_plan(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "map", "zoo:lenet5", "--machine", "core-small", "--plan")
    assert code == 2
    assert "--plan is of abstract machines: leave it out for a core" in err


def test_the_command_line_runs_kernels_without_scipy_and_leaves_it_importable() -> None:
    code = (
        "import sys; from bitwright.reports.cli import main; "
        "code = main(['simulate', 'zoo:random-1', '--machine', 'core-small', '--json']); "
        "assert 'numba.np.arraymath' in sys.modules and 'scipy.linalg' not in sys.modules; "
        "import scipy.linalg; assert scipy.linalg.cython_blas; sys.exit(code)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
