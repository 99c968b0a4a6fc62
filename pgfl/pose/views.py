"""Two ways to show a person crop to HRNet, and to bring its maps back to the crop's frame.

The maps that come out cover the whole crop: cell i of h lies at (i + 1/2) / h of its height.
"""

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pgfl.datasets.images import resized
from pgfl.pose.estimators import ESTIMATORS
from pgfl.pose.keypoints import KEYPOINT_MIRROR
from pgfl.pose.settings import PoseSettings

STRIDE = 4
"""HRNet's maps are a quarter of its input."""
MIDDLE = (STRIDE - 1) / 2
"""The middle of a cell, in pixels from its first."""


class View(Protocol):
    """One way from a crop to HRNet's input and back."""

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """HRNet's input: uint8 (H, W, 3) of any size to the view's own size, RGB."""

    def averaged(self, straight: Tensor, mirrored: Tensor) -> Tensor:
        """The flip test: the raw maps (N, 17, h, w) of inputs and of their mirror images."""

    def restored(self, maps: Tensor, shapes: np.ndarray) -> Tensor:
        """Raw maps in the crop's frame, given the crops' (height, width), (N, 2)."""


def input_size(settings: PoseSettings) -> tuple[int, int]:
    """(height, width) in pixels of what the estimator sees."""
    crop = (settings.height, settings.width)
    return crop if settings.view == "crop" else ESTIMATORS[settings.estimator].input_size


def make_view(settings: PoseSettings, shift_flipped: bool) -> View:
    """The view that the settings ask for.

    Args:
        settings: of the pose stage.
        shift_flipped: whether the estimator's flip test moves mirrored maps by a cell
            (`shift_heatmap` in MMPose); for `topdown`.
    """
    spec = ESTIMATORS[settings.estimator]
    size = (settings.height, settings.width)
    if settings.view == "crop":
        return CropView(size, spec.centre)
    maps = (size[0] // STRIDE, size[1] // STRIDE)
    return TopdownView(spec.input_size, spec.centre, maps, shift_flipped)


def mirrored_back(maps: Tensor) -> Tensor:
    """The maps of a mirrored image as of the image itself: columns, and left and right."""
    return maps.flip(3)[:, KEYPOINT_MIRROR, :, :]


class CropView:
    """The crop resized to the ReID size; the paper's way, going by its operation counts."""

    def __init__(self, size: tuple[int, int], centre: float):
        self.size, self.centre = size, centre

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The crop at the view's size."""
        return resized(image, *self.size)

    def averaged(self, straight: Tensor, mirrored: Tensor) -> Tensor:
        """Both maps are moved to the middle of their cells first.

        Else the mirrored ones would lie off by twice the distance between `centre` and a cell's
        middle. So the flip test commutes exactly with mirroring the crop.
        """
        step = (MIDDLE - self.centre) / STRIDE
        return (moved(straight, step) + mirrored_back(moved(mirrored, step))) / 2

    def restored(self, maps: Tensor, shapes: np.ndarray) -> Tensor:
        """As they are: input and crop have the same frame."""
        return maps


class TopdownView:
    """MMPose's way: the box grown by a quarter, its aspect kept, warped by MMPose's own code."""

    def __init__(
        self, size: tuple[int, int], centre: float, maps: tuple[int, int], shift_flipped: bool
    ):
        self.size, self.centre, self.maps, self.shift_flipped = size, centre, maps, shift_flipped

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The padded and warped crop; outside of it is black."""
        return self._warp(image, *image.shape[:2])["img"]

    def averaged(self, straight: Tensor, mirrored: Tensor) -> Tensor:
        """MMPose's own average."""
        from mmpose.models.utils.tta import flip_heatmaps

        back = flip_heatmaps(mirrored, KEYPOINT_MIRROR, shift_heatmap=self.shift_flipped)
        return (straight + back) * 0.5

    def restored(self, maps: Tensor, shapes: np.ndarray) -> Tensor:
        """Bilinear samples of the maps at the middle of each of the crop's cells."""
        affine = np.stack([self._to_input(int(height), int(width)) for height, width in shapes])
        rows, columns = self.maps
        # Places (x, y) of the cells' middles in pixels of each crop, counted from 0.
        heights, widths = shapes[:, :1].astype(np.float64), shapes[:, 1:].astype(np.float64)
        x = (np.arange(columns) + 0.5) / columns * widths - 0.5
        y = (np.arange(rows) + 0.5) / rows * heights - 0.5
        # The warp only scales and moves, so each axis goes by itself.
        x = (affine[:, 0, :1] * x + affine[:, 0, 2:] - self.centre) / STRIDE
        y = (affine[:, 1, 1:2] * y + affine[:, 1, 2:] - self.centre) / STRIDE
        h, w = maps.shape[2:]
        x, y = 2 * x / (w - 1) - 1, 2 * y / (h - 1) - 1
        grid = np.empty((len(shapes), rows, columns, 2), dtype=np.float32)
        grid[..., 0], grid[..., 1] = x[:, None, :], y[:, :, None]
        return functional.grid_sample(
            maps.float(),
            torch.from_numpy(grid).to(maps.device),
            padding_mode="border",
            align_corners=True,
        )

    def _to_input(self, height: int, width: int) -> np.ndarray:
        """The warp's matrix (2, 3) from a crop's pixels to the input's."""
        from mmpose.structures.bbox import get_warp_matrix

        # The matrix depends on the box alone, so one pixel stands for the crop.
        found = self._warp(np.zeros((1, 1, 3), dtype=np.uint8), height, width)
        center, scale = found["bbox_center"][0], found["bbox_scale"][0]
        return get_warp_matrix(center, scale, 0.0, output_size=self.size[::-1])

    def _warp(self, image: np.ndarray, height: int, width: int) -> dict[str, Any]:
        from mmpose.datasets.transforms import GetBBoxCenterScale, TopdownAffine

        box = np.array([[0, 0, width, height]], dtype=np.float32)
        found = GetBBoxCenterScale()({"img": image, "bbox": box})
        return TopdownAffine(input_size=self.size[::-1])(found)


def moved(maps: Tensor, step: float) -> Tensor:
    """Linear samples a fraction of a cell right and down: result[y, x] = maps[y + step, x + step].

    Args:
        maps: (N, K, h, w).
        step: in cells, from 0 to 1; beyond the border the last cell is repeated.
    """
    if step == 0:
        return maps
    padded = functional.pad(maps, (0, 1, 0, 1), mode="replicate")
    maps = padded[..., :-1] * (1 - step) + padded[..., 1:] * step
    return maps[:, :, :-1] * (1 - step) + maps[:, :, 1:] * step
