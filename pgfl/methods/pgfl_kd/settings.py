"""The settings of PGFL-KD: where the paper leaves room (docs/paper-notes.md), and Eq. 10."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from pgfl.methods.settings import MethodSettings
from pgfl.nn.settings import RESNETS

if TYPE_CHECKING:
    from pgfl.nn.settings import ModelSettings

Feature = Literal["global", "part", "fused", "foreground", "enhanced"]
"""The paper's five: f_G, f_P (SAB), f_V = f_G + f_P, f_F (Eq. 3), f_E = f_F + f_G."""


class Settings(MethodSettings):
    """The branches and the terms of Eq. 10."""

    reid_on: tuple[Feature, ...] = ("global", "enhanced", "fused")
    """The features that get an identity loss and a triplet loss of their own."""
    global_weight: float = Field(1.0, gt=0)
    """Weight of f_G's two beside the other terms."""
    lambda_cl: float = Field(0.25, ge=0)
    """Weight of the consistency loss (Eq. 4); 0 turns it off."""
    lambda_mcl: float = Field(0.25, ge=0)
    """Weight of the multi-part contrastive loss (Eq. 5); 0 turns it off."""
    second_layer4: Literal["shared", "separate"] = "separate"
    """`separate`: the pose branches get a last stage of their own, as Table 8's counts allow; the
    student keeps the other. `shared`: one for all, and cheaper training."""
    part_pooling: Literal["sum", "mean"] = "sum"
    """g() of Eq. 1: `sum` is the heatmap-weighted mean, `mean` divides it by h*w as printed."""
    part_scale: Literal["as_is", "unit"] = "as_is"
    """`unit`: the part features of Eq. 1 are brought to one length before f_P is made of them."""
    attention: Literal["centred", "cosine", "dot", "maps", "uniform"] = "centred"
    """Eq. 2: `centred` as a cosine about the image's mean feature, `cosine` as the text says,
    `dot` as the formula says, `maps` the mean of the part maps, `uniform` as a control."""
    attention_temperature: float = Field(0.2, gt=0)
    """Divides the similarity before the softmax of Eq. 2 (cosine and centred only)."""
    foreground_scale: Literal["as_is", "matched"] = "as_is"
    """`matched`: in f_E = f_F + f_G, f_F is first brought to the length of f_G."""
    consistency: Literal["normalized", "mean", "literal"] = "normalized"
    """Eq. 4 on L2-normalised features, as a mean over channels, or as printed."""
    consistency_scale: float = Field(100, gt=0)
    """Multiplies Eq. 4's `normalized` form: the squared length of a feature is about that large,
    and so lambda_cl keeps the paper's range."""
    contrastive: Literal["normalized", "raw"] = "normalized"
    """Eq. 5 on L2-normalised groups with a temperature, or on raw dot products as printed."""
    contrastive_temperature: float = Field(0.1, gt=0)
    """Divides the similarities of Eq. 5 (normalized only)."""
    part_distillation: Literal["contrastive", "consistency"] = "contrastive"
    """What teaches f_G from f_P, weighted by lambda_mcl: Eq. 5, or Eq. 4's loss as in Table 7."""
    triplet_margin: float = Field(0.3, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _global_is_trained(self) -> "Settings":
        if "global" not in self.reid_on:
            raise ValueError("reid_on: must hold 'global', the feature that is matched with")
        if len(set(self.reid_on)) != len(self.reid_on):
            raise ValueError(f"reid_on: names a feature twice (got {', '.join(self.reid_on)})")
        return self

    @model_validator(mode="after")
    def _the_part_branch_is_trained(self) -> "Settings":
        # Eq. 5 itself gives its teacher no gradient: f_P would stay as it was initialised.
        if self.lambda_mcl > 0 and not self.uses_part_branch:
            raise ValueError(
                "lambda_mcl: needs 'part' or 'fused' in reid_on, or nothing trains f_P; "
                "set it to 0, or add one"
            )
        return self

    @model_validator(mode="after")
    def _the_branches_are_trained(self) -> "Settings":
        # Eq. 4 gives its teacher no gradient: a last stage of its own would stay as it began.
        separate = self.second_layer4 == "separate" and self.needs_heatmaps
        if separate and self.reid_on == ("global",):
            raise ValueError(
                "second_layer4: separate needs a feature besides 'global' in reid_on, or nothing "
                "trains the branches' last stage; add 'enhanced', or set it to shared"
            )
        return self

    @model_validator(mode="after")
    def _dot_needs_mean(self) -> "Settings":
        if self.attention == "dot" and self.part_pooling == "sum":
            raise ValueError(
                "attention: dot needs part_pooling: mean (the softmax of a dot product with "
                "sum-pooled features is one-hot)"
            )
        return self

    def misfit(self, model: "ModelSettings") -> str:
        """Only a ResNet of ours has a `layer4` to be had twice."""
        if self.second_layer4 == "separate" and model.backbone not in RESNETS:
            return (
                f"second_layer4: separate needs a backbone of {', '.join(RESNETS)} "
                f"(got {model.backbone}); set it to shared"
            )
        return ""

    @property
    def uses_part_branch(self) -> bool:
        """Whether any term needs the body-part branch (SAB); Eq. 5 never does alone."""
        return bool({"part", "fused"} & set(self.reid_on))

    @property
    def uses_foreground_branch(self) -> bool:
        """Whether any term needs the foreground branch (FEB)."""
        return bool({"foreground", "enhanced"} & set(self.reid_on)) or self.lambda_cl > 0

    @property
    def uses_consistency(self) -> bool:
        """Whether any term is the loss of Eq. 4."""
        on_parts = self.lambda_mcl > 0 and self.part_distillation == "consistency"
        return self.lambda_cl > 0 or on_parts

    @property
    def uses_contrastive(self) -> bool:
        """Whether any term is the loss of Eq. 5."""
        return self.lambda_mcl > 0 and self.part_distillation == "contrastive"

    @property
    def needs_heatmaps(self) -> bool:
        """Whether training needs the pose cache at all."""
        return self.uses_part_branch or self.uses_foreground_branch

    @property
    def student_method(self) -> str:
        """The student is the baseline's network, trained with the branches' help."""
        return "bot"

    @property
    def warning(self) -> str:
        """Eq. 4 as printed is 97 % of the loss in the study, and no help."""
        if self.consistency == "literal" and self.uses_consistency:
            return "consistency: literal drowns the other losses (docs/paper-notes.md)"
        return ""

    @property
    def idle_code(self) -> frozenset[str]:
        """The branches and losses that these settings leave out."""
        branches = "pgfl.methods.pgfl_kd"
        runs = {
            "pgfl.losses.consistency": self.uses_consistency,
            "pgfl.losses.multi_part_contrastive": self.uses_contrastive,
            f"{branches}.part_branch": self.uses_part_branch,
            f"{branches}.foreground_branch": self.uses_foreground_branch,
            "pgfl.nn.part_pooling": self.needs_heatmaps,
        }
        return frozenset(module for module, used in runs.items() if not used)

    def as_trained(self) -> "Settings":
        """The settings, those that training never reads set back to their defaults."""
        cosine = self.uses_foreground_branch and self.attention in ("cosine", "centred")
        read: dict[str, Any] = {
            "second_layer4": self.needs_heatmaps,
            "part_pooling": self.needs_heatmaps,
            "part_scale": self.uses_part_branch,
            "attention": self.uses_foreground_branch,
            "attention_temperature": cosine,
            "foreground_scale": self.uses_foreground_branch,
            "part_distillation": self.lambda_mcl > 0,
            "consistency": self.uses_consistency,
            "consistency_scale": self.uses_consistency and self.consistency == "normalized",
            "contrastive": self.uses_contrastive,
            "contrastive_temperature": self.uses_contrastive and self.contrastive == "normalized",
        }
        unread = {name for name, is_read in read.items() if not is_read}
        return type(self).model_validate(self.model_dump(exclude=unread))
