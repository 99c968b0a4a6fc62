"""Perfect heatmaps: drawn from the true joints that synthetic archives bring along.

A control for the study: how good would training be if the pose estimator never erred? Only drawn
images have true joints.
"""

from pathlib import Path

import cv2
import numpy as np
import torch

from pgfl.datasets.images import read_image
from pgfl.datasets.manifest import read_manifest
from pgfl.errors import UserError
from pgfl.pose.heatmaps import confidences, part_maps
from pgfl.pose.settings import PoseSettings
from pgfl.pose.store import HeatmapWriter
from pgfl.pose.views import MIDDLE, STRIDE
from pgfl.runtime.files import file_hash, whole_file

SIGMA = 1.2
"""Standard deviation of a peak in cells, on maps 16 cells wide."""
SIGMA_OF_WIDTH = SIGMA / 16
BLOCK = 256


def make_true_heatmaps(
    manifest: Path, split: str, joints: Path, target: Path, settings: PoseSettings
) -> int:
    """Write a store of the maps that a perfect estimator would give.

    A peak of height one at each joint that is seen, nothing for a hidden one; then merged and
    normalised just as HRNet's maps are.

    Args:
        manifest: of a data set whose images are as drawn.
        split: train, query or gallery.
        joints: the `.joints.npz` beside the synthetic archive.
        target: the HDF5 file.
        settings: size of the maps and how they are merged.

    Returns:
        The number of images.

    Raises:
        UserError: an image has no true joints.
    """
    images = list(read_manifest(manifest, split)["image"])
    places, visible = _joints_of(images, joints)
    rows, columns = settings.height // STRIDE, settings.width // STRIDE
    attributes = {
        "estimator": "true joints",
        "checkpoint_sha256": file_hash(joints),
        "input_size": (settings.height, settings.width),
        "softmax_scale": settings.softmax_scale,
        "combine": settings.combine,
        "order": settings.order,
    }
    cv2.setNumThreads(1)
    with (
        whole_file(target) as temporary,
        HeatmapWriter(temporary, images, (rows, columns), attributes) as writer,
    ):
        for start in range(0, len(images), BLOCK):
            names = images[start : start + BLOCK]
            shapes = np.array([read_image(manifest.parent / name).shape[1::-1] for name in names])
            cells = places[start : start + BLOCK] * ((columns, rows) / shapes)[:, None, :]
            raw = peaks(
                torch.from_numpy(cells).float() - MIDDLE / STRIDE,
                torch.from_numpy(visible[start : start + BLOCK]),
                (rows, columns),
                columns * SIGMA_OF_WIDTH,
            )
            maps = part_maps(raw, settings.softmax_scale, settings.combine, settings.order)
            writer.write(start, maps.numpy(), confidences(raw).numpy())
    return len(images)


def peaks(
    cells: torch.Tensor, visible: torch.Tensor, size: tuple[int, int], sigma: float
) -> torch.Tensor:
    """Gaussian peaks of height one at visible joints, nothing for hidden ones.

    Args:
        cells: (N, 17, 2), x and y in cells; 0 is the middle of the first.
        visible: bool (N, 17).
        size: (h, w) of the maps.
        sigma: standard deviation in cells.

    Returns:
        (N, 17, h, w).
    """
    y = torch.arange(size[0]) - cells[..., 1, None]
    x = torch.arange(size[1]) - cells[..., 0, None]
    squares = y.square()[..., :, None] + x.square()[..., None, :]
    return torch.exp(-squares / (2 * sigma**2)) * visible[..., None, None]


def _joints_of(images: list[str], joints: Path) -> tuple[np.ndarray, np.ndarray]:
    """Places (N, 17, 2) in pixels and visibility (N, 17) of the manifest's images."""
    try:
        with np.load(joints, allow_pickle=False) as stored:
            known, places, visible = (stored[name] for name in ("member", "joints", "visible"))
    except Exception as error:  # zip, zlib and NumPy raise many kinds for a damaged file
        why = " ".join(str(error).split())
        raise UserError(
            f"{joints}: not the joints of a drawn archive, or damaged ({why})"
        ) from None
    members = {Path(str(member)).name: row for row, member in enumerate(known)}
    names = [Path(image).name for image in images]
    if unknown := [name for name in names if name not in members]:
        raise UserError(f"{joints}: no true joints of {unknown[0]} ({len(unknown)} images)")
    rows = [members[name] for name in names]
    return places[rows], visible[rows]
