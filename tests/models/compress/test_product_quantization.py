"""Product codes: scikit-learn's clusters, Gong's formula in bytes, responses by least squares."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from bitwright.models.compress.codebook_passes import ProductCodebook
from bitwright.models.compress.layer_size import weight_codes_of
from bitwright.models.compress.product_quantization import lloyd, product_quantize
from bitwright.models.compress.response_codebook import correct_responses, response_error
from bitwright.models.compress.shared_weights import SharedVectors
from bitwright.models.compress.training import TrainingOptions
from bitwright.models.compress.weight_codes import ProductCode
from bitwright.models.payload.encoding import Encoding, decode_codes, encode_codes
from digits_subjects import trained
from sklearn.cluster import KMeans


@pytest.mark.parametrize("seed", range(3))
def test_k_means_of_vectors_ends_where_scikit_learns_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 1, (400, 4))
    start = points[rng.choice(400, 12, replace=False)]
    start[0] = 50.0  # empty at first
    table, own = lloyd(points, start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = KMeans(12, init=start, n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(points)
    assert ((points - table[own]) ** 2).sum() == pytest.approx(theirs.inertia_, rel=1e-6)


def indices_of(code: ProductCode) -> bytes:
    """The payload of a code's indices, which decodes to them."""
    found = weight_codes_of(code)
    assert found is not None
    codes, bits = found
    payload = encode_codes(codes, bits, Encoding.parse("dense"))
    assert np.array_equal(decode_codes(payload, codes.shape, bits, Encoding.parse("dense")), codes)
    stages, segments, rows = code.indices.shape
    assert np.array_equal(codes.reshape(rows, stages, segments).transpose(1, 2, 0), code.indices)
    return payload


def test_payloads_have_gongs_bits() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (64, 48))
    code = product_quantize(weights, length=4, values=16)
    indices = len(indices_of(code))
    # 12 segments: 64 indices of 4 bits and 16 sub-vectors of 4 floats each
    assert indices * 8 == 12 * 64 * 4 and code.centroids.astype("<f4").nbytes * 8 == 12 * 16 * 4 * 32
    # 32mn / (32kn + log2(k)·m·s), Gong et al. 2014, section 3.3
    assert 32 * 64 * 48 / (indices * 8 + code.centroids.size * 32) == pytest.approx(
        32 * 64 * 48 / (32 * 16 * 48 + np.log2(16) * 64 * 12)
    )
    # the codebooks apart: 32 over log2(k) / length
    assert 32 * 64 * 48 / (indices * 8) == 32 / (np.log2(16) / 4)


@pytest.mark.parametrize("size", [(10, 7, 3, 3), (9, 11)])
def test_ragged_segments_and_stages_come_back(size: tuple[int, ...]) -> None:
    weights = np.random.default_rng(1).normal(0, 1, size)
    code = product_quantize(weights, length=4, values=5, stages=2)
    segments = -(-weights[0].size // 4)
    # two stages of 3 bits for each of the rows' segments
    assert len(indices_of(code)) == -(-2 * segments * len(weights) * 3 // 8)
    assert code.weights().shape == size


def test_each_stage_and_each_value_more_lowers_the_error() -> None:
    weights = np.random.default_rng(2).normal(0, 1, (60, 32))

    def error(**given: int) -> float:
        return float(((product_quantize(weights, length=4, **given).weights() - weights) ** 2).mean())

    by_stage = [error(values=8, stages=n) for n in (1, 2, 3)]
    by_values = [error(values=n) for n in (4, 16, 60)]
    assert by_stage == sorted(by_stage, reverse=True)
    assert by_values == sorted(by_values, reverse=True) and by_values[-1] < 1e-12


def test_one_segment_of_all_columns_is_k_means_of_rows() -> None:
    rng = np.random.default_rng(3)
    weights = np.repeat(rng.normal(0, 1, (3, 5)), 4, axis=0)
    code = product_quantize(weights, length=5, values=3, seed=2)
    # three distinct rows, four times each: from a start with one of each, nothing is lost
    if len(np.unique(code.indices)) == 3:
        assert np.allclose(code.weights(), weights)
    assert code.indices.shape == (1, 1, 12)


def test_a_codebook_for_given_indices_is_the_least_squares_fit_of_responses() -> None:
    rng = np.random.default_rng(4)
    weights, inputs = rng.normal(0, 1, (12, 4)), rng.normal(0, 1, (90, 4))
    code = product_quantize(weights, length=4, values=12, seed=0)
    seen = inputs @ rng.normal(0, 0.3, (4, 4)) + inputs
    # as many sub-vectors as rows: each row is fitted for itself, which numpy's lstsq does too
    best = np.linalg.lstsq(seen, inputs @ weights.T, rcond=None)[0].T
    found = correct_responses(weights, code, inputs, seen, rounds=1)
    used = np.unique(code.indices).size == 12
    assert used and np.allclose(found.weights(), best, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_responses_get_nearer_with_every_round_and_than_weights_alone_give(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, (40, 22))
    inputs = rng.normal(0, 1, (200, 22)) @ rng.normal(0, 0.4, (22, 22))  # correlated
    seen = inputs + rng.normal(0, 0.2, inputs.shape)
    code = product_quantize(weights, length=4, values=8, seed=seed)
    errors = [response_error(weights, code, inputs, seen)]
    for rounds in (1, 2, 6):
        better = correct_responses(weights, code, inputs, seen, rounds=rounds)
        errors.append(response_error(weights, better, inputs, seen))
    assert all(b <= a * (1 + 1e-5) for a, b in pairwise(errors))
    assert errors[-1] < 0.9 * errors[0]


def test_correcting_layer_by_layer_brings_a_networks_output_nearer() -> None:
    rng = np.random.default_rng(9)
    first, second = rng.normal(0, 1, (32, 16)), rng.normal(0, 1, (10, 32))
    train, test = (np.maximum(rng.normal(0, 1, (n, 16)) @ rng.normal(0, 1, (16, 16)), 0) for n in (400, 200))

    def hidden(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.maximum(x @ w.T, 0)

    plain = [product_quantize(w, length=4, values=6, seed=1) for w in (first, second)]
    one = correct_responses(first, plain[0], train)
    two = correct_responses(second, plain[1], hidden(train, first), hidden(train, one.weights()))
    wanted = hidden(test, first) @ second.T
    missed = [
        float(((hidden(test, a.weights()) @ b.weights().T - wanted) ** 2).mean())
        for a, b in (plain, (one, two))
    ]
    assert missed[1] < 0.8 * missed[0]


def test_what_does_not_fit_is_refused() -> None:
    weights = np.ones((4, 6))
    with pytest.raises(ValueError, match=r"1 to 4 sub-vectors .the output channels. of 1 to 6 columns"):
        product_quantize(weights, length=3, values=5)
    code = product_quantize(weights, length=3, values=2, stages=2)
    with pytest.raises(ValueError, match="codes of 1 stage, not 2"):
        correct_responses(weights, code, np.ones((3, 6)))
    with pytest.raises(ValueError, match=r"inputs must have the shape \(samples, 6\)"):
        correct_responses(weights, product_quantize(weights, length=3, values=2), np.ones((3, 5)))
    with pytest.raises(ValueError, match="rows of one length"):
        lloyd(np.ones((3, 2)), np.ones((2, 3)))


@pytest.mark.parametrize("shape", [(20, 10), (12, 3, 3, 3)])
def test_trained_sub_vectors_start_as_the_code_and_take_the_sums_of_their_members_gradients(
    shape: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(7)
    weights = rng.normal(0, 1, shape)
    code = product_quantize(weights, length=4, values=5, stages=2)
    table = SharedVectors(code)
    made = table(torch.zeros(shape))
    np.testing.assert_allclose(made.detach().numpy(), code.weights(), rtol=1e-6, atol=1e-6)
    gradient = rng.normal(0, 1, shape).astype(np.float32)
    made.backward(torch.from_numpy(gradient))
    columns = int(np.prod(shape[1:]))
    flat = np.zeros((shape[0], code.indices.shape[1] * 4))  # columns filled up have no gradient
    flat[:, :columns] = gradient.reshape(shape[0], -1)
    wanted = np.zeros(code.centroids.shape)
    for stage, segment, row in np.ndindex(*code.indices.shape):
        entry = wanted[stage, segment, code.indices[stage, segment, row]]
        entry += flat[row, 4 * segment : 4 * segment + 4]
    np.testing.assert_allclose(table.centroids.grad.numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_training_sub_vectors_wins_back_what_coarse_codes_lost() -> None:
    found = []
    for training in (None, TrainingOptions(epochs=5, rate=2e-3, batch=64)):
        subject = trained("digits-mlp")
        ProductCodebook(length=8, bits=2, training=training).apply(subject)
        assert isinstance(subject.codes["fc1"], ProductCode)
        np.testing.assert_array_equal(subject.weight("fc1"), subject.codes["fc1"].weights())
        found.append(subject.accuracy("test"))
    assert found[1] > found[0] + 0.02
