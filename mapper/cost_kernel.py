"""What a loop nest costs, from its counts: bits and energy a level and operand, and cycles."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.jit import njit
from .access_kernel import (
    FIRST_CHILD,
    FIRST_PARENT,
    FIRST_SHARE_CHILD,
    FIRST_SHARE_PARENT,
    MOVES,
    VISIT_CHILD,
    VISIT_PARENT,
    VISIT_SHARE_CHILD,
    VISIT_SHARE_PARENT,
    count_all,
    new_work,
)

__all__ = ["BITS", "PARTIAL", "PLACE", "cost_of", "evaluate_batch"]

# Columns of `prices`, one row a level and operand: bits of a complete value and of a partial sum as they lie
# in the level; picojoules of a bit read and of a bit written; the level whose ports and energy it is, another
# one where the outermost level's operand lies on chip.
BITS, PARTIAL, READ, WRITE, PLACE = range(5)

# Columns of `ports`, one row a level: cycles of a bit read and of a bit written (0: no limit), whether both
# take turns, whether filling takes turns with use.
CYCLES_READ, CYCLES_WRITE, ONE_PORT, TURNS = range(4)


@njit(forceinline=True)
def cost_of(
    steps: int, macs: int, moves: Any, keep: Any, prices: Any, ports: Any, pe: Any, drains: bool,
    traffic: Any, cycles: Any, energy: Any,
) -> None:  # fmt: skip
    """Nothing; fills what a nest costs from its counts.

    Args:
        steps: of the busiest PE.
        macs: products of the layer.
        moves: as `count_all` fills them.
        keep: whether a level holds an operand, shape (levels, 3).
        prices: shape (levels, 3, 5).
        ports: shape (levels, 4).
        pe: cycles a step, picojoules a product.
        drains: whether results that leave a level cost its read energy.
        traffic: filled: bits (read down, filled, updated, drained), shape (levels, 3, 4).
        cycles: filled: latency, compute, then each level's read port, then each one's write port; shape
            (2 · levels + 2,).
        energy: filled: total, products, then each level's; shape (levels + 2,).
    """
    n = keep.shape[0]
    traffic[:] = 0.0
    cycles[:] = 0.0
    energy[:] = 0.0
    exposed = 0.0
    for child in range(-1, n - 1):
        inner_in = inner_out = outer_in = outer_out = 0.0
        for x in range(3):
            if child >= 0 and not keep[child, x]:
                continue
            parent = child + 1
            while not keep[parent, x]:
                parent += 1
            m = moves[child + 1, x]
            far = prices[parent, x]
            near = prices[child, x] if child >= 0 else far
            parent = int(far[PLACE])
            if x < 2:
                down, up, fill, drain = m[VISIT_PARENT] * far[BITS], 0.0, m[VISIT_CHILD] * near[BITS], 0.0
                s_down, s_up = m[VISIT_SHARE_PARENT] * far[BITS], 0.0
                s_fill, s_drain = m[VISIT_SHARE_CHILD] * near[BITS], 0.0
            else:
                # The PEs add to sums that are never complete; a level gives an output up once complete,
                # and each time before as a partial sum that comes back.
                done = far[BITS] if child >= 0 else far[PARTIAL]
                part = m[VISIT_PARENT] - m[FIRST_PARENT]
                down = part * far[PARTIAL]
                up = m[FIRST_PARENT] * done + part * far[PARTIAL]
                part = m[VISIT_CHILD] - m[FIRST_CHILD]
                fill = part * near[PARTIAL]
                drain = m[FIRST_CHILD] * done + part * near[PARTIAL]
                part = m[VISIT_SHARE_PARENT] - m[FIRST_SHARE_PARENT]
                s_down = part * far[PARTIAL]
                s_up = m[FIRST_SHARE_PARENT] * done + part * far[PARTIAL]
                part = m[VISIT_SHARE_CHILD] - m[FIRST_SHARE_CHILD]
                s_fill = part * near[PARTIAL]
                s_drain = m[FIRST_SHARE_CHILD] * done + part * near[PARTIAL]
            traffic[parent, x, 0] += down
            traffic[parent, x, 2] += up
            spent = down * far[READ] + up * far[WRITE]
            energy[parent + 2] += spent
            energy[0] += spent
            outer_in += s_up * ports[parent, CYCLES_WRITE]
            outer_out += s_down * ports[parent, CYCLES_READ]
            cycles[2 + parent] += s_down * ports[parent, CYCLES_READ]
            cycles[2 + n + parent] += s_up * ports[parent, CYCLES_WRITE]
            if child >= 0:
                traffic[child, x, 1] += fill
                traffic[child, x, 3] += drain
                spent = fill * near[WRITE] + (drain * near[READ] if drains else 0.0)
                energy[child + 2] += spent
                energy[0] += spent
                inner_in += s_fill * ports[child, CYCLES_WRITE]
                inner_out += s_drain * ports[child, CYCLES_READ]
                cycles[2 + child] += s_drain * ports[child, CYCLES_READ]
                cycles[2 + n + child] += s_fill * ports[child, CYCLES_WRITE]
        if child >= 0 and ports[child, TURNS] > 0:
            exposed += max(inner_in + inner_out, outer_in + outer_out)
    energy[1] = macs * pe[1]
    energy[0] += energy[1]
    cycles[1] = steps * pe[0]
    slowest = cycles[1]
    for level in range(n):
        reads, writes = cycles[2 + level], cycles[2 + n + level]
        slowest = max(slowest, reads + writes if ports[level, ONE_PORT] > 0 else max(reads, writes))
    cycles[0] = slowest + exposed


@njit
def evaluate_batch(
    tiles: Any, counts: Any, orders: Any, keep: Any, axis_level: Any, multicast: Any, sliding: Any,
    shape: Any, shares: bool, prices: Any, ports: Any, pe: Any, drains: bool,
    traffic: Any, cycles: Any, energy: Any,
) -> None:  # fmt: skip
    """Nothing; evaluates many nests of one layer, the arrays of nests and results with a first axis more.

    Every nest gets its exact latency, energy, and bits a level and operand.
    """
    n = tiles.shape[1]
    ext, table, chains = new_work(n, axis_level, multicast)
    moves = np.empty((n, 3, MOVES), np.int64)
    macs = 1
    for d in range(8):
        macs *= shape[d]
    for i in range(tiles.shape[0]):
        steps = count_all(
            tiles[i], counts[i], orders[i], keep, axis_level, sliding, shape, shares,
            ext, table, chains, moves,
        )  # fmt: skip
        cost_of(steps, macs, moves, keep, prices, ports, pe, drains, traffic[i], cycles[i], energy[i])
