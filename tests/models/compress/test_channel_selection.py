"""Channel choices against naive search, scikit-learn and closed forms; channels cut from digits networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bitwright.models.compress.channel_passes import PruneByLasso, PruneByReuse, PruneByThinet
from bitwright.models.compress.channel_selection import (
    combinations,
    greedy_channels,
    lasso_channels,
    lasso_weights,
    least_squares_scales,
    refitted_weights,
)
from bitwright.models.compress.group_pruning import PruneByGroups
from bitwright.models.compress.neuron_merging import MergeNeurons, merge_neurons
from bitwright.models.compress.readers import reader_of
from bitwright.models.compress.training import TrainingOptions
from digits_subjects import trained
from sklearn.linear_model import Lasso

UNTRAINED = TrainingOptions(epochs=0.0)


def test_the_greedy_choice_is_a_naive_loops() -> None:
    parts = np.random.default_rng(1).standard_normal((40, 7)) * np.arange(1, 8)
    gone: list[int] = []
    while len(gone) < 4:
        left = [c for c in range(7) if c not in gone]
        gone.append(min(left, key=lambda c: float((parts[:, [*gone, c]].sum(axis=1) ** 2).sum())))
    assert np.flatnonzero(~greedy_channels(parts, 3)).tolist() == sorted(gone)


def test_scales_are_least_squares() -> None:
    parts = np.random.default_rng(2).standard_normal((50, 6))
    kept = np.arange(6) < 4
    expected = np.linalg.lstsq(parts[:, :4], parts.sum(axis=1), rcond=None)[0]
    np.testing.assert_allclose(least_squares_scales(parts, kept), expected, rtol=1e-4)


@pytest.mark.parametrize("penalty", [0.01, 0.1, 0.5])
def test_the_lasso_is_scikit_learns(penalty: float) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((80, 6)) @ rng.standard_normal((6, 6))
    y = x.sum(axis=1)
    # scikit-learn minimises |y − xβ|² / 2n + α |β|
    found = lasso_weights(x.T @ x / 80, x.T @ y / 80, penalty, np.zeros(6))
    expected = Lasso(alpha=penalty, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(x, y).coef_
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_channel_that_others_make_up_goes_and_the_refit_loses_nothing() -> None:
    rng = np.random.default_rng(4)
    reads, weights = rng.standard_normal((300, 4, 3)), rng.standard_normal((5, 4, 3))
    reads[:, 3] = 0.5 * reads[:, 1]
    kept = lasso_channels(reads, weights, 3)
    assert kept.sum() == 3
    assert not kept[1] or not kept[3]
    fitted = refitted_weights(reads, weights, kept)
    np.testing.assert_allclose(
        np.einsum("scp,kcp->sk", reads, fitted), np.einsum("scp,kcp->sk", reads, weights), atol=1e-3
    )


def test_combinations_are_least_squares_and_keep_what_stays() -> None:
    maps = np.random.default_rng(5).standard_normal((60, 5))
    kept = np.array([True, False, True, True, False])
    found = combinations(maps, kept)
    assert np.array_equal(found[kept], np.eye(3))
    expected = np.linalg.lstsq(maps[:, kept], maps[:, ~kept], rcond=None)[0].T
    np.testing.assert_allclose(found[~kept], expected, atol=1e-4)


def test_equal_neurons_merge_exactly() -> None:
    subject = trained("digits-mlp")
    weights, bias = subject.weight("fc1"), subject.model.bias("fc1")
    assert bias is not None
    for i, j in ((0, 5), (3, 9), (3, 20)):
        weights[j] = weights[i]
        with torch.no_grad():
            bias[j] = bias[i]
    subject.set_weight("fc1", weights)
    x = torch.rand(40, 1, 8, 8)
    before = subject.model.eval()(x).detach().numpy()
    prune = MergeNeurons(layers=("fc1",), density=61 / 64, training=UNTRAINED)
    prune.check(subject)
    prune.apply(subject)
    assert subject.weight("fc1").shape == (61, 64)
    np.testing.assert_allclose(subject.model.eval()(x).detach().numpy(), before, rtol=1e-4, atol=1e-4)


def test_the_first_merge_is_the_pair_of_least_saliency() -> None:
    rng = np.random.default_rng(6)
    rows, reads = rng.standard_normal((6, 4)), rng.standard_normal((3, 6, 1))
    merged, kept = merge_neurons(rows, reads, 5)
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    i, j = min(pairs, key=lambda p: (reads[:, p[1], 0] ** 2).mean() * ((rows[p[0]] - rows[p[1]]) ** 2).sum())
    assert np.flatnonzero(~kept).tolist() == [j]
    np.testing.assert_allclose(merged[:, i], reads[:, i] + reads[:, j])


def test_merging_keeps_more_than_cutting_small_neurons() -> None:
    gains = []
    for seed in (0, 1):
        merged, cut = trained("digits-mlp", seed), trained("digits-mlp", seed)
        MergeNeurons(layers=("fc1",), density=0.6, training=UNTRAINED).apply(merged)
        PruneByGroups(layers=("fc1",), granularity="filter", density=0.6, training=UNTRAINED).apply(cut)
        assert merged.weight("fc2").shape == cut.weight("fc2").shape == (32, 38)
        gains.append(merged.accuracy("test") - cut.accuracy("test"))
    assert np.mean(gains) > 0.0


@pytest.mark.parametrize("kind", [PruneByThinet, PruneByLasso, PruneByReuse])
def test_channels_chosen_by_the_next_layer_beat_small_filters_without_training(kind: type) -> None:
    gains = []
    for seed in (0, 1):
        subject, rival = trained("digits", seed), trained("digits", seed)
        prune = kind(layers=("conv2", "conv3"), density=0.5, training=UNTRAINED)
        prune.check(subject)
        prune.apply(subject)
        PruneByGroups(layers=prune.layers, granularity="filter", training=UNTRAINED).apply(rival)
        shapes = [subject.weight(f"conv{n}").shape[:2] for n in (1, 2, 3)]
        assert shapes == [(8, 1), (8, 8), (16, 8)]
        gains.append(subject.accuracy("test") - rival.accuracy("test"))
    assert np.mean(gains) > 0.2


def test_columns_know_the_channel_they_come_from() -> None:
    subject = trained("digits")
    reader = reader_of(subject.model, subject.model.layer("conv3"), "here")
    assert reader.layer.name == "fc"
    assert reader.owner.tolist() == np.repeat(np.arange(32), 4).tolist()
    matrix = np.arange(2 * 128).reshape(2, 128)
    parts = reader.by_channel(matrix, 32)
    assert parts[1, 3].tolist() == [140, 141, 142, 143]
    assert np.array_equal(reader.from_channels(parts), matrix)


def test_layers_with_norms_dont_merge_and_the_last_has_no_reader() -> None:
    subject = trained("digits")
    with pytest.raises(ValueError, match="layer conv1: only activations without parameters and pools"):
        MergeNeurons(layers=("conv1",)).check(subject)
    with pytest.raises(ValueError, match="layer fc: its channels can't be cut"):
        PruneByThinet(layers=("fc",)).check(subject)
