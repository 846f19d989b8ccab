"""Binary weights: BinaryConnect, scaled signs, loss-aware signs, sketches; exactly, and that they learn."""

import itertools

import numpy as np
import pytest
import torch
from bitwright.models.compress.binary_connect import (
    BinaryConnect,
    BinaryConnectPass,
    glorot_bound,
    signs,
    stochastic_signs,
)
from bitwright.models.compress.latent import straight_through
from bitwright.models.compress.loss_aware import LossAware, curved_signs
from bitwright.models.compress.scaled_binary import (
    BinaryWeightsPass,
    ScaledBinary,
    scaled_signs,
    xnor_speedup,
)
from bitwright.models.compress.sketching import SketchPass, direct_sketch, refined_sketch, sketch_error
from bitwright.models.compress.training import TrainingOptions
from digits_subjects import trained
from torch import nn


def _normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_straight_through_gives_the_hard_value_and_the_latents_gradient_times_the_factor():
    latent = torch.tensor([0.3, -0.2], requires_grad=True)
    hard = torch.tensor([1.0, -1.0])
    made = straight_through(latent, hard, torch.tensor([1.0, 0.5]))
    assert torch.equal(made, hard)
    (made * torch.tensor([3.0, 4.0])).sum().backward()
    assert torch.equal(latent.grad, torch.tensor([3.0, 2.0]))


def test_the_sign_of_zero_is_one():
    np.testing.assert_array_equal(signs(np.array([-0.1, 0.0, 2.0])), [-1, 1, 1])


def test_stochastic_signs_follow_the_hard_sigmoid():
    weights = np.repeat(np.array([-2.0, -0.5, 0.0, 0.5, 2.0], np.float32), 40_000).reshape(5, -1)
    share = (stochastic_signs(weights, 1.0, np.random.default_rng(1)) > 0).mean(axis=1)
    # clip((w + 1) / 2, 0, 1); four standard deviations of 40,000 draws.
    np.testing.assert_allclose(share, [0.0, 0.25, 0.5, 0.75, 1.0], atol=4 * np.sqrt(0.25 / 40_000))


def test_binary_connect_computes_with_its_bound_and_keeps_latent_weights_within_it():
    transform = BinaryConnect((4, 2, 3, 3))
    height = glorot_bound((4, 2, 3, 3))
    assert height == pytest.approx((1.5 / (9 * 4 + 9 * 2)) ** 0.5)
    latent = nn.Parameter(torch.from_numpy(_normal(2, 4, 2, 3, 3)))
    assert torch.equal(transform(latent).abs(), torch.full_like(latent, height))
    transform.after_step(latent)
    assert float(latent.detach().abs().max()) == pytest.approx(height)


def test_scaled_signs_are_the_best_of_all_signs_in_least_squares():
    weights = _normal(3, 2, 6)
    code = scaled_signs(weights)
    for row, made in zip(weights.astype(np.float64), code.weights(), strict=True):
        errors = []
        for choice in itertools.product((-1.0, 1.0), repeat=6):
            alpha = max(row @ np.array(choice) / 6, 0.0)  # least squares for these signs
            errors.append(((row - alpha * np.array(choice)) ** 2).sum())
        assert ((row - made) ** 2).sum() == pytest.approx(min(errors), rel=1e-6)


def test_gradients_of_scaled_signs_are_one_over_n_plus_the_scale_where_weights_are_small():
    weights = np.array([[0.5, -1.5, 1.0, -1.0], [0.2, 0.2, -0.2, 0.2]], np.float32)
    latent = torch.tensor(weights, requires_grad=True)
    ScaledBinary()(latent).sum().backward()
    # n = 4; α = 1 and 0.2; the weight of −1.5 is beyond 1.
    expected = [[1.25, 0.25, 1.25, 1.25], [0.45] * 4]
    np.testing.assert_allclose(latent.grad.numpy(), expected, rtol=1e-6)


def test_the_published_speedup_of_a_binary_convolution_is_62():
    assert xnor_speedup(256, 3 * 3, 14 * 14) == pytest.approx(62.27, abs=0.005)


def test_loss_aware_signs_are_the_best_of_all_by_the_curvature():
    rng = np.random.default_rng(4)
    weights = rng.standard_normal((1, 6)).astype(np.float32)
    curvature = rng.uniform(0.05, 3.0, (1, 6)).astype(np.float32)
    code = curved_signs(weights, curvature)
    w, d = weights[0].astype(np.float64), curvature[0].astype(np.float64)

    def surrogate(values):
        return float((d * (values - w) ** 2).sum())

    best = np.inf
    for choice in itertools.product((-1.0, 1.0), repeat=6):
        for alpha in np.linspace(0.0, 3.0, 601):
            best = min(best, surrogate(alpha * np.array(choice)))
    assert surrogate(code.weights()[0]) <= best + 1e-9
    assert surrogate(code.weights()[0]) == pytest.approx(best, rel=1e-3)


def test_curvature_is_the_root_of_adams_second_moment():
    transform = LossAware((3, 2))
    latent = nn.Parameter(torch.zeros(3, 2))
    optimizer = torch.optim.Adam([latent], lr=1e-3)
    for step in range(4):
        latent.grad = torch.from_numpy(_normal(step, 3, 2))
        transform.after_backward(latent)
        optimizer.step()
    moment = optimizer.state[latent]["exp_avg_sq"] / (1 - 0.999**4)
    torch.testing.assert_close(transform.curvature, moment.sqrt() + 1e-8)


def test_even_curvature_makes_loss_aware_signs_those_of_scaled_signs():
    weights = _normal(5, 3, 8)
    even = curved_signs(weights, np.full_like(weights, 0.7), "filter")
    np.testing.assert_allclose(even.scales, scaled_signs(weights).scales, rtol=1e-6)


def test_each_direct_plane_takes_at_least_its_share_of_the_error_away():
    weights = _normal(6, 4, 3, 3, 3)
    count, before = 27, 1.0
    for planes in range(1, 7):
        error = sketch_error(weights, direct_sketch(weights, planes))
        assert error <= before * (1 - 1 / count)
        before = error
    # Far better than the bound on normal weights: 1 − 2/π of the error stays with the first plane.
    assert sketch_error(_normal(7, 1, 20_000), direct_sketch(_normal(7, 1, 20_000), 1)) == pytest.approx(
        1 - 2 / np.pi, abs=0.01
    )
    assert before < 0.02


def test_refined_scales_are_those_of_least_squares_and_never_worse_than_direct_ones():
    weights = _normal(8, 3, 40)
    for planes in (1, 2, 3, 4):
        code = refined_sketch(weights, planes)
        for row in range(3):
            basis = code.planes[:, row].T.astype(np.float64)
            expected = np.linalg.lstsq(basis, weights[row].astype(np.float64), rcond=None)[0]
            np.testing.assert_allclose(code.scales[:, row], expected, atol=1e-9)
    assert sketch_error(weights, refined_sketch(weights, 4)) < sketch_error(
        weights, direct_sketch(weights, 4)
    )


def test_two_direct_planes_by_hand():
    # 3, −1: signs 1, −1, scale 2; left 1, 1: signs 1, 1, scale 1; 3 = 2 + 1, −1 = −2 + 1.
    code = direct_sketch(np.array([[3.0, -1.0]], np.float32), 2)
    np.testing.assert_array_equal(code.planes[:, 0], [[1, -1], [1, 1]])
    np.testing.assert_array_equal(code.scales[:, 0], [2, 1])
    np.testing.assert_array_equal(code.weights(), [[3, -1]])


@pytest.mark.parametrize(
    ("step", "least"),
    [
        pytest.param(BinaryConnectPass(rounding="stochastic"), 0.75, marks=pytest.mark.slow),
        (BinaryWeightsPass(), 0.85),
    ],
    ids=["stochastic", "weights"],
)
def test_a_network_of_binary_weights_learns_the_digits(step, least):
    subject = trained("digits", epochs=6)
    float_accuracy = subject.accuracy("test")
    step.apply(subject)
    assert least < subject.accuracy("test") <= float_accuracy + 0.03
    for layer in subject.model.layers:
        code = subject.codes[layer.name]
        np.testing.assert_array_equal(subject.weight(layer.name), code.weights())


def test_training_signs_beats_taking_them_of_trained_weights():
    taken, learnt = trained("digits", epochs=0), trained("digits", epochs=4)
    BinaryWeightsPass().apply(taken)
    BinaryWeightsPass().apply(learnt)
    assert learnt.accuracy("test") > taken.accuracy("test") + 0.2


@pytest.mark.slow
def test_two_planes_lose_less_than_one_where_nothing_is_trained():
    found = {}
    for planes in (1, 2, 4):
        subject = trained("digits")
        SketchPass(planes=planes, training=TrainingOptions(epochs=0)).apply(subject)
        found[planes] = subject.accuracy("test")
    assert found[1] < found[2] <= found[4] + 0.02
    assert found[4] > trained("digits").accuracy("test") - 0.03


def test_pruned_layers_have_no_binary_form():
    subject = trained("digits-mlp")
    subject.prune("fc2", np.abs(subject.weight("fc2")) > 0.1)
    with pytest.raises(ValueError, match=r"layer fc2: binary.connect has no 0 for its pruned weights"):
        BinaryConnectPass().apply(subject)
    BinaryConnectPass(layers=("fc1",), training=TrainingOptions(epochs=0)).apply(subject)
    assert "fc1" in subject.codes


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: BinaryConnectPass(rounding="maybe"), "deterministic or stochastic, not 'maybe'"),
        (lambda: BinaryWeightsPass(per="row"), "per must be filter or layer"),
        (lambda: SketchPass(planes=0), "planes must be from 1 to 8, not 0"),
        (lambda: SketchPass(method="best"), "direct or refined"),
    ],
)
def test_options_that_cannot_be_are_refused(made, text):
    with pytest.raises(ValueError, match=text):
        made()
