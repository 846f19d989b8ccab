"""The processing element against sums in Python: every kind, accumulators, banks, chain."""

from __future__ import annotations

import random

from bitwright.mapper.pe import PeKind
from unit_machines import MACHINES
from unit_stimulus import Ports, chance, equal, to_signed, unit_test

CYCLES = 4000
INPUT_LIST = (
    *("pe", "act", "weight", "acc_en", "acc_fresh", "acc_bank", "acc_index"),
    *("drain_load", "drain_bank", "drain_index", "chain_in"),
)


def lanes_of(rng: random.Random, lanes: int) -> list[int]:
    """int8 operands, often all at one end."""
    if rng.random() < 0.2:
        return [rng.choice([-128, 127, -1, 0])] * lanes
    return [rng.randint(-128, 127) for _ in range(lanes)]


def packed(values: list[int]) -> int:
    return sum((value & 255) << (8 * i) for i, value in enumerate(values))


def weights_of(rng: random.Random, kind: PeKind, lanes: int) -> tuple[list[int], int]:
    """Weights of a kind's format, and how they are packed."""
    if kind == PeKind.INT8:
        values = lanes_of(rng, lanes)
        return values, packed(values)
    if kind == PeKind.TERNARY_INT8:
        values = [rng.choice([-1, 0, 1]) for _ in range(lanes)]
        return values, sum((value & 3) << (2 * i) for i, value in enumerate(values))
    values = [rng.choice([-1, 1]) for _ in range(lanes)]
    return values, sum((value > 0) << i for i, value in enumerate(values))


@unit_test("pe_narrow", "pe_wide")
async def accumulators_are_sums_of_dot_products(ports: Ports, rng: random.Random, unit: str) -> None:
    """A dot product a cycle while the other bank is read; sums wrap at the accumulator's width."""
    machine = MACHINES[unit.removeprefix("pe_")]
    array, depth, bits = machine.array, machine.array.acc_depth, machine.array.acc_bits
    most = max(array.lanes(kind) for kind in array.kinds)
    banks = [[0] * depth, [0] * depth]
    dots = [0, 0]  # of the two cycles before, older first
    chain_out: int | None = None
    await ports.reset(valid=0, drain_en=1, **dict.fromkeys(INPUT_LIST, 0))
    for cycle in range(CYCLES):
        filling = cycle < 2 * depth
        kind = rng.choice(array.kinds)
        act = lanes_of(rng, most)
        weight, word = weights_of(rng, kind, array.lanes(kind))
        enable, fresh = int(filling or chance(rng, 0.8)), int(filling or chance(rng, 0.02))
        bank, index = divmod(cycle, depth) if filling else (cycle // 50 % 2, rng.randrange(depth))
        # A drain is of the bank that is not added to.
        load = 0 if filling else chance(rng, 0.4)
        drain_bank = 1 - bank if enable or rng.random() < 0.5 else bank
        drain_index = rng.choice([rng.randrange(depth), index])
        chain_in = rng.getrandbits(bits)
        ports.drive(pe=int(kind), act=packed(act), weight=word, chain_in=chain_in)
        ports.drive(acc_en=enable, acc_fresh=fresh, acc_bank=bank, acc_index=index)
        ports.drive(drain_load=load, drain_bank=drain_bank, drain_index=drain_index)
        await ports.settle()
        if chain_out is not None:
            equal("chain_out", to_signed(ports.get("chain_out"), bits), chain_out)
        chain_out = banks[drain_bank][drain_index] if load else to_signed(chain_in, bits)
        if enable:
            banks[bank][index] = to_signed((0 if fresh else banks[bank][index]) + dots[0], bits)
        dots = [dots[1], sum(a * w for a, w in zip(act, weight, strict=False))]
        await ports.edge()
