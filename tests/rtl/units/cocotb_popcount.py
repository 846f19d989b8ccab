"""PopCount in every vendor's form, on the behavioural twins of the cells, against Python's own count."""

from __future__ import annotations

import itertools
import random
from typing import Any

from bitwright.rtl.popcount import PopCount
from unit_machines import POPCOUNTS
from unit_stimulus import Ports, equal, unit_test

CASES = 1000
CODES = {-1: 3, 0: 0, 1: 1}


def bits_of(rng: random.Random, lanes: int) -> list[tuple[list[int], list[int]]]:
    """All pairs of words of few lanes; else ends, single bits and words of any density."""
    words = [list(word) for word in itertools.product((0, 1), repeat=lanes)] if lanes <= 3 else []
    if words:
        return [(a, b) for a in words for b in words] * 4
    ends = [[0] * lanes, [1] * lanes]
    pairs = [(a, b) for a in ends for b in ends]
    pairs += [([int(lane == n) for lane in range(lanes)], ends[n % 2]) for n in range(lanes)]
    while len(pairs) < CASES:
        rate = rng.random()
        a = [rng.getrandbits(1) for _ in range(lanes)]
        pairs.append((a, [bit ^ int(rng.random() < rate) for bit in a]))
    return pairs


def trits_of(rng: random.Random, lanes: int) -> list[tuple[list[int], list[int]]]:
    """Ends, single lanes, and words of any density."""
    ends = [[value] * lanes for value in CODES]
    pairs = [(a, b) for a in ends for b in ends]
    pairs += [([int(lane == n) for lane in range(lanes)], ends[n % 3]) for n in range(lanes)]
    while len(pairs) < CASES:
        rate = rng.random()
        words = ([rng.choice([-1, 1]) * int(rng.random() < rate) for _ in range(lanes)] for _ in range(2))
        pairs.append((next(words), next(words)))
    return pairs


def counted(a: list[int], b: list[int], options: dict[str, Any]) -> int:
    if options.get("ternary"):
        return sum(1 + x * y for x, y in zip(a, b, strict=True))
    return sum(x != y for x, y in zip(a, b, strict=True))


@unit_test(*POPCOUNTS)
async def counts_are_sums_over_lanes(ports: Ports, rng: random.Random, unit: str) -> None:
    options = POPCOUNTS[unit]
    ternary = bool(options.get("ternary"))
    pairs = (trits_of if ternary else bits_of)(rng, options["lanes"])
    rng.shuffle(pairs)
    expected: list[int] = []
    await ports.reset(a=0, b=0)
    for a, b in pairs:
        width = 2 if ternary else 1
        words = [
            sum((CODES[value] if ternary else value) << (width * lane) for lane, value in enumerate(word))
            for word in (a, b)
        ]
        ports.drive(a=words[0], b=words[1])
        await ports.settle()
        if len(expected) >= PopCount.LATENCY:
            equal("the count", ports.get("count"), expected[-PopCount.LATENCY])
        expected.append(counted(a, b, options))
        await ports.edge()
