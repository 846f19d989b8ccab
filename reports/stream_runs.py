"""`simulate` on a machine of matrix-vector units: a pipeline with a unit a layer, in the manner of FINN."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..mapper.hierarchy import AbstractMachine, Level
from ..mapper.problem import Problem
from ..models.importers.topology import model_topology
from .modelled import layer_row, modelled_result

if TYPE_CHECKING:
    from ..models.importers.model import Model
    from ..models.topology import TopologyLayer
    from ..sim.streaming import MatrixVectorUnit, Pipeline

__all__ = ["PUBLISHED_FOLDING", "parse_foldings", "simulate_stream"]

PUBLISHED_FOLDING = "published"
_FOLDING = re.compile(r"(?:(?P<layer>.+)=)?(?P<pe>\d{1,7})[x×](?P<simd>\d{1,7})")


def parse_foldings(texts: Sequence[str] | None) -> dict[str, tuple[int, int]]:
    """(PEs, lanes) by layer; under the empty name those of all others.

    Raises:
        ValueError: no `LAYER=PExSIMD` or `PExSIMD`, or a layer twice.
    """
    found: dict[str, tuple[int, int]] = {}
    for part in (part.strip() for text in texts or () for part in text.split(",")):
        match = _FOLDING.fullmatch(part)
        if match is None or not int(match["pe"]) or not int(match["simd"]):
            raise ValueError(
                f"--folding takes LAYER=PExSIMD as in fc1=32x64, PExSIMD for all layers, or "
                f"{PUBLISHED_FOLDING}, not {part!r:.60}"
            )
        name = (match["layer"] or "").strip()
        if name in found:
            raise ValueError(f"--folding gives {name or 'all layers'} twice: give each once")
        found[name] = int(match["pe"]), int(match["simd"])
    return found


def _fits(pipeline: Pipeline, layers: Sequence[TopologyLayer]) -> bool:
    """Whether a published pipeline is one of these layers, columns padded to lanes, the last one's rows."""
    last = len(layers) - 1
    return len(pipeline.units) == len(layers) and all(
        (unit.mh >= layer.filters if number == last else unit.mh == layer.filters)
        and 0 <= unit.mw - layer.window < unit.simd
        and (unit.picture, unit.kernel) == ((1, 1) if layer.is_product else (layer.ifmap_h, layer.filter_h))
        for number, (unit, layer) in enumerate(zip(pipeline.units, layers, strict=True))
    )


def _pipeline(model: Model, machine: AbstractMachine, folding: Sequence[str] | None) -> Pipeline:
    from ..sim.finn import PUBLISHED
    from ..sim.stream_layers import stream_units
    from ..sim.streaming import Pipeline

    layers = model_topology(model).layers
    if folding and PUBLISHED_FOLDING in folding:
        if len(folding) > 1:
            raise ValueError(f"--folding {PUBLISHED_FOLDING} is of all layers: give no other one")
        for make in PUBLISHED.values():
            pipeline = make(machine.clock_hz)
            if _fits(pipeline, layers):
                return pipeline
        raise ValueError(
            f"--folding {PUBLISHED_FOLDING}: there are foldings of zoo:{' and zoo:'.join(PUBLISHED)}, "
            f"none of {model.graph.name}: give LAYER=PExSIMD"
        )
    given = parse_foldings(folding)
    sides = {axis.name: axis.size for axis in machine.axes}
    default = given.pop("", (sides["pe"], sides["simd"]))
    known = [layer.name for layer in layers]
    for name in given:
        if name not in known:
            raise ValueError(f"--folding: no layer {name!r:.80}; layers: {', '.join(known)}")
    try:
        units = stream_units(layers, given, default)
    except ValueError as fault:
        raise ValueError(f"{fault}; `map` takes such layers one by one, on one unit") from None
    source = "given" if folding else f"the machine's array, {default[0]} PEs of {default[1]} lanes a layer"
    return Pipeline(name=model.graph.name, units=units, clock_hz=machine.clock_hz, source=source)


def simulate_stream(
    model: Model,
    machine: AbstractMachine,
    problems: Sequence[Problem],
    words: str,
    folding: Sequence[str] | None,
) -> dict[str, Any]:
    """The `simulate` result of a model as a pipeline of units; `layers` stand in the pipeline's order.

    Args:
        model: whose layers follow from one another.
        machine: with `array.dataflow = "mvu"`.
        problems: the layers, for their formats.
        words: where the formats are from.
        folding: as `--folding` takes it; None: the machine's axes for every layer.

    Raises:
        ValueError: a layer that no unit takes, or a folding of no layer; names it.
    """
    from ..sim.finn import MLPERF_TINY_CNV, explain_gap
    from ..sim.streaming import stream_pipeline

    pipeline = _pipeline(model, machine, folding)
    result = stream_pipeline(pipeline)
    rows = []
    last = len(problems) - 1
    for number, (unit, done, problem) in enumerate(zip(pipeline.units, result.units, problems, strict=True)):
        row = _row(
            machine,
            problem,
            unit,
            interval=result.initiation_interval,
            done_cycle=done.done_cycle,
            first=number == 0,
            final=number == last,
        )
        rows.append(row | {"pe": unit.pe, "simd": unit.simd, "mh": unit.mh, "mw": unit.mw})
    value = modelled_result(model, machine, rows, cycles=result.latency_cycles)
    measured = MLPERF_TINY_CNV
    if pipeline.name == measured.network:
        value["published"] = explain_gap(result, measured)
    return value | {
        "formats": words,
        "pipeline": {
            "source": pipeline.source,
            "initiation_interval": result.initiation_interval,
            "latency_cycles": result.latency_cycles,
            "images_per_second": result.images_per_second,
            "single_images_per_second": result.single_images_per_second,
            "assumptions": list(result.assumptions),
        },
    }


def _row(
    machine: AbstractMachine,
    problem: Problem,
    unit: MatrixVectorUnit,
    *,
    interval: int,
    done_cycle: int,
    first: bool,
    final: bool,
) -> dict[str, Any]:
    """A unit's work on one image: each cycle reads PE × SIMD weights, SIMD inputs and PE sums.

    Weights stay on chip, so DRAM sees the network's inputs, once, and its outputs.
    """
    mode = machine.pe_mode(problem)
    dram = machine.levels[-1]
    sums, inputs, weights = (
        next(level for level in machine.levels if operand in level.operands) for operand in "OIW"
    )
    steps = unit.cycles
    bits: dict[str, dict[str, tuple[float, float]]] = {}  # read and written, by level and operand

    def moves(level: Level, operand: str, read: float, write: float) -> None:
        bits.setdefault(level.name, {})[operand] = (read, write)

    held = problem.B * problem.G * problem.C * unit.picture**2 if unit.picture > 1 else problem.C
    moves(weights, "W", steps * unit.pe * unit.simd * problem.weight_bits, 0)
    moves(inputs, "I", steps * unit.simd * problem.input_bits, held * problem.input_bits)
    moves(sums, "O", steps * unit.pe * problem.partial_bits, steps * unit.pe * problem.partial_bits)
    outputs = problem.K * (unit.side // unit.pool) ** 2
    if first:
        moves(dram, "I", held * problem.input_bits, 0)
    if final:
        moves(dram, "O", 0, outputs * problem.output_bits)
    products = float(problem.macs)
    energy = {"mac": products * mode.mac_pj}
    for level in machine.levels:
        energy[level.name] = sum(
            (read * level.read_pj + write * level.write_pj) / level.word_bits
            for read, write in bits.get(level.name, {}).values()
        )
    return layer_row(
        unit.name,
        cycles=unit.cycles,
        peak_macs=float(interval * unit.pe * unit.simd),
        peak_rate=float(unit.pe * unit.simd),
        products=products,
        macs=problem.macs,
        energy=energy,
        moved={level: {x: sum(pair) / 8 for x, pair in parts.items()} for level, parts in bits.items()},
        dram_read=sum(pair[0] for pair in bits.get(dram.name, {}).values()) / 8,
        dram_write=sum(pair[1] for pair in bits.get(dram.name, {}).values()) / 8,
    ) | {"done_cycle": done_cycle}
