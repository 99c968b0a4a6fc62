"""Loss functions: pure, each in its own module."""

from pgfl.losses.consistency import consistency_loss
from pgfl.losses.identity import identity_loss
from pgfl.losses.multi_part_contrastive import multi_part_contrastive_loss
from pgfl.losses.triplet import batch_hard_triplet_loss

__all__ = [
    "batch_hard_triplet_loss",
    "consistency_loss",
    "identity_loss",
    "multi_part_contrastive_loss",
]
