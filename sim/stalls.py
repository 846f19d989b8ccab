"""What the array did in each layer's share of a run: issuing, or waiting, by cause."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..mapper.isa import TOKENS, Opcode, Token, Unit
from ..mapper.program import Program
from .cycle_kernel import STALL_POST, STALL_SETUP
from .timing import Timing, units_of

__all__ = ["CAUSES", "layer_ends", "layer_stalls"]

_TOKEN_CAUSES = {
    Token.ACT_FULL: "activations",
    Token.WEIGHT_FULL: "weights",
    Token.OUT_FREE: "outputs",
}

CAUSES = (
    "fetch",
    "activations",
    "weights",
    "outputs",
    "post",
    "setup",
    "done",
    "tokens",
)
"""Why the array does not issue: no command in its queue; activations or weights not loaded yet; no room
in the output buffer; both accumulator banks, or a drain, not finished by POST; starting a command or
a tile; the layer's work is done and its outputs are still to be stored; any other token."""


def layer_ends(program: Program, timing: Timing) -> NDArray[np.int64]:
    """For each layer the cycle of the last B of its last STORE, and never before a layer's before it."""
    ends = np.zeros(len(program.layers), np.int64)
    stores = timing.fields["opcode"] == Opcode.STORE
    np.maximum.at(ends, np.asarray(program.layer_of)[stores], timing.drain[stores])
    return np.maximum.accumulate(ends)


def _overlap(first: NDArray[np.int64], stop: NDArray[np.int64], low: int, high: int) -> NDArray[np.int64]:
    """How many cycles of first ≤ t < stop lie in low ≤ t < high."""
    cycles: NDArray[np.int64] = np.minimum(stop, high) - np.maximum(first, low)
    return cycles.clip(0)


def layer_stalls(program: Program, timing: Timing) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(stall cycles (layers, len(CAUSES)), cycles with an issue (layers,)) of each layer's share.

    A layer's share is the time between the ends of the layer before and its own; a wait of a later
    layer's command in it is `done`. A command whose own time lies in several shares, which a
    mapped network does not have, is divided in proportion to the cycles in each.
    """
    ends = layer_ends(program, timing)
    mine = np.flatnonzero(units_of(timing.fields["opcode"]) == Unit.EXEC)
    layer_of = np.asarray(program.layer_of, np.int64)[mine]
    start, stop = timing.start[mine], timing.end[mine] + 1
    free = np.concatenate([np.zeros(1, np.int64), stop[:-1]])
    head = np.minimum(np.maximum(free, timing.dispatch[mine] + 1), start)
    stalls = timing.stalls[mine]
    # A wait has one cause; GEOMETRY and OUTPUT wait for POST, too.
    is_exec = timing.fields["opcode"][mine] == Opcode.EXEC
    cause = np.full(len(mine), CAUSES.index("tokens"))
    for token in range(TOKENS):
        name = _TOKEN_CAUSES.get(Token(token), "tokens")
        cause[stalls[:, token] > 0] = CAUSES.index(name)
    cause[~is_exec & (stalls[:, STALL_POST] > 0)] = CAUSES.index("post")
    inside = {
        CAUSES.index("post"): np.where(is_exec, stalls[:, STALL_POST], 0),
        CAUSES.index("setup"): stalls[:, STALL_SETUP],
    }
    length = stop - start

    found = np.zeros((len(ends), len(CAUSES)), np.int64)
    busy = np.zeros(len(ends), np.int64)
    low = 0
    for layer, high in enumerate(ends.tolist()):
        early = layer_of > layer
        fetch = _overlap(free, head, low, high)
        wait = _overlap(head, start, low, high)
        done = (fetch + wait)[early].sum()
        found[layer, CAUSES.index("fetch")] += fetch[~early].sum()
        np.add.at(found[layer], cause[~early], wait[~early])
        tail = max(0, high - max(low, timing.array_idle_from))
        found[layer, CAUSES.index("done")] += done + tail
        before = np.clip(low - start, 0, length)
        until = np.clip(high - start, 0, length)
        rest = until - before
        for index, amount in inside.items():
            part = amount * until // length - amount * before // length
            found[layer, index] += part.sum()
            rest = rest - part
        busy[layer] = rest.sum()
        low = high
    return found, busy
