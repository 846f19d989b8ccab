"""Traces through a DRAM channel: when each access is answered, and what the channel did meanwhile.

part = load_dram_part("DDR4-2400")
run = run_trace(part, addresses)                      # one access after the other
run = run_trace(part, addresses, outstanding=None)    # as many as the controller's queues hold
run.cycles, run.row_hits, run.bytes_per_second
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .dram_kernel import BANK, CONSTRAINTS, COUNTS, GROUP, MAPPING, RANK, REFRESH, closed_loop
from .dram_part import DramPart
from .dram_scheduler import schedule

__all__ = [
    "BANK_QUEUE",
    "TRANSACTION_QUEUE",
    "Channel",
    "DramRun",
    "mapping_table",
    "new_channel",
    "run_trace",
]

TRANSACTION_QUEUE = 32
"""Accesses that wait for room in their bank's queue."""
BANK_QUEUE = 8

_ADDRESS_LIMIT = 1 << 62
_PAGES = ("open", "closed")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Channel:
    """The state of a channel as the kernels have it: int64 arrays, changed by them."""

    constraints: NDArray[np.int64]
    banks: NDArray[np.int64]
    groups: NDArray[np.int64]
    ranks: NDArray[np.int64]
    refresh: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def arrays(self) -> tuple[NDArray[np.int64], ...]:
        """The kernels' first arguments."""
        return self.constraints, self.banks, self.groups, self.ranks, self.refresh, self.counts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DramRun:
    """What a trace took and did; cycles are the part's clock."""

    part: DramPart
    answers: NDArray[np.int64]
    """The cycle in which each access is answered, (n,); the first is made in cycle 0."""
    cycles: int
    """The cycle of the last answer."""
    activates: int
    precharges: int
    reads: int
    writes: int
    refreshes: int
    """Of one rank each."""
    row_hits: int
    """Accesses that found their row open after another access."""
    open_cycles: int
    """Cycles with an open row, over all ranks."""

    @property
    def seconds(self) -> float:
        """Time of the run."""
        return self.cycles * self.part.tck * 1e-9

    @property
    def bytes_per_second(self) -> float:
        """Bytes of all bursts over the time of the run."""
        return (self.reads + self.writes) * self.part.burst_bytes / self.seconds


def mapping_table(part: DramPart, mapping: str | None = None) -> NDArray[np.int64]:
    """The kernels' MAPPING: lowest bit and mask of each field, int64."""
    fields = part.field_positions(mapping)
    pairs = ((fields[name][0], (1 << fields[name][1]) - 1) for name in MAPPING)
    return np.array([number for pair in pairs for number in pair], np.int64)


def new_channel(part: DramPart, *, refresh: bool = True, page: str = "open") -> Channel:
    """A channel with all rows closed and nothing to wait for, in cycle 0.

    Refreshes take the ranks in turn, tREFI / ranks apart, the first one that long after the cycle
    before the first.

    Raises:
        ValueError: `page` is neither open nor closed.
    """
    if page not in _PAGES:
        raise ValueError(f"page must be {' or '.join(_PAGES)}, not {page!r}")
    constraints = part.constraints(refresh=refresh, closed_page=page == "closed")
    groups = part.ranks * part.bankgroups
    banks = np.zeros((groups * part.banks_per_group, len(BANK)), np.int64)
    banks[:, BANK.index("row")] = -1
    interval = int(constraints[CONSTRAINTS.index("refresh_interval")])
    return Channel(
        constraints=constraints,
        banks=banks,
        groups=np.zeros((groups, len(GROUP)), np.int64),
        ranks=np.zeros((part.ranks, len(RANK)), np.int64),
        refresh=np.array([{"due": interval - 1, "rank": 0, "last": -1}[name] for name in REFRESH], np.int64),
        counts=np.zeros(len(COUNTS), np.int64),
    )


def run_trace(
    part: DramPart,
    addresses: ArrayLike,
    *,
    writes: ArrayLike | None = None,
    outstanding: int | None = 1,
    refresh: bool = True,
    page: str = "open",
    mapping: str | None = None,
    compiled: bool = True,
) -> DramRun:
    """The run of a trace of accesses, of one burst each, through one channel.

    Args:
        addresses: of bytes, (n,); what lies beyond the channel wraps.
        writes: (n,), true for a write; all are reads without.
        outstanding: accesses in flight at most. 1 is a closed loop; None: whatever the queues hold.
        refresh: False for a part that never refreshes.
        page: `open` leaves a row open after an access, `closed` precharges after each.
        mapping: how an address is split, see `DramPart.field_positions`; the part's own without.
        compiled: False runs the kernels as plain Python, for tests.

    Raises:
        ValueError: an argument is none of these, or the trace is empty.
    """
    where = np.asarray(addresses)
    if where.ndim != 1 or not where.size or where.dtype.kind not in "iu":
        raise ValueError(f"addresses must be whole numbers, (n,), at least one, not {_described(where)}")
    if where.min() < 0 or where.max() >= _ADDRESS_LIMIT:
        raise ValueError(f"addresses must be from 0 to 2^62 - 1, not {where.min()} to {where.max()}")
    kinds = np.zeros(0 if writes is None else where.shape, np.uint8)
    if writes is not None:
        flags = np.asarray(writes)
        if flags.shape != where.shape:
            raise ValueError(f"writes must have the shape of addresses, {where.shape}, not {flags.shape}")
        kinds = np.ascontiguousarray(flags != 0, np.uint8)
    if outstanding is not None and outstanding < 1:
        raise ValueError(f"outstanding must be at least 1, or None for no limit, not {outstanding}")
    channel = new_channel(part, refresh=refresh, page=page)
    table = mapping_table(part, mapping)
    trace = np.ascontiguousarray(where, np.int64)
    answers = np.zeros(len(trace), np.int64)
    if outstanding == 1:
        in_order = closed_loop if compiled else closed_loop.py_func
        in_order(*channel.arrays, table, trace, kinds, answers)
    else:
        chooses = schedule if compiled else schedule.py_func
        kinds = kinds if kinds.size else np.zeros(len(trace), np.uint8)
        limit = outstanding or 0
        chooses(*channel.arrays, table, trace, kinds, limit, TRANSACTION_QUEUE, BANK_QUEUE, answers)
    counts = dict(zip(COUNTS, channel.counts.tolist(), strict=True))
    return DramRun(
        part=part,
        answers=answers,
        cycles=int(answers.max()),
        activates=counts["act"],
        precharges=counts["pre"],
        reads=counts["read"],
        writes=counts["write"],
        refreshes=counts["refresh"],
        row_hits=counts["hits"],
        open_cycles=counts["open_cycles"],
    )


def _described(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} of shape {array.shape}"
