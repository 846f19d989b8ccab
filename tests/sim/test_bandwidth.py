import numpy as np
import pytest
from bitwright.mapper.lower import map_network
from bitwright.mapper.machine_file import load_machine
from bitwright.models.zoo import resnet8_stack
from bitwright.sim.bandwidth import spread
from bitwright.sim.cycle import simulate


def test_bytes_are_spread_over_their_spans() -> None:
    # 8 bytes over cycles 0…3 and 6 over 2…7, in four stretches of 2 cycles: 4, 4 + 2, 2, 2.
    start, end = np.array([0, 2]), np.array([4, 8])
    assert spread(start, end, np.array([[8], [6]]), 8, 4).ravel() == pytest.approx([4, 6, 2, 2])


def test_every_cycle_of_random_spans_gets_what_a_loop_over_cycles_gives_it() -> None:
    rng = np.random.default_rng(3)
    start = rng.integers(0, 50, 30)
    end = start + rng.integers(1, 14, 30)
    moved = rng.integers(0, 100, (30, 2))
    expected = np.zeros((64, 2))
    for first, after, amounts in zip(start, end, moved, strict=True):
        for cycle in range(first, after):
            expected[cycle] += amounts / (after - first)
    assert spread(start, end, moved, 64, 64) == pytest.approx(expected)


def test_empty_spans_and_no_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least a cycle"):
        spread(np.array([1]), np.array([1]), np.array([[1]]), 4, 2)
    with pytest.raises(ValueError, match="parts must be at least 1, not 0"):
        spread(np.array([0]), np.array([1]), np.array([[1]]), 4, 0)


def test_the_bytes_over_time_of_a_run_sum_to_its_traffic() -> None:
    result = simulate(map_network(resnet8_stack(), load_machine("core-large")))
    for operand, moved in result.traffic.items():
        assert result.bandwidth[operand].sum() == pytest.approx(moved.read + moved.write)
