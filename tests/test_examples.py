import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / command[0]), *command[1:]],
        check=False, cwd=folder, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_machines_are_compared(tmp_path: Path) -> None:
    lines = _run(tmp_path, "compare_machines.py").splitlines()
    assert [line.split()[0] for line in lines] == ["core-large", "core-medium", "core-small"]


def test_a_core_is_sized_for_every_format(tmp_path: Path) -> None:
    out = _run(tmp_path, "size_a_core.py", "--small", "-o", "plot.svg")
    assert out.startswith("6 designs, ")
    latencies = [float(each) for each in re.findall(r"([\d.]+) ms", out)]
    assert latencies == sorted(latencies)
    assert (tmp_path / "plot.svg").read_text(encoding="utf-8").count("<svg") == 1


def test_the_sizing_example_is_short() -> None:
    assert len((EXAMPLES / "size_a_core.py").read_text(encoding="utf-8").splitlines()) < 80
