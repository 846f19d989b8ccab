"""Step lists: which weight steps of a group of channels are run, so that all-zero ones cost nothing.

A step is one lane set of one run (docs/architecture.md, "Weights and parameters in memory"). Where GEOMETRY
is `listed`, a group runs the entries of its list instead of the loops over fy, fx and sets; only their
weights lie in memory. An entry is 32 bits: where its operands begin, from the tile's first byte on (20 bits),
whether it is a run's last lane set, so that `tail` cuts its lanes, and whether it is the group's last.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .isa import Command, LoadTarget, Opcode
from .machine import STEP_BITS
from .program import Program, ProgramError

__all__ = [
    "OFFSET_BITS",
    "KeptSteps",
    "WeightBlocks",
    "entries_worth",
    "group_lists",
    "kept_steps",
    "pack_entries",
    "weight_blocks",
]

OFFSET_BITS = 20
_TAIL, _LAST = 1 << OFFSET_BITS, 1 << (OFFSET_BITS + 1)


@dataclass(frozen=True, slots=True)
class WeightBlocks:
    """Where the weights of each group of channels that run together are not all zero."""

    shape: tuple[int, int, int, int]
    """Groups, FY, FX, C."""
    bits: bytes
    """A bit a block, packed as numpy does."""

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The blocks that hold a weight other than zero, of `shape`."""
        count = int(np.prod(self.shape))
        flat = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=count)
        return flat.reshape(self.shape).astype(np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class KeptSteps:
    """The steps that each group runs, at least one a group."""

    mask: NDArray[np.bool_]
    """(groups, steps), steps in the order fy, fx, set."""
    counts: tuple[int, ...]
    """Of each group."""

    def entries(self, first: int, groups: int) -> int:
        """Entries of the lists of `groups` groups from `first` on."""
        return sum(self.counts[first : first + groups])


def weight_blocks(weights: NDArray[np.int8] | NDArray[np.bool_], rows: int) -> WeightBlocks | None:
    """The non-zero blocks of weights (K, C, FY, FX) in groups of `rows` channels; None if none is zero."""
    K, C, FY, FX = weights.shape
    groups = -(-K // rows)
    padded = np.zeros((groups * rows, C, FY, FX), np.bool_)
    padded[:K] = weights != 0
    any_row: NDArray[np.bool_] = np.any(padded.reshape(groups, rows, C, FY, FX), axis=1)
    mask = any_row.transpose(0, 2, 3, 1)
    if mask.all():
        return None
    return WeightBlocks((groups, FY, FX, C), np.packbits(mask).tobytes())


def entries_worth(blocks: WeightBlocks, lanes: int, line_bytes: int) -> int:
    """Step entries in which a layer's lists fit twice; 0 where lists take more bytes than they spare.

    Args:
        blocks: of a layer.
        lanes: of a PE of the layer's kind.
        line_bytes: of the weights of a step of a group.
    """
    runs, C = blocks.shape[2], blocks.shape[3]
    kept = kept_steps(blocks, runs, -(-C // lanes), lanes)
    fewer = int(kept.mask.sum()) * (line_bytes + STEP_BITS // 8) < kept.mask.size * line_bytes
    return 2 * max(kept.counts) if fewer else 0


@functools.lru_cache(maxsize=256)
def kept_steps(blocks: WeightBlocks, runs: int, sets: int, lanes: int) -> KeptSteps:
    """The steps whose weights are not all zero.

    Args:
        blocks: of the layer.
        runs: in a filter row: FX, or 1 where its taps lie side by side.
        sets: lane sets in a run.
        lanes: of a PE.
    """
    groups, FY, FX, C = blocks.shape
    run = FX // runs * C
    lanes_kept = np.zeros((groups, FY * runs, sets * lanes), np.bool_)
    lanes_kept[:, :, :run] = blocks.mask.reshape(groups, FY * runs, run)
    mask: NDArray[np.bool_] = np.any(lanes_kept.reshape(groups, FY * runs * sets, lanes), axis=2)
    # A group without any weight still makes results, of its bias: it runs its first step, of zeros.
    mask[~np.any(mask, axis=1), 0] = True
    mask.flags.writeable = False
    return KeptSteps(mask, tuple(mask.sum(axis=1).tolist()))


def pack_entries(offsets: NDArray[np.int64], tails: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The bytes of one group's list, little-endian words.

    Args:
        offsets: bytes from the tile's first to each step's operands.
        tails: whether a step is a run's last lane set.
    """
    words = offsets | np.where(tails, _TAIL, 0)
    words[-1] |= _LAST
    return np.ascontiguousarray(words.astype("<u4")).view(np.uint8)


def group_lists(program: Program) -> dict[int, list[NDArray[np.int64]]]:
    """For each EXEC on step lists, by its number: the offsets of each group's entries, in order.

    The lists are those that the LOADs before it brought from the program's image.

    Raises:
        ProgramError: a list has no end, or the machine holds none; names the command's number.
    """
    machine = program.machine
    size = machine.buffers.step_entries
    held = np.zeros(size, np.int64)
    per_line = machine.bus.data_bits // STEP_BITS
    listed = False
    found: dict[int, list[NDArray[np.int64]]] = {}
    for index, command in enumerate(program.commands):
        if command.opcode is Opcode.LOAD and command["target"] == LoadTarget.STEPS and size:
            words = program.image[command["address"] : command["address"] + command["run"]].view("<u4")
            held[(command["dst"] * per_line + np.arange(words.size)) % size] = words
        elif command.opcode is Opcode.GEOMETRY:
            listed = bool(command["listed"])
        elif command.opcode is Opcode.EXEC and listed:
            if not size:
                raise ProgramError(
                    f"command {index}: GEOMETRY.listed needs buffers.step_entries, which machine "
                    f"{machine.name} has none of"
                )
            found[index] = _lists_of(held, command, index)
    return found


def _lists_of(held: NDArray[np.int64], command: Command, index: int) -> list[NDArray[np.int64]]:
    """The offsets of each of an EXEC's groups."""
    ends = np.flatnonzero(held & _LAST)
    start = command["list"] % held.size
    lists = []
    for _ in range(command["groups"]):
        if not ends.size:
            raise ProgramError(f"command {index}: no entry ends the step list at {start}")
        # The first end from `start` on, around the memory's end.
        end = int(ends[np.searchsorted(ends, start) % ends.size])
        count = (end - start) % held.size + 1
        entries = held[(start + np.arange(count)) % held.size]
        lists.append(entries & ((1 << OFFSET_BITS) - 1))
        start = (end + 1) % held.size
    return lists
