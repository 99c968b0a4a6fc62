"""BNNeck (Luo et al., CVPRW 2019): batch normalisation between embedding and classifier."""

from torch import Tensor, nn


class BNNeck(nn.Module):
    """Batch normalisation without a learnt shift, then a linear identity classifier.

    The triplet loss sees the feature before the normalisation, the identity loss the logits.
    """

    def __init__(self, channels: int, identities: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.norm.bias.requires_grad_(False)
        self.classifier = nn.Linear(channels, identities, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, feature: Tensor) -> Tensor:
        """(N, channels) to logits (N, identities)."""
        return self.classifier(self.norm(feature))
