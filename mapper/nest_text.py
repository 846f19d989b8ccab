"""A loop nest as people write it: loops outer to inner, and what each level holds and moves."""

from __future__ import annotations

from .evaluation import Evaluation, evaluate
from .hierarchy import AbstractMachine
from .loop_nest import LoopNest, stored_bits
from .problem import DIMS, Problem

__all__ = ["explain"]


def explain(
    machine: AbstractMachine, problem: Problem, mapping: LoopNest, evaluation: Evaluation | None = None
) -> str:
    """The nest as text, a line a loop and a line a level, outermost first; ends without a line feed.

    Raises:
        MappingError: the nest is not legal.
    """
    found = evaluation or evaluate(machine, problem, mapping)
    lines = [
        f"{problem.name} on {machine.name}: {found.latency_cycles:,} cycles, "
        f"{found.energy_pj / 1e6:,.3f} µJ, {found.active_pes} of {machine.pe_count} PEs"
    ]
    depth = 0
    for i in range(len(machine.levels) - 1, -1, -1):
        level = machine.levels[i]
        lines.append(f"{'  ' * depth}{level.name}: {_holds(machine, problem, mapping, i)}")
        lines += [f"{'  ' * depth}  {text}" for text in _moves(found, level.name)]
        below = mapping.tiles_below(machine, i)
        for name, steps in mapping.loops(machine, i):
            tile, whole = below[DIMS.index(name)], mapping.tiles[i][DIMS.index(name)]
            ragged = f", the last {whole - (steps - 1) * tile}" if whole % tile else ""
            lines.append(f"{'  ' * depth}for {name.lower()} in {steps} steps of {tile}{ragged}:")
            depth += 1
        for axis, counts in zip(machine.axes, mapping.spatial, strict=True):
            unrolled = [f"{name} {n}" for name, n in zip(DIMS, counts, strict=True) if n > 1]
            if axis.below == level.name and unrolled:
                lines.append(
                    f"{'  ' * depth}side by side on {axis.name} ({axis.size}): {', '.join(unrolled)}"
                )
                depth += 1
    lines.append(f"{'  ' * depth}multiply and add")
    return "\n".join(lines)


def _holds(machine: AbstractMachine, problem: Problem, mapping: LoopNest, i: int) -> str:
    level, parts = machine.levels[i], []
    for x in machine.held(i):
        bits, room = stored_bits(machine, problem, i, x, mapping.tiles[i]), level.capacity(x)
        of = "" if room is None or level.shared else f" of {room / 8:,g}"
        parts.append(f"{x} {bits / 8:,g}{of}")
    room = level.capacity(level.operands[0]) if level.shared else None
    return f"holds {', '.join(parts)}{'' if room is None else f' of {room / 8:,g}'} bytes"


def _moves(found: Evaluation, level: str) -> list[str]:
    lines = []
    for row in found.traffic:
        if row.level != level:
            continue
        parts = (
            ("read", row.read_bytes),
            ("filled", row.fill_bytes),
            ("updated", row.update_bytes),
            ("drained", row.drain_bytes),
        )
        moved = ", ".join(f"{name} {value:,g}" for name, value in parts if value)
        lines.append(f"{row.operand}: {moved or 'nothing moves'} (bytes)")
    return lines
