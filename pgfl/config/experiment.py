"""The whole configuration: the one place that says which keys exist and what they mean.

The Snakefile loads it once. Rules get only the part that they read, as plain values, so that
changing a setting reruns the stages that use it and no others.
"""

import functools
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError

from pgfl.config.recipe import DEFAULT_METHOD, Recipe, TrainingSettings, nested
from pgfl.datasets.own_table import read_own_table
from pgfl.datasets.registry import DATASETS, SOURCES, TRAIN_SET
from pgfl.datasets.synthetic.settings import SyntheticSettings
from pgfl.errors import UserError
from pgfl.methods import METHODS
from pgfl.nn.settings import ModelSettings
from pgfl.pose.settings import PoseSettings
from pgfl.runtime.messages import (
    LOWER_NAME,
    NAME,
    did_you_mean,
    explain,
    short_number,
)
from pgfl.runtime.settings import FilePath, Settings, merged

Archived = Literal[*SOURCES]
"""The data sets that have an archive of their own."""

SWEPT = "pgfl_kd"
"""The variant whose weights Figure 3 sweeps."""


class ArchiveSettings(Settings):
    """Where the data sets' archives come from."""

    source: Literal["synthetic", "real"] = "real"
    """`synthetic` draws small stand-ins with the real names and layouts; `real` needs yours."""
    folder: FilePath = "archives"
    """The folder in which your archives, unpacked data sets and weights are looked for."""
    files: dict[Archived, FilePath] = {}
    """Your own zip, tar or unpacked folder of a data set; wins over `folder` and `synthetic`."""
    urls: dict[str, str] = {}
    """An https address for a file name; what it delivers must have the known checksum."""


class OwnDataset(Settings):
    """A data set of the user's own."""

    table: FilePath
    """A CSV with the columns image, split, pid and, if known, camid."""
    images: FilePath = ""
    """The folder that the image names start from; empty: the table's own folder."""
    models_of: str = ""
    """The training set whose models are tested on it; empty: its own."""

    @property
    def files(self) -> tuple[Path, Path]:
        """The table, and the folder that its image names start from."""
        table = Path(self.table)
        return table, Path(self.images) if self.images else table.parent


class PartialDukeSettings(Settings):
    """How Partial-Duke is made from DukeMTMC-reID."""

    seed: int = Field(0, ge=0)
    """Decides which images are cropped. The authors' own choice was never published."""


class EvaluationSettings(Settings):
    """How test images are compared."""

    metric: Literal["cosine", "euclidean"] = "cosine"
    feature: Literal["after_bnneck", "before_bnneck"] = "after_bnneck"
    batch_size: int = Field(64, ge=1)
    protocol: Literal["multi_shot", "single_shot"] = "multi_shot"
    """`single_shot`: means over 100 random galleries of one image a person."""
    rerank: bool = False
    """Whether distances are re-ranked by k-reciprocal neighbours (k1=20, k2=6, lambda=0.3)."""


Weight = Annotated[float, Field(ge=0)]


class SweepSettings(Settings):
    """The values of Figure 3; each is one more variant, `pgfl_kd` with that weight."""

    lambda_mcl: Annotated[tuple[Weight, ...], Field(min_length=1)] = (0, 0.1, 0.25, 0.5, 1)
    lambda_cl: Annotated[tuple[Weight, ...], Field(min_length=1)] = (0, 0.1, 0.25, 0.5, 1)


class ComparisonSettings(Settings):
    """A table of one's own: some variants side by side, and their differences over the seeds."""

    variants: tuple[str, ...] = Field(min_length=2)
    """The rows, in this order."""
    against: str = ""
    """The variant that the others are compared with; empty: the first."""
    test_sets: tuple[str, ...] = ("occluded_duke",)


class StressSettings(Settings):
    """The occlusion stress test: queries are covered step by step, from each side."""

    test_sets: tuple[str, ...] = ("market1501",)
    """Each is a `results/stress_{test set}.png`; whole people show the most."""
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), min_length=1
    )
    """Of the query's area that is covered; nothing covered is always tried, too."""


class ResourceSettings(Settings):
    """What a job may take."""

    train_threads: int = Field(8, ge=1)
    """Cores of a training job, for each device."""
    pose_threads: int = Field(8, ge=1)
    workers: int = Field(4, ge=0)
    """Loader processes of a training job, for each device. Results do not depend on it."""
    devices: int = Field(1, ge=1)
    """GPUs of a training job (without a GPU: processes); they change results by rounding only."""
    train_memory: int = Field(16000, ge=1)
    """Memory of a training job in MB, for each device; as many jobs run at once as the machine has
    memory for."""
    memory: int = Field(6000, ge=1)
    """Memory of any other job that runs a network, in MB."""
    tensorboard: bool = False
    """Whether training jobs write event files for TensorBoard, to the run's `tensorboard/`."""


Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class Config(Settings):
    """Everything that `config.yaml` and the presets may hold."""

    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    experiment: Literal["demo", "study", "paper"] = "demo"
    seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    archives: ArchiveSettings = ArchiveSettings()
    synthetic: SyntheticSettings = SyntheticSettings()
    datasets: dict[Annotated[str, Field(pattern=LOWER_NAME)], OwnDataset] = {}
    """Data sets of the user's own, by name."""
    partial_duke: PartialDukeSettings = PartialDukeSettings()
    pose: PoseSettings = PoseSettings()
    poses: dict[Annotated[str, Field(pattern=NAME)], dict[str, Any]] = {}
    """Other readings of the pose, by name: overlays over `pose`, used by `training.pose`."""
    methods: dict[str, dict[str, Any]] = {}
    """Settings of a method that hold for all of its variants, by the method's name."""
    variants: dict[Annotated[str, Field(pattern=NAME)], dict[str, Any]] = {}
    """What is trained, by name (a folder's name, too): `method`, what is other than in `model` and
    `training`, and settings of the method."""
    peers: tuple[str, ...] = ()
    """Variants of other methods that stand in Tables 2 to 5 beside the baseline and PGFL-KD."""
    sweeps: SweepSettings = SweepSettings()
    comparisons: dict[Annotated[str, Field(pattern=NAME)], ComparisonSettings] = {}
    """Tables of the user's own, by name: `results/compare_{name}.csv`."""
    evaluation: EvaluationSettings = EvaluationSettings()
    stress: StressSettings = StressSettings()
    resources: ResourceSettings = ResourceSettings()
    _poses: dict[str, PoseSettings] = PrivateAttr(default_factory=dict)
    _wrong_poses: list[str] = PrivateAttr(default_factory=list)
    _recipes: dict[str, Recipe] = PrivateAttr(default_factory=dict)
    _wrong_variants: list[str] = PrivateAttr(default_factory=list)
    _clashes: list[tuple[str, str]] = PrivateAttr(default_factory=list)

    def model_post_init(self, context: Any) -> None:
        """Resolve every pose and variant now; what is wrong is kept for `parse` to raise."""
        for name, overlay in self.poses.items():
            try:
                values = merged(self.pose.model_dump(), overlay)
                self._poses[name] = PoseSettings.model_validate(values)
            except ValidationError as error:
                self._wrong_poses.extend(explain(PoseSettings, error, f"poses.{name}"))
        common = self.model_dump(include={"model", "training"})
        used = {overlay.get("method", DEFAULT_METHOD) for overlay in self.variants.values()}
        bases = {}
        for method in sorted({*self.methods, *used.intersection(METHODS)}):
            base = common | {"method": method, "settings": self.methods.get(method, {})}
            if self._parsed(base, f"methods.{method}") is not None:
                bases[method] = base
        for name, overlay in self.variants.items():
            method = overlay.get("method", DEFAULT_METHOD)
            if method in METHODS and method not in bases:
                continue  # what is wrong with all variants of a method is said once
            values = merged(bases.get(method, common), nested(overlay))
            recipe = self._parsed(values, f"variants.{name}")
            if recipe is not None:
                self._recipes[name] = recipe
        if SWEPT in self._recipes:
            self._add_sweeps()

    def _parsed(self, values: dict[str, Any], where: str) -> Recipe | None:
        """A recipe; what is wrong with it is kept."""
        try:
            return Recipe.parse(values, where)
        except UserError as error:
            self._wrong_variants.append(str(error))
            return None

    @property
    def shipped(self) -> set[str]:
        """Names of the data sets that are not the user's own."""
        return set(TRAIN_SET)

    @property
    def wrong_poses(self) -> list[str]:
        """What is wrong with poses: one line a finding."""
        return self._wrong_poses

    @property
    def pose_readings(self) -> dict[str, PoseSettings]:
        """Every pose that is in order: the experiment's own under "", then those of `poses`."""
        return {"": self.pose, **self._poses}

    @property
    def wrong_variants(self) -> list[str]:
        """What is wrong with variants: one line a finding."""
        return self._wrong_variants

    @property
    def recipes(self) -> dict[str, Recipe]:
        """The recipe of every variant that is in order."""
        return self._recipes

    @property
    def clashes(self) -> list[tuple[str, str]]:
        """Sweeps that would give a name to another variant than the one that has it."""
        return self._clashes

    def _add_sweeps(self) -> None:
        """Every value of a sweep is a variant like any other."""
        for parameter in SweepSettings.model_fields:
            for value, name in self.sweep(parameter).items():
                recipe = self._swept(parameter, value)
                if self._recipes.setdefault(name, recipe) != recipe:
                    self._clashes.append((parameter, name))

    def _swept(self, parameter: str, value: float) -> Recipe:
        swept = self.recipe(SWEPT)
        settings = swept.settings.model_copy(update={parameter: value})
        return swept.model_copy(update={"settings": settings})

    def sweep(self, parameter: str) -> dict[float, str]:
        """The variant for each value of a sweep, ascending.

        A value whose recipe a variant has already is that variant, so that it is trained once:
        `pgfl_kd` itself, and Model 5 where the consistency loss has no weight.

        Raises:
            UserError: there is no `pgfl_kd`.
        """
        found = {}
        for value in sorted(set(getattr(self.sweeps, parameter))):
            recipe = self._swept(parameter, value)
            same = (n for n in (SWEPT, *self.variants) if self._recipes.get(n) == recipe)
            found[value] = next(same, f"{SWEPT}-{parameter}-{short_number(value)}")
        return found

    @property
    def variant_names(self) -> list[str]:
        """All variants, those of the sweeps among them."""
        return list(self._recipes)

    def recipe(self, variant: str) -> Recipe:
        """The complete settings of a variant.

        Raises:
            UserError: there is no such variant.
        """
        if variant not in self._recipes:
            hint = did_you_mean(variant, self._recipes)
            raise UserError(f"variant {variant!r} is not in the configuration; {hint}")
        return self._recipes[variant]

    def trained_on(self, test_set: str) -> str:
        """The training set of the models that a test set is evaluated with."""
        own = self.datasets.get(test_set)
        return TRAIN_SET[test_set] if own is None else own.models_of or test_set

    @property
    def train_sets(self) -> set[str]:
        """Names of the data sets that models can be trained on."""
        own = {name for name, dataset in self.datasets.items() if not dataset.models_of}
        return own | set(TRAIN_SET.values())

    @property
    def test_sets(self) -> set[str]:
        """Names of the data sets that models can be tested on."""
        return set(self.datasets) | set(TRAIN_SET)

    def train_identities(self, train_set: str) -> int | None:
        """Identities to train on; None where only the archive or table itself can tell."""
        if train_set in self.datasets:
            return None
        if self.is_synthetic(train_set):
            return self.synthetic.train_identities
        if _archive_of(train_set) in self.archives.files:
            return None
        return DATASETS[train_set].published.counts["train"].identities

    def check_batches(self, variant: str, train_set: str) -> None:
        """Prove that a training set can fill a variant's batches, as far as it can be known yet.

        Raises:
            UserError: it has too few identities, or none to train on.
        """
        needed = self.recipe(variant).training.identities
        found = self.train_identities(train_set)
        if train_set in self.datasets:
            found = identities_in(Path(self.datasets[train_set].table))
        if found == 0:
            known = ", ".join(sorted(self.train_sets - {train_set}))
            raise UserError(
                f"setting datasets.{train_set}.models_of: {self.datasets[train_set].table} has no "
                f"rows of split train; name the set whose models are tested on it: {known}"
            )
        if found is not None and needed > found:
            raise UserError(
                f"setting training.identities: must be at most {found}, the identities that "
                f"{train_set} has to train on (got {needed} for {variant})"
            )

    @property
    def results(self) -> str:
        """The folder of the deliverables: the study's tables lie apart."""
        return "results/study" if self.experiment == "study" else "results"

    def is_synthetic(self, dataset: str) -> bool:
        """Whether the archive that a data set comes from is drawn by us."""
        if dataset in self.datasets:
            return False
        brought = _archive_of(dataset) in self.archives.files
        return self.archives.source == "synthetic" and not brought

    def has_photographs(self, dataset: str) -> bool:
        """Whether a data set's images are real: its own, or those that it is made of."""
        made_of = DATASETS[dataset].images_of if dataset in DATASETS else ""
        return not all(map(self.is_synthetic, {dataset, made_of or dataset}))


def _archive_of(dataset: str) -> str:
    """The data set whose archive a shipped data set comes from: itself, where it has one."""
    return dataset if dataset in SOURCES else DATASETS[dataset].images_of


@functools.cache
def identities_in(table: Path) -> int | None:
    """Distinct pids of split train in a CSV; None where it cannot be read, as its stage says."""
    try:
        rows = read_own_table(table).rows.values()
    except (OSError, UserError):
        return None
    return len({row["pid"] for row in rows if row["split"] == "train"})
