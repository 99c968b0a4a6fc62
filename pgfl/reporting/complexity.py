"""What matching costs: multiply-accumulates (MACs) and parameters of what runs at test time."""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pgfl.config.recipe import Recipe
from pgfl.networks.build import backbone_of, build_network, matcher_of
from pgfl.pose.hrnet import PoseNetwork
from pgfl.pose.keypoints import PARTS
from pgfl.pose.settings import PoseSettings
from pgfl.pose.views import STRIDE, input_size


@dataclass(frozen=True)
class Complexity:
    """The cost of one image."""

    macs: int
    """Multiply-accumulates of convolutions and matrix products; the rest is not counted."""
    parameters: int
    """Numbers learnt, of the modules that ran."""

    def __add__(self, other: Self) -> "Complexity":
        return Complexity(self.macs + other.macs, self.parameters + other.parameters)


def measure(module: nn.Module, *inputs: Any) -> Complexity:
    """Run a module once and count.

    Only modules that run count: a classifier that matching leaves aside is free.

    Args:
        module: in evaluation mode.
        inputs: of one image.
    """
    ran: dict[int, int] = {}

    def note(running: nn.Module, *_: object) -> None:
        for parameter in running.parameters(recurse=False):
            ran[id(parameter)] = parameter.numel()

    hooks = [part.register_forward_hook(note) for part in module.modules()]
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    # A flop counter counts the multiplication and the addition.
    return Complexity(counter.get_total_flops() // 2, sum(ran.values()))


def measure_feature(recipe: Recipe, feature: str, pose: PoseSettings) -> Complexity:
    """Matching with one feature, from the image and its ready heatmaps on.

    Args:
        recipe: of the network; its weights do not matter.
        feature: of the method's.
        pose: for the maps' size.

    Raises:
        UserError: a network of this recipe does not have the feature.
    """
    network = build_network(recipe, identities=1).eval()
    size = (pose.height // STRIDE, pose.width // STRIDE)
    maps = torch.full((1, len(PARTS), *size), 1 / (size[0] * size[1]))
    image = _image(recipe.model.height, recipe.model.width)
    return measure(matcher_of(network, recipe, feature), image, maps)


def measure_pose_network(pose: PoseSettings) -> Complexity:
    """The pose network on one image; with the flip test it runs twice."""
    network = PoseNetwork(pose.estimator)
    network.eval()  # MMPose's eval() returns nothing
    found = measure(network, _image(*input_size(pose)))
    return replace(found, macs=2 * found.macs) if pose.flip_test else found


def measure_last_stage(recipe: Recipe) -> Complexity:
    """`layer4` alone, the last stage of the student's ResNet, behind an image of its own size."""
    backbone = backbone_of(build_network(recipe, identities=1).eval(), recipe)
    inputs: list[torch.Tensor] = []
    hook = backbone.layer4.register_forward_pre_hook(lambda _, given: inputs.extend(given))
    with torch.no_grad():
        backbone(torch.zeros(1, 3, recipe.model.height, recipe.model.width))
    hook.remove()
    return measure(backbone.layer4, *inputs)


def _image(height: int, width: int) -> torch.Tensor:
    return torch.zeros(1, height, width, 3, dtype=torch.uint8)
