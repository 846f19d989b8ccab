"""How fast nests are evaluated and searched, beside ZigZag, Timeloop and AccelForge.

Rates are of one core and of CPU time, compilation and the first call left out. The others' figures are those of
../shared/reference/README.md, measured on two noisy cores, one thread each.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from bitwright.mapper import access_kernel as kernel
from bitwright.mapper.evaluation import machine_arrays
from bitwright.mapper.hierarchy import AbstractMachine, Axis, Level, PeMode
from bitwright.mapper.machines import load_any
from bitwright.mapper.optimum import search
from bitwright.mapper.problem import DIMS, OPERANDS, Problem

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


def random_nests(rng: np.random.Generator, layer: Problem, many: int) -> tuple[np.ndarray, ...]:
    """(tiles, counts, orders) of nests on MACHINE, even and ragged; sizes of buffers left aside."""
    whole = np.array(layer.sizes)
    tiles = np.ones((many, 4, 8), np.int64)
    counts = np.ones((many, 2, 8), np.int64)
    counts[:, 0, DIMS.index("C")] = min(16, layer.C)
    counts[:, 1, DIMS.index("K")] = min(16, layer.K)
    low = np.ones((many, 8), np.int64)
    for level in range(3):
        if level == 1:
            low = np.minimum(whole, low * counts.prod(axis=1))
        pieces = np.exp2(rng.integers(0, 5, (many, 8))).astype(np.int64)
        ragged = rng.random((many, 8)) < 0.2
        cut = np.where(ragged, -(-whole // pieces), np.maximum(1, whole // pieces))
        low = np.maximum(low, np.minimum(whole, cut if level else np.minimum(cut, 4)))
        tiles[:, level] = low
    tiles[:, 3] = whole
    orders = rng.permuted(np.tile(np.arange(8), (many, 4, 1)), axis=2).astype(np.int64)
    return tiles, counts, orders


def evaluation_rate() -> float:
    """Full evaluations a second: each nest's latency, energy, and bytes a level and operand."""
    rng, many = np.random.default_rng(0), 20_000
    seconds = total = 0.0
    for layer, _ in [resnet18()[0], *resnet18()]:
        a = machine_arrays(MACHINE, layer)
        nests = random_nests(rng, layer, many)
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


def optimum_seconds() -> list[tuple[str, float, float, bool]]:
    """(layer, CPU seconds, energy, certified) of each of ResNet-18's layers."""
    rows = []
    search(MACHINE, Problem(name="warm", K=16, C=16, OY=4, OX=4, FY=3, FX=3))
    for layer, _ in resnet18():
        started = time.process_time()
        found = search(MACHINE, layer, time_limit_s=60)
        rows.append((layer.name, time.process_time() - started, found.evaluation.energy_pj, found.optimal))
    return rows


def main() -> int:
    rate = evaluation_rate()
    print(f"evaluations of nests, 4 levels, ResNet-18: {rate:12,.0f} a second")
    for name, other in OTHERS.items():
        print(f"  {name:10} {other:8,} a second, ratio {rate / other:10,.1f}")
    rows = optimum_seconds()
    for name, seconds, energy, certified in rows:
        print(f"  {name:12} {seconds:6.2f} s  {energy / 1e6:10.3f} µJ  {'certified' if certified else 'gap'}")
    seconds = sorted(row[1] for row in rows)
    print(
        f"certified optimum of least energy: median layer {np.median(seconds):.2f} s, all {sum(seconds):.2f} s"
    )
    product = Problem(name="matmul", K=1024, C=1024, OX=1024)
    machine = load_any("tpu-like")
    assert isinstance(machine, AbstractMachine)
    for objective in ("energy", "latency", "edp"):
        started = time.process_time()
        found = search(machine, product, objective=objective, time_limit_s=60)
        took = time.process_time() - started
        print(
            f"1024³ product on tpu-like, {objective:8}: {took:.2f} s, {'certified' if found.optimal else 'gap'}"
        )
    return 0 if all(row[3] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
