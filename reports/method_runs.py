"""A method shown: its recipe beside the uncompressed network and rivals, in bytes, accuracy and cycles."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import write_json

if TYPE_CHECKING:
    from ..models.compress.compression import Compressed
    from ..models.compress.recipe import Recipe
    from ..models.network import Network

__all__ = ["MACHINE", "SETTINGS", "run_method", "run_stages"]

MACHINE = "core-medium"
SETTINGS = ("buffers.step_entries=1024",)
"""What cycles are counted on: a core that can leave out weight steps that are all zero."""


def run_method(stem: str, data: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """What a shipped recipe reaches, as plain values; a run that was made before is read again.

    Args:
        stem: of the recipe's file, `.quick` for its short form.
        data: where a recipe's data lies, by its name there.
        folder: where states and results are kept.

    Returns:
        the recipe's name, its command, and `uncompressed`, `method` and `rivals` (a list), each with bytes,
        products, accuracies and cycles.

    Raises:
        ValueError: the recipe's data isn't given, or a pass fails.
    """
    from ..models.compress.recipe import SHIPPED, load_recipe

    recipe = load_recipe(SHIPPED / f"{stem}.toml")
    if recipe.model is None or recipe.data is None:
        raise ValueError(f"recipe {stem}: model and data must be given to show it")
    place = "digits" if recipe.data == "digits" else data.get(recipe.data)
    if place is None:
        raise ValueError(f"recipe {stem} is shown on {recipe.data}, which isn't there")
    text = (SHIPPED / f"{stem}.toml").read_text(encoding="utf-8")
    key = hashlib.sha256(f"2 {text}".encode()).hexdigest()[:16]
    kept = folder / f"{stem}-{key}.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    value = {
        "recipe": stem,
        "references": list(recipe.references),
        "remark": recipe.remark,
        "model": recipe.model,
        "data": recipe.data,
        "command": f"bitwright compress {recipe.model} --recipe {stem} --data {recipe.data} -o out.bw",
        **_runs(recipe, place, folder / "states"),
    }
    write_json(kept, value)
    return value


def run_stages(recipe: Recipe, place: str, states: Path) -> dict[str, Compressed]:
    """What a recipe makes of its network, by name.

    They are `before` (after its first, plain training), `method`, and `rival`, `rival 2` and so on.

    Args:
        recipe: names its model.
        place: of its data.
        states: where states between passes are kept.

    Raises:
        ValueError: a pass fails.
    """
    from ..models.compress.compression import compress
    from ..models.compress.datasets import load_dataset
    from ..models.importers.load import load_model

    assert recipe.model is not None
    graph = load_model(recipe.model).graph
    data = load_dataset(place, recipe.data_options, seed=recipe.seed)
    passes = {"method": recipe.passes}
    if recipe.passes[0].name == "train":
        passes = {"before": recipe.passes[:1], **passes}
    passes |= {name: rival.passes for name, rival in zip(_rival_names(recipe), recipe.rivals, strict=True)}
    return {
        name: compress(graph, dataclasses.replace(recipe, passes=each), data, folder=states, keep_all=True)
        for name, each in passes.items()
    }


def _runs(recipe: Recipe, place: str, states: Path) -> dict[str, Any]:
    stages = run_stages(recipe, place, states)
    done = stages["method"]
    found: dict[str, Any] = {
        "uncompressed": {
            "payload_bytes": done.original_bytes,
            "macs": done.original_macs,
            "nonzero_macs": done.original_macs,
            "accuracy": done.original_accuracy,
            "integer_accuracy": None,
            "cycles": None,
            "reason": "not run as integers",
        },
        "method": _outcome(done),
        "notes": {f"{i} {entry.name}": entry.notes for i, entry in enumerate(done.passes) if entry.notes},
        "seconds": sum(entry.seconds for entry in done.passes),
        "rivals": [
            {"title": rival.title, **_outcome(stages[name])}
            for name, rival in zip(_rival_names(recipe), recipe.rivals, strict=True)
        ],
    }
    if "before" in stages:
        found["uncompressed"] = _outcome(stages["before"])
    return found


def _rival_names(recipe: Recipe) -> list[str]:
    return [f"rival {i}" if i > 1 else "rival" for i in range(1, len(recipe.rivals) + 1)]


def _outcome(done: Compressed) -> dict[str, Any]:
    value: dict[str, Any] = {
        "payload_bytes": done.payload_bytes,
        "macs": done.macs,
        "nonzero_macs": done.kept_macs,
        "accuracy": done.accuracy,
        "integer_accuracy": None,
        "cycles": None,
        "reason": None,
    }
    try:
        integers = done.integers()
        value["integer_accuracy"] = done.integer_accuracy(integers)
        value |= _cost(integers.network)
    except ValueError as fault:
        value["reason"] = str(fault)
    return value


def _cost(network: Network) -> dict[str, Any]:
    from ..mapper.machine_file import load_machine, override_machine
    from ..sim.cycle import simulate
    from .core_mapping import map_for

    machine = override_machine(load_machine(MACHINE), list(SETTINGS))
    result = simulate(map_for(network, machine))
    return {"cycles": result.cycles, "energy_pj": sum(result.energy_pj.values())}
