"""Diagonal Hessians: closed forms, and torch's whole Hessian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bitwright.models.architectures.builder import Builder
from bitwright.models.compress.curvature import diagonal_hessian
from bitwright.models.compress.trainable import TrainableGraph
from torch import nn
from torch.nn import functional


def linear_model(inputs: int, outputs: int) -> TrainableGraph:
    net = Builder("linear", (inputs,), 3)
    return TrainableGraph(net.graph(net.linear("fc", net.input, outputs, bias=False)))


def conv_model() -> TrainableGraph:
    net = Builder("conv", (2, 6, 6), 5)
    x = net.relu(net.conv("conv1", net.input, 4, 3, pad=1, stride=2))
    x = net.max_pool(net.relu(net.norm("bn", net.conv("conv2", x, 4, 2, groups=2))), 2, stride=1)
    return TrainableGraph(net.graph(net.linear("fc", x, 3)))


def whole_hessian_diagonal(model: TrainableGraph, layer: str, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """The oracle: torch's own Hessian by all weights of the layer, of which the diagonal is taken."""
    weight = model.weight(layer)
    model.eval()

    class Instead(nn.Module):
        values: torch.Tensor

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return self.values.reshape(weight.shape)

    instead = Instead()
    model.set_transform(layer, instead)

    def loss(values: torch.Tensor) -> torch.Tensor:
        instead.values = values
        return functional.cross_entropy(model(x), y)

    found = torch.autograd.functional.hessian(loss, weight.detach().flatten())
    return found.diagonal().reshape(weight.shape).numpy()


def test_least_squares_have_the_inputs_mean_squares_as_diagonal() -> None:
    model = linear_model(4, 3)
    x, targets = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)), torch.zeros(50, 3)
    found = diagonal_hessian(model, model.layers, x, targets, loss="squares")["fc"]
    # ½ Σ_k (w_k·x − t_k)²: the second derivative by w_kn is E[x_n²], for every row
    np.testing.assert_allclose(found, np.tile((x.numpy() ** 2).mean(0), (3, 1)), rtol=1e-5)


def test_a_softmax_layer_has_p_times_one_minus_p_times_the_input_squared() -> None:
    model = linear_model(4, 3)
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(2))
    found = diagonal_hessian(model, model.layers, x, torch.zeros(50, dtype=torch.long))["fc"]
    p = torch.softmax(model(x), 1).detach().numpy()
    expected = ((p * (1 - p))[:, :, None] * x.numpy()[:, None, :] ** 2).mean(0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc"])
def test_gauss_newton_is_the_diagonal_of_torchs_whole_hessian(layer: str) -> None:
    model = conv_model().double()
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(30, 2, 6, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (30,), generator=generator)
    found = diagonal_hessian(model, [model.layer(layer)], x, y)[layer]
    expected = whole_hessian_diagonal(model, layer, x, y)
    assert expected.max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_hutchinsons_mean_comes_near_the_diagonal() -> None:
    model = conv_model().double()
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(20, 2, 6, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (20,), generator=generator)
    layers = [model.layer("fc")]
    exact = diagonal_hessian(model, layers, x, y)["fc"]
    few, many = (
        np.abs(diagonal_hessian(model, layers, x, y, kind="hutchinson", probes=n)["fc"] - exact).mean()
        for n in (4, 256)
    )
    assert many < 0.3 * few  # 1 / √64 of it on average
    assert many < 0.1 * np.abs(exact).mean()


def test_fisher_is_the_mean_square_of_each_samples_gradient() -> None:
    model = conv_model()
    generator = torch.Generator().manual_seed(8)
    x, y = torch.randn(12, 2, 6, 6, generator=generator), torch.randint(0, 3, (12,), generator=generator)
    found = diagonal_hessian(model, [model.layer("conv2")], x, y, kind="fisher")["conv2"]
    weight = model.weight("conv2")
    expected = np.zeros(tuple(weight.shape))
    for i in range(len(x)):
        (slope,) = torch.autograd.grad(functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]), weight)
        expected += slope.numpy().astype(np.float64) ** 2 / len(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-12)


def test_an_unknown_kind_is_refused() -> None:
    model = linear_model(2, 2)
    with pytest.raises(ValueError, match=r"curvature must be one of gauss-newton, .* not exact"):
        diagonal_hessian(model, model.layers, torch.zeros(2, 2), torch.zeros(2), kind="exact")
