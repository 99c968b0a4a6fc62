"""PVPM: Gao et al., *Pose-Guided Visible Part Matching for Occluded Person ReID*, CVPR 2020.

It stands on a PCB, whose layers read the parts that the pose points at. docs/methods.md says where
this is other than the authors' code.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pgfl.losses.identity import identity_loss
from pgfl.losses.part_matching import part_matching_losses
from pgfl.methods.pcb import Classifier, Stripe
from pgfl.methods.settings import MethodSettings
from pgfl.nn.backbone import Normalize
from pgfl.nn.batch import Batch, Outputs
from pgfl.nn.embedding import Embedding
from pgfl.nn.part_pooling import pool_parts
from pgfl.nn.stripes import stripe_means

WIDTH = 32
"""Channels of the pose's network."""


class Settings(MethodSettings):
    """The defaults of the authors' program."""

    parts: int = Field(6, ge=2, le=10)
    """P: stripes of the PCB, and parts that the pose points at. All 2^P ways to match them are
    tried for each pair of images."""
    channels: int = Field(256, ge=1, le=4096)
    """Channels that a part's feature is reduced to before its classifier."""
    rate: float = Field(0.9, gt=0, le=1)
    """Parts correspond where they are more alike than this share of the mean likeness."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    @property
    def needs_heatmaps(self) -> bool:
        """They are what the attention is made of."""
        return True

    @property
    def needs_heatmaps_at_test(self) -> bool:
        """The same at test time, and the visibility too."""
        return True


class Network(nn.Module):
    """A PCB, and the pose's network beside it."""

    def __init__(self, settings: Settings, backbone: nn.Module, identities: int):
        super().__init__()
        self.parts = settings.parts
        self.normalize = Normalize()
        self.backbone = backbone
        self.reductions = nn.ModuleList(
            Stripe(backbone.channels, settings.channels) for _ in range(settings.parts)
        )
        self.classifiers = nn.ModuleList(
            Classifier(settings.channels, identities) for _ in range(settings.parts)
        )
        self.pose = PoseNetwork(settings.parts)

    def forward(self, batch: Batch) -> Outputs:
        """The logits `stripe{i}` of PCB's stripes and `part{i}` of the parts, and what is matched.

        The parts train the pose's network alone: the feature map and PCB's layers, which only the
        stripes train, are constants for them. The authors train one after the other.

        Returns:
            The features `parts` (N, P, c) and `visibility` (N, P), and the logits.
        """
        feature_map = self.backbone(self.normalize(batch.images))
        stripes = stripe_means(feature_map, self.parts)
        parts, visibility = self.described(feature_map.detach(), batch.heatmaps, batch.confidence)
        logits = {}
        for i, (reduction, classifier) in enumerate(self._layers()):
            with torch.autocast(stripes.device.type, enabled=False):
                reduced = reduction(stripes[:, i])
            logits[f"stripe{i + 1}"] = classifier(reduced)
        for i, (reduction, classifier) in enumerate(self._layers()):
            logits[f"part{i + 1}"] = as_constants(reduction, classifier, parts[:, i])
        return Outputs({"parts": parts, "visibility": visibility}, logits)

    def embed(
        self,
        images: Tensor,
        heatmaps: Tensor | None = None,
        confidence: Tensor | None = None,
        after_norm: bool = True,
    ) -> Embedding:
        """The parts' features, before any reduction, at length one, and how visible they are.

        A part that the attention finds nowhere has zeros.

        Args:
            images: uint8 (N, H, W, 3).
            heatmaps: (N, 8, H', W').
            confidence: (N, 8) in [0, 1].
            after_norm: not read, since there is no BNNeck.
        """
        feature_map = self.backbone(self.normalize(images))
        parts, visibility = self.described(feature_map, heatmaps, confidence)
        return Embedding(functional.normalize(parts, dim=2), visibility)

    def distance(self, query: Embedding, gallery: Embedding) -> Tensor:
        """The mean of the parts' squared distances, weighted by both images' visibility.

        By itself, and not by the engine's metric: the cosine of parts that are found nowhere says
        something else.

        Args:
            query: of n images.
            gallery: of m images.

        Returns:
            (n, m) in [0, 4]; 4 where no part has any weight.
        """
        ours, theirs = (some.vectors.transpose(0, 1) for some in (query, gallery))
        lengths = ours.square().sum(dim=2)[:, :, None] + theirs.square().sum(dim=2)[:, None]
        squares = (lengths - 2 * ours @ theirs.transpose(1, 2)).clamp_min(0)
        weights = query.visibility.T[:, :, None] * gallery.visibility.T[:, None]
        total = weights.sum(dim=0)
        return torch.where(total > 0, (weights * squares).sum(dim=0) / total, 4.0)

    def described(
        self, feature_map: Tensor, heatmaps: Tensor | None, confidence: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The parts' features (N, P, c) and visibility (N, P), float32.

        A part's feature is the mean of the feature map (N, c, h, w), weighted by its attention.
        """
        assert heatmaps is not None and confidence is not None
        height, width = feature_map.shape[2:]
        poses = encoded(heatmaps, confidence, (4 * height, 4 * width))
        attention, visibility = self.pose(poses)
        total = attention.mean(dim=(2, 3)) + 1e-6
        return pool_parts(feature_map, attention, "mean") / total.unsqueeze(2), visibility

    def _layers(self) -> zip:
        return zip(self.reductions, self.classifiers, strict=True)


def encoded(heatmaps: Tensor, confidence: Tensor, size: tuple[int, int]) -> Tensor:
    """What the pose's network sees: each map as high as its part is sure.

    Args:
        heatmaps: (N, K, H, W), each summing to one.
        confidence: (N, K) in [0, 1].
        size: (h, w).

    Returns:
        float32 (N, K, h, w) in [0, 1].
    """
    highest = heatmaps.float().amax(dim=(2, 3), keepdim=True)
    maps = heatmaps * (confidence[:, :, None, None] / highest)
    return functional.interpolate(maps, size, mode="bilinear", align_corners=False)


def as_constants(reduction: Stripe, classifier: Classifier, feature: Tensor) -> Tensor:
    """The logits that a stripe's layers, as at test time, give a feature (N, c): (N, identities).

    The feature gets gradients, the layers none.
    """
    norm, linear = reduction.norm, classifier.classifier
    with torch.autocast(feature.device.type, enabled=False):
        reduced = functional.batch_norm(
            functional.linear(feature, reduction.reduce.weight.detach()),
            # Copies: the next forward pass changes both before a gradient may have been taken.
            norm.running_mean.clone(),
            norm.running_var.clone(),
            norm.weight.detach(),
            norm.bias.detach(),
            eps=norm.eps,
        )
        return functional.linear(
            functional.relu(reduced), linear.weight.detach(), linear.bias.detach()
        )


# The pose's network: a small OSNet (Zhou et al., ICCV 2019) --------------------------------------


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _light(channels: int) -> nn.Sequential:
    """A 3x3 convolution in two: across the channels, then in each by itself."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class Gate(nn.Module):
    """Each channel weighted by what all channels hold on average."""

    def __init__(self, channels: int, reduction: int = 4):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.expand = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) to the same."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * self.expand(functional.relu(self.squeeze(mean))).sigmoid()


class OmniScale(nn.Module):
    """Streams of one to four light convolutions, gated alike and added up, and a shortcut."""

    def __init__(self, channels: int, reduction: int = 4):
        super().__init__()
        inner = channels // reduction
        self.narrow = _conv(channels, inner, 1)
        self.streams = nn.ModuleList(
            nn.Sequential(*(_light(inner) for _ in range(depth))) for depth in range(1, 5)
        )
        self.gate = Gate(inner)
        self.widen = _conv(inner, channels, 1)[:2]

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) to the same."""
        narrow = self.narrow(x)
        scales = sum(self.gate(stream(narrow)) for stream in self.streams)
        return functional.relu(self.widen(scales) + x)


class PoseNetwork(nn.Module):
    """From the pose to where each part is, and to how visible it is. It sees no image."""

    def __init__(self, parts: int, inputs: int = 8):
        super().__init__()
        self.trunk = nn.Sequential(
            _conv(inputs, WIDTH, 7),
            nn.MaxPool2d(3, stride=2, padding=1),
            OmniScale(WIDTH),
            _conv(WIDTH, WIDTH, 1),
            nn.AvgPool2d(2),
            OmniScale(WIDTH),
            _conv(WIDTH, WIDTH, 3),
        )
        self.attention = nn.Sequential(
            nn.Conv2d(WIDTH, parts, 1, bias=False), nn.BatchNorm2d(parts), nn.Sigmoid()
        )
        self.visibility = nn.Sequential(
            nn.Linear(WIDTH, parts, bias=False), nn.BatchNorm1d(parts), nn.Sigmoid()
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)

    def forward(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """The parts' attention and visibility, both float32.

        Args:
            poses: (N, inputs, 4 h, 4 w), see `encoded`.

        Returns:
            The attention (N, P, h, w) in [0, 1], at each place that of one part only, the highest;
            the visibility (N, P) in [0, 1].
        """
        with torch.autocast(poses.device.type, enabled=False):
            seen = self.trunk(poses.float())
            attention = self.attention(seen)
            highest = functional.one_hot(attention.argmax(dim=1), attention.shape[1])
            attention = attention * highest.permute(0, 3, 1, 2)
            return attention, self.visibility(seen.mean(dim=(2, 3)))


def losses(outputs: Outputs, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """`id_stripe{i}` and `id_part{i}`, `matching` and `visibility`; their sum is the loss."""
    terms = {
        f"id_{name}": identity_loss(logits, batch.labels, settings.label_smoothing)
        for name, logits in outputs.logits.items()
    }
    parts, visibility = outputs.features["parts"], outputs.features["visibility"]
    matching, verification = part_matching_losses(parts, visibility, batch.labels, settings.rate)
    return terms | {"matching": matching, "visibility": verification}
