"""PCB: Sun et al., *Beyond Part Models: Person Retrieval with Refined Part Pooling (and a Strong
Convolutional Baseline)*, ECCV 2018. The convolutional baseline, without refined part pooling."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pgfl.losses.identity import identity_loss
from pgfl.methods.settings import MethodSettings
from pgfl.nn.backbone import Normalize
from pgfl.nn.batch import Batch, Outputs
from pgfl.nn.embedding import Embedding
from pgfl.nn.stripes import stripe_means


class Settings(MethodSettings):
    """Section 3.1; the paper's own values."""

    stripes: int = Field(6, ge=1, le=64)
    """p: horizontal stripes of equal height that the feature map is cut into."""
    channels: int = Field(256, ge=1, le=4096)
    """Channels that each stripe's feature g_i is reduced to, h_i."""
    descriptor: Literal["h", "g"] = "h"
    """What is matched with: the reduced features h_i, or g_i, which are as long as the backbone's
    map is deep."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class Stripe(nn.Module):
    """One stripe's reduction: a 1x1 convolution, which is a matrix here, BN and ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.reduce = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, feature: Tensor) -> Tensor:
        """g_i (N, c) to h_i (N, channels)."""
        return functional.relu(self.norm(self.reduce(feature)))


class Student(nn.Module):
    """The whole network less its classifiers: all stripes, one after another, in one vector."""

    def __init__(self, settings: Settings, backbone: nn.Module):
        super().__init__()
        self.settings = settings
        self.normalize = Normalize()
        self.backbone = backbone
        deep = settings.descriptor == "g"
        self.channels = settings.stripes * (backbone.channels if deep else settings.channels)
        self.reductions = nn.ModuleList(
            Stripe(backbone.channels, settings.channels) for _ in range(settings.stripes)
        )

    def feature_map(self, images: Tensor) -> Tensor:
        """T: uint8 (N, H, W, 3) to (N, c, h, w)."""
        return self.backbone(self.normalize(images))

    def stripes(self, feature_map: Tensor) -> Tensor:
        """g_1 ... g_p, the mean of each stripe of T (N, c, h, w): (N, p, c) float32."""
        return stripe_means(feature_map, self.settings.stripes)

    def reduced(self, stripes: Tensor) -> Tensor:
        """g_1 ... g_p (N, p, c) to h_1 ... h_p (N, p, channels) float32."""
        with torch.autocast(stripes.device.type, enabled=False):
            parts = [reduce(stripes[:, i]) for i, reduce in enumerate(self.reductions)]
        return torch.stack(parts, dim=1)

    def described(self, feature_map: Tensor) -> Tensor:
        """The stripes' features that are matched with: (N, p, c) or (N, p, channels)."""
        stripes = self.stripes(feature_map)
        return stripes if self.settings.descriptor == "g" else self.reduced(stripes)

    def forward(self, images: Tensor, after_norm: bool = True) -> Tensor:
        """uint8 (N, H, W, 3) to float32 (N, p * channels): each stripe's feature at length one.

        The cosine of two such vectors is the mean of the stripes' cosines. There is no BNNeck, so
        `after_norm` is not read.
        """
        return self.head(self.feature_map(images), after_norm)

    def head(self, feature_map: Tensor, after_norm: bool = True) -> Tensor:
        """From T (N, c, h, w) on."""
        return functional.normalize(self.described(feature_map), dim=2).flatten(1)


class Network(nn.Module):
    """A student and a classifier for each stripe."""

    def __init__(self, settings: Settings, backbone: nn.Module, identities: int):
        super().__init__()
        self.student = Student(settings, backbone)
        self.classifiers = nn.ModuleDict(
            {name: Classifier(settings.channels, identities) for name in names(settings)}
        )

    def forward(self, batch: Batch) -> Outputs:
        """h_i of every stripe, (N, channels), and its identity logits."""
        stripes = self.student.stripes(self.student.feature_map(batch.images))
        reduced = self.student.reduced(stripes).unbind(dim=1)
        features = dict(zip(self.classifiers, reduced, strict=True))
        logits = {name: self.classifiers[name](feature) for name, feature in features.items()}
        return Outputs(features, logits)

    def embed(
        self,
        images: Tensor,
        heatmaps: Tensor | None = None,
        confidence: Tensor | None = None,
        after_norm: bool = True,
    ) -> Embedding:
        """uint8 (N, H, W, 3) to a vector for each stripe; no pose is read."""
        return Embedding(self.student.described(self.student.feature_map(images)))


class Classifier(nn.Module):
    """Identity logits of one stripe; the stripes share nothing."""

    def __init__(self, channels: int, identities: int):
        super().__init__()
        self.classifier = nn.Linear(channels, identities)
        nn.init.normal_(self.classifier.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, feature: Tensor) -> Tensor:
        """(N, channels) to (N, identities)."""
        return self.classifier(feature)


def names(settings: Settings) -> list[str]:
    """What the stripes are called, from the top."""
    return [f"stripe{i}" for i in range(1, settings.stripes + 1)]


def losses(outputs: Outputs, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """`id_{stripe}`: each stripe's cross-entropy; their sum is the loss (Section 3.1)."""
    return {
        f"id_{name}": identity_loss(logits, batch.labels, settings.label_smoothing)
        for name, logits in outputs.logits.items()
    }


def student(network: Network) -> Student:
    """What is left at test time: no pose was ever needed."""
    return network.student
