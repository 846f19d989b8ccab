"""The quick recipes of pruning methods: each reaches its budget, and the long ones fit."""

from __future__ import annotations

import pytest
import torch
from bitwright.models.compress.compression import compress
from bitwright.models.compress.datasets import load_dataset
from bitwright.models.compress.recipe import SHIPPED, load_recipe
from bitwright.models.importers.load import load_model

# By recipe: what is left of the bytes or the products at most, and how much accuracy may go; a seeded run
# loses less than half of it.
BUDGETS = {
    "optimal-brain-damage": (0.26, 0.08),
    "optimal-brain-surgeon": (0.97, 0.1),
    "recurrent-damage": (0.4, 0.15),
    "magnitude": (0.25, 0.06),
    "dynamic-surgery": (0.2, 0.08),
    "neuron-correlation": (0.35, 0.08),
    "neuron-merging": (0.65, 0.12),
    "strided-kernels": (0.55, 0.08),
    "granularity": (0.55, 0.05),
    "granularity-reversal": (0.3, 0.12),
    "brain-damage-groups": (0.55, 0.1),
    "inbound-pruning": (0.6, 0.05),
    "thinet": (0.4, 0.1),
    "channel-lasso": (0.4, 0.08),
    "structured-sparsity": (0.3, 0.05),
}


@pytest.mark.slow
@pytest.mark.parametrize("stem", BUDGETS)
def test_a_quick_recipe_reaches_its_budget(stem: str) -> None:
    torch.set_num_threads(1)
    recipe = load_recipe(SHIPPED / f"{stem}.quick.toml")
    assert recipe.model is not None
    data = load_dataset("digits", recipe.data_options, seed=recipe.seed)
    done = compress(load_model(recipe.model).graph, recipe, data)
    bytes_left, loss = BUDGETS[stem]
    assert done.payload_bytes < bytes_left * done.original_bytes
    assert done.passes[-1].accuracy_after > done.passes[0].accuracy_after - loss


@pytest.mark.parametrize("stem", BUDGETS)
def test_a_long_recipe_fits_its_network(stem: str) -> None:
    recipe = load_recipe(SHIPPED / f"{stem}.toml")
    assert recipe.model is not None
    assert recipe.passes[0].name == "train"
    names = {node.name for node in load_model(recipe.model).graph.nodes}
    for step in (*recipe.passes, *(recipe.rival.passes if recipe.rival else ())):
        told = getattr(step, "densities", {}) or getattr(step, "strength", {})
        keys = set(told) if isinstance(told, dict) else set()
        assert {*step.layers, *keys} <= names | {"all", "conv"}
