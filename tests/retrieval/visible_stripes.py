"""A method for tests: stripes of the feature map, seen where the pose's maps lie, no student."""

from torch import Tensor, nn
from torch.nn import functional

from pgfl.losses.identity import identity_loss
from pgfl.methods.settings import MethodSettings
from pgfl.nn.backbone import Normalize
from pgfl.nn.batch import Batch, Outputs
from pgfl.nn.embedding import Embedding

STRIPES = 3


class Settings(MethodSettings):
    """Nothing can be set."""

    @property
    def needs_heatmaps_at_test(self) -> bool:
        return True


class Network(nn.Module):
    """A backbone, the means of its stripes, and one classifier for all of them."""

    def __init__(self, settings: Settings, backbone: nn.Module, identities: int):
        super().__init__()
        self.normalize = Normalize()
        self.backbone = backbone
        self.norm = nn.BatchNorm1d(STRIPES * backbone.channels)
        self.shared = self.norm  # under two names, as a BNNeck's normalisation is
        self.classifier = nn.Linear(STRIPES * backbone.channels, identities)

    def vectors(self, images: Tensor) -> Tensor:
        feature_map = self.backbone(self.normalize(images)).float()
        return functional.adaptive_avg_pool2d(feature_map, (STRIPES, 1))[..., 0].transpose(1, 2)

    def forward(self, batch: Batch) -> Outputs:
        feature = self.norm(self.vectors(batch.images).flatten(1))
        return Outputs({"all": feature}, {"all": self.classifier(feature)})

    def embed(
        self, images: Tensor, heatmaps: Tensor, confidence: Tensor, after_norm: bool = True
    ) -> Embedding:
        vectors = self.vectors(images)
        if after_norm:
            vectors = self.norm(vectors.flatten(1)).view_as(vectors)
        seen = functional.adaptive_avg_pool2d(heatmaps.sum(dim=1, keepdim=True), (STRIPES, 1))
        seen = seen[:, 0, :, 0]
        return Embedding(vectors, seen / seen.sum(dim=1, keepdim=True))


def losses(outputs: Outputs, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """Cross-entropy."""
    return {"id_all": identity_loss(outputs.logits["all"], batch.labels)}
