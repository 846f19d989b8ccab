"""Batch norms whose factors are powers of two."""

import numpy as np
import pytest
import torch
from bitwright.models.compress.binarized_networks import BinarizedNetworkPass
from bitwright.models.compress.integer import integer_accuracy, to_integers
from bitwright.models.compress.shift_norm import fix_shifts, power_of_two, shift_norm
from bitwright.models.compress.trainable import TrainableGraph
from bitwright.models.compress.training import TrainingOptions
from digits_subjects import digits_data, trained, trained_graph


def _is_power_of_two(values):
    mantissa, _ = np.frexp(np.abs(values))
    return np.isclose(mantissa, 0.5, rtol=1e-6) | np.isclose(mantissa, 1.0, rtol=1e-6)


def test_powers_are_the_nearest_in_the_logarithm_and_let_gradients_through():
    x = torch.tensor([0.0, 1.0, 1.41, 1.42, -3.0, -2.8, 0.1], requires_grad=True)
    y = power_of_two(x)
    assert y.tolist() == [0.0, 1.0, 1.0, 2.0, -4.0, -2.0, 0.125]
    y.sum().backward()
    assert x.grad.tolist() == [1.0] * 7


@pytest.mark.parametrize("shape", [(64, 5), (16, 5, 4, 3)])
def test_a_batch_is_normed_as_the_algorithm_says(shape):
    node = next(n for n in trained_graph("digits").nodes if n.op == "BatchNormalization")
    rng = np.random.default_rng(3)
    x = rng.normal(2.0, 3.0, shape).astype(np.float32)
    gain, shift = rng.normal(1.0, 0.5, (2, 5)).astype(np.float32)
    mean, variance = torch.zeros(5), torch.ones(5)
    operands = [torch.from_numpy(x), torch.from_numpy(gain), torch.from_numpy(shift), mean, variance]
    found = shift_norm(node, operands, True).numpy()

    axes = tuple(axis for axis in range(len(shape)) if axis != 1)
    centred = x - x.mean(axis=axes, keepdims=True, dtype=np.float64)
    rounded = np.sign(centred) * 2.0 ** np.round(np.log2(np.abs(centred)))
    spread = (centred * rounded).mean(axis=axes)
    factor = 2.0 ** np.round(np.log2((spread + 1e-5) ** -0.5))
    factor *= np.sign(gain) * 2.0 ** np.round(np.log2(np.abs(gain)))
    by = (1, -1, *([1] * (len(shape) - 2)))
    np.testing.assert_allclose(found, centred * factor.reshape(by) + shift.reshape(by), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mean, 0.1 * x.mean(axis=axes), rtol=1e-4)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * spread, rtol=1e-4)


def test_exact_norms_take_up_what_the_shifts_did():
    model = TrainableGraph(trained_graph("digits")).eval()
    x = torch.from_numpy(digits_data().real(digits_data().test_x[:50]))
    with torch.no_grad():
        exact = model(x)
        model.norm = shift_norm
        shifted = model(x)
        fix_shifts(model)
        fixed = model(x)
    assert model.norm is None
    assert not torch.allclose(exact, shifted, atol=0.1)
    torch.testing.assert_close(fixed, shifted, rtol=1e-4, atol=1e-4)


def test_a_network_of_one_bit_learns_with_shifts_and_keeps_them():
    subject = trained("digits")
    options = TrainingOptions(epochs=6, batch=64, rate=3e-3)
    step = BinarizedNetworkPass(layers=("conv2", "conv3"), norms="shift", training=options)
    step.check(subject)
    step.apply(subject)
    norms = [node for node in subject.model.graph.nodes if node.op == "BatchNormalization"]
    for node in norms:
        gain, _, _, variance = (subject.model.value(name).detach().numpy() for name in node.inputs[1:])
        assert _is_power_of_two(gain / np.sqrt(variance + 1e-5)).all()
    assert subject.accuracy("test") > 0.85
    integers = to_integers(subject)
    assert integer_accuracy(subject, integers) == pytest.approx(subject.accuracy("test"), abs=0.02)


def test_an_unknown_kind_of_norm_is_refused():
    with pytest.raises(ValueError, match="norms must be exact or shift, not 'power'"):
        BinarizedNetworkPass(norms="power")
