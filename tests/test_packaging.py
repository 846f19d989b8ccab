"""The package as it is shipped: what is in the wheel, who imports whom, what the README promises."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("models", "mapper", "sim", "rtl", "explore", "reports")
MAY_IMPORT = {
    "models": {"models"},
    "mapper": {"mapper", "models"},
    "sim": {"sim", "models", "mapper"},
    "rtl": {"rtl", "models", "mapper"},
    "explore": set(ROOMS) - {"reports"},
    "reports": set(ROOMS),
}
ONLY_IN = {"torch": "models", "amaranth": "rtl", "dask": "explore", "distributed": "explore"}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def modules() -> list[Path]:
    return sorted(
        path.relative_to(ROOT)
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def imports(path: Path) -> set[str]:
    """Absolute dotted names that a module imports, its relative ones resolved to bitwright.…"""
    package = ["bitwright", *path.parent.parts]
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names.add(stem)
            names.update(f"{stem}.{alias.name}" for alias in node.names)
    return names


def test_the_listed_packages_are_the_tree() -> None:
    tree = {"bitwright." + ".".join(path.parent.parts) for path in modules()}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == tree


def test_every_package_has_an_init_file() -> None:
    bare = {path.parent for path in modules()} - {
        path.parent for path in modules() if path.name == "__init__.py"
    }
    assert not bare


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    wrong = [
        f"{path} imports {name}"
        for path in modules()
        if path.parts[0] == room
        for name in imports(path)
        if name.startswith("bitwright.") and name.split(".")[1] not in MAY_IMPORT[room]
    ]
    assert not wrong


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_heavy_library_stays_in_its_room(library: str) -> None:
    wrong = [
        f"{path} imports {name}"
        for path in modules()
        if path.parts[0] != ONLY_IN[library]
        for name in imports(path)
        if name.split(".")[0] == library
    ]
    assert not wrong


def test_only_jit_imports_numba() -> None:
    users = [str(p) for p in modules() if any(n.split(".")[0] == "numba" for n in imports(p))]
    assert users == [str(Path("models/jit.py"))]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_a_package_with_a_file(room: str) -> None:
    # A cache left behind in site-packages would make it a namespace whose __init__ never runs.
    assert importlib.import_module(f"bitwright.{room}").__file__ is not None


def test_the_installed_version_is_the_projects() -> None:
    assert importlib.metadata.version("bitwright") == PROJECT["project"]["version"]


def test_no_registry_host_or_machine_path_is_in_the_build_files() -> None:
    for name in ("pyproject.toml", "constraints.txt", "Makefile", ".ci/run", "README.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"index-url|find-links|file://|/home/|/work/|/tmp/|/opt/", text), name


def test_the_wheel_holds_every_module_and_data_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    files = {
        "bitwright/" + path.relative_to(source).as_posix()
        for room in ROOMS
        for path in (source / room).rglob("*")
        if path.is_file()
    }
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    reply = subprocess.run(
        [*command, "-w", str(tmp_path), str(source)], capture_output=True, text=True, check=False
    )
    assert reply.returncode == 0, reply.stderr
    (wheel,) = tmp_path.glob("bitwright-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = archive.read(
            next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        ).decode()
    assert packed == files
    assert "bitwright = bitwright.reports.cli:main" in entry_points


def readme_commands() -> list[list[str]]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\s*(?:\$ )?(?:\.venv/bin/)?bitwright (.+)$", text, re.MULTILINE)
    return [line.partition("#")[0].split() for line in lines]


def test_the_readme_shows_every_verb() -> None:
    from bitwright.reports.cli import app

    verbs = {
        command.name or command.callback.__name__
        for command in app.registered_commands
        if command.callback is not None
    }
    assert {command[0] for command in readme_commands()} == verbs


@pytest.mark.parametrize("command", readme_commands(), ids=" ".join)
def test_a_readme_command_has_only_options_that_exist(command: list[str]) -> None:
    from bitwright.reports.cli import main

    options = [word for word in command[1:] if word.startswith("-")]
    reply = subprocess.run(
        [sys.executable, "-m", "bitwright.reports.cli", command[0], "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert callable(main)
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", reply.stdout))
    assert set(options) <= known
