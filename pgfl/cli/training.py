"""The command of the training stage."""

from pathlib import Path
from typing import Annotated

import typer

from pgfl.cli.arguments import JsonSettings, Threads, all_files, json_settings
from pgfl.runtime.machine import own_gpus

app = typer.Typer()


@app.command("train")
def train(
    manifest: Path,
    state: Annotated[Path, typer.Option(help="Folder of the resume state.")],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder, for all files that are not named.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="The student. [OUT/model.safetensors]")
    ] = None,
    branches: Annotated[
        Path | None, typer.Option(help="What it learned from. [OUT/branches.safetensors]")
    ] = None,
    history: Annotated[Path | None, typer.Option(help="The losses. [OUT/history.csv]")] = None,
    provenance: Annotated[
        Path | None, typer.Option(help="What it was made of. [OUT/provenance.json]")
    ] = None,
    heatmaps: Annotated[Path | None, typer.Option(help="Heatmaps of split train.")] = None,
    pretrained: Annotated[Path | None, typer.Option(help="ImageNet weights.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0,
    settings: JsonSettings = "{}",
    threads: Threads = 2,
    workers: Annotated[int, typer.Option(min=0, help="Loader processes a device.")] = 2,
    devices: Annotated[int, typer.Option(min=1, help="GPUs (or CPU processes) to share.")] = 1,
    tensorboard: Annotated[
        bool, typer.Option(help="Write event files to tensorboard/ beside the model.")
    ] = False,
) -> None:
    """Train one variant; an interrupted run goes on where it was."""
    from pgfl.config.recipe import Recipe
    from pgfl.training.stage import Inputs, Job, RunFiles, run_training

    named = {"model": model, "branches": branches, "history": history, "provenance": provenance}
    files = all_files(RunFiles, out, named)
    recipe = Recipe.parse(json_settings(settings))
    job = Job(files, state, threads, workers, devices, tensorboard)
    with own_gpus(devices):
        run_training(Inputs(manifest, heatmaps, pretrained), recipe, seed, job)
