"""Identity loss: cross-entropy with label smoothing."""

from torch import Tensor
from torch.nn import functional


def identity_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    """Mean cross-entropy against smoothed one-hot labels.

    Args:
        logits: (N, C).
        labels: (N,), whole numbers in [0, C).
        smoothing: the share of probability spread evenly over all C classes.

    Returns:
        A float32 scalar.
    """
    return functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
