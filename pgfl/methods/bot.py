"""BoT, the strong baseline: Luo et al., *Bag of Tricks and a Strong Baseline for Deep Person
Re-Identification*, CVPRW 2019. The paper's Model 1, and the student of PGFL-KD."""

from pydantic import Field
from torch import Tensor, nn

from pgfl.methods.settings import MethodSettings
from pgfl.nn.backbone import Normalize
from pgfl.nn.batch import Batch, Outputs
from pgfl.nn.bnneck import BNNeck
from pgfl.nn.embedding import Embedding
from pgfl.nn.reid_losses import reid_terms


class Settings(MethodSettings):
    """Identity loss and triplet loss on one feature."""

    triplet_margin: float = Field(0.3, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)


class Student(nn.Module):
    """Backbone, global average pooling, the BNNeck's normalisation: one vector per image."""

    def __init__(self, settings: MethodSettings, backbone: nn.Module):
        super().__init__()
        self.normalize = Normalize()
        self.backbone = backbone
        self.channels: int = backbone.channels
        self.norm = nn.BatchNorm1d(self.channels)
        self.norm.bias.requires_grad_(False)

    def feature_map(self, images: Tensor) -> Tensor:
        """F: uint8 (N, H, W, 3) to (N, c, h, w)."""
        return self.backbone(self.normalize(images))

    def forward(self, images: Tensor, after_norm: bool = True) -> Tensor:
        """f_G, the matching feature: uint8 (N, H, W, 3) to float32 (N, c).

        Args:
            images: RGB crops of the training size.
            after_norm: after the BNNeck's normalisation, as BoT matches, or before it.
        """
        return self.head(self.feature_map(images), after_norm)

    def head(self, feature_map: Tensor, after_norm: bool = True) -> Tensor:
        """From F (N, c, h, w) on."""
        feature = feature_map.float().mean(dim=(2, 3))
        return self.norm(feature) if after_norm else feature


class Network(nn.Module):
    """A student and the classifier that trains it."""

    def __init__(self, settings: Settings, backbone: nn.Module, identities: int):
        super().__init__()
        self.student = Student(settings, backbone)
        self.necks = nn.ModuleDict({"global": BNNeck(self.student.channels, identities)})
        # The BNNeck shares its normalisation with the student, which keeps it.
        self.necks["global"].norm = self.student.norm

    def forward(self, batch: Batch) -> Outputs:
        """The feature `global` (N, c), float32, and its identity logits."""
        feature = self.student(batch.images, after_norm=False)
        return Outputs({"global": feature}, {"global": self.necks["global"](feature)})

    def embed(
        self,
        images: Tensor,
        heatmaps: Tensor | None = None,
        confidence: Tensor | None = None,
        after_norm: bool = True,
    ) -> Embedding:
        """uint8 (N, H, W, 3) to one vector per image; no pose is read."""
        return Embedding(self.student(images, after_norm))


def losses(outputs: Outputs, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """`id_global` and `triplet_global`."""
    return reid_terms(
        "global",
        outputs.features["global"],
        outputs.logits["global"],
        batch.labels,
        margin=settings.triplet_margin,
        smoothing=settings.label_smoothing,
    )


def student(network: Network) -> Student:
    """What is left at test time."""
    return network.student
