"""Files of abstract machines: TOML tables in, a machine out, each fault with the path of its key."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from .hierarchy import DATAFLOWS, AbstractMachine, Axis, Level, PeMode
from .queues import Queues

__all__ = ["build_abstract"]

_DATAFLOW = "dataflow"


def build_abstract(tables: Mapping[str, Any]) -> AbstractMachine:
    """The abstract machine of a file's tables.

    `levels`, `array` and `pes` are tables of tables by name: levels from the innermost to DRAM, the axes of
    `array`, PE modes. `array.dataflow` (os, ws, is; mvu) gives its axes their loops.

    Raises:
        ValueError: an unknown, missing or wrong key; names its path.
    """
    hints = get_type_hints(AbstractMachine)
    plain = {f.name for f in dataclasses.fields(AbstractMachine)} - {
        "levels",
        "axes",
        "pes",
        "queues",
        _DATAFLOW,
    }
    allowed = sorted(plain | {"levels", "array", "pes", "queues"})
    for key in tables:
        if key not in allowed:
            raise ValueError(f"unknown key {key}; allowed: {', '.join(allowed)}")
    for key in ("name", "levels"):
        if key not in tables:
            raise ValueError(f"missing key {key}")
    values = {key: _value(key, hints[key], tables[key]) for key in plain & set(tables)}
    dataflow, axes = _axes(_table("array", tables.get("array", {})))
    levels = _table("levels", tables["levels"])
    values["levels"] = tuple(_part(Level, "levels", name, row) for name, row in levels.items())
    if "pes" in tables:
        modes = _table("pes", tables["pes"])
        values["pes"] = tuple(_part(PeMode, "pes", name, row) for name, row in modes.items())
    if "queues" in tables:
        values["queues"] = Queues(**_fields(Queues, "queues", tables["queues"]))
    return AbstractMachine(axes=axes, dataflow=dataflow, **values)


def _axes(array: Mapping[str, Any]) -> tuple[str, tuple[Axis, ...]]:
    """(dataflow, axes) of the table `array`."""
    rows = dict(array)
    dataflow = rows.pop(_DATAFLOW, "")
    loops: Mapping[str, tuple[str, ...]] = {}
    if dataflow:
        if dataflow not in DATAFLOWS:
            raise ValueError(f"array.dataflow must be one of {', '.join(DATAFLOWS)}, not {dataflow!r}")
        loops = DATAFLOWS[dataflow]
        for name in loops:
            if name not in rows:
                raise ValueError(
                    f"array.dataflow = {dataflow!r} gives loops to {' and '.join(loops)}; array.{name} is "
                    "missing"
                )
    axes = []
    for name, row in rows.items():
        given = {**_table(f"array.{name}", row)}
        if name in loops:
            given["loops"] = list(loops[name])
        axes.append(_part(Axis, "array", name, given))
    return dataflow, tuple(axes)


def _table(path: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{path} must be a table of keys, not {value!r:.60}")
    return value


def _part(cls: type, prefix: str, name: str, row: Any) -> Any:
    """A level, axis or mode of its table."""
    return cls(name=name, **_fields(cls, f"{prefix}.{name}", row))


def _fields(cls: type, path: str, row: Any) -> dict[str, Any]:
    """A table's values by the fields of its class, but `name`."""
    table = _table(path, row)
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.name != "name"}
    for key in table:
        if key not in fields:
            raise ValueError(f"unknown key {path}.{key}; allowed: {', '.join(sorted(fields))}")
    for key, field in fields.items():
        if field.default is dataclasses.MISSING and key not in table:
            raise ValueError(f"missing key {path}.{key}")
    return {key: _value(f"{path}.{key}", hints[key], value) for key, value in table.items()}


def _value(path: str, kind: Any, value: Any) -> Any:
    """A key's value as its field takes it."""
    if isinstance(kind, types.UnionType):
        kind = next(each for each in get_args(kind) if each is not type(None))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is float and isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{path} must be a number, not nan")
    if kind == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{path} must be a list of strings, not {value!r:.60}")
        return tuple(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(
            f"{path} must be of type {kind.__name__}, not {type(value).__name__} ({value!r:.60})"
        )
    return value
