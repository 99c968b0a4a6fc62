"""Loading training batches: the same bits whatever the number of loader processes."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from pgfl.config.recipe import Recipe
from pgfl.datasets.images import read_image, resized
from pgfl.errors import UserError, of_another_process
from pgfl.nn.batch import Batch
from pgfl.pose.keypoints import part_confidence
from pgfl.pose.origin import advice
from pgfl.pose.store import HeatmapReader
from pgfl.runtime.orphans import die_with_parent
from pgfl.training.augment import Sample, augment
from pgfl.training.parcel import Parcel
from pgfl.training.sampler import pk_batches

Draw = tuple[int, tuple[int, int, int]]
"""A row of the manifest, and the numbers that seed its augmentation."""
Drawn = tuple[Sample, int, int]
"""An augmented image with its maps, its label and its camera."""

LOCKS = 12
"""More than the loader's queues have for each worker process."""
WITHOUT = "fewer loader processes (resources.workers, --workers; 0 has none)"


class TrainingImages(Dataset):
    """Decoded, resized and augmented images with their labels and maps."""

    def __init__(
        self,
        folder: Path,
        table: pd.DataFrame,
        heatmaps: HeatmapReader | None,
        recipe: Recipe,
        seed: int = 0,
    ):
        """Take the training rows of a manifest.

        Args:
            folder: the manifest's folder.
            table: its rows of split `train`.
            heatmaps: a store with exactly these rows, or None.
            recipe: input size, augmentation and whose maps an image gets.
            seed: decides whose, where they are shuffled.
        """
        self.folder = folder
        self.images = list(table["image"])
        pids = sorted(set(table["pid"]))
        self.labels = [pids.index(pid) for pid in table["pid"]]
        self.camids = list(table["camid"])
        self.num_identities = len(pids)
        self.heatmaps = heatmaps
        self.confidence = None
        if heatmaps is not None:
            self.confidence = part_confidence(heatmaps.confidence())
            heatmaps.close()  # a loader process opens it for itself
        self.recipe = recipe
        self.maps_of = np.arange(len(table))
        if recipe.training.heatmaps == "shuffled":
            self.maps_of = derangement(len(table), seed)

    def __getitem__(self, draw: Draw) -> Drawn:
        row, seed = draw
        model = self.recipe.model
        image = resized(read_image(self.folder / self.images[row]), model.height, model.width)
        # The seed names the epoch and the place in it, never the worker.
        rng = np.random.default_rng(seed)
        sample = Sample(image, *self._pose(int(self.maps_of[row])))
        sample = augment(sample, self.recipe.training.augment, rng)
        if self.recipe.training.heatmaps == "flat":
            sample = without_pose(sample)
        return sample, self.labels[row], self.camids[row]

    def _pose(self, row: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The maps of an image and the confidence in its parts, if there are any.

        Never what would make a loss NaN, which says nothing of why.
        """
        if self.heatmaps is None:
            return None, None
        maps = self.heatmaps[row]
        if not np.isfinite(maps).all():
            raise UserError(
                f"{self.heatmaps.path}: the maps of {self.images[row]} hold NaN or infinity; "
                f"{advice(self.heatmaps.path)}"
            )
        return maps, self.confidence[row]


def without_pose(sample: Sample) -> Sample:
    """A sample with flat maps, in which all parts are as sure as can be: a control."""
    if sample.heatmaps is None:
        return sample
    flat = np.full_like(sample.heatmaps, 1 / sample.heatmaps[0].size)
    return Sample(sample.image, flat, np.ones_like(sample.confidence))


def derangement(count: int, seed: int) -> np.ndarray:
    """Another row for each of `count` rows (at least two), every one of them once: (count,)."""
    circle = np.random.default_rng([seed, count]).permutation(count)
    others = np.empty(count, dtype=np.int64)
    others[circle] = np.roll(circle, 1)
    return others


class EpochSampler:
    """The batches of one epoch after another, each a function of seed and epoch alone.

    A batch comes in the recipe's `accumulate` parts, and of each part this process's share: whole
    identities, in order, so that the shares of all processes make the part.
    """

    def __init__(
        self, labels: list[int], recipe: Recipe, seed: int, rank: int = 0, processes: int = 1
    ):
        """Deal the batches.

        Raises:
            UserError: the identities of a part cannot be dealt evenly to the processes.
        """
        self.labels, self.recipe, self.seed = labels, recipe, seed
        self.rank, self.processes = rank, processes
        self.epoch = 0
        training = recipe.training
        if training.identities % (training.accumulate * processes):
            raise UserError(
                f"setting training.identities: {training.identities} identities in "
                f"{training.accumulate} part(s) cannot be dealt evenly to {processes} devices"
            )
        self._share = training.identities * training.images // (training.accumulate * processes)

    def batches(self) -> list[list[int]]:
        """The rows of each batch of the current epoch."""
        training = self.recipe.training
        rng = np.random.default_rng([self.seed, self.epoch])
        return pk_batches(self.labels, training.identities, training.images, rng)

    def __iter__(self) -> Iterator[list[Draw]]:
        place = 0
        for batch in self.batches():
            draws = [(row, (self.seed, self.epoch, place + i)) for i, row in enumerate(batch)]
            place += len(batch)
            for part in range(self.recipe.training.accumulate):
                start = (part * self.processes + self.rank) * self._share
                yield draws[start : start + self._share]

    def __len__(self) -> int:
        """The number of parts in the current epoch."""
        return len(self.batches()) * self.recipe.training.accumulate


def collate(samples: list[Drawn]) -> Batch | Parcel:
    """Stack samples to one batch; in a loader process, to what becomes one in the other."""
    drawn, labels, camids = zip(*samples, strict=True)
    columns = [[sample.image for sample in drawn]]
    columns += [[np.int64(one) for one in column] for column in (labels, camids)]
    if drawn[0].heatmaps is not None:
        columns.append([sample.heatmaps for sample in drawn])
        columns.append([sample.confidence for sample in drawn])
    if get_worker_info() is not None:
        return Parcel(columns, as_batch)
    return as_batch(*map(np.stack, columns))


def as_batch(
    images: np.ndarray, labels: np.ndarray, camids: np.ndarray, *pose: np.ndarray
) -> Batch:
    """The same arrays as tensors; the pose, if any, is maps and confidence."""
    tensors = [torch.from_numpy(array) for array in (images, labels, camids, *pose)]
    return Batch(*tensors) if pose else Batch(*tensors, None)


def make_loader(images: TrainingImages, sampler: EpochSampler, workers: int) -> DataLoader:
    """A loader whose worker processes live through all epochs.

    Raises:
        UserError: there is no room to start them.
    """
    if workers:
        # Here and not in the loader process: that has OpenCV's threads from this one only by
        # name, and would wait for them to end for ever.
        cv2.setNumThreads(1)
    try:
        # Its queues' semaphores are files in /dev/shm. PyTorch itself would fail half way through.
        _ = [multiprocessing.Lock() for _ in range(workers * LOCKS)]
    except OSError as error:
        raise UserError(
            f"loader processes cannot start ({error.strerror}): /dev/shm is full or missing; make "
            f"room there (in a container, start it with --shm-size=1g), or take {WITHOUT}"
        ) from None
    return DataLoader(
        images,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_prepare,
    )


def batches(loader: DataLoader) -> Iterator[Batch]:
    """The loader's batches; what a worker process reports stays one line.

    Raises:
        UserError: an image cannot be read.
    """
    try:
        yield from loader
    except UserError as error:
        raise of_another_process(error) or error from None


@contextmanager
def loader_deaths_said() -> Iterator[None]:
    """Let the death of a loader process be one line; torch raises it wherever the program is.

    Raises:
        UserError: a loader process was killed.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        why = str(error).partition(".")[0].removeprefix("DataLoader ").strip()
        raise UserError(
            f"a loader process has died ({why}), for want of memory as a rule: give the job more "
            f"(resources.train_memory; a container: --memory, --shm-size), or take {WITHOUT}; the "
            "same command goes on after the last whole epoch"
        ) from None


def _prepare(worker: int) -> None:
    """Set up a loader process, which ends with the process that it loads for."""
    torch.set_num_threads(1)
    # Ctrl-C and the end of a cluster job reach all processes; the other one says what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    die_with_parent()
