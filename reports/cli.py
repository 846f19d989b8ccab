"""The `bitwright` command: verbs, their options, and the one place where errors become exit codes.

Exit 0 is fine, 1 a check that failed, 2 bad input (one line on stderr), 130 an interrupt, 141 a reader
of stdout that left, 143 SIGTERM. Numbers go to stdout, progress to stderr. Everything heavy is imported
inside the verb that needs it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
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

__all__ = ["app", "main"]

app = typer.Typer(
    name="bitwright",
    help="What does compressing a network buy on this hardware? Cycles, bytes, energy and RTL from "
    "one program, checked against each other.",
    add_completion=False,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_MODEL_HELP = "a .onnx, .tflite, .pt2 or .bw file, or zoo:NAME"
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL_HELP)]
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


class CheckError(Exception):
    """A check came out wrong; the result is already printed."""


def _machine(name: str, settings: list[str] | None) -> Machine:
    from ..mapper.machine import load_machine, override_machine

    machine = load_machine(name)
    return override_machine(machine, settings) if settings else machine


def _any_machine(name: str, settings: list[str] | None) -> Machine | AbstractMachine:
    from ..mapper.machine import Machine, override_machine
    from ..mapper.machines import load_any, override_any

    machine = load_any(name)
    if isinstance(machine, Machine):
        return override_machine(machine, settings) if settings else machine
    return override_any(machine, settings) if settings else machine


def _search(
    loaded: Model,
    *,
    objective: str,
    time_limit: float | None,
    bits: int | None,
    planned: bool,
    weight_density: list[str] | None,
    activation_density: list[str] | None,
    data: Path | None,
    images: int,
    preparation: Preparation | None,
    seed: int,
    folding: list[str] | None = None,
) -> Search:
    """What the options of a verb say of a search on an abstract machine."""
    from .abstract_runs import Search
    from .densities import parse_densities

    measured: dict[str, float] = {}
    if data is not None:
        from ..models.importers.activity import input_densities
        from .inputs import load_images

        taken = load_images(data, loaded, count=images, preparation=preparation)
        measured = input_densities(loaded, taken.x)
    return Search(
        objective=objective,
        time_limit_s=time_limit,
        bits=bits,
        planned=planned,
        weight_density=parse_densities("--weight-density", weight_density),
        activation_density=parse_densities("--activation-density", activation_density),
        measured=measured,
        folding=None if folding is None else tuple(folding),
        seed=seed,
    )


def _of_abstract(*options: tuple[str, object]) -> None:
    """Nothing; ValueError names an option that says nothing to a core machine."""
    for name, given in options:
        if given is not None:
            raise ValueError(f"{name} is of abstract machines: leave it out for a core")


def _model(spec: str) -> Model:
    from ..models.importers.load import load_model

    return load_model(spec)


def _objective(name: str) -> Objective:
    from .core_mapping import parse_objective

    return parse_objective(name)


def _core_model(spec: str) -> Model:
    """A model for a verb that runs its core steps; tells on stderr what stays with the host."""
    from .core_runs import say_host
    from .model_summary import core_networks
    from .progress import say

    model = _model(spec)
    core_networks(model)
    say_host(model, say)
    return model


def _preparation(
    data: Path | None, scale: str | None, mean: str | None, std: str | None
) -> Preparation | None:
    from .inputs import Preparation

    prepared = Preparation.parse(scale, mean, std)
    if data is None and prepared is not None:
        raise ValueError("--scale, --mean and --std prepare images: give --data FILE too")
    return prepared


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
    prepared = _preparation(data, scale, mean, std)
    loaded = _model(model)
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
    as_json: Json = False,
) -> None:
    """Compress a trained float network by a recipe; an interrupted run goes on at its last pass."""
    from .compressing import compress_model

    _emit(compress_model(model, recipe, data, output), as_json)


@app.command("map")
def map_verb(
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

    target = _any_machine(machine, settings)
    if isinstance(target, AbstractMachine):
        from .abstract_runs import map_abstract

        prepared, loaded = _preparation(data, scale, mean, std), _model(model)
        asked = _search(
            loaded,
            objective=objective,
            time_limit=time_limit,
            bits=bits,
            planned=planned,
            weight_density=weight_density,
            activation_density=activation_density,
            data=data,
            images=images,
            preparation=prepared,
            seed=seed,
        )
        value = map_abstract(loaded, target, asked, explained=explain)
    else:
        from .core_runs import map_model

        _of_abstract(
            ("--time-limit", time_limit),
            ("--bits", bits),
            ("--plan", planned or None),
            ("--weight-density", weight_density),
            ("--activation-density", activation_density),
            ("--data", data),
        )
        value = map_model(_core_model(model), target, _objective(objective), explain=explain)
    _emit(value, as_json, output)


@app.command()
def simulate(
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

    target = _any_machine(machine, settings)
    if isinstance(target, AbstractMachine):
        from .abstract_runs import simulate_abstract

        if trace is not None:
            raise ValueError(f"--trace shows the commands of core machines; {target.name} has none")
        prepared, loaded = _preparation(data, scale, mean, std), _model(model)
        asked = _search(
            loaded,
            objective=objective,
            time_limit=time_limit,
            bits=bits,
            planned=planned,
            weight_density=weight_density,
            activation_density=activation_density,
            data=data,
            images=images,
            preparation=prepared,
            seed=seed,
            folding=folding,
        )
        value = simulate_abstract(loaded, target, asked, compat=compat, stepped=stepped)
    else:
        from .core_runs import simulate_model
        from .simulation import write_trace

        _of_abstract(
            ("--compat", compat),
            ("--stepped", stepped or None),
            ("--time-limit", time_limit),
            ("--bits", bits),
            ("--plan", planned or None),
            ("--folding", folding),
            ("--weight-density", weight_density),
            ("--activation-density", activation_density),
            ("--data", data),
        )
        runs, value = simulate_model(_core_model(model), target, _objective(objective))
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

    chosen, loaded = _objective(objective), _core_model(model)
    value = export_model(loaded, _machine(machine, settings), output, chosen, seed=seed, progress=say)
    _emit(value, as_json)


@app.command()
def verify(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=_MODEL_HELP)] = None,
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

    prepared = _preparation(data, scale, mean, std)
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
            _core_model(model),
            _machine(machine, settings),
            objective=_objective(objective),
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
        _machine(machine, settings), target, unit=unit, pnr=pnr, seeds=seeds, tries=tries, progress=say
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


def _complain(message: str) -> int:
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    sys.stderr.write(f"bitwright: {line}\n")
    return 2


def main(arguments: list[str] | None = None) -> int:
    """The exit code of one command line; `arguments` are the process's own by default."""
    from .progress import show_compilation
    from .stopping import Terminated, terminable

    show_compilation()
    given = sys.argv[1:] if arguments is None else arguments
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):  # closed by whoever started us
            if getattr(sys, name) is None:
                setattr(sys, name, stack.enter_context(open(os.devnull, "w", encoding="utf-8")))
                stack.callback(setattr, sys, name, None)
        try:
            with terminable():
                code = _run(given or ["--help"])
        except Terminated:
            sys.stderr.write("bitwright: terminated\n")
            return 143
        if code == 130:
            sys.stderr.write("bitwright: interrupted\n")
        return code


def _run(arguments: list[str]) -> int:
    try:
        code = app(args=arguments, prog_name="bitwright", standalone_mode=False)
        sys.stdout.flush()
    except CheckError:
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except (BrokenPipeError, SystemExit):  # typer and rich exit where stdout's reader is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        return 141  # as a program that SIGPIPE ends; not 0, since a check may have failed
    except OSError as fault:
        name = fault.filename if fault.filename is not None else "input or output"
        return _complain(f"{name}: {fault.strerror or fault}")
    except MemoryError:
        return _complain("out of memory: use a smaller network or fewer images")
    except (ValueError, RuntimeError) as fault:
        if os.environ.get("BITWRIGHT_TRACEBACK"):
            raise
        return _complain(str(fault))
    except Exception as fault:
        describe = getattr(fault, "format_message", None)  # a usage error of the parser
        if describe is None:
            raise
        context = getattr(fault, "ctx", None)
        hint = f" See `{context.command_path} --help`." if context is not None else ""
        return _complain(f"{describe()}{hint}") if describe() else 2
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
