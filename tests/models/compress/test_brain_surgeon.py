"""Optimal Brain Surgeon: on least squares it is the closed form, and it beats cutting alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from bitwright.models.compress.brain_surgeon import (
    cut_together,
    elimination_order,
    inverse_hessian,
    surgeon_cut,
)
from bitwright.models.compress.element_pruning import PruneByMagnitude
from bitwright.models.compress.surgeon_passes import PruneBySurgeon
from bitwright.models.compress.training import TrainingOptions
from digits_subjects import trained

UNTRAINED = TrainingOptions(epochs=0.0)


def regression(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlated inputs (200, 8), noisy targets, and the least-squares weights."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((200, 8)) @ rng.standard_normal((8, 8))
    t = x @ rng.standard_normal(8) + 0.3 * rng.standard_normal(200)
    return x, t, np.linalg.lstsq(x, t, rcond=None)[0]


def test_rank_one_updates_give_the_inverse() -> None:
    x, _, _ = regression()
    expected = np.linalg.inv(x.T @ x / len(x) + 0.01 * np.eye(8))
    np.testing.assert_allclose(inverse_hessian(x, 0.01), expected, rtol=1e-8)


@pytest.mark.parametrize("cuts", [1, 3, 5])
def test_cut_least_squares_equal_the_closed_form_on_what_is_left(cuts: int) -> None:
    x, t, w = regression()
    inverse = np.linalg.inv(x.T @ x / len(x))
    order, costs = elimination_order(w, inverse, np.ones(8, bool), cuts)
    cut = np.zeros(8, bool)
    cut[order] = True
    moved = cut_together(w, inverse, cut)
    # the closed form: least squares anew with the columns that are left
    again = np.linalg.lstsq(x[:, ~cut], t, rcond=None)[0]
    np.testing.assert_allclose(moved[~cut], again, rtol=1e-8)
    # and the costs add up to the rise of ½ E[(x·w − t)²]
    rise = 0.5 * np.mean((x @ moved - t) ** 2) - 0.5 * np.mean((x @ w - t) ** 2)
    assert costs.sum() == pytest.approx(rise, rel=1e-8)


def test_the_first_cut_is_the_one_whose_closed_form_costs_least() -> None:
    x, t, w = regression(1)
    order, _ = elimination_order(w, np.linalg.inv(x.T @ x / len(x)), np.ones(8, bool), 1)

    def error_without(q: int) -> float:
        left = np.delete(x, q, axis=1)
        return float(np.mean((left @ np.linalg.lstsq(left, t, rcond=None)[0] - t) ** 2))

    assert order[0] == min(range(8), key=error_without)


def test_rows_are_cut_where_it_costs_least_and_the_bias_stays() -> None:
    x, _, w = regression(2)
    weights = np.stack([w, 0.01 * w])
    free = np.arange(8) < 7
    moved, kept = surgeon_cut(weights, np.linalg.inv(x.T @ x / len(x)), free, 7)
    assert kept[:, :7].sum() == 7
    assert kept[0, :7].sum() == 7  # the second row's costs are 10⁴ times less
    assert kept[:, 7].all()
    assert (moved[~kept] == 0).all()


@pytest.mark.parametrize("objective", ["responses", "loss"])
def test_without_training_it_keeps_more_accuracy_than_magnitude(objective: str) -> None:
    scores = {}
    for kind, prune in {
        "obs": PruneBySurgeon(layers=("fc3",), density=0.12, objective=objective, training=UNTRAINED),
        "magnitude": PruneByMagnitude(layers=("fc3",), density=0.12, training=UNTRAINED),
    }.items():
        subject = trained("digits-mlp")
        prune.check(subject)
        prune.apply(subject)
        assert int((subject.weight("fc3") != 0).sum()) == round(0.12 * 320)
        scores[kind] = subject.accuracy("test")
    assert scores["obs"] > scores["magnitude"] + 0.05


def test_a_layer_too_large_for_it_is_refused_before_time_is_spent() -> None:
    subject = trained("digits-mlp")
    prune = PruneBySurgeon(layers=("fc1",), objective="loss")
    with pytest.raises(ValueError, match=r"layer fc1 needs 7e\+10 multiplications.*prune\.obd"):
        prune.check(subject)
    with pytest.raises(ValueError, match="images must be from 2 to"):
        dataclasses.replace(prune, layers=("fc3",), images=10**6).check(subject)
