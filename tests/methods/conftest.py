import pytest
import torch

from pgfl.config.recipe import Recipe, nested
from pgfl.networks.build import build_network


@pytest.fixture
def build_method(small):
    """Builds the smallest network of a method with these settings; gives it and its recipe."""

    def build(method, **settings):
        torch.manual_seed(0)
        values = nested({"method": method} | settings) | {"model": small.model_dump()}
        recipe = Recipe.parse(values)
        return build_network(recipe, identities=5), recipe

    return build


@pytest.fixture
def confidence():
    """How sure a pose network is of each part in four images: (4, 8)."""
    return torch.rand(4, 8, generator=torch.Generator().manual_seed(2))
