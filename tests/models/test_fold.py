import numpy as np
import pytest
from bitwright.models.fold import BatchNorm, fold, fold_thresholds
from bitwright.models.formats import Format
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


def test_a_constant_channel_of_a_format_without_0_stays_within_a_quarter_step() -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(0, 2, (3, 72)) * 2 - 1
    gamma = np.array([0.0, 1e-6, -3e-7])
    norm = BatchNorm(gamma=gamma, beta=np.array([2.6, -1.2, 0.4]), mean=np.zeros(3), variance=np.ones(3))
    folded = fold(
        values,
        weight_scale=np.full(3, 0.1),
        input_scale=0.1,
        input_zero_point=-128,
        output_scale=0.1,
        weight_format=Format.parse("binary"),
        norm=norm,
    )
    assert np.array_equal(np.abs(folded.values), np.ones((3, 72)))
    stored = np.concatenate(
        [rng.integers(-128, 128, (72, 500)), 127 * (folded.values.T > 0) - 128 * (folded.values.T < 0)],
        axis=1,
    )
    x = folded.values @ stored + folded.bias[:, None]
    got = rescale(x, folded.multiplier[:, None], folded.shift[:, None], Rounding.HALF_EVEN)
    real = (values * 0.1) @ ((stored + 128) * 0.1)
    exact = (gamma[:, None] * real / np.sqrt(1 + 1e-5) + norm.beta[:, None]) / 0.1
    assert np.all(np.abs(got - exact) <= 0.5 + 0.25 + 1e-3)


@pytest.mark.parametrize(
    ("weights", "activations", "cuts"),
    [
        ("int8", "int8", (0.0,)),
        ("int8", "int8", (-0.5, 0.5)),
        ("binary", "binary", (0.0,)),
        ("ternary", "ternary", (-0.5, 0.5)),
        ("ternary", "int8", tuple(np.arange(-1.75, 2, 0.25))),
    ],
)
def test_thresholds_decide_as_the_float_network_on_every_accumulator(
    weights: str, activations: str, cuts: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(7)
    count, length = 40, 12
    fmt, source = Format.parse(weights), Format.parse(activations)
    levels = rng.integers(-fmt.max, fmt.max + 1, (count, length))
    levels[levels == 0] = 1
    zero_point = int(rng.integers(source.min, source.max + 1)) if activations == "int8" else 0
    gamma = rng.normal(0, 1, count)
    gamma[:4] = 0
    # Means within the sums' spread, so that most channels have accumulators on both sides of a cut.
    spread = np.abs(levels).sum(axis=1) * max(abs(source.min), source.max) * 0.01
    norm = BatchNorm(
        gamma=gamma,
        beta=rng.normal(0, 0.3, count),
        mean=rng.normal(0, 0.3, count) * spread,
        variance=(spread * rng.uniform(0.1, 1, count)) ** 2,
    )
    bias = rng.normal(0, 0.1, count) * spread
    weight_scale = rng.uniform(0.1, 1, count)
    folded = fold_thresholds(
        levels,
        weight_scale=weight_scale,
        input_scale=0.01,
        input_zero_point=zero_point,
        input_format=source,
        cuts=cuts,
        bias=bias,
        norm=norm,
    )
    sign = np.where(gamma < 0, -1, 1)
    assert np.array_equal(folded.values, levels * sign[:, None])
    both = 0
    for k in range(count):
        least = int(np.minimum(folded.values[k] * source.min, folded.values[k] * source.max).sum())
        most = int(np.maximum(folded.values[k] * source.min, folded.values[k] * source.max).sum())
        acc = np.arange(least, most + 1)
        # The trained network's own order: the sum of the unflipped weights, bias, norm.
        real = sign[k] * (acc - zero_point * folded.values[k].sum()) * weight_scale[k] * 0.01 + bias[k]
        y = gamma[k] * (real - norm.mean[k]) / np.sqrt(norm.variance[k] + norm.epsilon) + norm.beta[k]
        expected = (y[:, None] >= np.array(cuts)).sum(axis=1)
        got = (acc[:, None] >= folded.thresholds[k]).sum(axis=1)
        assert np.array_equal(got, expected)
        assert least <= folded.thresholds[k].min() and folded.thresholds[k].max() <= most + 1
        both += len(set(expected.tolist())) > 1
    assert both > count // 2
    assert np.all(np.diff(folded.thresholds, axis=1) >= 0)


def test_a_result_that_meets_the_cut_exactly_is_above_it() -> None:
    norm = BatchNorm(
        gamma=np.array([0.5, -0.5, 0.0, 0.0]),
        beta=np.array([-1.5, 1.5, 0.0, -1e-300]),
        mean=np.zeros(4),
        variance=np.full(4, 4.0),
        epsilon=0.0,
    )
    folded = fold_thresholds(
        np.ones((4, 32), int),
        weight_scale=np.full(4, 0.25),
        input_scale=1.0,
        input_zero_point=0,
        input_format=Format.parse("binary"),
        cuts=(0.0,),
        norm=norm,
    )
    # y = ±0.5 · 0.25 · sum / 2 ∓ 1.5: 0 at a sum of 24; the falling one's sum is negated.
    assert folded.thresholds.ravel().tolist() == [24, -24, -32, 33]
    assert folded.values[:, 0].tolist() == [1, -1, 1, 1]


def test_cuts_out_of_order_and_numbers_that_are_none_name_the_layer() -> None:
    def thresholds(cuts: tuple[float, ...], scale: float = 1.0, length: int = 1) -> None:
        fold_thresholds(
            np.full((1, length), 127),
            weight_scale=[scale],
            input_scale=1.0,
            input_zero_point=0,
            input_format=Format.parse("int16"),
            cuts=cuts,
            layer="a",
        )

    with pytest.raises(
        ValueError, match=r"layer a: cuts must be one or more, in increasing order, not \(1.0"
    ):
        thresholds((1.0, 0.0))
    with pytest.raises(ValueError, match="layer a: a weight scale must be a finite number"):
        thresholds((0.0,), float("nan"))
    with pytest.raises(ValueError, match="layer a: its accumulators must fit int32"):
        thresholds((0.0,), length=1000)


def test_a_constant_channel_does_not_depend_on_how_its_weights_lie_in_memory() -> None:
    # None of its weights stays, so none brings the input's zero point in: 9,144 · 100 steps of 2^-16 would
    # be 14 levels.
    norm = BatchNorm(gamma=np.zeros(1), beta=np.full(1, 2.6), mean=np.full(1, 9.0), variance=np.ones(1))
    across = np.full((1, 3, 3, 8), 127).transpose(0, 3, 1, 2)
    assert not across.flags.c_contiguous
    folded = fold(
        across, weight_scale=[0.1], input_scale=0.1, input_zero_point=-100, output_scale=0.1, norm=norm
    )
    assert not folded.values.any()
    got = rescale(folded.bias, folded.multiplier, folded.shift, Rounding.HALF_EVEN)
    assert got.tolist() == [26]
