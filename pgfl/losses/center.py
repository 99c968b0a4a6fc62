"""Center loss (Wen et al., *A Discriminative Feature Learning Approach for Deep Face
Recognition*, ECCV 2016, Eq. 2)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pgfl.nn.batch import Batch, Outputs


def center_loss(features: Tensor, centers: Tensor) -> Tensor:
    """Half the squared distance of each feature to the centre of its identity.

    The mean over the images, where the paper has their sum: batches of all sizes weigh the same.

    Args:
        features: (N, c).
        centers: (N, c), of each image's identity.

    Returns:
        A float32 scalar, not below zero.

    Raises:
        ValueError: the shapes differ.
    """
    if features.shape != centers.shape:
        raise ValueError(f"one centre for each feature: {features.shape} and {centers.shape}")
    with torch.autocast(features.device.type, enabled=False):
        return (features.float() - centers.float()).square().sum(dim=1).mean() / 2


class Extra(nn.Module):
    """The center loss of every feature that has identity logits, their mean.

    The centres are trained by the same optimiser as the network, with its rate and weight decay.
    The paper moves them by an update of their own (Eq. 4).
    """

    def __init__(self, identities: int, channels: dict[str, int]):
        """Random centres.

        Args:
            identities: that are trained on.
            channels: of each of the method's features with identity logits.
        """
        super().__init__()
        self.centers = nn.ModuleDict(
            {name: nn.Embedding(identities, length) for name, length in channels.items()}
        )

    def forward(self, outputs: "Outputs", batch: "Batch") -> Tensor:
        """A float32 scalar."""
        terms = [
            center_loss(outputs.features[name], centers(batch.labels))
            for name, centers in self.centers.items()
        ]
        return torch.stack(terms).mean()
