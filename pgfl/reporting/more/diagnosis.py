"""What goes on inside trained networks: lengths, attention, and who pulls at the student."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from pgfl.config.recipe import Recipe
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.networks.build import method_module
from pgfl.networks.saved import load_trained
from pgfl.nn.batch import Batch
from pgfl.pose.check import open_store
from pgfl.reporting.outputs import Outputs
from pgfl.reporting.paper.responses import share_on_parts
from pgfl.reporting.paper.tables import data_warning, save_table
from pgfl.reporting.trace import Cell, save_trace
from pgfl.runtime.devices import pick_device
from pgfl.training.data import EpochSampler, TrainingImages, make_loader

BATCHES = 16
NOTE = (
    "Of the trained networks, over so many augmented training `batches` of the first seed, in "
    "float32; where `accumulate` splits a batch, each part is one. `length`: the mean L2 norm of "
    "a feature. `cos`: the mean cosine of a teacher with f_G. `attention` (Eq. 2): its entropy, 1 "
    "where it looks everywhere alike, and how much of it lies on visible body parts, beside the "
    "`area` that these take up, which is what a uniform attention has. `pull`: the mean length of "
    "a loss term's gradient on an image's f_G, as weighted, times the size of the batch."
)


@dataclass(frozen=True)
class Trained:
    """A trained network's files, and what it was trained on."""

    model: Path
    branches: Path
    heatmaps: Path | None
    recipe: Recipe

    @property
    def files(self) -> tuple[Path, ...]:
        """All that there are."""
        return tuple(file for file in (self.model, self.branches, self.heatmaps) if file)


def write_diagnosis(
    networks: dict[str, Trained],
    manifest: Path,
    seed: int,
    experiment: str,
    out: Path | Outputs,
) -> None:
    """Write one row per network as CSV, its Markdown and its trace.

    Args:
        networks: by the variant's name.
        manifest: the data set they were trained on.
        seed: theirs; decides the batches, too.
        experiment: where they are from; anything but `paper` is marked as such.
        out: the CSV; the others lie beside it unless they are named.

    Raises:
        UserError: a file is missing or damaged, or is not of this manifest or recipe.
    """
    rows = []
    for name, network in networks.items():
        found = measure(network, manifest, seed)
        rows.append({"variant": name, "batches": str(len(found)), **_texts(found.mean())})
    table = pd.DataFrame(rows).fillna("")
    heading = f"# What goes on inside\n\n{data_warning(experiment)}{NOTE}\n\n"
    files = Outputs.of(out)
    save_table(table, files, heading, left=1)
    cells = [
        Cell(name, "all numbers", "", (*network.files, manifest))
        for name, network in networks.items()
    ]
    save_trace(files.trace, [files.main, files.markdown], experiment, cells)


def measure(network: Trained, manifest: Path, seed: int) -> pd.DataFrame:
    """All columns, a row for each of the first epoch's batches, `BATCHES` at most.

    The network is in training mode, as its losses saw it; nothing is stored.

    Raises:
        UserError: a file is missing or damaged, or is not of this manifest or recipe.
    """
    device = pick_device()
    model, trained = load_trained(network.model, network.branches)
    given = network.recipe
    if (trained.method, trained.settings.as_trained()) != (
        given.method,
        given.settings.as_trained(),
    ):
        raise UserError(
            f"{network.branches}: was trained with other settings of {trained.method} than its "
            f"recipe has, which is of {given.method}; give the recipe of the run"
        )
    model.to(device).train()
    images = _training_images(network, manifest, seed)
    known = model.necks["global"].classifier.out_features
    if images.num_identities != known:
        raise UserError(
            f"{manifest}: has {images.num_identities} identities to train on, but "
            f"{network.branches} knows {known}; give the manifest that it was trained on"
        )
    loader = make_loader(images, EpochSampler(images.labels, network.recipe, seed), workers=0)
    found = []
    for _, batch in zip(range(BATCHES), loader, strict=False):
        batch = batch.mapped(lambda part: part.to(device))
        found.append(_measure(model, batch, network.recipe))
    return pd.DataFrame(found)


def _training_images(network: Trained, manifest: Path, seed: int) -> TrainingImages:
    """What the network was trained on."""
    table = read_manifest(manifest, "train")
    reader = None
    if network.recipe.settings.needs_heatmaps:
        if network.heatmaps is None:
            raise UserError(f"{network.branches}: its recipe needs heatmaps of split train")
        reader = open_store(network.heatmaps, list(table["image"]))
    return TrainingImages(manifest.parent, table, reader, network.recipe, seed)


def _measure(model: nn.Module, batch: Batch, recipe: Recipe) -> dict[str, float]:
    """All columns for one batch."""
    outputs = model(batch)
    terms = method_module(recipe.method).losses(outputs, batch, recipe.settings)
    f_g = outputs.features["global"]
    found = {
        f"length.{name}": feature.detach().norm(dim=1).mean().item()
        for name, feature in outputs.features.items()
    }
    for name in ("part", "foreground", "enhanced"):
        if name in outputs.features:
            cosines = functional.cosine_similarity(f_g, outputs.features[name])
            found[f"cos.{name}"] = cosines.mean().item()
    if getattr(model, "uses_foreground", False):
        found |= _look(model, batch)
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, f_g, retain_graph=True, allow_unused=True)
        if gradient is not None:
            found[f"pull.{name}"] = gradient.norm(dim=1).mean().item() * len(gradient)
    return found


@torch.no_grad()
def _look(model: nn.Module, batch: Batch) -> dict[str, float]:
    """How spread the attention is, and how much of it is where it should be."""
    attention = model.attention(batch.images, batch.heatmaps)
    flat = attention.flatten(1)
    entropy = torch.special.entr(flat).sum(dim=1) / np.log(flat.shape[1])
    share, area = share_on_parts(attention.cpu().numpy(), batch.heatmaps.cpu().numpy())
    return {
        "attention.entropy": entropy.mean().item(),
        "attention.on_parts": float(share.mean()),
        "attention.area": float(area.mean()),
    }


def _texts(numbers: pd.Series) -> dict[str, str]:
    return {name: f"{number:.3f}" for name, number in numbers.items()}
