"""Multi-part contrastive loss (Eq. 5): channel group k of f_G learns body part k."""

import functools

import torch
from torch import Tensor
from torch.nn import functional

from pgfl.pose.keypoints import PART_MIRROR

POSITIVES: tuple[frozenset[int], ...] = tuple(
    frozenset({part, twin}) for part, twin in enumerate(PART_MIRROR)
)
"""P(i): a part and its mirror image; head and torso are their own."""


def multi_part_contrastive_loss(
    global_feature: Tensor,
    part_feature: Tensor,
    positives: tuple[frozenset[int], ...] = POSITIVES,
    temperature: float = 0.1,
    normalized: bool = True,
) -> Tensor:
    """Eq. 5, summed over parts, the mean over images.

    For part i the teacher group f_{p,i} should resemble the student groups f_{g,j} of P(i) more
    than all others.

    Args:
        global_feature: f_G, (N, c).
        part_feature: f_P, (N, c), the teacher; gets no gradient.
        positives: P(i) for each of the K parts; c must be a multiple of K.
        temperature: divides the similarities.
        normalized: L2-normalise each group; False takes raw dot products, as printed (pass
            temperature 1 with it).

    Returns:
        A float32 scalar.

    Raises:
        ValueError: shapes differ, or the channels cannot be split into K groups.
    """
    count = len(positives)
    if global_feature.shape != part_feature.shape or global_feature.shape[1] % count:
        raise ValueError(
            f"need two (N, c) features, c a multiple of {count}; got "
            f"{tuple(global_feature.shape)} and {tuple(part_feature.shape)}"
        )
    with torch.autocast(global_feature.device.type, enabled=False):
        student = global_feature.float().unflatten(1, (count, -1))
        teacher = part_feature.detach().float().unflatten(1, (count, -1))
        if normalized:
            student = functional.normalize(student, dim=2)
            teacher = functional.normalize(teacher, dim=2)
        scores = torch.einsum("nic,njc->nij", teacher, student) / temperature
        negative = _negatives(positives, scores.device)
        hits = scores.masked_fill(negative, -torch.inf).logsumexp(dim=2)
        return (scores.logsumexp(dim=2) - hits).sum(dim=1).mean()


# Made once: a constant sent in every step has a GPU wait for it.
@functools.cache
@torch.inference_mode(False)
def _negatives(positives: tuple[frozenset[int], ...], device: torch.device) -> Tensor:
    """Bool (K, K): True at (i, j) where j is not in P(i)."""
    parts = range(len(positives))
    return torch.tensor([[j not in group for j in parts] for group in positives], device=device)
