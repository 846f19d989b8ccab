"""Fixed point, its training, and bits shared out over layers."""

import itertools
import math

import numpy as np
import pytest
from bitwright.models.compress.bit_allocation import (
    BitAllocationPass,
    allocate_bits,
    allocation_noise,
    closed_form_bits,
    db_per_bit,
)
from bitwright.models.compress.fixed_point import FixedPoint, FixedPointPass, fixed_code, sqnr_db
from bitwright.models.compress.fixed_point_training import FixedPointTrainingPass
from bitwright.models.compress.training import TrainingOptions
from digits_subjects import trained

_ROUND_ONLY = TrainingOptions(epochs=0)


def test_numbers_with_two_fraction_bits_are_quarters_from_minus_four_to_three_and_three_quarters():
    fixed = FixedPoint(integer_bits=3, fraction_bits=2)
    found = fixed.rounded(np.array([1.1, -1.1, 9.0, -9.0, 0.125]))
    np.testing.assert_array_equal(found, [1.0, -1.0, 3.75, -4.0, 0.25])


def test_a_range_is_the_finest_that_holds_every_value():
    for size, integer_bits in ((3.0, 3), (4.0, 4), (0.3, 0), (0.2, -1)):
        fixed = FixedPoint.of(np.array([size, -size / 3]), 8)
        assert fixed.integer_bits == integer_bits and fixed.bits == 8
        limit = fixed.step * (1 << 7)
        assert limit / 2 <= size < limit


def test_stochastic_rounding_is_right_in_the_mean_and_goes_to_neighbours_only():
    fixed, count = FixedPoint(integer_bits=4, fraction_bits=0), 200_000
    found = fixed.rounded(np.full(count, 2.3), np.random.default_rng(1))
    assert set(np.unique(found)) == {2.0, 3.0}
    assert abs(found.mean() - 2.3) < 4 * math.sqrt(0.3 * 0.7 / count)


def test_noise_of_fine_steps_is_a_twelfth_of_their_square():
    weights = np.random.default_rng(2).standard_normal((1, 100_000))
    for bits in (6, 8, 10):
        step = np.abs(weights).max() / ((1 << (bits - 1)) - 1)
        expected = 10 * math.log10((weights**2).mean() / (step**2 / 12))
        code = fixed_code(weights, bits, per="layer", choice="range")
        assert abs(sqnr_db(weights, code.weights()) - expected) < 0.05


def test_steps_chosen_by_error_are_as_good_as_the_best_of_a_fine_search():
    weights = np.random.default_rng(3).standard_normal((2, 500)).astype(np.float32)
    weights[0, 0] = 12.0
    for bits in (3, 5):
        code = fixed_code(weights, bits)
        top = (1 << (bits - 1)) - 1
        for row, scale in zip(weights.astype(np.float64), code.scales, strict=True):

            def error(step: float, row: np.ndarray = row, top: int = top) -> float:
                return float(((row - np.clip(np.rint(row / step), -top, top) * step) ** 2).sum())

            steps = np.linspace(0.15, 1.0, 2000) * np.abs(row).max() / top
            assert error(scale) <= 1.1 * min(error(step) for step in steps)


def test_power_steps_are_powers_of_two_and_formats_are_named_by_their_bits():
    code = fixed_code(np.random.default_rng(4).standard_normal((5, 40)), 4, step="power")
    assert code.fmt == "int4" and np.abs(code.integers).max() <= 7
    np.testing.assert_array_equal(np.exp2(np.rint(np.log2(code.scales))), code.scales)


def test_a_bit_is_worth_six_decibels_where_steps_halve_and_less_where_the_range_widens_too():
    rng = np.random.default_rng(5)
    assert abs(db_per_bit(rng.uniform(-1, 1, (1, 20_000)), 5, 10) - 20 * math.log10(2)) < 0.1
    # Max 1960, table II: uniform quantisers of normal values gain 5.1 to 5.3 dB a bit from 3 to 6 bits.
    assert 5.0 < db_per_bit(rng.standard_normal((1, 20_000)), 4, 8) < 5.7


def test_the_closed_form_gives_a_layer_ten_times_larger_ten_over_kappa_fewer_bits():
    bits = closed_form_bits([100, 1000], 5.0, kappa=5.0)
    assert bits[0] - bits[1] == pytest.approx(2.0)
    assert (100 * bits[0] + 1000 * bits[1]) / 1100 == pytest.approx(5.0)


@pytest.mark.parametrize("sizes", [(72, 1152, 4608, 1280), (500, 25_000, 400_000, 5000), (10, 10, 10)])
def test_allocated_bits_lie_between_the_closed_form_and_a_tenth_above_the_exhaustive_best(sizes):
    for mean in (2.5, 3.0, 3.3, 5.0):
        budget = mean * sum(sizes)
        found = allocate_bits(sizes, mean, low=2, high=8)
        assert sum(n * b for n, b in zip(sizes, found, strict=True)) <= budget + 1e-6
        best = min(
            allocation_noise(bits)
            for bits in itertools.product(range(2, 9), repeat=len(sizes))
            if sum(n * b for n, b in zip(sizes, bits, strict=True)) <= budget + 1e-6
        )
        assert best <= allocation_noise(found) + 1e-12 <= 1.1 * best + 1e-11
        assert allocation_noise(closed_form_bits(sizes, mean)) <= best + 1e-12


def test_no_allocation_takes_more_than_its_budget():
    rng = np.random.default_rng(7)
    cases = [((1, 1_000_000), 2.0), ((10, 10), 8.0)]
    cases += [(tuple(10 ** rng.integers(0, 6, 5)), float(rng.uniform(2, 8))) for _ in range(50)]
    for sizes, mean in cases:
        found = allocate_bits(sizes, mean)
        assert min(found) >= 2 and max(found) <= 8
        assert sum(n * b for n, b in zip(sizes, found, strict=True)) <= mean * sum(sizes) + 1e-6
    assert allocate_bits((10, 10), 8.0) == (8, 8)
    with pytest.raises(ValueError, match="mean_bits must be at least 2"):
        allocate_bits((10, 10), 1.9)


def test_half_a_bit_more_allocated_helps_more_than_half_a_bit_everywhere_would():
    even, shared = trained("digits"), trained("digits")
    FixedPointPass(bits=3, training=_ROUND_ONLY).apply(even)
    BitAllocationPass(mean_bits=3.5, training=_ROUND_ONLY).apply(shared)
    sizes = {name: code.integers.size for name, code in shared.codes.items()}
    bits = {name: entry["bits"] for name, entry in shared.notes["quantise.allocate"].items()}
    assert sum(bits[name] * sizes[name] for name in sizes) <= 3.5 * sum(sizes.values())

    def noise(subject, key):
        return sum(10 ** (-entry["sqnr_db"] / 10) for entry in subject.notes[key].values())

    # Half a bit everywhere, if there were one, would halve the noise: 6.02 / 2 dB.
    assert noise(shared, "quantise.allocate") < 0.5 * noise(even, "quantise.fixed")


def test_weights_of_two_bits_recover_by_training_what_rounding_loses():
    rounded, recovered = trained("digits"), trained("digits", epochs=3)
    whole = rounded.accuracy("test")
    FixedPointPass(bits=2, training=_ROUND_ONLY).apply(rounded)
    FixedPointPass(bits=2).apply(recovered)
    assert recovered.accuracy("test") > max(rounded.accuracy("test") + 0.05, whole - 0.03)
    assert {code.fmt for code in recovered.codes.values()} == {"int2"}


def test_pruned_weights_stay_zero_in_fixed_point():
    subject = trained("digits-mlp", epochs=1)
    kept = np.abs(subject.weight("fc1")) > 0.05
    subject.prune("fc1", kept)
    FixedPointPass(bits=4).apply(subject)
    assert not subject.weight("fc1")[~kept].any() and subject.weight("fc1")[kept].any()


def test_training_in_sixteen_bits_learns_with_stochastic_rounding_and_stalls_with_nearest():
    accuracy = {}
    for rounding in ("stochastic", "nearest"):
        subject = trained("digits-mlp")
        FixedPointTrainingPass(
            integer_bits=8,
            fraction_bits=8,
            rounding=rounding,
            restart=True,
            training=TrainingOptions(epochs=10, rate=0.005, batch=64, optimizer="sgd", schedule="constant"),
        ).apply(subject)
        accuracy[rounding] = subject.accuracy("test")
        code = subject.codes["fc1"]
        assert code.fmt == "int16" and set(code.scales) == {2.0**-8}
    assert accuracy["stochastic"] > 0.85
    assert accuracy["nearest"] < 0.5


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: FixedPointPass(bits=1), "bits must be from 2 to 16, not 1"),
        (lambda: BitAllocationPass(mean_bits=1.5), "mean_bits must be from 2 to 8, not 1.5"),
        (lambda: FixedPointTrainingPass(integer_bits=8, fraction_bits=9), "must be at most 16, not 17"),
        (lambda: FixedPointTrainingPass(rounding="up"), "stochastic or nearest, not 'up'"),
    ],
)
def test_impossible_formats_are_refused(made, text):
    with pytest.raises(ValueError, match=text):
        made()
