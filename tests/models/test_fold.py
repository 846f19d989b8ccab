import numpy as np
import pytest
from bitwright.models.fold import BatchNorm, fold
from bitwright.models.numerics import Rounding, rescale


def test_a_folded_layer_rounds_the_exact_quotient_within_its_bound() -> None:
    rng = np.random.default_rng(0)
    count, depth = 24, 36
    values = rng.integers(-127, 128, (count, depth))
    weight_scale = rng.uniform(0.001, 0.01, count)
    norm = BatchNorm(
        gamma=rng.normal(0, 1, count),
        beta=rng.normal(0, 1, count),
        mean=rng.normal(0, 1, count),
        variance=rng.uniform(0.1, 2, count),
    )
    bias = rng.normal(0, 1, count)
    scale_in, zero_in, scale_out = 0.02, -37, 0.05
    folded = fold(
        values,
        weight_scale=weight_scale,
        input_scale=scale_in,
        input_zero_point=zero_in,
        output_scale=scale_out,
        bias=bias,
        norm=norm,
    )
    stored = rng.integers(-128, 128, (depth, 200))
    x = folded.values @ stored + folded.bias[:, None]
    got = rescale(x, folded.multiplier[:, None], folded.shift[:, None], Rounding.HALF_EVEN)
    real = (values * weight_scale[:, None]) @ ((stored - zero_in) * scale_in) + bias[:, None]
    sigma = np.sqrt(norm.variance + 1e-5)[:, None]
    exact = (norm.gamma[:, None] * (real - norm.mean[:, None]) / sigma + norm.beta[:, None]) / scale_out
    shift = folded.shift.astype(float)[:, None]
    bound = 0.5 + 2.0 ** (-1 - shift) + np.abs(x) * 2.0 ** (-32 - shift) + 1e-9
    assert np.all(np.abs(got - exact) <= bound)
    assert (norm.gamma < 0).any() and np.array_equal(folded.values[norm.gamma < 0], -values[norm.gamma < 0])


def test_a_channel_with_gamma_0_keeps_its_constant() -> None:
    norm = BatchNorm(gamma=np.zeros(1), beta=np.full(1, 2.6), mean=np.full(1, 9.0), variance=np.ones(1))
    folded = fold(
        [[5, -3]], weight_scale=[0.1], input_scale=0.1, input_zero_point=4, output_scale=0.1, norm=norm
    )
    assert not folded.values.any()
    got = rescale(folded.bias, folded.multiplier, folded.shift, Rounding.HALF_EVEN)
    assert got.tolist() == [26]


def test_a_factor_of_1_or_more_names_layer_and_channel() -> None:
    with pytest.raises(ValueError, match=r"layer a, channel 1: .* below 1, not 4\.0"):
        fold(
            [[1], [1]],
            weight_scale=[0.1, 4.0],
            input_scale=1.0,
            input_zero_point=0,
            output_scale=1.0,
            layer="a",
        )
