"""The two losses that most ReID methods train their features with."""

from torch import Tensor

from pgfl.losses.identity import identity_loss
from pgfl.losses.triplet import batch_hard_triplet_loss


def reid_terms(
    name: str,
    feature: Tensor,
    logits: Tensor,
    labels: Tensor,
    *,
    margin: float,
    smoothing: float,
    weight: float = 1.0,
) -> dict[str, Tensor]:
    """`id_{name}` and `triplet_{name}`, each times `weight`.

    Args:
        name: of the feature.
        feature: (N, c).
        logits: (N, identities).
        labels: (N,).
        margin: of the batch-hard triplet loss.
        smoothing: of the identity loss's labels.
        weight: of both.
    """
    return {
        f"id_{name}": weight * identity_loss(logits, labels, smoothing),
        f"triplet_{name}": weight * batch_hard_triplet_loss(feature, labels, margin),
    }
