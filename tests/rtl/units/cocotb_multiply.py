"""Multiply8, inferred and of a vendor's cell, against Python's product."""

from __future__ import annotations

import itertools
import random

from unit_stimulus import Ports, equal, to_signed, unit_test

INT8 = range(-128, 128)


@unit_test("multiply_inferred", "multiply_dsp")
async def products_come_two_cycles_later(ports: Ports, rng: random.Random, _unit: str) -> None:
    """All 65,536 pairs, one a cycle, in random order: the vendor's cell is trusted on this."""
    pairs = list(itertools.product(INT8, INT8))
    rng.shuffle(pairs)
    await ports.reset(a=0, b=0)
    before = [0, 0]
    for a, b in pairs:
        ports.drive(a=a, b=b)
        await ports.settle()
        equal("the product", to_signed(ports.get("p"), 16), before[0])
        before = [before[1], a * b]
        await ports.edge()
