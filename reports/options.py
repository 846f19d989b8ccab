"""The options that verbs share, and what they name: a machine, a model, a search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..mapper.hierarchy import AbstractMachine
    from ..mapper.machine import Machine
    from ..mapper.objective import Objective
    from ..models.importers.model import Model
    from .abstract_runs import Search
    from .inputs import Preparation

__all__ = [
    "MODEL_HELP",
    "ActivationDensity",
    "Bits",
    "Data",
    "Given",
    "Json",
    "MachineName",
    "Mean",
    "ModelName",
    "ObjectiveName",
    "Out",
    "Planned",
    "Scale",
    "Seed",
    "Settings",
    "Std",
    "TimeLimit",
    "WeightDensity",
    "any_machine_of",
    "core_model_of",
    "machine_of",
    "model_of",
    "objective_of",
    "preparation_of",
    "refuse_abstract",
    "search_of",
]

Given = Mapping[str, Any]
"""A verb's parameters by name, as `typer.Context.params` has them."""

MODEL_HELP = "a .onnx, .tflite, .pt2 or .bw file, or zoo:NAME"
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
MachineName = Annotated[
    str, typer.Option("--machine", metavar="NAME|FILE", help="a preset's name or a .toml file")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="override a machine key; repeatable"),
]
ObjectiveName = Annotated[
    str,
    typer.Option("--objective", metavar="NAME", help="mappings for latency, energy, edp or bytes (DRAM)"),
]
TimeLimit = Annotated[
    float | None,
    typer.Option("--time-limit", metavar="S", help="abstract machine: seconds for a layer; default 5"),
]
Bits = Annotated[
    int | None,
    typer.Option("--bits", min=1, max=64, help="abstract machine: of a value, instead of the model's"),
]
Planned = Annotated[
    bool,
    typer.Option("--plan", help="abstract machine: tensors that stay on chip, layers that run fused"),
]
WeightDensity = Annotated[
    list[str] | None,
    typer.Option(
        "--weight-density",
        metavar="[LAYER=]D,…",
        help="abstract machine: weights that are not zero, of all, at seeded random places",
    ),
]
ActivationDensity = Annotated[
    list[str] | None,
    typer.Option(
        "--activation-density", metavar="[LAYER=]D,…", help="the same of inputs; or --data measures it"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]
Out = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="JSON to a file")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="of everything random")]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="FILE", help=".npz with images in `x`, labels in `y`")
]
Scale = Annotated[str | None, typer.Option("--scale", metavar="N", help="pixels × N, such as 1/255")]
Mean = Annotated[str | None, typer.Option("--mean", metavar="N,…", help="then less N, a channel each")]
Std = Annotated[str | None, typer.Option("--std", metavar="N,…", help="then over N, a channel each")]


def machine_of(name: str, settings: list[str] | None) -> Machine:
    """The core machine of `--machine` with `--set` applied; ValueError for any other machine."""
    from ..mapper.machine_file import load_machine, override_machine

    machine = load_machine(name)
    return override_machine(machine, settings) if settings else machine


def any_machine_of(name: str, settings: list[str] | None) -> Machine | AbstractMachine:
    """The machine of `--machine`, a core or an abstract one, with `--set` applied."""
    from ..mapper.machine import Machine
    from ..mapper.machine_file import override_machine
    from ..mapper.machines import load_any, override_any

    machine = load_any(name)
    if not settings:
        return machine
    if isinstance(machine, Machine):
        return override_machine(machine, settings)
    return override_any(machine, settings)


def model_of(spec: str) -> Model:
    """The model of MODEL."""
    from ..models.importers.load import load_model

    return load_model(spec)


def core_model_of(spec: str) -> Model:
    """A model for a verb that runs its core steps; tells on stderr what stays with the host."""
    from .core_runs import say_host
    from .model_summary import core_networks
    from .progress import say

    model = model_of(spec)
    core_networks(model)
    say_host(model, say)
    return model


def objective_of(name: str) -> Objective:
    """What `--objective` names."""
    from .core_mapping import parse_objective

    return parse_objective(name)


def preparation_of(given: Given) -> Preparation | None:
    """How images are prepared, by `--scale`, `--mean` and `--std`; ValueError where there are no images."""
    from .inputs import Preparation

    prepared = Preparation.parse(given["scale"], given["mean"], given["std"])
    if given["data"] is None and prepared is not None:
        raise ValueError("--scale, --mean and --std prepare images: give --data FILE too")
    return prepared


_ABSTRACT = {
    "compat": "--compat",
    "stepped": "--stepped",
    "time_limit": "--time-limit",
    "bits": "--bits",
    "planned": "--plan",
    "folding": "--folding",
    "weight_density": "--weight-density",
    "activation_density": "--activation-density",
    "data": "--data",
}
"""Parameters of `map` and `simulate` that say nothing to a core, and the options that people type."""


def refuse_abstract(given: Given) -> None:
    """Nothing; ValueError names an option that says nothing to a core machine."""
    for name, option in _ABSTRACT.items():
        value = given.get(name)
        if value is not None and value is not False and value not in ((), []):
            raise ValueError(f"{option} is of abstract machines: leave it out for a core")


def search_of(given: Given, loaded: Model) -> Search:
    """What the options of `map` and `simulate` say of a search on an abstract machine."""
    from .abstract_runs import Search
    from .densities import parse_densities

    prepared = preparation_of(given)
    measured: dict[str, float] = {}
    if given["data"] is not None:
        from ..models.importers.activity import input_densities
        from .inputs import load_images

        taken = load_images(Path(given["data"]), loaded, count=given["images"], preparation=prepared)
        measured = input_densities(loaded, taken.x)
    return Search(
        objective=given["objective"],
        time_limit_s=given["time_limit"],
        bits=given["bits"],
        planned=given["planned"],
        weight_density=parse_densities("--weight-density", given["weight_density"]),
        activation_density=parse_densities("--activation-density", given["activation_density"]),
        measured=measured,
        folding=tuple(given.get("folding") or ()) or None,
        seed=given["seed"],
    )
