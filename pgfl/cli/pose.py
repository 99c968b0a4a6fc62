"""Commands of the pose stage: the cache of heatmaps."""

from pathlib import Path
from typing import Annotated

import typer

from pgfl.cli.arguments import JsonSettings, Out, Threads, json_settings
from pgfl.errors import UserError
from pgfl.runtime.machine import own_gpus

Photographs = Annotated[
    bool, typer.Option("--photographs", help="The images are real, not drawn: hrnet_small warns.")
]

app = typer.Typer(help="The cache of HRNet heatmaps.", no_args_is_help=True)


@app.command("make")
def heatmaps_make(
    manifest: Path,
    split: Annotated[str, typer.Option(help="train, query or gallery.")],
    weights: Annotated[Path, typer.Option(help="The estimator's checkpoint.")],
    out: Out,
    state: Annotated[Path, typer.Option(help="Folder of finished blocks, to go on from.")],
    shard: Annotated[
        str, typer.Option(help="i/n: compute only this part; a call without it merges them.")
    ] = "1/1",
    settings: JsonSettings = "{}",
    threads: Threads = 2,
    photographs: Photographs = False,
) -> None:
    """Run HRNet over one split and cache its merged heatmaps; goes on where it was stopped."""
    import torch

    from pgfl.pose.origin import is_external
    from pgfl.pose.settings import PoseSettings
    from pgfl.pose.stage import make_heatmaps

    part, _, parts = shard.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise UserError(f"--shard {shard}: must be i/n with 1 <= i <= n, as 2/4")
    torch.set_num_threads(threads)
    parsed = PoseSettings.parse(json_settings(settings), "pose")
    share = (int(part), int(parts))
    with own_gpus():
        done = make_heatmaps(manifest, split, weights, out, parsed, state, share)
    print(f"{out}: {done} images computed")
    if share[1] == 1 and not is_external(out):
        _say_whom_it_found(out, photographs)


@app.command("from-joints")
def heatmaps_from_joints(
    manifest: Path,
    split: Annotated[str, typer.Option(help="train, query or gallery.")],
    joints: Annotated[Path, typer.Option(help="The .joints.npz beside a synthetic archive.")],
    out: Out,
    settings: JsonSettings = "{}",
) -> None:
    """Draw perfect heatmaps from the true joints of synthetic images; a control."""
    from pgfl.pose.settings import PoseSettings
    from pgfl.pose.true_joints import make_true_heatmaps

    parsed = PoseSettings.parse(json_settings(settings), "pose")
    print(f"{out}: {make_true_heatmaps(manifest, split, joints, out, parsed)} images")


@app.command("check")
def heatmaps_check(
    file: Path,
    manifest: Annotated[Path, typer.Option(help="The manifest that it was made for.")],
    split: Annotated[str, typer.Option(help="Default: the file's own name, as train.h5.")] = "",
) -> None:
    """Prove that a heatmap file fits a manifest: names, order, shapes, sums, no NaN."""
    from pgfl.datasets.manifest import read_manifest
    from pgfl.pose.check import check_store

    split = _split_of(file, split)
    images = list(read_manifest(manifest, split)["image"])
    check_store(file, images)
    print(f"{file}: fits {manifest}, {split}: {len(images)} images")


@app.command("report")
def heatmaps_report(
    files: Annotated[list[Path], typer.Argument(help="Heatmaps of one or several splits.")],
    manifest: Annotated[Path, typer.Option(help="The manifest that they were made for.")],
    out: Out,
    figure: Annotated[Path | None, typer.Option(help="Also a PNG: sheet and histograms.")] = None,
    split: Annotated[str, typer.Option(help="Default: each file's own name, as train.h5.")] = "",
    experiment: Annotated[str, typer.Option(help="Said in the title.")] = "",
    photographs: Photographs = False,
    threshold: Annotated[
        float, typer.Option(help="A keypoint with a lower confidence counts as not found.")
    ] = 0.3,
) -> None:
    """Write a page to look at: maps over images, confidence, nobody found, two people."""
    from pgfl.reporting.more.pose_report import write_report

    if split and len(files) > 1:
        raise UserError("--split: only with one file; name several files train.h5, query.h5, ...")
    splits = {_split_of(file, split): file for file in files}
    if len(splits) < len(files):
        raise UserError(f"two of these files are of one split: {', '.join(map(str, files))}")
    found = write_report(
        splits, manifest, out, figure, experiment, threshold, photographs=photographs
    )
    print(
        f"{out}: {found.all} images, {found.nobody} with nobody found, "
        f"{found.competing} in which two people compete"
    )


def _say_whom_it_found(file: Path, photographs: bool) -> None:
    """The share of images in which nobody was found; a warning where no better is expected."""
    from pgfl.pose import quality
    from pgfl.pose.store import HeatmapReader

    reader = HeatmapReader(file)
    line = quality.nobody_line(reader.confidence()[reader.usable()])
    if quality.warns_of_toy(reader.attributes().get("estimator"), photographs):
        line = f"warning: {file}: {line}; {quality.TOY}; {quality.TOY_ADVICE}"
    print(line)


def _split_of(file: Path, split: str) -> str:
    """The split that a heatmap file is of: as said, or its own name."""
    from pgfl.datasets.manifest import SPLITS

    split = split or file.stem
    if split not in SPLITS:
        raise UserError(f"{file}: whose heatmaps? Say --split {', '.join(SPLITS)}")
    return split
