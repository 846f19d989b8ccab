import dataclasses

import numpy as np
import pytest
from bitwright.mapper.isa import Opcode, Token
from bitwright.mapper.lower import lower_plan, map_network
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.mapper.mapping import MappingError
from bitwright.mapper.memory import peak_bytes, tensor_lives
from bitwright.mapper.objective import Objective
from bitwright.mapper.pe import PeKind
from bitwright.mapper.plan import plan_layers, plan_network
from bitwright.mapper.shape import LayerShape
from bitwright.models.reference import run_reference
from bitwright.models.zoo import random_input, resnet8_stack
from bitwright.sim.functional import run_functional


@pytest.fixture(scope="module")
def stack():
    return resnet8_stack()


def test_identical_layers_are_searched_once():
    shape = LayerShape(name="a", K=16, C=16, H=8, W=8, FY=3, FX=3, OY=8, OX=8, pad_top=1, pad_left=1)
    other = dataclasses.replace(shape, name="b")
    first, second = plan_layers([shape, other], load_machine("core-medium")).mappings
    assert (first.evaluated > 0, second.evaluated, second.shape.name) == (True, 0, "b")
    assert dataclasses.replace(first, shape=other) == second


def test_a_buffer_too_small_for_halves_is_used_as_a_whole():
    # 40 KiB of weights a group of 8 channels: more than half of core-medium's 64 KiB.
    shape = LayerShape(name="deep", K=8, C=5120, H=2, W=2, OY=2, OX=2)
    ranking = plan_layers([shape], load_machine("core-medium"))
    assert ranking.capacity.weight_slots == 1
    assert len(ranking.mappings[0].chunks) == 1


def test_each_objective_is_best_at_what_it_is_for(stack):
    machine = load_machine("core-large")
    cycles, size = (
        plan_network(stack, machine, objective).mappings for objective in (Objective.LATENCY, Objective.BYTES)
    )
    assert sum(m.cycles for m in cycles) < sum(m.cycles for m in size)
    assert sum(m.read_bytes for m in size) < sum(m.read_bytes for m in cycles)


def test_a_pool_runs_apart_where_its_windows_leave_columns_idle(stack):
    # 8 × 8 pixels in windows of 4 × 4: two columns of core-large's four in one pass.
    machine = load_machine("core-large")
    plan = plan_network(stack, machine)
    assert plan.apart == {"pool"}
    names = [mapping.shape.name for mapping in plan.mappings]
    assert names[-3:] == ["conv7", "pool", "fc"]
    assert plan.mappings[-3].tile_columns == 4
    assert plan_network(stack, load_machine("core-medium")).apart == set()
    x = random_input(stack, 3)
    program = lower_plan(stack, machine, plan)
    assert np.array_equal(run_functional(program, x[0]), run_reference(stack, x)[0])


def test_a_judge_chooses_among_the_best_few(stack):
    machine = load_machine("core-small")
    sizes = []

    def judge(program):
        sizes.append(len(program.commands))
        return float(sizes[-1])

    plan = plan_network(stack, machine, judge=judge)
    assert plan.judged == len(sizes) > 0
    short = lower_plan(stack, machine, plan)
    assert len(short.commands) < len(map_network(stack, machine).commands)


def test_the_first_tile_of_a_layer_waits_for_the_stores_of_its_own_rows(stack):
    program = map_network(stack, load_machine("core-large"))
    conv3 = program.layers.index("conv3")
    of = list(zip(program.commands, program.layer_of, strict=True))
    done = 1 << Token.TENSOR_DONE
    waits = [i for i, (command, _) in enumerate(of) if command["wait"] & done]
    posts = [i for i, (command, _) in enumerate(of) if command["post"] & done]
    number = next(n for n, i in enumerate(waits) if of[i][1] == conv3)
    load, met = of[waits[number]][0], posts[number]  # the n-th wait is met by the n-th post
    stores = [i for i, (c, layer) in enumerate(of) if layer == conv3 - 1 and c.opcode is Opcode.STORE]
    assert met in stores[:-10]  # long before conv2 has ended
    start = load["address"]
    stop = start + (load["rows"] - 1) * load["src_row"] + load["run"]
    needed = [
        i
        for i in stores
        for first in (of[i][0]["address"],)
        if first < stop and start < first + (of[i][0]["rows"] - 1) * of[i][0]["dst_row"] + of[i][0]["run"]
    ]
    assert needed
    assert max(needed) <= met


def test_weights_of_the_next_layer_come_in_pieces_between_the_tiles_of_this_one(stack):
    program = map_network(stack, load_machine("core-large"))
    conv6 = program.layers.index("conv6")
    loads = [
        i
        for i, (c, layer) in enumerate(zip(program.commands, program.layer_of, strict=True))
        if layer == conv6 and c.opcode is Opcode.LOAD and c["target"] == 1
    ]
    assert len(loads) > 2
    between = program.layer_of[loads[0] : loads[-1]]
    assert conv6 - 1 in between


def test_the_memory_map_has_every_tensor_while_it_lives(stack):
    machine = load_machine("core-small")
    plan = plan_network(stack, machine)
    program = lower_plan(stack, machine, plan)
    lives = tensor_lives(plan.graph, program.regions)
    assert {life.kind for life in lives} == {"input", "activations", "output"}
    first = next(life for life in lives if life.kind == "input")
    assert (first.address, first.size, first.first, first.last) == (program.input.address, 3 * 32 * 32, -1, 0)
    # conv1's and conv2's results of 16 × 32 × 32, the largest two that live at once.
    assert peak_bytes(lives) == 2 * 16 * 32 * 32
    for one in lives:
        for two in lives:
            apart = one.last < two.first or two.last < one.first
            disjoint = one.address + one.size <= two.address or two.address + two.size <= one.address
            assert one is two or apart or disjoint


def test_a_layer_that_fits_nowhere_says_which_buffer_is_short_by_how_much():
    # A window of 15 × 15 pixels of 4 channels, a row of the array each: 900 bytes.
    shape = LayerShape(
        name="wide", K=8, C=8, H=15, W=15, OY=15, OX=15, pool_y=15, pool_x=15, pe=PeKind.VECTOR
    )
    settings = ["array.acc_depth=256", "buffers.activation_bytes=256"]
    text = "wide: a tile needs 900 bytes of the activation buffer, which holds 256 for one tile, 644 too few"
    with pytest.raises(MappingError, match=text):
        plan_layers([shape], override_machine(load_machine("core-small"), settings))
