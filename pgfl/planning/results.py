"""What goes to `results/`: which files there are, what each is made of, and what goes without.

The Snakefile imports this, so it stays light.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pgfl.config.experiment import Config
from pgfl.datasets.registry import TRAIN_SET
from pgfl.planning.at_hand import AtHand, left_out_lines
from pgfl.planning.heatmaps import HeatmapPlan
from pgfl.reporting.paper.features import FEATURE_ROWS, FEATURE_TEST_SET
from pgfl.reporting.paper.specs import SWEPT_ON, TABLES
from pgfl.runtime.messages import short_number

PICTURE = ("png", "trace.json")
TABLE = ("csv", "md", "trace.json")
PICTURED = {"Baseline": "baseline", "PGFL-KD": "pgfl_kd"}
"""The methods side by side in pictures of single queries, and their variants."""
RUN_FILES = ("model.safetensors", "branches.safetensors", "history.csv", "provenance.json")

Files = dict[str, list[str]]
"""By method: one file per seed."""
FileTree = dict[str, Files]
"""By variant and test set: one file per seed."""


def run_folder(experiment: str, train: str, variant: str, seed: object) -> str:
    """Where a trained model and its evaluations lie."""
    return f"runs/{experiment}/{train}/{variant}/seed{seed}"


def all_paths(tree: Any) -> list[str]:
    """The files at the ends of nested dictionaries."""
    if isinstance(tree, Mapping):
        return [path for part in tree.values() for path in all_paths(part)]
    return list(tree)


@dataclass(frozen=True)
class Results:
    """The results of an experiment; all files are named from the workflow's folder."""

    config: Config
    at_hand: AtHand
    heatmaps: HeatmapPlan

    def run(self, train: str, variant: str, seed: object) -> str:
        """Where a trained model and its evaluations lie."""
        return run_folder(self.config.experiment, train, variant, seed)

    def feature_run(self, variant: str, seed: int) -> str:
        """The same, of the models that Tables 8 and 9 and the figures look at."""
        return self.run(TRAIN_SET[FEATURE_TEST_SET], variant, seed)

    def evaluation_inputs(
        self, train: str, variant: str, seed: object, test_set: str
    ) -> dict[str, str]:
        """What a method's own evaluation reads, by name: without a student, the whole network."""
        run, data = self.run(train, variant, seed), f"data/{self.config.experiment}/{test_set}"
        files = {
            "model": f"{run}/model.safetensors",
            "manifest": f"{data}/manifest.csv",
            "images": f"{data}/images",
        }
        method = self.config.recipe(variant).settings
        if not method.has_student:
            files["branches"] = f"{run}/branches.safetensors"
            if method.needs_heatmaps_at_test:
                files |= self.heatmaps.of_test(variant, test_set)
        return files

    # What each result is made of.

    def evaluation_files(self, variant: str, test_set: str) -> list[str]:
        """One evaluation file per seed."""
        return self.models_of(test_set, {variant: variant}, f"eval/{test_set}.json")[variant]

    def models_of(self, test_set: str, variants: Mapping[str, str], file: str) -> Files:
        """A file of each model that a test set is ranked with.

        Args:
            test_set: decides what the models are trained on.
            variants: by method.
            file: below the run's folder.
        """
        train = self.config.trained_on(test_set)
        return {
            method: [f"{self.run(train, variant, seed)}/{file}" for seed in self.config.seeds]
            for method, variant in variants.items()
        }

    def _evaluations_of(self, variants: Iterable[str], test_sets: Iterable[str]) -> FileTree:
        """Evaluation files; none where the test set is left out."""
        without = self.at_hand.left_out(test_sets)
        return {
            variant: {
                test_set: [] if test_set in without else self.evaluation_files(variant, test_set)
                for test_set in test_sets
            }
            for variant in variants
        }

    def evaluations(self, number: int) -> FileTree:
        """The evaluation files that a table of the paper is made of."""
        spec = TABLES[number].with_peers(self.config.peers)
        return self._evaluations_of(spec.reproduced.values(), spec.test_sets)

    def compared(self, name: str) -> FileTree:
        """The evaluation files of a comparison of the user's own; rows keep their order."""
        comparison = self.config.comparisons[name]
        return self._evaluations_of(comparison.variants, comparison.test_sets)

    @cached_property
    def sweeps(self) -> FileTree:
        """The evaluation files of Figure 3, by the weight and its value."""
        return {
            parameter: {
                short_number(value): self.evaluation_files(variant, SWEPT_ON)
                for value, variant in self.config.sweep(parameter).items()
            }
            for parameter in type(self.config.sweeps).model_fields
        }

    def feature_evaluations(self) -> Files:
        """The evaluation files of Table 8."""
        return {
            method: [
                f"{self.feature_run(row.variant, seed)}/eval/{FEATURE_TEST_SET}"
                f"{f'.{row.feature}' if row.needs_pose else ''}.json"
                for seed in self.config.seeds
            ]
            for method, row in FEATURE_ROWS.items()
        }

    def feature_recipes(self) -> dict[str, dict[str, Any]]:
        """What runs at test time of the variants of Table 8, however they were trained."""
        reads = {"method", "model", "settings"}
        return {
            row.variant: self.config.recipe(row.variant).model_dump(mode="json", include=reads)
            for row in FEATURE_ROWS.values()
        }

    def students(self, test_set: str = FEATURE_TEST_SET) -> Files:
        """The trained students of the pictures."""
        return self.models_of(test_set, PICTURED, "model.safetensors")

    def queries(self, test_set: str = FEATURE_TEST_SET) -> Files:
        """What became of each query, for the pictures."""
        return self.models_of(test_set, PICTURED, f"eval/{test_set}.queries.csv")

    def curves(self) -> Files:
        """The histories of the pictured models."""
        return self.models_of(FEATURE_TEST_SET, PICTURED, "history.csv")

    def other_curves(self) -> Files:
        """The histories of the ablation's other models."""
        variants = {
            variant: variant
            for number in (6, 7)
            for variant in TABLES[number].reproduced.values()
            if variant not in PICTURED.values()
        }
        return self.models_of(FEATURE_TEST_SET, variants, "history.csv")

    def diagnosed(self) -> dict[str, dict[str, Any]]:
        """The networks to look into: Table 6's and those compared on its test set, first seed."""
        variants = [
            *TABLES[6].reproduced.values(),
            *(
                name
                for comparison in self.config.comparisons.values()
                if FEATURE_TEST_SET in comparison.test_sets
                for name in comparison.variants
            ),
        ]
        return {
            variant: self._network(variant)
            for variant in dict.fromkeys(variants)
            # Others have no f_G to look at.
            if self.config.recipe(variant).student_method == "bot"
        }

    def _network(self, variant: str) -> dict[str, Any]:
        run = self.feature_run(variant, self.config.seeds[0])
        return {
            "model": f"{run}/model.safetensors",
            "branches": f"{run}/branches.safetensors",
            "heatmaps": self.heatmaps.of_training(variant, TRAIN_SET[FEATURE_TEST_SET]),
            "recipe": self.config.recipe(variant).model_dump(mode="json"),
        }

    def diagnosed_files(self) -> list[str]:
        """All files of these networks."""
        return [
            network[file]
            for network in self.diagnosed().values()
            for file in ("model", "branches", "heatmaps")
            if network[file]
        ]

    # What there is, and what goes without.

    @cached_property
    def offered(self) -> dict[str, tuple[tuple[str, ...], dict[str, str]]]:
        """Every result by its name: its kinds of file, and what it cannot be made without."""
        return {
            "table1": (TABLE, self.at_hand.cannot(TRAIN_SET, images=True)),
            **{f"table{n}": (TABLE, self._no(*TABLES[n].test_sets)) for n in TABLES},
            **{f"table{n}": (TABLE, self._no(FEATURE_TEST_SET)) for n in (8, 9)},
            "figure1": (PICTURE, self._no(FEATURE_TEST_SET)),
            "figure3": (("csv", *PICTURE), self._no(SWEPT_ON)),
            "figure4": (("csv", *PICTURE), self._no(FEATURE_TEST_SET)),
            **{
                f"compare_{name}": (("csv", "md", *PICTURE), self._no(*comparison.test_sets))
                for name, comparison in self.config.comparisons.items()
            },
            "heatmaps": (("png", "html"), self.at_hand.cannot(["occluded_duke"], images=True)),
            "partial_duke": (("png",), self.at_hand.cannot(["partial_duke"], images=True)),
            **{f"ranked_lists/{name}": (PICTURE, self._no(name)) for name in TRAIN_SET},
            "failures": (("html", "trace.json"), self._no(FEATURE_TEST_SET)),
            "visibility": (("csv", *PICTURE), self._no(FEATURE_TEST_SET)),
            "training_curves": (PICTURE, self._no(FEATURE_TEST_SET)),
            **{
                f"stress_{name}": (("csv", *PICTURE), self._no(name))
                for name in self.config.stress.test_sets
            },
        }

    def _no(self, *test_sets: str) -> dict[str, str]:
        """The missing files, where a result is of evaluations and none of them can be made."""
        return self.at_hand.cannot(test_sets)

    @cached_property
    def not_made(self) -> dict[str, dict[str, str]]:
        """The results that cannot be made, and the files that they lack."""
        return {name: missing for name, (_, missing) in self.offered.items() if missing}

    def every_file(self) -> list[str]:
        """The files of all results, of those that cannot be made, too."""
        return self._files(self.offered)

    def deliverables(self) -> list[str]:
        """What `rule all` makes and the report shows."""
        return self._files(name for name in self.offered if name not in self.not_made)

    def _files(self, names: Iterable[str]) -> list[str]:
        return [
            f"{self.config.results}/{name}.{kind}"
            for name in names
            for kind in self.offered[name][0]
        ]

    def kept(self) -> list[str]:
        """What people come back for in `runs/`.

        Asked for by name, so that what somebody deleted is noticed. Images, heatmaps and the like
        may go to free the disk; they are made again once something that has to run needs them.
        """
        shown: dict[str, Any] = {
            **{f"table{number}": self.evaluations(number) for number in TABLES},
            **{f"compare_{name}": self.compared(name) for name in self.config.comparisons},
            "figure3": self.sweeps,
            "table8": self.feature_evaluations(),
        }
        evaluated = {
            path
            for name, files in shown.items()
            if name not in self.not_made
            for path in all_paths(files)
        }
        queries = [
            path.removesuffix(".json") + ".queries.csv"
            for path in sorted(evaluated)
            # An evaluation with the pose (Table 8) has a second dot in its name, and no such file.
            if path.rpartition("/")[2].count(".") == 1
        ]
        runs = sorted({path.partition("/eval/")[0] for path in evaluated})
        return [
            *sorted(evaluated),
            *queries,
            *(f"{run}/{file}" for run in runs for file in RUN_FILES),
        ]

    @cached_property
    def uncounted(self) -> dict[str, list[str]]:
        """The data sets that Table 1 goes without, and their missing files."""
        return self.at_hand.left_out(TRAIN_SET, images=True)

    def manifests(self) -> dict[str, str]:
        """The manifests that Table 1 counts, by data set."""
        return {
            dataset: f"data/{self.config.experiment}/{dataset}/manifest.csv"
            for dataset in TRAIN_SET
            if dataset not in self.uncounted
        }

    @cached_property
    def gaps(self) -> dict[str, dict[str, list[str]]]:
        """The tables with empty cells, and whose cells they are."""
        found = {
            "table1": self.uncounted,
            **{f"table{n}": self.at_hand.left_out(spec.test_sets) for n, spec in TABLES.items()},
            **{
                f"compare_{name}": self.at_hand.left_out(comparison.test_sets)
                for name, comparison in self.config.comparisons.items()
            },
        }
        return {name: missing for name, missing in found.items() if missing}

    def left_out(self) -> list[str]:
        """The list of all that is left out, as lines."""
        datasets = {*TRAIN_SET, *(name for missing in self.gaps.values() for name in missing)}
        return self._left_out(datasets, self.not_made, self.gaps)

    def left_out_of(self, names: Iterable[str]) -> list[str]:
        """The same, as far as it concerns some results."""
        gaps = {name: self.gaps[name] for name in names if name in self.gaps}
        return self._left_out({name for missing in gaps.values() for name in missing}, (), gaps)

    def _left_out(
        self, datasets: Iterable[str], not_made: Iterable[str], gaps: Mapping[str, Iterable[str]]
    ) -> list[str]:
        lacking = {dataset: self.at_hand.of_evaluation(dataset) for dataset in datasets}
        return list(left_out_lines(lacking, not_made, dict(gaps)))
