"""The whole configuration: the one place that says which keys exist and what they mean.

The Snakefile loads it once. Rules get only the part that they read, as plain values, so that
changing a setting reruns the stages that use it and no others.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, PrivateAttr

from pgfl.datasets.synthetic.settings import SyntheticSettings
from pgfl.errors import UserError
from pgfl.pose.settings import PoseSettings
from pgfl.recipe import Recipe
from pgfl.settings import Settings, merged

Archived = Literal[
    "market1501",
    "dukemtmc_reid",
    "occluded_duke",
    "occluded_reid",
    "partial_reid",
    "partial_ilids",
]
"""The data sets that have an archive of their own."""
Dataset = Literal[Archived, "partial_duke"]

TRAIN_SET: dict[Dataset, Dataset] = {
    "market1501": "market1501",
    "dukemtmc_reid": "dukemtmc_reid",
    "occluded_duke": "occluded_duke",
    "partial_duke": "partial_duke",
    # Test-only sets are evaluated with the models trained on Market-1501.
    "occluded_reid": "market1501",
    "partial_reid": "market1501",
    "partial_ilids": "market1501",
}
"""For each test set, the set that its models are trained on."""

MADE_FROM: dict[Dataset, Dataset] = {"partial_duke": "dukemtmc_reid"}
"""For each data set without an archive, the one whose images it is made from."""

SWEPT = "pgfl_kd"
"""The variant whose weights Figure 3 sweeps."""

VARIANT_NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]*$"

WORKFLOW = Path(__file__).resolve().parent.parent / "workflow"


class ArchiveSettings(Settings):
    """Where the data sets' archives come from."""

    source: Literal["synthetic", "real"] = "real"
    """`synthetic` draws small stand-ins with the real names and layouts; `real` needs yours."""
    folder: str = "archives"
    """The folder in which your copies of archives and weights are looked for."""
    files: dict[Archived, str] = {}
    """A file of your own for one data set; wins over `folder` and over `source: synthetic`."""
    urls: dict[str, str] = {}
    """An https address for a file name; what it delivers must have the known checksum."""


class OwnDataset(Settings):
    """A data set of the user's own."""

    table: str
    """A CSV with the columns image, split, pid and, if known, camid."""
    images: str = ""
    """The folder that the image names start from; empty: the table's own folder."""
    models_of: str = ""
    """The training set whose models are tested on it; empty: its own."""


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


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class SweepSettings(Settings):
    """The values of Figure 3; each is one more variant, `pgfl_kd` with that weight."""

    lambda_mcl: tuple[Weight, ...] = (0, 0.1, 0.25, 0.5, 1)
    lambda_cl: tuple[Weight, ...] = (0, 0.1, 0.25, 0.5, 1)


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
    pose_threads: int = Field(8, ge=1)
    workers: int = Field(4, ge=0)
    """Loader processes of a training job, for each device. Results do not depend on it."""
    devices: int = Field(1, ge=1)
    """GPUs of a training job (without a GPU: processes); they change results by rounding only."""
    train_memory: int = Field(16000, ge=1)
    """Memory of a training job in MB; as many jobs run at once as the machine has memory for."""
    memory: int = Field(6000, ge=1)
    """Memory of any other job that runs a network, in MB."""
    tensorboard: bool = False
    """Whether training jobs write event files for TensorBoard, to the run's `tensorboard/`."""


class Config(Recipe):
    """Everything that `config.yaml` and the presets may hold."""

    experiment: Literal["demo", "study", "paper"] = "demo"
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    archives: ArchiveSettings = ArchiveSettings()
    synthetic: SyntheticSettings = SyntheticSettings()
    datasets: dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")], OwnDataset] = {}
    """Data sets of the user's own, by name."""
    partial_duke: PartialDukeSettings = PartialDukeSettings()
    pose: PoseSettings = PoseSettings()
    variants: dict[Annotated[str, Field(pattern=VARIANT_NAME)], dict[str, Any]] = {}
    """Named overlays over `model`, `loss` and `training`; a name is a folder's name, too."""
    sweeps: SweepSettings = SweepSettings()
    comparisons: dict[Annotated[str, Field(pattern=VARIANT_NAME)], ComparisonSettings] = {}
    """Tables of the user's own, by name: `results/compare_{name}.csv`."""
    evaluation: EvaluationSettings = EvaluationSettings()
    stress: StressSettings = StressSettings()
    resources: ResourceSettings = ResourceSettings()
    _recipes: dict[str, Recipe] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any) -> None:
        """Resolve every variant now, so that a wrong one is found before anything runs."""
        if taken := sorted(self.datasets.keys() & TRAIN_SET.keys()):
            raise UserError(f"setting datasets.{taken[0]}: the name is taken; choose another")
        for name, own in self.datasets.items():
            if own.models_of and own.models_of not in self.train_sets:
                known = ", ".join(sorted(self.train_sets))
                raise UserError(
                    f"setting datasets.{name}.models_of: nothing is trained on "
                    f"{own.models_of!r}; known: {known}"
                )
        base = self.model_dump(include=set(Recipe.model_fields))
        for name, overlay in self.variants.items():
            recipe = Recipe.parse(merged(base, overlay), f"variants.{name}")
            self._recipes[name] = recipe
        if SWEPT in self._recipes:
            self._add_sweeps()
        if unknown := [name for name in self.stress.test_sets if name not in self.test_sets]:
            known = ", ".join(sorted(self.test_sets))
            raise UserError(f"setting stress.test_sets: no {unknown[0]!r}; known: {known}")
        for name, comparison in self.comparisons.items():
            self._check_comparison(f"comparisons.{name}", comparison)

    def _check_comparison(self, where: str, comparison: ComparisonSettings) -> None:
        allowed = {
            "variants": (comparison.variants, self._recipes),
            "test_sets": (comparison.test_sets, self.test_sets),
            "against": ((comparison.against or comparison.variants[0],), comparison.variants),
        }
        for setting, (given, known) in allowed.items():
            if unknown := [name for name in given if name not in known]:
                raise UserError(
                    f"setting {where}.{setting}: no {unknown[0]!r}; known: "
                    f"{', '.join(sorted(known))}"
                )
            if len(set(given)) < len(given):
                raise UserError(f"setting {where}.{setting}: holds a name twice")

    def _add_sweeps(self) -> None:
        """Every value of a sweep is a variant like any other."""
        for parameter in SweepSettings.model_fields:
            if not getattr(self.sweeps, parameter):
                raise UserError(f"setting sweeps.{parameter}: must hold at least one value")
            for value, name in self.sweep(parameter).items():
                recipe = self._swept(parameter, value)
                if self._recipes.setdefault(name, recipe) != recipe:
                    raise UserError(
                        f"setting variants.{name}: sweeps.{parameter} makes a variant of that "
                        "name; choose another"
                    )

    def _swept(self, parameter: str, value: float) -> Recipe:
        swept = self.recipe(SWEPT)
        loss = swept.loss.model_copy(update={parameter: value})
        return swept.model_copy(update={"loss": loss})

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
            same = (name for name in (SWEPT, *self.variants) if self._recipes[name] == recipe)
            found[value] = next(same, f"{SWEPT}-{parameter}-{_short(value)}")
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
            known = ", ".join(sorted(self._recipes))
            raise UserError(f"variant {variant!r} is not in the configuration; known: {known}")
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

    @property
    def results(self) -> str:
        """The folder of the deliverables: the study's tables lie apart."""
        return "results/study" if self.experiment == "study" else "results"

    def is_synthetic(self, dataset: str) -> bool:
        """Whether the archive that a data set comes from is drawn by us."""
        archived = MADE_FROM.get(dataset, dataset)
        return self.archives.source == "synthetic" and archived not in self.archives.files


def _short(value: float) -> str:
    """A number as it is written in a file's name: 0.25, 1, 1e-05."""
    return repr(float(value)).removesuffix(".0")


def load_config(user: dict[str, Any], workflow: Path = WORKFLOW) -> Config:
    """The paper's variants, then a preset, then the user's own settings over both.

    Args:
        user: what `config.yaml` holds; its `experiment` names the preset.
        workflow: the folder with `variants.yaml` and `experiments/`.

    Raises:
        UserError: an unknown experiment, an unknown key, a wrong value; one line each.
    """
    experiment = user.get("experiment", "demo")
    presets = workflow / "experiments"
    preset = presets / f"{experiment}.yaml"
    if not isinstance(experiment, str) or not preset.is_file():
        known = ", ".join(sorted(path.stem for path in presets.glob("*.yaml")))
        raise UserError(f"setting experiment: no experiment {experiment!r}; known: {known}")
    base = merged(read_yaml(workflow / "variants.yaml"), read_yaml(preset))
    return Config.parse(merged(base, user))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        UserError: no such file, not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold settings as 'key: value'")
    return content
