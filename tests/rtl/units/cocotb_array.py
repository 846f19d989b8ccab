"""ProcessingArray against dot products in Python: the gearbox, the mask, the latency, the chains' order."""

from __future__ import annotations

import random
from dataclasses import dataclass

from bitwright.mapper.pe import PeKind
from bitwright.rtl.pe import ProcessingElement
from cocotb_pe import operands_of
from unit_machines import PAIRED
from unit_stimulus import Ports, chance, equal, to_signed, unit_test

STRETCHES = 36
STRETCH = 90
"""Cycles of one GEOMETRY, the first of which issue nothing: what the kind sets is registered."""
ARRAY = PAIRED.array
ROWS, COLS, DEPTH, BITS = ARRAY.rows, ARRAY.cols, ARRAY.acc_depth, ARRAY.acc_bits
POST_LANES = PAIRED.post.lanes
LATENCY = PAIRED.timing.array_latency
TO_SUM = LATENCY - ProcessingElement.DRAINED_AFTER
SETTLE = LATENCY + 3
FILL = 2 * DEPTH


@dataclass
class Issue:
    """One cycle's issue; operands arrive later."""

    kind: PeKind
    tail: int
    enable: int
    fresh: int
    bank: int
    index: int
    weight_set: int
    last_set: int
    weights: list[list[int]] | None = None
    """[row][lane], of the cycle after."""
    acts: list[list[int]] | None = None
    """[column][lane] (VECTOR: [column][row]), of three cycles after."""

    @property
    def valid(self) -> int:
        """Lanes within the run."""
        return self.tail if self.last_set else ARRAY.lanes(self.kind)


def _issue(rng: random.Random, cycle: int, kind: PeKind, tail: int) -> Issue:
    """A stretch starts with every accumulator's first value if it is the first one."""
    within = cycle % STRETCH - SETTLE
    filling = cycle < STRETCH and within < FILL
    bank, index = divmod(max(0, within), DEPTH) if filling else (cycle // 40 % 2, rng.randrange(DEPTH))
    return Issue(
        kind=kind,
        tail=tail,
        enable=int(within >= 0 and (filling or chance(rng, 0.8))),
        fresh=int(filling or chance(rng, 0.05)),
        bank=bank,
        index=index,
        weight_set=rng.randrange(ARRAY.sets_per_word(kind)),
        last_set=rng.getrandbits(1),
    )


def _weight_line(rng: random.Random, issue: Issue) -> int:
    """A line of weight words; those of the issue's set are kept, zero bits beyond the run."""
    kind, lanes = issue.kind, ARRAY.lanes(issue.kind)
    line, issue.weights = 0, []
    for row in range(ROWS):
        values, word = operands_of(rng, kind.weight_format, kind.weight_bits, lanes)
        word &= (1 << (issue.valid * kind.weight_bits)) - 1
        issue.weights.append(values)
        width = lanes * kind.weight_bits
        others = rng.getrandbits(ARRAY.weight_word_bits) & ~(((1 << width) - 1) << (width * issue.weight_set))
        line |= (others | word << (width * issue.weight_set)) << (ARRAY.weight_word_bits * row)
    return line


def _act_words(rng: random.Random, issue: Issue) -> list[int]:
    """The columns' activation words; what lies beyond a run or a lane set is any."""
    kind = issue.kind
    lanes = ROWS if kind.lane_wise else ARRAY.lanes(kind)
    words, issue.acts = [], []
    for _ in range(COLS):
        values, word = operands_of(rng, kind.act_format, kind.act_bits, lanes)
        words.append(
            word | rng.getrandbits(ARRAY.act_word_bits) >> (lanes * kind.act_bits) << lanes * kind.act_bits
        )
        issue.acts.append(values)
    return words


def _add(banks: list[list[list[list[int]]]], issue: Issue) -> None:
    assert issue.acts is not None and issue.weights is not None
    for col in range(COLS):
        for row in range(ROWS):
            cell = banks[issue.bank][issue.index][col]
            acts, weights = issue.acts[col][: issue.valid], issue.weights[row][: issue.valid]
            if issue.kind.lane_wise:
                acts, weights = [issue.acts[col][row]], issue.weights[row][:1]
            total = sum(a * w for a, w in zip(acts, weights, strict=True))
            cell[row] = to_signed((0 if issue.fresh else cell[row]) + total, BITS)


@unit_test("array_paired")
async def heads_give_the_sums_column_by_column(ports: Ports, rng: random.Random, _unit: str) -> None:
    """Every kind in turn; chains that are held between loads and shifts."""
    banks = [[[[0] * ROWS for _ in range(COLS)] for _ in range(DEPTH)] for _ in range(2)]
    issues: list[Issue] = []
    chain: list[int] | None = None
    heads: list[int] | None = None
    names = ["pe", "tail", "weight_line", *(f"act_{col}" for col in range(COLS))]
    names += ["acc_en", "acc_fresh", "acc_bank", "acc_index", "weight_set", "last_set"]
    names += ["drain_en", "drain_load", "drain_bank", "drain_index"]
    await ports.reset(**dict.fromkeys(names, 0))
    kind, tail = ARRAY.kinds[0], 1
    for cycle in range(STRETCHES * STRETCH):
        if cycle % STRETCH == 0:
            kind = ARRAY.kinds[cycle // STRETCH % len(ARRAY.kinds)]
            tail = rng.randint(1, ARRAY.lanes(kind))
        elif cycle % STRETCH == LATENCY - 2:  # all that was issued has been multiplied
            ports.drive(pe=int(kind), tail=tail)
        issue = _issue(rng, cycle, kind, tail)
        issues.append(issue)
        ports.drive(acc_en=issue.enable, acc_fresh=issue.fresh, acc_bank=issue.bank, acc_index=issue.index)
        ports.drive(weight_set=issue.weight_set, last_set=issue.last_set)
        if cycle >= 1:
            ports.drive(weight_line=_weight_line(rng, issues[-2]))
        if cycle >= 3:
            words = _act_words(rng, issues[-4])
            ports.drive(**{f"act_{col}": word for col, word in enumerate(words)})
        # What was issued `LATENCY` cycles ago is to be seen now. A bank that an issue adds to is not drained.
        if cycle >= LATENCY and issues[-1 - LATENCY].enable:
            _add(banks, issues[-1 - LATENCY])
        adding = issues[-1 - TO_SUM] if cycle >= LATENCY else None
        drain_bank = rng.getrandbits(1)
        if adding is not None and adding.enable and adding.bank == drain_bank:
            drain_bank = 1 - drain_bank
        drains = cycle > SETTLE + FILL + LATENCY
        enable, load, drain_index = chance(rng, 0.7), chance(rng, 0.25), rng.randrange(DEPTH)
        ports.drive(drain_en=int(drains and enable), drain_load=load)
        ports.drive(drain_bank=drain_bank, drain_index=drain_index)
        await ports.settle()

        if heads is not None:
            word = ports.get("heads")
            came = [to_signed(word >> (BITS * lane), BITS) for lane in range(POST_LANES)]
            equal(f"heads ({kind.name})", came, heads)
        if chain is not None:
            heads = chain[:POST_LANES]
        if drains and enable and load:
            chain = [value for col in banks[drain_bank][drain_index] for value in col]
        elif drains and enable and chain is not None:
            chain = chain[POST_LANES:] + [0] * POST_LANES
        await ports.edge()
