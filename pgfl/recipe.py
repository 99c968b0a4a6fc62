"""The recipe: everything that decides what a training run computes."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pgfl.explain import shown
from pgfl.settings import Settings

Feature = Literal["global", "part", "fused", "foreground", "enhanced"]
"""The paper's five: f_G, f_P (SAB), f_V = f_G + f_P, f_F (Eq. 3), f_E = f_F + f_G."""

NUM_PARTS = 8

BRANCH_CODE = frozenset(
    {"pgfl.models.part_branch", "pgfl.models.foreground_branch", "pgfl.models.part_pooling"}
)
"""Modules that only training with pose runs: the student is free of them."""

RESNETS = ("resnet18", "resnet50")
TIMM = "timm:"
BACKBONE = rf"^({'|'.join(RESNETS)}|{TIMM}[A-Za-z0-9_.-]{{1,100}})$"


class ModelSettings(Settings):
    """The network."""

    backbone: str = Field("resnet50", json_schema_extra={"pattern": BACKBONE})
    """`resnet18`, `resnet50`, or `timm:NAME` for a network of the optional package timm."""
    pretrained: bool = True
    """Start from ImageNet weights: torchvision's (a file or download, checked), or timm's own."""
    last_stride: Literal[1, 2] = 1
    """Stride of the last stage; 1 gives the paper's 24x8 map at 384x128."""
    second_layer4: Literal["shared", "separate"] = "separate"
    """`separate`: the pose branches get a last stage of their own, as Table 8's counts allow; the
    student keeps the other. `shared`: one for all, and cheaper training."""
    height: int = Field(384, ge=32, le=4096, multiple_of=16)
    """Input height in pixels."""
    width: int = Field(128, ge=16, le=4096, multiple_of=16)
    """Input width in pixels."""
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

    @field_validator("backbone")
    @classmethod
    def _known_backbone(cls, name: str) -> str:
        if not re.fullmatch(BACKBONE, name):
            allowed = f"one of {', '.join(RESNETS)}, or {TIMM} and a network's name in timm"
            raise ValueError(f"must be {allowed} (got {shown(name)})")
        return name

    @model_validator(mode="after")
    def _only_a_resnet_has_a_layer4(self) -> "ModelSettings":
        if self.second_layer4 == "separate" and self.backbone not in RESNETS:
            raise ValueError(
                f"second_layer4: separate needs a backbone of {', '.join(RESNETS)} "
                f"(got {self.backbone}); set it to shared"
            )
        return self

    @property
    def weights_file(self) -> bool:
        """Whether training starts from a file of ImageNet weights; timm brings its own."""
        return self.pretrained and self.backbone in RESNETS

    @model_validator(mode="after")
    def _dot_needs_mean(self) -> "ModelSettings":
        if self.attention == "dot" and self.part_pooling == "sum":
            raise ValueError(
                "attention: dot needs part_pooling: mean (the softmax of a dot product with "
                "sum-pooled features is one-hot)"
            )
        return self


class LossSettings(Settings):
    """The terms of Eq. 10."""

    reid_on: tuple[Feature, ...] = ("global", "enhanced", "fused")
    """The features that get an identity loss and a triplet loss of their own."""
    global_weight: float = Field(1.0, gt=0)
    """Weight of f_G's two beside the other terms."""
    lambda_cl: float = Field(0.25, ge=0)
    """Weight of the consistency loss (Eq. 4); 0 turns it off."""
    lambda_mcl: float = Field(0.25, ge=0)
    """Weight of the multi-part contrastive loss (Eq. 5); 0 turns it off."""
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
    def _global_is_trained(self) -> "LossSettings":
        if "global" not in self.reid_on:
            raise ValueError("reid_on: must hold 'global', the feature that is matched with")
        if len(set(self.reid_on)) != len(self.reid_on):
            raise ValueError(f"reid_on: names a feature twice (got {', '.join(self.reid_on)})")
        return self

    @model_validator(mode="after")
    def _the_part_branch_is_trained(self) -> "LossSettings":
        # Eq. 5 itself gives its teacher no gradient: f_P would stay as it was initialised.
        if self.lambda_mcl > 0 and not self.uses_part_branch:
            raise ValueError(
                "lambda_mcl: needs 'part' or 'fused' in reid_on, or nothing trains f_P; "
                "set it to 0, or add one"
            )
        return self

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
    def drowns_other_losses(self) -> bool:
        """Whether Eq. 4 is taken as printed: 97 % of the loss in the study, and no help."""
        return self.consistency == "literal" and self.uses_consistency

    @property
    def uses_heatmaps(self) -> bool:
        """Whether training needs the pose cache at all."""
        return self.uses_part_branch or self.uses_foreground_branch


class AugmentSettings(Settings):
    """Random changes of a training image; its heatmaps move with it."""

    flip: float = Field(0.5, ge=0, le=1)
    """Probability of a horizontal flip (columns of image and maps, left and right maps)."""
    pad: int = Field(10, ge=0)
    """Pixels of padding on every side before a random crop back to the input size."""
    erase: float = Field(0.5, ge=0, le=1)
    """Probability of random erasing."""
    erase_maps: bool = True
    """What random erasing covers of a map is spread evenly over it; else maps keep their place."""


class TrainingSettings(Settings):
    """Batches, optimiser and schedule."""

    epochs: int = Field(120, ge=1)
    identities: int = Field(4, ge=2)
    """Identities in a batch (P)."""
    images: int = Field(16, ge=2)
    """Images of each identity in a batch (K)."""
    accumulate: int = Field(1, ge=1)
    """Parts that a batch is computed in, whole identities each, to save memory."""
    learning_rate: float = Field(3.5e-4, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    milestones: tuple[Annotated[int, Field(ge=0)], ...] = (30, 70)
    """Epochs (counted from 0) at which the learning rate is multiplied by `decay`."""
    decay: float = Field(0.1, gt=0, le=1)
    warmup: int = Field(0, ge=0)
    """Epochs of linear warm-up."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` is bf16 where the processor or GPU computes it natively, else fp16 on a GPU, and fp32
    on a processor. fp16 scales the loss, so that small gradients do not become zero."""
    deterministic: Literal["strict", "warn", "off"] = "strict"
    """`strict` uses only operations that repeat bit by bit, and stops at others; `warn` names
    those; `off` takes whatever is fastest (on a GPU: cuDNN's own trials)."""
    tf32: bool = False
    """On a GPU: round the factors of fp32 products and convolutions to 10 bits; this is faster."""
    compile: bool = False
    """torch.compile the network; needs a C++ compiler, and results differ by rounding."""
    heatmaps: Literal["estimated", "shuffled", "flat", "true"] = "estimated"
    """Controls for studies: `shuffled` gives each image another image's maps, `flat` maps that are
    the same everywhere (no pose at all), `true` stands for maps drawn from known joints."""
    pose: str = ""
    """The name below `poses` of the pose that gives the maps; empty: the experiment's own."""
    augment: AugmentSettings = AugmentSettings()

    @model_validator(mode="after")
    def _parts_can_be_mined(self) -> "TrainingSettings":
        if self.identities % self.accumulate or self.identities < 2 * self.accumulate:
            raise ValueError(
                f"accumulate: must divide identities: {self.identities} and leave at least 2 in "
                f"each part (got {self.accumulate})"
            )
        return self


class Recipe(Settings):
    """All settings of one training run; a variant overlays some of them."""

    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _the_branches_are_trained(self) -> "Recipe":
        # Eq. 4 gives its teacher no gradient: a last stage of its own would stay as it began.
        separate = self.model.second_layer4 == "separate" and self.loss.uses_heatmaps
        if separate and self.loss.reid_on == ("global",):
            raise ValueError(
                "second_layer4: separate needs a feature besides 'global' in reid_on, or nothing "
                "trains the branches' last stage; add 'enhanced', or set it to shared"
            )
        return self

    def as_trained(self) -> "Recipe":
        """The recipe with the settings that its training never reads set back to their defaults.

        Recipes that differ in such settings only train the same, and this makes them equal.
        """
        model, loss = self.model, self.loss
        cosine = loss.uses_foreground_branch and model.attention in ("cosine", "centred")
        read = {
            "model": {
                "part_pooling": loss.uses_heatmaps,
                "second_layer4": loss.uses_heatmaps,
                "part_scale": loss.uses_part_branch,
                "attention": loss.uses_foreground_branch,
                "attention_temperature": cosine,
                "foreground_scale": loss.uses_foreground_branch,
            },
            "loss": {
                "part_distillation": loss.lambda_mcl > 0,
                "consistency": loss.uses_consistency,
                "consistency_scale": loss.uses_consistency and loss.consistency == "normalized",
                "contrastive": loss.uses_contrastive,
                "contrastive_temperature": (
                    loss.uses_contrastive and loss.contrastive == "normalized"
                ),
            },
            "training": {
                "heatmaps": loss.uses_heatmaps,
                "pose": loss.uses_heatmaps,
                "augment": {
                    "erase_maps": loss.uses_heatmaps and self.training.augment.erase > 0,
                },
            },
        }
        return Recipe.model_validate(self.model_dump(exclude=_unread(read)))

    @property
    def idle_code(self) -> frozenset[str]:
        """Modules that the training imports but never runs: an edit of them changes nothing."""
        loss = self.loss
        runs = {
            "pgfl.losses.consistency": loss.uses_consistency,
            "pgfl.losses.multi_part_contrastive": loss.uses_contrastive,
            "pgfl.models.part_branch": loss.uses_part_branch,
            "pgfl.models.foreground_branch": loss.uses_foreground_branch,
            "pgfl.models.part_pooling": loss.uses_heatmaps,
            "pgfl.pose.store": loss.uses_heatmaps,
            "pgfl.training.compiled": self.training.compile,
        }
        return frozenset(module for module, used in runs.items() if not used)


def _unread(read: dict[str, Any]) -> dict[str, Any]:
    """What `model_dump` has to leave out so that only what is read (a tree of booleans) stays."""
    return {
        key: _unread(value) if isinstance(value, dict) else True
        for key, value in read.items()
        if value is not True
    }
