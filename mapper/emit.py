"""The commands of a mapped network: loop nests, tiles in slots, tokens, one stream in order.

Every command stands after all that it waits for. So the oldest unfinished command can always go on,
and no depth of the queues can lock the core up.
"""

from __future__ import annotations

from collections.abc import Hashable

from .draft import Draft
from .isa import Opcode, PostMode, Token
from .machine import Machine
from .mapping import Capacity, ColumnMode
from .nest import Step, steps_of
from .prefetch import place_loads
from .schedule import TileLoad, assign_slots
from .transfer import LayerPlan, Transfer

__all__ = ["Emitter"]


class Emitter:
    """Turns the mappings of a network's core layers into one stream of commands."""

    def __init__(self, machine: Machine, capacity: Capacity, plans: list[LayerPlan]) -> None:
        self.machine, self.capacity, self.plans = machine, capacity, plans
        self._transfers = [Transfer(machine, capacity, i, plan) for i, plan in enumerate(plans)]
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
        prefetch = place_loads(steps, self._transfers, acts, weights, params)
        freed = {
            Token.ACT_FREE: {r.release for r in acts.loads if r.releases},
            Token.WEIGHT_FREE: {r.release for r in weights.loads if r.releases},
            Token.PARAM_FREE: {r.release for r in params.loads if r.releases},
        }
        act_first = {load.first for load in acts.loads}
        weight_first = {load.first for load in weights.loads}
        claimed: set[Hashable] = set()
        for i, step in enumerate(steps):
            self._stream += prefetch.before.get(i, [])
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
                self._store(step, out, i in prefetch.waited_for)
            self._stream += prefetch.after.get(i, [])
        self._stream.append(Draft(Opcode.END, len(self.plans) - 1, {}))
        return self._stream

    # -- STORE ------------------------------------------------------------------------

    def _store(self, step: Step, out: TileLoad, waited_for: bool) -> None:
        drafts = self._transfers[step.plan].stores(step, out.slot)
        drafts[0].wait(Token.OUT_FULL)
        if out.releases:
            drafts[-1].post(Token.OUT_FREE)
        if waited_for:
            drafts[-1].post(Token.TENSOR_DONE)
        self._stream += drafts

    # -- EXEC ----------------------------------------------------------------------------------

    def _configure(self, step: Step) -> None:
        """Nothing; GEOMETRY and OUTPUT where what the core has latched differs."""
        for opcode, fields in (
            (Opcode.GEOMETRY, self._geometry(step)),
            (Opcode.OUTPUT, self._output(step)),
        ):
            if self._latched.get(opcode) != fields:
                self._latched[opcode] = fields
                self._stream.append(Draft(opcode, step.plan, dict(fields)))

    def _tiling(self, step: Step) -> tuple[bool, bool]:
        """Whether the hardware walks several accumulator tiles along x and along y.

        With chunks the software walks them, one EXEC each.
        """
        mapping = self.plans[step.plan].mapping
        hardware = len(mapping.chunks) == 1
        return (
            hardware and min(mapping.tile_x, mapping.shape.OX) > mapping.acc_x,
            hardware and mapping.column_rows > mapping.acc_y,
        )

    def _geometry(self, step: Step) -> dict[str, int]:
        mapping, walk = self.plans[step.plan].mapping, self._transfers[step.plan].walk(step)
        shape, groups = mapping.shape, len(mapping.chunks) == 1 and mapping.all_groups > 1
        more_x, more_y = self._tiling(step)
        listed = self._transfers[step.plan].listed
        shared = mapping.tile_columns > 1 and mapping.mode is ColumnMode.SHARED
        return {
            "pe": int(shape.pe),
            "tile_x": mapping.acc_x,
            "tile_y": mapping.acc_y,
            "sets": walk.sets,
            "tail": walk.tail,
            "fx": walk.fx,
            "fy": walk.fy,
            "pixel_x": walk.pixel_x * (mapping.acc_x > 1),
            "pixel_y": walk.pixel_y * (mapping.acc_y > 1),
            "tap_x": walk.tap_x,
            "tap_y": walk.tap_y,
            "act_tile_x": mapping.acc_x // shape.pool_x * walk.window_x * more_x,
            "act_tile_y": mapping.acc_y // shape.pool_y * walk.window_y * more_y,
            "act_col": mapping.column_rows // shape.pool_y * walk.window_y * shared,
            "act_group": mapping.rows * (groups and shape.pe.lane_wise),
            "weight_group": 0 if listed else walk.lines * (groups and not shape.ones),
            "listed": int(listed),
        }

    def _output(self, step: Step) -> dict[str, int]:
        plan, mapping = self.plans[step.plan], self.plans[step.plan].mapping
        post, shape = plan.layer.post, mapping.shape
        pixel_x, pixel_y = self._transfers[step.plan].output_strides()
        more_x, more_y = self._tiling(step)
        return {
            "rounding": int(post.rounding),
            "zero_point": post.zero_point,
            "clamp_low": post.low,
            "clamp_high": post.high,
            "pool_x": shape.pool_x,
            "pool_y": shape.pool_y,
            "pixel_x": pixel_x * (mapping.acc_x > shape.pool_x),
            "pixel_y": pixel_y * (mapping.acc_y > shape.pool_y),
            "tile_x": mapping.acc_x // shape.pool_x * pixel_x * more_x,
            "tile_y": mapping.acc_y // shape.pool_y * pixel_y * more_y,
            "group": mapping.rows if mapping.groups > 1 else 0,
            "col": mapping.column_rows // shape.pool_y * pixel_y * (mapping.tile_columns > 1),
            "mode": int(shape.mode),
            "levels": shape.levels,
            "step": post.step if shape.mode is PostMode.THRESHOLDS else 0,
            "planes": shape.summed if shape.mode is PostMode.PLANES else 0,
            "param_set": shape.param_set,
            "param_group": shape.param_set * self.machine.row_groups * (mapping.groups > 1),
            "sum_multiplier": post.sum_multiplier,
            "sum_shift": post.sum_shift,
        }

    def _exec(self, step: Step, act: int, weight: int, param: int, out: int) -> Draft:
        capacity, mapping = self.capacity, self.plans[step.plan].mapping
        shape, transfer = mapping.shape, self._transfers[step.plan]
        walk = transfer.walk(step)
        group = step.group - mapping.k_tiles[step.k_tile][0]
        pixel_x, pixel_y = transfer.output_strides()
        # Sub-tiles start at whole windows.
        sub_y, sub_x = step.sub_y // shape.pool_y, step.sub_x // shape.pool_x
        final = step.group + step.groups == mapping.all_groups
        fields = {
            "act": act * capacity.act_bytes
            + sub_y * walk.window_y
            + sub_x * walk.window_x
            + walk.offset
            + group * mapping.rows * shape.pe.lane_wise,
            "weight": weight * capacity.weight_lines + transfer.weight_line(step),
            "param": param * capacity.param_lines + group * self.machine.row_groups * shape.param_set,
            "out": out * capacity.out_bytes + sub_y * pixel_y + sub_x * pixel_x + group * mapping.rows,
            "region_x": step.region_x,
            "region_y": step.region_y,
            "groups": step.groups,
            "cols": mapping.columns_of(step.tile.height),
            "rows_last": shape.K - (mapping.all_groups - 1) * mapping.rows if final else mapping.rows,
            "first": int(step.first),
            "last": int(step.last),
            "list": weight * capacity.step_entries if transfer.listed else 0,
        }
        draft = Draft(Opcode.EXEC, step.plan, fields)
        self._stream.append(draft)
        return draft
