"""From a recipe to its network: the one place that imports methods."""

from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pgfl.config.recipe import Recipe
from pgfl.errors import UserError
from pgfl.losses import extra_module
from pgfl.methods.settings import module_name
from pgfl.nn.backbone import build_backbone
from pgfl.nn.batch import blank_batch
from pgfl.nn.embedding import Embedding


def method_module(method: str) -> ModuleType:
    """The module of a method, imported now.

    Raises:
        UserError: there is no such method.
    """
    return import_module(module_name(method))


def build_network(recipe: Recipe, identities: int) -> nn.Module:
    """The network of a recipe with random weights.

    Raises:
        UserError: the backbone does not fit the method.
    """
    backbone = build_backbone(recipe.model)
    return method_module(recipe.method).Network(recipe.settings, backbone, identities)


def build_extra_losses(recipe: Recipe, network: nn.Module, identities: int) -> nn.ModuleDict:
    """The losses that a recipe has beside its method's own: by name, freshly initialised.

    Raises:
        UserError: there is no such loss, or the method has no feature for it.
    """
    if not recipe.extra_losses:
        return nn.ModuleDict()
    was_training = network.training
    network.eval()
    with torch.no_grad():
        features, logits = network(blank_batch(recipe.model.height, recipe.model.width))
    network.train(was_training)
    channels = {name: features[name].shape[1] for name in logits if name in features}
    if not channels:
        raise UserError(f"setting losses: {recipe.method} has no feature with identity logits")
    return nn.ModuleDict(
        {
            name: import_module(extra_module(name)).Extra(identities, channels)
            for name in recipe.extra_losses
        }
    )


def matcher_of(network: nn.Module, recipe: Recipe, feature: str, after_norm: bool = True) -> Any:
    """Images and their maps to what is matched with: a feature of the method (Table 8), or all.

    Args:
        network: of the recipe; what the feature does not need is removed from it.
        recipe: its recipe.
        feature: one of the method's `FEATURES`; `global` is what the method itself matches with,
            the student's vector or, without a student, all that the network's `embed` gives.
        after_norm: after the BNNeck's normalisation, where there is one, or before it.

    Returns:
        A module that gives (N, c) or an `Embedding`.

    Raises:
        UserError: the method, or the network, has no such feature.
    """
    module = method_module(recipe.method)
    known = getattr(module, "FEATURES", ("global",))
    if feature not in known:
        raise UserError(f"{recipe.method} has no feature {feature!r}; known: {', '.join(known)}")
    if feature == "global":
        student = student_of(network, recipe)
        if student is None:
            return WholeMatcher(network, after_norm)
        return GlobalMatcher(student, after_norm)
    return module.Matcher(network, feature, after_norm)


class GlobalMatcher(nn.Module):
    """The student's own feature, where the others are compared with it; the pose is not read."""

    def __init__(self, student: nn.Module, after_norm: bool):
        super().__init__()
        self.student, self.after_norm = student, after_norm

    def forward(self, images: Tensor, *_: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) to float32 (N, c)."""
        return self.student(images, self.after_norm)


class WholeMatcher(nn.Module):
    """What a method without a student matches with."""

    def __init__(self, network: nn.Module, after_norm: bool):
        super().__init__()
        self.network, self.after_norm = network, after_norm

    def forward(
        self, images: Tensor, heatmaps: Tensor | None = None, confidence: Tensor | None = None
    ) -> Embedding:
        """uint8 (N, H, W, 3); maps (N, 8, h, w) and confidence (N, 8) where they are needed."""
        return self.network.embed(images, heatmaps, confidence, self.after_norm)


def student_of(network: nn.Module, recipe: Recipe) -> nn.Module | None:
    """The pose-free network of one vector per image that a method leaves behind, if any."""
    if not recipe.settings.has_student:
        return None
    return method_module(recipe.method).student(network)


def backbone_of(network: nn.Module, recipe: Recipe) -> nn.Module:
    """The backbone: the student's, or the network's own where there is no student."""
    return (student_of(network, recipe) or network).backbone
