"""From HRNet's 17 raw maps to the paper's 8: merge, and softmax over space (Section 3.1)."""

import torch
from torch import Tensor

from pgfl.pose.keypoints import GROUPS


def part_maps(
    heatmaps: Tensor, scale: float, combine: str = "sum", order: str = "merge_first"
) -> Tensor:
    """The eight normalised maps of each image.

    Args:
        heatmaps: raw, (N, 17, h, w), COCO order.
        scale: positive; see `spatial_softmax`.
        combine: `sum` or `max` within a group.
        order: `merge_first` takes the softmax of the merged maps, as HOReID does;
            `softmax_first` merges the softmaxes of the 17 maps and normalises again, so that a
            hidden keypoint of a group adds an even floor to a seen one instead of nothing.

    Returns:
        (N, 8, h, w) float32 in the order of `keypoints.PARTS`; each map sums to one.

    Raises:
        ValueError: not 17 maps, or an unknown way.
    """
    if order == "merge_first":
        return spatial_softmax(merge(heatmaps, combine), scale)
    if order != "softmax_first":
        raise ValueError(f"no order {order!r}; known: merge_first, softmax_first")
    merged = merge(spatial_softmax(heatmaps, scale), combine)
    return merged / merged.sum(dim=(2, 3), keepdim=True)


def merge(heatmaps: Tensor, combine: str = "sum") -> Tensor:
    """One map for each keypoint group.

    Args:
        heatmaps: (N, 17, h, w), COCO order.
        combine: `sum` or `max` of the group's maps at each position.

    Returns:
        (N, 8, h, w) in the order of `keypoints.PARTS`.

    Raises:
        ValueError: not 17 maps, or an unknown way.
    """
    if heatmaps.ndim != 4 or heatmaps.shape[1] != 17:
        raise ValueError(f"expected (N, 17, h, w) heatmaps, got {tuple(heatmaps.shape)}")
    if combine not in ("sum", "max"):
        raise ValueError(f"no way {combine!r} to combine maps; known: sum, max")
    groups = [heatmaps[:, group] for group in GROUPS.values()]
    together = torch.sum if combine == "sum" else torch.amax
    return torch.stack([together(group, dim=1) for group in groups], dim=1)


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
