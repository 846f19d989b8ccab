from itertools import pairwise

import numpy as np
import pytest
from bitwright.mapper.graph import Graph
from bitwright.mapper.layers import CoreLayer, Post
from bitwright.mapper.lowering import Storage
from bitwright.mapper.memory import ALIGNMENT, allocate, place_regions
from bitwright.mapper.shape import LayerShape


def make_graph(sizes: list[int], edges: list[tuple[tuple[int, ...], int]]) -> Graph:
    """Tensor 0 is the input, the last one the output; a layer for each (tensors read, tensor written)."""
    kinds = ["input", *["activations"] * (len(sizes) - 2), "output"]
    post = Post(bias=np.zeros(1, np.int32), low=0, high=0)
    layers = tuple(
        CoreLayer(
            shape=LayerShape(name=f"layer{i}", K=1, C=1, H=1, W=1),
            weights=np.ones((1, 1, 1, 1), np.int8),
            post=post,
            sources=sources,
            result=result,
        )
        for i, (sources, result) in enumerate(edges)
    )
    storages = tuple(
        Storage(f"t{i}", kind, 1, size) for i, (kind, size) in enumerate(zip(kinds, sizes, strict=True))
    )
    return Graph(layers, storages, len(sizes) - 1)


def test_the_tensors_of_a_chain_take_turns():
    # x → a → b → c → y: a (100 bytes, aligned 128) and c share, since c is made when a is dead.
    graph = make_graph([10, 100, 70, 30, 5], [((0,), 1), ((1,), 2), ((2,), 3), ((3,), 4)])
    regions, where = place_regions(33, {"w": ("weights", np.zeros(65, np.uint8))}, graph)
    # commands 0…33, w 64…129, x 192, activations 256 with a, c at 0 and b at 128, y 512
    assert [(r.kind, r.address, r.size) for r in regions] == [
        ("commands", 0, 33), ("weights", 64, 65), ("input", 192, 10), ("activations", 256, 256),
        ("output", 512, 5),
    ]  # fmt: skip
    assert where == [(2, 0), (3, 0), (3, 128), (3, 0), (4, 0)]


def test_a_tensor_lives_until_its_last_reader():
    # a is read again by the last layer, so neither b nor c may take its place.
    graph = make_graph([8, 64, 64, 64, 8], [((0,), 1), ((1,), 2), ((2,), 3), ((1, 3), 4)])
    placed, total = allocate(graph)
    assert len(set(placed.values())) == 3
    assert total == 192


def test_a_network_without_inner_tensors_has_no_region_for_them():
    regions, where = place_regions(0, {}, make_graph([5, 7], [((0,), 1)]))
    assert [r.kind for r in regions] == ["commands", "input", "output"]
    assert where == [(1, 0), (2, 0)]


@pytest.mark.parametrize("seed", range(30))
def test_tensors_that_live_at_the_same_time_never_share_bytes(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(3, 20))
    sizes = [int(n) for n in rng.integers(1, 2000, count)]
    edges = [
        (tuple(int(n) for n in rng.integers(max(0, i - 4), i, rng.integers(1, 3))), i)
        for i in range(1, count)
    ]
    graph = make_graph(sizes, edges)
    placed, total = allocate(graph)
    busy = 0
    for step in range(len(edges)):
        # Alive while layer `step` runs: written by now, and touched now or later.
        alive = [
            n
            for n in placed
            if n - 1 <= step and any(n in (*sources, result) for sources, result in edges[step:])
        ]
        spans = sorted((placed[n], placed[n] + sizes[n]) for n in alive)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
        busy = max(busy, sum(-(-sizes[n] // ALIGNMENT) * ALIGNMENT for n in alive))
        assert all(placed[n] % ALIGNMENT == 0 and placed[n] + sizes[n] <= total for n in alive)
    assert busy <= total <= 2 * busy
