"""Groups by naive loops, budgets, and training that empties groups."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from bitwright.models.compress.activation_variance import PruneInbound, contribution_variances
from bitwright.models.compress.group_lasso import GroupDamage, GroupLasso, l21_norm, shrink_groups
from bitwright.models.compress.group_masks import group_norms, groups_of
from bitwright.models.compress.group_pruning import PruneByGroups
from bitwright.models.compress.integer import integer_accuracy, to_integers
from bitwright.models.compress.lattice import PruneToLattice, lattice_mask, select_by_particles
from bitwright.models.compress.shrinking import Shrink
from bitwright.models.compress.training import TrainingOptions
from bitwright.models.layers import Conv
from digits_subjects import trained

UNTRAINED = TrainingOptions(epochs=0.0)
SHAPE = (5, 6, 3, 2)


@pytest.mark.parametrize(
    ("granularity", "key", "count"),
    [
        ("element", lambda k, c, y, x: (k, c, y, x), 180),
        ("vector", lambda k, c, y, x: (k, c, y), 90),
        ("kernel", lambda k, c, y, x: (k, c), 30),
        ("filter", lambda k, c, y, x: k, 5),
        ("channel", lambda k, c, y, x: c, 6),
        ("column", lambda k, c, y, x: (c, y, x), 36),
        ("block", lambda k, c, y, x: (k // 2, c // 4, y, x), 3 * 2 * 6),
    ],
)
def test_weights_of_one_group_are_those_with_one_key(granularity: str, key: object, count: int) -> None:
    groups = groups_of(SHAPE, granularity, (2, 4))
    by_key: dict[object, set[int]] = {}
    for place in itertools.product(*map(range, SHAPE)):
        by_key.setdefault(key(*place), set()).add(int(groups[place]))  # type: ignore[operator]
    assert len(by_key) == count == groups.max() + 1
    assert all(len(numbers) == 1 for numbers in by_key.values())


def test_a_groups_norm_is_the_mean_over_its_own_weights() -> None:
    values = np.arange(20.0).reshape(5, 4) - 10
    groups = groups_of((5, 4), "block", (2, 3))
    # the last block: row 4, column 3
    assert group_norms(values, groups)[-1] == 9.0
    assert group_norms(values, groups, "l2")[0] == pytest.approx(np.sqrt((100 + 81 + 64 + 36 + 25 + 16) / 6))


@pytest.mark.parametrize("granularity", ["vector", "kernel", "column", "block", "channel", "filter"])
def test_every_granularity_keeps_its_budget_and_recovers(granularity: str) -> None:
    subject = trained("digits", epochs=3.0)
    before = subject.accuracy("test")
    prune = PruneByGroups(granularity=granularity, layers=("conv2", "conv3"), density=0.5, block=(4, 4))
    prune.check(subject)
    prune.apply(subject)
    if granularity == "filter":
        assert subject.weight("conv3").shape == (16, 8, 3, 3)
    elif granularity == "channel":
        assert subject.weight("conv2").shape[1] == 4
        assert subject.weight("conv3").shape == (32, 8, 3, 3)
    else:
        assert subject.masks["conv3"].density == pytest.approx(0.5, abs=0.01)
        assert subject.masks["conv3"].granularity == granularity
    assert subject.accuracy("test") > before - 0.06


def test_linear_layers_have_no_kernels() -> None:
    with pytest.raises(ValueError, match="layer fc is linear and has no kernels"):
        PruneByGroups(granularity="kernel").check(trained("digits"))


def test_the_proximal_step_is_group_lassos_closed_form() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    gain = torch.tensor([12.0, 0.0])
    groups = torch.tensor([0, 0, 1, 1])
    shrink_groups([(weight, groups), (gain, torch.tensor([0, 1]))], torch.tensor([1.3, 1.0]))
    # |(3, 4, 12)| = 13 → 11.7: factor 0.9; |(0.3, 0.4, 0)| = 0.5 < 1 → 0
    assert torch.allclose(weight, torch.tensor([[2.7, 3.6], [0.0, 0.0]]))
    assert torch.allclose(gain, torch.tensor([10.8, 0.0]))


def test_the_l21_norm_has_a_gradient_of_unit_vectors_and_none_at_zero() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    norm = l21_norm(weight, torch.tensor([0, 0, 1, 1]), 2)
    norm.backward()
    assert float(norm.detach()) == 5.0
    assert weight.grad is not None
    assert torch.allclose(weight.grad, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.slow
def test_group_lasso_empties_filters_that_then_leave_with_little_loss() -> None:
    subject = trained("digits")
    before = subject.accuracy("test")
    options = TrainingOptions(epochs=8.0, rate=0.05, batch=64, optimizer="sgd")
    lasso = GroupLasso(structures={"conv2": "filter", "conv3": "filter"}, strength=0.1, training=options)
    lasso.check(subject)
    lasso.apply(subject)
    gone = {name: empty for name, (empty, _) in subject.notes["group-lasso.emptied"].items()}
    assert gone["conv3"] >= 8
    subject.train(TrainingOptions(epochs=3.0, rate=3e-3, batch=64))
    x = torch.rand(30, 1, 8, 8)
    scores = subject.model(x).detach().numpy()
    Shrink().apply(subject)
    assert subject.weight("conv3").shape[0] <= 32 - gone["conv3"]
    np.testing.assert_allclose(subject.model.eval()(x).detach().numpy(), scores, rtol=1e-3, atol=1e-4)
    # the rival: as many filters cut at once, without the Lasso's training
    rival = trained("digits")
    shares = {name: 1 - empty / {"conv2": 16, "conv3": 32}[name] for name, empty in gone.items()}
    rival_prune = PruneByGroups(
        granularity="filter", layers=("conv2", "conv3"), densities=shares, training=UNTRAINED
    )
    rival_prune.apply(rival)
    assert subject.accuracy("test") > max(before - 0.06, rival.accuracy("test"))


def test_depth_takes_a_layers_norm_along() -> None:
    subject = trained("digits")
    options = TrainingOptions(epochs=0.2, rate=1e-2, batch=64)
    GroupLasso(structures={"conv2": "depth"}, strength=1e4, training=options).apply(subject)
    assert not subject.weight("conv2").any()
    assert not subject.model.parameter("bn2.weight").any()
    assert not subject.model.parameter("bn2.bias").any()
    assert subject.notes["group-lasso.emptied"] == {"conv2": [1, 1]}


def test_brain_damage_reaches_its_share_of_columns_and_beats_cutting_them_at_once() -> None:
    subject = trained("digits")
    before = subject.accuracy("test")
    options = TrainingOptions(epochs=6.0, rate=3e-3, batch=64)
    damage = GroupDamage(layers=("conv2", "conv3"), density=0.3, training=options)
    damage.check(subject)
    damage.apply(subject)
    assert subject.masks["conv3"].kept[0].sum() == round(0.3 * 144)
    assert (subject.masks["conv3"].kept == subject.masks["conv3"].kept[:1]).all()
    rival = trained("digits")
    rival_prune = PruneByGroups(
        granularity="column", layers=("conv2", "conv3"), density=0.3, training=UNTRAINED
    )
    rival_prune.apply(rival)
    assert subject.accuracy("test") > before - 0.06
    assert subject.accuracy("test") > rival.accuracy("test") + 0.1
    with pytest.raises(ValueError, match="steps of training are too few for 10 cuts"):
        GroupDamage(training=TrainingOptions(epochs=0.1)).check(subject)


def test_lattices_by_hand() -> None:
    masks = lattice_mask(np.array([0, 3]), (3, 3), 2)
    assert masks[0].astype(int).tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1]]
    assert masks[1].astype(int).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_one_lattice_for_all_channels_makes_a_smaller_dilated_kernel() -> None:
    subject = trained("digits")
    shape = subject.weight("conv2").shape
    corners = np.broadcast_to(lattice_mask(np.zeros(shape[1], np.int64), (3, 3), 2), shape)
    subject.prune("conv2", corners, "column")
    subject.train(TrainingOptions(epochs=1, batch=64))
    integers = to_integers(subject)
    layer = next(layer for layer in integers.network.layers if layer.name == "conv2")
    assert isinstance(layer, Conv)
    assert integers.network.weights["conv2"].values.shape == (*shape[:2], 2, 2)
    assert (layer.dilation, layer.padding) == ((2, 2), (1, 1, 1, 1))
    assert integer_accuracy(subject, integers) == pytest.approx(subject.accuracy("test"), abs=0.02)


def test_particles_come_near_the_best_of_all_states() -> None:
    table = np.random.default_rng(5).random((6, 4))

    def loss(state: np.ndarray) -> float:
        return float(table[np.arange(6), state].sum())

    rng = np.random.default_rng(6)
    _, found = select_by_particles(loss, 6, 4, rng, particles=12, rounds=20)
    every = sorted(loss(np.array(state)) for state in itertools.product(range(4), repeat=6))
    assert found <= every[len(every) // 100]  # the best hundredth, with 252 of 4,096 losses asked for


def test_chosen_lattices_do_better_than_one_offset_for_all() -> None:
    subject = trained("digits")
    prune = PruneToLattice(layers=("conv3",), training=UNTRAINED)
    prune.check(subject)
    prune.apply(subject)
    assert subject.masks["conv3"].granularity == "column"
    offsets = subject.notes["lattice.offsets"]["conv3"]
    assert subject.masks["conv3"].kept[7, 5].sum() == (4, 2, 2, 1)[offsets[5]]  # of 3×3 with stride 2
    rivals = []
    for offset in range(4):
        fixed = trained("digits")
        one = lattice_mask(np.full(16, offset), (3, 3), 2)
        fixed.prune("conv3", np.ascontiguousarray(np.broadcast_to(one, (32, 16, 3, 3))), "column")
        rivals.append(fixed.accuracy("test"))
    assert subject.accuracy("test") > max(rivals)


def test_contributions_vary_as_a_naive_loop_says() -> None:
    rng = np.random.default_rng(7)
    reads, weights = rng.standard_normal((5, 3, 4, 6)), rng.standard_normal((2, 3, 4))
    found = contribution_variances(reads.astype(np.float32), weights)
    for k, c in itertools.product(range(2), range(3)):
        sizes = [np.linalg.norm(weights[k, c] @ image[c]) for image in reads]
        assert found[k, c] == pytest.approx(np.var(sizes), rel=1e-4)


def test_inbound_pruning_beats_cutting_kernels_at_random() -> None:
    subject = trained("digits")
    prune = PruneInbound(layers=("conv2", "conv3"), density=0.5, training=UNTRAINED)
    prune.check(subject)
    prune.apply(subject)
    assert (subject.masks["conv3"].kept[:, :, 0, 0].sum(axis=1) == 8).all()
    scores = []
    for seed in range(3):
        rival = trained("digits")
        for name in ("conv2", "conv3"):
            k, c = rival.weight(name).shape[:2]
            order = np.random.default_rng(seed).random((k, c)).argsort(axis=1) < c // 2
            rival.prune(name, np.repeat(order, 9, axis=1).reshape(k, c, 3, 3), "kernel")
        scores.append(rival.accuracy("test"))
    assert subject.accuracy("test") > np.mean(scores) + 0.05
