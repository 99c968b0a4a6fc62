"""The pose stage: one split of a manifest through HRNet into the heatmap cache."""

from pathlib import Path

import torch

from pgfl.datasets.manifest import read_manifest
from pgfl.devices import pick_device
from pgfl.files import file_hash, whole_file
from pgfl.images import image_batches
from pgfl.pose.heatmaps import confidences, merge, spatial_softmax
from pgfl.pose.hrnet import load_estimator
from pgfl.pose.settings import PoseSettings
from pgfl.pose.store import HeatmapWriter

STRIDE = 4
"""HRNet's maps are a quarter of its input."""


def make_heatmaps(
    manifest: Path, split: str, weights: Path, target: Path, settings: PoseSettings
) -> int:
    """Compute and store the merged maps of every image of a split.

    Args:
        manifest: images lie below its folder.
        split: train, query or gallery.
        weights: the estimator's checkpoint.
        target: the HDF5 file, which appears whole or not at all.
        settings: estimator, input size, softmax scale.

    Returns:
        The number of images.

    Raises:
        UserError: the manifest, an image or the checkpoint cannot be used.
    """
    images = list(read_manifest(manifest, split)["image"])
    device = pick_device()
    model = load_estimator(settings.estimator, weights).to(device)
    attributes = {
        "estimator": settings.estimator,
        "checkpoint_sha256": file_hash(weights),
        "input_size": (settings.height, settings.width),
        "softmax_scale": settings.softmax_scale,
    }
    size = (settings.height // STRIDE, settings.width // STRIDE)
    with (
        whole_file(target) as temporary,
        HeatmapWriter(temporary, images, size, attributes) as writer,
        torch.inference_mode(),
    ):
        crop = (settings.height, settings.width)
        batches = image_batches(manifest.parent, images, crop, settings.batch_size, "heatmaps")
        for start, batch in batches:
            raw = model(torch.from_numpy(batch).to(device))
            maps = spatial_softmax(merge(raw), settings.softmax_scale)
            writer.write(start, maps.cpu().numpy(), confidences(raw).cpu().numpy())
    return len(images)
