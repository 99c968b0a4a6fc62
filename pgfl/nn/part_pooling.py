"""Pooling a feature map with keypoint heatmaps (Eq. 1)."""

import torch
from torch import Tensor
from torch.nn import functional


def resize_heatmaps(heatmaps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps to the feature map's size; each sums to one afterwards.

    Args:
        heatmaps: (N, K, H, W), non-negative.
        size: (h, w); averaging, so that mass is moved and not sampled away.
    """
    maps = functional.adaptive_avg_pool2d(heatmaps.float(), size)
    return maps / maps.sum(dim=(2, 3), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def pool_parts(features: Tensor, heatmaps: Tensor, reduction: str = "sum") -> Tensor:
    """Eq. 1: one feature for each part, f_{l,k} = g(F * H_k).

    Args:
        features: F, (N, c, h, w).
        heatmaps: H, (N, K, h, w), each map summing to one.
        reduction: `sum` makes it the weighted mean; `mean` is g() as printed, smaller by h * w.

    Returns:
        (N, K, c) float32.

    Raises:
        ValueError: features and heatmaps differ in size.
    """
    if features.shape[2:] != heatmaps.shape[2:]:
        raise ValueError(
            f"feature map {tuple(features.shape[2:])} and heatmaps {tuple(heatmaps.shape[2:])} "
            "differ in size"
        )
    with torch.autocast(features.device.type, enabled=False):
        pooled = heatmaps.float().flatten(2) @ features.float().flatten(2).transpose(1, 2)
    return pooled if reduction == "sum" else pooled / features[0, 0].numel()
