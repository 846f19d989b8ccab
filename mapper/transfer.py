"""The commands that move a tile of one layer: LOADs and FILLs into its slot, STOREs out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from .draft import RUN, Draft, split_copy, strides
from .isa import PACKED_BITS, LoadTarget, Opcode
from .layers import CoreLayer
from .machine import STEP_BITS, Machine
from .mapping import Capacity, ChunkGeometry, Mapping
from .nest import Step
from .traffic import line_bytes, weight_bytes
from .window import Copy, Fill

__all__ = ["LayerPlan", "Transfer"]

_PIECE_BEATS = 128
"""Of a piece of a weight tile at most: a command is one to eight beats, so it costs little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """A core layer, its mapping, and where its operands lie."""

    layer: CoreLayer
    mapping: Mapping
    weights: int
    """Index of the region; `params` likewise."""
    params: int
    sources: tuple[tuple[int, int], ...]
    """(index of the region, byte in it) of each tensor in `layer.sources`."""
    result: tuple[int, int]


class Transfer:
    """The moves of layer number `index`; addresses count from the start of a region."""

    def __init__(self, machine: Machine, capacity: Capacity, index: int, plan: LayerPlan) -> None:
        self.machine, self.capacity, self.index, self.plan = machine, capacity, index, plan
        mapping = plan.mapping
        self.walks = [mapping.geometry(chunk, machine) for chunk in mapping.chunks]
        self.lines = list(accumulate((walk.lines for walk in self.walks), initial=0))
        """The weight lines of a group before each chunk, and of all."""
        self.group_lines = list(accumulate(mapping.lines_by_group(machine), initial=0))
        """The weight lines before each group, and of all."""
        self.lists = list(accumulate(mapping.list_entries(machine), initial=0))
        """The entries of step lists before each K tile, and of all."""

    @property
    def listed(self) -> bool:
        """Whether the layer's groups run step lists."""
        return len(self.lists) > 1

    def walk(self, step: Step) -> ChunkGeometry:
        """How the array walks the step's chunk."""
        mapping = self.plan.mapping
        if mapping.shape.pe.lane_wise:
            return mapping.geometry(mapping.chunks[step.chunk], self.machine, step.k_tile)
        return self.walks[step.chunk]

    def weight_line(self, step: Step) -> int:
        """Lines from the slot's start to the step's first weights."""
        mapping = self.plan.mapping
        if mapping.weight_chunked:
            return 0
        skipped = 0 if mapping.shape.ones else step.group - mapping.k_tiles[step.k_tile][0]
        return skipped * self.lines[-1] + self.lines[step.chunk]

    def params(self, step: Step, slot: int) -> list[Draft]:
        """The LOAD of a K tile's parameters."""
        machine, shape = self.machine, self.plan.layer.shape
        group, groups = self.plan.mapping.k_tiles[step.k_tile]
        line = machine.param_line_bits // 8
        first = 0 if shape.alike else shape.param_lines(group, machine.row_groups)
        fields = {
            "target": int(LoadTarget.PARAM),
            "dst": slot * self.capacity.param_lines,
            "address": first * line,
            "run": shape.param_lines(groups, machine.row_groups) * line,
            "rows": 1,
            "planes": 1,
            "wrap": machine.param_line_bits // machine.bus.data_bits,
        }
        return [Draft(Opcode.LOAD, self.index, fields, self.plan.params)]

    def weights(self, step: Step, slot: int, *, pieces: bool) -> Iterator[Draft]:
        """The LOADs of a weight tile, in one go or in pieces between which others may come."""
        machine, mapping = self.machine, self.plan.mapping
        yield from self._lists(step, slot)
        if mapping.weight_chunked:
            group, groups = step.group, 1
            skip = self.lines[step.chunk]
            count = self.walks[step.chunk].lines
        else:
            group, groups = mapping.k_tiles[step.k_tile]
            skip, count = 0, self.group_lines[group + groups] - self.group_lines[group]
        full_line = line_bytes(mapping, machine, 0)
        last_line = line_bytes(mapping, machine, mapping.all_groups - 1)
        ragged = group + groups == mapping.all_groups and last_line != full_line
        if mapping.shape.ones:  # every group takes the first one's
            group, count, ragged = 0, min(count, self.group_lines[1]), False
        own = self.group_lines[-1] - self.group_lines[-2]  # of the last group
        ragged_lines = (count if mapping.weight_chunked else own) if ragged else 0
        whole = count - ragged_lines
        dst = slot * self.capacity.weight_lines
        address = self.group_lines[group] * full_line
        for amount, line in ((whole, full_line), (count - whole, last_line)):
            address += skip * line if amount else 0
            most = min(RUN, _PIECE_BEATS * machine.bus_bytes) if pieces else RUN
            most = max(1, most // line)
            for start in range(0, amount, most):
                part = min(most, amount - start)
                fields = {
                    "target": int(LoadTarget.WEIGHT),
                    "dst": dst,
                    "address": address,
                    "run": part * line,
                    "rows": 1,
                    "planes": 1,
                    "wrap": line // machine.bus_bytes,
                }
                yield Draft(Opcode.LOAD, self.index, fields, self.plan.weights)
                dst += part
                address += part * line

    def _lists(self, step: Step, slot: int) -> Iterator[Draft]:
        """The LOAD of a K tile's step lists, which lie behind all weights; none without lists."""
        if not self.listed:
            return
        machine, entry = self.machine, STEP_BITS // 8
        size = (self.lists[step.k_tile + 1] - self.lists[step.k_tile]) * entry
        weights = weight_bytes(self.plan.mapping, machine) - self.lists[-1] * entry
        fields = {
            "target": int(LoadTarget.STEPS),
            "dst": slot * self.capacity.step_entries * entry // machine.bus_bytes,
            "address": weights + self.lists[step.k_tile] * entry,
            "run": size,
            "rows": 1,
            "planes": 1,
            "wrap": 1,
        }
        yield Draft(Opcode.LOAD, self.index, fields, self.plan.weights)

    def activations(self, step: Step, slot: int) -> Iterator[Draft]:
        """The FILLs, then the LOADs of an activation tile."""
        plan, mapping = self.plan, self.plan.mapping
        base = slot * self.capacity.act_bytes
        fills: dict[Fill, int] = {}
        loads: list[Draft] = []
        for mask, window in mapping.windows(step.tile, mapping.chunks[step.chunk], step.k_tile):
            for fill in window.fills():
                fills[fill] = fills.get(fill, 0) | mask
            for copy, (region, start) in zip(window.copies(), plan.sources, strict=False):
                loads += [
                    Draft(
                        Opcode.LOAD,
                        self.index,
                        {
                            "target": int(LoadTarget.ACTIVATION),
                            "cols": mask,
                            "dst": base + piece.dst,
                            "address": start + piece.src,
                            **strides(piece),
                        },
                        region,
                    )
                    for piece in split_copy(copy, "src")
                ]
        for fill, mask in fills.items():
            copy = Copy(0, 0, 0, fill.dst, fill.dst_row, 0, fill.run, fill.rows, 1)
            for piece in split_copy(copy, "src"):
                yield Draft(
                    Opcode.FILL,
                    self.index,
                    {
                        "target": int(LoadTarget.ACTIVATION),
                        "cols": mask,
                        "dst": base + piece.dst,
                        "value": plan.layer.fill,
                        **strides(piece),
                    },
                )
        yield from loads

    def output_strides(self) -> tuple[int, int]:
        """Bytes from a written pixel to the next, and from a written row to the next."""
        mapping, shape = self.plan.mapping, self.plan.mapping.shape
        return mapping.k_tile, mapping.k_tile * (min(mapping.tile_x, shape.OX) // shape.pool_x)

    def stores(self, step: Step, slot: int) -> list[Draft]:
        """The STOREs of an output tile."""
        region, start = self.plan.result
        pack = PACKED_BITS.index(self.plan.layer.shape.out_bits)
        src = slot * self.capacity.out_bytes
        return [
            Draft(
                Opcode.STORE,
                self.index,
                {"pack": pack, "src": src + piece.src, "address": start + piece.dst, **strides(piece)},
                region,
            )
            for copy in self._results(step)
            for piece in split_copy(copy, "dst", self.plan.layer.shape.out_bits)
        ]

    def stored(self, step: Step) -> tuple[int, int, int]:
        """(region, first byte, byte after the last) of the rows that the step's output tile lies in."""
        mapping, shape = self.plan.mapping, self.plan.mapping.shape
        region, start = self.plan.result
        row = mapping.shape.OX // shape.pool_x * shape.target.pitch
        first = step.tile.y0 // shape.pool_y
        return region, start + first * row, start + (first + step.tile.height // shape.pool_y) * row

    def _results(self, step: Step) -> list[Copy]:
        """The copies, runs in values, from the slot's start to the tensor's start."""
        mapping, shape, tile = self.plan.mapping, self.plan.mapping.shape, step.tile
        target, bits = shape.target, shape.out_bits
        channels = mapping.channels_of(step.k_tile)
        height, width = tile.height // shape.pool_y, tile.width // shape.pool_x
        full_width = shape.OX // shape.pool_x
        pixel_x, pixel_y = self.output_strides()
        row = full_width * target.pitch
        dst = target.offset + tile.y0 // shape.pool_y * row + tile.x0 // shape.pool_x * target.pitch
        dst += mapping.k_tiles[step.k_tile][0] * mapping.rows * target.step * bits // 8
        if target.step > 1:
            # Three loops, and a channel's stride takes one: whole rows of pixels are one of theirs.
            lines, pixels = (1, height * width) if width == full_width else (height, width)
            return [
                Copy(y * pixel_y, 1, pixel_x, dst + y * row, target.step, target.pitch, 1, channels, pixels)
                for y in range(lines)
            ]
        if channels * bits != target.pitch * 8:
            return [Copy(0, pixel_x, pixel_y, dst, target.pitch, row, channels, width, height)]
        if width < full_width:
            return [Copy(0, pixel_y, 0, dst, row, 0, width * channels, height, 1)]
        return [Copy(0, 0, 0, dst, 0, 0, height * width * channels, 1, 1)]
