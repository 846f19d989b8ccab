"""The 8-bit dynamic tree: its codec, what it loses, and what it saves on links."""

import numpy as np
import pytest
from bitwright.models.compress import dynamic_tree
from bitwright.models.compress.dynamic_tree import (
    TREE_VALUES,
    DynamicTreePass,
    ExchangeModel,
    decode_tree,
    encode_tree,
    linear_8bit,
    tree_value,
)
from bitwright.models.compress.layer_size import layer_size
from bitwright.models.compress.training import TrainingOptions
from bitwright.models.compress.weight_codes import CodebookCode, code_from_arrays, code_to_arrays
from digits_subjects import trained


def test_codes_stand_for_what_their_bits_say():
    # 0 1 000000: no leading zero, part 0 of 64: 0.1 + 0.9 · 0.5 / 64.
    assert tree_value(0b0100_0000) == pytest.approx(0.1 + 0.9 * 0.5 / 64)
    # 1 001 1010: two zeros, part 10 of 16: −10^−2 · (0.1 + 0.9 · 10.5 / 16).
    assert tree_value(0b1001_1010) == pytest.approx(-0.01 * (0.1 + 0.9 * 10.5 / 16))
    # 0 0000001: six zeros and no fraction, the middle of 0.1 … 1 at 10^−6.
    assert tree_value(1) == pytest.approx(0.55e-6)
    assert tree_value(0) == 0.0 and tree_value(0x80) == 1.0


def test_all_256_codes_are_different_and_come_back_from_their_values():
    assert len(set(TREE_VALUES)) == 256
    codes, scale = encode_tree(TREE_VALUES * 7.5)
    assert scale == 7.5
    np.testing.assert_array_equal(codes, np.arange(256))
    np.testing.assert_allclose(decode_tree(codes, scale), TREE_VALUES * 7.5, rtol=1e-6)


def test_values_get_the_nearest_code():
    values = np.random.default_rng(1).standard_normal(500) ** 3
    codes, scale = encode_tree(values)
    every = np.abs(values[:, None] - TREE_VALUES * scale)
    np.testing.assert_allclose(np.abs(values - TREE_VALUES[codes] * scale), every.min(axis=1), atol=1e-12)


def test_values_of_many_magnitudes_lose_far_less_than_in_linear_eight_bits():
    rng = np.random.default_rng(2)
    values = (rng.choice((-1, 1), 20_000) * 10.0 ** rng.uniform(-5, 0, 20_000)).astype(np.float32)
    tree = decode_tree(*encode_tree(values))
    relative = np.abs(tree - values) / np.abs(values)
    rival = np.abs(linear_8bit(values) - values) / np.abs(values)
    assert np.median(relative) < 0.05
    assert np.median(rival) > 10 * np.median(relative)


def test_exchange_of_a_quarter_of_the_bytes_is_four_times_as_short():
    model = ExchangeModel(bytes_per_second=1e6, compute_seconds=0.8)
    # 8 workers: 0.1 s of work, and 2 · 7/8 · 1e6 bytes or 4e6 bytes at 1e6 a second.
    assert model.step_seconds(1_000_000, 8, 8) == pytest.approx(0.1 + 1.75)
    assert model.step_seconds(1_000_000, 32, 8) == pytest.approx(0.1 + 7.0)
    assert model.speedup(1_000_000, 32, 1) == pytest.approx(1.0)


def test_training_with_coded_gradients_keeps_accuracy_and_sends_a_quarter_of_the_bytes():
    plain, coded = trained("digits-mlp"), trained("digits-mlp")
    plain.train()
    DynamicTreePass().apply(coded)
    assert coded.accuracy("test") > plain.accuracy("test") - 0.02
    found = coded.notes["quantise.dynamic-tree"]["gradients"]
    assert found["float32_bytes_a_step"] == 4 * found["bytes_a_step"] == 4 * (64 * 65 + 65 * 32 + 33 * 10)
    code = coded.codes["fc1"]
    np.testing.assert_array_equal(coded.weight("fc1"), code.centroids[code.indices])
    # A byte a weight, one factor (the tree's values are known), 64 biases.
    assert layer_size(coded, "fc1").payload_bytes == 64 * 64 + 4 + 4 * 64


def test_a_state_says_whether_a_table_is_known_and_older_states_say_nothing():
    indices, table = np.zeros((2, 3), np.uint8), np.array([0.5, 1.0])
    for given in (True, False):
        arrays = code_to_arrays(CodebookCode(indices=indices, centroids=table, given=given))
        assert code_from_arrays(arrays).given is given
    del arrays["given"]
    assert code_from_arrays(arrays).given is False


def test_the_linear_rival_takes_as_many_bytes_and_exchanges_linear_codes(monkeypatch):
    coded = trained("digits-mlp")
    rounded = []
    whole = linear_8bit

    def counted(values):
        rounded.append(values.shape)
        return whole(values)

    monkeypatch.setattr(dynamic_tree, "linear_8bit", counted)
    DynamicTreePass(code="linear", training=TrainingOptions(epochs=0.1)).apply(coded)
    assert rounded.count((64, 64)) >= 2  # a gradient of fc1 each step
    weights = coded.weight("fc1")
    step = np.abs(weights).max() / 127
    np.testing.assert_allclose(weights / step, np.rint(weights / step), atol=1e-3)
    assert layer_size(coded, "fc1").payload_bytes == 64 * 64 + 4 + 4 * 64
    with pytest.raises(ValueError, match="code must be tree or linear, not 'log'"):
        DynamicTreePass(code="log")


def test_what_is_no_byte_or_not_finite_is_refused():
    with pytest.raises(ValueError, match="a code is a byte, 0 to 255, not 256"):
        tree_value(256)
    with pytest.raises(ValueError, match="values must be finite"):
        encode_tree(np.array([1.0, np.nan]))
