"""What a nest makes of a layer's actual weights: payload of each tile, and how unevenly PEs are loaded.

The search knows a layer by means: so many bits a weight, so many zeros. Once a nest is found, its tiles are
known, and so is where each weight lies: every tile of the innermost level that holds weights compressed is a
relative-index stream of its own (Han et al. 2016, EIE, section III B), behind a count of its entries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .evaluation import Evaluation, evaluate
from .hierarchy import AbstractMachine
from .loop_nest import LoopNest
from .problem import DIMS, Problem

__all__ = ["INDEX_BITS", "TilePayload", "evaluate_weights", "mean_ratio", "tile_payload", "weight_mask"]

INDEX_BITS = 4
"""Of the zeros before an entry, where a machine has no queues that say otherwise."""
_WEIGHT_DIMS = ("G", "K", "C", "FY", "FX")

Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePayload:
    """Bits of a nest's weight tiles, and the load of its PEs; counted, weight by weight."""

    level: str
    """The innermost one that holds weights compressed."""
    tiles: int
    total_bits: int
    worst_bits: int
    header_bits: int
    """Of each tile, its count of entries; in the above."""
    index_bits: int
    """0: dense, because that is smaller for the layer."""
    ratio: float
    """Of all tiles' bits over the dense weights'."""
    worst_ratio: float
    """Of the largest tile over a whole dense one."""
    imbalance: float
    """Of the busiest PE, tile by tile of the level that feeds the PEs, over what evenly spread zeros give."""

    @property
    def mean_bits(self) -> float:
        """Of a tile."""
        return self.total_bits / self.tiles


def weight_mask(problem: Problem, values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Where weights are not zero, shape (G, K, C, FY, FX), from (G·K, C, FY, FX) or (G·K, C).

    Raises:
        ValueError: another number of weights than the layer has.
    """
    shape = tuple(getattr(problem, d) for d in _WEIGHT_DIMS)
    if values.size != math.prod(shape):
        raise ValueError(f"layer {problem.name}: has {math.prod(shape)} weights, not {values.size}")
    return np.asarray(values != 0).reshape(shape)


def mean_ratio(problem: Problem, mask: NDArray[np.bool_], index_bits: int) -> tuple[float, int]:
    """(payload over dense bits, index bits) of the layer as one tile a filter; (1, 0) if dense is smaller."""
    filters = mask.reshape(problem.G * problem.K, -1)
    entries = _entries(
        filters, np.repeat(np.arange(len(filters)), filters.shape[1]), len(filters), index_bits
    )
    ratio = int(entries.sum()) * (index_bits + problem.weight_bits) / (mask.size * problem.weight_bits)
    return (ratio, index_bits) if ratio < 1 else (1.0, 0)


def _entries(mask: NDArray[np.bool_], tile_of: Array, tiles: int, index_bits: int) -> Array:
    """Entries of each tile, fillers included; values lie in their tiles in their order in `mask`."""
    flat = mask.ravel()
    in_order = not np.any(tile_of[1:] < tile_of[:-1])
    order = np.arange(tile_of.size) if in_order else np.argsort(tile_of, kind="stable")
    sizes = np.bincount(tile_of, minlength=tiles)
    starts = np.cumsum(sizes) - sizes
    there = np.flatnonzero(flat[order])
    tile = tile_of[order][there]
    place = there - starts[tile]
    before = np.full(there.size, -1, np.int64)
    same = tile[1:] == tile[:-1]
    before[1:][same] = place[:-1][same]
    fillers = (place - before - 1) >> index_bits
    return np.bincount(tile, weights=fillers + 1, minlength=tiles).astype(np.int64)


def _paths(machine: AbstractMachine, nest: LoopNest) -> list[tuple[str, int, Array]]:
    """From the outermost position inwards: ("loops" or "axis", level, extents below it)."""
    found: list[tuple[str, int, Array]] = []
    inner = np.ones(len(DIMS), np.int64)
    for i in range(len(machine.levels)):
        tile = np.array(nest.tiles[i], np.int64)
        for axis, counts in zip(machine.axes, nest.spatial, strict=True):
            if machine.level_index(axis.below) == i:
                found.append(("axis", i, inner))
                inner = np.minimum(tile, inner * np.array(counts, np.int64))
        found.append(("loops", i, inner))
        inner = tile
    return found[::-1]


def _cut(size: int, extents: list[int]) -> list[Array]:
    """By position, the number of the piece that each of `size` indices falls into, within the piece above."""
    offset = np.arange(size, dtype=np.int64)
    numbers = []
    for extent in extents:
        numbers.append(offset // extent)
        offset = offset % extent
    return numbers


def _joined(mask: NDArray[np.bool_], parts: dict[str, list[Array]]) -> tuple[Array, int]:
    """A number for each weight from its indices' numbers along all loops, and how many there are."""
    total = np.zeros(mask.shape, np.int64)
    for axis, d in enumerate(_WEIGHT_DIMS):
        line = np.zeros(mask.shape[axis], np.int64)
        for numbers in parts[d]:
            line = line * (int(numbers.max(initial=0)) + 1) + numbers
        _, line = np.unique(line, return_inverse=True)
        shape = [1] * mask.ndim
        shape[axis] = -1
        total = total * (int(line.max(initial=0)) + 1) + line.reshape(shape)
    return total.ravel(), int(total.max(initial=0)) + 1


def tile_payload(
    machine: AbstractMachine, problem: Problem, nest: LoopNest, mask: NDArray[np.bool_], index_bits: int
) -> TilePayload:
    """What the nest's weight tiles take, and the PEs' load.

    Args:
        machine: with a level that holds W compressed.
        problem: the layer.
        nest: a legal one.
        mask: as `weight_mask`.
        index_bits: as `mean_ratio` gives them; 0 for dense tiles.
    """
    level = next(i for i, row in enumerate(machine.levels) if "W" in row.compressed)
    feeding = max((machine.level_index(axis.below) for axis in machine.axes), default=0)
    positions = _paths(machine, nest)
    tiles: dict[str, list[Array]] = {}
    steps: dict[str, list[Array]] = {}
    places: dict[str, list[Array]] = {}
    for d in _WEIGHT_DIMS:
        j = DIMS.index(d)
        numbers = _cut(problem.sizes[j], [int(extents[j]) for _, _, extents in positions])
        named = list(zip(positions, numbers, strict=True))
        tiles[d] = [n for (_, i, _), n in named if i > level]
        steps[d] = [n for (_, i, _), n in named if i > feeding]
        places[d] = [n for (kind, _, _), n in named if kind == "axis"]
    number, count = _joined(mask, tiles)
    sizes = np.bincount(number, minlength=count)
    if index_bits:
        header = int(sizes.max()).bit_length()
        bits = _entries(mask, number, count, index_bits) * (index_bits + problem.weight_bits) + header
    else:
        header, bits = 0, sizes * problem.weight_bits
    return TilePayload(
        level=machine.levels[level].name,
        tiles=count,
        total_bits=int(bits.sum()),
        worst_bits=int(bits.max()),
        header_bits=header,
        index_bits=index_bits,
        ratio=int(bits.sum()) / (mask.size * problem.weight_bits),
        worst_ratio=int(bits.max()) / (int(sizes.max()) * problem.weight_bits),
        imbalance=_imbalance(mask, _joined(mask, steps), _joined(mask, places)),
    )


def _imbalance(mask: NDArray[np.bool_], steps: tuple[Array, int], places: tuple[Array, int]) -> float:
    """Sum over steps of the busiest PE's nonzeros, over density times the most weights of one; at least 1."""
    both = steps[0] * places[1] + places[0]
    length = steps[1] * places[1]
    there = np.bincount(both[mask.ravel()], minlength=length).reshape(steps[1], places[1])
    every = np.bincount(both, minlength=length).reshape(steps[1], places[1])
    even = float(np.count_nonzero(mask)) / mask.size * int(every.max(1).sum())
    return max(1.0, int(there.max(1).sum()) / even) if even else 1.0


def evaluate_weights(
    machine: AbstractMachine, problem: Problem, nest: LoopNest, payload: TilePayload
) -> Evaluation:
    """The nest evaluated with its tiles' own payload, and the PEs' own load where they skip zero weights.

    Each tile is fetched as often as any other, so the sum of the tiles' bits gives the exact bytes.

    Raises:
        MappingError: the largest tile does not fit; names the level and by how much it is short.
    """
    nest.verify(machine, replace(problem, weight_ratio=payload.worst_ratio))
    skips = "W" in machine.pe_mode(problem).skips
    exact = replace(
        problem, weight_ratio=payload.ratio, imbalance=payload.imbalance if skips else problem.imbalance
    )
    return evaluate(machine, exact, nest)
