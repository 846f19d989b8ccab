"""Thresholds found by bisection, held to every accumulator one by one."""

import numpy as np
import pytest
from bitwright.models.importers.thresholds_of import find_thresholds
from bitwright.models.numerics import count_thresholds


def scaled_levels(gains: np.ndarray, offsets: np.ndarray, low: int, high: int):
    def levels(acc: np.ndarray) -> np.ndarray:
        real = acc.astype(np.float32) * gains.astype(np.float32) + offsets.astype(np.float32)
        return np.clip(np.round(real), low, high).astype(np.int64)

    return levels


@pytest.mark.parametrize(("low", "high"), [(-8, 7), (-128, 127), (0, 3)])
def test_thresholds_count_what_the_float_function_gives_for_every_accumulator(low: int, high: int) -> None:
    rng = np.random.default_rng(11)
    channels = 12
    gains = rng.uniform(0.01, 0.6, channels) * rng.choice([-1, 1], channels)
    gains[3] = 0  # a constant channel
    offsets = rng.normal(size=channels) * 4
    least, most = rng.integers(-900, -100, channels), rng.integers(100, 900, channels)
    levels = scaled_levels(gains, offsets, low, high)
    found = find_thresholds(levels, least, most, low=low, high=high)
    ends = levels(np.stack([least, most]))
    assert np.array_equal(found.falls, ends[0] > ends[1])
    assert not np.any(found.falls & (gains >= 0))
    for k in range(channels):
        acc = np.arange(least[k], most[k] + 1)
        given = np.repeat(acc[:, None], channels, axis=1)
        signed = -acc if found.falls[k] else acc
        counted = count_thresholds(
            signed[None], values=found.values[k : k + 1].astype(np.int32), low=found.low, step=found.step
        )
        assert np.array_equal(counted[0], levels(given)[:, k])


def test_a_function_that_rises_and_falls_is_refused() -> None:
    def levels(acc: np.ndarray) -> np.ndarray:
        return np.where(np.abs(acc) < 40, 1, 0)

    with pytest.raises(ValueError, match="rise or fall"):
        find_thresholds(levels, np.array([-90]), np.array([100]), low=0, high=1)


def test_accumulators_beyond_int32_are_refused() -> None:
    with pytest.raises(ValueError, match="must fit int32"):
        find_thresholds(lambda acc: acc, np.array([-(1 << 33)]), np.array([0]), low=0, high=1)
