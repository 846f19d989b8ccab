"""Where the LOADs stand among the EXECs: as early as their slots allow, and in whose company.

LOAD works in order, so what stands first holds up what follows. A tile of activations stands after the EXEC
that frees its slot and after the STOREs that it waits for; weights come in pieces between the activation
tiles that are needed sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .draft import Draft
from .isa import Opcode, Token
from .nest import Step
from .schedule import Residency, TileLoad
from .transfer import Transfer

__all__ = ["Prefetch", "place_loads"]

_AHEAD = 60
"""Output tiles that a wait may lie behind: a token counter holds 63 posts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefetch:
    """LOADs and FILLs by the step before or after which they stand, tokens included."""

    before: dict[int, list[Draft]]
    after: dict[int, list[Draft]]
    waited_for: frozenset[int]
    """Steps whose STOREs some LOAD waits for."""


def _span(draft: Draft) -> tuple[int, int, int]:
    """(region, first byte, byte after the last) that a LOAD of activations reads."""
    fields, region = draft.fields, draft.region
    assert region is not None
    first = fields["address"]
    rows, planes = (fields["rows"] - 1) * fields["src_row"], (fields["planes"] - 1) * fields["src_plane"]
    return region, first, first + planes + rows + fields["run"]


def _tensor_waits(
    steps: Sequence[Step],
    transfers: Sequence[Transfer],
    loads: Sequence[TileLoad],
    operands: dict[int, list[Draft]],
) -> dict[int, int]:
    """For each activation tile that waits, by its first step, the step whose STOREs it waits for.

    A tile waits for the last STORE of a byte that it reads, so a layer begins before the one that it
    reads has ended. STOREs are in order: one stands for all before it, and none is waited for twice.
    Where a tile needs only a STORE that is `_AHEAD` or more output tiles back, it waits for that one,
    so that the counter holds all posts between.
    """
    waits: dict[int, int] = {}
    stored: list[tuple[int, int, int, int]] = []  # step, region, first byte, byte after the last
    written: dict[int, int] = {}  # for each region the step of its last STORE
    over, step = -1, 0
    for load in loads:
        while step < load.first:
            if steps[step + 1].out != steps[step].out:
                region, first, last = transfers[steps[step].plan].stored(steps[step])
                stored.append((step, region, first, last))
                written[region] = step
            step += 1
        reads = [_span(draft) for draft in operands[load.first] if draft.opcode is Opcode.LOAD]
        if all(written.get(region, -1) <= over for region, _, _ in reads):
            continue
        for number, (made, region, first, last) in enumerate(reversed(stored), 1):
            if made <= over:
                break
            if number == _AHEAD or any(
                region == where and first < stop and start < last for where, start, stop in reads
            ):
                over = waits[load.first] = made
                break
    return waits


def _with_tokens(drafts: list[Draft], load: TileLoad, wait: Token, full: Token) -> list[Draft]:
    """The same drafts; the first waits for the slot, the last tells that it is full."""
    if load.waits:
        drafts[0].wait(wait)
    drafts[-1].post(full)
    return drafts


def place_loads(
    steps: Sequence[Step],
    transfers: Sequence[Transfer],
    acts: Residency,
    weights: Residency,
    params: Residency,
) -> Prefetch:
    """The LOADs of all tiles, each where it stands in the stream.

    Args:
        steps: all EXECs.
        transfers: for each layer, its moves.
        acts: tiles of activations; likewise `weights` and `params`.
    """
    # One WEIGHT_FULL covers both: a new parameter tile always comes with a weight tile.
    param_of = {load.first: load for load in params.loads}
    assert set(param_of) <= {load.first for load in weights.loads}
    operands = {
        load.first: list(transfers[step.plan].activations(step, load.slot))
        for load in acts.loads
        for step in (steps[load.first],)
    }
    waits = _tensor_waits(steps, transfers, acts.loads, operands)
    before: dict[int, list[Draft]] = {}
    entries: dict[int, list[tuple[int, list[Draft]]]] = {}
    latest = 0
    for load in weights.loads:
        step, param = steps[load.first], param_of.get(load.first)
        position = load.position if param is None else max(load.position, param.position)
        if load.first in waits:  # weights need no tensor, so they go before what waits for one
            freed = load.freed if param is None else max(load.freed, param.freed)
            position = min(position, max(freed, waits[load.first]))
        position = min(load.first, max(position, latest))
        room = load.first - position
        transfer = transfers[step.plan]
        drafts = _with_tokens(
            list(transfer.weights(step, load.slot, pieces=room > 1)),
            load,
            Token.WEIGHT_FREE,
            Token.WEIGHT_FULL,
        )
        if param is not None:
            lines = transfer.params(step, param.slot)
            if param.waits:
                lines[0].wait(Token.PARAM_FREE)
            drafts = lines + drafts
        if not room:
            before.setdefault(position, []).extend(drafts)
            latest = position
            continue
        # Spread over the first part of the time there is, so that the last piece doesn't come late.
        for number, draft in enumerate(drafts):
            latest = position + number * max(1, room * 3 // 4) // len(drafts)
            entries.setdefault(latest, []).append((load.first, [draft]))
    latest = 0
    for load in acts.loads:
        # A wait stands after the STORE that ends it, and tiles are loaded in order.
        latest = min(load.first, max(load.position, latest, waits.get(load.first, 0)))
        drafts = _with_tokens(operands[load.first], load, Token.ACT_FREE, Token.ACT_FULL)
        if load.first in waits:  # padding needs no tensor, so only the first LOAD waits for it
            next(d for d in drafts if d.opcode is Opcode.LOAD).wait(Token.TENSOR_DONE)
        if latest == load.first:
            before.setdefault(latest, []).extend(drafts)
        else:
            entries.setdefault(latest, []).append((load.first, drafts))
    after = {
        position: [draft for _, drafts in sorted(group, key=lambda entry: entry[0]) for draft in drafts]
        for position, group in entries.items()
    }
    return Prefetch(before=before, after=after, waited_for=frozenset(waits.values()))
