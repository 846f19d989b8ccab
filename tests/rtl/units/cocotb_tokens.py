"""TokenCounters against eight integers."""

from __future__ import annotations

import random

from bitwright.mapper.isa import TOKEN_COUNT_MAX, TOKENS
from unit_machines import TOKEN_COUNTERS
from unit_stimulus import Ports, chance, equal, unit_test

TAKERS, POSTERS = TOKEN_COUNTERS["takers"], TOKEN_COUNTERS["posters"]
CYCLES = 3000


def _mask(flags: list[bool]) -> int:
    return sum(flag << i for i, flag in enumerate(flags))


@unit_test("tokens")
async def counters_count_posts_and_takes(ports: Ports, rng: random.Random, _unit: str) -> None:
    """Empty, up to the most that a counter holds, posts and takes at once, and clear above all."""
    takes, posts = [f"take_{i}" for i in range(TAKERS)], [f"post_{i}" for i in range(POSTERS)]
    counts = [0] * TOKENS
    late = [0] * TOKENS  # posts of the cycle before
    owner = [rng.randrange(TAKERS) for _ in range(TOKENS)]  # a counter has one taker
    seen: set[int] = set()
    await ports.reset(clear=0, **dict.fromkeys(takes + posts, 0))
    for cycle in range(CYCLES):
        rising = (0.6, 0.1, 0.9, 0.25)[cycle // 150 % 4]
        clear = chance(rng, 0.002)
        taken = [count > 0 and rng.random() < 0.7 * (1 - rising) + 0.2 for count in counts]
        room = [TOKEN_COUNT_MAX - count - more for count, more in zip(counts, late, strict=True)]
        posted = []
        for _ in range(POSTERS):
            flags = [left > 0 and rng.random() < rising / 2 for left in room]
            room = [left - flag for left, flag in zip(room, flags, strict=True)]
            posted.append(flags)
        ports.drive(clear=clear)
        for number, name in enumerate(takes):
            ports.drive(**{name: _mask([t and o == number for t, o in zip(taken, owner, strict=True)])})
        for name, flags in zip(posts, posted, strict=True):
            ports.drive(**{name: _mask(flags)})
        await ports.settle()
        equal("present", ports.get("present"), _mask([count > 0 for count in counts]))
        for i in range(TOKENS):
            counts[i] += late[i] - taken[i]
            late[i] = sum(flags[i] for flags in posted)
            seen.add(counts[i])
        if clear:
            counts, late = [0] * TOKENS, [0] * TOKENS
        await ports.edge()
    equal("the counts that were met", (min(seen), max(seen)), (0, TOKEN_COUNT_MAX))
