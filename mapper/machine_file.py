"""A machine's file: a preset's name or a TOML file → `Machine`, with settings of the command line on top."""

from __future__ import annotations

import dataclasses
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from .machine import ArraySpec, BufferSpec, BusSpec, Machine, MemoryTiming, PostSpec, QueueSpec

__all__ = [
    "build_machine",
    "load_machine",
    "override_machine",
    "parse_tables",
    "preset_names",
    "read_setting",
    "read_text",
]

_FILE_LIMIT = 1 << 20
"""Bytes of a machine's file at most."""

_SECTIONS: dict[str, type] = {
    "array": ArraySpec,
    "buffers": BufferSpec,
    "post": PostSpec,
    "bus": BusSpec,
    "queues": QueueSpec,
    "memory": MemoryTiming,
}


def _coerce(path: str, kind: Any, value: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == tuple[str, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{path} must be a list of strings, not {value!r}")
        return tuple(value)
    if isinstance(value, bool) or not isinstance(value, kind):
        came = type(value).__name__
        raise ValueError(f"{path} must be of type {kind.__name__}, not {came} ({value!r:.60})")
    return value


def _build(cls: type, prefix: str, table: Any) -> Any:
    if not isinstance(table, dict):
        raise ValueError(f"{prefix.rstrip('.')} must be a table of keys, not {table!r}")
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.name != "timing"}
    for key in table:
        if key not in fields:
            raise ValueError(f"unknown key {prefix}{key}; allowed: {', '.join(sorted(fields))}")
    values: dict[str, Any] = {}
    for key, spec in fields.items():
        if key not in table:
            required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
            if required:
                raise ValueError(f"missing key {prefix}{key}")
            continue
        if not prefix and key == "energy":
            values[key] = _prices(table[key])
        elif not prefix and key in _SECTIONS:
            values[key] = _build(_SECTIONS[key], f"{key}.", table[key])
        else:
            values[key] = _coerce(f"{prefix}{key}", hints[key], table[key])
    return cls(**values)


def _prices(table: Any) -> tuple[tuple[str, float], ...]:
    """The items and picojoules of a machine's `energy` table."""
    if not isinstance(table, dict):
        raise ValueError(f"energy must be a table of items and picojoules, not {table!r}")
    return tuple((item, _coerce(f"energy.{item}", float, value)) for item, value in sorted(table.items()))


def build_machine(tables: dict[str, Any]) -> Machine:
    """The core machine of a file's tables; ValueError names the path of the key at fault."""
    machine: Machine = _build(Machine, "", tables)
    return machine


def preset_names() -> list[str]:
    """Names of the core machines that ship with the package."""
    folder = resources.files("bitwright.mapper") / "presets"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


def read_text(path: str) -> str:
    """The text of a machine's file; ValueError names one that is no short UTF-8 text."""
    with Path(path).open("rb") as file:
        data = file.read(_FILE_LIMIT + 1)
    if len(data) > _FILE_LIMIT:
        raise ValueError(f"{path}: a machine's file must have at most {_FILE_LIMIT} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise ValueError(f"{path}: a machine's file must be UTF-8 text ({fault})") from None


def parse_tables(text: str) -> dict[str, Any]:
    """The tables of TOML text; ValueError (TOMLDecodeError is one) says what is wrong with it."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply; a machine has tables of plain keys") from None


def load_machine(source: str | Path) -> Machine:
    """The machine of a preset's name or of a TOML file.

    Raises:
        ValueError: naming the file and the path of the key at fault, or the known presets.
        OSError: the file can't be read.
    """
    text = str(source)
    if text in preset_names():
        content = (resources.files("bitwright.mapper") / "presets" / f"{text}.toml").read_text()
    elif text.endswith(".toml") or "/" in text:
        content = read_text(text)
    else:
        raise ValueError(
            f"unknown machine {text!r}; presets: {', '.join(preset_names())}; "
            "or give the path of a .toml file"
        )
    try:
        machine = build_machine(parse_tables(content))
    except ValueError as fault:
        raise ValueError(f"{text}: {fault}") from None
    return machine


def read_setting(setting: str) -> tuple[str, Any]:
    """(path of the key, value) of `section.key=value`, the value in TOML's notation.

    Raises:
        ValueError: it is none.
    """
    path, sign, text = setting.partition("=")
    if not sign:
        raise ValueError(f"--set takes section.key=value, not {setting!r}")
    try:
        parsed = parse_tables(f"v = {text}")
    except ValueError:
        parsed = {"v": text}  # a name without quotes
    if len(parsed) > 1:
        raise ValueError(f"--set takes one section.key=value, not {setting!r}")
    return path.strip(), parsed["v"]


def override_machine(machine: Machine, settings: list[str]) -> Machine:
    """The machine with `section.key=value` settings applied, each value in TOML's notation.

    Raises:
        ValueError: naming the setting at fault and what is allowed.
    """
    tables = machine.to_dict()
    for setting in settings:
        path, value = read_setting(setting)
        *sections, key = path.split(".")
        table: Any = tables
        for section in sections:
            table = table.get(section) if isinstance(table, dict) else None
        priced = table is tables["energy"]  # which items there are is the energy table's matter
        if not isinstance(table, dict) or (key not in table and not priced):
            allowed = sorted(
                f"{name}.{inner}" if isinstance(part, dict) else name
                for name, part in tables.items()
                for inner in (part if isinstance(part, dict) else [name])
            )
            raise ValueError(f"--set: unknown key {path!r}; allowed: {', '.join(allowed)}")
        table[key] = value
    rebuilt: Machine = _build(Machine, "", tables)
    return rebuilt
