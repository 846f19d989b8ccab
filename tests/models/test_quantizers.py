import numpy as np
import pytest
import torch
from bitwright.models.formats import Format
from bitwright.models.quantizers import LowBitQuantizer, fake_quantized, weight_levels, weight_scale

_INT8, _TERNARY, _BINARY = (Format.parse(name) for name in ("int8", "ternary", "binary"))


def test_ternary_weights_are_cut_at_seven_tenths_of_the_mean() -> None:
    # Means 1 and 0.6, so cuts at 0.7 and 0.42; scales are the means of what is kept: 1.5 and 0.9.
    weight = torch.tensor([[2.0, -1.0, 0.6, -0.4], [0.9, 0.41, -0.9, 0.19]])
    assert weight_levels(weight, _TERNARY).tolist() == [[1, -1, 0, 0], [1, 0, -1, 0]]
    np.testing.assert_allclose(weight_scale(weight, _TERNARY), [1.5, 0.9], rtol=1e-6)


def test_a_binary_weights_scale_is_the_least_squares_fit() -> None:
    weight = torch.randn(3, 4, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    levels, scale = weight_levels(weight, _BINARY), weight_scale(weight, _BINARY)
    flat, signs = weight.flatten(1).numpy(), levels.flatten(1).numpy()
    fits = [np.linalg.lstsq(signs[k, :, None], flat[k], rcond=None)[0][0] for k in range(3)]
    np.testing.assert_allclose(scale, fits, rtol=1e-12)
    assert weight_levels(torch.tensor([[0.0, -0.0]]), _BINARY).tolist() == [[1, 1]]


@pytest.mark.parametrize("fmt", [_INT8, _TERNARY, _BINARY], ids=lambda fmt: fmt.name)
def test_weight_levels_are_values_of_the_format_and_scale_with_the_weights(fmt: Format) -> None:
    weight = torch.randn(4, 36, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    levels = weight_levels(weight, fmt)
    fmt.check(levels.numpy().astype(int))
    assert torch.equal(weight_levels(weight * 4, fmt), levels)
    assert torch.equal(weight_scale(weight * 4, fmt), weight_scale(weight, fmt) * 4)
    dead = torch.zeros(1, 9)
    assert float(weight_scale(dead, fmt)) > 0
    fmt.check(weight_levels(dead, fmt).numpy().astype(int))


@pytest.mark.parametrize("fmt", [_INT8, _TERNARY, _BINARY], ids=lambda fmt: fmt.name)
def test_gradients_pass_the_weights_rounding_unchanged(fmt: Format) -> None:
    weight = torch.randn(2, 9, generator=torch.Generator().manual_seed(4)).requires_grad_()
    ahead = torch.arange(18.0).view(2, 9)
    (fake_quantized(weight, fmt) * ahead).sum().backward()
    assert torch.equal(weight.grad, ahead)


def test_activations_on_a_cut_belong_to_the_level_above() -> None:
    x = torch.tensor([-2.0, -0.5, -0.49, -0.0, 0.0, 0.49, 0.5, 2.0])
    assert LowBitQuantizer(_BINARY)(x).tolist() == [-1, -1, -1, 1, 1, 1, 1, 1]
    assert LowBitQuantizer(_TERNARY)(x).tolist() == [-1, 0, 0, 0, 0, 0, 1, 1]


def test_gradients_pass_low_bit_activations_up_to_1() -> None:
    x = torch.tensor([-1.5, -0.9, 0.0, 0.9, 1.5], requires_grad=True)
    LowBitQuantizer(_BINARY)(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
