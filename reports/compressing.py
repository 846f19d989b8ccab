"""The `compress` and `methods` verbs: recipes run on models and data that people name, results as values."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import write_json
from .progress import say

if TYPE_CHECKING:
    from ..models.compress.compression import Compressed, PassRecord
    from ..models.graph import Graph

__all__ = ["compress_model", "methods_list"]

_REWRITE_SECONDS = 0.5


def compress_model(
    spec: str, recipe_name: str, data_spec: str | None, output: Path, *, rival: bool = False
) -> dict[str, Any]:
    """What a recipe made of a model, as `compress --json` prints it; the network is at `output`.

    Beside it, with the suffix `.json`, lies the same record. States between passes are kept in a folder that
    is called as `output` with `.passes`, until the last pass is done. With `rival` the passes are those of
    the first that the recipe is compared with.

    Raises:
        ValueError: the recipe doesn't fit, or has no rival; see `models.compress.compression.compress`.
        OSError: a file can't be read or written.
    """
    from ..models.compress.compression import compress
    from ..models.compress.datasets import load_dataset
    from ..models.compress.recipe import load_recipe

    if output.suffix != ".bw":
        raise ValueError(
            f"-o {output}: a compressed network's file has the suffix .bw, not {output.suffix!r}"
        )
    if output.is_dir() or not output.parent.is_dir():
        raise ValueError(f"-o {output}: {'is a folder' if output.is_dir() else 'its folder does not exist'}")
    recipe = load_recipe(recipe_name)
    if rival:
        if not recipe.rivals:
            raise ValueError(f"--rival: recipe {recipe.name} has none: leave the option out")
        recipe = dataclasses.replace(recipe, passes=recipe.rivals[0].passes)
    named = data_spec or ("digits" if recipe.data == "digits" else None)
    if named is None:
        wanted = f", recipe {recipe.name} is made for {recipe.data}" if recipe.data else ""
        raise ValueError(f"--data says what to train on: digits, an .npz file or a folder{wanted}")
    graph = _float_graph(spec)
    data = load_dataset(named, recipe.data_options, seed=recipe.seed)
    folder = Path(f"{output}.passes")
    done = compress(graph, recipe, data, folder=folder, watch=_Watch(len(recipe.passes)))
    if done.resumed:
        say(f"{done.resumed} of {len(recipe.passes)} passes were done by an earlier run")
    value = {"kind": "compress", "version": 1, "model": spec, "recipe": recipe.name, "data": data.name}
    value |= {"rival": rival, "seed": recipe.seed, **_summary(done), **_integers(done, output)}
    write_json(output.with_suffix(".json"), value)
    shutil.rmtree(folder, ignore_errors=True)
    return value


def _float_graph(spec: str) -> Graph:
    """A model's graph.

    Raises:
        ValueError: it is a network of integers already.
    """
    from ..models.importers.load import load_model

    model = load_model(spec)
    if model.cores:
        raise ValueError(f"{spec}: is integer already; compress takes a float network")
    return model.graph


class _Watch:
    """One line a pass on stderr, rewritten where that is a terminal."""

    def __init__(self, passes: int) -> None:
        self.passes = passes
        self.last = (-1, 0.0)

    def __call__(self, number: int, name: str, what: str, done: float) -> None:
        now = time.perf_counter()
        fresh = number != self.last[0]
        if (
            not fresh
            and now - self.last[1] < (_REWRITE_SECONDS if sys.stderr.isatty() else 10.0)
            and done < 1
        ):
            return
        self.last = (number, now)
        line = f"pass {number + 1} of {self.passes}, {name}: {what}, {done:4.0%}"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K  {line}" + ("\n" if done >= 1 else ""))
            sys.stderr.flush()
        else:
            say(line)


def _summary(done: Compressed) -> dict[str, Any]:
    return {
        "original": {
            "bytes": done.original_bytes,
            "macs": done.original_macs,
            "accuracy": done.original_accuracy,
        },
        "compressed": {
            "payload_bytes": done.payload_bytes,
            "macs": done.macs,
            "nonzero_macs": done.kept_macs,
            "accuracy": done.accuracy,
        },
        "ratio_to_float32": done.original_bytes / done.payload_bytes,
        "passes": [_pass(entry) for entry in done.passes],
    }


def _pass(entry: PassRecord) -> dict[str, Any]:
    return {**dataclasses.asdict(entry), "payload_bytes": entry.payload_bytes}


def _integers(done: Compressed, output: Path) -> dict[str, Any]:
    """The integer network's part of the record; writes it."""
    try:
        integers = done.integers()
    except ValueError as fault:
        say(f"no integer network: {fault}")
        return {"network": None, "reason": str(fault)}
    integers.network.save(output)
    rounded = [name for name, exact in integers.exact.items() if not exact]
    return {
        "network": str(output),
        "integer_accuracy": done.integer_accuracy(integers),
        "rounded_to_int8": rounded,
    }


def methods_list() -> list[dict[str, Any]]:
    """Every method of the survey, as `methods --json` prints it."""
    from ..models.compress.methods import METHODS

    return [
        {
            "name": method.name,
            "title": method.title,
            "references": [int(r) if r.isdigit() else r for r in method.references],
            "primitive": method.primitive,
            "recipe": method.recipe if method.state == "works" else None,
            "state": method.state,
            "hardware": method.hardware,
            "gain": method.gain or None,
        }
        for method in METHODS
    ]
