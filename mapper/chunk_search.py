"""The choice of a mapping for a layer whose reduction is split: candidates by rule, not all there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from .machine import Machine
from .mapping import Capacity, ColumnMode, LoopOrder, Mapping
from .objective import EventPrices, Objective
from .pricing import price_events
from .shape import Chunk, LayerShape
from .splits import FIELD_REGION, FIELD_SETS, FIELD_TAPS, field_fits, pixel_skips, splits
from .traffic import activation_beats, estimate_cycles, passes, pixel_work, weight_bytes

__all__ = ["rank_chunked", "smallest_mapping"]

_WIDTHS = 4
"""Tile widths that are tried one by one, widest first; from there on each at most half the one before."""
_HEIGHTS = 4
"""Likewise."""
_K_TILES = 6
"""K tiles tried at most, largest first."""


def _accumulator_tile(shape: LayerShape, rows: int, width: int, depth: int) -> tuple[int, int]:
    """(y, x) of the tile that covers rows × width with the fewest tiles, whole windows each."""
    if shape.overlaps:
        return shape.pool_y, shape.pool_x
    best = (0, 0, 0)
    score: tuple[int, int] | None = None
    for y in range(shape.pool_y, rows + 1, shape.pool_y):
        x = min(width, depth // y // shape.pool_x * shape.pool_x)
        if x < shape.pool_x:
            break
        count = -(-rows // y) * -(-width // x)
        if score is None or (count, y) < score:
            score, best = (count, y), (y, x, count)
    return best[0], best[1]


def _pixel_tiles(
    shape: LayerShape, machine: Machine, columns: int, single: bool
) -> Iterator[tuple[int, list[int]]]:
    """(tile width, rows of a column to try) in convolution outputs, largest first.

    Args:
        shape: the layer.
        machine: gives the accumulators.
        columns: columns used.
        single: whether a tile must be one accumulator tile.
    """
    depth = machine.array.acc_depth
    rows = [h * shape.pool_y for h in splits(-(-(shape.OY // shape.pool_y) // columns))]
    for width in (w * shape.pool_x for w in splits(shape.OX // shape.pool_x)):
        if width > FIELD_REGION:
            continue
        fitting = [h for h in rows if h <= FIELD_REGION and (h * width <= depth if single else True)]
        if fitting:
            yield width, fitting


def _channel_cuts(channels: int, lanes: int, most: int, align: int) -> list[int]:
    """Channels of a chunk to try, falling: whole lane sets as long as they are above one.

    Args:
        channels: all there are.
        lanes: of a PE.
        align: channels that fill whole bytes, of which a chunk is a multiple (unless it is all of them).
        most: what a weight tile of one group holds, so that nothing above it need be tried for one.
    """
    cuts = {channels, min(channels, max(1, most // lanes * lanes))}
    cuts |= {min(channels, -(-size // lanes) * lanes) for size in splits(channels)[:32]}
    size = 1
    while size < channels:  # lane counts are powers of two too
        cuts.add(size)
        size *= 2
    return sorted({c for c in cuts if c == channels or c % align == 0}, reverse=True)


def _chunked(shape: LayerShape, fy: int, fx: int, c: int) -> tuple[Chunk, ...]:
    return tuple(
        Chunk(y, min(fy, shape.FY - y), x, min(fx, shape.FX - x), ch, min(c, shape.C - ch))
        for y in range(0, shape.FY, fy)
        for x in range(0, shape.FX, fx)
        for ch in range(0, shape.C, c)
    )


def _least_groups(shape: LayerShape, rows: int) -> int:
    """Groups of the smallest K tile, which ends at a whole byte in memory."""
    return min(-(-shape.out_align // rows), -(-shape.K // rows))


class _Search:
    """The candidates of one layer on one machine."""

    def __init__(
        self,
        shape: LayerShape,
        machine: Machine,
        capacity: Capacity,
        objective: Objective,
        prices: EventPrices | None,
    ) -> None:
        self.shape, self.machine, self.capacity = shape, machine, capacity
        self.objective, self.prices = objective, prices
        self.best: Mapping | None = None
        """The best of the candidates offered so far."""
        self._rank = (0.0, 0, 0)
        self.evaluated = 0
        """Candidates priced so far."""

    def _energy(self, mapping: Mapping, steps: int, lines: int, read: int, act_bytes: int) -> float:
        """Event energy of a candidate that reads so many bytes, `act_bytes` of them activations."""
        shape, machine, groups = self.shape, self.machine, mapping.all_groups
        work = pixel_work(mapping)
        issue, line, post, act, weight, _, gather, dram, fixed = price_events(
            shape, machine, self.prices, lines
        ).tolist()
        written = shape.out_bytes(shape.K) * (shape.OY // shape.pool_y) * (shape.OX // shape.pool_x)
        return float(
            groups * work.pixels * steps * issue
            + groups * work.accumulator_tiles * line
            + groups * work.pixels * mapping.tile_columns * machine.row_groups * post
            + act_bytes * act * (mapping.tile_columns if mapping.mode is ColumnMode.SHARED else 1)
            + (read - act_bytes) * weight
            + -(-written // machine.bus_bytes) * gather
            + read * dram
            + fixed
        )

    def _consider(self, base: Mapping) -> bool:
        """Try every K tile and loop order with the pixel tiles and chunks of `base`."""
        shape, machine, capacity = self.shape, self.machine, self.capacity
        lane_wise = shape.pe.lane_wise
        base_act = base.bank_bytes()  # for lane-wise work that of one group
        if base_act > capacity.act_bytes:
            return False
        geometries = [base.geometry(chunk, machine) for chunk in base.chunks]
        if max(g.sets for g in geometries) > FIELD_SETS:
            return False
        if max(max(g.fy, g.fx) for g in geometries) > FIELD_TAPS:
            return False
        group_lines = sum(g.lines for g in geometries)
        held_lines = max(g.lines for g in geometries) if base.weight_chunked else group_lines
        if held_lines > capacity.weight_lines:
            return False
        beats: int | None = None
        weights = 0
        tried = 0
        for groups in splits(base.all_groups):
            if not field_fits(shape, groups, base.rows):
                continue
            if shape.param_lines(groups, machine.row_groups) > capacity.param_lines:
                continue
            lines = held_lines if base.weight_chunked or shape.ones else groups * group_lines
            if lines > capacity.weight_lines:
                continue
            if groups < base.all_groups and groups * base.rows % shape.out_align:
                continue  # a K tile starts at a whole byte in memory
            if lane_wise and base.act_chunked and groups > _least_groups(shape, base.rows):
                continue
            tiled = dataclasses.replace(base, groups=groups)
            if tiled.output_bytes() > capacity.out_bytes:
                continue
            if lane_wise:
                base_act = tiled.bank_bytes()
                if base_act > capacity.act_bytes:
                    continue
            if beats is None or lane_wise:
                beats = activation_beats(tiled, machine.bus_bytes, capacity.act_slots)
                weights = weight_bytes(tiled, machine)
                work = pixel_work(tiled)
            params = shape.param_lines(base.all_groups, machine.row_groups) * machine.param_line_bits // 8
            for order in LoopOrder:
                candidate = tiled if order is tiled.order else dataclasses.replace(tiled, order=order)
                act, weight, param = passes(candidate, capacity, work)
                read = act * beats * machine.bus_bytes + weight * weights + param * params
                cycles = estimate_cycles(candidate, machine, work, geometries, read, base_act)
                energy = 0.0
                if self.prices is not None:
                    steps = sum(g.steps for g in geometries)
                    act_bytes = act * beats * machine.bus_bytes
                    energy = self._energy(candidate, steps, group_lines, read, act_bytes)
                score, then = {
                    Objective.LATENCY: (float(cycles), read),
                    Objective.ENERGY: (energy, cycles),
                    Objective.EDP: (energy * cycles, cycles),
                    Objective.BYTES: (float(read), cycles),
                }[self.objective]
                rank = (score, then, work.tiles * len(candidate.k_tiles))
                self.evaluated += 1
                if self.best is None or rank < self._rank:
                    pixels = (shape.OY // shape.pool_y) * (shape.OX // shape.pool_x)
                    self._rank = rank
                    self.best = dataclasses.replace(
                        candidate,
                        read_bytes=read,
                        write_bytes=shape.out_bytes(shape.K) * pixels,
                        cycles=cycles,
                        energy_pj=energy,
                        score=score,
                        act_bytes=base_act,
                        weight_bytes=lines * machine.weight_line_bits // 8,
                        out_bytes=candidate.output_bytes(),
                        param_channels=groups * machine.array.rows,
                    )
            tried += 1
            if tried == _K_TILES:
                break
        return tried > 0

    def run(
        self,
        columns: int,
        chunks: tuple[Chunk, ...],
        act_chunked: bool = False,
        weight_chunked: bool = False,
    ) -> bool:
        """Whether anything fits with these columns and chunks; the best is kept."""
        shape, machine = self.shape, self.machine
        found_any = False
        part = chunks[0] if act_chunked else shape.whole
        modes = list(ColumnMode) if columns > 1 else [ColumnMode.SHARED]
        widths, narrowest = 0, shape.OX
        for width, heights in _pixel_tiles(shape, machine, columns, act_chunked):
            if widths >= _WIDTHS and width > narrowest // 2:
                continue
            found_width = False
            for mode in modes:
                for skip in pixel_skips(shape, part, machine):
                    found, least = 0, heights[0]
                    for height in heights:
                        if found >= _HEIGHTS and height > least // 2:
                            continue
                        acc_y, acc_x = _accumulator_tile(shape, height, width, machine.array.acc_depth)
                        fits = self._consider(
                            Mapping(
                                shape=shape,
                                rows=machine.array.rows // shape.summed,
                                columns=columns,
                                column_rows=height,
                                tile_x=width,
                                groups=1,
                                acc_y=acc_y,
                                acc_x=acc_x,
                                order=LoopOrder.WEIGHTS,
                                mode=mode,
                                skip_x=skip,
                                chunks=chunks,
                                act_chunked=act_chunked,
                                weight_chunked=weight_chunked,
                            )
                        )
                        if fits:
                            found, least = found + 1, height
                    found_width |= found > 0
            found_any |= found_width
            if found_width:
                widths, narrowest = widths + 1, width
        return found_any

    def _may_fit(self, fy: int, fx: int, c: int, act_chunked: bool, weight_chunked: bool) -> bool:
        """Whether the smallest tile fits with one chunk of that size, before all chunks are looked at."""
        shape, capacity = self.shape, self.capacity
        chunk = Chunk(0, fy, 0, fx, 0, c)
        smallest = dataclasses.replace(
            smallest_mapping(shape, self.machine), chunks=(chunk,), act_chunked=act_chunked
        )
        # The lines of all chunks are no fewer than those of the whole.
        part = chunk if weight_chunked else shape.whole
        return (
            smallest.bank_bytes() <= capacity.act_bytes
            and smallest.geometry(part, self.machine).lines <= capacity.weight_lines
        )

    def run_chunked(self, columns: int) -> bool:
        """Whether anything fits with the reduction split; the largest chunk that fits is taken."""
        shape = self.shape
        array, kind = self.machine.array, shape.pe
        lanes = array.lanes(kind)
        if shape.overlaps:
            return False  # one tap: nothing to split
        for fx in dict.fromkeys((min(shape.FX, FIELD_TAPS), 1)):
            found = False
            for act_chunked, weight_chunked in ((False, True), (True, False), (True, True)):
                for fy in dict.fromkeys((min(shape.FY, FIELD_TAPS), 1)):
                    most = self.capacity.weight_lines * array.sets_per_word(kind) // fy * lanes // fx
                    cuts = _channel_cuts(shape.C, lanes, most, shape.act_align)
                    for c in [shape.C] if kind.lane_wise else cuts:
                        if weight_chunked and c > max(most, shape.act_align) and not kind.lane_wise:
                            continue
                        if not self._may_fit(fy, fx, c, act_chunked, weight_chunked):
                            continue
                        chunks = _chunked(shape, fy, fx, c)
                        if len(chunks) > 1 and self.run(columns, chunks, act_chunked, weight_chunked):
                            found = True
                            break
            if found:
                return True
        return False


def smallest_mapping(shape: LayerShape, machine: Machine) -> Mapping:
    """The mapping that takes least of every buffer, whether it fits or not."""
    return Mapping(
        shape=shape,
        rows=machine.array.rows // shape.summed,
        columns=1,
        column_rows=shape.pool_y,
        tile_x=shape.pool_x,
        groups=_least_groups(shape, machine.array.rows // shape.summed),
        acc_y=shape.pool_y,
        acc_x=shape.pool_x,
        order=LoopOrder.WEIGHTS,
        mode=ColumnMode.SHARED,
        skip_x=shape.stride_x > 1,
        chunks=(Chunk(0, 1, 0, 1, 0, shape.C if shape.pe.lane_wise else min(shape.C, shape.act_align)),),
        act_chunked=True,
        weight_chunked=True,
    )


def rank_chunked(
    shape: LayerShape,
    machine: Machine,
    capacity: Capacity,
    objective: Objective,
    prices: EventPrices | None,
) -> list[Mapping]:
    """The best of the candidates with the reduction split, by the objective; none if none fits.

    Tiles are tried by rule and cycles estimated from the busiest unit, so it is not `optimal`.
    """
    columns = min(machine.array.cols, shape.OY // shape.pool_y)
    search = _Search(shape, machine, capacity, objective, prices)
    while columns:
        if search.run_chunked(columns):
            assert search.best is not None
            return [dataclasses.replace(search.best, evaluated=search.evaluated)]
        columns //= 2
    return []
