"""Multiply8, inferred and of a vendor's cell, against Python's product."""

from __future__ import annotations

import itertools
import random

from unit_stimulus import Ports, equal, to_signed, unit_test

CORNERS = [-128, -127, -65, -64, -2, -1, 0, 1, 2, 63, 64, 126, 127]


@unit_test("multiply_inferred", "multiply_dsp")
async def products_come_a_cycle_later(ports: Ports, rng: random.Random, _unit: str) -> None:
    """All pairs of corners, then random pairs, one a cycle."""
    pairs = list(itertools.product(CORNERS, CORNERS))
    pairs += [(rng.randint(-128, 127), rng.randint(-128, 127)) for _ in range(1500)]
    await ports.reset(a=0, b=0)
    before = 0
    for a, b in pairs:
        ports.drive(a=a, b=b)
        await ports.settle()
        equal("the product", to_signed(ports.get("p"), 16), before)
        before = a * b
        await ports.edge()
