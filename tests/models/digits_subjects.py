"""Networks of the package trained on its digits, once a test run, as fresh subjects for passes."""

from __future__ import annotations

from functools import cache

import torch
from bitwright.models.architectures import architecture
from bitwright.models.compress.datasets import Dataset, load_dataset
from bitwright.models.compress.subject import Subject
from bitwright.models.compress.training import TrainingOptions
from bitwright.models.graph import Graph

_EPOCHS = {"digits": 6.0, "digits-mlp": 20.0}


@cache
def digits_data(seed: int = 0) -> Dataset:
    """The digits as every test sees them."""
    return load_dataset("digits", seed=seed)


@cache
def trained_graph(name: str, seed: int = 0) -> Graph:
    """`zoo:name` after a few seconds of training."""
    torch.set_num_threads(1)
    subject = Subject.of(architecture(name, seed=seed), digits_data(), seed=seed)
    subject.train(TrainingOptions(epochs=_EPOCHS[name], rate=3e-3, batch=64))
    return subject.model.to_graph()


def trained(name: str, seed: int = 0, epochs: float = 2.0) -> Subject:
    """A subject of its own whose passes train for `epochs`."""
    return Subject.of(
        trained_graph(name, seed),
        digits_data(),
        seed=seed,
        training=TrainingOptions(epochs=epochs, rate=3e-3, batch=64),
    )
