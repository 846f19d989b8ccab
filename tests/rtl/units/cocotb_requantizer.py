"""Requantizer against models/numerics.py: every rounding, corners, ties and random vectors."""

from __future__ import annotations

import itertools
import random

import numpy as np
from bitwright.models.numerics import Rounding, requantize, rescale
from unit_machines import REQUANTIZERS
from unit_stimulus import Ports, equal, to_signed, unit_test

LATENCY = 9
TOP = 2**31 - 1
Vector = tuple[int, int, int, int]
"""acc, bias, multiplier, shift."""

OUTPUTS = [
    (0, -128, 127),
    (-128, -128, 127),
    (0, 0, 255),
    (255, -256, 255),
    (-256, -256, 255),
    (3, 5, 5),
]
"""Zero point and clamps: int8, shifted, uint8, the ends of 9 bits, and a single value."""


def _split(rng: random.Random, x: int, acc_bits: int) -> tuple[int, int]:
    """An accumulator and a bias whose sum is `x`, each within its range."""
    low, high = -(1 << (acc_bits - 1)), (1 << (acc_bits - 1)) - 1
    acc = rng.randint(max(low, x - TOP), min(high, x + TOP + 1))
    return acc, x - acc


def _vectors(rng: random.Random, acc_bits: int) -> list[Vector]:
    found: list[Vector] = []
    # Products up to ±2^62, zero, and both ends of the shift.
    x_corners = [-(2**31), 1 - 2**31, -(2**30), -129, -2, -1, 0, 1, 2, 127, 2**30, TOP - 1, TOP]
    m_corners = [0, 1, 2**30 - 1, 2**30, 2**30 + 1, TOP]
    for x, multiplier, shift in itertools.product(x_corners, m_corners, [0, 1, 23, 30, 31]):
        found.append((*_split(rng, x, acc_bits), multiplier, shift))
    # Ties of the last rounding and of TFLite's first, and their neighbours.
    for shift in range(32):
        for point in (30 + shift, 30, 31 + max(0, shift - 1)):
            odd = 2 * rng.randint(-130, 130) + 1
            powers = [a for a in range(31) if abs(odd) << max(0, point - a) <= TOP - 1 and a <= point]
            for a in powers[:1] + powers[-1:]:
                for nudge in (-1, 0, 1):
                    x = (odd << (point - a)) + nudge
                    found.append((*_split(rng, x, acc_bits), 1 << a, shift))
    # Random ones, most of which come out near the clamps.
    for _ in range(700):
        multiplier = rng.choice([rng.randint(2**30, TOP), rng.getrandbits(31)])
        shift = rng.randrange(32)
        scale = max(1, min(TOP, (300 << (31 + shift)) // max(1, multiplier)))
        found.append((*_split(rng, rng.randint(-scale, scale), acc_bits), multiplier, shift))
    rng.shuffle(found)
    return found


@unit_test(*REQUANTIZERS)
async def results_equal_the_reference(ports: Ports, rng: random.Random, unit: str) -> None:
    """One vector a cycle, without gaps; the parameters of the command change when none is in flight."""
    acc_bits = REQUANTIZERS[unit]["acc_bits"]
    if REQUANTIZERS[unit].get("scales_up"):
        ports.drive(left=0)
    await ports.reset(acc=0, bias=0, multiplier=0, shift=0, rounding=0, zero_point=0)
    for rounding in Rounding:
        vectors = _vectors(rng, acc_bits)
        count = len(OUTPUTS)
        for number, (zero_point, low, high) in enumerate(OUTPUTS):
            await _run_batch(ports, vectors[number::count], rounding, zero_point, low, high)


async def _run_batch(
    ports: Ports, batch: list[Vector], rounding: Rounding, zero_point: int, low: int, high: int
) -> None:
    acc, bias, multiplier, shift = (np.array(column) for column in zip(*batch, strict=True))
    expected = requantize(
        acc,
        bias=bias,
        multiplier=multiplier,
        shift=shift,
        rounding=rounding,
        zero_point=zero_point,
        low=low,
        high=high,
    ).tolist()
    ports.drive(rounding=int(rounding), zero_point=zero_point, clamp_low=low, clamp_high=high)
    for cycle in range(len(batch) + LATENCY):
        if cycle < len(batch):
            vector = batch[cycle]
            ports.drive(acc=vector[0], bias=vector[1], multiplier=vector[2], shift=vector[3])
        await ports.settle()
        if cycle >= LATENCY:
            came = to_signed(ports.get("result"), 9)
            vector = batch[cycle - LATENCY]
            about = f"{rounding.name} of acc, bias, multiplier, shift {vector} to {low}…{high} + {zero_point}"
            equal(about, came, expected[cycle - LATENCY])
        await ports.edge()


@unit_test("requantizer_up")
async def values_scaled_up_equal_the_reference(ports: Ports, rng: random.Random, _unit: str) -> None:
    """(acc + bias) · 2^left up to the ends of 32 bits, rounded to 32 bits: TFLite's residual adds."""
    await ports.reset(acc=0, bias=0, multiplier=0, shift=0, left=0, zero_point=0, clamp_low=0, clamp_high=0)
    for rounding in Rounding:
        ports.drive(rounding=int(rounding))
        expected: list[int] = []
        vectors = []
        for left in [*range(32)] * 12:
            room = 31 - left
            x = rng.choice([-(1 << room), (1 << room) - 1, rng.randint(-(1 << room), (1 << room) - 1)])
            acc, bias = _split(rng, x, 32)
            multiplier = rng.choice([TOP, 1 << 30, 1, 0, rng.getrandbits(31)])
            shift = rng.choice([0, 0, 1, 31, rng.randrange(32)])
            vectors.append((acc, bias, multiplier, shift, left))
            # Rounded up, the greatest product may leave int32 by one; no program does that.
            value = int(rescale(x << left, multiplier, shift, rounding))
            expected.append(to_signed(value, 32))
        for cycle in range(len(vectors) + LATENCY):
            if cycle < len(vectors):
                names = ("acc", "bias", "multiplier", "shift", "left")
                ports.drive(**dict(zip(names, vectors[cycle], strict=True)))
            await ports.settle()
            if cycle >= LATENCY:
                vector = vectors[cycle - LATENCY]
                about = f"{rounding.name} of acc, bias, multiplier, shift, left {vector}"
                equal(about, to_signed(ports.get("wide"), 32), expected[cycle - LATENCY])
            await ports.edge()
