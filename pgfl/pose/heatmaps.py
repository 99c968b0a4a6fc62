"""From HRNet's 17 raw maps to the paper's 8: merge, then softmax over space (Section 3.1)."""

import torch
from torch import Tensor

from pgfl.pose.keypoints import GROUPS


def merge(heatmaps: Tensor) -> Tensor:
    """Sum the raw maps of each keypoint group.

    Args:
        heatmaps: (N, 17, h, w), COCO order.

    Returns:
        (N, 8, h, w) in the order of `keypoints.PARTS`.

    Raises:
        ValueError: not 17 maps.
    """
    if heatmaps.ndim != 4 or heatmaps.shape[1] != 17:
        raise ValueError(f"expected (N, 17, h, w) heatmaps, got {tuple(heatmaps.shape)}")
    return torch.stack([heatmaps[:, group].sum(dim=1) for group in GROUPS.values()], dim=1)


def spatial_softmax(heatmaps: Tensor, scale: float) -> Tensor:
    """Softmax of each map over its positions, after multiplying it by `scale`.

    A peak of HRNet is near 1 and its background near 0, so without a scale (the paper names
    none; HOReID uses 10) every map would be almost flat. A hidden keypoint's map has no peak
    and stays flat at any scale.

    Args:
        heatmaps: (N, K, h, w).
        scale: positive.

    Returns:
        Same shape, float32; each map sums to one.
    """
    flat = heatmaps.float().flatten(2) * scale
    return flat.softmax(dim=2).view(heatmaps.shape)


def confidences(heatmaps: Tensor) -> Tensor:
    """The peak response of each raw map: (N, 17, h, w) to (N, 17)."""
    return heatmaps.float().amax(dim=(2, 3))
