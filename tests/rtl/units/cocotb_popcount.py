"""PopCount against Python's own count."""

from __future__ import annotations

import itertools
import random

from bitwright.rtl.popcount import PopCount
from unit_machines import POPCOUNT_LANES
from unit_stimulus import Ports, equal, unit_test

CASES = 3000


def operands(rng: random.Random, lanes: int) -> list[tuple[int, int]]:
    """All pairs of few lanes; else ends, single bits and words of any density."""
    full = (1 << lanes) - 1
    if lanes <= 4:
        pairs = list(itertools.product(range(full + 1), repeat=2)) * 4
        rng.shuffle(pairs)
        return pairs
    pairs = [(0, 0), (full, 0), (full, full), (0, full), *((1 << n, 0) for n in range(lanes))]
    while len(pairs) < CASES:
        sparse = rng.getrandbits(lanes) & rng.getrandbits(lanes) & rng.getrandbits(lanes)
        a = rng.getrandbits(lanes)
        pairs.append((a, rng.choice([rng.getrandbits(lanes), a ^ sparse, a ^ full ^ sparse])))
    return pairs


@unit_test(*(f"popcount_{lanes}" for lanes in POPCOUNT_LANES))
async def counts_are_of_the_bits_that_differ(ports: Ports, rng: random.Random, unit: str) -> None:
    expected: list[int] = []
    await ports.reset(a=0, b=0)
    for a, b in operands(rng, int(unit.split("_")[1])):
        ports.drive(a=a, b=b)
        await ports.settle()
        if len(expected) >= PopCount.LATENCY:
            equal("the count", ports.get("count"), expected[-PopCount.LATENCY])
        expected.append((a ^ b).bit_count())
        await ports.edge()
