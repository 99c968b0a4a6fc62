"""Triplet loss with batch-hard mining (Hermans et al., 2017)."""

import torch
from torch import Tensor


def batch_hard_triplet_loss(features: Tensor, pids: Tensor, margin: float = 0.3) -> Tensor:
    """For each anchor, its farthest positive against its nearest negative in the batch.

    Mean over anchors of max(0, d(anchor, positive) - d(anchor, negative) + margin), with the
    Euclidean distance of the features as they are.

    Args:
        features: (N, c).
        pids: (N,); every identity at least twice, and at least two identities.
        margin: not below zero.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: an anchor has no positive or no negative. On a GPU, where looking would have
            every step wait, the loss is NaN instead.
    """
    with torch.autocast(features.device.type, enabled=False):
        distances = pairwise_distances(features.float())
        same = pids[:, None] == pids[None, :]
        itself = torch.eye(len(pids), dtype=torch.bool, device=pids.device)
        positive, negative = same & ~itself, ~same
        usable = (positive.any(dim=1) & negative.any(dim=1)).all()
        if not usable.is_cuda and not usable:
            raise ValueError("batch-hard mining needs two images of each of two identities")
        hardest_positive = distances.masked_fill(~positive, -torch.inf).amax(dim=1)
        hardest_negative = distances.masked_fill(~negative, torch.inf).amin(dim=1)
        hinge = (hardest_positive - hardest_negative + margin).clamp_min(0)
        return torch.where(usable, hinge.mean(), torch.nan)


def pairwise_distances(features: Tensor) -> Tensor:
    """Euclidean distances (N, N) of the rows of (N, c)."""
    # What all features share cancels out in differences, and would take their digits with it.
    features = features - features.detach().mean(dim=0)
    squares = features.square().sum(dim=1)
    squared = squares[:, None] + squares[None, :] - 2 * features @ features.T
    # Rounding can push a tiny square below zero, and the root's slope at zero is infinite.
    return squared.clamp_min(1e-12).sqrt()
