"""Multiply8 in every form, and two products of one multiplier, against Python's product."""

from __future__ import annotations

import itertools
import random

from unit_stimulus import Ports, equal, to_signed, unit_test

INT8 = range(-128, 128)


@unit_test("multiply_inferred", "multiply_dsp", "multiply_lut")
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


@unit_test("multiply_pair")
async def two_products_share_an_operand(ports: Ports, rng: random.Random, _unit: str) -> None:
    """All 65,536 pairs of each product, the other one at its ends or anywhere."""
    pairs = list(itertools.product(INT8, INT8))
    before = [(0, 0), (0, 0)]
    await ports.reset(a_low=0, a_high=0, b=0)
    for swap in (False, True):
        rng.shuffle(pairs)
        for a, b in pairs:
            other = rng.choice([-128, -1, 0, 127, rng.choice(INT8)])
            low, high = (other, a) if swap else (a, other)
            ports.drive(a_low=low, a_high=high, b=b)
            await ports.settle()
            came = tuple(to_signed(ports.get(name), 16) for name in ("p_low", "p_high"))
            equal("the products", came, before[0])
            before = [before[1], (low * b, high * b)]
            await ports.edge()
