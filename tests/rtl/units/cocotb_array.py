"""ProcessingArray against dot products in Python: the gearbox, the latency, the chains' order."""

from __future__ import annotations

import random
from dataclasses import dataclass

from bitwright.mapper.pe import PeKind
from cocotb_pe import lanes_of, packed
from unit_machines import PAIRED
from unit_stimulus import Ports, chance, equal, to_signed, unit_test

CYCLES = 2500
ARRAY = PAIRED.array
ROWS, COLS, DEPTH, BITS = ARRAY.rows, ARRAY.cols, ARRAY.acc_depth, ARRAY.acc_bits
LANES = ARRAY.lanes(PeKind.INT8)
SETS = ARRAY.sets_per_word(PeKind.INT8)
TAIL = LANES - 1
POST_LANES = PAIRED.post.lanes
LATENCY = PAIRED.timing.array_latency
Numbers = list[int]


@dataclass
class Issue:
    """One cycle's issue; operands arrive later."""

    enable: int
    fresh: int
    bank: int
    index: int
    weight_set: int
    last_set: int
    weights: list[list[Numbers]] | None = None
    """[row][set][lane], of the cycle after."""
    acts: list[Numbers] | None = None
    """[column][lane], of two cycles after."""


def _issue(rng: random.Random, cycle: int) -> Issue:
    filling = cycle < 2 * DEPTH
    bank, index = divmod(cycle, DEPTH) if filling else (cycle // 40 % 2, rng.randrange(DEPTH))
    fresh = int(filling or chance(rng, 0.05))
    return Issue(
        int(filling or chance(rng, 0.8)), fresh, bank, index, rng.randrange(SETS), rng.getrandbits(1)
    )


def _add(banks: list[list[list[Numbers]]], issue: Issue) -> None:
    assert issue.acts is not None and issue.weights is not None
    for col in range(COLS):
        for row in range(ROWS):
            cell = banks[issue.bank][issue.index][col]
            weights = issue.weights[row][issue.weight_set]
            valid = TAIL if issue.last_set else LANES
            total = sum(a * w for a, w in zip(issue.acts[col][:valid], weights, strict=False))
            cell[row] = to_signed((0 if issue.fresh else cell[row]) + total, BITS)


@unit_test("array_paired")
async def heads_give_the_sums_column_by_column(ports: Ports, rng: random.Random, _unit: str) -> None:
    banks = [[[[0] * ROWS for _ in range(COLS)] for _ in range(DEPTH)] for _ in range(2)]
    issues: list[Issue] = []
    chain: Numbers | None = None
    acts_ports = {f"act_{col}": 0 for col in range(COLS)}
    controls = dict.fromkeys(("acc_en", "acc_fresh", "acc_bank", "acc_index", "weight_set", "last_set"), 0)
    drains = {"drain_en": 1, "drain_load": 0, "drain_bank": 0, "drain_index": 0}
    await ports.reset(pe=int(PeKind.INT8), tail=TAIL, weight_line=0, **acts_ports, **controls, **drains)
    for cycle in range(CYCLES):
        issue = _issue(rng, cycle)
        issues.append(issue)
        ports.drive(acc_en=issue.enable, acc_fresh=issue.fresh, acc_bank=issue.bank, acc_index=issue.index)
        ports.drive(weight_set=issue.weight_set, last_set=issue.last_set)
        weights = [[lanes_of(rng, LANES) for _ in range(SETS)] for _ in range(ROWS)]
        words = [sum(packed(lanes) << (8 * LANES * n) for n, lanes in enumerate(row)) for row in weights]
        ports.drive(weight_line=sum(word << (ARRAY.weight_word_bits * r) for r, word in enumerate(words)))
        acts = [lanes_of(rng, LANES) for _ in range(COLS)]
        ports.drive(**{f"act_{col}": packed(acts[col]) for col in range(COLS)})
        if cycle >= 1:
            issues[-2].weights = weights
        if cycle >= 2:
            issues[-3].acts = acts
        # What was issued `LATENCY` cycles ago is to be seen now; one later is just being added.
        if cycle >= LATENCY and issues[-1 - LATENCY].enable:
            _add(banks, issues[-1 - LATENCY])
        adding = issues[-LATENCY] if cycle >= LATENCY else None
        drain_bank = rng.getrandbits(1)
        if adding is not None and adding.enable and adding.bank == drain_bank:
            drain_bank = 1 - drain_bank
        load, drain_index = int(cycle > 2 * DEPTH + LATENCY and chance(rng, 0.2)), rng.randrange(DEPTH)
        ports.drive(drain_load=load, drain_bank=drain_bank, drain_index=drain_index)
        await ports.settle()

        if chain is not None:
            heads = ports.get("heads")
            came = [to_signed(heads >> (BITS * lane), BITS) for lane in range(POST_LANES)]
            equal("heads", came, chain[:POST_LANES])
        if load:
            chain = [value for col in banks[drain_bank][drain_index] for value in col]
        elif chain is not None:
            chain = chain[POST_LANES:] + [0] * POST_LANES
        await ports.edge()
