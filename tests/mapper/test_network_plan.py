"""Plans of networks: against every choice tried one by one, and a fused pair by hand."""

import itertools
import random
from dataclasses import replace
from math import inf

import pytest
from bitwright.mapper.fusion import fusible, strips_of
from bitwright.mapper.hierarchy import AbstractMachine, Level, Residence
from bitwright.mapper.layer_graph import FlowTensor, LayerGraph, Rows, Step
from bitwright.mapper.mapping import MappingError
from bitwright.mapper.network_plan import AbstractPlan, plan_network_on
from bitwright.mapper.plan_costs import Run, floor_cost, keeping_level, resident_machine
from bitwright.mapper.problem import OPERANDS, Problem
from small_search import SmallFound, buffer_machine, small_search

_MEMO: dict[tuple[str, str, str], SmallFound | None] = {}


def _best(machine: AbstractMachine, problem: Problem, objective: str) -> SmallFound | None:
    key = (machine.digest(), problem.key(), objective)
    if key not in _MEMO:
        try:
            _MEMO[key] = small_search(machine, problem, objective)
        except MappingError:
            _MEMO[key] = None
    return _MEMO[key]


def _search(objective: str):  # type: ignore[no-untyped-def]
    def search(machine: AbstractMachine, problem: Problem) -> SmallFound:
        found = _best(machine, problem, objective)
        if found is None:
            raise MappingError(f"layer {problem.name}: no tile fits")
        return found

    return search


def _plan(machine: AbstractMachine, graph: LayerGraph, objective: str = "energy", **given) -> AbstractPlan:  # type: ignore[no-untyped-def]
    return plan_network_on(machine, graph, objective=objective, search=_search(objective), **given)


def random_graph(seed: int) -> LayerGraph:
    """A few pointwise layers, some behind a sum of two tensors that were made before."""
    draw = random.Random(seed)
    pixels = draw.choice([2, 4])
    channels = {"in": draw.choice([2, 4])}
    steps = []
    for i in range(draw.randint(2, 5)):
        name, made = f"s{i}", list(channels)
        same = [(a, b) for a, b in itertools.combinations(made, 2) if channels[a] == channels[b]]
        if same and draw.random() < 0.35:
            pair = draw.choice(same)
            steps.append(Step(name=name, inputs=pair, outputs=(f"t{i}",)))
            channels[f"t{i}"] = channels[pair[0]]
            continue
        source = draw.choice(made[-2:])
        k = draw.choice([1, 2, 4])
        problem = Problem(name=name, K=k, C=channels[source], OY=pixels, partial_bits=16)
        rows = Rows(outputs=pixels)
        steps.append(Step(name=name, inputs=(source,), outputs=(f"t{i}",), problem=problem, rows=rows))
        channels[f"t{i}"] = k
    tensors = {x: FlowTensor(name=x, size_bits=8 * pixels * n, rows=pixels) for x, n in channels.items()}
    read = {x for step in steps for x in step.inputs}
    outputs = tuple(x for x in channels if x not in read and x != "in")
    return LayerGraph(name="net", steps=tuple(steps), tensors=tensors, inputs=("in",), outputs=outputs)


def _layer_cost(machine: AbstractMachine, runs: list, objective: str) -> float:  # type: ignore[type-arg]
    """Of runs (times, problem, in place, through tile, resident bits) of a layer; inf if one is not legal."""
    energy = latency = 0.0
    for times, problem, in_place, through, resident in runs:
        buffer = machine.levels[0]
        left = buffer.size_bits - resident
        residence = None
        if in_place or through:
            residence = Residence(level="buffer", in_place=in_place, through_tile=through)
        if left < 1:
            return inf
        less = replace(
            machine, levels=(replace(buffer, size_bits=left), machine.levels[1]), residence=residence
        )
        found = _best(less, problem, objective)
        if found is None or (through and found.evaluation.at("buffer", "O").fills):
            return inf
        energy += times * found.evaluation.energy_pj
        latency += times * found.evaluation.latency_cycles
    return {"energy": energy, "latency": latency, "edp": energy * latency}[objective]


def every_choice(machine: AbstractMachine, graph: LayerGraph, objective: str) -> float:
    """The least cost over all sets of kept tensors, all sets of fused pairs, strips, and ways of results."""
    room = machine.levels[0].size_bits or 0
    steps, bits = graph.steps, {x: t.size_bits for x, t in graph.tensors.items()}
    first = {x: i for i, step in enumerate(steps) for x in step.outputs}
    last = {x: i for i, step in enumerate(steps) for x in (*step.inputs, *step.outputs)}
    inner = [x for x in first if x not in graph.outputs and last[x] > first[x]]
    pairs = [i for i in range(len(steps)) if fusible(graph, i)]
    best = inf

    def layer(
        problem: Problem, times: int, inside: bool, out: bool, resident: int, most: int, gone: bool
    ) -> list:  # type: ignore[type-arg]
        held = ("I",) if inside else ()
        if not out:
            return [[(times, problem, held, False, resident)]]
        wide = resident + most * (problem.partial_bits - problem.output_bits)
        ways = [[(times, problem, held, True, resident)]]
        return ways if wide > room else [*ways, [(times, problem, (*held, "O"), False, wide)]]

    for n in range(len(inner) + 1):
        for kept in itertools.combinations(inner, n):
            alive = [sum(bits[x] for x in kept if first[x] <= i <= last[x]) for i in range(len(steps))]
            if max(alive) > room:
                continue
            for m in range(len(pairs) + 1):
                for fused in itertools.combinations(pairs, m):
                    between = {steps[i].outputs[0] for i in fused}
                    if between & set(kept) or any(i + 1 in fused for i in fused):
                        continue
                    total = 0.0
                    for i, step in enumerate(steps):
                        if i - 1 in fused:
                            continue
                        if i in fused:
                            total += _pair_cost(machine, graph, i, kept, first, last, room, objective)
                            continue
                        if step.problem is None:
                            total += _move_cost(step, kept, bits, objective)
                            continue
                        p = step.problem
                        options = layer(
                            p, 1, step.inputs[0] in kept, step.outputs[0] in kept, alive[i], p.K * p.OY, True
                        )
                        total += min(_layer_cost(machine, runs, objective) for runs in options)
                    best = min(best, total)
    return best


def _move_cost(step: Step, kept: tuple[str, ...], bits: dict[str, int], objective: str) -> float:
    inside = sum(bits[x] for x in (*step.inputs, *step.outputs) if x in kept)
    outside = sum(bits[x] for x in (*step.inputs, *step.outputs) if x not in kept)
    energy = inside * 1 + outside * 100
    read = sum(bits[x] for x in step.inputs if x in kept) / 64
    write = sum(bits[x] for x in step.outputs if x in kept) / 64
    latency = -int(-max(outside / 8, read, write) // 1)
    return {"energy": energy, "latency": latency, "edp": energy * latency}[objective]


def _pair_cost(machine, graph, i, kept, first, last, room, objective) -> float:  # type: ignore[no-untyped-def]
    """Pointwise pairs: strips of r rows of both, without halo."""
    a, b = graph.steps[i], graph.steps[i + 1]
    alive = sum(
        t.size_bits for x, t in graph.tensors.items() if x in kept and first[x] <= i + 1 and last[x] >= i
    )
    rows, best = a.problem.OY, inf
    heights = [r for r in range(rows - 1, 0, -1) if rows % r == 0]
    row_bits = a.problem.K * 8
    for r in [r for r in heights if alive + r * row_bits <= room][:3]:
        resident = alive + r * row_bits
        pa, pb = replace(a.problem, OY=r), replace(b.problem, OY=r)
        times = rows // r
        held = ("I",) if a.inputs[0] in kept else ()
        ways_a = [(times, pa, held, True, resident)]
        wide = resident + a.problem.K * r * 8
        if wide <= room:
            ways_a.append((times, pa, (*held, "O"), False, wide))
        ways_b = [(times, pb, ("I",), False, resident)]
        if b.outputs[0] in kept:
            wide = resident + b.problem.K * r * 8
            ways_b = [(times, pb, ("I",), True, resident)]
            if wide <= room:
                ways_b.append((times, pb, ("I", "O"), False, wide))
        cost = min(_layer_cost(machine, [w], objective) for w in ways_a) + min(
            _layer_cost(machine, [w], objective) for w in ways_b
        )
        best = min(best, cost)
    return best


@pytest.mark.parametrize("objective", ["energy", "latency", "edp"])
@pytest.mark.parametrize("seed", range(14))
def test_no_choice_of_tensors_and_pairs_is_better(seed: int, objective: str) -> None:
    graph = random_graph(seed)
    machine = buffer_machine(random.Random(seed).choice([40, 80, 150, 300, 600]))
    plan = _plan(machine, graph, objective)
    assert plan.optimal
    assert plan.objective_value == pytest.approx(every_choice(machine, graph, objective), rel=1e-12)
    assert plan.bound == pytest.approx(plan.objective_value)
    assert plan.objective_value <= plan.before_value


def test_the_random_networks_keep_spill_and_fuse() -> None:
    plans = [_plan(buffer_machine(size), random_graph(seed)) for seed in range(14) for size in (40, 80, 300)]
    assert any(plan.kept for plan in plans)
    assert any(plan.fused for plan in plans)
    assert any(not plan.kept and not plan.fused for plan in plans)


@pytest.mark.parametrize("objective", ["energy", "latency", "edp"])
def test_no_nest_costs_less_than_the_floor(objective: str) -> None:
    machine = buffer_machine(400)
    layer = Problem(name="x", K=4, C=2, OY=6, FY=3, stride_y=2, partial_bits=16)
    ways: list[tuple[tuple[str, ...], bool]] = [
        ((), False),
        (("I",), False),
        (("I", "O"), False),
        (("I",), True),
    ]
    for in_place, through in ways:
        run = Run(problem=layer, in_place=in_place, through_tile=through, resident_bits=8)
        found = _best(resident_machine(machine, run), layer, objective)
        assert found is not None
        assert 0 < floor_cost(machine, run, objective) <= found.objective_value
    # By hand: 144 products at 1 pJ; 4·2·3 weights, 2·13 inputs and 4·6 results of 8 bits at 100 pJ a bit.
    plain = floor_cost(machine, Run(problem=layer), "energy")
    assert plain == pytest.approx(4 * 2 * 6 * 3 + (24 + 26 + 24) * 800)


@pytest.mark.parametrize("seed", range(14))
def test_the_level_never_holds_more_than_it_has(seed: int) -> None:
    graph, size = random_graph(seed), random.Random(seed).choice([60, 100, 200])
    plan = _plan(buffer_machine(size), graph)
    lives = graph.lives()
    held = {pair.first: pair.held_bits for pair in plan.fused} | {p.second: p.held_bits for p in plan.fused}
    for i, step in enumerate(plan.steps):
        alive = sum(graph.tensors[x].size_bits for x in plan.kept if lives[x][0] <= i <= lives[x][1])
        assert alive + held.get(step.name, 0) <= step.resident_bits <= size
    assert plan.peak_resident_bits == max(step.resident_bits for step in plan.steps)
    inside = {*plan.kept, *(pair.tensor for pair in plan.fused)}
    assert {row.name for row in plan.memory.tensors} == set(graph.tensors) - inside


def _pair(pool: bool = False) -> LayerGraph:
    """Depthwise 3×3 over 4 channels of 10 × 10, then pointwise to 4 channels; or a pool 2 × 2 then."""
    deep = Problem(name="deep", G=4, OY=8, OX=8, FY=3, FX=3, partial_bits=16)
    steps = [
        Step(name="deep", inputs=("in",), outputs=("mid",), problem=deep, rows=Rows(outputs=8, kernel=3)),
        Step(name="pool", inputs=("mid",), outputs=("out",), rows=Rows(outputs=4, kernel=2, stride=2))
        if pool
        else Step(
            name="point", inputs=("mid",), outputs=("out",), rows=Rows(outputs=8),
            problem=Problem(name="point", K=4, C=4, OY=8, OX=8, partial_bits=16),
        ),
    ]  # fmt: skip
    tensors = {"in": (400, 10), "mid": (256, 8), "out": (64 if pool else 256, 4 if pool else 8)}
    return LayerGraph(
        name="pair",
        steps=tuple(steps),
        tensors={x: FlowTensor(name=x, size_bits=8 * n, rows=rows) for x, (n, rows) in tensors.items()},
        inputs=("in",),
        outputs=("out",),
    )


def test_a_depthwise_and_a_pointwise_layer_are_fused_as_by_hand() -> None:
    # Between them lie 2048 bits; whole, they would leave 52 of 2100 bits for the first layer's tiles, which
    # then fetch each input nine times. Two strips of 4 rows hold 1024 bits; the depthwise layer's tile of one
    # channel takes 9·8 of weights, 6·10·8 of inputs and 32 sums of 16 bits, 1064 in all, and 12 are left.
    plan = _plan(buffer_machine(2100), _pair())
    (fused,) = plan.fused
    assert (fused.kind, fused.tensor, fused.rows, fused.strips) == ("depthwise + pointwise", "mid", 4, 2)
    assert fused.held_bits == 4 * 4 * 8 * 8
    assert plan.kept == ()
    # Each strip reads 6 rows of inputs (2 of halo twice) and all weights of both; results are written once.
    assert plan.total.dram_read_bytes == 2 * (4 * 6 * 10 + 4 * 9 + 16)
    assert plan.total.dram_write_bytes == 256
    # Apart, each operand moves once: inputs, weights and results of both.
    assert plan.before.dram_read_bytes == (400 + 36) + (256 + 16)
    assert plan.before.dram_write_bytes == 256 + 256
    assert {row.name for row in plan.memory.tensors} == {"in", "out"}
    assert [sum(run.times for run in step.runs) for step in plan.steps] == [2, 2]


def test_a_convolution_and_a_pool_are_fused() -> None:
    plan = _plan(buffer_machine(2100), _pair(pool=True))
    (fused,) = plan.fused
    assert (fused.kind, fused.rows, fused.strips, fused.held_bits) == ("conv + pool", 2, 2, 4 * 4 * 8 * 8)
    assert plan.total.dram_write_bytes == 64
    assert plan.total.dram_read_bytes == 2 * (4 * 6 * 10 + 4 * 9)
    assert plan.before.dram_read_bytes == 400 + 36 + 256


def test_strips_keep_their_halo_and_make_each_row_once() -> None:
    # A 3×3 depthwise layer with padding 1 reads 8 rows: strips of 2 rows need rows 0–2, 1–4, 3–6, 5–7.
    point = Problem(name="point", K=4, C=4, OY=8, OX=8)
    deep = Problem(name="deep", G=4, OY=8, OX=8, FY=3, FX=3)
    graph = LayerGraph(
        name="pair",
        steps=(
            Step(name="point", inputs=("in",), outputs=("mid",), problem=point, rows=Rows(outputs=8)),
            Step(
                name="deep", inputs=("mid",), outputs=("out",), problem=deep,
                rows=Rows(outputs=8, kernel=3, pad_top=1),
            ),
        ),
        tensors={x: FlowTensor(name=x, size_bits=2048, rows=8) for x in ("in", "mid", "out")},
        inputs=("in",),
        outputs=("out",),
    )  # fmt: skip
    assert fusible(graph, 0) == "pointwise + depthwise"
    strips = {strip.rows: strip for strip in strips_of(graph, 0, 10_000)}
    assert sorted(strips) == [1, 2, 4]
    assert strips[2].first == ((3, 1), (2, 2), (1, 1))
    assert (strips[2].held_rows, strips[2].new_rows, strips[2].count) == (4, 3, 4)
    assert strips[4].first == ((5, 1), (3, 1))
    assert [strip.rows for strip in strips_of(graph, 0, 4 * 256)] == [2, 1]  # 4 rows of 256 bits


def test_a_tensor_that_is_wanted_elsewhere_is_not_fused_away() -> None:
    graph = _pair()
    more = Step(name="sum", inputs=("mid", "out"), outputs=("end",))
    tensors = {**graph.tensors, "end": FlowTensor(name="end", size_bits=2048, rows=8)}
    longer = LayerGraph(
        name="sum", steps=(*graph.steps, more), tensors=tensors, inputs=("in",), outputs=("end",)
    )
    assert fusible(graph, 0) == "depthwise + pointwise"
    assert fusible(longer, 0) is None
    assert fusible(replace(graph, outputs=("mid", "out")), 0) is None


def test_a_machine_without_a_shared_level_keeps_nothing() -> None:
    parts = Level(name="parts", operands=OPERANDS, weight_bits=4096, input_bits=8192, output_bits=8192)
    machine = replace(buffer_machine(64), levels=(parts, buffer_machine(64).levels[1]))
    assert keeping_level(machine) is None
    plan = _plan(machine, _pair())
    assert (plan.level, plan.kept, plan.fused, plan.total) == ("", (), (), plan.before)


def test_no_time_left_gives_the_plain_way_and_a_bound() -> None:
    plan = _plan(buffer_machine(2100), _pair(), time_limit_s=0)
    assert (plan.kept, plan.fused, plan.optimal) == ((), (), False)
    assert plan.total == plan.before
    assert 0 <= plan.bound < plan.objective_value
    assert plan.bound <= _plan(buffer_machine(2100), _pair()).objective_value


def test_a_layer_without_a_legal_nest_is_named() -> None:
    with pytest.raises(MappingError, match="layer deep: no tile fits"):
        _plan(buffer_machine(20), _pair())
