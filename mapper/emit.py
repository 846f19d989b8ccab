"""The commands of a mapped network: loop nests, tiles in slots, tokens, one stream in order.

Every command stands after all that it waits for. So the oldest unfinished command can always go on,
and no depth of the queues can lock the core up.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from .isa import Command, LoadTarget, Opcode, Token
from .layers import CoreLayer
from .machine import Machine
from .mapping import Capacity, ColumnMode, Mapping
from .nest import Step, steps_of
from .program import Region
from .schedule import TileLoad, assign_slots
from .traffic import line_bytes
from .window import Copy, Fill

__all__ = ["Draft", "Emitter", "LayerPlan"]

_COUNT = (1 << 12) - 1
"""What the fields `rows` and `planes` hold."""
_RUN = (1 << 20) - 1
_ROW_STEP = (1 << 24) - 1


@dataclass(slots=True)
class Draft:
    """A command whose memory address still counts from its region's start."""

    opcode: Opcode
    layer: int
    fields: dict[str, int]
    region: int | None = None

    def place(self, regions: list[Region]) -> Command:
        """The command with its final address."""
        fields = dict(self.fields)
        if self.region is not None:
            fields["address"] += regions[self.region].address
        return Command(self.opcode, {name: value for name, value in fields.items() if value})

    def wait(self, token: Token) -> None:
        """Nothing; the command waits for `token` too."""
        self.fields["wait"] = self.fields.get("wait", 0) | 1 << token

    def post(self, token: Token, field: str = "post") -> None:
        """Nothing; the command posts `token` too."""
        self.fields[field] = self.fields.get(field, 0) | 1 << token


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """A core layer, its mapping, and the indices of its regions."""

    layer: CoreLayer
    mapping: Mapping
    weights: int
    params: int
    source: int
    result: int


def split_copy(copy: Copy, row_step: str) -> Iterator[Copy]:
    """The same copy in pieces that the fields hold; `row_step` names the stride in memory."""
    step = copy.src_row if row_step == "src" else copy.dst_row
    if step > _ROW_STEP and copy.planes == 1:  # the plane's stride is wider
        copy = Copy(
            copy.src, 0, copy.src_row, copy.dst, 0, copy.dst_row, copy.run, 1, copy.rows
        )  # fmt: skip
    for plane in range(0, copy.planes, _COUNT):
        for row in range(0, copy.rows, _COUNT):
            for start in range(0, copy.run, _RUN):
                yield Copy(
                    copy.src + plane * copy.src_plane + row * copy.src_row + start,
                    copy.src_row,
                    copy.src_plane,
                    copy.dst + plane * copy.dst_plane + row * copy.dst_row + start,
                    copy.dst_row,
                    copy.dst_plane,
                    min(_RUN, copy.run - start),
                    min(_COUNT, copy.rows - row),
                    min(_COUNT, copy.planes - plane),
                )


def _strides(copy: Copy) -> dict[str, int]:
    """The strides and counts of a copy as command fields; strides that nothing uses are 0."""
    many_rows, many_planes = copy.rows > 1, copy.planes > 1
    return {
        "src_row": copy.src_row * many_rows,
        "src_plane": copy.src_plane * many_planes,
        "dst_row": copy.dst_row * many_rows,
        "dst_plane": copy.dst_plane * many_planes,
        "run": copy.run,
        "rows": copy.rows,
        "planes": copy.planes,
    }


class Emitter:
    """Turns the mappings of a network's core layers into one stream of commands."""

    def __init__(self, machine: Machine, capacity: Capacity, plans: list[LayerPlan]) -> None:
        self.machine, self.capacity, self.plans = machine, capacity, plans
        self._walks = [[plan.mapping.geometry(c, machine) for c in plan.mapping.chunks] for plan in plans]
        self._lines = [list(accumulate((w.lines for w in walks), initial=0)) for walks in self._walks]
        """For each layer, the weight lines of a group before each chunk, and of all."""
        self._stream: list[Draft] = []
        self._latched: dict[Opcode, dict[str, int]] = {}

    def emit(self) -> list[Draft]:
        """All commands, END last."""
        steps = [s for i, plan in enumerate(self.plans) for s in steps_of(i, plan.mapping)]
        capacity = self.capacity
        acts = assign_slots([s.act for s in steps], capacity.act_slots)
        weights = assign_slots([s.weight for s in steps], capacity.weight_slots)
        params = assign_slots([s.param for s in steps], capacity.weight_slots, [s.last for s in steps])
        outs = assign_slots([s.out for s in steps], capacity.out_slots)
        # One WEIGHT_FULL covers both: a new parameter tile always comes with a weight tile.
        param_of = {load.first: load for load in params.loads}
        assert set(param_of) <= {load.first for load in weights.loads}
        new_layer = {i for i, step in enumerate(steps) if i and step.plan != steps[i - 1].plan}
        for load in acts.loads:
            if load.first in new_layer:  # its weights go first, they need no tensor
                load.position = load.first
        before: dict[int, list[tuple[TileLoad, bool]]] = {}
        after: dict[int, list[tuple[TileLoad, bool]]] = {}
        for load, is_weight in [(w, True) for w in weights.loads] + [(a, False) for a in acts.loads]:
            if is_weight and load.first in param_of:
                param = param_of[load.first]
                load.position = max(load.position, min(param.position, load.first))
            where = before if load.position == load.first else after
            where.setdefault(load.position, []).append((load, is_weight))
        for group in after.values():
            group.sort(key=lambda entry: entry[0].first)
        freed = {
            Token.ACT_FREE: {r.release for r in acts.loads if r.releases},
            Token.WEIGHT_FREE: {r.release for r in weights.loads if r.releases},
            Token.PARAM_FREE: {r.release for r in params.loads if r.releases},
        }
        act_first = {load.first for load in acts.loads}
        weight_first = {load.first for load in weights.loads}
        claimed: set[Hashable] = set()
        for i, step in enumerate(steps):
            for load, is_weight in before.get(i, []):
                self._load(load, steps, is_weight, param_of, load.first in new_layer)
            self._configure(step)
            out = outs.loads[outs.of_step[i]]
            run = self._exec(
                step,
                acts.loads[acts.of_step[i]].slot,
                weights.loads[weights.of_step[i]].slot,
                params.loads[params.of_step[i]].slot,
                out.slot,
            )
            if i in act_first:
                run.wait(Token.ACT_FULL)
            if i in weight_first:
                run.wait(Token.WEIGHT_FULL)
            if out.waits and step.last and out.key not in claimed:
                run.wait(Token.OUT_FREE)
            if step.last:
                claimed.add(out.key)
            for token, where_freed in freed.items():
                if i in where_freed:
                    run.post(token, "post_drain" if token is Token.PARAM_FREE else "post")
            if i + 1 == len(steps) or steps[i + 1].out != step.out:
                run.post(Token.OUT_FULL, "post_drain")
                ends = i + 1 in new_layer
                self._store(step, out, ends)
            for load, is_weight in after.get(i, []):
                self._load(load, steps, is_weight, param_of, False)
        self._stream.append(Draft(Opcode.END, len(self.plans) - 1, {}))
        return self._stream

    # -- LOAD ----------------------------------------------------------------------------------

    def _load(
        self,
        load: TileLoad,
        steps: list[Step],
        is_weight: bool,
        param_of: dict[int, TileLoad],
        new_tensor: bool,
    ) -> None:
        step = steps[load.first]
        if is_weight:
            param = param_of.get(load.first)
            if param is not None:
                drafts = self._param_load(step, param.slot)
                if param.waits:
                    drafts[0].wait(Token.PARAM_FREE)
                self._stream += drafts
            drafts = list(self._weight_load(step, load.slot))
            waits, full = Token.WEIGHT_FREE, Token.WEIGHT_FULL
        else:
            drafts = list(self._act_load(step, load.slot))
            waits, full = Token.ACT_FREE, Token.ACT_FULL
            if new_tensor:
                # Padding needs no tensor, so only the first LOAD waits for it.
                reads = (d for d in drafts if d.opcode is Opcode.LOAD)
                next(reads, drafts[-1]).wait(Token.TENSOR_DONE)
        if load.waits:
            drafts[0].wait(waits)
        drafts[-1].post(full)
        self._stream += drafts

    def _param_load(self, step: Step, slot: int) -> list[Draft]:
        machine, plan = self.machine, self.plans[step.plan]
        group, groups = plan.mapping.k_tiles[step.k_tile]
        size = 16 * machine.array.rows
        fields = {
            "target": int(LoadTarget.PARAM),
            "dst": slot * self.capacity.param_lines,
            "address": group * size,
            "run": groups * size,
            "rows": 1,
            "planes": 1,
            "wrap": machine.param_line_bits // machine.bus.data_bits,
        }
        return [Draft(Opcode.LOAD, step.plan, fields, plan.params)]

    def _weight_load(self, step: Step, slot: int) -> Iterator[Draft]:
        machine, plan, mapping = self.machine, self.plans[step.plan], self.plans[step.plan].mapping
        lines = self._lines[step.plan][-1]
        if mapping.weight_chunked:
            group, groups = step.group, 1
            skip = self._lines[step.plan][step.chunk]
            count = self._walks[step.plan][step.chunk].lines
        else:
            group, groups = mapping.k_tiles[step.k_tile]
            skip, count = 0, groups * lines
        full_line = line_bytes(mapping, machine, 0)
        last_line = line_bytes(mapping, machine, mapping.all_groups - 1)
        ragged = group + groups == mapping.all_groups and last_line != full_line
        ragged_lines = (count if mapping.weight_chunked else lines) if ragged else 0
        whole = count - ragged_lines
        dst = slot * self.capacity.weight_lines
        address = group * lines * full_line
        for amount, line in ((whole, full_line), (count - whole, last_line)):
            address += skip * line if amount else 0
            for start in range(0, amount, _RUN // line):
                part = min(_RUN // line, amount - start)
                fields = {
                    "target": int(LoadTarget.WEIGHT),
                    "dst": dst,
                    "address": address,
                    "run": part * line,
                    "rows": 1,
                    "planes": 1,
                    "wrap": line // machine.bus_bytes,
                }
                yield Draft(Opcode.LOAD, step.plan, fields, plan.weights)
                dst += part
                address += part * line

    def _act_load(self, step: Step, slot: int) -> Iterator[Draft]:
        plan = self.plans[step.plan]
        base = slot * self.capacity.act_bytes
        fills: dict[Fill, int] = {}
        loads: list[Draft] = []
        for mask, window in plan.mapping.windows(step.tile, plan.mapping.chunks[step.chunk]):
            for fill in window.fills():
                fills[fill] = fills.get(fill, 0) | mask
            for copy in window.copies():
                loads += [
                    Draft(
                        Opcode.LOAD,
                        step.plan,
                        {
                            "target": int(LoadTarget.ACTIVATION),
                            "cols": mask,
                            "dst": base + piece.dst,
                            "address": piece.src,
                            **_strides(piece),
                        },
                        plan.source,
                    )
                    for piece in split_copy(copy, "src")
                ]
        for fill, mask in fills.items():
            copy = Copy(0, 0, 0, fill.dst, fill.dst_row, 0, fill.run, fill.rows, 1)
            for piece in split_copy(copy, "src"):
                yield Draft(
                    Opcode.FILL,
                    step.plan,
                    {
                        "target": int(LoadTarget.ACTIVATION),
                        "cols": mask,
                        "dst": base + piece.dst,
                        "value": plan.layer.in_zero_point & 0xFF,
                        **_strides(piece),
                    },
                )
        yield from loads

    # -- EXEC ----------------------------------------------------------------------------------

    def _output_strides(self, mapping: Mapping) -> tuple[int, int]:
        """Bytes from a written pixel to the next, and from a written row to the next."""
        shape = mapping.shape
        pixel = mapping.k_tile
        return pixel, pixel * (min(mapping.tile_x, shape.OX) // shape.pool_x)

    def _configure(self, step: Step) -> None:
        """Nothing; GEOMETRY and OUTPUT where what the core has latched differs."""
        plan, mapping = self.plans[step.plan], self.plans[step.plan].mapping
        layer, shape, walk = plan.layer, mapping.shape, self._walks[step.plan][step.chunk]
        wide, tall = mapping.acc_x > 1, mapping.acc_y > 1
        # With chunks the software walks the accumulator tiles, one EXEC each.
        hardware = len(mapping.chunks) == 1
        more_x = hardware and min(mapping.tile_x, shape.OX) > mapping.acc_x
        more_y = hardware and mapping.column_rows > mapping.acc_y
        columns = mapping.tile_columns > 1
        shared = columns and mapping.mode is ColumnMode.SHARED
        geometry = {
            "pe": int(shape.pe),
            "tile_x": mapping.acc_x,
            "tile_y": mapping.acc_y,
            "sets": walk.sets,
            "tail": walk.tail,
            "fx": walk.fx,
            "fy": walk.fy,
            "pixel_x": walk.pixel_x * wide,
            "pixel_y": walk.pixel_y * tall,
            "tap_x": walk.tap_x,
            "tap_y": walk.tap_y,
            "act_tile_x": mapping.acc_x * walk.pixel_x * more_x,
            "act_tile_y": mapping.acc_y * walk.pixel_y * more_y,
            "act_col": mapping.column_rows * walk.pixel_y * shared,
            "weight_group": walk.lines if hardware and mapping.all_groups > 1 else 0,
        }
        pixel_x, pixel_y = self._output_strides(mapping)
        output = {
            "rounding": layer.rounding,
            "zero_point": layer.out_zero_point,
            "clamp_low": layer.clamp_low,
            "clamp_high": layer.clamp_high,
            "pool_x": shape.pool_x,
            "pool_y": shape.pool_y,
            "pixel_x": pixel_x * (mapping.acc_x > shape.pool_x),
            "pixel_y": pixel_y * (mapping.acc_y > shape.pool_y),
            "tile_x": mapping.acc_x // shape.pool_x * pixel_x * more_x,
            "tile_y": mapping.acc_y // shape.pool_y * pixel_y * more_y,
            "group": mapping.rows if mapping.groups > 1 else 0,
            "col": mapping.column_rows // shape.pool_y * pixel_y * columns,
        }
        for opcode, fields in ((Opcode.GEOMETRY, geometry), (Opcode.OUTPUT, output)):
            if self._latched.get(opcode) != fields:
                self._latched[opcode] = fields
                self._stream.append(Draft(opcode, step.plan, dict(fields)))

    def _exec(self, step: Step, act: int, weight: int, param: int, out: int) -> Draft:
        capacity, mapping = self.capacity, self.plans[step.plan].mapping
        shape, walk = mapping.shape, self._walks[step.plan][step.chunk]
        first_group, _ = mapping.k_tiles[step.k_tile]
        group = step.group - first_group
        lines = 0
        if not mapping.weight_chunked:
            lines = group * self._lines[step.plan][-1]
            lines += self._lines[step.plan][step.chunk]
        pixel_x, pixel_y = self._output_strides(mapping)
        final = step.group + step.groups == mapping.all_groups
        fields = {
            "act": act * capacity.act_bytes
            + step.sub_y * walk.pixel_y
            + step.sub_x * walk.pixel_x
            + walk.offset,
            "weight": weight * capacity.weight_lines + lines,
            "param": param * capacity.param_lines + group * self.machine.row_groups,
            "out": out * capacity.out_bytes
            + step.sub_y // shape.pool_y * pixel_y
            + step.sub_x // shape.pool_x * pixel_x
            + group * mapping.rows,
            "region_x": step.region_x,
            "region_y": step.region_y,
            "groups": step.groups,
            "cols": mapping.columns_of(step.tile.height),
            "rows_last": shape.K - (mapping.all_groups - 1) * mapping.rows if final else mapping.rows,
            "first": int(step.first),
            "last": int(step.last),
        }
        draft = Draft(Opcode.EXEC, step.plan, fields)
        self._stream.append(draft)
        return draft

    # -- STORE ---------------------------------------------------------------------------------

    def _store(self, step: Step, out: TileLoad, ends_layer: bool) -> None:
        plan, mapping = self.plans[step.plan], self.plans[step.plan].mapping
        shape, tile = mapping.shape, step.tile
        first_group, groups = mapping.k_tiles[step.k_tile]
        channels = min(groups * mapping.rows, shape.K - first_group * mapping.rows)
        height, width = tile.height // shape.pool_y, tile.width // shape.pool_x
        full_width = shape.OX // shape.pool_x
        pixel_x, pixel_y = self._output_strides(mapping)
        row = full_width * shape.K
        src = out.slot * self.capacity.out_bytes
        dst = tile.y0 // shape.pool_y * row + tile.x0 // shape.pool_x * shape.K
        dst += first_group * mapping.rows
        if channels < shape.K:
            copy = Copy(src, pixel_x, pixel_y, dst, shape.K, row, channels, width, height)
        elif width < full_width:
            copy = Copy(src, pixel_y, 0, dst, row, 0, width * channels, height, 1)
        else:
            copy = Copy(src, 0, 0, dst, 0, 0, height * width * channels, 1, 1)
        drafts = [
            Draft(
                Opcode.STORE,
                step.plan,
                {"src": piece.src, "address": piece.dst, **_strides(piece)},
                plan.result,
            )
            for piece in split_copy(copy, "dst")
        ]
        drafts[0].wait(Token.OUT_FULL)
        if out.releases:
            drafts[-1].post(Token.OUT_FREE)
        if ends_layer:
            drafts[-1].post(Token.TENSOR_DONE)
        self._stream += drafts
