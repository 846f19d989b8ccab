"""Probable weights: expectation backpropagation and sampled synapses; and local binary convolution."""

import math

import numpy as np
import pytest
import torch
from bitwright.models.compress.expectation_backpropagation import (
    ExpectationPass,
    mean_field,
    posterior_gradients,
)
from bitwright.models.compress.local_binary import LocalBinaryPass, parameter_ratio, sparse_patterns
from bitwright.models.compress.synapse_sampling import (
    PruneFanIn,
    SynapsePass,
    fan_in_blocks,
    sampled_synapses,
    sum_variance,
)
from bitwright.models.compress.training import TrainingOptions
from digits_subjects import trained


def test_mean_field_of_a_layer_is_what_sampled_weights_give():
    rng = np.random.default_rng(1)
    means, x = np.tanh(rng.standard_normal((3, 40))), rng.standard_normal((1, 40))
    layer = mean_field([means], x)[0]
    draws = np.where(rng.random((20_000, 3, 40)) < (1 + means) / 2, 1.0, -1.0)
    sums = (draws @ x[0]) / math.sqrt(40)
    np.testing.assert_allclose(layer.means[0], sums.mean(axis=0), atol=0.04)
    np.testing.assert_allclose(layer.deviations[0], sums.std(axis=0), rtol=0.03)


def test_posterior_gradients_are_those_of_the_likelihood_with_variances_held():
    rng = np.random.default_rng(2)
    weights = [np.tanh(rng.standard_normal(shape)) for shape in ((6, 9), (5, 6), (4, 5))]
    x, targets = rng.standard_normal((7, 9)), rng.choice((-1.0, 1.0), (7, 4))
    found, likelihood = posterior_gradients(weights, x, targets)
    parts = [torch.tensor(w, requires_grad=True) for w in weights]
    value = torch.tensor(x)
    for part, layer in zip(parts, mean_field(weights, x), strict=True):
        score = value @ part.T / math.sqrt(part.shape[1]) / torch.tensor(layer.deviations)
        value = 2 * torch.special.ndtr(score) - 1
    total = torch.special.log_ndtr(torch.tensor(targets) * score).sum()
    total.backward()
    assert likelihood == pytest.approx(total.item() / 7)
    for gradient, part in zip(found, parts, strict=True):
        np.testing.assert_allclose(gradient, part.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_one_weight_is_found_by_bayes_rule():
    # One weight, many pictures of one value: P grows with every picture that its sign explains.
    h = np.zeros((1, 1))
    for _ in range(5):
        gradients, _ = posterior_gradients([np.tanh(h)], np.full((1, 1), -1.0), np.ones((1, 1)))
        h = h + gradients[0]
    assert h[0, 0] < -1


def test_expectation_backpropagation_learns_binary_weights_without_a_float_network():
    subject = trained("digits-mlp", epochs=12)
    for layer in subject.model.layers:  # nothing of the trained network helps
        subject.set_weight(layer.name, np.zeros(subject.weight(layer.name).shape))
    step = ExpectationPass()
    step.check(subject)
    step.apply(subject)
    assert subject.accuracy("test") > 0.85
    assert {code.fmt for code in subject.codes.values()} == {"binary"}
    found = subject.notes["binary.expectation"]
    assert found["log_likelihood"][-1] > found["log_likelihood"][0] + 1
    assert [n.op for n in subject.model.graph.nodes].count("BipolarQuant") == 2


def test_networks_that_are_no_chain_of_linear_layers_are_refused():
    for step in (ExpectationPass(), SynapsePass()):
        with pytest.raises(ValueError, match=r"layer conv1: .* serves chains of linear layers"):
            step.check(trained("digits"))
    with pytest.raises(ValueError, match="layers must be all, not fc1"):
        ExpectationPass(layers=("fc1",))


def test_fan_in_blocks_join_equal_runs_of_inputs_and_neurons():
    blocks = fan_in_blocks(6, 10, 4)  # three runs: 0–3, 4–6, 7–9
    assert blocks.sum(axis=1).max() <= 4
    np.testing.assert_array_equal(blocks.sum(axis=0), [2] * 10)
    np.testing.assert_array_equal(np.flatnonzero(blocks[0]), [0, 1, 2, 3])
    np.testing.assert_array_equal(blocks[0], blocks[1])
    assert fan_in_blocks(3, 256, 256).all()
    with pytest.raises(ValueError, match="need at least 3 neurons, not 2; raise fan_in"):
        fan_in_blocks(2, 10, 4)


@pytest.mark.parametrize("spikes", [False, True])
def test_mean_and_variance_of_sampled_sums_are_those_that_training_takes(spikes):
    rng = np.random.default_rng(3)
    weights = rng.uniform(-1, 1, (2, 30)).astype(np.float32)
    x = rng.random((1, 30)).astype(np.float32)
    sums = np.array(
        [
            sampled_synapses(weights, rng) @ (rng.random(30) < x[0] if spikes else x[0]).astype(np.float64)
            for _ in range(20_000)
        ]
    )
    variance = sum_variance(torch.from_numpy(x), torch.from_numpy(weights), spikes).numpy()[0]
    np.testing.assert_allclose(sums.mean(axis=0), x[0] @ weights.T, atol=0.08)
    np.testing.assert_allclose(sums.var(axis=0), variance, rtol=0.05)


def test_sampled_synapses_tell_digits_and_more_copies_tell_more():
    subject = trained("digits-mlp")
    step = SynapsePass(fan_in=32, copies=8, training=TrainingOptions(epochs=30, rate=1e-2, batch=64))
    step.check(subject)
    step.apply(subject)
    assert subject.accuracy("test") > 0.7
    found = subject.notes["ternary.synapses"]["accuracy_of_copies"]
    assert found["8"] > found["1"]
    weights = subject.weight("fc1")
    assert set(np.unique(weights)) == {-1.0, 0.0, 1.0}
    assert (np.abs(weights) > 0).sum(axis=1).max() <= 32
    assert not weights[:32, 32:].any() and not weights[32:, :32].any()


def test_the_network_drawn_that_tells_most_validation_images_right_is_the_result():
    options = TrainingOptions(epochs=10, rate=1e-2, batch=64)
    found = []
    for copies in (1, 6):
        subject = trained("digits-mlp")
        SynapsePass(fan_in=32, copies=copies, training=options).apply(subject)
        found.append(subject.accuracy())
        if copies == 1:
            assert subject.notes["ternary.synapses"]["accuracy_of_copies"]["1"] == found[0]
    assert found[1] > found[0]


def test_layers_cut_to_crossbars_keep_their_runs_and_stay_so_in_training():
    subject = trained("digits-mlp")
    PruneFanIn(fan_in=32, training=TrainingOptions(epochs=2, batch=64)).apply(subject)
    weights = subject.weight("fc1")
    np.testing.assert_array_equal(weights != 0, fan_in_blocks(64, 64, 32))
    assert subject.accuracy("test") > 0.8
    with pytest.raises(ValueError, match=r"layer conv1: prune\.fan-in serves linear layers, not Conv"):
        PruneFanIn(layers=("all",)).check(trained("digits"))
    with pytest.raises(ValueError, match="layer fc3: 32 inputs in runs of at most 2 need at least 16"):
        PruneFanIn(fan_in=2, layers=("fc3",)).check(subject)


def test_patterns_are_ternary_of_the_density_asked_for_and_never_empty():
    patterns = sparse_patterns(400, 4, (3, 3), 0.3, np.random.default_rng(4))
    assert set(np.unique(patterns)) == {-1, 0, 1}
    assert abs((patterns != 0).mean() - 0.3) < 4 * math.sqrt(0.21 / patterns.size)
    thin = sparse_patterns(200, 1, (3, 3), 0.01, np.random.default_rng(5))
    assert np.abs(thin).reshape(200, -1).any(axis=1).all()


def test_learnt_weights_shrink_by_the_published_factor():
    assert parameter_ratio(64, 64, 3) == 9
    assert parameter_ratio(64, 64, 13) == 169


def test_local_binary_convolutions_learn_the_digits_with_patterns_that_never_change():
    subject = trained("digits")
    step = LocalBinaryPass(layers=("conv2", "conv3"), training=TrainingOptions(epochs=6, rate=1e-2, batch=64))
    step.check(subject)
    step.apply(subject)
    assert subject.accuracy("test") > 0.85
    code = subject.codes["conv3.patterns"]
    assert code.fmt == "ternary" and code.integers.shape == (32, 16, 3, 3)
    np.testing.assert_array_equal(subject.weight("conv3.patterns"), code.weights())
    assert subject.weight("conv3").shape == (32, 32, 1, 1)
    assert subject.notes["binary.local"]["conv3"] == {"learnt_before": 4608, "learnt": 1024}


def test_linear_layers_have_no_local_binary_form():
    with pytest.raises(ValueError, match=r"layer fc: binary.local serves convolutions"):
        LocalBinaryPass(layers=("all",)).check(trained("digits"))
    with pytest.raises(ValueError, match="density must be above 0 and at most 1, not 0"):
        LocalBinaryPass(density=0.0)
