"""Signs for activations: where they go, what the K map is, and networks of one bit that learn."""

import numpy as np
import pytest
import torch
from bitwright.models.architectures import architecture
from bitwright.models.compress.binarized_networks import BinarizedNetworkPass, XnorNetPass
from bitwright.models.compress.integer import integer_accuracy, to_integers
from bitwright.models.compress.quantised_graph import ActivationRange
from bitwright.models.compress.sign_activations import binarise_inputs
from bitwright.models.compress.trainable import TrainableGraph
from bitwright.models.compress.training import TrainingOptions
from bitwright.models.graph import run_graph
from bitwright.models.post_layers import Thresholds
from digits_subjects import digits_data, trained, trained_graph


def _ops(graph):
    return [node.op for node in graph.nodes]


def test_bnn_puts_norm_and_sign_where_the_relu_was():
    graph, signed = binarise_inputs(architecture("digits", seed=1), ["conv1", "conv2", "conv3", "fc"])
    assert signed == ["conv2", "conv3", "fc"]
    assert _ops(graph) == [
        *("Conv", "BatchNormalization", "BipolarQuant"),
        *("Conv", "BatchNormalization", "BipolarQuant", "MaxPool"),
        *("Conv", "BatchNormalization", "BipolarQuant", "MaxPool"),
        *("Flatten", "Gemm", "Softmax"),
    ]


def test_a_norm_is_added_where_none_was():
    graph, _ = binarise_inputs(architecture("digits-mlp", seed=1), ["fc2", "fc3"])
    assert _ops(graph) == ["Flatten", *("Gemm", "BatchNormalization", "BipolarQuant") * 2, "Gemm", "Softmax"]
    assert TrainableGraph(graph)(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_xnor_blocks_are_norm_sign_convolution_pool():
    graph, _ = binarise_inputs(architecture("digits", seed=1), ["conv2", "conv3"], blocks=True)
    assert _ops(graph) == [
        "Conv",
        *("BatchNormalization", "BipolarQuant", "Conv", "MaxPool"),
        *("BatchNormalization", "BipolarQuant", "Conv", "BatchNormalization", "Relu", "MaxPool"),
        *("Flatten", "Gemm", "Softmax"),
    ]


def test_layers_without_a_relu_before_them_get_a_norm_of_channels():
    graph, signed = binarise_inputs(architecture("lenet5", seed=1), ["conv2", "ip1"], blocks=True)
    assert signed == ["conv2", "ip1"]
    norms = [node for node in graph.nodes if node.op == "BatchNormalization"]
    assert [graph.constants[node.inputs[1]].shape for node in norms] == [(20,), (50,)]
    order = _ops(graph)
    assert order.index("Flatten") > order.index("BipolarQuant", order.index("BipolarQuant") + 1)


def test_every_signed_layer_takes_nothing_but_ones():
    graph, signed = binarise_inputs(trained_graph("digits"), ["conv2", "conv3", "fc"], blocks=True)
    model = TrainableGraph(graph).eval()
    inputs = {node.name: node.inputs[0] for node in graph.nodes}
    with model.captured([inputs[name] for name in signed]) as found, torch.no_grad():
        model(torch.from_numpy(digits_data().real(digits_data().test_x[:20])))
    for name in signed:
        assert set(found[inputs[name]].unique().tolist()) == {-1.0, 1.0}


def test_the_k_map_is_the_mean_size_of_what_a_window_sees_before_its_sign():
    graph, _ = binarise_inputs(trained_graph("digits"), ["conv2"], blocks=True, k_map=True)
    model = TrainableGraph(graph).eval()
    sign = next(node for node in graph.nodes if node.op == "BipolarQuant")
    conv = next(node for node in graph.nodes if node.name == "conv2")
    product = next(node for node in graph.nodes if node.op == "Mul")
    x = torch.from_numpy(digits_data().real(digits_data().test_x[:3]))
    names = [sign.inputs[0], conv.outputs[0], product.outputs[0]]
    with model.captured(names) as found, torch.no_grad():
        out = model(x)
    before, sums, scaled = (found[name].numpy().astype(np.float64) for name in names)
    padded = np.pad(np.abs(before), ((0, 0), (0, 0), (1, 1), (1, 1)))
    for b, y, w in ((0, 0, 0), (1, 3, 4), (2, 7, 7)):
        k = padded[b, :, y : y + 3, w : w + 3].mean()
        np.testing.assert_allclose(scaled[b, :, y, w], k * sums[b, :, y, w], rtol=1e-4, atol=1e-6)
    # The evaluator of graphs knows the operators as well.
    single = run_graph(graph, {graph.inputs[0]: x[:1].numpy()})[graph.outputs[0]]
    np.testing.assert_allclose(single, torch.softmax(out[:1], 1).numpy(), atol=1e-5)


def test_a_k_map_needs_a_norm_after_it_which_the_next_signed_layer_brings():
    graph = architecture("lenet5", seed=1)
    with pytest.raises(
        ValueError, match="layer conv2: a K map takes the layer's bias away, and no batch norm"
    ):
        binarise_inputs(graph, ["conv2"], blocks=True, k_map=True)
    changed, _ = binarise_inputs(graph, ["conv2", "ip1"], blocks=True, k_map=True)
    assert len(next(node for node in changed.nodes if node.name == "conv2").inputs) == 2
    assert _ops(changed).count("Mul") == 1
    with pytest.raises(ValueError, match="a K map needs the order of blocks"):
        binarise_inputs(graph, ["conv2", "ip1"], k_map=True)


def test_residual_networks_get_a_sign_on_each_branch_that_a_layer_takes():
    graph = architecture("resnet20", seed=1)
    names = [layer.name for layer in TrainableGraph(graph).layers][1:-1]
    for blocks in (False, True):
        changed, signed = binarise_inputs(graph, names, blocks=blocks)
        assert signed == names
        inputs = {node.name: node.inputs[0] for node in changed.nodes}
        model = TrainableGraph(changed)
        with model.captured([inputs[name] for name in names]) as found, torch.no_grad():
            model(torch.randn(2, 3, 32, 32))
        assert all(set(found[inputs[name]].unique().tolist()) == {-1.0, 1.0} for name in names)


@pytest.mark.slow
def test_xnor_net_learns_the_digits_with_its_k_map():
    subject = trained("digits", epochs=6)
    step = XnorNetPass(layers=("conv2", "conv3"), k_map=True)
    step.check(subject)
    step.apply(subject)
    assert subject.accuracy("test") > 0.8
    code = subject.codes["conv2"]
    np.testing.assert_array_equal(np.abs(subject.weight("conv2"))[:, 0, 0, 0], code.scales.astype(np.float32))


def test_sums_of_signs_are_rescaled_not_looked_up_in_a_threshold_a_level():
    subject = trained("digits-mlp")
    BinarizedNetworkPass(layers=("fc2",), training=TrainingOptions(epochs=2, batch=64)).apply(subject)
    integers = to_integers(subject)
    counted = [layer for layer in integers.network.layers if isinstance(layer, Thresholds)]
    assert [layer.values.shape[1] for layer in counted] == [1]  # fc2's sign, not the 8 bits behind its sums
    assert integer_accuracy(subject, integers) == pytest.approx(subject.accuracy("test"), abs=0.01)


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-2.0, 6.0), (-6.0, 0.0)])
def test_a_range_as_coarse_as_a_sums_unit_still_holds_what_it_held(low, high):
    found = ActivationRange.of(low, high)
    assert found.coarsened(1e-3) is found
    wide = found.coarsened(0.05)
    assert 0.05 < wide.scale < 0.050002
    assert (-128 - wide.zero_point) * wide.scale <= low + 0.025
    assert (127 - wide.zero_point) * wide.scale >= high - 0.025
