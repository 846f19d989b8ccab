"""Fully connected layers on a machine with queues: entry by entry, with what explains their time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..mapper.hierarchy import AbstractMachine, Level
from ..mapper.problem import Problem
from .densities import Density
from .layer_weights import LayerWeights
from .modelled import layer_row

if TYPE_CHECKING:
    from ..models.weights import WeightRecord
    from ..sim.sparse_fc import EncodedLayer, SparseFcMachine, SparseFcResult

__all__ = ["queue_machine", "queue_row"]

_NOT_MODELLED = ("pointers to the columns of each PE's part",)


def queue_machine(machine: AbstractMachine, weight_bits: int | None = None) -> SparseFcMachine:
    """The PEs with their queues; codes are the machine's, or as wide as the weights are.

    Raises:
        ValueError: a machine without queues.
    """
    from ..sim.sparse_fc import SparseFcMachine

    queues = machine.queues
    if queues is None:
        raise ValueError(f"machine {machine.name} has no queues")
    return SparseFcMachine(
        pes=machine.axes[0].size,
        queue_depth=queues.depth,
        clock_hz=machine.clock_hz,
        index_bits=queues.index_bits,
        code_bits=queues.code_bits if weight_bits is None else weight_bits,
    )


def queue_row(
    machine: AbstractMachine, part: LayerWeights, *, resident_bits: float, seed: int
) -> dict[str, Any]:
    """A layer's row, with `queues`: useful work, fillers, imbalance, and what rounded densities leave open.

    Args:
        machine: with queues.
        part: the layer; with densities given its weights, and the zeros of its inputs, are seeded random.
        resident_bits: that the busiest PE's weights of the layers before take.
        seed: of all that is random.
    """
    from ..sim.sparse_fc import random_activations, run_sparse_fc

    problem, weights, activations, measured = part.problem, part.weights, part.activations, part.measured
    record = part.record if weights is None else None
    given = activations or Density(value=1.0 if measured is None else measured, rounding=0.0)
    pes = queue_machine(machine, record.fmt.bits if record is not None else None)

    def run(way: int) -> tuple[EncodedLayer, SparseFcResult]:
        layer = _encoded(problem, record, weights, way, pes, seed)
        share = (given.low, given.value, given.high)[way + 1]
        return layer, run_sparse_fc(layer, random_activations(problem.C, share, seed=seed + 1), pes)

    layer, result = run(0)
    low, high = result, result
    if (weights is not None and weights.rounding) or given.rounding:
        low, high = run(-1)[1], run(1)[1]
    held = int(layer.entries.sum(0).max(initial=0)) * (pes.index_bits + pes.code_bits)
    room = _inner(machine, "W").capacity("W")
    resident = room is None or resident_bits + held <= room
    row = _costs(machine, problem, result, resident=resident)
    dense = weights is None and record is None
    row["queues"] = {
        **result.to_dict(),
        "modelled_us": result.seconds * 1e6,
        "low_us": low.seconds * 1e6,
        "high_us": high.seconds * 1e6,
        "weights": "seeded random" if weights is not None else "assumed dense" if dense else "the record's",
        "activation_density": given.value,
        "activations_are": "given"
        if activations is not None
        else "assumed dense"
        if measured is None
        else "measured",
        "weight_density": layer.density,
        "held_bits": held,
        "resident": resident,
        "not_modelled": [*result.not_modelled, *_NOT_MODELLED],
    }
    published = _published(problem, pes, weights, activations)
    if published is not None:
        from ..sim.eie import EieComparison

        comparison = EieComparison(
            published=published,
            result=replace(result, layer=published.name),
            low_us=low.seconds * 1e6,
            high_us=high.seconds * 1e6,
        )
        row["queues"] |= {"published": comparison.to_dict(), "analysis": comparison.lines()}
    return row


def _encoded(
    problem: Problem,
    record: WeightRecord | None,
    weights: Density | None,
    way: int,
    pes: SparseFcMachine,
    seed: int,
) -> EncodedLayer:
    """The weights in the PEs; `way` −1, 0, 1: at the least density, the given, the most."""
    from ..sim.sparse_fc import encode_random, encode_weights

    if record is not None:
        return encode_weights(problem.name, _codes(record), pes)
    density = 1.0 if weights is None else (weights.low, weights.value, weights.high)[way + 1]
    return encode_random(problem.name, problem.C, problem.K, density, seed=seed, machine=pes)


def _codes(record: WeightRecord) -> NDArray[np.uint16]:
    """The record's weights as unsigned codes of its format's width, 0 for a zero; shape (outputs, inputs)."""
    values = record.values.reshape(record.values.shape[0], -1).astype(np.int64)
    return (values & ((1 << record.fmt.bits) - 1)).astype(np.uint16)


def _inner(machine: AbstractMachine, operand: str) -> Level:
    """The innermost level that holds an operand."""
    return next(level for level in machine.levels if operand in level.operands)


def _costs(
    machine: AbstractMachine, problem: Problem, result: SparseFcResult, *, resident: bool
) -> dict[str, Any]:
    """Cycles, bytes and energy; weights that don't stay on chip come from DRAM before each vector."""
    pes, dram = result.machine, machine.levels[-1]
    weights, inputs, sums = (_inner(machine, operand) for operand in "WIO")
    entries = result.useful + result.fillers
    bits: dict[str, dict[str, tuple[float, float]]] = {}  # read and written, by level and operand
    payload = 8 * result.payload_bytes
    for level, operand, read, write in (
        (weights, "W", entries * (pes.index_bits + pes.code_bits), 0 if resident else payload),
        (inputs, "I", result.activations * problem.input_bits, problem.C * problem.input_bits),
        (sums, "O", entries * problem.partial_bits, entries * problem.partial_bits),
        (dram, "W", 0 if resident else payload, 0),
        (dram, "I", problem.C * problem.input_bits, 0),
        (dram, "O", 0, problem.K * problem.output_bits),
    ):
        bits.setdefault(level.name, {})[operand] = (float(read), float(write))
    loading = 0 if resident else math.ceil(payload / dram.read_bits_per_cycle)
    energy = {"mac": entries * machine.pe_mode(problem).mac_pj}
    for level in machine.levels:
        energy[level.name] = sum(
            (read * level.read_pj + write * level.write_pj) / level.word_bits
            for read, write in bits.get(level.name, {}).values()
        )
    idle = result.cycles - math.ceil(result.balanced_cycles)
    return layer_row(
        problem.name,
        cycles=result.cycles + loading,
        peak_macs=float((result.cycles + loading) * pes.pes),
        peak_rate=float(pes.pes),
        products=float(result.useful),
        macs=problem.macs,
        energy=energy,
        moved=_bytes(bits),
        dram_read=sum(pair[0] for pair in bits[dram.name].values()) / 8,
        dram_write=sum(pair[1] for pair in bits[dram.name].values()) / 8,
        stalls={"imbalance": idle, "fillers": result.fillers // pes.pes, "loading": loading},
    )


def _bytes(bits: Mapping[str, Mapping[str, tuple[float, float]]]) -> dict[str, dict[str, float]]:
    return {level: {x: sum(pair) / 8 for x, pair in parts.items()} for level, parts in bits.items()}


def _published(
    problem: Problem, pes: SparseFcMachine, weights: Density | None, activations: Density | None
) -> Any:
    """EIE's row of these sizes and densities, on EIE's machine; None where there is none."""
    from ..sim.eie import EIE_ALEXNET
    from ..sim.sparse_fc import SparseFcMachine

    if pes != SparseFcMachine() or weights is None or activations is None:
        return None
    key = (problem.C, problem.K, weights.value, activations.value)
    for row in EIE_ALEXNET:
        if (row.inputs, row.outputs, row.weight_density, row.activation_density) == key:
            return row
    return None
