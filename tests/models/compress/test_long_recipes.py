"""The shipped recipes fit the networks that they name; their quick forms run in tests/cross."""

from __future__ import annotations

import pytest
from bitwright.models.compress.methods import shipped_recipes
from bitwright.models.compress.recipe import SHIPPED, load_recipe
from bitwright.models.importers.load import load_model


@pytest.mark.parametrize("stem", sorted(shipped_recipes()))
def test_a_long_recipe_fits_its_network(stem: str) -> None:
    recipe = load_recipe(SHIPPED / f"{stem}.toml")
    assert recipe.model is not None
    assert recipe.passes[0].name == "train"
    names = {node.name for node in load_model(recipe.model).graph.nodes}
    for step in (*recipe.passes, *(step for rival in recipe.rivals for step in rival.passes)):
        told = getattr(step, "densities", {}) or getattr(step, "strength", {})
        keys = set(told) if isinstance(told, dict) else set()
        assert {layer.removeprefix("!") for layer in (*step.layers, *keys)} <= names | {
            "all",
            "conv",
            "linear",
        }
