"""Which heatmaps the workflow reads, which of them the user brings, and which are missing.

The Snakefile imports this, so it stays light.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pgfl.config.experiment import Config
from pgfl.datasets.registry import DATASETS, SOURCES, TRAIN_SET
from pgfl.errors import UserError
from pgfl.planning.arguments import any_of
from pgfl.pose.estimators import SMALL_WEIGHTS
from pgfl.pose.origin import is_external, stamp
from pgfl.pose.settings import EXTERNAL, PoseSettings
from pgfl.runtime.messages import few

WEIGHTS_FOLDER = "cache/weights"
"""Where the pretrained weights of every experiment lie."""
SPLITS = ("train", "query", "gallery")
DRAWN_WITH = {
    dataset: DATASETS[dataset].images_of or dataset
    for dataset in SOURCES
    if TRAIN_SET[dataset] == dataset
}
"""For each training set whose images are as drawn, the data set whose archive brings the joints.

A set without an archive alters the images that it is made from.
"""


@dataclass(frozen=True)
class HeatmapPlan:
    """The heatmap files of an experiment, named from the folder that the workflow runs in.

    A `reading` is what stands behind `heatmaps` in a folder's name: nothing for the experiment's
    own pose, `@name` for one of `poses`.
    """

    config: Config

    @cached_property
    def readings(self) -> dict[str, PoseSettings]:
        """The settings of each reading."""
        poses = self.config.pose_readings.items()
        return {f"@{name}" if name else "": pose for name, pose in poses}

    @property
    def folder(self) -> str:
        """What stands before `{reading}/{dataset}/{split}.h5`."""
        return f"cache/{self.config.experiment}/heatmaps"

    def file(self, dataset: str, split: str, reading: str = "") -> str:
        """The heatmaps of a split."""
        return f"{self.folder}{reading}/{dataset}/{split}.h5"

    @cached_property
    def files(self) -> dict[str, str]:
        """The reading of each heatmap file that the workflow knows."""
        return {
            self.file(dataset, split, reading): reading
            for reading in self.readings
            for dataset in self.config.test_sets
            for split in SPLITS
        }

    @cached_property
    def own(self) -> set[str]:
        """Files of other estimators.

        No rule makes them, so that Snakemake never deletes one: neither before a job nor after a
        failed one, nor for --forceall or --delete-all-output. What reads one checks it.
        """
        return {
            file
            for file, reading in self.files.items()
            if is_external(Path(file))
            or (self.readings[reading].estimator == EXTERNAL and Path(file).exists())
        }

    @cached_property
    def missing(self) -> set[str]:
        """What only the user can bring, and has not brought yet."""
        return {
            file
            for file, reading in self.files.items()
            if self.readings[reading].estimator == EXTERNAL and not Path(file).exists()
        }

    @property
    def made_here(self) -> str:
        """A regular expression of `{reading}` in the names of the files that rules make.

        It looks ahead at the rest of the name, so that it is no file of `own` or `missing`.
        """
        start, others = len(self.folder), self.own | self.missing
        ours = f"(?!(?:{any_of(file[start:] for file in others)})$)" if others else ""
        return f"{ours}(?:{'|'.join(map(re.escape, self.readings))})"

    def reading_of(self, variant: str) -> str:
        """The reading that a variant is trained with."""
        name = self.config.recipe(variant).training.pose
        return f"@{name}" if name else ""

    def own_stamps(self, files: Iterable[str]) -> list[str]:
        """Another value where heatmaps of the user's own among these files have other content.

        Empty without any, so that maps of ours, which are compared as a whole, change nothing.
        A rule's parameter must not make the list from `input`: Snakemake compares no such
        parameter with the last run's.
        """
        return [stamp(Path(file)) for file in files if file in self.own]

    @cached_property
    def joints_of(self) -> dict[str, str]:
        """For each training set whose images are as drawn, the archive that brings its joints."""
        return {
            dataset: SOURCES[images].name
            for dataset, images in DRAWN_WITH.items()
            if self.config.is_synthetic(images)
        }

    def of_training(self, variant: str, train: str) -> str | None:
        """The maps that a variant is trained with, or None where no branch needs any.

        Raises:
            UserError: the true maps of photographs are asked for.
        """
        recipe = self.config.recipe(variant)
        if not recipe.settings.needs_heatmaps:
            return None
        if recipe.training.heatmaps != "true":
            return self.file(train, "train", self.reading_of(variant))
        if train not in self.joints_of:
            raise UserError(
                f"variant {variant}: training.heatmaps: true needs drawn images, whose joints are "
                f"known; {train} has none"
            )
        return f"cache/{self.config.experiment}/true_heatmaps/{train}/train.h5"

    def training_inputs(self, variant: str, train: str) -> dict[str, str]:
        """The files that a variant is trained on, by name.

        Raises:
            UserError: the batches cannot be dealt, or the true maps of photographs are asked for.
        """
        self.config.check_batches(variant, train)
        data, model = f"data/{self.config.experiment}/{train}", self.config.recipe(variant).model
        files = {"manifest": f"{data}/manifest.csv", "images": f"{data}/images"}
        if heatmaps := self.of_training(variant, train):
            files["heatmaps"] = heatmaps
        if model.weights_file:
            files["pretrained"] = f"{WEIGHTS_FOLDER}/{model.backbone}.pth"
        return files

    def of_test(self, variant: str, test_set: str) -> dict[str, str]:
        """The maps that a variant is matched with, by split."""
        reading = self.reading_of(variant)
        return {split: self.file(test_set, split, reading) for split in ("query", "gallery")}

    def pose_of_test(self, variant: str, test_set: str) -> PoseSettings:
        """The pose of a variant's test maps: `external` where another program made them."""
        pose = self.readings[self.reading_of(variant)]
        if self.own.intersection(self.of_test(variant, test_set).values()):
            return pose.model_copy(update={"estimator": EXTERNAL})
        return pose


def pose_weights(pose: PoseSettings) -> str:
    """The weights file of a pose network."""
    if pose.checkpoint:
        return pose.checkpoint
    if pose.estimator == "hrnet_small":
        return os.path.relpath(SMALL_WEIGHTS)
    return f"{WEIGHTS_FOLDER}/{pose.estimator}.pth"


def missing_line(file: str) -> str:
    """One line about heatmaps that no job can make: `cache/demo/heatmaps/market1501/query.h5`."""
    _, experiment, _, dataset, _ = Path(file).parts
    fit = f"for the rows of data/{experiment}/{dataset}/manifest.csv (docs/heatmaps.md)"
    return f"pose.estimator: external: put your heatmaps at {file}, {fit}."


def warnings_of(logs: Iterable[str]) -> list[str]:
    """The warnings in some jobs' logs, ten at most."""
    lines = [
        line
        for log in filter(os.path.isfile, logs)
        for line in Path(log).read_text(encoding="utf-8", errors="replace").splitlines()
        if line.startswith("warning: ")
    ]
    return few(lines, "warnings")
