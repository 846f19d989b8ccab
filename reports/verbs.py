"""The verbs of the command line, their options and their help; everything heavy is imported inside a verb."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import (
    MODEL_HELP,
    ActivationDensity,
    Bits,
    Data,
    Json,
    MachineName,
    Mean,
    ModelName,
    ObjectiveName,
    Out,
    Planned,
    Scale,
    Seed,
    Settings,
    Std,
    TimeLimit,
    WeightDensity,
    any_machine_of,
    core_model_of,
    machine_of,
    model_of,
    objective_of,
    preparation_of,
    refuse_abstract,
    search_of,
)

__all__ = ["CheckError", "app"]

app = typer.Typer(
    name="bitwright",
    help="What does compressing a network buy on this hardware? Cycles, bytes, energy and RTL from "
    "one program, checked against each other.",
    add_completion=False,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class CheckError(Exception):
    """A check came out wrong; the result is already printed."""


def _emit(value: dict[str, Any], as_json: bool, output: Path | None = None) -> None:
    """Write `value` to `output` and to stdout: as JSON, or as the table of its kind."""
    import json

    from .files import write_json

    if output is not None:
        write_json(output, value)
    if as_json:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
        return
    from .tables import show

    show(value)


def _version(asked: bool) -> None:
    if asked:
        from .doctor import version

        sys.stdout.write(f"bitwright {version()}\n")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print it and exit")
    ] = False,
) -> None:
    """Options that every verb shares; each acts by its own callback."""


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="where report and result go")
    ] = Path("build/demo"),
    seed: Seed = 0,
    images: Annotated[int, typer.Option("--images", min=1, max=64, help="test images that the RTL runs")] = 4,
    route_all: Annotated[
        bool,
        typer.Option("--route-all", help="route the cores for one form alone, too: a minute more"),
    ] = False,
    as_json: Json = False,
) -> None:
    """Everything once, on real data, with a report."""
    from .demo import run_demo

    result = run_demo(output, seed=seed, images=images, route_all=route_all)
    _emit(result, as_json)
    if not result["verify"]["agrees"]:
        raise CheckError


@app.command()
def info(
    context: typer.Context,
    model: ModelName,
    ranges: Annotated[
        bool, typer.Option("--ranges", help="run images: activation ranges in bits, weights' histograms")
    ] = False,
    data: Data = None,
    images: Annotated[int, typer.Option("--images", min=1, help="of the file, at most")] = 100,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    as_json: Json = False,
    output: Out = None,
) -> None:
    """Layers, MACs, parameters, formats and bytes of MODEL."""
    from .model_summary import model_summary

    if ranges != (data is not None):
        raise ValueError("info takes --ranges together with --data FILE, or neither")
    prepared = preparation_of(context.params)
    loaded = model_of(model)
    value = model_summary(loaded)
    if data is not None:
        from .ranges import range_summary

        value["ranges"] = range_summary(loaded, data, images=images, preparation=prepared)
    _emit(value, as_json, output)


@app.command()
def compress(
    model: ModelName,
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="NAME|FILE", help="a shipped recipe's name or a .toml file")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="the network, a .bw file")],
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="WHAT", help="digits, an .npz file, or a folder of MNIST or CIFAR-10"),
    ] = None,
    rival: Annotated[
        bool, typer.Option("--rival", help="run what the recipe is compared with instead")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compress a trained float network by a recipe; an interrupted run goes on at its last pass."""
    from .compressing import compress_model

    _emit(compress_model(model, recipe, data, output, rival=rival), as_json)


@app.command("map")
def map_verb(
    context: typer.Context,
    model: ModelName,
    machine: MachineName,
    settings: Settings = None,
    objective: ObjectiveName = "latency",
    explain: Annotated[
        bool, typer.Option("--explain", help="each layer's loop nest, with what buffers hold and move")
    ] = False,
    time_limit: TimeLimit = None,
    bits: Bits = None,
    planned: Planned = False,
    weight_density: WeightDensity = None,
    activation_density: ActivationDensity = None,
    data: Data = None,
    images: Annotated[int, typer.Option("--images", min=1, help="of --data, at most")] = 100,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    seed: Seed = 0,
    as_json: Json = False,
    output: Out = None,
) -> None:
    """How MODEL lies on the machine: tiles, loop order, buffers, memory."""
    from ..mapper.hierarchy import AbstractMachine

    target = any_machine_of(machine, settings)
    if isinstance(target, AbstractMachine):
        from .abstract_runs import map_abstract

        loaded = model_of(model)
        value = map_abstract(loaded, target, search_of(context.params, loaded), explained=explain)
    else:
        from .core_runs import map_model

        refuse_abstract(context.params)
        value = map_model(core_model_of(model), target, objective_of(objective), explain=explain)
    _emit(value, as_json, output)


@app.command()
def simulate(
    context: typer.Context,
    model: ModelName,
    machine: MachineName,
    settings: Settings = None,
    objective: ObjectiveName = "latency",
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE", help="every command's span, for Perfetto"),
    ] = None,
    compat: Annotated[
        str | None, typer.Option("--compat", metavar="NAME", help="systolic array: count as scalesim does")
    ] = None,
    stepped: Annotated[
        bool, typer.Option("--stepped", help="systolic array: every cycle's port addresses, counted")
    ] = False,
    time_limit: TimeLimit = None,
    bits: Bits = None,
    planned: Planned = False,
    weight_density: WeightDensity = None,
    activation_density: ActivationDensity = None,
    data: Data = None,
    images: Annotated[int, typer.Option("--images", min=1, help="of --data, at most")] = 100,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    seed: Seed = 0,
    folding: Annotated[
        list[str] | None,
        typer.Option(
            "--folding",
            metavar="[LAYER=]PExSIMD,…",
            help="matrix-vector units: their PEs and lanes; or published",
        ),
    ] = None,
    as_json: Json = False,
    output: Out = None,
) -> None:
    """Cycles, stalls, bytes and event energy of one inference."""
    from ..mapper.hierarchy import AbstractMachine

    target = any_machine_of(machine, settings)
    if isinstance(target, AbstractMachine):
        from .abstract_runs import simulate_abstract

        if trace is not None:
            raise ValueError(f"--trace shows the commands of core machines; {target.name} has none")
        loaded = model_of(model)
        asked = search_of(context.params, loaded)
        value = simulate_abstract(loaded, target, asked, compat=compat, stepped=stepped)
    else:
        from .core_runs import simulate_model
        from .simulation import write_trace

        refuse_abstract(context.params)
        runs, value = simulate_model(core_model_of(model), target, objective_of(objective))
        if trace is not None:
            write_trace(trace, runs)
    _emit(value, as_json, output)


@app.command()
def rtl(
    model: ModelName,
    machine: MachineName,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="where the files go")],
    settings: Settings = None,
    objective: ObjectiveName = "latency",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Verilog, memory image and manifest in DIR."""
    from .core_runs import export_model
    from .progress import say

    chosen, loaded = objective_of(objective), core_model_of(model)
    value = export_model(loaded, machine_of(machine, settings), output, chosen, seed=seed, progress=say)
    _emit(value, as_json)


@app.command()
def verify(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=MODEL_HELP)] = None,
    machine: Annotated[
        str | None,
        typer.Option("--machine", metavar="NAME|FILE", help="a preset's name or a .toml file"),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="NAME", help="onnxruntime, qonnx or litert, instead of a machine"),
    ] = None,
    settings: Settings = None,
    objective: ObjectiveName = "latency",
    images: Annotated[int, typer.Option("--images", min=1, help="of the file at most, or random inputs")] = 4,
    data: Data = None,
    scale: Scale = None,
    mean: Mean = None,
    std: Std = None,
    random: Annotated[
        int | None,
        typer.Option("--random", min=1, metavar="N", help="N random networks × random machines"),
    ] = None,
    seed: Seed = 0,
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="VCD of the first case's RTL run")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="processes, with --random")] = 1,
    as_json: Json = False,
    output: Out = None,
) -> None:
    """Hold reference, model and RTL to equal bits, cycles, bytes; or the reference to MODEL's framework."""
    from .progress import say

    prepared = preparation_of(context.params)
    if random is not None:
        from .agreement import verify_random

        if any(given is not None for given in (model, machine, against, settings, data, trace)):
            raise ValueError(
                "--random draws networks and machines: give it no MODEL, --machine, --against, --set, --data "
                "or --trace"
            )
        value = verify_random(random, seed=seed, jobs=jobs, progress=say)
    elif model is not None and against is not None and machine is None:
        from .against import verify_against

        if settings or trace is not None:
            raise ValueError("--against runs no machine: give it no --set or --trace")
        value = verify_against(model, against, data=data, images=images, preparation=prepared, seed=seed)
    elif model is not None and machine is not None and against is None:
        from .agreement import verify_model

        value = verify_model(
            core_model_of(model),
            machine_of(machine, settings),
            objective=objective_of(objective),
            images=images,
            data=data,
            preparation=prepared,
            seed=seed,
            trace=trace,
            progress=say,
        )
    else:
        raise ValueError("verify takes MODEL and --machine, MODEL and --against, or --random N")
    _emit(value, as_json, output)
    if not value["agrees"]:
        raise CheckError


@app.command()
def cost(
    machine: MachineName,
    target: Annotated[str, typer.Option("--target", help="ecp5-25k, ecp5-45k, ecp5-85k, …")],
    settings: Settings = None,
    unit: Annotated[str, typer.Option("--unit", help="core, pe, load, execute, array, post, store")] = "core",
    pnr: Annotated[
        bool | None,
        typer.Option("--pnr/--no-pnr", help="place and route, for Fmax; default: where there is a placer"),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="placer seeds; Fmax is their median")] = 1,
    tries: Annotated[
        bool, typer.Option("--tries", help="try Yosys's options, keep the fewest LUTs (a unit: always)")
    ] = False,
    as_json: Json = False,
    output: Out = None,
) -> None:
    """LUT, FF, DSP, BRAM and, placed, the clock on an FPGA."""
    from .progress import say
    from .synthesis import machine_cost

    value = machine_cost(
        machine_of(machine, settings), target, unit=unit, pnr=pnr, seeds=seeds, tries=tries, progress=say
    )
    _emit(value, as_json, output)


@app.command()
def report(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULT…", help="files that -o of other verbs wrote")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="the page")] = Path(
        "report.html"
    ),
) -> None:
    """One self-contained HTML page of results."""
    from .files import read_result, write_text
    from .report import render_report

    page = render_report([read_result(path) for path in results], [str(path) for path in results])
    write_text(output, page)
    sys.stdout.write(f"{output}\n")


@app.command()
def machines(as_json: Json = False) -> None:
    """The machines that ship."""
    from .summary import machine_list

    _emit(machine_list(), as_json)


@app.command()
def zoo(as_json: Json = False) -> None:
    """The networks that ship."""
    from .summary import zoo_list

    _emit(zoo_list(), as_json)


@app.command()
def methods(as_json: Json = False) -> None:
    """The survey's compression methods: reference, recipe, state, and what the core does with each."""
    import json

    from .compressing import methods_list

    listed = methods_list()
    if as_json:
        sys.stdout.write(json.dumps(listed, indent=2) + "\n")
    else:
        _emit({"kind": "methods", "methods": listed}, False)


@app.command()
def doctor(as_json: Json = False) -> None:
    """The tools of the flow; exit 1 when one is missing."""
    from .doctor import examine

    tools = examine()
    _emit({"kind": "doctor", "tools": [dataclasses.asdict(tool) for tool in tools]}, as_json)
    if any(tool.version is None for tool in tools):
        raise CheckError
