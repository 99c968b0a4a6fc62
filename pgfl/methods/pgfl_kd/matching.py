"""Matching with the other features: the pose-guided branches kept at test time (Table 8)."""

from typing import get_args

from torch import Tensor, nn

from pgfl.errors import UserError
from pgfl.methods.pgfl_kd.network import Network
from pgfl.methods.pgfl_kd.settings import Feature

FEATURES: tuple[Feature, ...] = get_args(Feature)
OF_PART_BRANCH = ("part", "fused")
OF_FOREGROUND_BRANCH = ("foreground", "enhanced")
WITH_GLOBAL = ("fused", "enhanced")
"""Sums that f_G is a part of."""


class Matcher(nn.Module):
    """Images and their maps to one of the paper's five features, and nothing else.

    A feature with a ReID loss has a BNNeck of its own, whose normalisation is applied as the
    student's is. One without (f_F and f_P of the whole method) is taken as it is.
    """

    def __init__(self, trained: Network, feature: Feature, after_norm: bool = True):
        """Take a network over; what the feature does not need is removed from it.

        The foreground branch has no weights: f_F and f_E follow from any network.

        Args:
            trained: a whole network.
            feature: which of its features; `global` is the student's own affair.
            after_norm: after the BNNeck's normalisation, where there is one, or before it.

        Raises:
            UserError: the network was trained without the feature's branch.
        """
        super().__init__()
        if feature in OF_PART_BRANCH and trained.part_branch is None:
            raise UserError(
                f"feature {feature}: this model was trained without the body-part branch; "
                "choose a variant that has it"
            )
        self.feature = feature
        neck = dict(trained.necks.items()).get(feature)
        self.norm = neck.norm if neck is not None and after_norm else None
        trained.necks.clear()
        if feature not in OF_PART_BRANCH:
            trained.part_branch = None
        trained.uses_foreground = feature in OF_FOREGROUND_BRANCH
        if trained.branch_layer4 is not None and feature not in WITH_GLOBAL:
            # Without f_G in it, the feature does not need the student's own last stage.
            trained.student.backbone.layer4 = trained.branch_layer4
            trained.branch_layer4 = None
        self.network = trained

    def forward(self, images: Tensor, heatmaps: Tensor, *_: Tensor) -> Tensor:
        """The matching feature: uint8 (N, H, W, 3) to float32 (N, c).

        Args:
            images: RGB crops of the training size.
            heatmaps: (N, 8, h', w'), each map summing to one.
        """
        feature = self.network.features(images, heatmaps)[self.feature]
        return feature if self.norm is None else self.norm(feature)
