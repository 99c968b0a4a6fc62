"""The network: a student that is kept, and pose-guided branches that only train it."""

import copy

from torch import Tensor, nn

from pgfl.methods.bot import Student
from pgfl.methods.pgfl_kd.foreground_branch import attend, foreground_attention, length_ratio
from pgfl.methods.pgfl_kd.part_branch import PartBranch
from pgfl.methods.pgfl_kd.settings import Settings
from pgfl.nn.batch import Batch, Outputs
from pgfl.nn.bnneck import BNNeck
from pgfl.nn.embedding import Embedding
from pgfl.nn.part_pooling import pool_parts, resize_heatmaps
from pgfl.pose.keypoints import PARTS


class Network(nn.Module):
    """Student and branches, as far as the losses of the settings need them."""

    def __init__(self, settings: Settings, backbone: nn.Module, identities: int):
        super().__init__()
        self.settings = settings
        self.student = Student(settings, backbone)
        channels = self.student.channels
        self.part_branch = (
            PartBranch(channels, len(PARTS), settings.part_scale)
            if settings.uses_part_branch
            else None
        )
        self.uses_foreground = settings.uses_foreground_branch
        # The BNNeck of f_G shares its normalisation with the student, which keeps it.
        self.necks = nn.ModuleDict(
            {feature: BNNeck(channels, identities) for feature in settings.reid_on}
        )
        self.necks["global"].norm = self.student.norm
        separate = settings.second_layer4 == "separate" and settings.needs_heatmaps
        self.branch_layer4 = copy.deepcopy(backbone.layer4) if separate else None

    def backbone_was_loaded(self) -> None:
        """The branches' own last stage starts from the backbone's weights, too."""
        if self.branch_layer4 is not None:
            self.branch_layer4.load_state_dict(self.student.backbone.layer4.state_dict())

    def forward(self, batch: Batch) -> Outputs:
        """All features that the settings train or distil, and the logits of those they train.

        Returns:
            Features by name, each (N, c) float32: see `features`. Then identity logits (N,
            identities) for each feature of `reid_on`.
        """
        features = self.features(batch.images, batch.heatmaps)
        logits = {name: neck(features[name]) for name, neck in self.necks.items()}
        return Outputs(features, logits)

    def embed(
        self,
        images: Tensor,
        heatmaps: Tensor | None = None,
        confidence: Tensor | None = None,
        after_norm: bool = True,
    ) -> Embedding:
        """uint8 (N, H, W, 3) to one vector per image, f_G; no pose is read."""
        return Embedding(self.student(images, after_norm))

    def features(self, images: Tensor, heatmaps: Tensor | None) -> dict[str, Tensor]:
        """The features, as far as the branches are there.

        Args:
            images: uint8 (N, H, W, 3).
            heatmaps: (N, 8, h', w'), each map summing to one; None if no branch needs them.

        Returns:
            By name, each (N, c) float32: `global` (f_G) and, where the settings need them, `part`
            (f_P), `fused` (f_V, Eq. 6), `foreground` (f_F, Eq. 3) and `enhanced` (f_E).
        """
        feature_map, branch_map = self._feature_maps(images)
        features = {"global": feature_map.mean(dim=(2, 3))}
        if self.part_branch is not None or self.uses_foreground:
            assert heatmaps is not None, "these settings need heatmaps"
            features |= self._guided(branch_map, heatmaps, features["global"])
        return features

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
