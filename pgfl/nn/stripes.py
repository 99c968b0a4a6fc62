"""Horizontal stripes of a feature map (Sun et al., ECCV 2018)."""

import torch
from torch import Tensor
from torch.nn import functional


def stripe_means(feature_map: Tensor, stripes: int) -> Tensor:
    """The mean of each stripe, from the top.

    As adaptive average pooling: where the height is no multiple of the stripes, neighbours share a
    row. A product of matrices, since on a GPU that pooling's gradient is not deterministic.

    Args:
        feature_map: (N, c, h, w).
        stripes: p, of equal height.

    Returns:
        (N, p, c) float32.
    """
    with torch.autocast(feature_map.device.type, enabled=False):
        rows = feature_map.float().mean(dim=3)
        one_each = torch.eye(rows.shape[2], dtype=rows.dtype, device=rows.device)
        return (rows @ functional.adaptive_avg_pool1d(one_each, stripes)).transpose(1, 2)
