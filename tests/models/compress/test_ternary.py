"""Ternary weights: by a threshold, and with two trained scales."""

import itertools

import numpy as np
import pytest
import torch
from bitwright.models.compress.ternary import ThresholdTernaryPass, threshold_ternary
from bitwright.models.compress.trained_ternary import TrainedTernary, TrainedTernaryPass
from bitwright.models.compress.training import TrainingOptions
from digits_subjects import trained


def _normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_a_threshold_code_by_hand():
    # mean |w| = 1, Δ = 0.7: 2 and −1 stay, α = 1.5.
    code = threshold_ternary(np.array([[2.0, -1.0, 0.6, -0.4]], np.float32))
    np.testing.assert_array_equal(code.integers, [[1, -1, 0, 0]])
    assert code.scales[0] == pytest.approx(1.5)


def test_the_threshold_is_near_the_best_of_all_ternary_codes():
    weights = _normal(1, 1, 8)
    row = weights[0].astype(np.float64)
    best = np.inf
    for choice in itertools.product((-1, 0, 1), repeat=8):
        t = np.array(choice, np.float64)
        alpha = max(row @ t / max(t @ t, 1), 0.0)
        best = min(best, ((row - alpha * t) ** 2).sum())
    error = ((row - threshold_ternary(weights).weights()[0]) ** 2).sum()
    assert best - 1e-9 <= error <= 1.25 * best


def test_pruned_weights_stay_zero_and_are_not_counted():
    weights = np.array([[2.0, -1.0, 0.6, -0.4, 0.0, 0.0, 0.0, 0.0]], np.float32)
    code = threshold_ternary(weights)
    np.testing.assert_array_equal(code.integers[0, :4], threshold_ternary(weights[:, :4]).integers[0])
    assert not code.integers[0, 4:].any()
    assert threshold_ternary(np.zeros((1, 4), np.float32)).weights().any() == np.False_


def _loss(transform, latent, slopes):
    return (transform(latent) * slopes).sum()


def test_gradients_of_the_two_scales_are_those_of_finite_differences():
    weights = _normal(2, 3, 5)
    transform, latent = TrainedTernary(weights, 0.3), torch.from_numpy(weights)
    slopes = torch.from_numpy(_normal(3, 3, 5))
    _loss(transform, latent, slopes).backward()
    for scale in (transform.positive, transform.negative):
        with torch.no_grad():
            value = scale.clone()
            scale.copy_(value + 0.01)
            up = _loss(transform, latent, slopes)
            scale.copy_(value - 0.01)
            down = _loss(transform, latent, slopes)
            scale.copy_(value)
        assert float(scale.grad) == pytest.approx(float((up - down) / 0.02), rel=1e-3)


def test_gradients_of_latent_weights_are_scaled_by_what_they_stand_for():
    weights = np.array([[1.0, -1.0, 0.01]], np.float32)
    transform = TrainedTernary(weights, 0.05)
    with torch.no_grad():
        transform.positive.fill_(0.5)
        transform.negative.fill_(2.0)
    latent = torch.tensor(weights, requires_grad=True)
    made = transform(latent)
    np.testing.assert_array_equal(made.detach().numpy(), [[0.5, -2.0, 0.0]])
    made.sum().backward()
    np.testing.assert_array_equal(latent.grad.numpy(), [[0.5, 2.0, 1.0]])


def test_scales_start_at_the_means_of_what_they_stand_for_and_stay_above_zero():
    transform = TrainedTernary(np.array([[1.0, 0.5, -0.4, 0.0]], np.float32), 0.05)
    assert transform.positive.item() == pytest.approx(0.75)
    assert transform.negative.item() == pytest.approx(0.4)
    latent = torch.nn.Parameter(torch.ones(1, 4))
    with torch.no_grad():
        transform.positive.fill_(-1.0)
    transform.after_step(latent)
    assert transform.positive.item() > 0


def test_trained_scales_keep_the_accuracy_on_the_digits_and_differ():
    whole = trained("digits").accuracy("test")
    two_scales = trained("digits", epochs=4)
    TrainedTernaryPass(layers=("all",)).apply(two_scales)
    assert two_scales.accuracy("test") > whole - 0.03
    code = two_scales.codes["conv3"]
    assert len(set(code.positive)) == len(set(code.negative)) == 1
    note = two_scales.notes["ternary.trained"]["conv3"]
    assert note["positive"] == pytest.approx(code.positive[0])
    assert note["zeros"] == (code.signs == 0).mean()
    assert note["positive"] != note["negative"]
    np.testing.assert_array_equal(two_scales.weight("conv3"), code.weights())


@pytest.mark.slow
def test_training_through_the_threshold_beats_the_threshold_alone():
    taken, learnt = trained("digits-mlp"), trained("digits-mlp", epochs=6)
    ThresholdTernaryPass(training=TrainingOptions(epochs=0)).apply(taken)
    ThresholdTernaryPass().apply(learnt)
    assert learnt.accuracy("test") > taken.accuracy("test") + 0.02


def test_pruned_weights_are_zeros_of_the_trained_codes():
    for step in (ThresholdTernaryPass(), TrainedTernaryPass(layers=("all",))):
        subject = trained("digits-mlp", epochs=1)
        kept = np.abs(subject.weight("fc1")) > 0.1
        subject.prune("fc1", kept)
        step.apply(subject)
        assert not subject.weight("fc1")[~kept].any() and subject.weight("fc1").any()


def test_thresholds_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="threshold must be 0 or more, not -1"):
        ThresholdTernaryPass(threshold=-1.0)
    with pytest.raises(ValueError, match="at least 0 and below 1, not 1"):
        TrainedTernaryPass(threshold=1.0)
