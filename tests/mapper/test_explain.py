from bitwright.mapper.explain import explain_mapping
from bitwright.mapper.machine_file import load_machine
from bitwright.mapper.mapping import capacity_of
from bitwright.mapper.objective import Objective
from bitwright.mapper.search import choose_mapping
from bitwright.mapper.shape import LayerShape

HALVES = {"activations": 2, "weights": 2, "outputs": 2}


def test_a_nest_is_written_from_the_outermost_loop_in_with_what_is_held_and_moved():
    # 64 KiB of weights in tiles of 8 KiB, 12 KiB of activations in tiles of at most 8 KiB.
    shape = LayerShape(name="deep", K=256, C=256, H=6, W=8, OY=6, OX=8)
    machine = load_machine("core-small")
    capacity = capacity_of(machine, HALVES)
    mapping = choose_mapping(shape, machine, capacity, Objective.BYTES)
    lines = explain_mapping(mapping, machine, capacity)
    assert lines[0] == (
        "deep: K 256 × OY 6 × OX 8 × C 256 × FY 1 × FX 1, int8, on 4 rows × 1 of 1 columns × 4 lanes"
    )
    assert lines[1].startswith(f"for k in 0, {mapping.k_tile}, … < 256")
    # Weights are read once, 256 · 256 bytes, and 16 bytes of parameters a channel.
    assert lines[1].endswith("DRAM moves 65 536 B of weights, 4 096 B of parameters")
    assert lines[2].startswith("  for oy") or lines[2].startswith("  oy = ")
    assert "DRAM moves 12 288 B in all" in lines[3]
    assert lines[-1].strip().startswith("POST: requantise   # outputs:")
    assert lines[-1].endswith("DRAM moves 12 288 B in all")
    steps = next(line for line in lines if "steps)" in line)
    assert "(64 steps)" in steps  # 256 channels in lane sets of 4


def test_a_pool_and_a_split_reduction_are_named():
    machine = load_machine("core-small")
    capacity = capacity_of(machine, HALVES)
    pooled = LayerShape(name="p", K=8, C=4, H=8, W=8, OY=8, OX=8, pool_y=2, pool_x=2)
    lines = explain_mapping(choose_mapping(pooled, machine, capacity), machine, capacity)
    assert "POST: requantise, max pool 2 × 2" in lines[-1]
    long = LayerShape(name="l", K=8, C=20000, H=1, W=1)
    mapping = choose_mapping(long, machine, capacity)
    text = "\n".join(explain_mapping(mapping, machine, capacity))
    assert f"for chunk of the reduction ({len(mapping.chunks)}):" in text
