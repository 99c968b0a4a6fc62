"""Matching with the other features: the pose-guided branches kept at test time (Table 8)."""

from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from pgfl.errors import UserError
from pgfl.files import file_hash
from pgfl.models.pgfl import PGFL
from pgfl.models.student_file import load_student, read_metadata
from pgfl.recipe import Feature, LossSettings, ModelSettings
from pgfl.weights import load_strictly, read_state

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

    def __init__(self, trained: PGFL, feature: Feature, after_norm: bool = True):
        """Take a network over; what the feature does not need is removed from it.

        The foreground branch has no weights: f_F and f_E follow from any network.

        Args:
            trained: a whole network.
            feature: which of its features.
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
        self.feature, self.after_norm = feature, after_norm
        if feature == "global":
            self.network = trained.student
            return
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

    def forward(self, images: Tensor, heatmaps: Tensor | None = None) -> Tensor:
        """The matching feature: uint8 (N, H, W, 3) to float32 (N, c).

        Args:
            images: RGB crops of the training size.
            heatmaps: (N, 8, h', w'), each map summing to one; not needed for `global`.
        """
        if self.feature == "global":
            return self.network(images, self.after_norm)
        features, _ = self.network(images, heatmaps)
        feature = features[self.feature]
        return feature if self.norm is None else self.norm(feature)


def load_trained(
    model: Path, branches: Path, loss: LossSettings | None = None
) -> tuple[PGFL, ModelSettings]:
    """The whole network of a training run, in evaluation mode, and its settings.

    Args:
        model: `model.safetensors`, the student.
        branches: `branches.safetensors` of the same run, all the rest.
        loss: what it was trained with; None where only its weights matter, which tell.

    Raises:
        UserError: a file is missing or damaged, or they are not of one run, or not of this loss.
    """
    student, settings = load_student(model)
    if branches.suffix != ".safetensors":
        raise UserError(f"{branches}: must be the branches.safetensors of a training run")
    state = read_state(branches)
    classifier = state.get("necks.global.classifier.weight")
    necks = {key.split(".")[1] for key in state if key.startswith("necks.")}
    if classifier is None or not necks <= set(FEATURES):
        raise UserError(f"{branches}: not the branches of a training run")
    if read_metadata(branches).get("student_sha256") != file_hash(model):
        raise UserError(f"{branches}: not of the run that made {model}; give the files of one run")
    if loss is None:
        loss = LossSettings(
            reid_on=tuple(feature for feature in FEATURES if feature in necks),
            # The foreground branch has no weights; whatever else is there came with the branches.
            lambda_cl=float(any(not key.startswith(("necks.", "part_branch.")) for key in state)),
            lambda_mcl=0,
        )
    network = PGFL(settings, loss, identities=len(classifier))
    # A student's file holds the normalisation of f_G's neck, which is its own.
    norm = {f"necks.global.norm.{key}": value for key, value in student.norm.state_dict().items()}
    whole = {f"student.{key}": value for key, value in student.state_dict().items()}
    load_strictly(network, whole | norm | state, branches)
    return network.eval().to(memory_format=torch.channels_last), settings
