"""What a layer costs with tensors on chip around it: searched once for each layer, residence and room."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .evaluation import machine_arrays
from .hierarchy import AbstractMachine, Residence
from .loop_nest import stored_bits, tile_values
from .mapping import MappingError
from .problem import Problem

if TYPE_CHECKING:
    from .optimum import Found

__all__ = ["LayerCosts", "Moved", "Run", "floor_cost", "keeping_level", "moved_cost", "resident_machine"]

Search = Callable[[AbstractMachine, Problem], "Found"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A layer, or a strip of it, with what lies on chip while it runs."""

    problem: Problem
    in_place: tuple[str, ...] = ()
    through_tile: bool = False
    """See `Residence`."""
    resident_bits: int = 0
    """Of all tensors in the level, its own included."""


def keeping_level(machine: AbstractMachine) -> int | None:
    """The outermost on-chip level where tensors can stay: of one size for I and O, and there once; else None.

    Where I and O have parts of their own a tensor would have to be moved from one to the other, which no nest
    counts.
    """
    for i in range(len(machine.levels) - 2, -1, -1):
        if {"I", "O"} <= set(machine.levels[i].operands):
            apart = any(machine.level_index(axis.below) > i for axis in machine.axes)
            return i if machine.levels[i].shared and not apart else None
    return None


def resident_machine(machine: AbstractMachine, run: Run) -> AbstractMachine:
    """The machine as the run finds it: less room, and operands that lie on chip.

    Raises:
        MappingError: the tensors take more than the level has.
    """
    i = keeping_level(machine)
    if i is None or not (run.resident_bits or run.in_place or run.through_tile):
        return machine
    level = machine.levels[i]
    size = level.size_bits or 0
    residence = None
    if run.in_place or run.through_tile:
        residence = Residence(level=level.name, in_place=run.in_place, through_tile=run.through_tile)
    bare = replace(machine, residence=residence)
    left = size - run.resident_bits
    if left < (1 if bare.held(i) else 0):
        raise MappingError(
            f"layer {run.problem.name}: level {level.name} has {size} bits, tensors that stay in it take "
            f"{run.resident_bits}"
        )
    levels = list(machine.levels)
    levels[i] = replace(level, size_bits=max(1, left))
    return replace(bare, levels=tuple(levels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a step without products costs."""

    latency_cycles: int
    energy_pj: float
    dram_read_bits: int
    dram_write_bits: int


def moved_cost(machine: AbstractMachine, reads: dict[bool, int], writes: dict[bool, int]) -> Moved:
    """Cycles and energy of values that pass through the chip, each read and written once.

    Args:
        machine: whose outermost and keeping levels they lie in.
        reads: bits by whether they lie on chip.
        writes: the same.
    """
    energy, slowest = 0.0, 0.0
    for inside in (False, True):
        i = keeping_level(machine) if inside else len(machine.levels) - 1
        if i is None:
            continue
        level = machine.levels[i]
        read, write = reads.get(inside, 0), writes.get(inside, 0)
        energy += (read * level.read_pj + write * level.write_pj) / level.word_bits
        ways = (read / level.read_bits_per_cycle, write / level.write_bits_per_cycle)
        slowest = max(slowest, sum(ways) if level.ports == 1 else max(ways))
    return Moved(
        latency_cycles=math.ceil(slowest - 1e-9),
        energy_pj=energy,
        dram_read_bits=reads.get(False, 0),
        dram_write_bits=writes.get(False, 0),
    )


def floor_cost(machine: AbstractMachine, run: Run, objective: str) -> float:
    """What no nest of the run goes below: all products, and each value that lies in DRAM moved once."""
    problem, dram = run.problem, machine.levels[-1]
    arrays = machine_arrays(machine, problem)
    bits = {
        x: tile_values(problem, x, problem.sizes) * float(arrays.prices[-1, j, 0])
        for j, x in enumerate("WIO")
    }
    read = bits["W"] + (0.0 if "I" in run.in_place else bits["I"])
    write = 0.0 if run.through_tile or "O" in run.in_place else bits["O"]
    energy = (
        problem.macs * float(arrays.pe[1]) + (read * dram.read_pj + write * dram.write_pj) / dram.word_bits
    )
    ways = (read / dram.read_bits_per_cycle, write / dram.write_bits_per_cycle)
    port = sum(ways) if dram.ports == 1 else max(ways)
    latency = math.ceil(max(problem.macs / machine.pe_count * float(arrays.pe[0]), port) - 1e-9)
    # A little less, as sums are rounded.
    return {"energy": energy, "latency": float(latency), "edp": energy * latency}[objective] * (1 - 1e-9)


class LayerCosts:
    """Nests of runs, searched when asked for and then known.

    A nest that was best with more room is best with less, too, where it fits: nothing new became legal.
    """

    def __init__(
        self, machine: AbstractMachine, objective: str, search: Search, deadline: float = math.inf
    ) -> None:
        self.machine, self.objective = machine, objective
        self._search, self._deadline = search, deadline
        self._level = keeping_level(machine)
        self._known: dict[tuple[str, tuple[str, ...], bool], dict[int, Found | None]] = {}
        self._floors: dict[tuple[str, tuple[str, ...], bool], float] = {}
        self.searches = 0
        self.uncertain = False
        """Whether a run counts as impossible though a nest that was not looked for may exist."""

    def _family(self, run: Run) -> dict[int, Found | None]:
        return self._known.setdefault((run.problem.key(), run.in_place, run.through_tile), {})

    def least(self, run: Run) -> float:
        """What the run costs at least, by what is known of it with as much room or more."""
        rows = [found for bits, found in self._family(run).items() if bits <= run.resident_bits]
        if any(found is None for found in rows):
            return math.inf
        key = (run.problem.key(), run.in_place, run.through_tile)
        if key not in self._floors:
            self._floors[key] = floor_cost(self.machine, run, self.objective)
        return max([self._floors[key], *(_bound(found) for found in rows if found is not None)])

    def seen(self, run: Run) -> bool:
        """Whether this very run was searched, or is known to have no legal nest."""
        return run.resident_bits in self._family(run) or self.impossible(run)

    def known(self, run: Run) -> Found | None:
        """The run's nest, if it is known; see `impossible` where it is not."""
        family = self._family(run)
        if run.resident_bits in family:
            return self._named(run, family[run.resident_bits])
        for bits, found in family.items():
            if found is not None and bits <= run.resident_bits and self._fits(run, found):
                family[run.resident_bits] = found
                return self._named(run, found)
        return None

    def impossible(self, run: Run) -> bool:
        """Whether it is known that no nest is legal."""
        return any(found is None for bits, found in self._family(run).items() if bits <= run.resident_bits)

    def search(self, run: Run) -> None:
        """Nothing; from here on the run's nest, or that there is none, is known."""
        family = self._family(run)
        if run.resident_bits in family:
            return
        family[run.resident_bits] = None
        try:
            machine = resident_machine(self.machine, run)
            self.searches += 1
            found = self._search(machine, run.problem)
        except MappingError:
            return
        if run.through_tile:
            # Sums that leave the tile before they are complete would have to come back from the tensor.
            row = found.evaluation.at(machine.levels[machine.home("O")].name, "O")
            if row.fills:
                self.uncertain |= self.objective != "energy" or not found.optimal
                return
        family[run.resident_bits] = found

    def require(self, run: Run) -> None:
        """Nothing; searches the run's nest, with all the reasons if there is none.

        Raises:
            MappingError: no nest is legal.
        """
        family = self._family(run)
        if family.get(run.resident_bits) is None:
            self.searches += 1
            family[run.resident_bits] = self._search(resident_machine(self.machine, run), run.problem)

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() > self._deadline

    def _fits(self, run: Run, found: Found) -> bool:
        """Whether a nest's tiles fit beside what the run has on chip."""
        i = self._level
        if i is None:
            return True
        level = self.machine.levels[i]
        machine = self.machine
        if run.in_place or run.through_tile:
            residence = Residence(level=level.name, in_place=run.in_place, through_tile=run.through_tile)
            machine = replace(machine, residence=residence)
        tile = found.mapping.tiles[i]
        taken = sum(stored_bits(machine, run.problem, i, name, tile) for name in machine.held(i))
        left = (level.size_bits or 0) - run.resident_bits
        return left >= 0 and taken <= (left // 2 if level.buffering == "double" else left)

    def _named(self, run: Run, found: Found | None) -> Found | None:
        """The nest under the run's own layer's name."""
        if found is None or found.evaluation.layer == run.problem.name:
            return found
        return replace(found, evaluation=replace(found.evaluation, layer=run.problem.name))


def _bound(found: Found) -> float:
    return found.objective_value if found.optimal else min(found.bound, found.objective_value)
