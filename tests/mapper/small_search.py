"""The best nest of a small layer by trying tiles of divisors on a machine of a buffer and DRAM."""

import itertools
from dataclasses import dataclass

import numpy as np
from bitwright.mapper.cost_kernel import evaluate_batch
from bitwright.mapper.evaluation import Evaluation, evaluate, machine_arrays, nest_arrays
from bitwright.mapper.hierarchy import AbstractMachine, Level, PeMode
from bitwright.mapper.loop_nest import LoopNest, stored_bits
from bitwright.mapper.mapping import MappingError
from bitwright.mapper.problem import DIMS, OPERANDS, Problem

INNERMOST = (("B", "OY", "OX"), ("K",), ("C", "FY", "FX"))


@dataclass(frozen=True)
class SmallFound:
    """As much of a search's result as a plan reads."""

    mapping: LoopNest
    evaluation: Evaluation
    objective_value: float
    optimal: bool = True
    bound: float = 0.0


def buffer_machine(size_bits: int, **given: object) -> AbstractMachine:
    """A buffer for all operands, DRAM a hundred times as dear and of 8 bits a cycle."""
    values = {"read_bits_per_cycle": 64, "write_bits_per_cycle": 64, "buffering": "shadow"} | given
    return AbstractMachine(
        name="small",
        levels=(
            Level(name="buffer", operands=OPERANDS, size_bits=size_bits, read_pj=1, write_pj=1, **values),
            Level(
                name="dram", operands=OPERANDS, read_pj=100, write_pj=100, ports=1,
                read_bits_per_cycle=8, write_bits_per_cycle=8,
            ),
        ),
        pes=(PeMode(name="mac", weight_bits=8, input_bits=8, mac_pj=1.0),),
    )  # fmt: skip


def small_search(machine: AbstractMachine, problem: Problem, objective: str = "energy") -> SmallFound:
    """The best of all tiles of divisors (filters whole) and three orders; MappingError if none is legal."""
    sizes = dict(zip(DIMS, problem.sizes, strict=True))
    choices = [
        [n] if d in ("FY", "FX") else [e for e in range(1, n + 1) if n % e == 0] for d, n in sizes.items()
    ]
    tiles = [tile for tile in itertools.product(*choices) if _fits(machine, problem, tile)]
    if not tiles:
        raise MappingError(f"layer {problem.name}: no tile fits")
    orders = [(*(d for d in DIMS if d not in group), *group) for group in INNERMOST]
    nests = [
        LoopNest(tiles=(tile, problem.sizes), spatial=(), orders=(DIMS, order))
        for tile in tiles
        for order in orders
    ]
    a, n = machine_arrays(machine, problem), len(nests)
    rows = [nest_arrays(nest, 0) for nest in nests]
    traffic, cycles, energy = np.zeros((n, 2, 3, 4)), np.zeros((n, 6)), np.zeros((n, 4))
    evaluate_batch(
        *(np.stack(part) for part in zip(*rows, strict=True)), a.keep, a.axis_level, a.multicast, a.sliding,
        a.shape, a.shares, a.prices, a.ports, a.pe, a.drains, traffic, cycles, energy,
    )  # fmt: skip
    slow = np.ceil(cycles[:, 0] - 1e-9)
    values = {"energy": energy[:, 0], "latency": slow, "edp": energy[:, 0] * slow}[objective]
    best = int(np.argmin(values))
    found = evaluate(machine, problem, nests[best])
    value = float(values[best])
    return SmallFound(mapping=nests[best], evaluation=found, objective_value=value, bound=value)


def _fits(machine: AbstractMachine, problem: Problem, tile: tuple[int, ...]) -> bool:
    level = machine.levels[0]
    taken = {x: stored_bits(machine, problem, 0, x, tile) for x in machine.held(0)}
    if level.shared:
        return sum(taken.values()) <= (level.size_bits or 0)
    return all(bits <= (level.capacity(x) or 0) for x, bits in taken.items())
