import contextlib
import dataclasses
import itertools
import math
import random

import numpy as np
import pytest
from bitwright.mapper import search_kernel
from bitwright.mapper.machine_file import load_machine, override_machine
from bitwright.mapper.mapping import ColumnMode, LoopOrder, Mapping, MappingError, capacity_of
from bitwright.mapper.objective import EventPrices, Objective
from bitwright.mapper.pe import PeKind
from bitwright.mapper.pipeline_kernel import CORE, LAYER, TILE, run_pipeline
from bitwright.mapper.sampling import random_machine
from bitwright.mapper.search import LayerSearch, choose_mapping
from bitwright.mapper.shape import LayerShape
from bitwright.mapper.splits import pixel_skips, splits

HALVES = {"activations": 2, "weights": 2, "outputs": 2}
PRICES = EventPrices(
    multiply=0.2, negate=0.03, ternary=0.015, xnor=0.007, add=0.1, post=3.3, compare=0.1, dram=48.0,
    activation_buffer=1.2, weight_buffer=1.5, param_buffer=0.9, output_buffer=1.0, accumulators=0.4,
)  # fmt: skip


def draw_shape(seed: int) -> LayerShape:
    """A small layer: strides, pools, lane-wise ones among them."""
    rng = random.Random(seed)
    taps, stride, pool = rng.choice((1, 2, 3)), rng.choice((1, 1, 2)), rng.choice((1, 1, 2))
    oy, ox = rng.randint(1, 5) * pool, rng.randint(1, 6) * pool
    lane_wise = seed % 4 == 3
    channels = rng.randint(1, 24)
    return LayerShape(
        name="layer", K=channels if lane_wise else rng.randint(1, 40), C=channels,
        H=(oy - 1) * stride + taps, W=(ox - 1) * stride + taps, FY=taps, FX=taps, OY=oy, OX=ox,
        stride_y=stride, stride_x=stride, pad_top=taps // 2, pad_left=taps // 2, pool_y=pool, pool_x=pool,
        pe=PeKind.VECTOR if lane_wise else PeKind.INT8,
    )  # fmt: skip


def draw(seed: int):
    machine = random_machine(seed, pes=("int8", "vector"))
    rng = random.Random(seed)
    slots = {name: rng.choice((1, 2)) for name in HALVES}
    return draw_shape(seed), machine, capacity_of(machine, slots)


@pytest.mark.parametrize("objective", list(Objective))
@pytest.mark.parametrize("seed", range(50))
def test_the_bounds_rule_out_no_mapping_that_is_better_than_the_one_found(seed, objective):
    # 200 layers × machines × objectives: with infinite slack no bound is used and all are estimated.
    shape, machine, capacity = draw(seed)
    bounded = LayerSearch(shape, machine, objective, PRICES).whole(capacity)
    every = LayerSearch(shape, machine, objective, PRICES, slack=math.inf).whole(capacity)
    assert bool(bounded) == bool(every)
    if bounded:
        assert bounded[0].score == every[0].score
        assert bounded[0].optimal
        assert bounded[0].score >= LayerSearch(shape, machine, objective, PRICES).bound


@pytest.mark.parametrize("seed", range(24))
def test_all_legal_mappings_of_the_space_are_candidates(seed):
    # The space as its description says, each choice checked by `Mapping.verify` alone.
    shape, machine, capacity = draw(seed)
    found = LayerSearch(shape, machine, slack=math.inf).whole(capacity)
    columns, rows = found[0].columns if found else 1, machine.array.rows
    choices = itertools.product(
        ColumnMode if columns > 1 else (ColumnMode.SHARED,),
        pixel_skips(shape, shape.whole, machine),
        splits(-(-(shape.OY // shape.pool_y) // columns)),
        splits(shape.OX // shape.pool_x),
        splits(-(-shape.K // rows)),
    )
    legal = 0
    for mode, skip, height, width, groups in choices:
        mapping = Mapping(
            shape=shape, rows=rows, columns=columns, column_rows=height * shape.pool_y,
            tile_x=width * shape.pool_x, groups=groups, acc_y=shape.pool_y, acc_x=shape.pool_x,
            order=LoopOrder.WEIGHTS, mode=mode, skip_x=skip, chunks=(shape.whole,),
        )  # fmt: skip
        with contextlib.suppress(MappingError):
            mapping.verify(machine, capacity)
            legal += len(LoopOrder)
    assert (found[0].evaluated if found else 0) == legal


@pytest.mark.parametrize("seed", [1, 3, 8])
def test_the_compiled_search_is_the_python_one(seed, monkeypatch):
    shape, machine, capacity = draw(seed)
    compiled = LayerSearch(shape, machine, Objective.EDP, PRICES).whole(capacity)
    for name in ("search", "least_bound", "accumulator_tile"):
        monkeypatch.setattr(search_kernel, name, getattr(search_kernel, name).py_func)
    plain = LayerSearch(shape, machine, Objective.EDP, PRICES).whole(capacity)
    assert [dataclasses.replace(m, evaluated=0) for m in plain] == compiled
    assert [m.score for m in plain] == pytest.approx([m.score for m in compiled])


def test_one_tile_takes_what_its_parts_take_in_turn():
    core = np.zeros(len(CORE), np.int64)
    layer = np.zeros(len(LAYER), np.int64)
    tiles = np.zeros((1, len(TILE)), np.int64)
    for name, value in {
        "read_latency": 20, "array_latency": 10, "post_latency": 12, "token": 2, "row_groups": 1,
    }.items():  # fmt: skip
        core[CORE.index(name)] = value
    layer[LAYER.index("groups")] = 1
    for name, value in {"load": 100, "issue": 50, "drain": 17, "last_drain": 16, "accumulators": 1}.items():
        tiles[0, TILE.index(name)] = value
    run = run_pipeline.py_func
    slots, weights, stores = np.full(3, 2), np.array([30, 30]), np.array([[40, 40]])
    # LOAD 2 + 24 + 100 = 126; the array sees it at 128 and issues from 130 to 180; its sums reach POST at
    # 190, which reads for 17 cycles: 207; written and seen at 207 + 12 + 2; STORE takes 40.
    assert run(core, layer, tiles, 1, True, 1, slots, weights, stores) == 261
    # With one slot the weights come first: 2 + 24 + 30 = 56, and the tile's data follow.
    slots[1] = 1
    assert run(core, layer, tiles, 1, True, 1, slots, weights, stores) == 261 + 30


def test_the_second_tile_loads_while_the_first_is_computed():
    core = np.zeros(len(CORE), np.int64)
    layer = np.zeros(len(LAYER), np.int64)
    tiles = np.zeros((2, len(TILE)), np.int64)
    layer[LAYER.index("groups")] = 1
    for name, value in {"load": 100, "issue": 90, "drain": 5, "last_drain": 4, "accumulators": 1}.items():
        tiles[:, TILE.index(name)] = value
    stores = np.full((2, 2), 3)
    run = run_pipeline.py_func
    both = np.array([2, 2, 2])
    # First beats after 4 cycles: loads end at 104 and 204, the array's second tile at 206 + 90 = 296.
    assert run(core, layer, tiles, 2, True, 1, both, np.zeros(2, np.int64), stores) == 296 + 5 + 3
    # With one slot the second load waits for the array, 104 + 2 + 90, and takes 4 + 100 more.
    both[0] = 1
    alone = run(core, layer, tiles, 2, True, 1, both, np.zeros(2, np.int64), stores)
    assert alone == 196 + 104 + 2 + 90 + 5 + 3


def test_energy_without_prices_is_refused():
    shape = LayerShape(name="conv", K=4, C=4, H=4, W=4, OY=4, OX=4)
    machine = load_machine("core-small")
    with pytest.raises(ValueError, match=r"objective edp needs prices of events: give sim\.energy"):
        choose_mapping(shape, machine, capacity_of(machine, HALVES), Objective.EDP)


def test_prices_are_numbers_of_picojoules():
    with pytest.raises(ValueError, match="dram must be a number of picojoules ≥ 0, not -1"):
        dataclasses.replace(PRICES, dram=-1)


def test_a_layer_that_fits_nowhere_says_which_buffer_is_short_by_how_much():
    # The smallest tile is a window of 8 × 8 pixels for one tap of one channel.
    shape = LayerShape(name="wide", K=4, C=1, H=40, W=40, FY=9, FX=9, OY=8, OX=8, pool_y=8, pool_x=8)
    small = override_machine(
        load_machine("core-small"), ["array.acc_depth=64", "buffers.activation_bytes=256"]
    )
    capacity = dataclasses.replace(capacity_of(small, dict.fromkeys(HALVES, 1)), act_bytes=60)
    text = (
        r"wide: a tile needs 64 bytes of the activation buffer, which holds 60 for one tile, 4 too few: raise"
    )
    with pytest.raises(MappingError, match=text):
        choose_mapping(shape, small, capacity)
