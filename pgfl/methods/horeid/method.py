"""HOReID: Wang et al., *High-Order Information Matters: Learning Relation and Topology for
Occluded Person Re-Identification*, CVPR 2020. Names in the comments are the paper's; where the
authors' program differs from it, the program is followed (docs/methods.md)."""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pgfl.losses.triplet import batch_hard_triplet_loss
from pgfl.methods.horeid.relation import Relation
from pgfl.methods.horeid.topology import Topology, Verification, hardest_pairs
from pgfl.methods.settings import MethodSettings
from pgfl.nn.backbone import Normalize
from pgfl.nn.batch import Batch, Outputs
from pgfl.nn.bnneck import BNNeck
from pgfl.nn.embedding import Embedding
from pgfl.nn.part_pooling import pool_parts, resize_heatmaps
from pgfl.pose.keypoints import PARTS

LINKED = (
    ("head", "torso"),
    ("left_lower_arm", "torso"),
    ("right_lower_arm", "torso"),
    ("left_knee", "torso"),
    ("right_knee", "torso"),
    ("left_knee", "left_ankle"),
    ("right_knee", "right_ankle"),
)
"""The parts that grow together; the authors have 13 keypoints with 16 links."""

LINKS = tuple((PARTS.index(first), PARTS.index(second)) for first, second in LINKED)
NODES = (*PARTS, "global")
STAGES = ("semantic", "relation")
"""What has identity and triplet losses: V^S and V^R."""


class Settings(MethodSettings):
    """Defaults as the authors' program has them, `gamma` as the paper has it."""

    triplet_margin: float = Field(0.3, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    direction_scale: float = Field(20.0, gt=0)
    """How sharply two parts' gap decides in which direction they pass messages."""
    matching_channels: int = Field(1024, ge=1, le=8192)
    """Channels of the nodes while two graphs are matched."""
    verification_scale: float = Field(10.0, gt=0)
    """The factor of the products of nodes before the verification's linear map."""
    lambda_permutation: float = Field(1.0, ge=0)
    """Weight of the loss that matches a node with its like in the hardest positive."""
    lambda_verification: float = Field(0.1, ge=0)
    """Weight of the verification loss."""
    gamma: float = Field(0.5, ge=0, le=1)
    """Share of the cosine similarity s^R; s^T, the verification's probability, has the rest."""
    verified: int = Field(8, ge=0, le=100_000)
    """n: how many nearest images of each query, by s^R, the verification puts in a new order; 0
    ranks by s^R alone."""

    @property
    def needs_heatmaps(self) -> bool:
        """The parts are pooled with them."""
        return True

    @property
    def needs_heatmaps_at_test(self) -> bool:
        """There is no pose-free student."""
        return True


class Network(nn.Module):
    """The backbone, the modules S, R and T, and a BNNeck for each node of V^S and of V^R."""

    def __init__(self, settings: Settings, backbone: nn.Module, identities: int):
        super().__init__()
        self.settings = settings
        self.normalize = Normalize()
        self.backbone = backbone
        channels: int = backbone.channels
        self.necks = nn.ModuleDict(
            {
                stage: nn.ModuleDict({name: BNNeck(channels, identities) for name in NODES})
                for stage in STAGES
            }
        )
        self.relation = Relation(channels, len(PARTS), LINKS, settings.direction_scale)
        self.topology = Topology(channels, settings.matching_channels)
        self.verification = Verification(channels, len(NODES), settings.verification_scale)

    def feature_map(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) to (N, c, h, w)."""
        return self.backbone(self.normalize(images))

    def normed(self, stage: str, nodes: Tensor) -> Tensor:
        """V (N, K + 1, c) after the BNNecks' normalisation, the same shape."""
        necks = self.necks[stage].values()
        return torch.stack([neck.norm(nodes[:, i]) for i, neck in enumerate(necks)], dim=1)

    def forward(self, batch: Batch) -> Outputs:
        """V^S and V^R of the whole image, all nodes' logits, and how the hardest pairs match.

        The pairs are mined among the images that this device has been given. No gradient of
        theirs reaches V^R or what is before it.

        Returns:
            The features `semantic` and `relation`, (N, c); `matched` (N, K + 1, K + 1), U of each
            image and its hardest positive; `verified` (N, 2), the logits of s^T with the hardest
            positive and the hardest negative; `mined` (N, 2), 1 where there is one. The logits
            `{stage}_{node}`.
        """
        feature_map = self.feature_map(batch.images)
        with torch.autocast(feature_map.device.type, enabled=False):
            semantic = semantic_nodes(feature_map, batch.heatmaps)
            nodes = {"semantic": semantic, "relation": self.relation(semantic)}
            normed = {stage: self.normed(stage, nodes[stage]) for stage in STAGES}
            logits = {
                f"{stage}_{name}": neck.classifier(normed[stage][:, i])
                for stage in STAGES
                for i, (name, neck) in enumerate(self.necks[stage].items())
            }
            graphs = normed["relation"].detach()
            *others, mined = hardest_pairs(graphs[:, -1], batch.labels)
            encoded = self.topology.encode(graphs)
            matches, verified = [], []
            for rows in others:
                matched, first, second = self.topology(encoded, encoded.rows(rows))
                matches.append(matched)
                verified.append(self.verification(first, second))
        features = {stage: nodes[stage][:, -1] for stage in STAGES}
        features |= {"matched": matches[0], "verified": torch.stack(verified, dim=1)}
        return Outputs(features | {"mined": mined}, logits)

    def embed(
        self,
        images: Tensor,
        heatmaps: Tensor | None = None,
        confidence: Tensor | None = None,
        after_norm: bool = True,
    ) -> Embedding:
        """V^R: uint8 (N, H, W, 3) to (N, K + 1, c) float32.

        Args:
            images: RGB crops of the training size.
            heatmaps: (N, K, h, w).
            confidence: (N, K); with a 1 for the whole image it is the visibility.
            after_norm: after the BNNecks' normalisation, as the authors match, or before it.
        """
        assert heatmaps is not None and confidence is not None
        feature_map = self.feature_map(images)
        with torch.autocast(feature_map.device.type, enabled=False):
            nodes = self.relation(semantic_nodes(feature_map, heatmaps))
            vectors = self.normed("relation", nodes) if after_norm else nodes
        whole = torch.ones_like(confidence[:, :1])
        return Embedding(vectors, torch.cat([confidence, whole], dim=1))

    @property
    def compared_again(self) -> int:
        """How many nearest images of a query `second_distance` puts in a new order."""
        return self.settings.verified

    def distance(self, query: Embedding, gallery: Embedding) -> Tensor:
        """1 - s^R of n and m images, (n, m) in [0, 2]."""
        return 1 - weighted_cosines(query, gallery)

    def second_distance(self, query: Embedding, gallery: Embedding) -> Tensor:
        """1 - gamma s^R - (1 - gamma) s^T of one image and m others, (1, m) in [0, 2]."""
        one, others = (self.topology.encode(some.vectors) for some in (query, gallery))
        _, *pair = self.topology(one, others)
        same = self.verification(*pair).sigmoid()
        gamma = self.settings.gamma
        return 1 - gamma * weighted_cosines(query, gallery) - (1 - gamma) * same


def semantic_nodes(feature_map: Tensor, heatmaps: Tensor) -> Tensor:
    """V^S: what each part's map sees of the feature map, and the whole image's mean and maximum.

    Args:
        feature_map: (N, c, h, w).
        heatmaps: (N, K, H, W).

    Returns:
        (N, K + 1, c) float32; the whole image is the last node.
    """
    parts = pool_parts(feature_map, resize_heatmaps(heatmaps, feature_map.shape[2:]))
    places = feature_map.float().flatten(2)
    whole = places.mean(dim=2) + places.amax(dim=2)
    return torch.cat([parts, whole[:, None]], dim=1)


def node_weights(confidence: Tensor) -> Tensor:
    """beta: confidence (N, K) to weights (N, K + 1). The parts share 1, the whole image has 1."""
    parts = functional.normalize(confidence, p=1, dim=1)
    return torch.cat([parts, torch.ones_like(parts[:, :1])], dim=1)


def weighted_cosines(query: Embedding, gallery: Embedding) -> Tensor:
    """s^R: cosines of all nodes in one vector, each times the root of its weight. (n, m)."""
    # Node by node: a weighted copy of all vectors would take longer than the products.
    products = query.vectors.transpose(0, 1) @ gallery.vectors.permute(1, 2, 0)
    ours, theirs = (node_weights(some.visibility[:, :-1]).sqrt() for some in (query, gallery))
    lengths = [
        (root * some.vectors.norm(dim=2)).norm(dim=1).clamp_min(1e-12)
        for root, some in ((ours, query), (theirs, gallery))
    ]
    total = (ours.T[:, :, None] * theirs.T[:, None] * products).sum(dim=0)
    return total / lengths[0][:, None] / lengths[1]


def losses(outputs: Outputs, batch: Batch, settings: Settings) -> dict[str, Tensor]:
    """`id_{stage}` and `triplet_{stage}` of V^S and V^R, `permutation` and `verification`.

    Each node's cross-entropy counts as much as the pose network is sure of it. The triplet loss
    is the whole image's alone.
    """
    features, logits = outputs
    weights = node_weights(batch.confidence)
    terms = {}
    for stage in STAGES:
        scores = [logits[f"{stage}_{name}"] for name in NODES]
        terms[f"id_{stage}"] = weighted_identity_loss(
            torch.stack(scores, dim=1), batch.labels, weights, settings.label_smoothing
        )
        terms[f"triplet_{stage}"] = batch_hard_triplet_loss(
            features[stage], batch.labels, settings.triplet_margin
        )
    mined = features["mined"]
    terms["permutation"] = settings.lambda_permutation * permutation_loss(
        features["matched"], mined[:, 0]
    )
    terms["verification"] = settings.lambda_verification * verification_loss(
        features["verified"], mined
    )
    return terms


def weighted_identity_loss(
    logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float
) -> Tensor:
    """Cross-entropy of logits (N, K, C), times weights (N, K): sum over K, mean over N."""
    # In rows: on a GPU the loss of (N, C, K) has no deterministic form.
    each = functional.cross_entropy(
        logits.float().flatten(0, 1),
        labels.repeat_interleave(logits.shape[1]),
        label_smoothing=smoothing,
        reduction="none",
    )
    return (weights * each.view_as(weights)).sum(dim=1).mean()


def permutation_loss(matched: Tensor, mined: Tensor) -> Tensor:
    """Binary cross-entropy of U (N, K, K) against the identity, for each node of a person.

    Args:
        matched: in [0, 1] but for rounding.
        mined: (N,), 1 for the rows that count and 0 for the others.
    """
    with torch.autocast(matched.device.type, enabled=False):
        found = matched.float().clamp(0, 1)
        wanted = torch.eye(matched.shape[1], device=matched.device).expand_as(found)
        each = functional.binary_cross_entropy(found, wanted, reduction="none")
        return _mean(each.sum(dim=(1, 2)) / matched.shape[1], mined)


def verification_loss(verified: Tensor, mined: Tensor) -> Tensor:
    """Binary cross-entropy of the positives' logits, and of the negatives', added.

    Args:
        verified: (N, 2), of a pair of one person and of a pair of two.
        mined: (N, 2), 1 for the pairs that count and 0 for the others.
    """
    logits = verified.float()
    positive, negative = functional.softplus(-logits[:, 0]), functional.softplus(logits[:, 1])
    return _mean(positive, mined[:, 0]) + _mean(negative, mined[:, 1])


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    return (counted * values).sum() / counted.sum().clamp_min(1)
