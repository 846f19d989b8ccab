"""How fast nests are evaluated and searched, beside ZigZag, Timeloop and AccelForge.

Rates are of one core and of CPU time, compilation and the first call left out. The others' figures were
measured on such a machine, one thread each: Timeloop 3.0.3, ZigZag 3.9.1, AccelForge.
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

import numpy as np
from bitwright.mapper import cost_kernel as kernel
from bitwright.mapper.evaluation import machine_arrays
from bitwright.mapper.factor_space import walk_space
from bitwright.mapper.hierarchy import AbstractMachine, Axis, Level, PeMode
from bitwright.mapper.machines import load_any
from bitwright.mapper.optimum import search
from bitwright.mapper.problem import DIMS, OPERANDS, Problem
from bitwright.mapper.tile_space import tile_extents

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "mapper"))
_TIMELOOP = importlib.import_module("timeloop_machine")
EYERISS256, LAYER, SPACE = _TIMELOOP.EYERISS256, _TIMELOOP.LAYER, _TIMELOOP.SPACE
"""Timeloop's machine, layer and space, beside the tests that hold them to its figures."""

OTHERS = {"ZigZag": 200, "Timeloop": 6_500, "AccelForge": 40_000}
"""Mappings a second."""


def _level(name: str, kib: float, pj: float, bits: float = float("inf")) -> Level:
    return Level(
        name=name, operands=OPERANDS, size_bits=int(kib * 8192), buffering="double", word_bits=8,
        read_pj=pj, write_pj=pj, read_bits_per_cycle=bits, write_bits_per_cycle=bits,
    )  # fmt: skip


MACHINE = AbstractMachine(
    name="four-levels",
    levels=(
        _level("file", 0.5, 0.1),
        _level("l1", 64, 1.5, 512),
        _level("l2", 1024, 6.0, 256),
        Level(
            name="dram", operands=OPERANDS, word_bits=8, read_pj=64, write_pj=64, read_bits_per_cycle=64,
            write_bits_per_cycle=64,
        ),
    ),
    axes=(
        Axis(name="rows", size=16, below="l1", loops=("C", "FY")),
        Axis(name="cols", size=16, below="l1", loops=("K", "OX")),
    ),
    pes=(PeMode(name="mac", weight_bits=8, input_bits=8, mac_pj=0.2),),
)  # fmt: skip
"""All operands at all levels: nothing is left to the search by bypass."""


def resnet18() -> list[tuple[Problem, int]]:
    """ResNet-18's layers for 224 × 224 pictures, and how often each stands in it."""

    def conv(name: str, k: int, c: int, out: int, side: int, stride: int = 1) -> Problem:
        return Problem(
            name=name, K=k, C=c, OY=out, OX=out, FY=side, FX=side, stride_y=stride, stride_x=stride
        )

    return [
        (conv("conv1", 64, 3, 112, 7, 2), 1),
        (conv("layer1", 64, 64, 56, 3), 4),
        (conv("layer2.0", 128, 64, 28, 3, 2), 1),
        (conv("layer2.down", 128, 64, 28, 1, 2), 1),
        (conv("layer2", 128, 128, 28, 3), 3),
        (conv("layer3.0", 256, 128, 14, 3, 2), 1),
        (conv("layer3.down", 256, 128, 14, 1, 2), 1),
        (conv("layer3", 256, 256, 14, 3), 3),
        (conv("layer4.0", 512, 256, 7, 3, 2), 1),
        (conv("layer4.down", 512, 256, 7, 1, 2), 1),
        (conv("layer4", 512, 512, 7, 3), 3),
        (Problem(name="fc", K=1000, C=512), 1),
    ]


LIMIT_S = 5.0
"""Wall-clock seconds that a layer's search may take: the default of `bitwright map`."""
PRESETS = ("eyeriss-like", "tpu-like", "nvdla-like")
UNITS = {"energy": "pJ", "latency": "cycles", "edp": "pJ cycles"}


def _preset(name: str) -> AbstractMachine:
    machine = load_any(name)
    assert isinstance(machine, AbstractMachine)
    return machine


def random_nests(
    rng: np.random.Generator, layer: Problem, many: int, *, even: bool
) -> tuple[np.ndarray, ...]:
    """(tiles, counts, orders) of nests on MACHINE, even or with ragged tiles; sizes of buffers left aside."""
    whole = np.array(layer.sizes)
    tiles, counts = np.empty((many, 4, 8), np.int64), np.ones((many, 2, 8), np.int64)
    for d, name in enumerate(DIMS):
        unrolled = {"C": 0, "K": 1}.get(name)
        chains = []
        for _ in range(64):
            row, left = [], int(whole[d])
            for step in range(4):  # from the outermost tile inwards: what is left is cut once more
                sizes = [n for n in range(1, left + 1) if left % n == 0] if even else tile_extents(left)
                if step == 2 and unrolled is not None:
                    sizes = [n for n in sizes if n * 16 >= left] or sizes  # the axis takes this cut
                left = int(rng.choice(sizes))
                row.append(left)
            chains.append(row)
        picked = np.array(chains)[rng.integers(0, 64, many)]
        tiles[:, 3, d], tiles[:, 2, d], tiles[:, 1, d] = whole[d], picked[:, 0], picked[:, 1]
        tiles[:, 0, d] = picked[:, 2] if unrolled is not None else picked[:, 3]
        if unrolled is not None:
            counts[:, unrolled, d] = -(-picked[:, 1] // picked[:, 2])
    orders = rng.permuted(np.tile(np.arange(8), (many, 4, 1)), axis=2).astype(np.int64)
    return tiles, counts, orders


def evaluation_rate(*, even: bool) -> float:
    """Full evaluations a second: each nest's latency, energy, and bytes a level and operand."""
    rng, many = np.random.default_rng(0), 20_000
    seconds = total = 0.0
    for layer, _ in [resnet18()[0], *resnet18()]:
        a = machine_arrays(MACHINE, layer)
        nests = random_nests(rng, layer, many, even=even)
        traffic, cycles, energy = np.zeros((many, 4, 3, 4)), np.zeros((many, 10)), np.zeros((many, 6))
        started = time.process_time()
        kernel.evaluate_batch(
            *nests, a.keep, a.axis_level, a.multicast, a.sliding, a.shape, a.shares, a.prices, a.ports, a.pe,
            a.drains, traffic, cycles, energy,
        )  # fmt: skip
        if total == 0 and seconds == 0:
            seconds = -1.0  # the first call loads or compiles the kernels
            continue
        seconds = max(seconds, 0.0) + time.process_time() - started
        total += many
    return total / seconds


def optimum_seconds(objective: str, machine: AbstractMachine) -> list[tuple[str, float, float, float]]:
    """(layer, CPU seconds, objective, gap) of each of ResNet-18's layers; a gap of 0 is certified."""
    rows = []
    search(machine, Problem(name="warm", K=16, C=16, OY=4, OX=4, FY=3, FX=3), objective=objective)
    for layer, _ in resnet18():
        started = time.process_time()
        found = search(machine, layer, objective=objective, time_limit_s=LIMIT_S)
        gap = 0.0 if found.optimal else max(found.gap, 1e-12)
        rows.append((layer.name, time.process_time() - started, found.objective_value, gap))
    return rows


def main() -> int:
    for even in (True, False):
        rate = evaluation_rate(even=even)
        kind = "even tiles, as the others have" if even else "ragged tiles at any level"
        print(f"evaluations, 4 levels, ResNet-18, {kind}: {rate:,.0f} a second")
        for name, other in OTHERS.items():
            print(f"  {name:10} {other:8,} a second, ratio {rate / other:10,.1f}")
    gaps = 0
    for machine in (MACHINE, *map(_preset, PRESETS)):
        for objective, unit in UNITS.items():
            rows = optimum_seconds(objective, machine)
            for name, seconds, value, gap in rows:
                word = f"gap {gap:.2%}" if gap else "certified"
                print(f"  {name:12} {seconds:6.2f} s  {value:12.6g} {unit:9} {word}")
            spent = [row[1] for row in rows]
            certified = sum(not row[3] for row in rows)
            print(
                f"{machine.name}, least {objective}: {certified} of {len(rows)} layers certified, median "
                f"layer {float(np.median(spent)):.2f} s, all {sum(spent):.2f} s"
            )
            gaps += len(rows) - certified if machine is MACHINE else 0
    started = time.process_time()
    found = walk_space(EYERISS256, LAYER, SPACE, objective="edp")
    print(
        f"Timeloop's space of {found.evaluated + found.partial:,} mappings, {found.evaluated:,} legal: "
        f"{time.process_time() - started:.2f} s (Timeloop 27.4 s)"
    )
    product = Problem(name="matmul", K=1024, C=1024, OX=1024)
    machine = _preset("tpu-like")
    for objective in ("energy", "latency", "edp"):
        started = time.process_time()
        found = search(machine, product, objective=objective, time_limit_s=60)
        word = "certified" if found.optimal else "gap"
        print(f"1024³ product on tpu-like, {objective:8}: {time.process_time() - started:.2f} s, {word}")
    return 1 if gaps else 0


if __name__ == "__main__":
    sys.exit(main())
