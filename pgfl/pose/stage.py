"""The pose stage: one split of a manifest through HRNet into the heatmap cache.

Images are computed in blocks, each kept in a file of its own as soon as it is done. An
interrupted run goes on after the last whole block, several machines can share a split, and the
store is put together from the blocks at the end, the same whoever computed them and when.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pgfl.datasets.manifest import read_manifest
from pgfl.devices import pick_device
from pgfl.errors import UserError
from pgfl.files import file_hash, text_hash, whole_file
from pgfl.images import image_batches
from pgfl.pose.blocks import Block, BlockFolder
from pgfl.pose.heatmaps import confidences, merge, spatial_softmax
from pgfl.pose.hrnet import load_estimator
from pgfl.pose.settings import PoseSettings
from pgfl.pose.store import HeatmapWriter, encode
from pgfl.provenance import code_hash

STRIDE = 4
"""HRNet's maps are a quarter of its input."""
BATCHES_A_BLOCK = 8

Shard = tuple[int, int]
"""Which part of how many, counted from one."""


def make_heatmaps(
    manifest: Path,
    split: str,
    weights: Path,
    target: Path,
    settings: PoseSettings,
    state: Path,
    shard: Shard = (1, 1),
) -> int:
    """Compute and store the merged maps of every image of a split.

    Args:
        manifest: images lie below its folder.
        split: train, query or gallery.
        weights: the estimator's checkpoint.
        target: the HDF5 file, which appears whole or not at all.
        settings: estimator, input size, softmax scale.
        state: the folder of finished blocks; it survives a failure, and is emptied at the end.
        shard: computes only this part of the blocks and writes no store. When all parts are
            done, a call without shards puts the store together.

    Returns:
        The number of images computed by this call.

    Raises:
        UserError: the manifest, an image or the checkpoint cannot be used.
    """
    images = list(read_manifest(manifest, split)["image"])
    attributes = {
        "estimator": settings.estimator,
        "checkpoint_sha256": file_hash(weights),
        "input_size": (settings.height, settings.width),
        "softmax_scale": settings.softmax_scale,
    }
    # Blocks of other settings, code or images are another run's: they are never mixed.
    identity = [split, file_hash(manifest), settings.model_dump(), code_hash("pgfl.pose.stage")]
    key = text_hash(json.dumps([identity, attributes]))[:16]
    folder = BlockFolder(state / key, len(images), settings.batch_size * BATCHES_A_BLOCK)
    part, parts = shard
    mine = folder.starts[part - 1 :: parts]
    todo = [start for start in mine if folder.read(start) is None]
    if len(todo) < len(mine):
        print(f"{len(mine) - len(todo)} of {len(mine)} blocks are there already")
    if todo:
        _compute(manifest.parent, images, weights, settings, folder, todo)
    if parts == 1:
        _assemble(target, images, settings, attributes, folder)
        shutil.rmtree(state)
    return sum(len(images[start : start + folder.size]) for start in todo)


@torch.inference_mode()
def _compute(
    root: Path,
    images: Sequence[str],
    weights: Path,
    settings: PoseSettings,
    folder: BlockFolder,
    todo: Sequence[int],
) -> None:
    """Run HRNet over the images of some blocks."""
    device = pick_device()
    model = load_estimator(settings.estimator, weights).to(device)
    names = [name for start in todo for name in images[start : start + folder.size]]
    size = (settings.height, settings.width)
    batches = image_batches(root, names, size, settings.batch_size, "heatmaps")
    finished: list[Block] = []
    starts = iter(todo)
    start = next(starts)
    for _, batch in batches:
        raw = model(torch.from_numpy(batch).to(device))
        maps = spatial_softmax(merge(raw), settings.softmax_scale)
        finished.append((*encode(maps.cpu().numpy()), confidences(raw).cpu().numpy()))
        if sum(len(codes) for codes, _, _ in finished) == min(folder.size, len(images) - start):
            codes, affine, confidence = (np.concatenate(a) for a in zip(*finished, strict=True))
            folder.write(start, (codes, affine, confidence))
            finished, start = [], next(starts, start)


def _assemble(
    target: Path,
    images: Sequence[str],
    settings: PoseSettings,
    attributes: dict[str, Any],
    folder: BlockFolder,
) -> None:
    """Put the store together from the blocks."""
    size = (settings.height // STRIDE, settings.width // STRIDE)
    with (
        whole_file(target) as temporary,
        HeatmapWriter(temporary, images, size, attributes) as writer,
    ):
        for start, block in _blocks(folder):
            writer.write_encoded(start, *block)


def _blocks(folder: BlockFolder) -> Iterator[tuple[int, Block]]:
    for start in folder.starts:
        block = folder.read(start)
        if block is None:
            raise UserError(f"{folder.file(start)} is damaged: run the same command again")
        yield start, block
