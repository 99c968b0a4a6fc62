"""The network: a student that is kept, and pose-guided branches that only train it."""

import torch
from torch import Tensor, nn

from pgfl.images import IMAGENET_MEAN, IMAGENET_STD
from pgfl.models.bnneck import BNNeck
from pgfl.models.foreground_branch import attend, foreground_attention
from pgfl.models.part_branch import PartBranch
from pgfl.models.part_pooling import pool_parts, resize_heatmaps
from pgfl.models.resnet import build_resnet
from pgfl.recipe import NUM_PARTS, LossSettings, ModelSettings


def normalize(images: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) RGB to float (N, 3, H, W) with ImageNet's mean and deviation.

    The result is channels-last in memory, which is what the convolutions run fastest on.
    """
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(1, 3, 1, 1)
    return (images.permute(0, 3, 1, 2).float() - mean) / std


class Student(nn.Module):
    """The main branch: all that is left at test time. No pose in it."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.backbone = build_resnet(settings.backbone, settings.last_stride)
        self.channels = self.backbone.channels
        self.norm = nn.BatchNorm1d(self.channels)
        self.norm.bias.requires_grad_(False)

    def feature_map(self, images: Tensor) -> Tensor:
        """F: uint8 (N, H, W, 3) to (N, c, h, w)."""
        return self.backbone(normalize(images))

    def forward(self, images: Tensor, after_norm: bool = True) -> Tensor:
        """f_G, the matching feature: uint8 (N, H, W, 3) to float32 (N, c).

        Args:
            images: RGB crops of the training size.
            after_norm: after the BNNeck's normalisation, as BoT matches, or before it.
        """
        feature = self.feature_map(images).float().mean(dim=(2, 3))
        return self.norm(feature) if after_norm else feature


class PGFL(nn.Module):
    """Student and branches, as far as the losses of a recipe need them."""

    def __init__(self, model: ModelSettings, loss: LossSettings, identities: int):
        super().__init__()
        self.settings = model
        self.student = Student(model)
        channels = self.student.channels
        self.part_branch = PartBranch(channels, NUM_PARTS) if loss.uses_part_branch else None
        self.uses_foreground = loss.uses_foreground_branch
        # The BNNeck of f_G shares its normalisation with the student, which keeps it.
        self.necks = nn.ModuleDict(
            {feature: BNNeck(channels, identities) for feature in loss.reid_on}
        )
        self.necks["global"].norm = self.student.norm

    def forward(
        self, images: Tensor, heatmaps: Tensor | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """All features that the recipe trains or distils, and the logits of those it trains.

        Args:
            images: uint8 (N, H, W, 3).
            heatmaps: (N, 8, h', w'), each map summing to one; None if no branch needs them.

        Returns:
            Features by name, each (N, c) float32: `global` (f_G) and, where the recipe needs
            them, `part` (f_P), `fused` (f_V, Eq. 6), `foreground` (f_F, Eq. 3) and `enhanced`
            (f_E). Then identity logits (N, identities) for each feature of `reid_on`.
        """
        feature_map = self.student.feature_map(images)
        features = {"global": feature_map.float().mean(dim=(2, 3))}
        if self.part_branch is not None or self.uses_foreground:
            assert heatmaps is not None, "this recipe needs heatmaps"
            features |= self._guided(feature_map, heatmaps, features["global"])
        logits = {name: neck(features[name]) for name, neck in self.necks.items()}
        return features, logits

    def _guided(self, feature_map: Tensor, heatmaps: Tensor, f_g: Tensor) -> dict[str, Tensor]:
        """The features of the two pose-guided branches."""
        maps = resize_heatmaps(heatmaps, tuple(feature_map.shape[2:]))
        parts = pool_parts(feature_map, maps, self.settings.part_pooling)
        features = {}
        if self.part_branch is not None:
            features["part"] = self.part_branch(parts)
            features["fused"] = f_g + features["part"]
        if self.uses_foreground:
            attention = foreground_attention(
                feature_map,
                parts.mean(dim=1),
                self.settings.attention,
                self.settings.attention_temperature,
            )
            features["foreground"] = attend(feature_map, attention)
            features["enhanced"] = features["foreground"] + f_g
        return features
