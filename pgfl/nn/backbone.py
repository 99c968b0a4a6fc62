"""The backbones, and what stands before every one of them."""

from pathlib import Path

import torch
from torch import Tensor, nn

from pgfl.datasets.images import IMAGENET_MEAN, IMAGENET_STD
from pgfl.nn.resnet import CLASSIFIERS, ResNet, build_resnet
from pgfl.nn.settings import RESNETS, ModelSettings
from pgfl.nn.timm_backbone import TimmBackbone
from pgfl.untrusted.weights import Layout, load_foreign


class Normalize(nn.Module):
    """uint8 (N, H, W, 3) RGB to float (N, 3, H, W) with ImageNet's mean and deviation.

    The result is channels-last in memory, which is what the convolutions run fastest on.
    """

    def __init__(self):
        super().__init__()
        # Kept beside the images: a constant made in every step has a GPU wait for it.
        for name, values in {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}.items():
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Pixels to the backbone's input."""
        pixels = images.permute(0, 3, 1, 2).to(self.mean.dtype, copy=True)
        return pixels.sub_(self.mean).div_(self.std)


def build_backbone(settings: ModelSettings) -> ResNet | TimmBackbone:
    """A backbone with random weights: a module with `channels`, from (N, 3, H, W) to its map."""
    if settings.backbone in RESNETS:
        return build_resnet(settings.backbone, settings.last_stride)
    return TimmBackbone(settings.backbone, settings.last_stride)


def load_backbone(
    backbone: nn.Module, settings: ModelSettings, weights: dict[str, Tensor], path: Path
) -> None:
    """Give a backbone pretrained weights.

    Args:
        backbone: of the settings.
        settings: its settings.
        weights: a state dict of torchvision's, timm's or a ReID program's; a classifier behind the
            backbone is left out.
        path: named in messages.

    Raises:
        UserError: they do not fit, or are NaN or infinite.
    """
    layout = Layout(
        settings.backbone, tuple(IMAGENET_MEAN), tuple(IMAGENET_STD), heads=CLASSIFIERS
    )
    load_foreign(backbone, weights, path, layout)
