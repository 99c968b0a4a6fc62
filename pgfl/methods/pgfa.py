"""PGFA: Miao et al., *Pose-Guided Feature Alignment for Occluded Person Re-Identification*,
ICCV 2019. Without the pose it is the "PGFA w/o pose" of the tables.

Where the authors' code and the paper differ, it is their code; docs/methods.md says where.
"""

from typing import Annotated, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pgfl.losses.identity import identity_loss
from pgfl.methods.settings import MethodSettings
from pgfl.nn.backbone import Normalize
from pgfl.nn.batch import Batch, Outputs
from pgfl.nn.embedding import Embedding
from pgfl.nn.part_pooling import pool_parts
from pgfl.nn.stripes import stripe_means

Share = Annotated[float, Field(gt=0, le=1)]


class Settings(MethodSettings):
    """The defaults of the authors' programs, and what stands for their 18 landmarks here."""

    pose: bool = True
    """Without it all stripes count, the global feature is the plain mean, and no map is read."""
    stripes: int = Field(3, ge=1, le=64)
    """p: stripes that the feature map is cut into (3 on Occluded-Duke; the authors took 6 for
    models of Market-1501)."""
    channels: int = Field(256, ge=1, le=4096)
    """Channels that each feature is reduced to before its classifier."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Before and after that reduction, in training."""
    lambda_part: float = Field(0.2, ge=0, lt=1)
    """The weight of the stripes' losses; the pose-guided feature's has one minus it."""
    threshold: float = Field(0.2, ge=0, lt=1)
    """A part is sure where the pose network's confidence in it is above this."""
    min_landmarks: int = Field(3, ge=1, le=8)
    """With fewer sure parts all stripes count as visible. Read at test time only."""
    landmark_share: Share = 0.5
    """Where a sure part's map reaches this share of its peak, there is a landmark. Ours: a map of
    several keypoints has several peaks."""
    sigma: tuple[Share, Share] = (0.064, 0.128)
    """The deviation of the Gaussian about a landmark, as shares of the picture's height and width.
    The authors' h w / 1000 pixels for a crop of Market-1501, which is 128 x 64."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    @property
    def needs_heatmaps(self) -> bool:
        """With the pose: they weight the global feature."""
        return self.pose

    @property
    def needs_heatmaps_at_test(self) -> bool:
        """With the pose: they say which stripes are visible, too."""
        return self.pose

    @property
    def idle_code(self) -> frozenset[str]:
        """What only the pose-guided feature runs."""
        return frozenset() if self.pose else frozenset({"pgfl.nn.part_pooling"})

    def as_trained(self) -> Self:
        """Without the pose, what reads it is set back to its defaults."""
        unread = {"threshold", "min_landmarks", "landmark_share", "sigma"}
        return self if self.pose else type(self).model_validate(self.model_dump(exclude=unread))


class Reduction(nn.Module):
    """Dropout, a linear layer, and batch normalisation, without any non-linearity."""

    def __init__(self, inputs: int, settings: Settings):
        super().__init__()
        self.drop = nn.Dropout(settings.dropout)
        self.reduce = nn.Linear(inputs, settings.channels, bias=False)
        self.norm = nn.BatchNorm1d(settings.channels)
        nn.init.kaiming_normal_(self.reduce.weight, mode="fan_out")
        nn.init.normal_(self.norm.weight, mean=1, std=0.02)

    def forward(self, feature: Tensor) -> Tensor:
        """(N, inputs) to (N, channels) float32."""
        with torch.autocast(feature.device.type, enabled=False):
            return self.norm(self.reduce(self.drop(feature.float())))


class Classifier(nn.Module):
    """Identity logits of one reduced feature."""

    def __init__(self, settings: Settings, identities: int):
        super().__init__()
        self.drop = nn.Dropout(settings.dropout)
        self.classifier = nn.Linear(settings.channels, identities)
        nn.init.normal_(self.classifier.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, feature: Tensor) -> Tensor:
        """(N, channels) to (N, identities)."""
        return self.classifier(self.drop(feature))


class Student(nn.Module):
    """All that matching needs. Without the pose it is one vector per image, by itself."""

    def __init__(self, settings: Settings, backbone: nn.Module):
        super().__init__()
        self.settings = settings
        self.normalize = Normalize()
        self.backbone = backbone
        self.reduction = Reduction(backbone.channels * (1 + settings.pose), settings)
        self.channels = settings.stripes * backbone.channels + settings.channels

    def feature_map(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) to (N, c, h, w)."""
        return self.backbone(self.normalize(images))

    def stripes(self, feature_map: Tensor) -> Tensor:
        """The partial features: (N, c, h, w) to (N, p, c) float32."""
        return stripe_means(feature_map, self.settings.stripes)

    def whole(self, feature_map: Tensor, weights: Tensor | None = None) -> Tensor:
        """The (pose-guided) global feature: (N, c, h, w) to (N, channels) float32.

        Args:
            feature_map: the backbone's.
            weights: (N, K, h, w), see `guidance`; None without the pose.
        """
        feature = feature_map.float().mean(dim=(2, 3))
        if weights is not None:
            guided = pool_parts(feature_map, weights, "mean").amax(dim=1)
            feature = torch.cat([feature, guided], dim=1)
        return self.reduction(feature)

    def forward(self, images: Tensor, after_norm: bool = True) -> Tensor:
        """uint8 (N, H, W, 3) to float32 (N, p * c + channels): each feature at length one.

        The cosine of two such vectors is the mean of the features' cosines. There is no BNNeck, so
        `after_norm` is not read.
        """
        return self.head(self.feature_map(images), after_norm)

    def head(self, feature_map: Tensor, after_norm: bool = True) -> Tensor:
        """From the feature map (N, c, h, w) on."""
        stripes = functional.normalize(self.stripes(feature_map), dim=2)
        whole = functional.normalize(self.whole(feature_map), dim=1)
        return torch.cat([stripes.flatten(1), whole], dim=1)


class Network(nn.Module):
    """What is matched with, and what trains it."""

    def __init__(self, settings: Settings, backbone: nn.Module, identities: int):
        super().__init__()
        self.settings = settings
        self.student = Student(settings, backbone)
        self.reductions = nn.ModuleDict(
            {name: Reduction(backbone.channels, settings) for name in names(settings)}
        )
        self.classifiers = nn.ModuleDict(
            {name: Classifier(settings, identities) for name in ("global", *names(settings))}
        )

    @property
    def backbone(self) -> nn.Module:
        """The student's."""
        return self.student.backbone

    def forward(self, batch: Batch) -> Outputs:
        """The reduced features `global`, `stripe1` ... (N, channels), and their logits."""
        feature_map = self.student.feature_map(batch.images)
        marks = self._landmarks(batch.heatmaps, batch.confidence)
        features = {"global": self.student.whole(feature_map, self._guidance(marks, feature_map))}
        stripes = self.student.stripes(feature_map).unbind(dim=1)
        for (name, reduction), stripe in zip(self.reductions.items(), stripes, strict=True):
            features[name] = reduction(stripe)
        logits = {name: self.classifiers[name](feature) for name, feature in features.items()}
        return Outputs(features, logits)

    def embed(
        self,
        images: Tensor,
        heatmaps: Tensor | None = None,
        confidence: Tensor | None = None,
        after_norm: bool = True,
    ) -> Embedding:
        """The stripes, then the global feature, which is always visible.

        The mean of their distances over what both images show is the paper's distance. All have
        length one, and zeros at their end where they are shorter than others.

        Args:
            images: uint8 (N, H, W, 3).
            heatmaps: (N, 8, H', W'), read with the pose only, as is `confidence` (N, 8).
            confidence: in [0, 1].
            after_norm: not read, since there is no BNNeck.
        """
        feature_map = self.student.feature_map(images)
        marks = self._landmarks(heatmaps, confidence)
        stripes = self.student.stripes(feature_map)
        whole = self.student.whole(feature_map, self._guidance(marks, feature_map))
        vectors = torch.cat(_equally_long(stripes, whole.unsqueeze(1)), dim=1)
        visible = None
        if marks is not None:
            seen = visibility(marks, self.settings.stripes, self.settings.min_landmarks)
            visible = functional.pad(seen, (0, 1), value=1.0)
        return Embedding(functional.normalize(vectors, dim=2), visible)

    def _landmarks(self, heatmaps: Tensor | None, confidence: Tensor | None) -> Tensor | None:
        if not self.settings.pose:
            return None
        assert heatmaps is not None and confidence is not None
        return landmarks(
            heatmaps, confidence, self.settings.threshold, self.settings.landmark_share
        )

    def _guidance(self, marks: Tensor | None, feature_map: Tensor) -> Tensor | None:
        if marks is None:
            return None
        return guidance(marks, tuple(feature_map.shape[2:]), self.settings.sigma)


def _equally_long(*vectors: Tensor) -> list[Tensor]:
    """Vectors (..., c) of several lengths with zeros at the end of the shorter ones."""
    longest = max(some.shape[-1] for some in vectors)
    return [functional.pad(some, (0, longest - some.shape[-1])) for some in vectors]


def landmarks(heatmaps: Tensor, confidence: Tensor, threshold: float, share: float) -> Tensor:
    """Where the sure parts are.

    Args:
        heatmaps: (N, K, H, W), not negative. A map that is the same everywhere says nothing, and
            a sure part with such a map is everywhere.
        confidence: (N, K) in [0, 1].
        threshold: a part is sure where its confidence is above it.
        share: of the map's peak that a landmark reaches.

    Returns:
        bool (N, K, H, W); all False for a part that is not sure.
    """
    high = heatmaps >= share * heatmaps.amax(dim=(2, 3), keepdim=True)
    return high & (confidence > threshold)[:, :, None, None]


def visibility(marks: Tensor, stripes: int, least: int) -> Tensor:
    """Which stripes are visible: those with a landmark in them.

    Args:
        marks: landmarks, bool (N, K, H, W).
        stripes: p.
        least: in an image with fewer sure parts all stripes count as visible.

    Returns:
        float32 (N, p) of zeros and ones.
    """
    height = marks.shape[2]
    centres = (torch.arange(height, device=marks.device) + 0.5) / height
    inside = functional.one_hot((centres * stripes).long(), stripes).bool()
    rows = marks.any(dim=3).any(dim=1)
    seen = (rows[:, :, None] & inside).any(dim=1)
    few = marks.flatten(2).any(dim=2).sum(dim=1) < least
    return (seen | few[:, None]).float()


def guidance(marks: Tensor, size: tuple[int, int], sigma: tuple[float, float]) -> Tensor:
    """The maps that weight the feature map: the highest Gaussian about any landmark of a part.

    Args:
        marks: landmarks, bool (N, K, H, W).
        size: (h, w) of the feature map.
        sigma: the Gaussian's deviation, as shares of height and width.

    Returns:
        float32 (N, K, h, w) in [0, 1]. A part without landmarks has zeros; an image in which no
        part is sure has ones, as where nothing is known.
    """
    down, across = (
        _falloff(cells, marked, deviation, marks.device)
        for cells, marked, deviation in zip(size, marks.shape[2:], sigma, strict=True)
    )
    # A Gaussian is a product, so its maximum is found along one axis after the other.
    rows = (marks.unsqueeze(3) * across).amax(dim=4)  # (N, K, H, w)
    maps = (rows.unsqueeze(2) * down.unsqueeze(2)).amax(dim=3)
    known = marks.flatten(1).any(dim=1)[:, None, None, None]
    return torch.where(known, maps, 1.0)


def _falloff(cells: int, marked: int, deviation: float, device: torch.device) -> Tensor:
    """exp(-d^2 / (2 s^2)) between the centres of two rasters of [0, 1]: (cells, marked)."""
    ours, theirs = ((torch.arange(n, device=device) + 0.5) / n for n in (cells, marked))
    return (-(((ours[:, None] - theirs) / deviation) ** 2) / 2).exp()


def names(settings: Settings) -> list[str]:
    """What the stripes are called, from the top."""
    return [f"stripe{i}" for i in range(1, settings.stripes + 1)]


def losses(outputs: Outputs, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """`id_global`, times 1 - lambda, and `id_{stripe}`, times lambda each."""
    return {
        f"id_{name}": (1 - settings.lambda_part if name == "global" else settings.lambda_part)
        * identity_loss(logits, batch.labels, settings.label_smoothing)
        for name, logits in outputs.logits.items()
    }


def student(network: Network) -> Student:
    """What is left at test time without the pose; with it, only the whole network matches."""
    return network.student
