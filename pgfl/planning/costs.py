"""What a plan costs: its jobs by stage, and an estimate of the GPU hours.

Multiply-accumulates are counted by running each network on one image, images from the manifests
(or, before there are any, from the paper's Table 1). The speed of the GPU is an assumption.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from pgfl.config.experiment import Config
from pgfl.config.recipe import Recipe
from pgfl.datasets.registry import DATASETS
from pgfl.errors import UserError
from pgfl.networks.build import build_network, matcher_of
from pgfl.nn.batch import Batch
from pgfl.planning.plan import PlannedJob
from pgfl.pose.keypoints import PARTS
from pgfl.pose.views import STRIDE
from pgfl.reporting.complexity import measure, measure_pose_network
from pgfl.runtime.files import read_json

TFLOPS = 30.0
"""Assumed useful speed of a GPU, in 10^12 operations per second. Nvidia trains ResNet-50 (4.09
GMAC an image) at 2470 images per second on one A100 80GB in mixed precision (DeepLearningExamples,
ResNet50 v1.5 for PyTorch), which makes 61; half of it is for smaller batches, deterministic
kernels and waiting for images."""

FORWARD_AND_BACKWARD = 3
"""Passes of a training step: the gradients of weights and of inputs cost a forward pass each."""
OPERATIONS_A_MAC = 2
SECONDS_AN_HOUR = 3600

STAGES = {
    "data": (
        *("draw_archive", "get_archive", "extract", "extract_lists", "lay_out_occluded_duke"),
        *("crop_partial_duke", "manifest", "take_own_dataset"),
    ),
    "pose": ("get_weights", "heatmaps", "missing_heatmaps", "true_heatmaps"),
    "training": ("train",),
    "evaluation": ("evaluate", "evaluate_with_pose"),
}
"""The rules of each stage; all others write tables and figures."""
REPORTING = "tables and figures"


class Costs:
    """Counts the work of jobs; networks are measured once each."""

    def __init__(self, config: Config, root: Path):
        """Prepare.

        Args:
            config: complete, as the plan was made with.
            root: the folder that the workflow runs in.
        """
        self.config, self.root = config, root

    def macs(self, job: PlannedJob) -> int:
        """Multiply-accumulates of a job on the GPU; 0 for what needs none, or next to none.

        Raises:
            UserError: the size of a data set is not known yet.
        """
        of = job.wildcards
        if job.rule == "heatmaps":
            name = of.get("reading", "").removeprefix("@")
            return self.images(of["dataset"], of["split"]) * self._pose(name)
        if job.rule == "train":
            recipe = self.config.recipe(of["variant"])
            images = self.images(of["train"], "train") * recipe.training.epochs
            identities = self.identities(of["train"])
            return images * FORWARD_AND_BACKWARD * self._training_image(recipe, identities)
        if job.rule in ("evaluate", "evaluate_with_pose"):
            images = sum(self.images(of["dataset"], split) for split in ("query", "gallery"))
            recipe = self.config.recipe(of["variant"])
            return images * self._test_image(recipe, of.get("feature", "global"))
        return 0

    def images(self, dataset: str, split: str) -> int:
        """Images of a split: as counted, else as published.

        Raises:
            UserError: neither is known yet.
        """
        return self._count(dataset, split, "images")

    def identities(self, dataset: str) -> int:
        """Identities to train on: as counted, else as published.

        Raises:
            UserError: neither is known yet.
        """
        return self._count(dataset, "train", "identities")

    def _count(self, dataset: str, split: str, what: str) -> int:
        counts = self.root / "data" / self.config.experiment / dataset / "counts.json"
        if counts.is_file():
            return int(read_json(counts)["splits"][split][what])
        if dataset not in DATASETS or self.config.is_synthetic(dataset):
            raise UserError(
                f"{counts}: no such file, so the size of {dataset} is not known: run `snakemake "
                f"{counts.relative_to(self.root)}` first"
            )
        identities, images = DATASETS[dataset].printed_counts()[split]
        return identities if what == "identities" else images

    @functools.cache  # noqa: B019 (lives as long as the command)
    def _pose(self, reading: str) -> int:
        """The pose network of a reading on one image."""
        return measure_pose_network(self.config.pose_readings[reading]).macs

    @functools.cache  # noqa: B019
    def _training_image(self, recipe: Recipe, identities: int) -> int:
        """The forward pass of one training image, all branches and classifiers."""
        network = build_network(recipe, identities).eval()
        images, *pose = self._inputs(recipe)
        nobody = torch.zeros(1, dtype=torch.int64)
        return measure(network, Batch(images, nobody, nobody, *pose)).macs

    @functools.cache  # noqa: B019
    def _test_image(self, recipe: Recipe, feature: str) -> int:
        """Matching one image, its heatmaps given."""
        network = build_network(recipe, identities=1).eval()
        return measure(matcher_of(network, recipe, feature), *self._inputs(recipe)).macs

    def _inputs(self, recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One image, its maps and the confidence in its parts."""
        pose = self.config.pose_readings[recipe.training.pose]
        size = (pose.height // STRIDE, pose.width // STRIDE)
        maps = torch.full((1, len(PARTS), *size), 1 / (size[0] * size[1]))
        image = torch.zeros(1, recipe.model.height, recipe.model.width, 3, dtype=torch.uint8)
        return image, maps, torch.ones(1, len(PARTS))


def gpu_hours(macs: int, tflops: float) -> float:
    """Hours that so many multiply-accumulates take at 10^12 `tflops` operations per second."""
    return macs * OPERATIONS_A_MAC / (tflops * 1e12) / SECONDS_AN_HOUR


def cost_lines(
    config: Config, jobs: Iterable[PlannedJob], root: Path, tflops: float = TFLOPS
) -> Iterator[str]:
    """Jobs and estimated GPU hours by stage, and the trainings by data set, as Markdown.

    Args:
        config: complete, as the plan was made with.
        jobs: those to count.
        root: the folder that the workflow runs in.
        tflops: the assumed useful speed of a GPU.

    Raises:
        UserError: the size of a data set is not known yet.
    """
    costs = Costs(config, root)
    count, macs = Counter(), Counter()
    trained: dict[str, Counter[str]] = defaultdict(Counter)
    for job in jobs:
        if job.rule == "all":
            continue
        work = costs.macs(job)
        stage = next((name for name, rules in STAGES.items() if job.rule in rules), REPORTING)
        count[stage] += 1
        macs[stage] += work
        if job.rule == "train":
            trained[job.wildcards["train"]].update(models=1, macs=work)
    yield "| stage | jobs | 10^15 MACs | GPU hours |"
    yield "| --- | ---: | ---: | ---: |"
    for stage in (*STAGES, REPORTING):
        yield _row(stage, count[stage], macs[stage], tflops)
    yield _row("**all**", count.total(), macs.total(), tflops)
    if trained:
        yield ""
        yield "| models of | models | 10^15 MACs | GPU hours |"
        yield "| --- | ---: | ---: | ---: |"
        for dataset, found in sorted(trained.items()):
            yield _row(dataset, found["models"], found["macs"], tflops)


def _row(name: str, count: int, macs: int, tflops: float) -> str:
    shown = [_short(macs / 1e15), _short(gpu_hours(macs, tflops))] if macs else ["", ""]
    return f"| {name} | {count} | {' | '.join(shown)} |"


def _short(value: float) -> str:
    return f"{value:,.1f}" if value >= 1 else f"{value:.2g}"
