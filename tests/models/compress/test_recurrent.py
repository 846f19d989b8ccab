"""A recurrent network unrolled over time: shared weights, one saliency for all steps, spoken digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bitwright.models.architectures import architecture
from bitwright.models.compress.curvature import diagonal_hessian
from bitwright.models.compress.datasets import DataOptions, load_dataset
from bitwright.models.compress.element_pruning import PruneByDamage, PruneByMagnitude
from bitwright.models.compress.speech import log_mel
from bitwright.models.compress.subject import Subject
from bitwright.models.compress.trainable import TrainableGraph
from bitwright.models.compress.training import TrainingOptions
from bitwright.models.graph import run_graph
from torch.nn import functional


def test_the_unrolled_network_is_a_loop_over_frames() -> None:
    graph = architecture("elman", seed=3)
    model = TrainableGraph(graph)
    assert [layer.name for layer in model.layers] == ["reads", "state", "classes"]
    assert sum(p.numel() for p in model.parameters()) == 3610
    x = np.random.default_rng(1).random((1, 1, 20, 16), np.float32)
    c = graph.constants
    h = np.zeros(48, np.float32)
    for frame in x[0, 0]:
        h = np.maximum(c["reads.weight"] @ frame + c["reads.bias"] + c["state.weight"] @ h, 0)
    expected = c["classes.weight"] @ h + c["classes.bias"]
    found = model.eval()(torch.from_numpy(x)).detach().numpy()[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    (chances,) = run_graph(graph, {"input": x}).values()
    np.testing.assert_allclose(chances[0], np.exp(found) / np.exp(found).sum(), rtol=1e-3, atol=1e-5)


def test_a_shared_weights_gradient_is_the_sum_over_its_steps() -> None:
    model = TrainableGraph(architecture("elman", seed=4)).eval()
    with torch.no_grad():
        model.weight("state").mul_(0.5)
    generator = torch.Generator().manual_seed(5)
    x, y = torch.randn(6, 1, 20, 16, generator=generator), torch.randint(0, 10, (6,), generator=generator)
    layers = [model.layer("state")]
    found = diagonal_hessian(model, layers, x, y, kind="fisher")["state"]
    expected = np.zeros((48, 48))
    for i in range(6):
        loss = functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        (slope,) = torch.autograd.grad(loss, model.weight("state"))
        expected += slope.double().numpy() ** 2 / 6
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-10)


def test_a_tone_lights_the_band_that_it_lies_in() -> None:
    t = np.arange(8000) / 8000
    tones = np.stack([np.sin(2 * np.pi * hertz * t) * 10_000 for hertz in (300, 3000)]).astype(np.int16)
    features = log_mel(tones[:, None])
    assert features.shape == (2, 1, 20, 16)
    low, high = features[:, 0].mean(axis=1).argmax(axis=1)
    # bands are equally wide in mel from 150 to 2,146: 300 Hz is mel 402, 3,000 Hz mel 1,876
    assert (low, high) == (round((402 - 150) / (1996 / 17)) - 1, round((1876 - 150) / (1996 / 17)) - 1)


def test_features_are_for_recordings() -> None:
    with pytest.raises(ValueError, match=r"data\.features log-mel is for recordings"):
        load_dataset("digits", DataOptions(features="log-mel"))


@pytest.mark.slow
def test_obd_prunes_the_recurrent_network_better_than_magnitude(shared_data: Path) -> None:
    torch.set_num_threads(1)
    options = DataOptions(features="log-mel", train=2000, validation=200)
    data = load_dataset(str(shared_data / "fsdd_8k_1s.npz"), options)
    training = TrainingOptions(epochs=12.0, rate=2e-3, batch=64)
    dense = Subject.of(architecture("elman", seed=1), data, training=training)
    dense.train()
    assert dense.accuracy("test") > 0.8
    graph, found = dense.model.to_graph(), {}
    for prune in (
        PruneByDamage(density=0.2, scope="global", training=TrainingOptions(epochs=0.0)),
        PruneByMagnitude(density=0.2, scope="global", training=TrainingOptions(epochs=0.0)),
    ):
        subject = Subject.of(graph, data, training=training)
        prune.apply(subject)
        found[prune.name] = subject.accuracy("test")
    assert found["prune.obd"] > found["prune.magnitude"] + 0.1
