"""The pose stage: one split of a manifest through HRNet into the heatmap cache.

Images are computed in blocks, each kept in a file of its own as soon as it is done. An
interrupted run goes on after the last whole block, several machines can share a split, and the
store is put together from the blocks at the end, the same whenever they were computed, and by
whichever machine of one kind (`precision: auto` is fp16 on a GPU, fp32 on a CPU).
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pgfl.datasets.images import loaded_batches, read_image
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.pose.blocks import Block, BlockFolder
from pgfl.pose.estimators import architecture_code
from pgfl.pose.heatmaps import confidences, part_maps
from pgfl.pose.hrnet import PoseNetwork, estimate, load_estimator
from pgfl.pose.origin import KEPT, is_external
from pgfl.pose.settings import EXTERNAL, PoseSettings
from pgfl.pose.store import HeatmapWriter, encode
from pgfl.pose.views import STRIDE, View, input_size, make_view
from pgfl.runtime.devices import pick_device
from pgfl.runtime.files import file_hash, text_hash, whole_file
from pgfl.runtime.locks import locked
from pgfl.runtime.messages import few
from pgfl.runtime.provenance import code_hash

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
        settings: what the estimator sees and how its maps are merged.
        state: the folder of finished blocks; it survives a failure, and is emptied at the end.
        shard: computes only this part of the blocks and writes no store. When all parts are
            done, a call without shards puts the store together.

    Returns:
        The number of images computed by this call.

    Raises:
        UserError: the manifest, an image or the checkpoint cannot be used, a map is not finite,
            another estimator's file lies at `target`, or another process makes the same.
    """
    if settings.estimator == EXTERNAL:
        raise UserError("setting pose.estimator: external makes no heatmaps; it takes yours")
    if is_external(target):
        raise UserError(f"{target}: nothing was made: {KEPT}")
    images = list(read_manifest(manifest, split)["image"])
    attributes = _attributes(settings, weights)
    # Blocks of other settings, code or images are another run's: they are never mixed.
    code = code_hash("pgfl.pose.stage", *architecture_code(settings.estimator))
    identity = [split, file_hash(manifest), settings.model_dump(), code]
    key = text_hash(json.dumps([identity, attributes]))[:16]
    folder = BlockFolder(state / key, len(images), settings.batch_size * BATCHES_A_BLOCK)
    with _held(state, shard):
        part, parts = shard
        mine = folder.starts[part - 1 :: parts]
        todo = [start for start in mine if folder.read(start) is None]
        if len(todo) < len(mine):
            print(f"{len(mine) - len(todo)} of {len(mine)} blocks are there already")
        if todo:
            _compute(manifest.parent, images, weights, settings, folder, todo)
        if parts == 1 and is_external(target):  # put there while this was at work
            print(f"note: {target} was not overwritten: {KEPT}")
        elif parts == 1:
            _assemble(target, images, settings, attributes, folder)
            shutil.rmtree(state)
    return sum(len(images[start : start + folder.size]) for start in todo)


@contextmanager
def _held(state: Path, shard: Shard) -> Iterator[None]:
    """The blocks for this process alone, or one part of them beside who computes the others."""
    part, parts = shard
    if parts == 1:
        with locked(state):
            yield
        return
    with locked(state, shared=True), locked(state.with_name(f"{state.name}.{part}-of-{parts}")):
        yield


def _attributes(settings: PoseSettings, weights: Path) -> dict[str, Any]:
    """What the store says about how it was made."""
    names = ("estimator", "view", "flip_test", "combine", "order", "softmax_scale", "precision")
    return {name: getattr(settings, name) for name in names} | {
        "checkpoint_sha256": file_hash(weights),
        "input_size": input_size(settings),
    }


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
    network = load_estimator(settings.estimator, weights).to(device)
    view = make_view(settings, network.shift_flipped)
    names = [name for start in todo for name in images[start : start + folder.size]]
    load = partial(_load, root, view, settings.unusable)
    finished: list[Block] = []
    starts = iter(todo)
    start = next(starts)
    for place, crops in loaded_batches(names, load, settings.batch_size, "heatmaps"):
        block, finite = _block(network, view, crops, settings, device)
        _stop_if_not_finite(names[place : place + len(crops)], finite, weights, settings)
        finished.append(block)
        if sum(len(block.codes) for block in finished) == min(folder.size, len(images) - start):
            folder.write(start, Block(*map(np.concatenate, zip(*finished, strict=True))))
            finished, start = [], next(starts, start)


class _Crop(NamedTuple):
    """A photograph ready for the network."""

    pixels: np.ndarray
    shape: tuple[int, int]
    usable: bool


def _load(root: Path, view: View, unusable: str, name: str) -> _Crop:
    """Read and prepare a photograph; one that cannot be used becomes a grey one, or stops all."""
    try:
        image = read_image(root / name)
        height, width = image.shape[:2]
        if min(height, width) < 2:
            raise UserError(f"{root / name}: {width}x{height} pixels hold no person")
        return _Crop(view.prepare(image), (height, width), True)
    except UserError as error:
        if unusable == "stop":
            hint = "setting pose.unusable: flat goes on with flat maps for such images"
            raise UserError(f"{error}; {hint}") from None
        print(f"note: {error}; its maps are flat", flush=True)
        grey = np.full((2, 2, 3), 128, dtype=np.uint8)
        return _Crop(view.prepare(grey), grey.shape[:2], False)


@torch.inference_mode()
def _block(
    network: PoseNetwork,
    view: View,
    crops: Sequence[_Crop],
    settings: PoseSettings,
    device: torch.device,
) -> tuple[Block, np.ndarray]:
    """What is stored of a batch, and whether each image's maps are finite: bool (n,)."""
    inputs = torch.from_numpy(np.stack([crop.pixels for crop in crops]))
    if device.type == "cuda":
        inputs = inputs.pin_memory().to(device, non_blocking=True)
    shapes = np.array([crop.shape for crop in crops])
    raw = estimate(
        network,
        view,
        inputs,
        shapes,
        flip_test=settings.flip_test,
        precision=settings.precision,
    )
    usable = np.array([crop.usable for crop in crops])
    # An even response makes an even map: it says that no part was seen anywhere.
    raw[torch.from_numpy(~usable).to(device)] = 0
    maps = part_maps(raw, settings.softmax_scale, settings.combine, settings.order)
    finite = raw.isfinite().flatten(1).all(dim=1) & maps.isfinite().flatten(1).all(dim=1)
    with np.errstate(invalid="ignore"):  # what is not finite stops the stage
        codes, affine = encode(maps.cpu().numpy())
    return Block(codes, affine, confidences(raw).cpu().numpy(), usable), finite.cpu().numpy()


def _stop_if_not_finite(
    names: Sequence[str], finite: np.ndarray, weights: Path, settings: PoseSettings
) -> None:
    """Raise UserError naming the images of a batch whose maps hold NaN or infinity."""
    if finite.all():
        return
    broken = [name for name, good in zip(names, finite, strict=True) if not good]
    half = settings.precision != "fp32"
    hint = " If it is, set pose.precision: fp32, in case half precision overflows." if half else ""
    raise UserError(
        f"{weights}: {settings.estimator} gives NaN or infinite maps with these weights, for "
        f"{', '.join(few(broken))}; nothing is stored of them. Check that the file is whole and "
        f"made for this estimator.{hint}"
    )


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
            writer.write_block(start, block)


def _blocks(folder: BlockFolder) -> Iterator[tuple[int, Block]]:
    for start in folder.starts:
        block = folder.read(start)
        if block is None:
            raise UserError(f"{folder.file(start)} is damaged: run the same command again")
        yield start, block
