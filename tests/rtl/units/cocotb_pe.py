"""The processing element against sums in Python: every kind, accumulators, banks, chain."""

from __future__ import annotations

import random
from collections import deque

from bitwright.mapper.machine import Machine
from bitwright.mapper.pe import PeKind
from bitwright.rtl.pe import ProcessingElement, act_bits
from unit_machines import PE_MACHINES
from unit_stimulus import Ports, chance, equal, to_signed, unit_test

CYCLES = 4000
INPUT_LIST = (
    *("pe", "act", "weight", "acc_en", "acc_fresh", "acc_bank", "acc_index"),
    *("valid", "drain_en", "drain_load", "drain_bank", "drain_index", "chain_in"),
)


def lanes_of(rng: random.Random, lanes: int) -> list[int]:
    """int8 operands, often all at one end."""
    if rng.random() < 0.2:
        return [rng.choice([-128, 127, -1, 0])] * lanes
    return [rng.randint(-128, 127) for _ in range(lanes)]


def packed(values: list[int]) -> int:
    return sum((value & 255) << (8 * i) for i, value in enumerate(values))


def operands_of(rng: random.Random, weight_format: str, bits: int, lanes: int) -> tuple[list[int], int]:
    """Values of a format, and how they are packed."""
    values = {
        "int8": lambda: lanes_of(rng, lanes),
        "ternary": lambda: rng.choice([[rng.choice([-1, 0, 1]) for _ in range(lanes)], [-1] * lanes]),
        "binary": lambda: rng.choice([[rng.choice([-1, 1]) for _ in range(lanes)], [1] * lanes]),
    }[weight_format]()
    codes = [(value > 0) if bits == 1 else value & ((1 << bits) - 1) for value in values]
    return values, sum(code << (bits * lane) for lane, code in enumerate(codes))


def step_of(rng: random.Random, machine: Machine, kind: PeKind) -> tuple[dict[str, int], int]:
    """Operands of a step as the array gives them, and their dot product: some lanes lie beyond the run."""
    lanes = machine.array.lanes(kind)
    valid = lanes if rng.random() < 0.6 else rng.randrange(1, lanes + 1)
    act, act_word = operands_of(rng, kind.act_format, kind.act_bits, lanes)
    weight, weight_word = operands_of(rng, kind.weight_format, kind.weight_bits, lanes)
    act_word &= (1 << (valid * kind.act_bits)) - 1
    weight_word &= (1 << (valid * kind.weight_bits)) - 1
    if kind.lane_wise:  # the word's other bytes are not masked
        act_word |= rng.getrandbits(act_bits(machine) - 8) << 8
    dot = sum(a * w for a, w in zip(act[:valid], weight[:valid], strict=True))
    return {"pe": int(kind), "act": act_word, "weight": weight_word, "valid": valid}, dot


@unit_test(*(f"pe_{name}" for name in PE_MACHINES))
async def accumulators_are_sums_of_dot_products(ports: Ports, rng: random.Random, unit: str) -> None:
    """A dot product a cycle, often to an accumulator of the last cycles, while the other bank is read; sums
    wrap at the accumulator's width."""
    machine = PE_MACHINES[unit.removeprefix("pe_")]
    array, depth, bits = machine.array, machine.array.acc_depth, machine.array.acc_bits
    banks = [[0] * depth, [0] * depth]
    drainable = [[0] * depth, [0] * depth]
    sums: deque[tuple[int, int, int] | None] = deque([None] * ProcessingElement.DRAINED_AFTER)
    recent = [0, 0]
    moves = False
    drained: int | None = None  # by the controls of the cycle before
    dots = [0] * ProcessingElement.CONTROLS_AFTER  # of the cycles before, oldest first
    settled = 0  # the kind stays while values are in flight
    kind = array.kinds[0]
    chain_out: int | None = None
    await ports.reset(**dict.fromkeys(INPUT_LIST, 0))
    for cycle in range(CYCLES):
        if cycle % 40 == 0:
            kind, settled = rng.choice(array.kinds), cycle + ProcessingElement.CONTROLS_AFTER
        filling = cycle < 4 * depth
        step, dot = step_of(rng, machine, kind)
        enable = int(cycle >= settled and cycle % 40 < 39 and (filling or chance(rng, 0.8)))
        fresh = int(filling or chance(rng, 0.02))
        bank, index = (
            divmod(cycle % (2 * depth), depth) if filling else (cycle // 50 % 2, rng.randrange(depth))
        )
        if not filling and chance(rng, 0.5):
            index = rng.choice(recent)
        # A drain is of the bank that is not added to.
        load, shift = (0, 1) if filling else (chance(rng, 0.4), chance(rng, 0.8))
        drain_bank = 1 - bank if enable or rng.random() < 0.5 else bank
        drain_index = rng.choice([rng.randrange(depth), index])
        chain_in = rng.getrandbits(bits)
        ports.drive(chain_in=chain_in, drain_en=shift, **step)
        ports.drive(acc_en=enable, acc_fresh=fresh, acc_bank=bank, acc_index=index)
        ports.drive(drain_load=load, drain_bank=drain_bank, drain_index=drain_index)
        await ports.settle()
        if chain_out is not None:
            equal("chain_out", to_signed(ports.get("chain_out"), bits), chain_out)
        if moves:
            chain_out = to_signed(chain_in, bits) if drained is None else drained
        written = sums.popleft()
        if written is not None:
            drainable[written[0]][written[1]] = written[2]
        moves, drained = bool(shift), drainable[drain_bank][drain_index] if load else None
        sums.append(None)
        if enable:
            banks[bank][index] = to_signed((0 if fresh else banks[bank][index]) + dots[0], bits)
            sums[-1] = (bank, index, banks[bank][index])
        recent = [recent[1], index]
        dots = [*dots[1:], dot]
        await ports.edge()
