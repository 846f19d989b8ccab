"""A layer's mapping: tile sizes, loop order and what each buffer holds of a tile."""

from __future__ import annotations

import enum
from collections.abc import Mapping as AbstractMapping
from dataclasses import dataclass, field

from .machine import STEP_BITS, Machine
from .shape import Chunk, LayerShape
from .steps import KeptSteps, kept_steps
from .window import Axis, Window, axis_window, bank_step

__all__ = [
    "Capacity",
    "ChunkGeometry",
    "ColumnMode",
    "LoopOrder",
    "Mapping",
    "MappingError",
    "Tile",
    "capacity_of",
]


class MappingError(ValueError):
    """A network or layer that the machine can't run; `buffer` names the buffer at fault, if one is."""

    def __init__(self, message: str, buffer: str | None = None) -> None:
        super().__init__(message)
        self.buffer = buffer


class ColumnMode(enum.StrEnum):
    """How the columns' banks get their rows of a tile."""

    SHARED = "shared"
    """Every bank holds the whole tile, loaded once; a column starts at its own row."""
    SPLIT = "split"
    """Every bank holds its column's rows only; rows that two columns need are read twice."""


class LoopOrder(enum.StrEnum):
    """Which operand's tiles the outer loop walks."""

    WEIGHTS = "weights"
    ACTIVATIONS = "activations"


@dataclass(frozen=True, slots=True)
class ChunkGeometry:
    """How the array walks one chunk; the strides are those of GEOMETRY, in bytes."""

    sets: int
    tail: int
    """Valid lanes of a run's last lane set."""
    fx: int
    fy: int
    pixel_x: int
    pixel_y: int
    tap_x: int
    tap_y: int
    window_x: int
    """Bytes from a pool window's first operand to the next window's."""
    window_y: int
    offset: int
    """Bytes from a pixel's first byte in the bank to the chunk's."""
    steps: int
    lines: int
    """Weight buffer lines of a group of `rows` output channels."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Convolution outputs that one activation tile serves: y0 … y0 + height − 1 over all columns."""

    y0: int
    height: int
    x0: int
    width: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one tile may take of each buffer: a half, or all where a half is too small.

    `slots` is how many tiles of a kind a buffer holds: 2 lets the next one load meanwhile.
    """

    act_slots: int
    act_bytes: int
    weight_slots: int
    weight_lines: int
    param_lines: int
    out_slots: int
    out_bytes: int
    step_entries: int = 0


def capacity_of(machine: Machine, slots: AbstractMapping[str, int]) -> Capacity:
    """The capacity with `slots` of "activations", "weights" (and parameters) and "outputs"."""
    act, weight, out = (slots[name] for name in ("activations", "weights", "outputs"))
    # EXEC names weight lines with 16 bits, so lines beyond 65536 can't be read.
    lines = min(machine.weight_lines, 1 << 16)
    return Capacity(
        act_slots=act,
        act_bytes=machine.buffers.activation_bytes // act,
        weight_slots=weight,
        weight_lines=lines // weight,
        param_lines=machine.param_lines // weight,
        out_slots=out,
        out_bytes=machine.buffers.output_bytes // out,
        step_entries=machine.buffers.step_entries // weight,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """How one layer runs: tiles, loop order and column mode, with what they cost.

    A tile is `columns` × `column_rows` by `tile_x` convolution outputs and `groups` × rows channels.
    With more than one chunk the array runs one accumulator tile and one group at a time. Lane-wise work
    holds the K tile's own channels only, so activation tiles are as many as K tiles there.
    """

    shape: LayerShape
    rows: int
    """Output channels that the array's rows make at once."""
    columns: int
    """Columns used at most."""
    column_rows: int
    tile_x: int
    groups: int
    """Groups of `rows` output channels in a K tile."""
    acc_y: int
    acc_x: int
    order: LoopOrder
    mode: ColumnMode
    skip_x: bool
    """Whether pixels that the x stride skips are left out of the bank."""
    chunks: tuple[Chunk, ...]
    act_chunked: bool = False
    """Whether an activation tile holds one chunk only."""
    weight_chunked: bool = False
    """Whether a weight tile holds one chunk of one group only."""
    read_bytes: int = field(default=0, compare=False)
    """DRAM bytes read for activations, weights and parameters (whole beats)."""
    write_bytes: int = field(default=0, compare=False)
    cycles: int = field(default=0, compare=False)
    """Estimate only: the cycle model knows better."""
    energy_pj: float = field(default=0.0, compare=False)
    """Estimate of the event energy, 0 where nobody asked for it."""
    score: float = field(default=0.0, compare=False)
    """What the search made small: see `objective.Objective`."""
    optimal: bool = field(default=False, compare=False)
    """Whether no candidate of the space that `search.py` states has a lower estimate."""
    evaluated: int = field(default=0, compare=False)
    """Candidates priced or ruled out by a bound before this one was chosen, itself among them."""
    seconds: float = field(default=0.0, compare=False)
    """What the search took."""
    act_bytes: int = field(default=0, compare=False)
    """Of a column's bank, for one tile; the next three likewise."""
    weight_bytes: int = field(default=0, compare=False)
    out_bytes: int = field(default=0, compare=False)
    param_channels: int = field(default=0, compare=False)

    # -- channels ------------------------------------------------------------------------------

    @property
    def all_groups(self) -> int:
        """Groups of `rows` output channels in the layer."""
        return -(-self.shape.K // self.rows)

    @property
    def k_tile(self) -> int:
        """Output channels of a K tile; the bytes from a pixel to the next in the output buffer."""
        return min(self.groups * self.rows, self.shape.K)

    @property
    def k_tiles(self) -> list[tuple[int, int]]:
        """(first group, groups) of each K tile."""
        total = self.all_groups
        return [(g, min(self.groups, total - g)) for g in range(0, total, self.groups)]

    def channels_of(self, k_tile: int) -> int:
        """Output channels of the K tile with this index."""
        first, groups = self.k_tiles[k_tile]
        return min(groups * self.rows, self.shape.K - first * self.rows)

    # -- pixels --------------------------------------------------------------------------------

    @property
    def tile_rows(self) -> int:
        """Convolution rows of a tile over all columns."""
        return min(self.columns * self.column_rows, self.shape.OY)

    @property
    def tile_columns(self) -> int:
        """Array columns that a full tile uses."""
        return self.columns_of(self.tile_rows)

    def columns_of(self, height: int) -> int:
        """Array columns that have valid rows in a tile of that many rows."""
        return -(-height // self.column_rows)

    @property
    def tiles(self) -> list[Tile]:
        """The pixel tiles in the order of the loops."""
        shape, step = self.shape, self.columns * self.column_rows
        return [
            Tile(y, min(step, shape.OY - y), x, min(self.tile_x, shape.OX - x))
            for y in range(0, shape.OY, step)
            for x in range(0, shape.OX, self.tile_x)
        ]

    # -- operands in the bank ------------------------------------------------------------------

    def held_chunk(self, chunk: Chunk) -> Chunk:
        """The part of the reduction that the bank holds while `chunk` is run."""
        return chunk if self.act_chunked else self.shape.whole

    def steps_held(self, part: Chunk) -> tuple[int, int]:
        """Input rows and columns from a bank position to the next, for a held part."""
        shape = self.shape
        step_x = bank_step(shape.stride_x, shape.dilation_x, part.fx) if self.skip_x else 1
        return bank_step(shape.stride_y, shape.dilation_y, part.fy), step_x

    def held_x(self, part: Chunk, width: int) -> int:
        """Bank pixels in a row for `width` outputs."""
        return (self.shape.reach_x(width, part.fx) - 1) // self.steps_held(part)[1] + 1

    def held_y(self, part: Chunk, height: int) -> int:
        """Bank rows for `height` outputs."""
        return (self.shape.reach_y(height, part.fy) - 1) // self.steps_held(part)[0] + 1

    def held_bytes(self, part: Chunk, k_tile: int | None = None) -> int:
        """Bytes that the bank holds of a pixel; for lane-wise work those of a K tile, the largest or one."""
        if self.shape.pe.lane_wise:
            return self.k_tile if k_tile is None else self.channels_of(k_tile)
        return self.shape.act_bytes(part.c)

    def y_axis(self, part: Chunk, y0: int, height: int) -> Axis:
        """The input rows that outputs y0 … y0 + height − 1 need."""
        shape = self.shape
        count = self.held_y(part, height)
        return axis_window(
            first=y0 // shape.pool_y * shape.window_step_y - shape.pad_top + part.fy0 * shape.dilation_y,
            needed=count,
            nominal=count,
            step=self.steps_held(part)[0],
            size=shape.H,
        )

    def x_axis(self, part: Chunk, x0: int, width: int) -> Axis:
        """The input columns that outputs x0 … x0 + width − 1 need, in a row for `tile_x` outputs."""
        shape = self.shape
        return axis_window(
            first=x0 // shape.pool_x * shape.window_step_x - shape.pad_left + part.fx0 * shape.dilation_x,
            needed=self.held_x(part, width),
            nominal=self.held_x(part, min(self.tile_x, shape.OX)),
            step=self.steps_held(part)[1],
            size=shape.W,
        )

    def first_byte(self, part: Chunk, k_tile: int) -> int:
        """Bytes from a pixel's first channel to the first that the bank holds."""
        if self.shape.pe.lane_wise:
            return self.k_tiles[k_tile][0] * self.rows
        return part.c0 * self.shape.pe.act_bits // 8

    def windows(self, tile: Tile, chunk: Chunk, k_tile: int = 0) -> list[tuple[int, Window]]:
        """(mask of column banks, what they hold) for a tile while `chunk` is run."""
        shape, part = self.shape, self.held_chunk(chunk)
        columns = self.columns_of(tile.height)
        if self.mode is ColumnMode.SHARED:
            spans = [((1 << columns) - 1, tile.y0, tile.height)]
        else:
            spans = [
                (1 << c, tile.y0 + top, min(self.column_rows, tile.height - top))
                for c in range(columns)
                for top in (c * self.column_rows,)
            ]
        x = self.x_axis(part, tile.x0, tile.width)
        return [
            (
                mask,
                Window(
                    y=self.y_axis(part, y0, height),
                    x=x,
                    skip=self.first_byte(part, k_tile),
                    size_x=self.held_bytes(part, k_tile),
                    width=shape.W,
                    places=shape.places,
                ),
            )
            for mask, y0, height in spans
        ]

    def bank_bytes(self) -> int:
        """Bytes that the largest tile takes of a column's bank."""
        height = self.tile_rows if self.mode is ColumnMode.SHARED else self.column_rows
        return max(
            self.held_y(part, height)
            * self.held_x(part, min(self.tile_x, self.shape.OX))
            * self.held_bytes(part)
            for part in {self.held_chunk(chunk) for chunk in self.chunks}
        )

    def geometry(self, chunk: Chunk, machine: Machine, k_tile: int | None = None) -> ChunkGeometry:
        """How the array walks `chunk`; lane-wise work has strides of its own in each K tile."""
        shape, part, kind = self.shape, self.held_chunk(chunk), self.shape.pe
        step_y, step_x = self.steps_held(part)
        pixel = self.held_bytes(part, k_tile)
        pitch = self.held_x(part, min(self.tile_x, shape.OX)) * pixel
        tap_x = shape.dilation_x // step_x * pixel if part.fx > 1 else 0
        tap_y = shape.dilation_y // step_y * pitch if part.fy > 1 else 0
        lanes = machine.array.lanes(kind)
        if kind.lane_wise:
            runs, run = chunk.fx, 1
        else:
            # Taps that lie side by side, without pad bits, are one run: few channels still fill the lanes.
            joined = chunk.fx == 1 or tap_x * 8 == chunk.c * kind.act_bits
            runs, run = (1, chunk.fx * chunk.c) if joined else (chunk.fx, chunk.c)
        sets = -(-run // lanes)
        steps = chunk.fy * runs * sets
        return ChunkGeometry(
            sets=sets,
            tail=run - (sets - 1) * lanes,
            fx=runs,
            fy=chunk.fy,
            pixel_x=shape.stride_x // step_x * pixel,
            pixel_y=shape.stride_y // step_y * pitch,
            tap_x=tap_x if runs > 1 else 0,
            tap_y=tap_y if chunk.fy > 1 else 0,
            window_x=shape.window_step_x // step_x * pixel,
            window_y=shape.window_step_y // step_y * pitch,
            offset=(chunk.fy0 - part.fy0) * tap_y + (chunk.fx0 - part.fx0) * tap_x
            + (chunk.c0 - part.c0) * kind.act_bits // 8,
            steps=steps,
            lines=-(-steps // machine.array.sets_per_word(kind)),
        )  # fmt: skip

    def kept(self, machine: Machine) -> KeptSteps | None:
        """The steps that each group runs; None where it runs all."""
        shape = self.shape
        if shape.blocks is None or len(self.chunks) > 1:
            return None
        walk = self.geometry(self.chunks[0], machine)
        return kept_steps(shape.blocks, walk.fx, walk.sets, machine.array.lanes(shape.pe))

    def lines_by_group(self, machine: Machine) -> list[int]:
        """Weight buffer lines of each group's whole reduction."""
        kept = self.kept(machine)
        if kept is None:
            lines = sum(self.geometry(chunk, machine).lines for chunk in self.chunks)
            return [lines] * self.all_groups
        per_word = machine.array.sets_per_word(self.shape.pe)
        return [-(-count // per_word) for count in kept.counts]

    def list_entries(self, machine: Machine) -> list[int]:
        """Entries of each K tile's step lists, in whole bus beats; none without lists."""
        kept, per_beat = self.kept(machine), machine.bus.data_bits // STEP_BITS
        if kept is None:
            return []
        return [-(-kept.entries(*tile) // per_beat) * per_beat for tile in self.k_tiles]

    def tile_lines(self, machine: Machine) -> int:
        """Weight buffer lines of the largest weight tile."""
        if self.weight_chunked:
            return max(self.geometry(chunk, machine).lines for chunk in self.chunks)
        lines = self.lines_by_group(machine)
        if self.shape.ones:
            return lines[0]
        return max(sum(lines[first : first + groups]) for first, groups in self.k_tiles)

    def output_bytes(self) -> int:
        """Output buffer bytes of the largest tile, rows that no STORE takes included."""
        shape = self.shape
        rows = self.tile_columns * (self.column_rows // shape.pool_y)
        return rows * (min(self.tile_x, shape.OX) // shape.pool_x) * self.k_tile

    def verify(self, machine: Machine, capacity: Capacity) -> None:
        """Check that every tile fits its buffer and the accumulators.

        Raises:
            MappingError: naming the layer, the buffer, what is needed and held, and a way out.
        """
        name, shape = self.shape.name, self.shape
        if self.acc_y * self.acc_x > machine.array.acc_depth:
            raise MappingError(
                f"layer {name}: an accumulator tile has {self.acc_y} × {self.acc_x} pixels, "
                f"array.acc_depth holds {machine.array.acc_depth}: raise array.acc_depth"
            )
        if self.acc_y % shape.pool_y or self.acc_x % shape.pool_x:
            raise MappingError(
                f"layer {name}: an accumulator tile of {self.acc_y} × {self.acc_x} pixels must be "
                f"whole pool windows of {shape.pool_y} × {shape.pool_x}"
            )
        line = machine.weight_line_bits // 8
        lanes = machine.post.lanes
        for buffer, key, need, have, way in (
            ("activation", "activations", self.bank_bytes(), capacity.act_bytes,
             "raise buffers.activation_bytes"),
            ("weight", "weights", self.tile_lines(machine) * line, capacity.weight_lines * line,
             f"raise buffers.weight_bytes or lower K below {self.k_tile}"),
            ("step list", "weights", max(self.list_entries(machine), default=0) * STEP_BITS // 8,
             capacity.step_entries * STEP_BITS // 8, "raise buffers.step_entries"),
            ("parameter", "weights", shape.param_lines(self.groups, machine.row_groups) * lanes * 16,
             capacity.param_lines * lanes * 16, "raise buffers.param_channels"),
            ("output", "outputs", self.output_bytes(), capacity.out_bytes,
             "raise buffers.output_bytes"),
        ):  # fmt: skip
            if need > have:
                raise MappingError(
                    f"layer {name}: a tile needs {need} bytes of the {buffer} buffer, "
                    f"which holds {have} for one tile, {need - have} too few: {way}",
                    key,
                )
