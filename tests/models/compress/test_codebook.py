"""Scalar codebooks against scikit-learn's k-means, and gradients of shared weights by hand."""

import warnings

import numpy as np
import pytest
import torch
from bitwright.models.compress.codebook import (
    INITS,
    first_centroids,
    fit_codebook,
    integer_codebook,
    lloyd_scalar,
)
from bitwright.models.compress.shared_weights import SharedWeights, read_codebook
from bitwright.models.formats import Format
from bitwright.models.weights import WeightRecord
from sklearn.cluster import KMeans


def inertia(weights: np.ndarray, table: np.ndarray, indices: np.ndarray) -> float:
    return float(((weights - table[indices]) ** 2).sum())


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("seed", range(3))
def test_k_means_ends_where_scikit_learns_does_from_the_same_start(init: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.standard_t(4, 600) * 0.05  # tails, so that linear starts have empty clusters
    start = first_centroids(weights, 16, init, seed=seed)
    table, indices = lloyd_scalar(weights, start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = KMeans(16, init=start[:, None], n_init=1, max_iter=2000, tol=0, algorithm="lloyd")
        theirs.fit(weights[:, None])
    assert inertia(weights, table, indices) == pytest.approx(theirs.inertia_, rel=1e-6)
    assert np.sort(theirs.cluster_centers_.ravel()) == pytest.approx(table, abs=1e-9)


def test_starts_by_hand() -> None:
    weights = np.array([0.0, 1.0, 2.0, 10.0])
    assert first_centroids(weights, 3, "linear").tolist() == [0.0, 5.0, 10.0]
    assert first_centroids(weights, 2, "density").tolist() == [0.75, 4.0]  # quantiles 1/4 and 3/4
    drawn = first_centroids(weights, 4, "random", seed=1)
    assert drawn.tolist() == weights.tolist()


def test_clusters_by_hand_and_ties_go_to_the_lower() -> None:
    table, indices = lloyd_scalar(np.array([[0.0, 4.0], [5.0, 9.0]]), np.array([0.0, 8.0]))
    # 4 lies between 0 and 8: it goes to 0; means 2 and 7; nothing changes: 4 is nearer to 2
    assert table.tolist() == [2.0, 7.0] and indices.tolist() == [[0, 0], [1, 1]]


def test_pruned_weights_keep_an_index_and_a_value_of_their_own() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (20, 30))
    kept = np.abs(weights) > 1.0
    code = fit_codebook(weights * kept, 3, kept=kept)
    assert code.centroids.size == 8 and code.centroids[0] == 0 and 0 not in code.centroids[1:]
    assert np.array_equal(code.indices != 0, kept) and not code.weights()[~kept].any()
    # whatever value a kept weight has, no other is nearer
    distance = np.abs(weights[kept][:, None] - code.centroids[None, 1:].astype(np.float64))
    assert np.array_equal(distance.argmin(axis=1) + 1, code.indices[kept])


def test_fewer_distinct_weights_than_values_are_all_kept_exactly() -> None:
    weights = np.array([[0.5, -0.25], [0.5, 2.0]])
    code = fit_codebook(weights, 4)
    assert np.array_equal(code.weights(), weights.astype(np.float32)) and code.centroids.size == 3


def test_a_codebook_becomes_a_weight_record() -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 0.1, (8, 40))
    kept = np.abs(weights) > 0.1
    code = fit_codebook(weights * kept, 4, kept=kept)
    values, table, scale = integer_codebook(code)
    record = WeightRecord.encoded(
        layer="fc", values=values, fmt=Format.parse("int8"), scales=np.full(8, scale), mask=kept,
        codebook=table, encoding="relative4+huffman", streams=2,
    )  # fmt: skip
    assert record.codebook is not None and record.codebook[0] == 0 and record.codebook.size <= 16
    assert np.array_equal(record.decode() * scale, values * scale)
    assert np.abs(values * scale - code.weights()).max() <= scale / 2 + 1e-6


def test_a_centroids_gradient_is_the_sum_of_its_members() -> None:
    weights = np.array([[1.0, 0.0, 2.1], [1.1, 2.0, 0.0]], np.float32)
    code = fit_codebook(weights, 2, kept=weights != 0)  # indices: 0; 1 and 1.1; 2; 2.1
    shared = SharedWeights(code, pruned=True)
    x = torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 4.0]])
    loss = (x @ shared(torch.zeros(2, 3)).T * torch.tensor([[1.0, -2.0], [3.0, 1.0]])).sum()
    loss.backward()
    # dloss/dW = upstreamᵀ x, by hand
    by_weight = np.array([[1.0, 3.0], [-2.0, 1.0]]) @ x.numpy()
    expected = [0.0] + [float(by_weight[code.indices == i].sum()) for i in range(1, code.centroids.size)]
    assert shared.centroids.grad is not None
    assert shared.centroids.grad.tolist() == pytest.approx(expected)


def test_training_moves_members_together_and_leaves_zeros() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(12, 6)
    weights = layer.weight.detach().numpy()
    kept = np.abs(weights) > 0.1
    code = fit_codebook(weights * kept, 2, kept=kept)
    shared = SharedWeights(code, pruned=True)
    x, y = torch.randn(64, 12), torch.randn(64, 6)
    optimiser = torch.optim.SGD([layer.bias, shared.centroids], 0.1)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(
            torch.nn.functional.linear(x, shared(layer.weight), layer.bias), y
        )
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    tuned = read_codebook(shared)
    assert losses[-1] < losses[0] and tuned.centroids[0] == 0
    assert np.array_equal(shared(layer.weight).detach().numpy(), tuned.weights())
    assert np.unique(tuned.weights()).size <= 4 and not tuned.weights()[~kept].any()


def test_what_can_not_be_clustered_is_refused() -> None:
    with pytest.raises(ValueError, match="from 1 to 8 bits, not 9"):
        fit_codebook(np.ones((2, 2)), 9)
    with pytest.raises(ValueError, match="some of weights of shape"):
        fit_codebook(np.ones((2, 2)), 2, kept=np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match="a codebook begins linear, density, random, not 'best'"):
        first_centroids(np.ones(4), 2, "best")
    with pytest.raises(ValueError, match="5 values need finite weights, at least as many: there are 4"):
        first_centroids(np.ones(4), 5, "random")
    with pytest.raises(ValueError, match="finite"):
        lloyd_scalar(np.array([np.nan]), np.array([0.0]))
