"""Recipes: TOML files that say which passes make a network small, in order, and how they train."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .datasets import DataOptions
from .passes import Pass, from_table, make_pass
from .training import TrainingOptions

__all__ = ["SHIPPED", "Recipe", "Rival", "load_recipe"]

SHIPPED = Path(__file__).parent / "recipes"
"""The folder of recipes that come with the package."""
_KEYS = (
    "name",
    "remark",
    "references",
    "model",
    "data",
    "seed",
    "data_options",
    "training",
    "activations",
    "pass",
    "rival",
)
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """Passes that reach the same budget in the plainest other way: what a recipe's result stands beside."""

    title: str
    passes: tuple[Pass, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a file asks for."""

    name: str
    references: tuple[int, ...]
    """The survey's numbers."""
    model: str | None
    """What it is shown on; a command line may name another."""
    data: str | None
    """digits, or what `make methods` finds it under: mnist, cifar10, spoken-digits."""
    seed: int
    data_options: DataOptions
    training: TrainingOptions
    activations: str
    """Format of activations in the integer network; int8, the only one that any network may have."""
    passes: tuple[Pass, ...]
    tables: tuple[Mapping[str, Any], ...]
    """Of the passes, as they stand in the file."""
    rivals: tuple[Rival, ...] = ()
    """What its result stands beside: one table `rival`, or several."""
    remark: str = ""
    """What a reader of the result should know, one or two sentences."""

    def key(self, count: int) -> str:
        """What tells the first `count` passes and all they depend on from others: a hash, hexadecimal."""
        text = json.dumps(
            [
                self.seed,
                repr(self.data_options),
                repr(self.training),
                [repr(step) for step in self.passes[:count]],
                [step.name for step in self.passes[:count]],
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()


def load_recipe(path: str | Path) -> Recipe:
    """The recipe of a file; a bare name is one that comes with the package.

    Raises:
        ValueError: no such recipe, no TOML, an unknown key or pass, or a value that can't be; one line with
            the file and the key's path.
        OSError: the file can't be read.
    """
    source = Path(path)
    if source.suffix != ".toml" and not source.exists():
        shipped = SHIPPED / f"{path}.toml"
        if not shipped.is_file():
            known = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.toml") if ".quick" not in p.name))
            raise ValueError(f"{path}: no such recipe; there are {known}, or give a file that ends in .toml")
        source = shipped
    with source.open("rb") as file:
        text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise ValueError(f"{source}: a recipe has at most {_MOST_BYTES} bytes")
    try:
        return _parsed(tomllib.loads(text.decode()), source.name.removesuffix(".toml"))
    except tomllib.TOMLDecodeError as fault:
        raise ValueError(f"{source}: not TOML: {fault}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{source}: not TOML: it must be UTF-8") from None
    except ValueError as fault:
        raise ValueError(f"{source}: {fault}") from None


def _parsed(table: Mapping[str, Any], stem: str) -> Recipe:
    for key in table:
        if key not in _KEYS:
            raise ValueError(f"{key} is no key of a recipe; there are {', '.join(_KEYS)}")
    training: TrainingOptions = from_table(TrainingOptions, _table(table, "training"), "training")
    data: DataOptions = from_table(DataOptions, _table(table, "data_options"), "data_options")
    steps = _steps(table, "pass")
    passes = tuple(make_pass(step, f"pass[{i}]", training) for i, step in enumerate(steps))
    references = table.get("references", [])
    if not isinstance(references, list) or not all(type(n) is int for n in references):
        raise ValueError(f"references must be a list of whole numbers, not {references!r:.40}")
    activations = _text(table, "activations", "int8")
    if activations != "int8":
        raise ValueError(
            f"activations must be int8, not {activations!r:.40}; passes may make single ones binary"
        )
    seed = table.get("seed", 0)
    if type(seed) is not int or seed < 0:
        raise ValueError(f"seed must be a whole number of 0 or more, not {seed!r:.40}")
    return Recipe(
        name=_text(table, "name", stem),
        references=tuple(references),
        model=_text(table, "model", "") or None,
        data=_text(table, "data", "") or None,
        seed=seed,
        data_options=data,
        training=training,
        activations=activations,
        passes=passes,
        tables=tuple(dict(step) for step in steps),
        rivals=_rivals(table, training),
        remark=_text(table, "remark", ""),
    )


def _rivals(table: Mapping[str, Any], training: TrainingOptions) -> tuple[Rival, ...]:
    told = table.get("rival", [])
    if not isinstance(told, list):
        return (_rival(_table(table, "rival"), "rival", training),)
    paths = {f"rival[{i}]": rival for i, rival in enumerate(told)}
    return tuple(_rival(_table(paths, path), path, training) for path in paths)


def _rival(table: Mapping[str, Any], path: str, training: TrainingOptions) -> Rival:
    for key in table:
        if key not in ("title", "pass"):
            raise ValueError(f"{path}.{key} is no key; there are title, pass")
    steps = _steps(table, f"{path}.pass")
    passes = tuple(make_pass(step, f"{path}.pass[{i}]", training) for i, step in enumerate(steps))
    return Rival(title=_text(table, "title", "rival"), passes=passes)


def _steps(table: Mapping[str, Any], path: str) -> list[Mapping[str, Any]]:
    steps = table.get("pass", [])
    if not isinstance(steps, list) or not steps or not all(isinstance(step, Mapping) for step in steps):
        raise ValueError(f"a recipe needs passes: one table [[{path}]] with a kind each")
    return steps


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} must be a table, not {value!r:.40}")
    return value


def _text(table: Mapping[str, Any], key: str, default: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{key} must be text, not {value!r:.40}")
    return value
