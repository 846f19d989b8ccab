"""Memory maps: no overlap while two tensors live, peaks against what lives at once and by hand."""

import random

import pytest
from bitwright.mapper.liveness import place_tensors


def test_a_dead_tensors_room_is_used_again() -> None:
    # a 0–1, b 1–2, c 2–3 of a chain: c takes a's place. 128 + 192 bytes; b and c alive: 192 + 64.
    found = place_tensors({"a": 100, "b": 192, "c": 60}, {"a": (0, 1), "b": (1, 2), "c": (2, 3)})
    places = {row.name: row.address for row in found.tensors}
    assert places == {"b": 0, "a": 192, "c": 192}
    assert found.peak_bytes == found.bound_bytes == 320


def test_the_smallest_gap_that_fits_is_taken() -> None:
    # a, b, c, d side by side at 0, 5, 9, 12; when b and d's neighbours die, gaps of 4 and 3 bytes are left.
    sizes = {"a": 5, "b": 4, "c": 3, "d": 2, "e": 1}
    lives = {"a": (0, 9), "b": (0, 1), "c": (0, 9), "d": (0, 9), "e": (2, 3)}
    found = place_tensors(sizes, lives, alignment=1)
    assert {row.name: row.address for row in found.tensors}["e"] == 5
    assert found.peak_bytes == 14


@pytest.mark.parametrize("seed", range(30))
def test_no_two_tensors_that_live_at_once_overlap(seed: int) -> None:
    draw = random.Random(seed)
    names = [f"t{i}" for i in range(draw.randint(1, 14))]
    sizes = {name: draw.randint(1, 500) for name in names}
    lives = {}
    for name in names:
        first = draw.randint(-1, 10)
        lives[name] = (first, first + draw.randint(0, 5))
    found = place_tensors(sizes, lives, alignment=16)
    owner: dict[tuple[int, int], str] = {}
    top = 0
    for row in found.tensors:
        assert row.address % 16 == 0
        top = max(top, -(-(row.address + row.size_bytes) // 16) * 16)
        for step in range(row.first, row.last + 1):
            for byte in range(row.address, row.address + row.size_bytes):
                assert owner.setdefault((step, byte), row.name) == row.name
    assert found.peak_bytes == top
    alive = [
        sum(-(-sizes[x] // 16) * 16 for x in names if lives[x][0] <= step <= lives[x][1])
        for step in range(-1, 17)
    ]
    assert found.bound_bytes == max(alive) <= found.peak_bytes


def test_a_tensor_that_dies_before_it_lives_is_refused() -> None:
    with pytest.raises(ValueError, match="tensor 'a' must have at least 1 byte and live from a step"):
        place_tensors({"a": 4}, {"a": (3, 2)})
