"""The choice of a mapping for one layer: every tile of a stated space, by the objective, with bounds.

The space, for a reduction that fits a tile's buffers whole: tile widths and a column's rows that cut the
layer into 1, 2, 3, … nearly equal parts; K tiles likewise; both loop orders; columns that share a tile or
split it; pixels that the stride skips held or not; as many columns as the layer has rows for; at most 4096
pixel tiles, if anything with so few fits. Accumulator tiles cover a tile with as few as there can be. A bound
that no estimate goes below rules most of it out, so the best found is the best there is, by the estimate
(`Mapping.optimal`). Where no whole reduction fits, it is split by rule (`chunk_search.py`).
"""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
from numpy.typing import NDArray

from .chunk_search import rank_chunked, smallest_mapping
from .isa import PostMode
from .machine import Machine
from .mapping import Capacity, ColumnMode, LoopOrder, Mapping, MappingError
from .objective import EventPrices, Objective
from .pricing import price_events
from .shape import LayerShape
from .splits import FIELD_REGION, FIELD_SETS, FIELD_TAPS, field_fits, pixel_skips, splits
from .traffic import activation_beats, line_bytes, passes, pixel_work, weight_bytes

__all__ = ["FINALISTS", "LayerSearch", "choose_mapping"]

FINALISTS = 4
"""Candidates of a layer that are kept for whoever knows better than the estimate."""

_MOST_TILES = 4096
"""Pixel tiles of a layer at most, if a choice with so few fits."""
_ORDERS = (LoopOrder.ACTIVATIONS, LoopOrder.WEIGHTS)


def _core(shape: LayerShape, machine: Machine) -> NDArray[np.int64]:
    """The kernel's CORE entries."""
    timing, bus, memory = machine.timing, machine.bus, machine.memory
    return np.array(
        [
            machine.bus_bytes,
            bus.max_burst,
            bus.read_outstanding,
            memory.read_latency,
            memory.write_latency,
            memory.beat_interval,
            timing.array_latency,
            timing.add_latency if shape.mode in (PostMode.ADD, PostMode.PLANES) else timing.post_latency,
            timing.store_latency,
            timing.token_latency,
            machine.row_groups,
            32 // machine.bus_bytes,
        ],
        np.int64,
    )


def _layer(base: Mapping, machine: Machine) -> NDArray[np.int64]:
    """The kernel's LAYER entries."""
    shape = base.shape
    steps, lines = _mean_work(base, machine)
    searches = shape.mode is PostMode.THRESHOLDS and shape.levels > 1
    return np.array(
        [
            shape.OX,
            shape.pool_y,
            shape.pool_x,
            shape.W,
            len(shape.places),
            shape.places[0].pitch,
            shape.target.pitch,
            shape.target.step,
            shape.out_bits,
            2 * shape.levels if searches else 1,
            steps,
            shape.K,
            base.rows,
            base.all_groups,
            shape.pe.lane_wise,
            shape.alike,
            shape.ones,
            lines,
            line_bytes(base, machine, 0),
            line_bytes(base, machine, 0 if shape.ones else base.all_groups - 1),
            shape.param_lines(1, machine.row_groups) * machine.param_line_bits // 8,
            shape.overlaps,
        ],
        np.int64,
    )


def _mean_work(base: Mapping, machine: Machine) -> tuple[int, int]:
    """(steps, weight lines) of a group; where groups keep steps of their own, the mean rounded up."""
    kept = base.kept(machine)
    if kept is None:
        walk = base.geometry(base.shape.whole, machine)
        return walk.steps, walk.lines
    groups, lines = len(kept.counts), base.lines_by_group(machine)
    return -(-sum(kept.counts) // groups), -(-sum(lines) // groups)


class _Space:
    """The choices of pixel tiles of one layer with a number of columns, as the kernel's tables."""

    def __init__(self, shape: LayerShape, machine: Machine, columns: int) -> None:
        self.shape, self.machine, self.columns = shape, machine, columns
        whole = shape.whole
        modes = list(ColumnMode) if columns > 1 else [ColumnMode.SHARED]
        self.skips = pixel_skips(shape, whole, machine)
        heights = [h * shape.pool_y for h in splits(-(-(shape.OY // shape.pool_y) // columns))]
        widths = [w * shape.pool_x for w in splits(shape.OX // shape.pool_x)]
        ys: list[tuple[int, ...]] = []
        xs: list[tuple[int, ...]] = []
        downs: list[tuple[int, ...]] = []
        acrosses: list[tuple[int, ...]] = []
        for mode in modes:
            for height in heights:
                if height <= FIELD_REGION:
                    downs.append(self._rows(mode, height, ys))
        for skip in self.skips:
            for width in widths:
                if width <= FIELD_REGION:
                    acrosses.append(self._columns(skip, width, xs))
        self.ys, self.xs = np.array(ys, np.int64), np.array(xs, np.int64)
        down, across = np.array(downs, np.int64), np.array(acrosses, np.int64)
        y = np.repeat(down, len(across), axis=0)
        x = np.tile(across, (len(down), 1))
        # y: from, to, split, rows, step, held, rows in all, of all columns, tiles, columns of a full tile
        # and rows copied; x: from, to, width, step, held, tiles, skip, columns copied
        tiles = y[:, 8] * x[:, 5]
        self.skip = x[:, 6]
        self.bases = np.stack(
            [
                y[:, 0], y[:, 1], x[:, 0], x[:, 1], y[:, 2], y[:, 4], x[:, 3], y[:, 3], x[:, 2],
                y[:, 5] * x[:, 4], y[:, 6] * shape.OX, y[:, 7] * shape.OX, tiles, y[:, 9],
                y[:, 10] * x[:, 7],
            ],
            axis=1,
        )  # fmt: skip

    def mapping(
        self, mode: ColumnMode, skip: bool, height: int, width: int, groups: int = 1, order: int = 1
    ) -> Mapping:
        """The mapping of these choices; the accumulator tile is still to be set."""
        return Mapping(
            shape=self.shape,
            rows=self.machine.array.rows // self.shape.summed,
            columns=self.columns,
            column_rows=height,
            tile_x=width,
            groups=groups,
            acc_y=1,
            acc_x=1,
            order=_ORDERS[order],
            mode=mode,
            skip_x=skip,
            chunks=(self.shape.whole,),
        )

    def _rows(self, mode: ColumnMode, height: int, ys: list[tuple[int, ...]]) -> tuple[int, ...]:
        shape = self.shape
        base = self.mapping(mode, False, height, shape.pool_x)
        step, first = self.columns * height, len(ys)
        rows = used = tiles = copied = 0
        inner = step if mode is ColumnMode.SHARED else height
        for y0 in range(0, shape.OY, step):
            of = min(step, shape.OY - y0)
            for top in range(0, of, inner):
                axis = base.y_axis(shape.whole, y0 + top, min(inner, of - top))
                ys.append((tiles, of, axis.start, axis.before, axis.valid, axis.after))
                copied += axis.valid
            rows += min(height, of)
            used += min(height, of) * -(-of // height)
            tiles += 1
        largest = base.tile_rows if mode is ColumnMode.SHARED else height
        held = base.held_y(shape.whole, largest)
        split = int(mode is ColumnMode.SPLIT)
        return (
            first, len(ys), split, height, base.steps_held(shape.whole)[0], held, rows, used, tiles,
            base.tile_columns, copied,
        )  # fmt: skip

    def _columns(self, skip: bool, width: int, xs: list[tuple[int, ...]]) -> tuple[int, ...]:
        shape = self.shape
        base = self.mapping(ColumnMode.SHARED, skip, shape.pool_y, width)
        first, copied = len(xs), 0
        for x0 in range(0, shape.OX, width):
            of = min(width, shape.OX - x0)
            axis = base.x_axis(shape.whole, x0, of)
            xs.append((of, axis.start, axis.before, axis.valid, axis.after))
            copied += axis.valid
        held = base.held_x(shape.whole, width)
        step = base.steps_held(shape.whole)[1]
        return first, len(xs), width, step, held, len(xs) - first, int(skip), copied


def _k_groups(base: Mapping, machine: Machine, capacity: Capacity) -> list[int]:
    """Groups of the K tiles whose weights, step lists and parameters fit a slot, largest first."""
    shape, rows, all_groups = base.shape, base.rows, base.all_groups
    found = []
    for groups in splits(all_groups):
        tiled = dataclasses.replace(base, groups=groups)
        if (
            field_fits(shape, groups, rows)
            and shape.param_lines(groups, machine.row_groups) <= capacity.param_lines
            and tiled.tile_lines(machine) <= capacity.weight_lines
            and max(tiled.list_entries(machine), default=0) <= capacity.step_entries
            and (groups == all_groups or groups * rows % shape.out_align == 0)
        ):
            found.append(groups)
    return found


def _rank(
    space: _Space,
    capacity: Capacity,
    objective: Objective,
    prices: EventPrices | None,
    slack: float,
    few: bool,
) -> list[Mapping]:
    """The best candidates that hold the whole reduction, best first, of few pixel tiles or of many."""
    shape, machine = space.shape, space.machine
    base = space.mapping(ColumnMode.SHARED, space.skips[-1], shape.pool_y, shape.pool_x)
    walk = base.geometry(shape.whole, machine)
    if max(walk.fy, walk.fx) > FIELD_TAPS or walk.sets > FIELD_SETS:
        return []
    k_groups = _k_groups(base, machine, capacity)
    chosen = (space.bases[:, 12] <= _MOST_TILES) == few
    bases, skips = space.bases[chosen], space.skip[chosen]
    if not k_groups or not len(bases):
        return []
    from .search_kernel import FOUND, accumulator_tile, search

    layer = _layer(base, machine)
    size = 0 if shape.pe.lane_wise else base.held_bytes(shape.whole)
    limits = np.array(
        [
            capacity.act_bytes, capacity.out_bytes, capacity.act_slots, capacity.weight_slots,
            capacity.out_slots, machine.array.acc_depth, size,
        ],
        np.int64,
    )  # fmt: skip
    found = np.full((2 * len(k_groups), len(FOUND)), math.inf)
    counts = np.zeros(2, np.int64)
    search(
        _core(shape, machine),
        layer,
        np.array([place.offset for place in shape.places], np.int64),
        space.ys,
        space.xs,
        bases,
        np.array(k_groups, np.int64),
        limits,
        price_events(shape, machine, prices, _mean_work(base, machine)[1]),
        list(Objective).index(objective),
        slack,
        np.zeros((int(bases[:, 12].max()), 12), np.int64),
        found,
        counts,
    )
    ranked = []
    rows = sorted(found[np.isfinite(found[:, 0])].tolist())[:FINALISTS]
    for score, _, index, groups, order, cycles, energy, _ in rows:
        _, _, _, _, split, _, _, height, width = bases[int(index)].tolist()[:9]
        acc = np.zeros(2, np.int64)
        accumulator_tile(layer, height, width, machine.array.acc_depth, acc)
        mode = ColumnMode.SPLIT if split else ColumnMode.SHARED
        mapping = dataclasses.replace(
            space.mapping(mode, bool(skips[int(index)]), height, width, int(groups), int(order)),
            acc_y=int(acc[0]),
            acc_x=int(acc[1]),
            cycles=int(cycles),
            energy_pj=energy,
            score=score,
            evaluated=int(counts.sum()),
            # Groups that keep steps of their own are estimated by their mean.
            optimal=score == rows[0][0] and shape.blocks is None,
        )
        ranked.append(_with_bytes(mapping, machine, capacity))
    return ranked


def _with_bytes(mapping: Mapping, machine: Machine, capacity: Capacity) -> Mapping:
    """The mapping with what it reads, writes and holds."""
    shape, work = mapping.shape, pixel_work(mapping)
    act, weight, param = passes(mapping, capacity, work)
    beats = activation_beats(mapping, machine.bus_bytes, capacity.act_slots)
    params = shape.param_lines(mapping.all_groups, machine.row_groups) * machine.param_line_bits // 8
    pixels = (shape.OY // shape.pool_y) * (shape.OX // shape.pool_x)
    return dataclasses.replace(
        mapping,
        read_bytes=act * beats * machine.bus_bytes + weight * weight_bytes(mapping, machine) + param * params,
        write_bytes=shape.out_bytes(shape.K) * pixels,
        act_bytes=mapping.bank_bytes(),
        weight_bytes=mapping.tile_lines(machine) * machine.weight_line_bits // 8,
        out_bytes=mapping.output_bytes(),
        param_channels=mapping.groups * machine.array.rows,
    )


class LayerSearch:
    """The search of one layer, with what doesn't depend on the split of the buffers kept."""

    def __init__(
        self,
        shape: LayerShape,
        machine: Machine,
        objective: Objective = Objective.LATENCY,
        prices: EventPrices | None = None,
        slack: float = 1.0,
    ) -> None:
        if prices is None and objective in (Objective.ENERGY, Objective.EDP):
            raise ValueError(
                f"objective {objective} needs prices of events: give sim.energy.event_prices(machine)"
            )
        if shape.pool_y * shape.pool_x > machine.array.acc_depth:
            raise MappingError(
                f"layer {shape.name}: a pool window of {shape.pool_y} × {shape.pool_x} pixels must fit "
                f"array.acc_depth, which is {machine.array.acc_depth}: raise array.acc_depth"
            )
        self.shape, self.machine, self.objective, self.prices = shape, machine, objective, prices
        self.slack = slack
        """How many times the best score the other finalists may have."""
        self.seconds = 0.0
        """What all searches took."""
        self._spaces: dict[int, _Space] = {}
        self.bound = self._bound()
        """A score that no mapping of the layer that holds the whole reduction goes below, however the
        buffers are split."""

    def _space(self, columns: int) -> _Space:
        if columns not in self._spaces:
            self._spaces[columns] = _Space(self.shape, self.machine, columns)
        return self._spaces[columns]

    def _bound(self) -> float:
        started = time.perf_counter()
        shape, machine = self.shape, self.machine
        from .search_kernel import least_bound

        space = self._space(min(machine.array.cols, shape.OY // shape.pool_y))
        base = space.mapping(ColumnMode.SHARED, space.skips[-1], shape.pool_y, shape.pool_x)
        size = 0 if shape.pe.lane_wise else base.held_bytes(shape.whole)
        bound = least_bound(
            _core(shape, machine),
            _layer(base, machine),
            space.bases,
            np.array([0, 0, 0, 0, 0, machine.array.acc_depth, size], np.int64),
            price_events(shape, machine, self.prices, _mean_work(base, machine)[1]),
            list(Objective).index(self.objective),
        )
        self.seconds += time.perf_counter() - started
        return float(bound)

    def fits(self, capacity: Capacity) -> bool:
        """Whether the smallest tile that holds the whole reduction fits."""
        smallest = dataclasses.replace(
            smallest_mapping(self.shape, self.machine),
            chunks=(self.shape.whole,),
            act_chunked=False,
            weight_chunked=False,
        )
        try:
            smallest.verify(self.machine, capacity)
        except MappingError:
            return False
        return True

    def whole(self, capacity: Capacity) -> list[Mapping]:
        """The best mappings that hold the whole reduction, best first, `FINALISTS` at most; maybe none."""
        started = time.perf_counter()
        ranked: list[Mapping] = []
        columns = min(self.machine.array.cols, self.shape.OY // self.shape.pool_y)
        while columns and not ranked:
            for few in (True, False):
                ranked = ranked or _rank(
                    self._space(columns), capacity, self.objective, self.prices, self.slack, few
                )
            columns //= 2
        return self._checked(ranked, capacity, started)

    def split(self, capacity: Capacity) -> list[Mapping]:
        """The best mapping with the reduction split.

        Raises:
            MappingError: nothing fits; the message names the layer, the buffer and the way out.
        """
        started = time.perf_counter()
        shape = dataclasses.replace(self.shape, blocks=None)  # lists are of whole reductions
        ranked = rank_chunked(shape, self.machine, capacity, self.objective, self.prices)
        if not ranked:
            smallest_mapping(shape, self.machine).verify(self.machine, capacity)
            raise MappingError(
                f"layer {shape.name}: {shape.K} × {shape.C} × {shape.FY} × {shape.FX} weights on "
                f"{shape.OY} × {shape.OX} pixels pass a field of the command set: use a smaller layer"
            )
        return self._checked(ranked, capacity, started)

    def _checked(self, ranked: list[Mapping], capacity: Capacity, started: float) -> list[Mapping]:
        for mapping in ranked:
            mapping.verify(self.machine, capacity)
        self.seconds += time.perf_counter() - started
        return ranked


def choose_mapping(
    shape: LayerShape,
    machine: Machine,
    capacity: Capacity,
    objective: Objective = Objective.LATENCY,
    prices: EventPrices | None = None,
) -> Mapping:
    """The legal mapping of a layer that is best by the objective's estimate.

    Raises:
        MappingError: nothing fits; the message names the layer, the buffer and the way out.
        ValueError: an objective with energy, and no prices.
    """
    search = LayerSearch(shape, machine, objective, prices)
    best = (search.whole(capacity) or search.split(capacity))[0]
    return dataclasses.replace(best, seconds=search.seconds)
