"""Any machine by what people call it: a core machine or an abstract one, a preset or a file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from .hierarchy import DATAFLOWS, AbstractMachine
from .hierarchy_file import build_abstract
from .machine import Machine
from .machine_file import build_machine, parse_tables, preset_names, read_setting, read_text

__all__ = ["abstract_names", "load_any", "override_any"]


def abstract_names() -> list[str]:
    """Names of the abstract machines that ship with the package."""
    return sorted(p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml"))


def _folder() -> Any:
    return resources.files("bitwright.mapper") / "presets" / "abstract"


def load_any(source: str | Path) -> Machine | AbstractMachine:
    """The machine of a preset's name or of a TOML file; `template` is core (where it has none) or abstract.

    Raises:
        ValueError: naming the file and the path of the key at fault, or the known presets.
        OSError: the file can't be read.
    """
    text = str(source)
    if text in preset_names():
        content = (resources.files("bitwright.mapper") / "presets" / f"{text}.toml").read_text("utf-8")
    elif text in abstract_names():
        content = (_folder() / f"{text}.toml").read_text("utf-8")
    elif text.endswith(".toml") or "/" in text:
        content = read_text(text)
    else:
        known = ", ".join([*preset_names(), *abstract_names()])
        raise ValueError(f"unknown machine {text!r}; presets: {known}; or give the path of a .toml file")
    try:
        tables = parse_tables(content)
        return build_abstract(tables) if tables.get("template") == "abstract" else build_machine(tables)
    except ValueError as fault:
        raise ValueError(f"{text}: {fault}") from None


def override_any(machine: AbstractMachine, settings: list[str]) -> AbstractMachine:
    """An abstract machine with `section.key=value` settings applied, each value in TOML's notation.

    Keys that the machine's file leaves out may be given, too. `array.NAME=N` sets an axis' size.

    Raises:
        ValueError: naming the setting at fault and what is allowed.
    """
    tables = machine.to_dict()
    for setting in settings:
        path, value = read_setting(setting)
        *sections, key = path.split(".")
        table: Any = tables
        for number, section in enumerate(sections):
            if not isinstance(table.get(section), dict):
                owner = ".".join(sections[:number]) or machine.name
                raise ValueError(f"--set: unknown key {path!r}: {owner} has {', '.join(table)}")
            table = table[section]
        if isinstance(table.get(key), dict):
            if sections != ["array"]:
                raise ValueError(f"--set: {path!r} is a table; it has {', '.join(table[key])}")
            table, key = table[key], "size"
        table[key] = value
    for name in DATAFLOWS.get(tables["array"].get("dataflow", ""), ()):
        if isinstance(tables["array"].get(name), dict):
            tables["array"][name].pop("loops", None)
    return build_abstract(tables)
