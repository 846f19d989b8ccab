"""Sparse fully connected layers as EIE runs them: interleaved rows, relative indices, broadcast and queues.

Output row i belongs to PE i mod PEs, which holds its part of every column as entries of a relative index and
a code. Activations that aren't zero are broadcast; each PE works through its part of the column, an entry a
cycle. The entries are those of a real encoded stream, so fillers count; imbalance comes from the kernel,
cycle by cycle. No factor is fitted. Source: Han et al. 2016, EIE, ISCA, sections III and IV.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.payload.relative_index import encode_relative
from .sparse_fc_kernel import PE_CYCLES, run_queues

__all__ = [
    "EncodedLayer",
    "SparseFcMachine",
    "SparseFcResult",
    "encode_random",
    "encode_weights",
    "random_activations",
    "run_sparse_fc",
]

NOT_MODELLED = (
    "the few cycles that fill and drain a PE's pipeline",
    "the time to load inputs and to read results back",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseFcMachine:
    """PEs with a queue of activations each; the defaults are EIE's.

    Raises:
        ValueError: a value outside its range; names the key.
    """

    pes: int = 64
    queue_depth: int = 8
    clock_hz: float = 800e6
    index_bits: int = 4
    code_bits: int = 4

    def __post_init__(self) -> None:
        for key, high in (("pes", 1 << 16), ("queue_depth", 1 << 16), ("index_bits", 16), ("code_bits", 16)):
            if not 1 <= getattr(self, key) <= high:
                raise ValueError(f"machine.{key} must be from 1 to {high}, not {getattr(self, key)}")
        if not 0 < self.clock_hz < 1e12:
            raise ValueError(f"machine.clock_hz must be above 0 and below 1e12, not {self.clock_hz}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedLayer:
    """A layer's weights as they lie in the PEs."""

    name: str
    outputs: int
    nonzeros: NDArray[np.int64]
    """(inputs, PEs): weights of each PE's part of a column that aren't zero."""
    entries: NDArray[np.int64]
    """The same with fillers: what a PE works through."""
    payload_bytes: int
    """Of all PEs' streams."""

    @property
    def inputs(self) -> int:
        """Columns of the matrix."""
        return int(self.entries.shape[0])

    @property
    def density(self) -> float:
        """Weights that aren't zero, of all."""
        return float(self.nonzeros.sum()) / (self.inputs * self.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseFcResult:
    """One layer for one vector of activations; cycles of PEs by what they did sum to cycles · PEs."""

    layer: str
    machine: SparseFcMachine
    cycles: int
    useful: int
    """Entries that are weights, of the columns that were broadcast."""
    fillers: int
    """Entries that are not."""
    activations: int
    """Columns that were broadcast."""
    pe_cycles: dict[str, int]
    """Of all PEs, by PE_CYCLES."""
    broadcast_held_up: int
    """Cycles in which some queue was full."""
    busiest_entries: int
    """Of the PE with the most: no queue makes the layer faster."""
    payload_bytes: int
    not_modelled: tuple[str, ...] = NOT_MODELLED
    fidelity: str = "modelled"

    @property
    def seconds(self) -> float:
        """At the machine's clock."""
        return self.cycles / self.machine.clock_hz

    @property
    def balanced_cycles(self) -> float:
        """What useful work and fillers would take if all PEs had as much."""
        return (self.useful + self.fillers) / self.machine.pes

    @property
    def balance(self) -> float:
        """Load balance efficiency: PEs at work on entries, of all."""
        return self.balanced_cycles / self.cycles if self.cycles else 1.0

    def parts_us(self) -> dict[str, float]:
        """Microseconds of useful work and of fillers, evenly spread, and what imbalance adds to their sum."""
        scale = 1e6 / self.machine.clock_hz
        useful, fillers = self.useful / self.machine.pes, self.fillers / self.machine.pes
        return {
            "useful": useful * scale,
            "fillers": fillers * scale,
            "imbalance": (self.cycles - useful - fillers) * scale,
        }

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "layer": self.layer,
            "pes": self.machine.pes,
            "queue_depth": self.machine.queue_depth,
            "clock_hz": self.machine.clock_hz,
            "cycles": self.cycles,
            "seconds": self.seconds,
            "parts_us": self.parts_us(),
            "balance": self.balance,
            "activations": self.activations,
            "useful": self.useful,
            "fillers": self.fillers,
            "pe_cycles": dict(self.pe_cycles),
            "broadcast_held_up": self.broadcast_held_up,
            "busiest_entries": self.busiest_entries,
            "payload_bytes": self.payload_bytes,
            "not_modelled": list(self.not_modelled),
            "fidelity": self.fidelity,
        }


def encode_weights(name: str, codes: NDArray[Any], machine: SparseFcMachine | None = None) -> EncodedLayer:
    """The layer whose weights are these codes, 0 for a zero.

    Args:
        codes: unsigned, shape (outputs, inputs).

    Raises:
        ValueError: another shape; as `encode_relative`.
    """
    machine = machine or SparseFcMachine()
    if codes.ndim != 2:
        raise ValueError(f"layer {name!r:.80}: codes must have shape (outputs, inputs), not {codes.shape}")
    parts = (codes[pe :: machine.pes].T for pe in range(machine.pes))
    return _encoded(name, codes.shape[0], parts, machine)


def encode_random(
    name: str,
    inputs: int,
    outputs: int,
    density: float,
    *,
    seed: int,
    machine: SparseFcMachine | None = None,
) -> EncodedLayer:
    """A layer with random codes, each not zero with probability `density`, independently.

    Raises:
        ValueError: a density outside 0…1, or sizes below 1; names the layer.
    """
    machine = machine or SparseFcMachine()
    if not 0 <= density <= 1:
        raise ValueError(f"layer {name!r:.80}: density must be from 0 to 1, not {density}")
    if inputs < 1 or outputs < 1:
        raise ValueError(f"layer {name!r:.80}: must have inputs and outputs, not {inputs} and {outputs}")
    rng = np.random.default_rng(seed)
    most = 1 << machine.code_bits

    def parts() -> Iterable[NDArray[np.uint16]]:
        for pe in range(machine.pes):
            shape = (inputs, len(range(pe, outputs, machine.pes)))
            there = rng.random(shape, np.float32) < density
            codes = np.zeros(shape, np.uint16)
            codes[there] = rng.integers(1, most, np.count_nonzero(there))
            yield codes

    return _encoded(name, outputs, parts(), machine)


def _encoded(
    name: str, outputs: int, parts: Iterable[NDArray[Any]], machine: SparseFcMachine
) -> EncodedLayer:
    nonzeros, entries, payload = [], [], 0
    for codes in parts:
        if not codes.shape[1]:  # a PE without a row: it waits a cycle a column, like one without entries
            nonzeros.append(np.zeros(codes.shape[0], np.int64))
            entries.append(np.zeros(codes.shape[0], np.int64))
            continue
        stream = encode_relative(codes, index_bits=machine.index_bits, code_bits=machine.code_bits)
        nonzeros.append(np.count_nonzero(codes, axis=1))
        entries.append(stream.counts)
        payload += len(stream.payload)
    return EncodedLayer(
        name=name,
        outputs=outputs,
        nonzeros=np.stack(nonzeros, 1).astype(np.int64),
        entries=np.stack(entries, 1),
        payload_bytes=payload,
    )


def random_activations(inputs: int, density: float, *, seed: int) -> NDArray[np.bool_]:
    """Which of a vector's values aren't zero: as many as the density says, rounded, at random places.

    Raises:
        ValueError: a density outside 0…1.
    """
    if not 0 <= density <= 1:
        raise ValueError(f"activation density must be from 0 to 1, not {density}")
    active = np.zeros(inputs, bool)
    active[np.random.default_rng(seed).permutation(inputs)[: round(inputs * density)]] = True
    return active


def run_sparse_fc(
    layer: EncodedLayer, active: NDArray[np.bool_], machine: SparseFcMachine | None = None
) -> SparseFcResult:
    """What the layer takes for activations that aren't zero where `active` says so.

    Raises:
        ValueError: not as many activations as inputs, or a layer that was encoded for other PEs.
    """
    machine = machine or SparseFcMachine()
    if active.shape != (layer.inputs,):
        raise ValueError(
            f"layer {layer.name!r:.80}: takes {layer.inputs} activations, not shape {active.shape}"
        )
    if layer.entries.shape[1] != machine.pes:
        raise ValueError(
            f"layer {layer.name!r:.80}: is encoded for {layer.entries.shape[1]} PEs, not {machine.pes}"
        )
    counts = np.ascontiguousarray(layer.entries[active])
    spent = np.zeros((machine.pes, len(PE_CYCLES)), np.int64)
    cycles, held_up = run_queues(counts, machine.queue_depth, spent, np.zeros((machine.pes, 2), np.int64))
    useful = int(layer.nonzeros[active].sum())
    return SparseFcResult(
        layer=layer.name,
        machine=machine,
        cycles=int(cycles),
        useful=useful,
        fillers=int(counts.sum()) - useful,
        activations=int(active.sum()),
        pe_cycles=dict(zip(PE_CYCLES, spent.sum(0).tolist(), strict=True)),
        broadcast_held_up=int(held_up),
        busiest_entries=int(counts.sum(0).max(initial=0)),
        payload_bytes=layer.payload_bytes,
    )
