"""The training stage: manifest and heatmaps in; student, history and provenance out."""

import os
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd
import torch
from lightning_fabric import Fabric, seed_everything
from torch import Tensor, nn

from pgfl.config.recipe import Recipe
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.networks.build import backbone_of, build_extra_losses, build_network
from pgfl.networks.saved import save_network
from pgfl.nn.backbone import load_backbone
from pgfl.nn.settings import TIMM
from pgfl.nn.timm_backbone import TimmBackbone
from pgfl.pose.check import open_store
from pgfl.runtime.allocator import keep_freed_memory
from pgfl.runtime.devices import device_name, pick_device
from pgfl.runtime.files import file_hash, whole_file, write_json
from pgfl.runtime.locks import locked
from pgfl.runtime.orphans import end_with
from pgfl.runtime.provenance import code_hash, environment, git_commit
from pgfl.training.arithmetic import fabric_precision, set_switches
from pgfl.training.checkpoint import Resume, remove_checkpoint
from pgfl.training.data import EpochSampler, TrainingImages, loader_deaths_said, make_loader
from pgfl.training.finished import archive_run, restore_run
from pgfl.training.live import Live
from pgfl.training.loop import History, fit
from pgfl.training.parallel import launch, make_fabric, synchronise_norms
from pgfl.untrusted.weights import read_state


@dataclass(frozen=True)
class Inputs:
    """Files that a run reads."""

    manifest: Path
    heatmaps: Path | None
    """The store of split `train`; None where no branch needs one."""
    pretrained: Path | None
    """ImageNet weights of the backbone; None starts from random weights."""


@dataclass(frozen=True)
class RunFiles:
    """The files of a finished run."""

    model: Path
    """The student."""
    branches: Path
    """What only training and Table 8 need."""
    history: Path
    provenance: Path

    def __post_init__(self) -> None:
        if len({file.name for file in self.all}) < len(self.all):
            raise UserError(f"{self.model}: each file of a run needs a name of its own")

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """A run's files as the workflow calls them."""
        return cls(
            folder / "model.safetensors",
            folder / "branches.safetensors",
            folder / "history.csv",
            folder / "provenance.json",
        )

    @property
    def all(self) -> list[Path]:
        """All of them."""
        return [self.model, self.branches, self.history, self.provenance]


@dataclass(frozen=True)
class Job:
    """How a run is computed."""

    files: RunFiles
    """What is written."""
    state: Path
    """The folder of the resume state; not a declared output, so it survives a failure."""
    threads: int
    """Of the CPU, for all devices together; part of what makes a run repeatable bit by bit."""
    workers: int
    """Loader processes for each device; no influence on the result."""
    devices: int = 1
    """Processes that share every batch; they change the result by rounding only."""
    tensorboard: bool = False
    """Whether to write TensorBoard's event files beside the model."""

    @property
    def finished(self) -> Path:
        """The folder in which a finished run is kept."""
        return self.state / "finished"


def run_training(inputs: Inputs, recipe: Recipe, seed: int, job: Job) -> None:
    """Train one variant with one seed.

    Each file of the run is written whole. An interrupted run goes on after its last whole epoch;
    one that has finished before is restored as it was.

    Args:
        inputs: what to train on.
        recipe: all settings of the variant.
        seed: of weights, batches and augmentation.
        job: where and how.

    Raises:
        UserError: an input cannot be used, a loss is not finite, or another process trains the
            same.
    """
    if recipe.settings.warning:
        print(f"warning: {recipe.settings.warning}")
    table = read_manifest(inputs.manifest, "train")
    reader = None
    if recipe.settings.needs_heatmaps:
        if inputs.heatmaps is None:
            raise UserError("--heatmaps: this recipe's branches need the heatmaps of split train")
        reader = open_store(inputs.heatmaps, list(table["image"]))
    if recipe.model.weights_file and inputs.pretrained is None:
        raise UserError(
            "--pretrained: this recipe starts from ImageNet weights; give the file, or set "
            "model.pretrained: false"
        )
    if inputs.pretrained is not None and not recipe.model.weights_file:
        raise UserError(
            f"--pretrained {inputs.pretrained}: this recipe starts from no file; leave it out, or "
            "set model.pretrained: true and a backbone that has one"
        )
    images = TrainingImages(inputs.manifest.parent, table, reader, recipe, seed)
    # Raises where the batches cannot be dealt, before there are processes to report it.
    EpochSampler(images.labels, recipe, seed, processes=job.devices)
    identity = _identity(inputs, recipe, seed)
    if restore_run(job.files.all, identity, job.finished):
        print(
            f"{job.files.model}: trained before with the same settings, code and data: restored "
            f"from {job.finished} (delete that folder to train it anew)"
        )
        return
    fabric = make_fabric(job.devices, fabric_precision(pick_device(), recipe.training))
    launch(fabric, _process, images, inputs, recipe, seed, job)


def _process(
    fabric: Fabric, images: TrainingImages, inputs: Inputs, recipe: Recipe, seed: int, job: Job
) -> None:
    """One process of a run; the one that writes holds the state."""
    if fabric.world_size > 1:
        end_with((os.getppid(),), "stopped, because the process that started this one is gone")
        keep_freed_memory()
    with locked(job.state) if fabric.is_global_zero else nullcontext():
        _train(fabric, images, inputs, recipe, seed, job)


def _train(
    fabric: Fabric, images: TrainingImages, inputs: Inputs, recipe: Recipe, seed: int, job: Job
) -> None:
    began = time.time()
    if not fabric.is_global_zero:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for the process's whole life)
    torch.set_num_threads(max(1, job.threads // job.devices))
    set_switches(recipe.training)
    seed_everything(seed, verbose=False)
    sampler = EpochSampler(images.labels, recipe, seed, fabric.global_rank, fabric.world_size)
    model = _build(inputs, recipe, images.num_identities)
    extra = build_extra_losses(recipe, model, images.num_identities)
    if fabric.world_size > 1:
        synchronise_norms(model, fabric.device)
    loader = make_loader(images, sampler, job.workers)
    identity = _identity(inputs, recipe, seed)
    computed_on = {
        "devices": job.devices,
        "threads": job.threads,
        "device": device_name(fabric.device),
        "torch": str(torch.__version__),  # not a plain text of its own
    }
    resume = Resume(job.state / "checkpoint.pt", identity, computed_on)
    status = job.state / "status.json"
    live = Live(
        epochs=recipe.training.epochs,
        images=recipe.training.identities * recipe.training.images,
        status=status if fabric.is_global_zero else None,
        device=device_name(fabric.device),
        tensorboard=job.files.model.parent / "tensorboard" if job.tensorboard else None,
    )
    with loader_deaths_said():
        history = fit(model, loader, sampler, recipe, fabric, resume, live, extra)
    if not fabric.is_global_zero:
        return
    files = job.files
    save_network(model, recipe, files.model, files.branches)
    _write_history(history, files.history)
    write_json(
        files.provenance,
        {
            **identity,
            "git_commit": git_commit(),
            **computed_on,
            "computed_on": resume.parts,
            "identities": images.num_identities,
            "images": len(images.images),
            "seconds": round(time.time() - began, 1),
            "environment": environment(),
            "model_sha256": file_hash(files.model),
        },
    )
    archive_run(files.all, identity, job.finished)
    remove_checkpoint(resume.path)
    status.unlink(missing_ok=True)


def _build(inputs: Inputs, recipe: Recipe, identities: int) -> nn.Module:
    """The network as training starts from it."""
    model = build_network(recipe, identities)
    if inputs.pretrained is not None:
        start_from(model, recipe, read_state(inputs.pretrained), inputs.pretrained)
    elif recipe.model.pretrained and recipe.model.backbone.startswith(TIMM):
        name, stride = recipe.model.backbone, recipe.model.last_stride
        weights = TimmBackbone(name, stride, pretrained=True).state_dict()
        start_from(model, recipe, weights, Path(name))
    return model.to(memory_format=torch.channels_last)


def start_from(model: nn.Module, recipe: Recipe, weights: dict[str, Tensor], path: Path) -> None:
    """Give a network's backbone its weights.

    Args:
        model: of the recipe.
        recipe: its recipe.
        weights: a state dict of torchvision's, timm's or a ReID program's.
        path: named in messages.

    Raises:
        UserError: they do not fit, or are NaN or infinite.
    """
    load_backbone(backbone_of(model, recipe), recipe.model, weights, path)
    # A method that has copies of a part of the backbone brings them up to date.
    getattr(model, "backbone_was_loaded", lambda: None)()


def _identity(inputs: Inputs, recipe: Recipe, seed: int) -> dict[str, object]:
    """Everything that the result is a function of, but for rounding."""
    files = {"manifest": inputs.manifest, "pretrained": inputs.pretrained}
    if recipe.settings.needs_heatmaps:
        files["heatmaps"] = inputs.heatmaps
    return {
        "seed": seed,
        "precision": fabric_precision(pick_device(), recipe.training),
        "settings": recipe.model_dump(mode="json"),
        "code": code_hash("pgfl.training.stage", *recipe.code, without=recipe.idle_code),
        "data": {name: file_hash(path) for name, path in files.items() if path is not None},
    }


def _write_history(history: History, path: Path) -> None:
    with whole_file(path) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False, lineterminator="\n")
