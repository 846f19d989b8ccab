"""Pruning of single weights: counts, schedules, rivals, and that cut weights stay cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bitwright.models.compress.correlation_pruning import (
    PruneByCorrelation,
    correlations,
    sampled_by_rank,
)
from bitwright.models.compress.dynamic_surgery import DynamicSurgery, SplicedMask, hysteresis, hysteresis_of
from bitwright.models.compress.element_pruning import (
    PruneByDamage,
    PruneByMagnitude,
    scaled_dropout,
)
from bitwright.models.compress.masks import greatest, greatest_of_all, quality_mask
from bitwright.models.compress.passes import make_pass
from bitwright.models.compress.training import TrainingOptions
from digits_subjects import trained
from torch import nn

UNTRAINED = TrainingOptions(epochs=0.0)


def test_the_greatest_are_kept_and_of_equal_ones_the_first() -> None:
    scores = np.array([[3.0, 1.0], [1.0, 2.0]])
    assert greatest(scores, 3).tolist() == [[True, True], [False, True]]
    among = np.array([[False, True], [True, True]])
    assert greatest(scores, 2, among).tolist() == [[False, True], [False, True]]


def test_a_global_budget_leaves_each_layer_its_greatest_weight() -> None:
    scores = {"a": np.array([5.0, 6.0, 7.0]), "b": np.array([0.1, 0.2])}
    among = {name: np.ones(len(values), bool) for name, values in scores.items()}
    kept = greatest_of_all(scores, 3, among)
    assert kept["a"].tolist() == [False, True, True]
    assert kept["b"].tolist() == [False, True]


def test_quality_counts_standard_deviations_of_what_is_left() -> None:
    weights = np.array([0.0, 0.0, -1.0, 1.0, 3.0, -3.0])
    # of −1, 1, 3, −3 the standard deviation is √5 = 2.24
    assert quality_mask(weights, 1.0).tolist() == [False, False, False, False, True, True]
    assert quality_mask(weights, 0.4).tolist() == [False, False, True, True, True, True]


def test_rounds_end_at_the_density_and_cut_weights_stay_cut_in_training() -> None:
    subject = trained("digits-mlp", epochs=6.0)
    before = subject.accuracy("test")
    PruneByMagnitude(density=0.2, rounds=2).apply(subject)
    for layer, size in (("fc1", 4096), ("fc2", 2048), ("fc3", 320)):
        weights = subject.weight(layer)
        assert int(subject.masks[layer].kept.sum()) == round(0.2 * size)
        assert not weights[~subject.masks[layer].kept].any()
    assert subject.accuracy("test") > before - 0.05


def test_obd_without_training_beats_magnitude_over_all_layers() -> None:
    gains = []
    for seed in (0, 1):
        found = {}
        for prune in (
            PruneByDamage(density=0.12, scope="global", training=UNTRAINED),
            PruneByMagnitude(density=0.12, scope="global", training=UNTRAINED),
        ):
            subject = trained("digits-mlp", seed)
            prune.check(subject)
            prune.apply(subject)
            assert sum(mask.kept.sum() for mask in subject.masks.values()) == round(0.12 * 6464)
            found[prune.name] = subject.accuracy("test")
        gains.append(found["prune.obd"] - found["prune.magnitude"])
    assert np.mean(gains) > 0.02


def test_dropout_falls_with_the_square_root_of_the_connections() -> None:
    subject = trained("digits-mlp")
    PruneByMagnitude(densities={"fc2": 0.25}, layers=("fc2",), training=UNTRAINED).apply(subject)
    value = subject.model.graph.nodes[3].inputs[0]
    x = torch.ones(400, 1, 8, 8)
    layers = tuple(layer for layer in subject.model.layers if layer.name != "fc3")
    torch.manual_seed(0)
    with scaled_dropout(subject, layers, 0.5), subject.model.captured([value]) as found:
        subject.model.train()
        subject.model(x)
    alive = subject.model.eval()
    with torch.no_grad(), subject.model.captured([value]) as whole:
        alive(x)
    positive = whole[value] > 0
    dropped = float((found[value][positive] == 0).float().mean())
    # 0.5 · √(512 / 2048) = 0.25; 400 draws of each of at least 20 units have a deviation below 0.005
    assert dropped == pytest.approx(0.25, abs=0.02)
    assert not any(subject.model.taps.values())


def test_hysteresis_by_hand() -> None:
    kept = hysteresis(np.array([0.5, -1.05, 1.05, -2.0]), np.array([True, True, False, False]), 1.0, 1.1)
    assert kept.tolist() == [False, True, False, True]


def test_cut_weights_go_on_learning_and_come_back() -> None:
    weight = nn.Parameter(torch.tensor([0.9, 2.0]))
    mask = SplicedMask(np.ones(2, bool), None, (1.0, 1.1))
    assert mask.update(weight) == (1, 0)
    mask(weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0, 1.0]
    with torch.no_grad():
        weight += 0.3
    assert mask.update(weight) == (0, 1)
    assert mask(weight).tolist() == pytest.approx([1.2, 2.3])


def test_surgery_splices_and_keeps_accuracy_where_magnitude_alone_loses_it() -> None:
    options = TrainingOptions(epochs=12.0, rate=3e-3, batch=64)
    subject = trained("digits-mlp")
    before = subject.accuracy("test")
    DynamicSurgery(strength={"all": 1.6, "fc3": 0.8}, gamma=1e-3, training=options).apply(subject)
    sizes = {layer: subject.masks[layer].kept.sum() for layer in subject.masks}
    density = sum(sizes.values()) / 6464
    assert density < 0.15
    assert sum(subject.notes["surgery.spliced"].values()) > 0
    assert subject.accuracy("test") > before - 0.03
    rival = trained("digits-mlp")
    PruneByMagnitude(density=density, training=UNTRAINED).apply(rival)
    assert subject.accuracy("test") > rival.accuracy("test") + 0.1


def test_a_threshold_found_for_a_count_is_hysteresis_with_that_threshold() -> None:
    weights = np.random.default_rng(4).normal(size=(9, 11)).astype(np.float32)
    kept = np.random.default_rng(5).random((9, 11)) < 0.5
    found = hysteresis_of(weights, kept, 30)
    assert found.sum() == 30
    size = np.abs(weights.astype(np.float64))
    low = np.where(kept, size, size / 1.1)[found].min()
    # A hair lower, so that rounding of b / a doesn't decide.
    np.testing.assert_array_equal(hysteresis(weights, kept, low * (1 - 1e-9), 1.1 * low * (1 - 1e-9)), found)
    # By hand: 1.05 that is cut counts 1.05 / 1.1 = 0.95, less than 1.0 that is kept.
    by_hand = hysteresis_of(np.array([1.0, -1.05, 0.2, 1.2]), np.array([True, False, True, False]), 2)
    assert by_hand.tolist() == [True, False, False, True]


def test_surgery_by_density_keeps_as_many_as_it_says_and_what_is_cut_before_stays_cut() -> None:
    options = TrainingOptions(epochs=12.0, rate=0.1, batch=64, optimizer="sgd")
    subject = trained("digits-mlp")
    before = subject.accuracy("test")
    first = np.arange(4096).reshape(64, 64) % 4 != 0
    subject.prune("fc1", first)
    surgery = DynamicSurgery(density=0.1, densities={"fc3": 0.3}, gamma=1e-3, training=options)
    surgery.check(subject)
    surgery.apply(subject)
    kept = {name: mask.kept for name, mask in subject.masks.items()}
    assert {name: int(mask.sum()) for name, mask in kept.items()} == {"fc1": 410, "fc2": 205, "fc3": 96}
    assert not (kept["fc1"] & ~first).any()
    assert min(subject.notes["surgery.spliced"].values()) > 0
    assert subject.accuracy("test") > before - 0.04
    rival = trained("digits-mlp")
    PruneByMagnitude(density=0.1, densities={"fc3": 0.3}, training=UNTRAINED).apply(rival)
    assert subject.accuracy("test") > rival.accuracy("test") + 0.1


def test_correlation_of_a_linear_layer_is_numpys() -> None:
    generator = torch.Generator().manual_seed(3)
    reads = torch.randn(60, 5, 1, generator=generator)
    reads[:, 4] = 2.0  # never changes
    made = torch.randn(60, 3, 1, generator=generator) + reads[:, :3]
    found = correlations(reads, made)
    whole = np.corrcoef(made[:, :, 0].numpy().T, reads[:, :4, 0].numpy().T)
    np.testing.assert_allclose(found[:, :4], whole[:3, 3:], atol=1e-6)
    assert not found[:, 4].any()


def test_a_convolutions_correlation_is_the_mean_size_over_pixels() -> None:
    generator = torch.Generator().manual_seed(4)
    reads, made = torch.randn(50, 4, 3, generator=generator), torch.randn(50, 2, 3, generator=generator)
    each = [np.corrcoef(made[:, :, p].numpy().T, reads[:, :, p].numpy().T)[:2, 2:] for p in range(3)]
    np.testing.assert_allclose(correlations(reads, made), np.mean(np.abs(each), axis=0), atol=1e-6)


def test_three_of_four_are_drawn_from_the_better_half() -> None:
    scores = np.arange(20.0)
    kept = sampled_by_rank(scores, np.ones(20, bool), 8, 0.75, np.random.default_rng(1))
    assert (kept[10:].sum(), kept[:10].sum()) == (6, 2)


def test_correlation_keeps_a_density_and_the_accuracy() -> None:
    subject = trained("digits-mlp", epochs=6.0)
    before = subject.accuracy("test")
    prune = PruneByCorrelation(layers=("fc1", "fc2"), density=0.25)
    prune.check(subject)
    prune.apply(subject)
    assert subject.masks["fc1"].density == pytest.approx(0.25, abs=0.01)
    assert subject.accuracy("test") > before - 0.05


def test_correlation_cuts_what_reads_a_border_that_never_changes() -> None:
    subject = trained("digits-mlp")
    still = (subject.data.train_x == subject.data.train_x[:1]).all(0).ravel()
    prune = PruneByCorrelation(layers=("fc1",), density=0.5, training=UNTRAINED)
    prune.apply(subject)
    assert still.any() and not subject.masks["fc1"].kept[:, still].any()
    assert subject.masks["fc1"].density == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "prune.magnitude", "density": 0.0}, r"density must be above 0 and at most 1, not 0\.0"),
        ({"kind": "prune.magnitude", "density": 0.5, "quality": {"all": 1.0}}, "quality stands instead of"),
        ({"kind": "prune.obd", "curvature": "exact"}, "curvature must be one of"),
        ({"kind": "prune.surgery"}, "strength must say c"),
        ({"kind": "prune.surgery", "density": 0.1, "strength": {"all": 1.0}}, "either strength must say c"),
        ({"kind": "prune.surgery", "densities": {"all": 1.5}}, "density of all must be above 0"),
        ({"kind": "prune.surgery", "density": 0.1, "ramp": 0.8}, "ramp at most what it leaves"),
        ({"kind": "train.group-lasso", "layers": ["conv"]}, "layers must be left out: structures names"),
        ({"kind": "train.group-lasso", "structures": {"conv": "row"}}, r"structures\.conv must be one of"),
        ({"kind": "prune.magnitude", "scope": "global"}, "scope global needs a density"),
    ],
)
def test_what_cant_be_is_refused_in_a_recipe(table: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_pass(table, "pass[0]", TrainingOptions())


def test_layers_without_a_budget_or_with_an_empty_one_are_refused() -> None:
    subject = trained("digits-mlp")
    with pytest.raises(ValueError, match="layer fc2 has no density"):
        PruneByMagnitude(densities={"fc1": 0.5}).check(subject)
    with pytest.raises(ValueError, match=r"layer fc3: a density of 0\.001 keeps none of 320 weights"):
        PruneByMagnitude(density=0.001).check(subject)
    with pytest.raises(ValueError, match="layer fc1 has no density"):
        DynamicSurgery(densities={"fc2": 0.5, "fc3": 0.5}).check(subject)
    with pytest.raises(ValueError, match="'conv9' matches no layer"):
        PruneByMagnitude(density=0.5, densities={"conv9": 0.5}).check(subject)
