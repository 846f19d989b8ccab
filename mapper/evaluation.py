"""What a loop nest costs on an abstract machine: exact cycles, energy, and bytes a level and operand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import access_kernel as kernel
from . import cost_kernel as cost
from .hierarchy import AbstractMachine
from .loop_nest import LoopNest, tile_values
from .problem import DIMS, OPERANDS, Problem

__all__ = ["Evaluation", "Traffic", "evaluate", "machine_arrays", "nest_arrays"]

Array = NDArray[Any]

_NEVER = 1e9
"""Bits that a partial sum counts as where it must not go: no nest that has another way sends it there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one operand does at one level, summed over the level's instances; in values and in bytes."""

    level: str
    operand: str
    reads: int
    """Values read on their way in: what the level below, or the PEs, take."""
    updates: int
    """Values written from below: outputs that come back up."""
    fills: int
    """Values written from above."""
    drains: int
    """Values read on their way out."""
    read_bytes: float
    update_bytes: float
    fill_bytes: float
    drain_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Cycles, energy and traffic of one layer on one machine by one nest; modelled, not run."""

    layer: str
    machine: str
    macs: int
    latency_cycles: int
    """Of the steady state: the slowest of PEs and ports, and what does not overlap."""
    fill_cycles: int
    """For the first tiles to come in and the last outputs to go, where the layer stands alone."""
    compute_cycles: int
    port_cycles: dict[str, int]
    """By level: what its busiest instance's ports take."""
    stall_cycles: int
    """Of the latency, those in which the PEs wait."""
    utilization: float
    """Products over what all PEs could form in `latency_cycles`."""
    active_pes: int
    energy_pj: float
    energy_by_level: dict[str, float]
    """By level, and `mac`."""
    traffic: tuple[Traffic, ...]
    fidelity: str = "modelled"

    def at(self, level: str, operand: str) -> Traffic:
        """The traffic of an operand at a level; KeyError where it passes the level by."""
        for row in self.traffic:
            if (row.level, row.operand) == (level, operand):
                return row
        raise KeyError(f"{operand} at {level}")

    @property
    def edp(self) -> float:
        """Picojoules times cycles."""
        return self.energy_pj * self.latency_cycles


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MachineArrays:
    """A machine and a layer as the kernels take them; see `access_kernel`."""

    keep: Array
    axis_level: Array
    multicast: Array
    sliding: Array
    shape: Array
    prices: Array
    ports: Array
    pe: Array
    shares: bool
    drains: bool


def machine_arrays(machine: AbstractMachine, problem: Problem) -> MachineArrays:
    """The machine and the layer as arrays.

    Raises:
        ValueError: no PE mode takes the layer's formats.
    """
    n = len(machine.levels)
    keep = np.array([[x in machine.held(i) for x in OPERANDS] for i in range(n)], np.int64)
    prices, ports = np.zeros((n, 3, 5)), np.zeros((n, 4))
    for i, level in enumerate(machine.levels):
        for j, x in enumerate(OPERANDS):
            ratio = 1.0
            if x in level.compressed:
                ratio = problem.weight_ratio if x == "W" else problem.input_ratio
            prices[i, j] = (
                problem.bits(x) * ratio,
                problem.partial_bits,
                level.read_pj / level.word_bits,
                level.write_pj / level.word_bits,
                i,
            )
        outermost = i == n - 1
        ports[i] = (
            1 / level.read_bits_per_cycle,
            1 / level.write_bits_per_cycle,
            level.ports == 1,
            level.buffering == "single" and not outermost,
        )
    for j, x in enumerate(OPERANDS):
        if machine.home(x) < n - 1:
            prices[-1, j] = prices[machine.home(x), j]
            if x == "O" and machine.residence is not None and machine.residence.through_tile:
                prices[-1, j, 1] = _NEVER  # the tensor has no room for partial sums
    mode = machine.pe_mode(problem)
    density = {"W": problem.weight_density, "I": problem.input_density}
    share = math.prod(density[x] for x in mode.skips) * (problem.imbalance if mode.skips else 1.0)
    kept = math.prod(density[x] for x in {*mode.skips, *mode.gates})
    sy, dy, sx, dx = problem.stride_y, problem.dilation_y, problem.stride_x, problem.dilation_x
    gy, gx = math.gcd(sy, dy), math.gcd(sx, dx)
    return MachineArrays(
        keep=keep,
        axis_level=np.array([machine.level_index(axis.below) for axis in machine.axes], np.int64),
        multicast=np.array([axis.multicast for axis in machine.axes], np.int64),
        sliding=np.array([level.sliding for level in machine.levels], np.int64),
        shape=np.array([*problem.sizes, sy // gy, sx // gx, dy // gy, dx // gx], np.int64),
        prices=prices,
        ports=ports,
        pe=np.array([share / mode.macs_per_cycle, mode.mac_pj * kept]),
        shares=bool(np.any(ports[:, :2] > 0)),
        drains=machine.drains_cost,
    )


def nest_arrays(nest: LoopNest, axes: int) -> tuple[Array, Array, Array]:
    """(tiles, counts, orders) as the kernels take them: int64, shapes (levels, 8), (axes, 8), (levels, 8)."""
    counts = np.array(nest.spatial, np.int64).reshape(axes, len(DIMS))
    orders = np.array([[DIMS.index(d) for d in order] for order in nest.orders], np.int64)
    return np.array(nest.tiles, np.int64), counts, orders


def evaluate(machine: AbstractMachine, problem: Problem, mapping: LoopNest) -> Evaluation:
    """Exact cycles, energy and traffic of a nest, by the rules of docs/mapping.md.

    Raises:
        MappingError: the nest is not legal; names the layer, the level and by how much it is short.
        ValueError: no PE mode takes the layer's formats.
    """
    mapping.verify(machine, problem)
    a = machine_arrays(machine, problem)
    tiles, counts, orders = nest_arrays(mapping, len(machine.axes))
    n = tiles.shape[0]
    moves = np.zeros((n, 3, kernel.MOVES), np.int64)
    steps = kernel.count_all(
        tiles, counts, orders, a.keep, a.axis_level, a.sliding, a.shape, a.shares,
        *kernel.new_work(n, a.axis_level, a.multicast), moves,
    )  # fmt: skip
    traffic, cycles, energy = np.zeros((n, 3, 4)), np.zeros(2 * n + 2), np.zeros(n + 2)
    cost.cost_of(
        steps, problem.macs, moves, a.keep, a.prices, a.ports, a.pe, a.drains, traffic, cycles, energy
    )
    latency = math.ceil(cycles[0] - 1e-9)
    compute = math.ceil(cycles[1] - 1e-9)
    mode = machine.pe_mode(problem)
    names = [level.name for level in machine.levels]
    port_cycles = {}
    for i, level in enumerate(machine.levels):
        reads, writes = float(cycles[2 + i]), float(cycles[2 + n + i])
        port_cycles[level.name] = math.ceil(
            (reads + writes if level.ports == 1 else max(reads, writes)) - 1e-9
        )
    return Evaluation(
        layer=problem.name,
        machine=machine.name,
        macs=problem.macs,
        latency_cycles=latency,
        fill_cycles=_fill_cycles(machine, problem, mapping, a),
        compute_cycles=compute,
        port_cycles=port_cycles,
        stall_cycles=latency - compute,
        utilization=problem.macs / (machine.pe_count * mode.macs_per_cycle * max(1, latency)),
        active_pes=int(np.prod(counts, dtype=np.int64)),
        energy_pj=float(energy[0]),
        energy_by_level={"mac": float(energy[1]), **dict(zip(names, energy[2:].tolist(), strict=True))},
        traffic=_traffic(machine, moves, a.keep, traffic),
    )


def _fill_cycles(machine: AbstractMachine, problem: Problem, nest: LoopNest, a: MachineArrays) -> int:
    """Cycles for the first weights and inputs to come down to the PEs, and the last outputs to go up."""
    total = 0.0
    values = _tile_table(problem, nest)
    for child in range(len(machine.levels) - 1):
        down_near = down_far = up_near = up_far = 0.0
        for j in range(3):
            if not a.keep[child, j]:
                continue
            parent = next(p for p in range(child + 1, len(machine.levels)) if a.keep[p, j])
            held, asked = values[child][j], _values_below(problem, nest, machine, child, parent)[j]
            port = a.ports[int(a.prices[parent, j, cost.PLACE])]
            if j < 2:
                down_near += held * a.prices[child, j, 0] * a.ports[child, 1]
                down_far += asked * a.prices[parent, j, 0] * port[0]
            else:
                up_near += held * a.prices[parent, j, 0] * a.ports[child, 0]
                up_far += asked * a.prices[parent, j, 0] * port[1]
        total += max(down_near, down_far) + max(up_near, up_far)
    return math.ceil(total - 1e-9)


def _tile_table(problem: Problem, nest: LoopNest) -> list[list[int]]:
    return [[tile_values(problem, x, tile) for x in OPERANDS] for tile in nest.tiles]


def _values_below(
    problem: Problem, nest: LoopNest, machine: AbstractMachine, child: int, parent: int
) -> list[int]:
    """Values of W, I, O that all instances of `child` under one of `parent` hold together."""
    extents = list(nest.tiles[child])
    for axis, counts in zip(machine.axes, nest.spatial, strict=True):
        if child < machine.level_index(axis.below) <= parent:
            extents = [e * c for e, c in zip(extents, counts, strict=True)]
    extents = [min(e, t) for e, t in zip(extents, nest.tiles[parent], strict=True)]
    return [tile_values(problem, x, tuple(extents)) for x in OPERANDS]


def _traffic(machine: AbstractMachine, moves: Array, keep: Array, bits: Array) -> tuple[Traffic, ...]:
    n = len(machine.levels)
    values = np.zeros((n, 3, 4), np.int64)
    for child in range(-1, n - 1):
        for j in range(3):
            if child >= 0 and not keep[child, j]:
                continue
            parent = next(p for p in range(child + 1, n) if keep[p, j])
            parent = machine.home(OPERANDS[j]) if parent == n - 1 else parent
            m = moves[child + 1, j]
            values[parent, j, 0] += m[kernel.VISIT_PARENT] - m[kernel.FIRST_PARENT]
            values[parent, j, 2] += m[kernel.VISIT_PARENT] if j == 2 else 0
            if child >= 0:
                values[child, j, 1] += m[kernel.VISIT_CHILD] - m[kernel.FIRST_CHILD]
                values[child, j, 3] += m[kernel.VISIT_CHILD] if j == 2 else 0
    rows = []
    for i, level in enumerate(machine.levels):
        for j, x in enumerate(OPERANDS):
            here = machine.home(x) if i == n - 1 else i
            if here != i or not (keep[i, j] or machine.home(x) == i):
                continue
            v, b = values[i, j], bits[i, j] / 8
            row = Traffic(
                level=level.name,
                operand=x,
                reads=int(v[0]),
                fills=int(v[1]),
                updates=int(v[2]),
                drains=int(v[3]),
                read_bytes=float(b[0]),
                fill_bytes=float(b[1]),
                update_bytes=float(b[2]),
                drain_bytes=float(b[3]),
            )
            rows.append(row)
    return tuple(rows)
