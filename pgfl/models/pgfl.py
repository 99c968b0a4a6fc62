"""The network: a student that is kept, and pose-guided branches that only train it."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from pgfl.images import IMAGENET_MEAN, IMAGENET_STD
from pgfl.models.bnneck import BNNeck
from pgfl.models.foreground_branch import attend, foreground_attention, length_ratio
from pgfl.models.part_branch import PartBranch
from pgfl.models.part_pooling import pool_parts, resize_heatmaps
from pgfl.models.resnet import CLASSIFIERS, ResNet, build_resnet
from pgfl.models.timm_backbone import TimmBackbone
from pgfl.recipe import NUM_PARTS, RESNETS, LossSettings, ModelSettings
from pgfl.weights import Layout, load_foreign


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


class Student(nn.Module):
    """The main branch: all that is left at test time. No pose in it."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.normalize = Normalize()
        self.backbone = build_backbone(settings)
        self.channels = self.backbone.channels
        self.norm = nn.BatchNorm1d(self.channels)
        self.norm.bias.requires_grad_(False)

    def feature_map(self, images: Tensor) -> Tensor:
        """F: uint8 (N, H, W, 3) to (N, c, h, w)."""
        return self.backbone(self.normalize(images))

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
        self.part_branch = (
            PartBranch(channels, NUM_PARTS, model.part_scale) if loss.uses_part_branch else None
        )
        self.uses_foreground = loss.uses_foreground_branch
        # The BNNeck of f_G shares its normalisation with the student, which keeps it.
        self.necks = nn.ModuleDict(
            {feature: BNNeck(channels, identities) for feature in loss.reid_on}
        )
        self.necks["global"].norm = self.student.norm
        separate = model.second_layer4 == "separate" and loss.uses_heatmaps
        self.branch_layer4 = copy.deepcopy(self.student.backbone.layer4) if separate else None

    def start_from(self, weights: dict[str, Tensor], path: Path) -> None:
        """Take a backbone's weights, for the branches' own last stage too.

        Args:
            weights: a state dict of torchvision's, timm's or a ReID program's; a classifier
                behind the backbone is left out.
            path: named in messages.

        Raises:
            UserError: they do not fit, or are NaN or infinite.
        """
        layout = Layout(
            self.settings.backbone, tuple(IMAGENET_MEAN), tuple(IMAGENET_STD), heads=CLASSIFIERS
        )
        load_foreign(self.student.backbone, weights, path, layout)
        if self.branch_layer4 is not None:
            self.branch_layer4.load_state_dict(self.student.backbone.layer4.state_dict())

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
        feature_map, branch_map = self._feature_maps(images)
        features = {"global": feature_map.mean(dim=(2, 3))}
        if self.part_branch is not None or self.uses_foreground:
            assert heatmaps is not None, "this recipe needs heatmaps"
            features |= self._guided(branch_map, heatmaps, features["global"])
        logits = {name: neck(features[name]) for name, neck in self.necks.items()}
        return features, logits

    def _feature_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """F for the student and for the branches, float32: one, unless these have a layer4."""
        if self.branch_layer4 is None:
            feature_map = self.student.feature_map(images).float()
            return feature_map, feature_map
        backbone = self.student.backbone
        shared = backbone.before_layer4(self.student.normalize(images))
        return backbone.layer4(shared).float(), self.branch_layer4(shared).float()

    def _guided(self, feature_map: Tensor, heatmaps: Tensor, f_g: Tensor) -> dict[str, Tensor]:
        """The features of the two pose-guided branches."""
        maps, parts = self._parts(feature_map, heatmaps)
        features = {}
        if self.part_branch is not None:
            features["part"] = self.part_branch(parts)
            features["fused"] = f_g + features["part"]
        if self.uses_foreground:
            attention = self._attention(feature_map, maps, parts)
            features["foreground"] = f_f = attend(feature_map, attention)
            if self.settings.foreground_scale == "matched":
                f_f = f_f * length_ratio(f_g, f_f)
            features["enhanced"] = f_f + f_g
        return features

    def _parts(self, feature_map: Tensor, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """The maps at the feature map's size, and Eq. 1's part features f_{l,k}."""
        maps = resize_heatmaps(heatmaps, tuple(feature_map.shape[2:]))
        return maps, pool_parts(feature_map, maps, self.settings.part_pooling)

    def attention(self, images: Tensor, heatmaps: Tensor) -> Tensor:
        """Where Eq. 2 looks, to be looked at: (N, h, w), each summing to one.

        Args:
            images: uint8 (N, H, W, 3).
            heatmaps: (N, 8, h', w'), each map summing to one.
        """
        _, feature_map = self._feature_maps(images)
        maps, parts = self._parts(feature_map, heatmaps)
        return self._attention(feature_map, maps, parts)

    def _attention(self, feature_map: Tensor, maps: Tensor, parts: Tensor) -> Tensor:
        settings = self.settings
        if settings.attention == "maps":
            return maps.mean(dim=1)
        query = parts.mean(dim=1)
        if settings.attention == "centred" and settings.part_pooling == "mean":
            # What it is compared with, less their mean, are positions: f_L has to be as large.
            query = query * feature_map[0, 0].numel()
        return foreground_attention(
            feature_map, query, settings.attention, settings.attention_temperature
        )
