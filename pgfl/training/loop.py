"""The training loop, visible at once."""

import math
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader

from pgfl.errors import UserError
from pgfl.models.pgfl import PGFL
from pgfl.recipe import Recipe, TrainingSettings
from pgfl.training.checkpoint import load_checkpoint, save_checkpoint
from pgfl.training.data import EpochSampler, batches
from pgfl.training.task import losses

History = list[dict[str, float]]
"""One row an epoch: its number, the learning rate, the loss and each of its terms (means)."""


@dataclass(frozen=True)
class Resume:
    """Where the resume state lies, and the key that says whose it is."""

    path: Path
    key: str


def fit(
    model: PGFL,
    loader: DataLoader,
    sampler: EpochSampler,
    recipe: Recipe,
    fabric: Fabric,
    resume: Resume,
) -> History:
    """Train a model in place, going on from a checkpoint of the same run if there is one.

    Args:
        model: freshly initialised.
        loader: yields `Batch`es of the sampler's current epoch.
        sampler: told which epoch it is.
        recipe: losses, optimiser and schedule.
        fabric: device and precision.
        resume: where to keep the state between epochs.

    Returns:
        The history of all epochs, those before an interruption among them.

    Raises:
        UserError: a loss is not finite; the last good checkpoint stays.
    """
    settings = recipe.training
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(
        trained, settings.learning_rate, weight_decay=settings.weight_decay
    )
    history: History = []
    if state := load_checkpoint(resume.path, resume.key):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        history = state["history"]
        print(f"going on after epoch {len(history)} of {settings.epochs}")
    network, optimizer = fabric.setup(model, optimizer)
    for epoch in range(len(history), settings.epochs):
        sampler.epoch = epoch
        rate = learning_rate(settings, epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        network.train()
        sums: dict[str, float] = defaultdict(float)
        start, steps, images = time.monotonic(), 0, 0
        for batch in batches(loader):
            batch = batch.mapped(fabric.to_device)
            terms = losses(network, batch, recipe.loss)
            check_finite(terms, epoch, steps)
            optimizer.zero_grad(set_to_none=True)
            total = torch.stack(list(terms.values())).sum()
            fabric.backward(total)
            optimizer.step()
            for name, value in ({"loss": total} | terms).items():
                sums[name] += value.item()
            steps += 1
            images += len(batch.labels)
        means = {name: value / steps for name, value in sums.items()}
        history.append({"epoch": epoch + 1, "learning_rate": rate, **means})
        save_checkpoint(
            resume.path,
            {
                "key": resume.key,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "history": history,
            },
        )
        speed = images / (time.monotonic() - start)
        left = (settings.epochs - epoch - 1) * (time.monotonic() - start)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
        print(
            f"epoch {epoch + 1}/{settings.epochs}  {shown}  {speed:.0f} img/s  {left:.0f} s left",
            flush=True,
        )
    return history


def learning_rate(settings: TrainingSettings, epoch: int) -> float:
    """The rate of an epoch (from 0): linear warm-up, then a step down at each milestone."""
    passed = sum(epoch >= milestone for milestone in settings.milestones)
    warm = min(1.0, (epoch + 1) / (settings.warmup + 1))
    return settings.learning_rate * warm * settings.decay**passed


def check_finite(terms: dict[str, torch.Tensor], epoch: int, step: int) -> None:
    """Raise UserError naming the step and the terms that are not finite."""
    values = {name: value.item() for name, value in terms.items()}
    broken = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise UserError(
            f"epoch {epoch + 1}, step {step + 1}: {', '.join(broken)}; training stops, the "
            "checkpoint of the last whole epoch is kept. Lower training.learning_rate, or set "
            "training.precision: fp32"
        )
