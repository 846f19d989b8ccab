import json
import subprocess
import sys
from pathlib import Path

import pytest
from bitwright.models.compress.methods import HARDWARE, METHODS
from bitwright.models.compress.recipe import SHIPPED, load_recipe
from bitwright.models.storage import load_network
from bitwright.reports.cli import main
from bitwright.reports.method_runs import run_method
from bitwright.reports.methods_document import document
from bitwright.reports.reversals import REVERSALS

FAST = """
[data_options]
train = 256
test = 100
[training]
epochs = 1
rate = 4e-3
batch = 64
[[pass]]
kind = "train"
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_compress_writes_a_network_and_its_record(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe, out = tmp_path / "fast.toml", tmp_path / "net.bw"
    recipe.write_text(FAST)

    code, text, err = run(
        capsys,
        "compress",
        "zoo:digits-mlp@1",
        "--recipe",
        str(recipe),
        "--data",
        "digits",
        "-o",
        str(out),
        "--json",
    )

    value = json.loads(text)
    assert code == 0 and "pass 1 of 1, train" in err
    assert value == json.loads(out.with_suffix(".json").read_text())
    assert [layer["name"] for layer in value["passes"][0]["layers"]] == ["fc1", "fc2", "fc3"]
    assert load_network(out).layer_macs("fc1") == 64 * 64
    assert value["compressed"]["payload_bytes"] == value["original"]["bytes"] == 4 * (6464 + 106)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fast.toml", "net.bw", "net.json"]


def test_the_rival_of_a_recipe_runs_in_its_stead(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe, out = tmp_path / "fast.toml", tmp_path / "net.bw"
    cut = '[[rival.pass]]\nkind = "prune.magnitude"\ndensity = 0.5\ntraining = { epochs = 0 }\n'
    recipe.write_text(FAST + '[rival]\ntitle = "half"\n[[rival.pass]]\nkind = "train"\n' + cut)

    code, text, _ = run(
        capsys, "compress", "zoo:digits-mlp@1", "--recipe", str(recipe), "--rival", "-o", str(out), "--json",
        "--data", "digits",
    )  # fmt: skip

    value = json.loads(text)
    assert code == 0 and value["rival"] is True
    assert [entry["name"] for entry in value["passes"]] == ["train", "prune.magnitude"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "melt"], "melt: no such recipe; there are "),
        (["--recipe", "{bad}"], "bad.toml: pass[0].kind must be one of "),
        (["--recipe", "plain", "--rival"], "--rival: recipe plain has none: leave the option out"),
        (
            ["--recipe", "{none}"],
            "pass[0] (train): train: the selector 'conv*' matches no layer; there are fc1",
        ),
        (["--recipe", "{fast}", "--data", "there.npz"], "there.npz: there is no such file"),
        (
            ["--recipe", "{fast}", "-o", "out.txt"],
            "-o out.txt: a compressed network's file has the suffix .bw",
        ),
        (["--recipe", "{fast}", "-o", "no/where.bw"], "-o no/where.bw: its folder does not exist"),
        (
            ["--recipe", "{much}"],
            "data digits: 1400 training and 0 validation images are asked for, it has 1347",
        ),
        (["--recipe", "{other}"], "--data says what to train on: digits, an .npz file or a folder"),
    ],
)
def test_bad_input_of_compress_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "fast.toml").write_text(FAST)
    (tmp_path / "bad.toml").write_text("[[pass]]\nkind = 'melt'")
    (tmp_path / "none.toml").write_text(FAST + "layers = ['conv*']\n")
    (tmp_path / "much.toml").write_text(FAST.replace("256", "1400"))
    (tmp_path / "other.toml").write_text("data = 'mnist'\n" + FAST)
    places = {name: str(tmp_path / f"{name}.toml") for name in ("fast", "bad", "none", "much", "other")}
    given = [argument.format(**places) for argument in arguments]
    if "-o" not in given:
        given += ["-o", str(tmp_path / "out.bw")]
    if "--data" not in given and "other" not in arguments[1]:
        given += ["--data", "digits"]

    code, out, err = run(capsys, "compress", "zoo:digits-mlp@1", *given)

    assert code == 2 and out == ""
    assert err.startswith("bitwright: ") and message in err and err.count("\n") == 1


def test_an_integer_network_is_not_compressed_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "fast.toml"
    recipe.write_text(FAST)

    code, _, err = run(
        capsys,
        "compress",
        "zoo:random-1",
        "--recipe",
        str(recipe),
        "--data",
        "digits",
        "-o",
        str(tmp_path / "o.bw"),
    )

    assert code == 2 and "zoo:random-1: is integer already; compress takes a float network" in err


@pytest.mark.slow
def test_a_killed_run_goes_on_at_its_last_pass(tmp_path: Path) -> None:
    recipe = tmp_path / "two.toml"
    recipe.write_text(FAST + '[[pass]]\nkind = "train"\ntraining = { epochs = 4000 }\n')
    out = tmp_path / "net.bw"
    command = [
        *(sys.executable, "-m", "bitwright.reports.cli", "compress", "zoo:digits-mlp@1"),
        *("--recipe", str(recipe), "--data", "digits", "-o", str(out)),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "pass 2 of 2" in line:
                break
        process.kill()
    assert [path.name[:2] for path in (tmp_path / "net.bw.passes").iterdir()] == ["01"]
    recipe.write_text(recipe.read_text().replace("epochs = 4000", "epochs = 1"))

    reply = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "1 of 2 passes were done by an earlier run" in reply.stderr and "pass 1 of 2" not in reply.stderr
    assert out.is_file() and not (tmp_path / "net.bw.passes").exists()


def test_methods_lists_every_row_of_the_survey(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "methods", "--json")

    rows = json.loads(out)
    numbers = {reference for row in rows for reference in row["references"]}
    # The survey's methods: pruning 15–28, quantisation 29–43, approximation 44–55, distillation and others.
    assert code == 0 and not set(range(15, 85)) - numbers
    assert {row["state"] for row in rows} <= {"works", "planned"}
    assert all(row["recipe"] in (None, row["name"]) and row["hardware"] in HARDWARE for row in rows)


def test_every_shipped_recipe_is_read_and_is_a_method(shipped: list[Path]) -> None:
    known = {method.recipe for method in METHODS} | {"plain", *REVERSALS}
    for path in shipped:
        recipe = load_recipe(path)
        assert recipe.name in known, path.name
        assert recipe.model is not None and recipe.data is not None, path.name


def test_a_method_that_works_has_a_quick_form(shipped: list[Path]) -> None:
    stems = {path.name for path in shipped}
    assert not [
        name for name in stems if ".quick" not in name and name.replace(".toml", ".quick.toml") not in stems
    ]


@pytest.fixture
def shipped() -> list[Path]:
    return sorted(SHIPPED.glob("*.toml"))


def test_the_document_has_a_row_for_each_result_and_names_what_is_missing(tmp_path: Path) -> None:
    row = run_method("plain.quick", {}, tmp_path)
    method = METHODS[3]

    text = document({method.recipe: row}, {METHODS[4].recipe: "no data"})

    assert f"| **{method.name}** | [17] | digits-mlp@1, digits | before | 26" in text
    assert f"- {METHODS[4].name} (18): no data" in text and f"- {METHODS[0].name} (LeCun): planned" in text
    assert row["method"]["cycles"] > 0
    assert "## Remarks" not in text
    told = document({method.recipe: {**row, "remark": "Loses on narrow layers."}}, {})
    assert f"- {method.name}: Loses on narrow layers." in told.split("## Remarks")[1]
    rivals = [{"title": title, **row["method"]} for title in ("by size", "at random")]
    lines = document({method.recipe: {**row, "rivals": rivals}}, {}).splitlines()
    beside = [line.split("|")[4].strip() for line in lines if line.startswith("| | | |")]
    assert beside == ["by size", "at random"]


def test_a_recipe_may_have_several_rivals(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    one = '[[rival]]\ntitle = "{}"\n[[rival.pass]]\nkind = "{}"\n'
    path.write_text(FAST + one.format("plain", "train") + one.format("shrunk", "shrink"))
    assert [(r.title, r.passes[0].name) for r in load_recipe(path).rivals] == [
        ("plain", "train"),
        ("shrunk", "shrink"),
    ]
    path.write_text(FAST + one.format("plain", "train") + one.format("shrunk", "melt"))
    with pytest.raises(ValueError, match=r"rival\[1\]\.pass\[0\]\.kind must be one of"):
        load_recipe(path)
