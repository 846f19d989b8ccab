"""Shrunk networks compute what the masked ones do, on digits, LeNet-5, ResNet-20, and made-up graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bitwright.models.architectures import architecture
from bitwright.models.architectures.builder import Builder
from bitwright.models.compress.channels import ChannelMap, without_channels
from bitwright.models.compress.group_pruning import PruneByGroups
from bitwright.models.compress.shrinking import Shrink, cut_channels, shrunk, without_branches
from bitwright.models.compress.trainable import TrainableGraph
from bitwright.models.compress.training import TrainingOptions
from bitwright.models.compress.weight_codes import FixedCode
from bitwright.models.graph import Graph
from digits_subjects import trained

UNTRAINED = TrainingOptions(epochs=0.0)


def alive(graph: Graph, seed: int) -> Graph:
    """The graph with norms and biases that do something."""
    rng = np.random.default_rng(seed)
    model = TrainableGraph(graph)
    with torch.no_grad():
        for name, array in graph.constants.items():
            if array.ndim == 1 and array.dtype.kind == "f":
                drawn = rng.uniform(0.5, 1.5, array.shape) * (1.0 if name.endswith("var") else 0.7)
                model.value(name).copy_(torch.from_numpy(drawn.astype(np.float32)))
    return model.to_graph()


def outputs(graph: Graph, x: torch.Tensor, silenced: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """The oracle: the unshrunk graph in torch, channels of some values set to 0."""
    model = TrainableGraph(graph).eval()
    for value, mask in (silenced or {}).items():
        keep = torch.from_numpy(~mask).float()

        def tap(made: torch.Tensor, keep: torch.Tensor = keep) -> torch.Tensor:
            return made * keep.reshape(1, -1, *[1] * (made.dim() - 2))

        model.taps[value] = [tap]
    with torch.no_grad():
        return model(x).numpy()


def images(graph: Graph, seed: int = 0) -> torch.Tensor:
    shape = graph.values[graph.inputs[0]].shape[1:]
    return torch.randn(6, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "cuts", "silenced"),
    [
        (
            "digits",
            {"conv1": 3, "conv2": 7, "conv3": 20},
            {"conv1": "relu1", "conv2": "relu2", "conv3": "relu3"},
        ),
        (
            "lenet5",
            {"conv1": 8, "conv2": 30, "ip1": 400},
            {"conv1": "conv1", "conv2": "conv2", "ip1": "relu1"},
        ),
        (
            "resnet20",
            {f"layer{s}.{b}.conv1": 5 for s in (1, 2, 3) for b in (0, 1, 2)},
            {},
        ),
    ],
)
def test_a_network_without_channels_is_the_one_where_they_are_zero(
    name: str, cuts: dict[str, int], silenced: dict[str, str]
) -> None:
    graph = alive(architecture(name, seed=1), 2)
    rng = np.random.default_rng(3)
    masks = {}
    for layer, count in cuts.items():
        masks[layer] = np.zeros(len(graph.constants[f"{layer}.weight"]), bool)
        masks[layer][rng.permutation(len(masks[layer]))[:count]] = True
    found = without_channels(graph, {f"{layer}.weight": mask for layer, mask in masks.items()}).graph
    for layer, count in cuts.items():
        assert len(found.constants[f"{layer}.weight"]) == len(masks[layer]) - count
    if not silenced:  # the ReLU after the norm after the layer
        after = {
            node.inputs[0]: node.outputs[0]
            for node in graph.nodes
            if node.op in ("BatchNormalization", "Relu")
        }
        silenced = {layer: after[after[layer]] for layer in cuts}
    x = images(graph)
    expected = outputs(graph, x, {silenced[layer]: mask for layer, mask in masks.items()})
    assert np.abs(expected - outputs(graph, x)).max() > 1e-2
    np.testing.assert_allclose(outputs(found, x), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def branched(seed: int) -> Graph:
    """Sums, a concatenation, a depthwise layer and pools between convolutions."""
    net = Builder("branched", (3, 8, 8), seed)
    a = net.relu(net.norm("n1", net.conv("a", net.input, 6, 3, pad=1)))
    b = net.conv("b", net.input, 6, 1)
    joined = net.relu(net.add(a, b))
    deep = net.relu(net.norm("n2", net.conv("dw", joined, 6, 3, pad=1, groups=6)))
    c = net.conv("c", deep, 4, 1)
    d = net.conv("d", joined, 5, 3, pad=1)
    x = net.concat([c, d])
    x = net.max_pool(net.leaky_relu(x, 0.1), 2, stride=2)
    x = net.relu(net.linear("e", x, 12))
    return alive(net.graph(net.linear("f", x, 4)), seed)


def test_sums_make_channels_one_and_depthwise_layers_follow() -> None:
    graph = branched(1)
    channels = ChannelMap(graph)
    assert set(channels.coupled("a.weight")) == {"b.weight", "dw.weight"}
    assert channels.fixed(channels.rows["f.weight"])[0] == "the network's output"
    cut = np.arange(6) % 3 == 0
    with pytest.raises(ValueError, match="layer a: its channels are added to those of b: cut them together"):
        without_channels(graph, {"a.weight": cut})
    found = without_channels(graph, {"a.weight": cut, "b.weight": cut}).graph
    assert found.constants["dw.weight"].shape == (4, 1, 3, 3)
    assert found.constants["c.weight"].shape == (4, 4, 1, 1)
    x = images(graph)
    add = next(node.outputs[0] for node in graph.nodes if node.op == "Add")
    deep = graph.consumers("n2")[0].outputs[0]
    expected = outputs(graph, x, {add: cut, deep: cut})
    np.testing.assert_allclose(outputs(found, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_dead_channels_of_random_masks_go_and_nothing_changes(seed: int) -> None:
    graph = branched(seed)
    rng = np.random.default_rng(seed)
    constants = dict(graph.constants)
    for name in ("a", "b", "dw", "c", "d", "e", "f"):
        weight = constants[f"{name}.weight"].copy()
        weight[rng.random(len(weight)) < 0.4] = 0.0  # filters: their norms still put out constants
        weight[:, rng.random(weight.shape[1]) < 0.3] = 0.0
        constants[f"{name}.weight"] = weight
    masked = Graph(**{**{key: getattr(graph, key) for key in Graph.__slots__}, "constants": constants})
    found, steps = shrunk(masked)
    assert steps
    before, after = (sum(c.size for c in g.constants.values()) for g in (masked, found))
    assert after < 0.8 * before
    x = images(graph, seed)
    np.testing.assert_allclose(outputs(found, x), outputs(masked, x), rtol=1e-4, atol=1e-4)
    assert shrunk(found)[1] == []


def test_a_branch_of_zeros_leaves_the_sum() -> None:
    graph = alive(architecture("resnet20", seed=1), 4)
    constants = dict(graph.constants)
    for name in ("layer2.1.conv2.weight", "layer2.1.bn2.weight", "layer2.1.bn2.bias"):
        constants[name] = np.zeros_like(constants[name])
    masked = Graph(**{**{key: getattr(graph, key) for key in Graph.__slots__}, "constants": constants})
    found = without_branches(masked)
    gone = {node.name for node in masked.nodes} - {node.name for node in found.nodes}
    assert {"layer2.1.conv1", "layer2.1.bn1", "layer2.1.conv2", "layer2.1.bn2"} < gone
    x = images(graph)
    np.testing.assert_allclose(outputs(found, x), outputs(masked, x), rtol=1e-4, atol=1e-4)


def test_masks_follow_the_layers_that_shrink() -> None:
    subject = trained("digits")
    kept = np.random.default_rng(1).random((16, 8, 3, 3)) < 0.5
    kept[:, 2] = False
    kept[5] = False
    subject.prune("conv2", kept)
    x, _ = torch.rand(20, 1, 8, 8), None
    before = subject.model.eval()(x).detach().numpy()
    Shrink().apply(subject)
    np.testing.assert_allclose(subject.model.eval()(x).detach().numpy(), before, rtol=1e-4, atol=1e-5)
    assert subject.weight("conv2").shape[1] == 7  # no one reads channel 2; filter 5's constant meets padding
    assert np.array_equal(subject.masks["conv2"].kept, np.delete(kept, 2, axis=1))
    assert subject.notes["shrunk"]["conv1"] == [[8, 1, 3, 3], [7, 1, 3, 3]]
    subject.train(TrainingOptions(epochs=0.5))
    assert not subject.weight("conv2")[~subject.masks["conv2"].kept].any()


def test_coded_layers_dont_shrink() -> None:
    subject = trained("digits")
    code = FixedCode(integers=np.ones((16, 8, 3, 3), np.int8), scales=np.full(16, 0.1), fmt="int8")
    subject.encode("conv2", code)
    with pytest.raises(ValueError, match="layer conv2: its weights are coded and can't shrink"):
        cut_channels(subject, {"conv1": np.arange(8) == 1})


def test_filters_of_layers_that_are_added_go_together_or_are_refused() -> None:
    subject = trained("digits")
    with pytest.raises(
        ValueError, match="layer fc: its channels can't be cut, they go into Softmax softmax1"
    ):
        PruneByGroups(granularity="filter").check(subject)
    PruneByGroups(granularity="filter", layers=("conv",), density=0.5, training=UNTRAINED).apply(subject)
    assert [subject.weight(f"conv{n}").shape[:2] for n in (1, 2, 3)] == [(4, 1), (8, 4), (16, 8)]
    assert subject.weight("fc").shape == (10, 64)
