import pytest
from bitwright.mapper.schedule import assign_slots


def test_slots_are_taken_in_turn_and_a_held_tile_is_not_loaded_again():
    residency = assign_slots(list("ABABC"), 2)
    assert [load.key for load in residency.loads] == ["A", "B", "C"]
    assert [load.slot for load in residency.loads] == [0, 1, 0]
    assert residency.of_step == [0, 1, 0, 1, 2]
    assert [load.release for load in residency.loads] == [2, 3, 4]
    assert [load.waits for load in residency.loads] == [False, False, True]
    assert [load.releases for load in residency.loads] == [True, False, False]


def test_one_slot_reloads_every_change():
    assert [load.key for load in assign_slots(list("AABA"), 1).loads] == ["A", "B", "A"]


def test_releases_are_posted_in_the_order_of_the_loads():
    # B's last use (step 1) is before A's (step 2): its release must come after A's all the same.
    loads = assign_slots(list("ABACD"), 2).loads
    assert [load.key for load in loads] == ["A", "B", "C", "D"]
    assert [load.release for load in loads[:2]] == [2, 3]


@pytest.mark.parametrize("slots", [1, 2])
def test_no_load_stands_before_the_release_of_its_slot(slots):
    keys = [k // 3 % 4 for k in range(40)]
    loads = assign_slots(keys, slots).loads
    for index, load in enumerate(loads):
        if load.waits:
            freed = loads[index - slots].release
            # `position` == `first`: before that step; otherwise after step `position`.
            assert freed < load.first
            assert load.position >= freed
