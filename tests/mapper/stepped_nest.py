"""A loop nest walked step by step, instance by instance: the twin of the closed-form counts.

It knows loops, instances and sets of values, and nothing of formulas: of the loops outside a tile, the
innermost that the operand depends on and all around it fetch the tile anew when they move, by every instance
that has work; what is fetched are values of W, I or O, as coordinates.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

from bitwright.mapper.hierarchy import AbstractMachine, Axis, Level, PeMode
from bitwright.mapper.loop_nest import LoopNest
from bitwright.mapper.mapping import MappingError
from bitwright.mapper.problem import DIMS, IRRELEVANT, OPERANDS, Problem

RELEVANT = {x: tuple(d for d in DIMS if d not in IRRELEVANT[x]) for x in OPERANDS}


@dataclass
class Position:
    """A level's loop or an axis' share of a loop: `step` values of `dim` lie below."""

    dim: str
    step: int
    level: int
    axis: int | None


@dataclass
class Count:
    """Of one operand between two levels; see the kernel's MOVES."""

    visit_child: int = 0
    visit_parent: int = 0
    first_child: int = 0
    first_parent: int = 0
    share: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("vc", "vp", "fc", "fp"), 0))


def positions_of(machine: AbstractMachine, nest: LoopNest) -> list[Position]:
    """Outermost first, loops of a level in its order; loops and axes without steps too."""
    inner = [1] * 8
    found: list[Position] = []
    for i, level in enumerate(machine.levels):
        for a, axis in enumerate(machine.axes):
            if axis.below != level.name:
                continue
            outer = [min(n * c, t) for n, c, t in zip(inner, nest.spatial[a], nest.tiles[i], strict=True)]
            found += [Position(d, inner[j], i, a) for j, d in enumerate(DIMS)]
            inner = outer
        steps = {d: inner[j] for j, d in enumerate(DIMS)}
        found += [Position(d, steps[d], i, None) for d in reversed(nest.orders[i])]
        inner = list(nest.tiles[i])
    return found[::-1]


def span(problem: Problem, chain: list[Position], index: tuple[int, ...], dim: str) -> tuple[int, int]:
    """[start, end) of a loop below the given positions; empty where there is no work."""
    start, end = 0, problem.sizes[DIMS.index(dim)]
    for position, i in zip(chain, index, strict=True):
        if position.dim == dim:
            start += i * position.step
            end = min(end, start + position.step)
    return start, max(start, end)


def values(problem: Problem, x: str, spans: dict[str, tuple[int, int]]) -> set[tuple[int, ...]]:
    """Coordinates of an operand's values."""
    ranges = {d: range(*spans[d]) for d in DIMS}
    if x != "I":
        return set(itertools.product(*(ranges[d] for d in RELEVANT[x])))
    rows = {oy * problem.stride_y + fy * problem.dilation_y for oy in ranges["OY"] for fy in ranges["FY"]}
    columns = {ox * problem.stride_x + fx * problem.dilation_x for ox in ranges["OX"] for fx in ranges["FX"]}
    return set(itertools.product(ranges["B"], ranges["G"], ranges["C"], rows, columns))


def trips(problem: Problem, chain: list[Position], at: int) -> int:
    """Steps of position `at` where the tile above is whole."""
    above = [p.step for p in chain[:at] if p.dim == chain[at].dim]
    whole = above[-1] if above else problem.sizes[DIMS.index(chain[at].dim)]
    return -(-whole // chain[at].step)


def walk(
    machine: AbstractMachine, problem: Problem, nest: LoopNest, x: str, child: int, parent: int
) -> Count:
    """The counts of operand x between level `child` (−1: the PEs) and level `parent`."""
    chain = [p for p in positions_of(machine, nest) if p.level > child]
    steps = [trips(problem, chain, i) for i in range(len(chain))]
    loops = [i for i, p in enumerate(chain) if p.axis is None and steps[i] > 1]
    axes = [i for i, p in enumerate(chain) if p.axis is not None and steps[i] > 1]
    moving = [i for i in loops if chain[i].dim in RELEVANT[x]]
    shared = [
        i
        for i in axes
        if chain[i].level <= parent
        and chain[i].dim in IRRELEVANT[x]
        and (x == "O" or machine.axes[chain[i].axis or 0].multicast)
    ]
    slides = child >= 0 and x == "I" and machine.levels[child].sliding and bool(moving)
    if slides:
        last = chain[moving[-1]]
        apart = any(chain[i].dim == last.dim and i > moving[-1] for i in (*axes, *loops))
        slides = last.dim in ("OY", "OX", "FY", "FX") and not apart
    count = Count()
    known: set[tuple[object, ...]] = set()
    before: tuple[int, ...] | None = None
    taken: set[tuple[object, ...]] = set()
    for place in itertools.product(*(range(steps[i]) for i in loops)):
        at = dict(zip(loops, place, strict=True))
        if not active(problem, chain, at, {}):
            continue
        now = tuple(at[i] for i in loops if moving and i <= moving[-1])
        anew = before is None or now != before or child < 0
        step_on = (
            slides and before is not None and anew and now[:-1] == before[:-1] and now[-1] == before[-1] + 1
        )
        if anew:
            taken = set()
        for instance in itertools.product(*(range(steps[i]) for i in axes)):
            on = dict(zip(axes, instance, strict=True))
            index = tuple(at.get(i, on.get(i, 0)) for i in range(len(chain)))
            spans = {d: span(problem, chain, index, d) for d in DIMS}
            if any(a == b for a, b in spans.values()):
                continue
            got = values(problem, x, spans)
            if step_on:
                back = {**at, moving[-1]: at[moving[-1]] - 1}
                old_index = tuple(back.get(i, on.get(i, 0)) for i in range(len(chain)))
                old = {d: span(problem, chain, old_index, d) for d in DIMS}
                got = got - values(problem, x, old)
            size = len(got)
            tile = tuple(spans[d] for d in RELEVANT[x])
            far = tuple(on[i] for i in axes if i not in shared)
            owner = tuple(on[i] for i in axes if chain[i].level > parent)
            for name, key, mine, theirs in (
                ("child", instance, "vc", "fc"),
                ("parent", far, "vp", "fp"),
            ):
                busiest = not any(instance) if name == "child" else not any(owner)
                if (name, key) not in taken:
                    taken.add((name, key))
                    setattr(count, f"visit_{name}", getattr(count, f"visit_{name}") + size)
                    count.share[mine] += size * busiest
                if x == "O" and (name, key, tile) not in known:
                    known.add((name, key, tile))
                    setattr(count, f"first_{name}", getattr(count, f"first_{name}") + size)
                    count.share[theirs] += size * busiest
        before = now
    return count


def active(problem: Problem, chain: list[Position], at: dict[int, int], on: dict[int, int]) -> bool:
    """Whether the first instance has work at this step."""
    index = tuple(at.get(i, on.get(i, 0)) for i in range(len(chain)))
    return all(a < b for a, b in (span(problem, chain, index, d) for d in DIMS))


def busy_steps(machine: AbstractMachine, problem: Problem, nest: LoopNest) -> int:
    """Steps of the first PE."""
    chain = positions_of(machine, nest)
    steps = [trips(problem, chain, i) for i in range(len(chain))]
    loops = [i for i, p in enumerate(chain) if p.axis is None and steps[i] > 1]
    return sum(
        active(problem, chain, dict(zip(loops, place, strict=True)), {})
        for place in itertools.product(*(range(steps[i]) for i in loops))
    )


def random_problem(rng: random.Random, largest: int = 600) -> Problem:
    """A small layer: any of convolution, depthwise, grouped, strided, dilated, linear, batched."""
    while True:
        stride = rng.choice((1, 1, 2, 3))
        dilation = rng.choice((1, 1, 1, 2))
        kind = rng.choice(("conv", "conv", "linear", "depthwise", "grouped"))
        size = {
            "B": rng.choice((1, 1, 2)),
            "G": rng.randint(2, 5) if kind in ("depthwise", "grouped") else 1,
            "K": 1 if kind == "depthwise" else rng.randint(1, 7),
            "C": 1 if kind == "depthwise" else rng.randint(1, 6),
        }
        if kind != "linear":
            size |= {"OY": rng.randint(1, 6), "OX": rng.randint(1, 6)}
            size |= {"FY": rng.randint(1, 3), "FX": rng.randint(1, 3)}
        problem = Problem(
            name="random", **size, stride_y=stride, stride_x=rng.choice((1, stride)),
            dilation_y=dilation, dilation_x=rng.choice((1, dilation)),
            weight_bits=rng.choice((2, 8)), input_bits=rng.choice((4, 8)), output_bits=8,
            partial_bits=rng.choice((8, 24)),
        )  # fmt: skip
        if 8 <= problem.macs <= largest:
            return problem


def random_machine(rng: random.Random, levels: int = 0, limited: bool = False) -> AbstractMachine:
    """A small machine: 2 to 4 levels, bypass, one or two axes at any level."""
    n = levels or rng.randint(2, 4)
    memories = []
    for i in range(n - 1):
        operands = tuple(x for x in OPERANDS if rng.random() < 0.75) or ("W",)
        memories.append(
            Level(
                name=f"m{i}", operands=operands, size_bits=rng.choice((1, 2, 4, 8)) * 64 << (2 * i),
                buffering=rng.choice(("single", "double", "shadow")), sliding=rng.random() < 0.5,
                ports=rng.choice((1, 2)),
                read_bits_per_cycle=rng.choice((8.0, 32.0)) if limited else float("inf"),
                write_bits_per_cycle=rng.choice((8.0, 32.0)) if limited else float("inf"),
                word_bits=8, read_pj=rng.choice((0.1, 0.3, 1.0)) * 4**i,
                write_pj=rng.choice((0.1, 0.5, 1.0)) * 4**i,
            )
        )  # fmt: skip
    memories.append(
        Level(
            name="dram", operands=OPERANDS, word_bits=8, read_pj=100, write_pj=rng.choice((100, 150)),
            read_bits_per_cycle=16.0 if limited else float("inf"),
            write_bits_per_cycle=16.0 if limited else float("inf"),
        )
    )  # fmt: skip
    axes = []
    for name in ("rows", "cols")[: rng.randint(0, 2)]:
        loops = tuple(rng.sample(DIMS, rng.randint(1, 4)))
        axes.append(
            Axis(
                name=name, size=rng.choice((2, 3, 4)), below=f"m{rng.randint(0, n - 2)}" if n > 2 else "m0",
                loops=loops, multicast=rng.random() < 0.7,
            )
        )  # fmt: skip
    return AbstractMachine(
        name="random", levels=tuple(memories), axes=tuple(axes),
        pes=(PeMode(name="mac", weight_bits=8, input_bits=8, mac_pj=0.5),),
        drains_cost=rng.random() < 0.7,
    )  # fmt: skip


def random_nest(rng: random.Random, machine: AbstractMachine, problem: Problem) -> LoopNest | None:
    """A legal nest with any tiles, even or not; None where a hundred attempts found none."""
    for _ in range(100):
        spatial = []
        for axis in machine.axes:
            counts, room = [1] * 8, axis.size
            for d in rng.sample(axis.loops, len(axis.loops)):
                counts[DIMS.index(d)] = rng.randint(1, min(room, problem.sizes[DIMS.index(d)]))
                room //= counts[DIMS.index(d)]
            spatial.append(tuple(counts))
        inner, tiles = [1] * 8, []
        for i, level in enumerate(machine.levels):
            for axis, counts in zip(machine.axes, spatial, strict=True):
                if axis.below == level.name:
                    inner = [a * b for a, b in zip(inner, counts, strict=True)]
            low = [min(a, b) for a, b in zip(inner, problem.sizes, strict=True)]
            last = i == len(machine.levels) - 1
            inner = [
                b if last else (a if rng.random() < 0.6 else rng.randint(a, b))
                for a, b in zip(low, problem.sizes, strict=True)
            ]
            tiles.append(tuple(inner))
        orders = tuple(tuple(rng.sample(DIMS, 8)) for _ in machine.levels)
        nest = LoopNest(tiles=tuple(tiles), spatial=tuple(spatial), orders=orders)
        try:
            nest.verify(machine, problem)
        except MappingError:
            continue
        return nest
    return None
