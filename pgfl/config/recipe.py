"""The recipe: everything that decides what a training run computes."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pgfl.errors import UserError
from pgfl.losses import EXTRA, extra_module
from pgfl.methods import METHODS
from pgfl.methods.settings import MethodSettings, method_settings, module_name
from pgfl.nn.settings import ModelSettings
from pgfl.runtime.messages import did_you_mean, explain, shown
from pgfl.runtime.settings import Settings

DEFAULT_METHOD = "pgfl_kd"


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

    method: str = DEFAULT_METHOD
    """One of `pgfl.methods.METHODS`."""
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    settings: SerializeAsAny[MethodSettings] = Field(
        default_factory=lambda: method_settings(DEFAULT_METHOD, {})
    )
    """Those of the method."""
    losses: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Losses beside the method's own: names of `pgfl.losses.EXTRA`, and their weights."""

    @field_validator("losses")
    @classmethod
    def _known_losses(cls, losses: dict[str, float]) -> dict[str, float]:
        for name in losses:
            if name not in EXTRA:
                raise ValueError(f"{shown(name)}: no such loss; {did_you_mean(name, EXTRA)}")
        return losses

    @field_validator("settings", mode="before")
    @classmethod
    def _of_the_method(cls, settings: Any, info: ValidationInfo) -> Any:
        """Plain values become the settings of the method."""
        if not isinstance(settings, dict):
            return settings
        return method_settings(info.data.get("method", DEFAULT_METHOD), settings)

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # pydantic's own cannot hash a dict

    @classmethod
    def parse(cls, values: Any, where: str = "") -> Self:
        """Validate plain values, as `model_dump` gives them.

        Raises:
            UserError: one line for each wrong key, with its path and what is allowed.
        """
        if not isinstance(values, dict):
            raise UserError(f"{where or 'the settings'}: must be a mapping (got {shown(values)})")
        lines = []
        prefix = f"{where}." if where else ""
        method, own = values.get("method", DEFAULT_METHOD), values.get("settings", {})
        rest = {key: value for key, value in values.items() if key != "settings"}
        settings, recipe = None, None
        try:
            if isinstance(method, str):  # else said below
                settings = method_settings(method, own, where)
        except UserError as error:
            unknown = method not in METHODS
            lines.append(f"setting {prefix}method: {error}" if unknown else str(error))
        try:
            recipe = cls.model_validate(rest)
        except ValidationError as error:
            lines += explain(cls, error, where)
        if settings is not None and recipe is not None:
            recipe = recipe.model_copy(update={"settings": settings})
            if misfit := settings.misfit(recipe.model):
                lines.append(f"setting {prefix}{misfit}")
        if lines or recipe is None:
            raise UserError("\n".join(lines))
        return recipe

    @property
    def module(self) -> str:
        """The module of the method."""
        return module_name(self.method)

    @property
    def student_method(self) -> str:
        """The method whose student is left at test time."""
        return self.settings.student_method or self.method

    @property
    def student_module(self) -> str:
        """The module of the student: all of the method's code that matching runs."""
        return module_name(self.student_method)

    def as_trained(self) -> "Recipe":
        """The recipe with the settings that its training never reads set back to their defaults.

        Recipes that differ in such settings only train the same, and this makes them equal.
        """
        training = self.training
        if not self.settings.needs_heatmaps:
            training = training.model_copy(update={"heatmaps": "estimated", "pose": ""})
        if not self.settings.needs_heatmaps or training.augment.erase == 0:
            erase_maps = AugmentSettings.model_fields["erase_maps"].default
            augment = training.augment.model_copy(update={"erase_maps": erase_maps})
            training = training.model_copy(update={"augment": augment})
        settings = self.settings.as_trained()
        return self.model_copy(
            update={"training": training, "settings": settings, "losses": self.extra_losses}
        )

    @property
    def extra_losses(self) -> dict[str, float]:
        """The losses beside the method's own that have a weight, sorted by their names."""
        return {name: weight for name, weight in sorted(self.losses.items()) if weight}

    @property
    def code(self) -> tuple[str, ...]:
        """Modules that training imports by name: of the method, and of the extra losses."""
        return (self.module, *map(extra_module, self.extra_losses))

    @property
    def idle_code(self) -> frozenset[str]:
        """Modules that the training imports but never runs: an edit of them changes nothing."""
        runs = {
            "pgfl.pose.store": self.settings.needs_heatmaps,
            "pgfl.training.compiled": self.training.compile,
        }
        return self.settings.idle_code.union(module for module, used in runs.items() if not used)


SECTIONS = ("method", "model", "training", "losses")
"""The keys of a variant that are not settings of its method."""


def nested(overlay: dict[str, Any]) -> dict[str, Any]:
    """A variant as people write it, with its method's settings put below `settings`."""
    sections = {key: value for key, value in overlay.items() if key in SECTIONS}
    rest = {key: value for key, value in overlay.items() if key not in SECTIONS}
    return sections | {"settings": rest}
